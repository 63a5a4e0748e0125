//! The server over a real file system on a simulated disk, and a client that keeps a model of what it did.

mod mounts;

use super::*;
use crate::platform::PAGE_BYTES;
use crate::simulation::{Simulated, SimulatedNotes, SimulatedPages};
use driver_protocol::files::entry::entries;
use driver_protocol::files::operation::{Operation, Set, Values};
use driver_protocol::files::{FIRST_COOKIE, LAST_COOKIE, NewKind, Volume as Description, notes};
use std::process::Command;
use std::string::{String, ToString};
use std::vec;
use std::{format, fs};

const LAYOUT: Layout = Layout { metadata_pages: 16, contents: Sizes { read_pages: 32, write_pages: 32 } };
const SLOTS: u64 = 16;

/// An image that mke2fs made, with these arguments.
fn image(arguments: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let output = Command::new("mke2fs").arg("-qF").args(arguments).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(file.path()).unwrap()
}

/// What e2fsck has to say about an image, if anything.
fn complaints(image: &[u8]) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    let output = Command::new("e2fsck").arg("-fn").arg(file.path()).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).to_string())
}

#[derive(Clone, Default)]
struct Asked {
    send: Vec<u8>,
    room: usize,
    received: Rc<RefCell<Vec<u8>>>,
    answer: Rc<Cell<Option<(u64, Words)>>>,
}

impl Call for Asked {
    fn read(&self, most: usize) -> Result<Vec<u8>, Refused> {
        if self.send.len() > most { Err(Refused::BadBuffer) } else { Ok(self.send.clone()) }
    }

    fn room(&self) -> usize {
        self.room
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Refused> {
        self.received.replace(bytes.to_vec());
        Ok(())
    }

    fn answer(self, label: u64, words: Words) {
        self.answer.set(Some((label, words)));
    }
}

/// A client, and the server that it talks to.
struct World {
    machine: Rc<Simulated>,
    service: Rc<Service<Simulated>>,
    notes: SimulatedNotes,
    sequence: u64,
    /// Operations that are not known to be durable, with their numbers.
    log: Vec<(u64, Vec<u8>)>,
    files: Vec<ClientFile>,
    volume: Description,
}

struct ClientFile {
    inode: u64,
    name: String,
    slot: u64,
    pages: SimulatedPages,
    /// A number for each page.
    model: Vec<u64>,
}

type Answered = Result<(Words, Vec<u8>), Refused>;

impl World {
    fn new(image: Vec<u8>, seed: u64) -> Self {
        let machine = Simulated::new(image, LAYOUT.pages(), seed);
        let service = Service::new(machine.clone(), LAYOUT);
        let (notes, volume) = (SimulatedNotes::new(SLOTS), Description::default());
        let mut world = Self { machine, service, notes, sequence: 0, log: Vec::new(), files: Vec::new(), volume };
        world.mount().unwrap();
        world
    }

    fn begin(&self, request: Request, send: Vec<u8>, enclosed: Enclosed<Simulated>) -> Asked {
        let asked = Asked { send, room: MAX_BUFFER_BYTES, ..Asked::default() };
        self.service.begin(request, enclosed, asked.clone());
        asked
    }

    fn call_with(&self, request: Request, send: Vec<u8>, enclosed: Enclosed<Simulated>) -> Answered {
        let asked = self.begin(request, send, enclosed);
        for _ in 0..20_000 {
            self.machine.pass(1_000_000);
            if let Some((label, words)) = asked.answer.take() {
                return Refused::check(label).map(|()| (words, asked.received.take()));
            }
        }
        panic!("{request:?} is never answered");
    }

    fn call(&self, request: Request) -> Answered {
        self.call_with(request, Vec::new(), Enclosed::Nothing)
    }

    fn mount(&mut self) -> Result<(), Refused> {
        let request = Request::Mount { flags: MountFlags::empty(), commit_seconds: 1 };
        let (_, bytes) = self.call_with(request, Vec::new(), Enclosed::Notes(self.notes.clone()))?;
        self.volume = Description::decode(&bytes).unwrap();
        Ok(())
    }

