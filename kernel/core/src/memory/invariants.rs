//! What always holds, as code: for tests and debug kernels.
//!
//! All of it is recounted from the objects: who refers to every frame and node, who pays for what, that no page table
//! shows more than regions and overlays allow, and that lists and trees are in order.

use alloc::collections::{BTreeMap, BTreeSet};

use quire_abi::space::Protection;

use super::MemorySystem;
use super::cache::{Counts, PageCache};
use super::nodes::NodeId;
use super::object::{Content, Memory, Tenure, frame_at};
use super::overlay::{Overlay, Page};
use super::pages::Writing;
use super::region::{Region, Sharing};
use super::space::{END_PAGE, Space};
use super::swap_slots::SwapSlots;
use super::tables::{self, Shown};
use crate::account::{ACCOUNT_BYTES, Account, Usage};
use crate::machine::{Entry, Frame, Machine, TABLE_ENTRIES};
use crate::pool::Id;

/// Who refers to what, recounted.
#[derive(Default)]
struct Census {
    frames: BTreeMap<Frame, u32>,
    nodes: BTreeMap<NodeId, u32>,
    /// Page tables whose entries have been counted: shared ones are met more than once.
    tables: BTreeSet<Frame>,
    /// Kernel bytes by account, without descendants.
    bytes: BTreeMap<Id<Account>, u64>,
}

impl Census {
    fn frame(&mut self, frame: Frame) {
        *self.frames.entry(frame).or_default() += 1;
    }

    fn pays(&mut self, account: Id<Account>, bytes: u64) {
        *self.bytes.entry(account).or_default() += bytes;
    }
}

impl MemorySystem {
    /// Panics if anything is not as it always must be. Expensive: visits everything.
    pub fn check_invariants(&self, m: &impl Machine) {
        self.check_and_count(m, &[], &[]);
    }

    /// The same, when these pages are mapped for devices (which memory had them, and the frame) with these tables; then the bytes of the kernel's heap
    /// that memory in all its forms has, and accounts have, by who pays, without descendants.
    pub(crate) fn check_and_count(
        &self,
        m: &impl Machine,
        pins: &[(Id<Memory>, Frame)],
        tables: &[Frame],
    ) -> BTreeMap<Id<Account>, u64> {
        let mut census = Census::default();
        census.frame(self.zero);
        self.check_pins(pins, &mut census);
        tables.iter().for_each(|table| census.frame(*table));
        for (id, memory) in self.memories.iter() {
            self.check_memory(id, memory, &mut census);
        }
        if let Some(id) = self.swap_memory() {
            census.pays(self.memories[id].account, SwapSlots::cost(self.frames.swap.len(), self.frames.end()));
        }
        for (id, space) in self.spaces.iter() {
            self.check_space(m, id, space, &mut census);
        }
        self.check_cached_counts();
        self.check_counts(&census);
        self.check_accounts(&census);
        for (_, account) in self.accounts.iter() {
            if let Some(parent) = account.parent() {
                census.pays(parent, ACCOUNT_BYTES);
            }
        }
        census.bytes
    }

    /// What is cached of a page must be something that the regions allow and the overlays have. For whoever
    /// simulates the processor's caches.
    pub fn check_cached(&self, id: Id<Space>, page: u64, frame: Frame, writable: bool) {
        let space = &self.spaces[id];
        let region = space.regions.find(page).map(|slot| *space.regions.region(slot));
        assert!(region.is_some(), "page {page:#x} is cached but not mapped");
        let Some(region) = region else { return };
        assert!(!region.access.is_empty(), "page {page:#x} is cached but not accessible");
        let (truth, writing) = self.truth(space, &region, page);
        assert_eq!(truth, Some(frame), "page {page:#x} of {id:?} shows another frame than it has");
        if writable {
            assert!(region.access.contains(Protection::WRITE), "page {page:#x} is writable against its region");
            assert_eq!(writing, Writing::InPlace, "page {page:#x} is writable but shared");
        }
    }

