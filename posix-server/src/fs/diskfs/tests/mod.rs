//! A file system on a simulated disk, as programs use it.

extern crate std;

mod simulation;

use super::{Disk, DiskSource, Disks, EXT4, Volume};
use crate::budget::{self, Kind as Budget};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::file::io::{SliceDestination, SliceSource};
use crate::fs::body::{FIRST_ENTRY, Listing};
use crate::fs::boot::persistently;
use crate::fs::change::{self, New, Rename};
use crate::fs::diskfs::disks::device_number;
use crate::fs::diskfs::server::FileServer;
use crate::fs::open::{self, How, Opened, Opener};
use crate::fs::walk::{Actor, LastLink, Parent, Walk};
use crate::fs::{FsContext, Location, Namespace};
use crate::platform::{self, Account, Executor, LocalFuture, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::files::Request;
use linux_raw_sys::general as linux;
use proptest::prelude::*;
use simulation::{Mishap, ROOT, SimulatedServer};
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec;

const NAME: &[u8] = b"vda2";

struct OneDisk(Rc<SimulatedServer>);

impl DiskSource for OneDisk {
    fn open(&self, _name: &[u8], _is_read_only: bool) -> LocalFuture<Result<Rc<dyn FileServer>>> {
        let server: Rc<dyn FileServer> = Rc::new(self.0.clone());
        Box::pin(async move { Ok(server) })
    }
}

/// A machine whose root is the disk.
struct World {
    executor: Executor,
    server: Rc<SimulatedServer>,
    disks: Rc<Disks>,
    context: Option<FsContext>,
    credentials: Credentials,
}

impl World {
    fn new() -> Self {
        let (executor, server) = (Executor::new(), SimulatedServer::new());
        let number = device_number(NAME).unwrap();
        let list = Vec::from([Disk { name: Box::from(NAME), number, sectors: 1 << 20, is_partition: true }]);
        let disks = Disks::new(&executor, Box::new(OneDisk(server.clone())), list, Account);
        let mut world = Self { executor, server, disks, context: None, credentials: Credentials::root() };
        world.mount();
        world
    }

    fn mount(&mut self) {
        let (executor, disks) = (self.executor.clone(), self.disks.clone());
        let number = device_number(NAME).unwrap();
        let made =
            self.run(async move { persistently(&executor, || disks.mount(number, &EXT4, false)).await }).unwrap();
        let namespace = Namespace::new(&made.0, made.1);
        self.context = Some(FsContext::new(&namespace));
    }

    fn unmount(&mut self) {
        let volume = self.volume();
        self.context = None;
        self.run(async move { volume.closed().ended().await }).unwrap();
    }

    fn volume(&self) -> Rc<Volume> {
        self.disks.volumes().pop().unwrap()
    }

    fn step(&self) {
        self.executor.run_ready(platform::now_ns());
        self.server.page();
        self.executor.run_ready(platform::now_ns());
    }

    /// Runs everything for so long.
    fn pass(&self, ns: u64) {
        const STEPS: u64 = 50;
        for _ in 0..STEPS {
            self.step();
            platform::advance_ns(ns / STEPS);
        }
        self.step();
    }

    /// Runs everything until something has ended.
    fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        self.executor.spawn(async move {
            let ended = future.await;
            place.replace(Some(ended));
        });
        for _ in 0..100_000 {
            self.step();
            if let Some(result) = result.take() {
                return result;
            }
            platform::advance_ns(1_000_000);
        }
        panic!("it does not end");
    }

    /// Makes a call, again and again as long as something is missing that can be brought.
    fn call<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        for _ in 0..1000 {
            drop(platform::take_needs());
            let result = call();
            let Some(absence) = platform::take_needs().absence.filter(|_| result.is_err()) else { return result };
            let executor = self.executor.clone();
            self.run(async move { executor.bring(absence).await })?;
        }
        panic!("something is missing again and again");
    }

    fn context(&self) -> &FsContext {
        self.context.as_ref().unwrap()
    }

    fn actor(&self) -> Actor<'_> {
        Actor { context: self.context(), credentials: &self.credentials }
    }

    fn parent(&self, path: &str) -> Result<Parent> {
        Walk::new(self.actor()).parent(&self.context().cwd, path.as_bytes())
    }

    fn place(&self, path: &str) -> Result<Location> {
        self.call(|| Walk::new(self.actor()).place(&self.context().cwd, path.as_bytes(), LastLink::Keep))
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        self.call(|| change::create(self.actor(), &self.parent(path)?, 0o755, New::Directory).map(drop))
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let new = || New::Link(target.as_bytes().to_vec());
        self.call(|| change::create(self.actor(), &self.parent(path)?, 0o777, new()).map(drop))
    }

    fn open(&self, path: &str, flags: u32) -> Result<Rc<OpenFile>> {
        self.call(|| {
            let devices = self.context().namespace.devices();
            let opener = Opener { actor: self.actor(), devices, terminal: &|| None };
            match open::open(opener, &self.context().cwd, path.as_bytes(), How::lenient(flags, 0o644))? {
                Opened::File(file) | Opened::Waiting(file, _) => Ok(file),
            }
        })
    }

    fn create(&self, path: &str) -> Result<Rc<OpenFile>> {
        self.open(path, linux::O_CREAT | linux::O_RDWR)
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        let old = self.place(old)?;
        self.call(|| change::link(self.actor(), &old, &self.parent(new)?))
    }

    fn unlink(&self, path: &str) -> Result<()> {
        self.call(|| change::unlink(self.actor(), &self.parent(path)?))
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        self.call(|| change::remove_directory(self.actor(), &self.parent(path)?))
    }

    fn rename(&self, old: &str, new: &str, how: Rename) -> Result<()> {
        self.call(|| change::rename(self.actor(), &self.parent(old)?, &self.parent(new)?, how))
    }

    fn write(&self, file: &OpenFile, position: u64, byte: u8, length: usize) -> Result<usize> {
        let bytes = std::vec![byte; length];
        self.call(|| file.ops().write(position, &mut SliceSource::new(&bytes)))
    }

    fn read(&self, file: &OpenFile, position: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = std::vec![0; length];
        let count = self.call(|| file.ops().read(position, &mut SliceDestination::new(&mut bytes)))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn sync(&self) -> Result<()> {
        let volume = self.volume();
        self.run(async move { volume.synchronize().await })
    }

    fn fsync(&self, file: &Rc<OpenFile>) -> Result<()> {
        let file = file.clone();
        self.run(async move { crate::calls::sync_for_tests(&file).await })
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        let place = self.place(path)?;
        self.call(|| {
            let mut names = Vec::new();
            place.inode().directory()?.load(&place.dentry)?;
            place.inode().directory()?.list(FIRST_ENTRY, &mut |entry| {
                names.push(String::from_utf8_lossy(entry.name).to_string());
                Listing::Continue
            })?;
            names.sort();
            Ok(names)
        })
    }

    /// All paths, with what `stat` shows of them.
    fn tree(&self) -> BTreeMap<String, Shown> {
        let mut found = BTreeMap::new();
        let mut open = Vec::from([String::new()]);
        while let Some(path) = open.pop() {
            let place = self.place(if path.is_empty() { "/" } else { &path }).unwrap();
            let inode = place.inode();
            if inode.is_directory() {
                open.extend(
                    self.list(if path.is_empty() { "/" } else { &path })
                        .unwrap()
                        .into_iter()
                        .map(|name| format!("{path}/{name}")),
                );
            }
            found.insert(path, Shown::of(inode));
        }
        found
    }

    /// The same of what the server has durable.
    fn durable_tree(&self) -> BTreeMap<String, Shown> {
        let model = self.server.durable.borrow();
        let shown = |number: u64| {
            let a = model.node(number).attributes;
            let size = if a.mode & linux::S_IFMT == linux::S_IFDIR { 0 } else { a.size };
            Shown { number, mode: a.mode, uid: a.uid, links: a.links, size, times: [a.modified, a.changed] }
        };
        model.tree().into_iter().map(|(path, number)| (path, shown(number))).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Shown {
    number: u64,
    mode: u32,
    uid: u32,
    links: u32,
    size: u64,
    times: [i64; 2],
}

impl Shown {
    fn of(inode: &crate::fs::Inode) -> Self {
        let times = inode.times();
        Self {
            number: inode.number(),
            mode: inode.mode(),
            uid: inode.uid(),
            links: inode.links(),
            size: if inode.is_directory() { 0 } else { inode.size() },
            times: [times.modified, times.changed],
        }
    }
}

#[test]
fn what_was_made_is_there_after_it_was_mounted_again() {
    let mut world = World::new();
    world.mkdir("d").unwrap();
    world.symlink("d/file", "link").unwrap();
    let file = world.create("d/file").unwrap();
    assert_eq!(world.write(&file, 0, 7, 10_000), Ok(10_000));
    drop(file);
    world.link("d/file", "other").unwrap();
    let before = world.tree();
    world.unmount();
    assert_eq!(world.durable_tree(), before);
    world.mount();
    assert_eq!(world.tree(), before);
    let file = world.open("link", linux::O_RDONLY).unwrap();
    assert_eq!(world.read(&file, 9_999, 100), Ok(Vec::from([7])));
    assert_eq!(world.read(&world.open("other", linux::O_RDONLY).unwrap(), 0, 3), Ok(Vec::from([7; 3])));
    assert_eq!(world.place("other").unwrap().inode().links(), 2);
}

#[test]
fn a_directory_is_loaded_once_and_names_wake_when_they_are_looked_up() {
    let mut world = World::new();
    (0..10).for_each(|number| drop(world.create(&format!("f{number}")).unwrap()));
    world.unmount();
    world.mount();
    world.server.heard.borrow_mut().clear();
    assert_eq!(world.list("/").unwrap().len(), 10);
    assert!(world.place("f3").is_ok() && world.place("f10").is_err());
    assert_eq!(world.list("/").unwrap().len(), 10);
    let heard = world.server.heard.take();
    assert_eq!(heard.iter().filter(|request| matches!(request, Request::List { .. })).count(), 4);
    assert_eq!(world.volume().inodes.borrow().len(), 2);
}

#[test]
fn operations_are_sent_after_a_while_and_at_once_for_fsync() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.step();
    assert!(world.server.model.borrow().node(ROOT).names.is_empty());
    world.pass(1_000_000_000);
    assert_eq!(world.server.model.borrow().node(ROOT).names.len(), 1);
    assert!(world.server.durable.borrow().node(ROOT).names.is_empty());
    world.write(&file, 5000, 3, 10).unwrap();
    world.fsync(&file).unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.server.data.borrow().get(&(file.inode().number(), 1)), Some(&0));
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 9, 5000).unwrap();
    world.unlink("f").unwrap();
    world.sync().unwrap();
    let number = file.inode().number();
    assert_eq!(world.server.durable.borrow().node(number).attributes.links, 0);
    assert_eq!(world.read(&file, 4999, 9), Ok(Vec::from([9])));
    drop(file);
    world.pass(10_000_000_000);
    world.sync().unwrap();
    assert!(!world.server.durable.borrow().nodes.contains_key(&number));
}