    fn note(&mut self, operation: &Operation<'_>) -> u64 {
        self.sequence += 1;
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        self.log.push((self.sequence, bytes));
        self.sequence
    }

    fn begin_send(&self) -> Option<Asked> {
        let (first, _) = self.log.first()?;
        let bytes = self.log.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let request = Request::Apply { first: *first, count: self.log.len() as u64 };
        Some(self.begin(request, bytes, Enclosed::Nothing))
    }

    /// Sends what was noted.
    fn send(&mut self) {
        let Some((first, _)) = self.log.first() else { return };
        let bytes = self.log.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let request = Request::Apply { first: *first, count: self.log.len() as u64 };
        let (words, _) = self.call_with(request, bytes, Enclosed::Nothing).unwrap();
        let applied = Applied::decode(&words);
        assert_eq!((applied.refused, applied.status.applied), (None, self.sequence));
        self.trim(applied.status.durable);
    }

    fn trim(&mut self, durable: u64) {
        self.log.retain(|(sequence, _)| *sequence > durable);
    }

    fn commit(&mut self) {
        self.send();
        self.call(Request::Commit { sequence: self.sequence }).unwrap();
        self.trim(self.sequence);
    }

    fn create(&mut self, name: &str) -> usize {
        let (_, bytes) =
            self.call(Request::Reserve { parent: self.volume.root, kind: NewKind::Other, count: 1 }).unwrap();
        let inode = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        self.note(&Operation::Create {
            parent: self.volume.root,
            inode,
            name: name.as_bytes(),
            mode: 0o100_644,
            uid: 7,
            gid: 8,
            time: 1_600_000_000_123_456_789,
            device: 0,
            target: b"",
        });
        self.send();
        let slot = self.files.len() as u64;
        let pages = SimulatedPages::new(self.machine.staging(), 0);
        self.files.push(ClientFile { inode, name: name.to_string(), slot, pages, model: Vec::new() });
        self.serve(self.files.len() - 1);
        self.files.len() - 1
    }

    fn serve(&self, which: usize) {
        let file = &self.files[which];
        let request = Request::Serve { inode: file.inode, slot: file.slot };
        self.call_with(request, Vec::new(), Enclosed::Pages(file.pages.clone())).unwrap();
    }

    fn set_size(&mut self, which: usize, pages: u64) {
        self.resize(which, pages, Set::SIZE);
    }

    fn resize(&mut self, which: usize, pages: u64, how: Set) {
        let inode = self.files[which].inode;
        let values = Values { size: pages * PAGE_BYTES, modified: 5, ..Values::default() };
        let is_cut = pages < self.files[which].model.len() as u64;
        let sequence = self.note(&Operation::SetAttributes { inode, set: how | Set::MODIFIED, values });
        let file = &mut self.files[which];
        self.notes.set(notes::slot_offset(file.slot) + if is_cut { notes::CUT } else { notes::SIZE }, sequence);
        file.pages.resize(pages);
        file.model.resize(pages as usize, 0);
    }