    /// The frame that a page should show if it shows one, and whether it may be writable.
    fn truth(&self, space: &Space, region: &Region, page: u64) -> (Option<Frame>, Writing) {
        let below = || match region.backing_page(page) {
            None => Some((self.zero, Writing::AfterCopy)),
            Some((id, page)) => self.page_to_read(id, page).ok().flatten().map(|view| (view.frame, view.writing)),
        };
        let found = match region.sharing {
            Sharing::Shared => below(),
            Sharing::Private => match space.private.page(&self.nodes, &self.frames, page) {
                // What is the same as in swap must not be stored to unseen.
                Page::Owned(frame) if self.frames.swap.kept_for(frame).is_some() => Some((frame, Writing::AfterCopy)),
                Page::Owned(frame) => Some((frame, Writing::InPlace)),
                Page::Shared(frame) => Some((frame, Writing::AfterCopy)),
                Page::Swapped { .. } => None,
                Page::Absent => below().map(|(frame, _)| (frame, Writing::AfterCopy)),
            },
        };
        (found.map(|(frame, _)| frame), found.map_or(Writing::AfterCopy, |(_, writing)| writing))
    }

    fn check_memory(&self, id: Id<Memory>, memory: &Memory, census: &mut Census) {
        assert!(memory.references > 0, "memory {id:?} without references");
        census.pays(memory.account, size_of::<Memory>() as u64);
        match &memory.content {
            Content::Pages { overlay, .. } => self.check_overlay(overlay, census),
            Content::Managed(managed) => self.check_cache(&managed.cache, census),
            Content::Direct { first, tenure: Tenure::Own, .. } => {
                (0..memory.pages()).for_each(|page| census.frame(frame_at(*first, page)));
            }
            Content::Direct { tenure: Tenure::Machine, .. } => {}
            Content::Window(slice) => {
                if let Some(slice) = slice {
                    let siblings = self.windows_of(slice.parent).filter(|window| *window == id).count();
                    assert_eq!(siblings, 1, "window {id:?} is not in its parent's list");
                }
            }
        }
        let mut previous = None;
        let mut cursor = memory.mappings;
        let mut holders = self.windows_of(id).count();
        while let Some(place) = cursor {
            let regions = &self.spaces[place.space].regions;
            assert_eq!(regions.region(place.slot).backing.memory(), Some(id), "a mapping of something else");
            assert_eq!(regions.link(place.slot).previous, previous, "the list of mappings is broken");
            previous = Some(place);
            cursor = regions.link(place.slot).next;
            holders += 1;
        }
        assert!(memory.references as usize >= holders, "memory {id:?} has more holders than references");
        let mapped: usize = self
            .spaces
            .iter()
            .map(|(_, space)| space.regions.iter().filter(|(_, region)| region.backing.memory() == Some(id)).count())
            .sum();
        assert_eq!(mapped + self.windows_of(id).count(), holders, "a region is not in its memory's list");
    }

    fn windows_of(&self, id: Id<Memory>) -> impl Iterator<Item = Id<Memory>> {
        core::iter::successors(self.memories[id].windows, |window| self.slice(*window)?.next)
    }

    fn check_space(&self, m: &impl Machine, id: Id<Space>, space: &Space, census: &mut Census) {
        assert!(space.references > 0, "space {id:?} without references");
        let bytes = size_of::<Space>() as u64
            + (space.regions.len() as u64 + u64::from(space.spare_regions)) * super::regions::RegionTree::BYTES;
        census.pays(space.account, bytes);
        space.regions.check();
        self.check_overlay(&space.private, census);
        let mut cursor = 0;
        while let Some((page, _)) = space.private.next(&self.nodes, cursor, u64::MAX) {
            let region = space.regions.find(page).map(|slot| space.regions.region(slot));
            let private = region.is_some_and(|region| region.sharing == Sharing::Private);
            assert!(private, "private page {page:#x} outside of private regions");
            cursor = page + 1;
        }
        census.frame(space.root);
        self.check_tables(m, id, (space.root, 3), (0, true), census);
    }

