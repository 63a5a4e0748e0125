//! A machine for tests: real bytes, real page tables, and processors' caches that remember everything they are allowed to
//! remember until they are told to forget it.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::super::{FaultKind, MemorySystem, Space};
use crate::machine::{Access, Caching, Entry, Frame, Machine, PAGE_SIZE, TABLE_ENTRIES};
use crate::pool::Id;

const PAGE: usize = PAGE_SIZE as usize;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// What a frame was last used for.
enum Content {
    /// Whatever was in RAM at power-on. Nobody may ever see it.
    Garbage,
    /// Zeros: may become bytes or a table.
    Zeros,
    Bytes(Box<[u8; PAGE]>),
    Table(Box<[Entry; TABLE_ENTRIES]>),
}

/// A translation in the TLB.
#[derive(Clone, Copy, Debug)]
struct Cached {
    frame: Frame,
    access: Access,
}

/// Counts of operations, to tell what something costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) entries_written: usize,
    pub(super) tables_copied: usize,
    pub(super) frames_filled: usize,
}

pub(crate) struct MockMachine {
    frames: Vec<Content>,
    tlb: BTreeMap<(Frame, u64), Cached>,
    /// The paging-structure cache: which leaf table serves 2 MiB, and whether writing through it is allowed.
    leaves: BTreeMap<(Frame, u64), (Frame, bool)>,
    /// The same for directories, by 1 GiB.
    directories: BTreeMap<(Frame, u64), (Frame, bool)>,
    /// The accessed bits.
    accessed: BTreeSet<(Frame, u64)>,
    pub(super) effort: Effort,
}

impl MockMachine {
    pub(crate) fn new(frames: u32) -> Self {
        let frames = (0..frames).map(|_| Content::Garbage).collect();
        let (tlb, leaves, directories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { frames, tlb, leaves, directories, accessed: BTreeSet::new(), effort: Effort::default() }
    }

    pub(super) fn fill(&mut self, frame: Frame, value: u8) {
        self.frames[frame.0 as usize] = Content::Bytes(Box::new([value; PAGE]));
    }

    pub(crate) fn byte(&self, frame: Frame, offset: usize) -> u8 {
        self.bytes(frame)[offset]
    }

    pub(super) fn set_byte(&mut self, frame: Frame, offset: usize, value: u8) {
        self.bytes_mut(frame)[offset] = value;
    }

    pub(super) fn bytes(&self, frame: Frame) -> &[u8; PAGE] {
        match &self.frames[frame.0 as usize] {
            Content::Bytes(bytes) => bytes,
            Content::Zeros => &ZEROS,
            Content::Garbage => panic!("{frame:?} is read before it was filled"),
            Content::Table(_) => panic!("{frame:?} is a page table and read as bytes"),
        }
    }

    fn bytes_mut(&mut self, frame: Frame) -> &mut [u8; PAGE] {
        let content = &mut self.frames[frame.0 as usize];
        if matches!(content, Content::Zeros) {
            *content = Content::Bytes(Box::new(ZEROS));
        }
        match content {
            Content::Bytes(bytes) => bytes,
            Content::Zeros => unreachable!(),
            Content::Garbage => panic!("{frame:?} is written in part before it was filled"),
            Content::Table(_) => panic!("{frame:?} is a page table and written as bytes"),
        }
    }

    /// What a processor running the space with this root does for an access; `None` is a page fault.
    pub(super) fn translate(&mut self, root: Frame, page: u64, kind: FaultKind) -> Option<Frame> {
        let cached = match self.tlb.get(&(root, page)) {
            Some(cached) => Some(*cached),
            None => self.walk(root, page),
        };
        let allowed = cached.filter(|Cached { access, .. }| match kind {
            FaultKind::Read => true,
            FaultKind::Write => access.write,
            FaultKind::Execute => access.execute,
        });
        if allowed.is_none() {
            // A fault makes the processor forget what it knew of the address (Intel SDM vol. 3A, 4.10.4.1).
            self.tlb.remove(&(root, page));
            self.leaves.remove(&(root, page / 512));
            self.directories.remove(&(root, page / (512 * 512)));
        }
        if allowed.is_some() {
            self.accessed.insert((root, page));
        }
        allowed.map(|Cached { frame, .. }| frame)
    }

    fn walk(&mut self, root: Frame, page: u64) -> Option<Cached> {
        let leaf = match self.leaves.get(&(root, page / 512)) {
            Some(leaf) => *leaf,
            None => {
                let directory = match self.directories.get(&(root, page / (512 * 512))) {
                    Some(directory) => *directory,
                    None => self.table(root, page, 1)?,
                };
                self.directories.insert((root, page / (512 * 512)), directory);
                self.next(directory, page, 1)?
            }
        };
        self.leaves.insert((root, page / 512), leaf);
        let (table, writable) = leaf;
        let Entry::Page { frame, mut access, .. } = self.read_entry(table, page as usize % 512) else { return None };
        access.write &= writable;
        let cached = Cached { frame, access };
        self.tlb.insert((root, page), cached);
        Some(cached)
    }

    /// The table of a level above a page, and whether writing through it is allowed.
    fn table(&self, root: Frame, page: u64, level: u32) -> Option<(Frame, bool)> {
        (level + 1..4).rev().try_fold((root, true), |table, above| self.next(table, page, above))
    }

    /// One step down.
    fn next(&self, (table, writable): (Frame, bool), page: u64, level: u32) -> Option<(Frame, bool)> {
        match self.read_entry(table, (page >> (9 * level)) as usize % 512) {
            Entry::Table { table, writable: below } => Some((table, writable && below)),
            Entry::Absent | Entry::Page { .. } => None,
        }
    }

    /// Everything cached must still be true, for the spaces that exist; for others nothing may be cached.
    pub(super) fn check_caches(&self, roots: &[(Frame, Id<Space>)], memory: &MemorySystem) {
        let space = |root| roots.iter().find(|(known, _)| *known == root).map(|(_, space)| *space);
        for ((root, page), Cached { frame, access }) in &self.tlb {
            let space = space(*root).expect("a translation of a space that is gone");
            memory.check_cached(space, *page, *frame, access.write);
        }
        let leaves = self.leaves.iter().map(|((root, group), table)| (*root, group * 512, 0, *table));
        let directories = self.directories.iter().map(|((root, group), table)| (*root, group * 512 * 512, 1, *table));
        for (root, page, level, (table, writable)) in leaves.chain(directories) {
            assert!(space(root).is_some(), "a table of a space that is gone is cached");
            let (real, really_writable) = self.table(root, page, level).expect("a table that is gone is cached");
            assert_eq!(table, real, "another table is cached for page {page:#x}");
            assert!(really_writable || !writable, "a table is cached as writable");
        }
    }
}

impl Machine for MockMachine {
    fn zero_frame(&mut self, frame: Frame) {
        self.effort.frames_filled += 1;
        self.frames[frame.0 as usize] = Content::Zeros;
    }