    fn store(&mut self, which: usize, page: u64, value: u64) {
        if page >= self.files[which].model.len() as u64 {
            self.resize(which, page + 1, Set::GROWN);
        }
        let file = &mut self.files[which];
        let write = |bytes: &mut [u8]| bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&value.to_le_bytes()));
        if file.pages.store(page, write) {
            file.model[page as usize] = value;
        }
        file.pages.ask(false);
    }

    /// Looks at a page; false if it is not there yet.
    fn check(&self, which: usize, page: u64) -> bool {
        let file = &self.files[which];
        let Some(bytes) = file.pages.read_page(page) else { return false };
        let expected = file.model[page as usize].to_le_bytes();
        assert!(bytes.chunks(8).all(|part| part == expected), "{} page {page}: {:?}", file.name, &bytes[..8]);
        true
    }

    /// Has all that was stored on the disk.
    fn flush(&mut self) {
        self.send();
        for _ in 0..5 {
            self.files.iter().for_each(|file| file.pages.ask(true));
            self.machine.pass(2_000_000_000);
        }
        self.commit();
        for file in &self.files {
            file.pages.evict();
            assert!(file.pages.cache.borrow().is_empty(), "{} is still dirty", file.name);
        }
    }

    fn check_all(&self) {
        for which in 0..self.files.len() {
            for page in 0..self.files[which].model.len() as u64 {
                self.check(which, page);
                self.files[which].pages.ask(false);
                self.machine.pass(1_000_000_000);
                assert!(self.check(which, page), "page {page} does not come");
            }
        }
    }

    /// The server dies, and another takes its place.
    fn replace_server(&mut self) {
        self.machine.kill();
        self.service = Service::new(self.machine.clone(), LAYOUT);
        assert_eq!(self.call(Request::Status), Err(Refused::NotMounted));
        self.mount().unwrap();
        let durable = self.volume.durable();
        assert!(durable <= self.sequence);
        self.trim(durable);
        let first = self.log.first().map_or(self.sequence + 1, |(first, _)| *first);
        assert_eq!(first, durable + 1, "operations are neither durable nor known");
        self.files.iter().for_each(|file| file.pages.restart());
        for which in 0..self.files.len() {
            let pages = self.files[which].model.len() as u64;
            self.resize(which, pages, Set::GROWN);
        }
        self.send();
        (0..self.files.len()).for_each(|which| self.serve(which));
    }

    fn unmount(self) -> Vec<u8> {
        self.call(Request::Unmount).unwrap();
        self.machine.kill();
        self.machine.disk.take()
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = FIRST_COOKIE;
        while cookie != LAST_COOKIE {
            let (words, bytes) = self.call(Request::List { inode: self.volume.root, cookie }).unwrap();
            names.extend(entries(&bytes).map(|entry| String::from_utf8(entry.name.to_vec()).unwrap()));
            cookie = Filled::decode(&words).next;
        }
        names.sort();
        names
    }
}

#[test]
fn what_is_stored_is_there_after_the_next_mount() {
    for arguments in [&["-t", "ext4", "-b", "4096"][..], &["-t", "ext4", "-b", "1024"], &["-t", "ext2", "-b", "1024"]] {
        let mut world = World::new(image(arguments), 1);
        let file = world.create("data");
        for page in [0, 1, 2, 7, 40] {
            world.store(file, page, page + 1);
        }
        world.flush();
        world.check_all();
        let (inode, model) = (world.files[file].inode, world.files[file].model.clone());
        let image = world.unmount();
        assert_eq!(complaints(&image), None, "{arguments:?}");

        let mut world = World::new(image, 2);
        assert_eq!(world.names(), ["data", "lost+found"]);
        let (_, bytes) = world.call(Request::Load { inode }).unwrap();
        let attributes = entries(&bytes).next().unwrap().attributes;
        assert_eq!((attributes.size, attributes.uid, attributes.modified), (41 * PAGE_BYTES, 7, 5));
        let pages = SimulatedPages::new(world.machine.staging(), 41);
        world.files.push(ClientFile { inode, name: "data".to_string(), slot: 0, pages, model });
        world.serve(0);
        world.check_all();
    }
}

fn step(world: &mut World, next_value: &mut u64) {
    let which = world.machine.random(world.files.len() as u64) as usize;
    match world.machine.random(14) {
        0..=4 => {
            *next_value += 1;
            let page = world.machine.random(24);
            world.store(which, page, *next_value);
        }
        5 => {
            let pages = world.machine.random(24);
            world.set_size(which, pages);
        }
        6 => world.files[which].pages.evict(),
        7 | 8 => world.files[which].pages.ask(true),
        9 => {
            let page = world.machine.random(24);
            if page < world.files[which].model.len() as u64 {
                world.check(which, page);
            }
        }
        10 => world.send(),
        11 if world.files.len() < SLOTS as usize => {
            let name = format!("file{}", world.files.len());
            world.create(&name);
        }
        _ => world.machine.pass(world.machine.random(500_000)),
    }
    world.files[which].pages.ask(false);
}