    /// Checks a table of user space and what is below it.
    fn check_tables(
        &self,
        m: &impl Machine,
        id: Id<Space>,
        (table, level): (Frame, u32),
        (base, writable): (u64, bool),
        census: &mut Census,
    ) {
        let unit = 1u64 << (9 * level);
        if level > 0 {
            let lower = |at: &usize| matches!(m.read_entry(table, *at), Entry::Table { .. });
            let count = (0..TABLE_ENTRIES).take_while(|at| base + *at as u64 * unit < END_PAGE).filter(lower).count();
            assert_eq!(usize::from(self.frames.tables(table)), count, "a table counts the tables below it wrong");
        }
        if level < 3 {
            let used = self.spaces[id].regions.first_in(base, base + unit * TABLE_ENTRIES as u64);
            assert!(used.is_some(), "a page table where no region is");
        }
        let first_visit = census.tables.insert(table);
        for at in 0..TABLE_ENTRIES {
            let page = base + at as u64 * unit;
            if page >= END_PAGE {
                return;
            }
            match m.read_entry(table, at) {
                Entry::Absent => {}
                Entry::Page { frame, access, caching } => {
                    assert_eq!(level, 0);
                    let effective = access.write && writable;
                    let shown = tables::translate(m, self.spaces[id].root, page);
                    let expected =
                        Shown { frame, caching, access: crate::machine::Access { write: effective, ..access } };
                    assert_eq!(shown, Some(expected), "translation of {page:#x}");
                    self.check_cached(id, page, frame, effective);
                    if access.execute {
                        let region =
                            self.spaces[id].regions.find(page).map(|slot| self.spaces[id].regions.region(slot));
                        assert!(region.is_some_and(|region| region.access.contains(Protection::EXECUTE)));
                    }
                }
                Entry::Table { table: child, writable: below } => {
                    assert!(level > 0);
                    if first_visit {
                        census.frame(child);
                    }
                    if self.frames.references(child) > 1 {
                        assert!(level <= 2 && !(writable && below), "a shared table that can be written through");
                    }
                    self.check_tables(m, id, (child, level - 1), (page, writable && below), census);
                }
            }
        }
    }

    fn check_overlay(&self, overlay: &Overlay, census: &mut Census) {
        if let Some(pages) = overlay.known_pages() {
            assert_eq!(pages, overlay.count(&self.nodes, 0, u64::MAX), "an overlay counts its pages wrong");
        }
        let Some((root, height)) = overlay.root() else { return };
        self.check_node(root, height, census);
    }

    /// Devices hold a reference for each page that is mapped for them, and memories know how many of theirs are.
    fn check_pins(&self, pins: &[(Id<Memory>, Frame)], census: &mut Census) {
        pins.iter().for_each(|(_, frame)| census.frame(*frame));
        for (id, memory) in self.memories.iter() {
            let expected = pins.iter().filter(|(owner, _)| *owner == id).count();
            assert_eq!(memory.device_pins as usize, expected, "pages of {id:?} that devices have");
        }
        for (_, frame) in pins {
            let expected = pins.iter().filter(|(_, other)| other == frame).count();
            assert_eq!(usize::from(self.frames.pins(*frame)), expected, "pins of {frame:?}");
        }
    }

    fn check_cached_counts(&self) {
        let each = self.memories.iter().filter_map(|(id, _)| self.managed(id)).map(|managed| managed.cache.counts());
        let sum = each.fold(Counts::default(), |sum, counts| Counts {
            resident: sum.resident + counts.resident,
            unwritten: sum.unwritten + counts.unwritten,
            writing: sum.writing + counts.writing,
        });
        assert_eq!(self.cached, sum, "cached pages of all memories");
    }

    fn check_cache(&self, cache: &PageCache, census: &mut Census) {
        cache.check(&self.nodes);
        let Some((root, height)) = cache.root() else { return };
        self.check_cache_nodes(root, height, census);
        let mut at = 0;
        while let Some((page, state)) = cache.next(&self.nodes, at, u64::MAX) {
            if let Some(frame) = state.frame() {
                census.frame(frame);
                assert_eq!(self.frames.references(frame), 1, "the frame of a cached page is somebody else's too");
            }
            at = page + 1;
        }
    }

