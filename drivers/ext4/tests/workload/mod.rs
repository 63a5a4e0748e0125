//! Random operations on a file system, beside a model of what it should have.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod model;

use crate::simulated::{Disk, Random};
use ext4::device::SECTOR_BYTES;
use ext4::{Attributes, Device as _, Error, Ext4, FileKind, New, ROOT, Rename, Result, Room, Target, Time};
use model::{Content, Model, Node};

/// Names in use at most.
const MOST_NAMES: usize = 40;
/// Blocks that a file has at most.
const MOST_BLOCKS: u64 = 40;

/// What an operation may have left if it is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// All or nothing.
    One,
    /// The first of several transactions.
    Several,
}

/// What was done so far.
pub(crate) struct Workload {
    /// What the file system has after each operation, from the beginning on, and how that came about.
    pub(crate) states: Vec<(Model, Steps)>,
    pub(crate) random: Random,
    /// Distinguishes what is written.
    value: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self { states: vec![(Model::default(), Steps::One)], random: Random::new(seed), value: 0 }
    }

    pub(crate) fn operations(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub(crate) fn model(&self) -> &Model {
        &self.states.last().unwrap().0
    }

    /// An operation was done: it changed the model, at the same moment as the file system.
    fn did(&mut self, disk: &Disk, steps: Steps, change: impl FnOnce(&mut Model)) {
        let mut model = self.model().clone();
        change(&mut model);
        self.states.push((model, steps));
        disk.set_note(self.operations());
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.random.below(from.len() as u64) as usize].clone())
    }

    fn now(&mut self) -> Time {
        Time { seconds: 1_800_000_000 + self.value as i64, nanoseconds: 5 }
    }

    fn new_value(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    /// Does something. Errors are those that nobody can foresee: of a full file system, or a bad device.
    pub(crate) async fn step(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        self.new_value();
        match self.random.below(20) {
            0..=3 => self.create(fs, disk).await,
            4 => self.link(fs, disk).await,
            5..=6 => self.unlink(fs, disk).await,
            7..=8 => self.rename(fs, disk).await,
            9 => self.forget(fs, disk).await,
            10 => self.set_attributes(fs, disk).await,
            11 => self.set_xattr(fs, disk).await,
            12..=15 => self.write(fs, disk).await,
            16 => self.truncate(fs, disk).await,
            17 => self.preallocate(fs, disk).await,
            18 => self.convert(fs, disk).await,
            _ => self.punch(fs, disk).await,
        }
    }

    fn new_name(&mut self) -> Vec<u8> {
        let length = 1 + self.random.below(if self.random.clone().one_in(4) { 200 } else { 20 });
        let letter = b'a' + self.random.below(26) as u8;
        let mut name = format!("{}-", self.value).into_bytes();
        name.resize(name.len() + length as usize, letter);
        name
    }

    fn directory(&mut self) -> u32 {
        let mut directories = self.model().of_kind(FileKind::Directory);
        directories.push(ROOT);
        self.pick(&directories).unwrap_or(ROOT)
    }

    fn file(&mut self) -> Option<u32> {
        let files = self.model().of_kind(FileKind::Regular);
        self.pick(&files)
    }

    fn name(&mut self) -> Option<(u32, Vec<u8>)> {
        let names: Vec<_> = self.model().names.keys().cloned().collect();
        self.pick(&names)
    }

    async fn create(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        if self.model().names.len() >= MOST_NAMES {
            return self.unlink(fs, disk).await;
        }
        let (parent, name, now) = (self.directory(), self.new_name(), self.now());
        let nameless = self.random.one_in(12);
        let kind = self.pick(&[FileKind::Regular, FileKind::Regular, FileKind::Directory, FileKind::Symlink]).unwrap();
        let kind = if nameless { FileKind::Regular } else { kind };
        let target = vec![b't'; if kind == FileKind::Symlink { 1 + self.random.below(150) as usize } else { 0 }];
        let [inode] = fs.reserve(parent, kind, 1).await?[..] else { return Err(Error::Full { pending: false }) };
        let mode = kind.mode() | self.random.below(0o1000) as u16;
        let new = New {
            parent: (!nameless).then_some(parent),
            name: if nameless { b"" } else { &name },
            inode,
            mode,
            uid: self.value as u32,
            gid: 7,
            device: (0, 0),
            target: &target,
            now,
        };
        fs.create(new).await?;
        self.did(disk, Steps::One, |model| {
            model.nodes.insert(inode, Node::new(kind, mode, new.uid, &target));
            if !nameless {
                model.names.insert((parent, name.clone()), inode);
            }
        });
        Ok(())
    }

    async fn link(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let (parent, name, now) = (self.directory(), self.new_name(), self.now());
        let Some(file) = self.file() else { return Ok(()) };
        fs.link(file, parent, &name, now).await?;
        self.did(disk, Steps::One, |model| {
            model.names.insert((parent, name.clone()), file);
        });
        Ok(())
    }

    async fn unlink(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let now = self.now();
        let Some((parent, name)) = self.name() else { return Ok(()) };
        let inode = self.model().names[&(parent, name.clone())];
        let is_directory = self.model().nodes[&inode].kind == FileKind::Directory;
        if is_directory && !self.model().is_empty(inode) {
            assert_eq!(fs.rmdir(parent, &name, now).await.err(), Some(Error::NotEmpty));
            return Ok(());
        }
        let unlinked = match is_directory {
            true => fs.rmdir(parent, &name, now).await?,
            false => fs.unlink(parent, &name, now).await?,
        };
        assert_eq!(unlinked.inode, inode);
        self.did(disk, Steps::One, |model| {
            model.names.remove(&(parent, name.clone()));
        });
        Ok(())
    }

    async fn rename(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let now = self.now();
        let Some(from) = self.name() else { return Ok(()) };
        let fresh = (self.directory(), self.new_name());
        let to = if self.random.one_in(2) { self.name().unwrap_or(fresh) } else { fresh };
        let how = self.pick(&[Rename::Replace, Rename::NoReplace, Rename::Exchange]).unwrap();
        let mut after = self.model().clone();
        let possible = after.rename(&from, &to, how);
        match fs.rename((from.0, &from.1), (to.0, &to.1), how, now).await {
            Ok(_) => {
                assert!(possible, "{from:?} to {to:?}, {how:?}");
                self.did(disk, Steps::One, |model| *model = after);
            }
            Err(error @ (Error::Full { .. } | Error::Device | Error::ReadOnly)) => return Err(error),
            Err(error) => assert!(!possible, "{from:?} to {to:?}, {how:?}: {error:?}"),
        }
        Ok(())
    }

    /// Ends a file that has no name.
    async fn forget(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let now = self.now();
        let nameless = self.model().nameless();
        let Some(inode) = self.pick(&nameless) else { return Ok(()) };
        fs.forget(inode, now).await?;
        self.did(disk, Steps::Several, |model| {
            model.nodes.remove(&inode);
        });
        Ok(())
    }

    async fn set_attributes(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let mode = self.random.below(0o1000) as u16;
        let uid = self.value as u32;
        let grown = self.model().nodes[&file].size + self.random.below(5000);
        let size = (self.random.one_in(2)).then_some(grown);
        let wanted = Attributes { mode: Some(mode), uid: Some(uid), size, ..Attributes::default() };
        fs.set_attributes(file, wanted).await?;
        self.did(disk, Steps::One, |model| {
            let node = model.node(file);
            node.mode = node.mode & !0o7777 | mode;
            node.uid = uid;
            node.size = size.unwrap_or(node.size);
        });
        Ok(())
    }

    async fn set_xattr(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let now = self.now();
        let nodes: Vec<_> = self.model().nodes.keys().copied().collect();
        let Some(inode) = self.pick(&nodes) else { return Ok(()) };
        if self.model().nodes[&inode].kind == FileKind::Symlink {
            return Ok(());
        }
        let name = format!("user.{}", self.random.below(4)).into_bytes();
        let value = vec![self.value as u8; self.random.below(120) as usize];
        let has = self.model().nodes[&inode].xattrs.contains_key(&name);
        if has && self.random.one_in(2) {
            fs.remove_xattr(inode, &name, now).await?;
            self.did(disk, Steps::One, |model| {
                model.node(inode).xattrs.remove(&name);
            });
            return Ok(());
        }
        match fs.set_xattr(inode, &name, &value, now).await {
            Err(Error::AttributesTooBig) => return Ok(()),
            done => done?,
        }
        self.did(disk, Steps::One, |model| {
            model.node(inode).xattrs.insert(name.clone(), value.clone());
        });
        Ok(())
    }

    /// A few blocks of a file.
    fn range(&mut self) -> (u64, u64) {
        let first = self.random.below(MOST_BLOCKS);
        (first, 1 + self.random.below(8).min(MOST_BLOCKS - first))
    }

    async fn write(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let (first, count) = self.range();
        let block = u64::from(fs.facts().block_bytes);
        if self.random.one_in(3) && self.model().nodes[&file].size < (first + count) * block {
            let size = Some((first + count) * block);
            fs.set_attributes(file, Attributes { size, ..Attributes::default() }).await?;
            self.did(disk, Steps::One, |model| model.node(file).size = (first + count) * block);
        }
        let taken = self.model().nodes[&file].blocks.range(first..first + count).next().map(|(at, _)| *at);
        let count = taken.unwrap_or(first + count) - first;
        if count == 0 {
            return Ok(());
        }
        let value = self.value;
        let placed = fs.promise(file, first, count).await?;
        for run in &placed {
            let Room::Promised(start) = run.room else { panic!("promised as {:?}", run.room) };
            write_blocks(disk, block, start, (run.first..run.first + run.count).map(|at| value + at)).await?;
        }
        if self.random.one_in(10) {
            fs.give_back(&placed);
            return Ok(());
        }
        let size = placed.last().map_or(0, |run| run.first + run.count) * block;
        fs.attach(file, &placed, size).await?;
        self.did(disk, Steps::One, |model| {
            let node = model.node(file);
            node.size = node.size.max(size);
            for run in &placed {
                let written = (run.first..run.first + run.count).map(|at| (at, Content::Data(value + at)));
                node.blocks.extend(written);
            }
        });
        Ok(())
    }

    async fn truncate(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let now = self.now();
        let Some(file) = self.file() else { return Ok(()) };
        let size = self.random.below(self.model().nodes[&file].size + 1);
        fs.truncate(file, size, now).await?;
        let block = u64::from(fs.facts().block_bytes);
        self.did(disk, Steps::Several, |model| {
            model.node(file).size = size;
            model.node(file).blocks.retain(|at, _| *at < size.div_ceil(block));
        });
        Ok(())
    }

    async fn preallocate(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let (first, count) = self.range();
        let allotted = match fs.allocate(file, first, count).await {
            Err(Error::Unsupported(_)) => return Ok(()),
            done => done?,
        };
        self.did(disk, Steps::One, |model| {
            for at in allotted.runs.iter().flat_map(|run| run.first..run.first + run.count) {
                model.node(file).blocks.entry(at).or_insert(Content::Zeroes);
            }
        });
        Ok(())
    }

    async fn convert(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let block = u64::from(fs.facts().block_bytes);
        let unwritten = |model: &Model, file: u32| {
            let node = &model.nodes[&file];
            let found = node.blocks.iter().find(|(_, content)| **content == Content::Zeroes).map(|(at, _)| *at);
            found.filter(|at| (*at + 1) * block <= node.size)
        };
        let Some(file) = self.file() else { return Ok(()) };
        let Some(at) = unwritten(self.model(), file) else { return Ok(()) };
        let runs = fs.map(file, at, 1).await?;
        let Target::Unwritten(start) = runs[0].target else { panic!("prepared as {:?}", runs[0].target) };
        let value = self.value;
        write_blocks(disk, block, start, core::iter::once(value)).await?;
        fs.convert(file, at, 1).await?;
        self.did(disk, Steps::One, |model| {
            model.node(file).blocks.insert(at, Content::Data(value));
        });
        Ok(())
    }

    async fn punch(&mut self, fs: &Ext4<Disk>, disk: &Disk) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let (first, count) = self.range();
        fs.punch(file, first, count).await?;
        self.did(disk, Steps::Several, |model| {
            model.node(file).blocks.retain(|at, _| !(first..first + count).contains(at));
        });
        Ok(())
    }
}

async fn write_blocks(disk: &Disk, block: u64, start: u64, values: impl Iterator<Item = u64>) -> Result<()> {
    let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes().repeat(block as usize / 8)).collect();
    Ok(disk.write(start * block / SECTOR_BYTES as u64, &bytes).await?)
}