#[test]
fn a_server_that_dies_at_any_moment_loses_nothing() {
    let image = image(&["-t", "ext4", "-b", "4096"]);
    for seed in 1..25 {
        let mut world = World::new(image.clone(), seed);
        let mut next_value = 0;
        world.create("first");
        for _ in 0..6 {
            (0..60).for_each(|_| step(&mut world, &mut next_value));
            // Something is under way.
            let _sent = world.begin_send();
            world.files.iter().for_each(|file| file.pages.ask(true));
            world.machine.pass(world.machine.random(3_000_000));
            world.replace_server();
        }
        world.flush();
        world.check_all();
        let mut expected: Vec<String> = world.files.iter().map(|file| file.name.clone()).collect();
        expected.push("lost+found".to_string());
        expected.sort();
        assert_eq!(world.names(), expected);
        assert_eq!(complaints(&world.unmount()), None, "seed {seed}");
    }
}

/// What a file has on a disk that nobody puts out of use first: its size in pages, and the first number of each.
fn left_on(image: Vec<u8>, inode: u64) -> Vec<u64> {
    let mut world = World::new(image, 7);
    let (_, bytes) = world.call(Request::Load { inode }).unwrap();
    let pages = entries(&bytes).next().unwrap().attributes.size.div_ceil(PAGE_BYTES);
    let cache = SimulatedPages::new(world.machine.staging(), pages);
    let (name, model) = (String::new(), vec![0; pages as usize]);
    world.files.push(ClientFile { inode, name, slot: 0, pages: cache, model });
    world.serve(0);
    let first = |page: u64| {
        let file = &world.files[0];
        while file.pages.read_page(page).is_none() {
            file.pages.ask(false);
            world.machine.pass(1_000_000);
        }
        u64::from_le_bytes(*file.pages.read_page(page).unwrap().first_chunk().unwrap())
    };
    (0..pages).map(first).collect()
}

#[test]
fn a_file_is_never_longer_than_what_was_written_of_it() {
    for (seed, arguments) in (1..30).zip([["-t", "ext4"], ["-t", "ext3"]].iter().cycle()) {
        let mut world = World::new(image(&[&arguments[..], &["-b", "4096"]].concat()), seed);
        let file = world.create("grows");
        world.commit();
        for value in 1..40 {
            world.store(file, value - 1, value);
            if world.machine.random(3) == 0 {
                world.send();
            }
            if world.machine.random(6) == 0 {
                world.files[file].pages.ask(true);
            }
            world.machine.pass(world.machine.random(400_000_000));
        }
        let inode = world.files[file].inode;
        world.machine.kill();
        for (page, value) in left_on(world.machine.disk.take(), inode).into_iter().enumerate() {
            assert_eq!(value, page as u64 + 1, "seed {seed}, page {page}");
        }
    }
}

#[test]
fn a_write_that_fails_shows_nobody_what_was_there_before() {
    const SECRET: u64 = 0x5ec2e7;
    for arguments in [["-t", "ext4", "-b", "4096"], ["-t", "ext2", "-b", "4096"]] {
        let mut world = World::new(image(&arguments), 6);
        let secret = world.create("secret");
        (0..500).for_each(|page| world.store(secret, page, SECRET));
        world.flush();
        let (inode, parent) = (world.files[secret].inode, world.volume.root);
        world.note(&Operation::Unlink { parent, inode, name: b"secret", time: 1 });
        world.send();
        world.call(Request::Release { inode }).unwrap();
        world.note(&Operation::Forget { inode });
        world.commit();
        let file = world.create("new");
        world.commit();
        world.set_size(file, 20);
        (0..20).for_each(|page| world.store(file, page, 1));
        world.send();
        world.machine.fails_to_write.set(1);
        world.files[file].pages.ask(true);
        world.machine.pass(2_000_000_000);
        world.machine.fails_to_write.set(0);
        world.commit();
        let inode = world.files[file].inode;
        world.machine.kill();
        let left = left_on(world.machine.disk.take(), inode);
        assert!(!left.contains(&SECRET), "{arguments:?}: {left:?}");
    }
}

