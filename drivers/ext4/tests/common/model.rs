//! What a file system should hold after some operations, and the operations done on both.

use super::random::Random;
use super::{Disk, START, run};
use ext4::{Attributes, Device, Error, Ext4, FileKind, New, ROOT, Rename, Room, Time};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an inode should be.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u16,
    pub(super) size: u64,
    pub(super) times: [Time; 3],
    pub(super) device: (u32, u32),
    pub(crate) target: Vec<u8>,
    /// The blocks that don't read as zeroes, and what they are filled with.
    pub(crate) blocks: BTreeMap<u64, u64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) names: BTreeMap<Vec<u8>, u32>,
    pub(super) parent: u32,
}

impl Node {
    pub(crate) fn kind(&self) -> FileKind {
        FileKind::of_mode(self.mode).unwrap()
    }

    fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }
}

/// How much of what is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Names that are tried in a directory.
    pub(crate) names: u64,
    /// Most blocks of one write.
    pub(crate) write_blocks: u64,
    /// Most directories.
    pub(crate) directories: usize,
}

/// A file system, and what it should hold.
pub(crate) struct Model {
    pub(crate) disk: Rc<Disk>,
    pub(crate) fs: Ext4<Disk>,
    pub(crate) random: Random,
    pub(crate) nodes: BTreeMap<u32, Node>,
    orphans: Vec<u32>,
    reserved: Vec<u32>,
    clock: Time,
    tag: u64,
    habits: Habits,
    /// How often there was no room.
    pub(crate) full: u64,
    pub(crate) done: BTreeMap<&'static str, u64>,
}

impl Model {
    /// The model of a file system without files.
    pub(crate) fn new(disk: Rc<Disk>, seed: u64, habits: Habits) -> Self {
        let fs = super::mount(&disk);
        let mut model = Self {
            disk,
            fs,
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            orphans: Vec::new(),
            reserved: Vec::new(),
            clock: START,
            tag: 0,
            habits,
            full: 0,
            done: BTreeMap::new(),
        };
        let lost = run(model.fs.lookup(ROOT, b"lost+found")).unwrap();
        run(model.fs.rmdir(ROOT, b"lost+found", START)).unwrap();
        run(model.fs.forget(lost, START)).unwrap();
        let root = run(model.fs.inode(ROOT)).unwrap();
        let node = Node {
            mode: root.mode,
            uid: root.uid,
            gid: root.gid,
            links: root.links,
            size: 0,
            times: [root.accessed, root.modified, root.changed],
            device: (0, 0),
            target: Vec::new(),
            blocks: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            names: BTreeMap::new(),
            parent: ROOT,
        };
        model.nodes.insert(ROOT, node);
        model
    }

    fn now(&mut self) -> Time {
        self.clock.seconds += 1;
        self.clock.nanoseconds = (self.clock.nanoseconds + 777) % 1_000_000_000;
        self.clock
    }

    pub(super) fn block_bytes(&self) -> u64 {
        u64::from(self.fs.facts().block_bytes)
    }

    fn node(&mut self, number: u32) -> &mut Node {
        self.nodes.get_mut(&number).unwrap()
    }

    fn all(&self, wanted: impl Fn(&Node) -> bool) -> Vec<u32> {
        self.nodes.iter().filter(|(_, node)| wanted(node)).map(|(number, _)| *number).collect()
    }

    fn directory(&mut self) -> u32 {
        let directories = self.all(|node| node.is_directory() && node.links > 0);
        self.random.pick(&directories).unwrap()
    }

    fn regular(&mut self) -> Option<u32> {
        let files = self.all(|node| node.kind() == FileKind::Regular);
        self.random.pick(&files)
    }

    fn name(&mut self) -> Vec<u8> {
        let number = self.random.below(self.habits.names);
        let width = (number * 37 % 211) as usize;
        format!("{number}{}", "n".repeat(width)).into_bytes()
    }

    /// A name that is there, mostly.
    fn old_name(&mut self, directory: u32) -> Vec<u8> {
        let names: Vec<Vec<u8>> = self.nodes[&directory].names.keys().cloned().collect();
        if self.random.chance(95) && !names.is_empty() { self.random.pick(&names).unwrap() } else { self.name() }
    }