#[test]
fn a_file_without_a_name_can_get_one() {
    let world = World::new();
    let file = world.open("/", linux::__O_TMPFILE | linux::O_DIRECTORY | linux::O_RDWR).unwrap();
    world.write(&file, 0, 1, 1).unwrap();
    let place = file.location().unwrap().clone();
    world.call(|| change::link(world.actor(), &place, &world.parent("named")?)).unwrap();
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.place("named").unwrap().inode().links(), 1);
}

#[test]
fn what_was_cut_off_stays_cut_off() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 5, 5 * PAGE_SIZE as usize).unwrap();
    world.fsync(&file).unwrap();
    let content = || file.inode().content().unwrap();
    world.call(|| content().set_size(PAGE_SIZE)).unwrap();
    world.call(|| content().set_size(3 * PAGE_SIZE)).unwrap();
    world.write(&file, 2 * PAGE_SIZE, 6, 1).unwrap();
    world.fsync(&file).unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.read(&file, PAGE_SIZE, 2), Ok(Vec::from([0, 0])));
    assert_eq!(world.read(&file, 2 * PAGE_SIZE, 2), Ok(Vec::from([6, 0])));
}

#[test]
fn a_server_that_dies_has_a_successor_that_hears_what_was_not_durable() {
    for mishap in [Mishap::DiesBefore, Mishap::DiesAfter] {
        for after in 0..4 {
            let world = World::new();
            world.server.mishap.set(Some((after, mishap)));
            let files: Vec<_> = (0..5).map(|number| world.create(&format!("f{number}")).unwrap()).collect();
            for file in &files {
                world.write(file, 0, 4, 5000).unwrap();
                world.fsync(file).unwrap();
            }
            world.unlink("f0").unwrap();
            world.rename("f1", "g", Rename::Replace).unwrap();
            world.sync().unwrap();
            assert_eq!(world.durable_tree(), world.tree(), "{mishap:?} after {after}");
            world.server.die();
            assert_eq!(world.read(&files[2], 4999, 10), Ok(Vec::from([4])));
            world.write(&files[2], 5000, 8, 5000).unwrap();
            world.fsync(&files[2]).unwrap();
            assert_eq!(world.server.data.borrow().get(&(files[2].inode().number(), 2)), Some(&8));
        }
    }
}