    fn copy_frame(&mut self, from: Frame, to: Frame) {
        self.effort.frames_filled += 1;
        self.frames[to.0 as usize] = Content::Bytes(Box::new(*self.bytes(from)));
    }

    fn read_frame(&self, frame: Frame, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes(frame)[offset..offset + into.len()]);
    }

    fn write_frame(&mut self, frame: Frame, offset: usize, from: &[u8]) {
        self.bytes_mut(frame)[offset..offset + from.len()].copy_from_slice(from);
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), len: usize) {
        let bytes = self.bytes(from.0)[from.1..from.1 + len].to_vec();
        self.write_frame(to.0, to.1, &bytes);
    }

    fn read_entry(&self, table: Frame, index: usize) -> Entry {
        match &self.frames[table.0 as usize] {
            Content::Table(entries) => entries[index],
            Content::Zeros => Entry::Absent,
            Content::Bytes(_) => panic!("{table:?} is data and read as a page table"),
            Content::Garbage => panic!("{table:?} is garbage and read as a page table"),
        }
    }

    fn write_entry(&mut self, table: Frame, index: usize, entry: Entry) {
        self.effort.entries_written += 1;
        let content = &mut self.frames[table.0 as usize];
        match content {
            Content::Table(entries) => entries[index] = entry,
            Content::Zeros => {
                let mut entries = Box::new([Entry::Absent; TABLE_ENTRIES]);
                entries[index] = entry;
                *content = Content::Table(entries);
            }
            Content::Bytes(_) => panic!("{table:?} is data and written as a page table"),
            Content::Garbage => panic!("{table:?} is garbage and written as a page table"),
        }
    }

    fn copy_table_read_only(&mut self, from: Frame, to: Frame) {
        self.effort.tables_copied += 1;
        let mut entries = Box::new([Entry::Absent; TABLE_ENTRIES]);
        for (index, entry) in entries.iter_mut().enumerate() {
            *entry = self.read_entry(from, index);
            if let Entry::Page { access, .. } = entry {
                access.write = false;
            }
        }
        self.frames[to.0 as usize] = Content::Table(entries);
    }

    fn take_accessed(&mut self, root: Frame, page: u64) -> bool {
        self.accessed.remove(&(root, page))
    }

    fn init_root(&mut self, root: Frame) {
        // Something that is not the core's to touch.
        let entry = Entry::Page { frame: Frame(0), access: Access::default(), caching: Caching::WriteBack };
        self.write_entry(root, 511, entry);
    }

    fn invalidate(&mut self, root: Frame, page: u64, pages: u64) {
        let end = page.saturating_add(pages);
        self.tlb.retain(|(known, at), _| *known != root || *at < page || *at >= end);
        // Like INVLPG: of the levels above, everything is forgotten.
        self.leaves.retain(|(known, _), _| *known != root);
        self.directories.retain(|(known, _), _| *known != root);
    }
}