    /// Does something by chance.
    pub(crate) fn step(&mut self) {
        let what: (&'static str, fn(&mut Self)) = match self.random.below(100) {
            0..=21 => ("create", Self::create),
            22..=26 => ("link", Self::link),
            27..=37 => ("unlink", Self::unlink),
            38..=41 => ("rmdir", Self::rmdir),
            42..=51 => ("rename", Self::rename),
            52..=67 => ("write", Self::write),
            68..=71 => ("truncate", Self::truncate),
            72..=75 => ("fallocate", Self::fallocate),
            76..=79 => ("punch", Self::punch),
            80..=83 => ("set attributes", Self::set_attributes),
            84..=90 => ("set xattr", Self::set_xattr),
            91..=93 => ("remove xattr", Self::remove_xattr),
            94..=97 => ("forget", Self::forget),
            98 => ("commit", Self::commit),
            _ => ("reserve", Self::reserve),
        };
        *self.done.entry(what.0).or_default() += 1;
        what.1(self);
    }

    /// Does something, once more after a commit if there was no room; none if there is none at all.
    fn attempt<R>(&mut self, mut act: impl FnMut(&Ext4<Disk>) -> Result<R, Error>) -> Result<R, Error> {
        match act(&self.fs) {
            Err(Error::Full { pending: true }) => {
                run(self.fs.commit()).unwrap();
                let second = act(&self.fs);
                self.full += u64::from(matches!(second, Err(Error::Full { .. })));
                second
            }
            Err(Error::Full { pending: false }) => {
                self.full += 1;
                Err(Error::Full { pending: false })
            }
            other => other,
        }
    }

    fn reserve(&mut self) {
        let parent = self.directory();
        let count = 1 + self.random.below(20) as u32;
        let kind = if self.random.chance(30) { FileKind::Directory } else { FileKind::Regular };
        match run(self.fs.reserve(parent, kind, count)) {
            Ok(numbers) => {
                assert!(
                    numbers.iter().all(|number| !self.nodes.contains_key(number) && !self.reserved.contains(number))
                );
                self.reserved.extend(numbers);
            }
            Err(error) => assert_eq!(error, Error::Full { pending: false }),
        }
    }

    fn create(&mut self) {
        if self.reserved.is_empty() {
            self.reserve();
        }
        let place = self.random.below(self.reserved.len() as u64) as usize;
        let Some(inode) = self.reserved.get(place).copied() else { return };
        let few = self.all(Node::is_directory).len() < self.habits.directories;
        let kind = match self.random.below(10) {
            0 | 1 if few => FileKind::Directory,
            2 => FileKind::Symlink,
            3 => self.random.pick(&[FileKind::Fifo, FileKind::Socket, FileKind::BlockDevice]).unwrap(),
            4 => FileKind::CharacterDevice,
            _ => FileKind::Regular,
        };
        let parent = self.directory();
        let nameless = kind == FileKind::Regular && self.random.chance(5);
        let (name, now) = (self.name(), self.now());
        let length = self.random.pick(&[1, 59, 60, 200, 900]).unwrap();
        let target = if kind == FileKind::Symlink { vec![b't'; length] } else { Vec::new() };
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice);
        let device =
            if is_device { (self.random.below(4096) as u32, self.random.below(1 << 20) as u32) } else { (0, 0) };
        let mode = kind.mode() | self.random.below(0o10000) as u16;
        let (uid, gid) = (self.random.next() as u32, self.random.below(70_000) as u32);
        let new = New {
            parent: if nameless { None } else { Some(parent) },
            name: &name,
            inode,
            mode,
            uid,
            gid,
            device,
            target: &target,
            now,
        };
        let result = self.attempt(|fs| run(fs.create(new)));
        if !nameless && self.nodes[&parent].names.contains_key(&name) {
            return assert_eq!(result, Err(Error::Exists));
        }
        match result {
            Err(Error::Full { .. }) => return,
            other => other.unwrap(),
        }
        self.reserved.swap_remove(place);
        let size = target.len() as u64;
        let links = if kind == FileKind::Directory { 2 } else { u16::from(!nameless) };
        let (blocks, xattrs, names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let times = [now; 3];
        let node = Node { mode, uid, gid, links, size, times, device, target, blocks, xattrs, names, parent };
        self.nodes.insert(inode, node);
        if nameless {
            self.orphans.push(inode);
            return;
        }
        let directory = self.node(parent);
        directory.names.insert(name, inode);
        directory.links += u16::from(kind == FileKind::Directory);
        (directory.times[1], directory.times[2]) = (now, now);
    }