#[test]
fn failed_writebacks_are_told_once_per_open_file() {
    let world = World::new();
    let (one, other) = (world.create("f").unwrap(), world.create("f").unwrap());
    world.write(&one, 0, 4, 5000).unwrap();
    world.server.fails_writebacks.set(true);
    assert_eq!(world.fsync(&one), Err(Errno::EIO));
    world.server.fails_writebacks.set(false);
    assert_eq!(world.fsync(&one), Ok(()));
    assert_eq!((world.fsync(&other), world.fsync(&other)), (Err(Errno::EIO), Ok(())));
}

#[test]
fn what_does_not_fit_is_refused_and_what_was_promised_fits() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.sync().unwrap();
    world.server.free_blocks.set(40);
    world.pass(10_000_000_000);
    world.mkdir("d").unwrap();
    world.sync().unwrap();
    let mut written = 0;
    let end = loop {
        match world.write(&file, written * PAGE_SIZE, 1, PAGE_SIZE as usize) {
            Ok(_) => written += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(end, Errno::ENOSPC);
    assert!((20..=40).contains(&written), "{written}");
    world.server.free_blocks.set(1000);
    world.pass(10_000_000_000);
    assert_eq!(world.write(&file, 0, 1, 1), Ok(1));
}

#[test]
fn there_are_no_more_inodes_than_there_are() {
    let world = World::new();
    world.server.free_inodes.set(70);
    let made = (0..200).take_while(|number| world.create(&format!("f{number}")).is_ok()).count();
    assert_eq!(made, 70);
    assert_eq!(world.create("g").err(), Some(Errno::ENOSPC));
}

#[test]
fn directories_that_nobody_uses_are_forgotten_when_room_is_needed() {
    let mut world = World::new();
    for directory in 0..20 {
        world.mkdir(&format!("d{directory}")).unwrap();
        (0..50).for_each(|file| drop(world.create(&format!("d{directory}/f{file}")).unwrap()));
    }
    world.unmount();
    world.mount();
    let held = world.open("d7/f7", linux::O_RDONLY).unwrap();
    let before = world.tree();
    let used = budget::used_bytes(Budget::Cached);
    let filler = crate::budget::Charge::new_for(0, Budget::Cached, budget::limit_bytes(Budget::Cached) - used).unwrap();
    world.volume().cache.shrink();
    assert!(budget::used_bytes(Budget::Cached) - filler.bytes() < used / 4);
    drop(filler);
    assert!(Rc::ptr_eq(world.place("d7/f7").unwrap().inode(), held.inode()));
    assert_eq!(world.tree(), before);
}

#[test]
fn attributes_of_a_file_with_two_names_are_the_same_by_both() {
    let mut world = World::new();
    world.mkdir("a").unwrap();
    world.mkdir("b").unwrap();
    drop(world.create("a/f").unwrap());
    world.link("a/f", "b/f").unwrap();
    world.unmount();
    world.mount();
    world.list("b").unwrap();
    let place = world.place("a/f").unwrap();
    place.inode().set_permissions(0o400);
    assert!(Rc::ptr_eq(world.place("b/f").unwrap().inode(), place.inode()));
    drop(place);
    world.unmount();
    world.mount();
    assert_eq!(world.place("b/f").unwrap().inode().mode() & 0o777, 0o400);
}

#[test]
fn extended_attributes_are_loaded_when_somebody_asks() {
    let mut world = World::new();
    drop(world.create("f").unwrap());
    let set = |world: &World, name: &[u8], value: &[u8]| {
        let inode = world.place("f").unwrap().inode().clone();
        let attributes = world.call(|| inode.loaded_attributes().map(drop));
        attributes.and_then(|()| {
            let volume = world.volume();
            volume.check_attribute(inode.attributes(), name, value)?;
            inode.attributes().set(name, value, crate::fs::attributes::Before::Any)?;
            let operation =
                driver_protocol::files::operation::Operation::SetXattr { inode: inode.number(), name, value, time: 1 };
            volume.record(&operation, &[inode.number()]);
            Ok(())
        })
    };
    set(&world, b"user.a", b"one").unwrap();
    world.unmount();
    world.mount();
    let inode = world.place("f").unwrap().inode().clone();
    let value = world.call(|| inode.loaded_attributes()?.get(b"user.a", <[u8]>::to_vec));
    assert_eq!(value, Ok(b"one".to_vec()));
    assert_eq!(set(&world, b"user.b", &[0; 3900]), Ok(()));
    assert_eq!(set(&world, b"user.c", &[0; 200]), Err(Errno::ENOSPC));
}

#[test]
fn a_file_that_takes_anothers_place_is_written_back_first() {
    let world = World::new();
    drop(world.create("old").unwrap());
    world.sync().unwrap();
    let file = world.create("new").unwrap();
    world.write(&file, 0, 3, 100).unwrap();
    world.rename("new", "old", Rename::Replace).unwrap();
    // Operations go on after the barrier, also if what follows is about the same file.
    world.write(&file, 5000, 3, 100).unwrap();
    world.pass(3_000_000_000);
    assert_eq!(world.server.data.borrow().get(&(file.inode().number(), 0)), Some(&3));
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
}

#[test]
fn much_that_is_done_waits_for_what_was_done_before() {
    let world = World::new();
    for number in 0..20_000 {
        drop(world.create("f").unwrap());
        world.rename("f", if number % 2 == 0 { "g" } else { "h" }, Rename::Replace).unwrap();
    }
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
}

#[derive(Clone, Debug)]
enum Action {
    Make(u8),
    MakeDirectory(u8),
    Symlink(u8),
    Link(u8, u8),
    Unlink(u8),
    RemoveDirectory(u8),
    Rename(u8, u8),
    Exchange(u8, u8),
    Write(u8, u16, u16),
    Truncate(u8, u16),
    Permissions(u8, u16),
    Sync,
    Pass,
    Die,
    LoseAnswer(u8),
    MountAgain,
}

fn action() -> impl Strategy<Value = Action> {
    let path = 0_u8..30;
    prop_oneof![
        4 => path.clone().prop_map(Action::Make),
        3 => path.clone().prop_map(Action::MakeDirectory),
        1 => path.clone().prop_map(Action::Symlink),
        2 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Link(old, new)),
        2 => path.clone().prop_map(Action::Unlink),
        1 => path.clone().prop_map(Action::RemoveDirectory),
        4 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Rename(old, new)),
        1 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Exchange(old, new)),
        4 => (path.clone(), 0..40_000_u16, 1..9000_u16).prop_map(|(path, at, length)| Action::Write(path, at, length)),
        2 => (path.clone(), 0..40_000_u16).prop_map(|(path, size)| Action::Truncate(path, size)),
        1 => (path, 0..0o1000_u16).prop_map(|(path, mode)| Action::Permissions(path, mode)),
        1 => Just(Action::Sync),
        1 => Just(Action::Pass),
        1 => Just(Action::Die),
        1 => (0..4_u8).prop_map(Action::LoseAnswer),
        1 => Just(Action::MountAgain),
    ]
}