    fn check_cache_nodes(&self, id: NodeId, height: u32, census: &mut Census) {
        *census.nodes.entry(id).or_default() += 1;
        let node = &self.nodes[id];
        if let Some(owner) = node.owner() {
            census.pays(owner, size_of::<super::nodes::Node>() as u64);
        }
        for child in (0..super::nodes::SLOTS).filter(|_| height > 1).filter_map(|slot| node.child(slot)) {
            self.check_cache_nodes(child, height - 1, census);
        }
    }

    fn check_node(&self, id: NodeId, height: u32, census: &mut Census) {
        let seen = census.nodes.entry(id).or_default();
        *seen += 1;
        if *seen > 1 {
            return;
        }
        let node = &self.nodes[id];
        let occupied = node.slots.iter().rev().fold(0, |bits, raw| bits << 1 | u64::from(*raw != 0));
        assert_eq!(node.occupied, occupied, "node {id:?} notes its slots wrong");
        assert!(occupied != 0, "node {id:?} is empty");
        if let Some(owner) = node.owner() {
            census.pays(owner, size_of::<super::nodes::Node>() as u64);
        }
        for slot in 0..super::nodes::SLOTS {
            match (height, node.child(slot), node.frame(slot)) {
                (1, _, Some(frame)) => census.frame(frame),
                (2.., Some(child), _) => self.check_node(child, height - 1, census),
                _ => {}
            }
        }
    }

    fn check_counts(&self, census: &Census) {
        assert_eq!(census.nodes.len(), self.nodes.len(), "nodes that nobody refers to");
        for (id, count) in &census.nodes {
            assert_eq!(self.nodes[*id].references, *count, "references of node {id:?}");
        }
        for (frame, references, owner) in self.frames.used() {
            match census.frames.get(&frame) {
                Some(count) => assert_eq!(references, *count, "references of {frame:?}"),
                // What the kernel took for itself is not recorded anywhere.
                None => assert!(references == 1 && owner == self.root_account, "{frame:?} is nobody's"),
            }
        }
        for (slot, references, _) in self.frames.swap.iter() {
            assert_eq!(census.frames.get(&slot.number()), Some(&references), "references of {slot:?}");
        }
        assert_eq!(self.frames.swap.iter_kept().count() as u64, self.frames.swap.kept(), "slots that are kept");
        for (slot, frame) in self.frames.swap.iter_kept() {
            assert!(self.frames.references(frame) > 0, "{slot:?} is kept for a free frame");
            assert_eq!(self.frames.swap.references(slot), 0, "{slot:?} is kept, and somebody's");
        }
        let used = self.frames.used().count() as u64;
        assert_eq!(self.frames.total(), used + self.frames.free(), "frames are missing");
        assert!(census.frames.keys().all(|frame| self.frames.references(*frame) > 0), "a free frame is in use");
    }

    /// Every account counts the frames and nodes of itself and its descendants (and perhaps bytes of other objects).
    fn check_accounts(&self, census: &Census) {
        let mut expected: BTreeMap<Id<Account>, Usage> = BTreeMap::new();
        let mut add = |payer: Id<Account>, frames: u64, bytes: u64| {
            let mut cursor = Some(payer);
            while let Some(id) = cursor {
                let usage = expected.entry(id).or_default();
                usage.frames += frames;
                usage.kernel_bytes += bytes;
                cursor = self.accounts.get(id).and_then(Account::parent);
            }
        };
        self.frames.used().for_each(|(_, _, owner)| add(owner, 1, 0));
        self.frames.swap.iter().for_each(|(_, _, owner)| add(owner, 1, 0));
        census.bytes.iter().for_each(|(owner, bytes)| add(*owner, 0, *bytes));
        for (id, account) in self.accounts.iter() {
            let expected = expected.get(&id).copied().unwrap_or_default();
            assert_eq!(account.used().frames, expected.frames, "frames charged to {id:?}");
            assert!(account.used().kernel_bytes >= expected.kernel_bytes, "kernel bytes charged to {id:?}");
        }
    }
}