    fn touch(&mut self, directory: u32, now: Time) {
        let node = self.node(directory);
        (node.times[1], node.times[2]) = (now, now);
    }

    fn link(&mut self) {
        let files = self.all(|_| true);
        let file = self.random.pick(&files).unwrap();
        let (parent, name, now) = (self.directory(), self.name(), self.now());
        let result = self.attempt(|fs| run(fs.link(file, parent, &name, now)));
        if self.nodes[&parent].names.contains_key(&name) {
            return assert_eq!(result, Err(Error::Exists));
        }
        if self.nodes[&file].is_directory() {
            return assert_eq!(result, Err(Error::IsDirectory));
        }
        match result {
            Err(Error::Full { .. }) => return,
            other => other.unwrap(),
        }
        self.orphans.retain(|orphan| *orphan != file);
        self.node(file).links += 1;
        self.node(file).times[2] = now;
        self.node(parent).names.insert(name, file);
        self.touch(parent, now);
    }

    /// A file lost a name.
    fn drop_link(&mut self, number: u32, now: Time) {
        let node = self.node(number);
        node.links = if node.is_directory() { 0 } else { node.links - 1 };
        node.times[2] = now;
        if node.links == 0 {
            self.orphans.push(number);
        }
    }

    fn unlink(&mut self) {
        let parent = self.directory();
        let (name, now) = (self.old_name(parent), self.now());
        let result = run(self.fs.unlink(parent, &name, now));
        let Some(number) = self.nodes[&parent].names.get(&name).copied() else {
            return assert_eq!(result, Err(Error::NotFound));
        };
        if self.nodes[&number].is_directory() {
            return assert_eq!(result, Err(Error::IsDirectory));
        }
        self.node(parent).names.remove(&name);
        self.touch(parent, now);
        self.drop_link(number, now);
        assert_eq!(result.unwrap().links, self.nodes[&number].links);
    }

    fn rmdir(&mut self) {
        let parent = self.directory();
        let (name, now) = (self.old_name(parent), self.now());
        let result = run(self.fs.rmdir(parent, &name, now));
        let Some(number) = self.nodes[&parent].names.get(&name).copied() else {
            return assert_eq!(result, Err(Error::NotFound));
        };
        if !self.nodes[&number].is_directory() {
            return assert_eq!(result, Err(Error::NotDirectory));
        }
        if !self.nodes[&number].names.is_empty() {
            return assert_eq!(result, Err(Error::NotEmpty));
        }
        assert_eq!(result.unwrap().inode, number);
        self.node(parent).names.remove(&name);
        self.node(parent).links -= 1;
        self.touch(parent, now);
        self.drop_link(number, now);
    }