#[test]
fn files_without_names_outlive_the_server_until_they_are_forgotten() {
    let mut world = World::new(image(&["-t", "ext4", "-b", "4096"]), 3);
    let free = world.volume.status.free_blocks;
    let file = world.create("doomed");
    (0..8).for_each(|page| world.store(file, page, 9));
    world.flush();
    let (inode, parent) = (world.files[file].inode, world.volume.root);
    world.note(&Operation::Unlink { parent, inode, name: b"doomed", time: 1 });
    world.commit();
    world.replace_server();
    world.check_all();
    assert_eq!(world.names(), ["lost+found"]);
    world.call(Request::Release { inode }).unwrap();
    world.note(&Operation::Forget { inode });
    world.commit();
    let (words, _) = world.call(Request::Status).unwrap();
    assert_eq!(driver_protocol::files::Status::decode(&words).free_blocks, free);
    assert_eq!(complaints(&world.unmount()), None);
}

#[test]
fn what_can_t_be_read_hides_nothing_else_in_its_directory() {
    let mut world = World::new(image(&["-t", "ext4", "-b", "4096"]), 4);
    let files = ["a", "bad", "c"].map(|name| world.create(name));
    let inode = world.files[files[1]].inode;
    world.flush();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), world.unmount()).unwrap();
    let request = format!("set_inode_field <{inode}> checksum 5");
    let output = Command::new("debugfs").args(["-w", "-R", &request]).arg(file.path()).output().unwrap();
    assert!(output.status.success());
    let world = World::new(fs::read(file.path()).unwrap(), 5);
    assert_eq!(world.names(), ["a", "bad", "c", "lost+found"]);
    assert_eq!(world.call(Request::Load { inode }).unwrap_err(), Refused::Corrupt);
}

#[test]
fn a_server_asks_for_operations_that_it_waits_for() {
    let mut world = World::new(image(&["-t", "ext4", "-b", "4096"]), 4);
    let file = world.create("file");
    let watch = world.begin(Request::Watch, Vec::new(), Enclosed::Nothing);
    world.store(file, 3, 1);
    world.machine.pass(100_000_000);
    assert_eq!(watch.answer.take(), None);
    world.files[file].pages.ask(true);
    world.machine.pass(100_000_000);
    let (label, [news, ..]) = watch.answer.take().unwrap();
    assert_eq!((label, news), (ANSWERED, driver_protocol::files::News::SEND.bits()));
    world.flush();
    world.check_all();
}

#[test]
fn operations_are_done_once_and_in_order() {
    let mut world = World::new(image(&["-t", "ext4", "-b", "4096"]), 5);
    world.create("one");
    let mut bytes = Vec::new();
    Operation::Forget { inode: 999 }.encode(&mut bytes);
    let ahead = Request::Apply { first: world.sequence + 2, count: 1 };
    assert_eq!(world.call_with(ahead, bytes.clone(), Enclosed::Nothing).unwrap_err(), Refused::OutOfOrder);
    let again = Request::Apply { first: world.sequence, count: 1 };
    let (words, _) = world.call_with(again, bytes.clone(), Enclosed::Nothing).unwrap();
    assert_eq!(Applied::decode(&words).refused, None);
    let next = Request::Apply { first: world.sequence + 1, count: 1 };
    let (words, _) = world.call_with(next, bytes, Enclosed::Nothing).unwrap();
    assert_eq!(Applied::decode(&words).status.applied, world.sequence + 1);
}

#[test]
fn what_is_no_file_system_is_not_mounted() {
    let machine = Simulated::new(vec![0; 1 << 20], LAYOUT.pages(), 1);
    let service = Service::new(machine.clone(), LAYOUT);
    let asked = Asked { room: 4096, ..Asked::default() };
    let request = Request::Mount { flags: MountFlags::empty(), commit_seconds: 0 };
    service.begin(request, Enclosed::Notes(SimulatedNotes::new(1)), asked.clone());
    machine.pass(1_000_000_000);
    assert_eq!(asked.answer.take().map(|(label, _)| label), Some(Refused::NotAFileSystem as u64));
}
