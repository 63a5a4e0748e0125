//! A file system on a simulated disk, as programs use it.

extern crate std;

mod directories;
mod files;
mod sessions;
mod simulation;
mod whatever;

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
use driver_protocol::files::{MountFlags, Request};
use linux_raw_sys::general as linux;
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
        let made = self
            .run(async move { persistently(&executor, || disks.mount(number, &EXT4, MountFlags::empty())).await })
            .unwrap();
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