    /// Whether a directory is another or lies in it.
    fn is_below(&self, below: u32, above: u32) -> bool {
        let mut at = below;
        loop {
            if at == above {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.nodes[&at].parent;
        }
    }

    fn rename_error(&self, from: (u32, u32), to: (u32, Option<u32>), how: Rename) -> Option<Error> {
        let moved = &self.nodes[&from.1];
        let other = to.1.map(|other| (other, &self.nodes[&other]));
        let crosses = from.0 != to.0;
        match (how, other) {
            (Rename::NoReplace, Some(_)) => return Some(Error::Exists),
            (Rename::Exchange, None) => return Some(Error::NotFound),
            (Rename::Replace, Some((_, other))) => match (moved.is_directory(), other.is_directory()) {
                (true, false) => return Some(Error::NotDirectory),
                (false, true) => return Some(Error::IsDirectory),
                (true, true) if !other.names.is_empty() => return Some(Error::NotEmpty),
                _ => {}
            },
            (Rename::Exchange, Some((number, other)))
                if crosses && other.is_directory() && self.is_below(from.0, number) =>
            {
                return Some(Error::Invalid);
            }
            _ => {}
        }
        (crosses && moved.is_directory() && self.is_below(to.0, from.1)).then_some(Error::Invalid)
    }

    fn rename(&mut self) {
        let (from, to) = (self.directory(), self.directory());
        let to = if self.random.chance(40) { from } else { to };
        let (name, now) = (self.old_name(from), self.now());
        let new = if self.random.chance(40) { self.old_name(to) } else { self.name() };
        let how = self.random.pick(&[Rename::Replace, Rename::Replace, Rename::NoReplace, Rename::Exchange]).unwrap();
        let result = self.attempt(|fs| run(fs.rename((from, &name), (to, &new), how, now)));
        let Some(moved) = self.nodes[&from].names.get(&name).copied() else {
            return assert_eq!(result, Err(Error::NotFound));
        };
        let other = self.nodes[&to].names.get(&new).copied();
        if other == Some(moved) && how != Rename::NoReplace {
            return assert_eq!(result, Ok(None));
        }
        if let Some(error) = self.rename_error((from, moved), (to, other), how) {
            return assert_eq!(result, Err(error), "{how:?}");
        }
        let unlinked = match result {
            Err(Error::Full { .. }) => return,
            other => other.unwrap(),
        };
        self.node(to).names.insert(new, moved);
        match (how, other) {
            (Rename::Exchange, Some(other)) => {
                self.node(from).names.insert(name, other);
                self.node(other).times[2] = now;
                self.move_directory(other, to, from);
            }
            _ => {
                self.node(from).names.remove(&name);
            }
        }
        self.move_directory(moved, from, to);
        self.node(moved).times[2] = now;
        if let (Rename::Replace, Some(other)) = (how, other) {
            if self.nodes[&other].is_directory() {
                self.node(to).links -= 1;
            }
            self.drop_link(other, now);
            assert_eq!(unlinked.unwrap().inode, other);
        }
        self.touch(from, now);
        self.touch(to, now);
    }

    fn move_directory(&mut self, number: u32, from: u32, to: u32) {
        if self.nodes[&number].is_directory() {
            self.node(from).links -= 1;
            self.node(to).links += 1;
            self.node(number).parent = to;
        }
    }

    /// Where to do something in a file: mostly near its start, sometimes far out.
    fn place(&mut self) -> (u64, u64) {
        let far = self.random.chance(5);
        let first = self.random.below(if far { 60_000 } else { 300 });
        (first, 1 + self.random.below(self.habits.write_blocks))
    }

    fn write(&mut self) {
        let Some(file) = self.regular() else { return };
        let ((first, count), size) = (self.place(), self.block_bytes());
        let end = (first + count) * size - self.random.below(size);
        if self.nodes[&file].size < end {
            run(self.fs.set_attributes(file, Attributes { size: Some(end), ..Attributes::default() })).unwrap();
            self.node(file).size = end;
        }
        let mut at = first;
        while at < first + count {
            let left = first + count - at;
            let placed = match self.attempt(|fs| run(fs.promise(file, at, left))) {
                Err(Error::Full { .. }) => return,
                other => other.unwrap(),
            };
            let begin = at;
            for run_ in &placed {
                assert_eq!(run_.first, at);
                let (Room::Written(start) | Room::Unwritten(start) | Room::Promised(start)) = run_.room;
                self.fill(file, run_.first, run_.count, start);
                at += run_.count;
            }
            match self.attempt(|fs| run(fs.attach(file, &placed, 0))) {
                Err(Error::Full { .. }) => {
                    self.fs.give_back(&placed);
                    return self.forget_fill(file, begin, at - begin);
                }
                other => other.unwrap(),
            };
        }
    }

    /// Writes data of a file.
    fn fill(&mut self, file: u32, first: u64, count: u64, start: u64) {
        let size = self.block_bytes();
        for step in 0..count {
            self.tag += 1;
            let tag = self.tag << 32 | u64::from(file);
            let bytes: Vec<u8> = tag.to_le_bytes().repeat(size as usize / 8);
            run(self.disk.write((start + step) * size / 512, &bytes)).unwrap();
            self.node(file).blocks.insert(first + step, tag);
        }
    }

    /// The data were written, but there was no room to note it: part of it may be noted. The range is cut.
    fn forget_fill(&mut self, file: u32, first: u64, count: u64) {
        self.cut(file, first, count);
    }

    fn cut(&mut self, file: u32, first: u64, count: u64) {
        match self.attempt(|fs| run(fs.punch(file, first, count))) {
            // Some of it may be gone: the rest is not looked at any more.
            Err(Error::Full { .. }) => {
                let size = first * self.block_bytes();
                let now = self.now();
                run(self.fs.truncate(file, size, now)).unwrap();
                let node = self.node(file);
                node.size = size;
                node.blocks.retain(|block, _| *block < first);
                (node.times[1], node.times[2]) = (now, now);
            }
            other => other.unwrap(),
        }
        self.node(file).blocks.retain(|block, _| !(first..first + count).contains(block));
    }

    fn truncate(&mut self) {
        let Some(file) = self.regular() else { return };
        let ((first, _), now, block) = (self.place(), self.now(), self.block_bytes());
        let size = first * block + self.random.below(block);
        run(self.fs.truncate(file, size, now)).unwrap();
        let node = self.node(file);
        if size <= node.size {
            node.blocks.retain(|at, _| at * block < size);
        }
        node.size = size;
        (node.times[1], node.times[2]) = (now, now);
    }

    fn fallocate(&mut self) {
        let Some(file) = self.regular() else { return };
        let (first, count) = self.place();
        let has_extents = run(self.fs.inode(file)).unwrap().has_extents();
        let result = self.attempt(|fs| run(fs.fallocate(file, first, count)));
        match result {
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(error) => assert!(!has_extents && matches!(error, Error::Unsupported(_)), "{error}"),
        }
    }

    fn punch(&mut self) {
        let Some(file) = self.regular() else { return };
        let (first, count) = self.place();
        self.cut(file, first, count);
    }

    fn set_attributes(&mut self) {
        let files = self.all(|_| true);
        let file = self.random.pick(&files).unwrap();
        let (mode, uid, time) = (self.random.below(0o10000) as u16, self.random.next() as u32, self.now());
        let wanted = Attributes {
            mode: Some(mode),
            uid: Some(uid),
            accessed: Some(time),
            changed: Some(time),
            ..Attributes::default()
        };
        run(self.fs.set_attributes(file, wanted)).unwrap();
        let node = self.node(file);
        node.mode = node.mode & 0o170_000 | mode;
        node.uid = uid;
        (node.times[0], node.times[2]) = (time, time);
    }

    fn xattr_name(&mut self) -> Vec<u8> {
        let space = self.random.pick(&["user", "trusted", "security"]).unwrap();
        format!("{space}.name{}", self.random.below(6)).into_bytes()
    }

    fn set_xattr(&mut self) {
        let files = self.all(|_| true);
        let file = self.random.pick(&files).unwrap();
        let (name, now) = (self.xattr_name(), self.now());
        let length = self.random.pick(&[0, 1, 10, 40, 200, 700, 3000]).unwrap();
        let value: Vec<u8> = (0..length).map(|at| (at as u64 * self.clock.seconds as u64) as u8).collect();
        match self.attempt(|fs| run(fs.set_xattr(file, &name, &value, now))) {
            Err(Error::Full { .. } | Error::AttributesTooBig) => {}
            other => {
                other.unwrap();
                self.node(file).xattrs.insert(name, value);
                self.node(file).times[2] = now;
            }
        }
    }

    fn remove_xattr(&mut self) {
        let files = self.all(|node| !node.xattrs.is_empty());
        let Some(file) = self.random.pick(&files) else { return };
        let (name, now) = (self.xattr_name(), self.now());
        let result = self.attempt(|fs| run(fs.remove_xattr(file, &name, now)));
        if !self.nodes[&file].xattrs.contains_key(&name) {
            return assert_eq!(result, Err(Error::NotFound));
        }
        if !matches!(result, Err(Error::Full { .. })) {
            result.unwrap();
            self.node(file).xattrs.remove(&name);
            self.node(file).times[2] = now;
        }
    }

    fn forget(&mut self) {
        let orphans = self.orphans.clone();
        let Some(file) = self.random.pick(&orphans) else { return };
        let now = self.now();
        run(self.fs.forget(file, now)).unwrap();
        self.orphans.retain(|orphan| *orphan != file);
        self.nodes.remove(&file);
        assert_eq!(run(self.fs.inode(file)), Err(Error::NotFound));
    }

    fn commit(&mut self) {
        run(self.fs.commit()).unwrap();
        run(self.fs.tidy()).unwrap();
    }

    /// Unmounts cleanly; all files without a name go first.
    pub(crate) fn unmount(&mut self) {
        for file in std::mem::take(&mut self.orphans) {
            let now = self.now();
            run(self.fs.forget(file, now)).unwrap();
            self.nodes.remove(&file);
        }
        assert_eq!(self.fs.overdrawn(), 0);
        run(self.fs.unmount(self.clock)).unwrap();
    }

    /// Mounts again what was unmounted.
    pub(crate) fn mount(&mut self) {
        self.fs = super::mount(&self.disk);
        self.reserved.clear();
    }
}