/// A path of few: names in the root, and in what may be directories there.
fn path(number: u8) -> String {
    let name = |number: u8| char::from(b'a' + number % 5);
    if number < 5 { format!("/{}", name(number)) } else { format!("/{}/{}", name(number / 5), name(number)) }
}

fn act(world: &mut World, action: &Action, stamp: &Cell<u8>) {
    // What is refused is refused in memory: nobody hears of it.
    let _ = match action {
        Action::Make(one) => world.create(&path(*one)).map(drop),
        Action::MakeDirectory(one) => world.mkdir(&path(*one)),
        Action::Symlink(one) => world.symlink("x", &path(*one)),
        Action::Link(old, new) => world.link(&path(*old), &path(*new)),
        Action::Unlink(one) => world.unlink(&path(*one)),
        Action::RemoveDirectory(one) => world.rmdir(&path(*one)),
        Action::Rename(old, new) => world.rename(&path(*old), &path(*new), Rename::Replace),
        Action::Exchange(old, new) => world.rename(&path(*old), &path(*new), Rename::Exchange),
        Action::Write(one, at, length) => world.open(&path(*one), linux::O_RDWR).and_then(|file| {
            stamp.set(stamp.get().wrapping_add(1));
            world.write(&file, u64::from(*at), stamp.get(), usize::from(*length)).map(drop)
        }),
        Action::Truncate(one, size) => world.open(&path(*one), linux::O_RDWR).and_then(|file| {
            world.call(|| file.inode().content().ok_or(Errno::EINVAL)?.set_size(u64::from(*size)))?;
            file.inode().touch_modified();
            Ok(())
        }),
        Action::Permissions(one, mode) => {
            world.place(&path(*one)).map(|place| place.inode().set_permissions(u32::from(*mode) | 0o700))
        }
        Action::Sync => world.sync(),
        Action::Pass => {
            world.pass(2_000_000_000);
            Ok(())
        }
        Action::Die => {
            world.server.die();
            Ok(())
        }
        Action::LoseAnswer(after) => {
            world.server.mishap.set(Some((u32::from(*after), Mishap::DiesAfter)));
            Ok(())
        }
        Action::MountAgain => {
            world.unmount();
            world.mount();
            Ok(())
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_disk_follows_whatever_is_done_and_whoever_dies(actions in proptest::collection::vec(action(), 1..60)) {
        let mut world = World::new();
        let stamp = Cell::new(0);
        for action in &actions {
            platform::advance_ns(1000);
            act(&mut world, action, &stamp);
        }
        world.sync().unwrap();
        prop_assert!(!world.volume().has_failed());
        prop_assert_eq!(world.durable_tree(), world.tree());
        let before = world.tree();
        world.unmount();
        prop_assert_eq!(world.durable_tree(), before.clone());
        let nodes = world.server.durable.borrow().nodes.len();
        let numbers: std::collections::BTreeSet<u64> = before.values().map(|shown| shown.number).collect();
        prop_assert_eq!(nodes, numbers.len(), "inodes without names are forgotten");
    }
}
