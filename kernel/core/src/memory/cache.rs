//! The page cache of one managed memory: a radix tree from page index to the state of the page.
//!
//! Built of the same nodes as an overlay, but never shared: every node has one reference. A slot of a node of height 1
//! holds a [`CachedPage`], encoded in 32 bits. Nodes also carry *marks*, a bit per slot and kind of work, which say on every
//! level whether there is such work below; finding the next page that is wanted, or dirty, is a walk down and not a scan.
//!
//! A page that is [`CachedPage::Missing`] has no slot. Changing the state of a page that has one needs no memory, so that
//! nothing that makes memory free can fail for want of it.

use super::Exhausted;
use super::nodes::{Mark, NodeId, Nodes, SLOT_BITS, SLOTS};
use super::overlay::{MAX_PAGES, height_for, slot_of, span};
use crate::account::{Account, Accounts};
use crate::machine::Frame;
use crate::pool::Id;

const MAX_HEIGHT: usize = 6;

/// Bits of a slot that hold the frame's number; the rest is the state.
const FRAME_BITS: u32 = 29;
const FRAME_MASK: u32 = (1 << FRAME_BITS) - 1;

/// **The life of a page of a managed memory.**
///
/// ```text
///                 fault              receive             supply
///     Missing ───────────▶ Wanted ───────────▶ Requested ───────▶ Clean
///        ▲ ▲                  │ fail               │ fail         │  ▲
///        │ └──────────────────┴────────────────────┘        store │  │ written
///        │                                                        ▼  │
///        │ evict, invalidate                 receive            Dirty│
///        └───────────────── Clean            (writeback) ┌────────┤  │
///                                                        ▼  fail  │  │
///                                                   WritingBack ──┴──┤
///                                                        │ store     │
///                                                        ▼           │
///                                               WritingBackDirtied ──┘ written: Dirty
/// ```
///
/// A page may be supplied that nobody wanted yet (read-ahead). Only a *dirty* page ([`CachedPage::Dirty`] and
/// [`CachedPage::WritingBackDirtied`]) is ever shown writable: the first store to any other faults, and that is how the
/// kernel learns of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CachedPage {
    /// The pager would have to be asked.
    #[default]
    Missing,
    /// Somebody waits for it; the pager has not been told.
    Wanted,
    /// The pager has been told.
    Requested,
    /// As the pager supplied it, or as it was last written back.
    Clean(Frame),
    /// Changed since.
    Dirty(Frame),
    /// The pager is writing it back; not changed since it began.
    WritingBack(Frame),
    /// The pager is writing it back, and it was changed since that began.
    WritingBackDirtied(Frame),
}

impl CachedPage {
    /// The frame, if the page is there.
    pub(super) fn frame(self) -> Option<Frame> {
        match self {
            Self::Missing | Self::Wanted | Self::Requested => None,
            Self::Clean(frame) | Self::Dirty(frame) | Self::WritingBack(frame) | Self::WritingBackDirtied(frame) => {
                Some(frame)
            }
        }
    }

    /// Whether a store has been seen that the pager does not have yet, other than those it is writing back.
    pub(super) fn is_dirty(self) -> bool {
        match self {
            Self::Dirty(_) | Self::WritingBackDirtied(_) => true,
            Self::Missing | Self::Wanted | Self::Requested | Self::Clean(_) | Self::WritingBack(_) => false,
        }
    }

    /// Whether losing the frame would lose a store.
    pub(super) fn is_unwritten(self) -> bool {
        match self {
            Self::Dirty(_) | Self::WritingBack(_) | Self::WritingBackDirtied(_) => true,
            Self::Missing | Self::Wanted | Self::Requested | Self::Clean(_) => false,
        }
    }

    /// What there is to do about the page.
    fn mark(self) -> Option<Mark> {
        match self {
            Self::Wanted => Some(Mark::Wanted),
            Self::Dirty(_) => Some(Mark::Dirty),
            Self::Clean(_) => Some(Mark::Clean),
            Self::Requested | Self::WritingBack(_) | Self::WritingBackDirtied(_) => Some(Mark::UnderWay),
            Self::Missing => None,
        }
    }

    /// Whether the frame's number fits a slot.
    pub(super) fn can_hold(frame: Frame) -> bool {
        frame.0 <= FRAME_MASK
    }

    fn encode(self) -> u32 {
        let (tag, number) = match self {
            Self::Missing => return 0,
            Self::Wanted => (1, 0),
            Self::Requested => (2, 0),
            Self::Clean(frame) => (3, frame.0),
            Self::Dirty(frame) => (4, frame.0),
            Self::WritingBack(frame) => (5, frame.0),
            Self::WritingBackDirtied(frame) => (6, frame.0),
        };
        tag << FRAME_BITS | number & FRAME_MASK
    }

    fn decode(raw: u32) -> Self {
        let frame = Frame(raw & FRAME_MASK);
        match raw >> FRAME_BITS {
            1 => Self::Wanted,
            2 => Self::Requested,
            3 => Self::Clean(frame),
            4 => Self::Dirty(frame),
            5 => Self::WritingBack(frame),
            6 => Self::WritingBackDirtied(frame),
            _ => Self::Missing,
        }
    }
}

/// How many pages are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Those that have a frame.
    pub(super) resident: u64,
    /// Those of them whose loss would lose a store.
    pub(super) unwritten: u64,
    /// Those that the pager is writing back.
    pub(super) writing: u64,
}

impl Counts {
    fn of(page: CachedPage) -> Self {
        let writing = match page {
            CachedPage::WritingBack(_) | CachedPage::WritingBackDirtied(_) => true,
            CachedPage::Missing
            | CachedPage::Wanted
            | CachedPage::Requested
            | CachedPage::Clean(_)
            | CachedPage::Dirty(_) => false,
        };
        Self { resident: page.frame().is_some().into(), unwritten: page.is_unwritten().into(), writing: writing.into() }
    }

    /// One page was in one state and is in another.
    pub(super) fn exchange(&mut self, old: CachedPage, new: CachedPage) {
        let (old, new) = (Self::of(old), Self::of(new));
        self.resident = self.resident + new.resident - old.resident;
        self.unwritten = self.unwritten + new.unwritten - old.unwritten;
        self.writing = self.writing + new.writing - old.writing;
    }
}

/// Where nodes come from and who counts them.
pub(super) struct CacheStore<'a> {
    pub(super) accounts: &'a mut Accounts,
    pub(super) nodes: &'a mut Nodes,
}

/// The states of a memory's pages. Must be emptied before it is dropped.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    root: Option<NodeId>,
    /// The height of the root; 0 exactly if there is none.
    height: u32,
    counts: Counts,
}

impl PageCache {
    /// A cache in which every page is missing.
    pub(super) const fn new() -> Self {
        Self { root: None, height: 0, counts: Counts { resident: 0, unwritten: 0, writing: 0 } }
    }

    /// How many pages are in which state.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The state of a page.
    pub(super) fn get(&self, nodes: &Nodes, index: u64) -> CachedPage {
        match self.leaf(nodes, index) {
            Some(leaf) => CachedPage::decode(nodes[leaf].slots[slot_of(index, 1)]),
            None => CachedPage::Missing,
        }
    }

    /// The node of height 1 that has a page, if there is one.
    fn leaf(&self, nodes: &Nodes, index: u64) -> Option<NodeId> {
        let mut node = self.root.filter(|_| index < span(self.height))?;
        for height in (2..=self.height).rev() {
            node = nodes[node].child(slot_of(index, height))?;
        }
        Some(node)
    }

    /// Notes that a page was used.
    pub(super) fn note_use(&self, nodes: &mut Nodes, index: u64) {
        if let Some(leaf) = self.leaf(nodes, index) {
            nodes[leaf].recent |= 1 << slot_of(index, 1);
        }
    }

    /// Whether a page was used, or changed its state, since this was last asked.
    pub(super) fn take_recent(&self, nodes: &mut Nodes, index: u64) -> bool {
        let Some(leaf) = self.leaf(nodes, index) else { return false };
        let bit = 1 << slot_of(index, 1);
        let was_recent = nodes[leaf].recent & bit != 0;
        nodes[leaf].recent &= !bit;
        was_recent
    }

    /// Changes the state of a page, and returns what it was. References to frames are the caller's business.
    ///
    /// # Errors
    /// If the page was missing, and `payer` can't pay for the nodes or there is no memory for them; nothing has changed then.
    pub(super) fn set(
        &mut self,
        store: &mut CacheStore<'_>,
        payer: Id<Account>,
        index: u64,
        page: CachedPage,
    ) -> Result<CachedPage, Exhausted> {
        debug_assert!(index < MAX_PAGES);
        if page == CachedPage::Missing && self.get(store.nodes, index) == CachedPage::Missing {
            return Ok(CachedPage::Missing);
        }
        self.make_way(store, payer, index)?;
        let mut path = [None; MAX_HEIGHT + 1];
        let mut cursor = self.root;
        for height in (1..=self.height).rev() {
            path[height as usize] = cursor;
            cursor = cursor.filter(|_| height > 1).and_then(|node| store.nodes[node].child(slot_of(index, height)));
        }
        let Some(leaf) = path[1] else { return Ok(CachedPage::Missing) };
        let slot = slot_of(index, 1);
        let old = CachedPage::decode(store.nodes[leaf].slots[slot]);
        store.nodes.set(leaf, slot, page.encode());
        self.counts.exchange(old, page);
        store.nodes[leaf].recent |= 1 << slot;
        for mark in Mark::ALL {
            store.nodes.mark(leaf, slot, mark, page.mark() == Some(mark));
        }
        self.settle_path(store, &path, index);
        Ok(old)
    }

    /// Makes the nodes on the way to an index.
    fn make_way(&mut self, store: &mut CacheStore<'_>, payer: Id<Account>, index: u64) -> Result<(), Exhausted> {
        let mut missing = self.missing_nodes(store.nodes, index);
        if missing == 0 {
            return Ok(());
        }
        store.nodes.reserve(missing)?;
        store.nodes.charge(store.accounts, payer, missing)?;
        let mut take = |nodes: &mut Nodes| {
            missing -= 1;
            nodes.take(payer)
        };
        let needed = height_for(index);
        let Some(mut root) = self.root else {
            self.height = needed;
            let mut node = take(store.nodes);
            self.root = Some(node);
            for height in (2..=needed).rev() {
                let child = take(store.nodes);
                store.nodes.set(node, slot_of(index, height), child.raw());
                node = child;
            }
            return Ok(());
        };
        while self.height < needed {
            let top = take(store.nodes);
            store.nodes.set(top, 0, root.raw());
            for mark in Mark::ALL {
                let any = store.nodes[root].marked(mark) != 0;
                store.nodes.mark(top, 0, mark, any);
            }
            root = top;
            self.root = Some(top);
            self.height += 1;
        }
        let mut node = root;
        for height in (2..=self.height).rev() {
            let slot = slot_of(index, height);
            node = match store.nodes[node].child(slot) {
                Some(child) => child,
                None => {
                    let child = take(store.nodes);
                    store.nodes.set(node, slot, child.raw());
                    child
                }
            };
        }
        Ok(())
    }

    fn missing_nodes(&self, nodes: &Nodes, index: u64) -> usize {
        let Some(mut node) = self.root else { return height_for(index) as usize };
        if index >= span(self.height) {
            // One for every level that is added above, and the way down beside the old root.
            let needed = height_for(index);
            return (needed - self.height + needed - 1) as usize;
        }
        for height in (2..=self.height).rev() {
            match nodes[node].child(slot_of(index, height)) {
                Some(child) => node = child,
                None => return height as usize - 1,
            }
        }
        0
    }

    /// After a change of a leaf: frees nodes of the path that are empty, and carries marks up.
    fn settle_path(&mut self, store: &mut CacheStore<'_>, path: &[Option<NodeId>; MAX_HEIGHT + 1], index: u64) {
        for height in 1..=self.height {
            let Some(node) = path[height as usize] else { return };
            let is_empty = store.nodes[node].occupied == 0;
            let above = path.get(height as usize + 1).copied().flatten().filter(|_| height < self.height);
            let Some(above) = above else {
                if is_empty {
                    store.nodes.free(store.accounts, node);
                    self.root = None;
                    self.height = 0;
                }
                return;
            };
            let slot = slot_of(index, height + 1);
            for mark in Mark::ALL {
                let any = store.nodes[node].marked(mark) != 0;
                store.nodes.mark(above, slot, mark, any);
            }
            if is_empty {
                store.nodes.set(above, slot, 0);
                store.nodes.free(store.accounts, node);
            }
        }
    }

    /// The first page at or after `start` and before `end` that is not missing.
    pub(super) fn next(&self, nodes: &Nodes, start: u64, end: u64) -> Option<(u64, CachedPage)> {
        self.next_of(nodes, None, start, end)
    }

    /// The first page at or after `start` and before `end` about which there is this to do.
    pub(super) fn next_marked(&self, nodes: &Nodes, mark: Mark, start: u64, end: u64) -> Option<(u64, CachedPage)> {
        self.next_of(nodes, Some(mark), start, end)
    }

    fn next_of(&self, nodes: &Nodes, mark: Option<Mark>, start: u64, end: u64) -> Option<(u64, CachedPage)> {
        let end = end.min(span(self.height));
        next_below(nodes, self.root.filter(|_| start < end)?, self.height, mark, (start, end))
    }

    /// The first page of a range with one of several marks.
    pub(super) fn next_of_marks(
        &self,
        nodes: &Nodes,
        marks: &[Mark],
        start: u64,
        end: u64,
    ) -> Option<(u64, CachedPage)> {
        marks.iter().filter_map(|mark| self.next_marked(nodes, *mark, start, end)).min_by_key(|(index, _)| *index)
    }

    /// The root and its height, for whoever checks the counts.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn root(&self) -> Option<(NodeId, u32)> {
        self.root.map(|root| (root, self.height))
    }

    /// Panics if marks or counts are wrong.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn check(&self, nodes: &Nodes) {
        let mut counts = Counts::default();
        if let Some(root) = self.root {
            check_below(nodes, root, self.height, &mut counts);
        }
        assert_eq!(self.counts, counts, "a cache counts its pages wrong");
    }
}

fn next_below(
    nodes: &Nodes,
    id: NodeId,
    height: u32,
    mark: Option<Mark>,
    (start, end): (u64, u64),
) -> Option<(u64, CachedPage)> {
    let node = &nodes[id];
    let unit = 1 << ((height - 1) * SLOT_BITS);
    let candidates = mark.map_or(node.occupied, |mark| node.marked(mark));
    let mut left = candidates & (u64::MAX << (start / unit).min(SLOTS as u64 - 1));
    while left != 0 {
        let slot = left.trailing_zeros() as u64;
        left &= left - 1;
        let base = slot * unit;
        if base >= end {
            return None;
        }
        if height == 1 {
            return Some((slot, CachedPage::decode(node.slots[slot as usize])));
        }
        let inside = (start.saturating_sub(base), (end - base).min(unit));
        let found = node
            .child(slot as usize)
            .filter(|_| inside.0 < inside.1)
            .and_then(|child| next_below(nodes, child, height - 1, mark, inside));
        if let Some((index, page)) = found {
            return Some((base + index, page));
        }
    }
    None
}

#[cfg(any(test, debug_assertions))]
fn check_below(nodes: &Nodes, id: NodeId, height: u32, counts: &mut Counts) {
    let node = &nodes[id];
    assert_eq!(node.references, 1, "a node of a cache is shared");
    assert!(node.occupied != 0, "a node of a cache is empty");
    for slot in 0..SLOTS {
        assert_eq!(node.occupied >> slot & 1 == 1, node.slots[slot] != 0, "a node of a cache notes its slots wrong");
        let child = node.child(slot).filter(|_| height > 1);
        let page = if height == 1 { CachedPage::decode(node.slots[slot]) } else { CachedPage::Missing };
        for mark in Mark::ALL {
            let below = child.map_or(page.mark() == Some(mark), |child| nodes[child].marked(mark) != 0);
            assert_eq!(node.marked(mark) >> slot & 1 == 1, below, "{mark:?} of slot {slot} at height {height}");
        }
        counts.exchange(CachedPage::Missing, page);
        if let Some(child) = child {
            check_below(nodes, child, height - 1, counts);
        }
    }
}

const _: () = assert!(SLOT_BITS == 6 && MAX_HEIGHT as u32 * SLOT_BITS <= 36);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Usage;
    use std::collections::BTreeMap;

    struct Rig {
        accounts: Accounts,
        payer: Id<Account>,
        nodes: Nodes,
        cache: PageCache,
    }

    impl Rig {
        fn new() -> Self {
            let mut accounts = Accounts::new();
            let payer = accounts.create(None, Usage::UNLIMITED).unwrap();
            Self { accounts, payer, nodes: Nodes::new(), cache: PageCache::new() }
        }

        fn set(&mut self, index: u64, page: CachedPage) -> CachedPage {
            let mut store = CacheStore { accounts: &mut self.accounts, nodes: &mut self.nodes };
            self.cache.set(&mut store, self.payer, index, page).unwrap()
        }
    }

    fn page(kind: u64, number: u32) -> CachedPage {
        match kind % 7 {
            0 => CachedPage::Missing,
            1 => CachedPage::Wanted,
            2 => CachedPage::Requested,
            3 => CachedPage::Clean(Frame(number)),
            4 => CachedPage::Dirty(Frame(number)),
            5 => CachedPage::WritingBack(Frame(number)),
            _ => CachedPage::WritingBackDirtied(Frame(number)),
        }
    }

    #[test]
    fn every_state_survives_its_encoding() {
        for kind in 0..7 {
            for number in [1, 77, FRAME_MASK] {
                let state = page(kind, number);
                assert_eq!(CachedPage::decode(state.encode()), state);
            }
        }
        assert!(CachedPage::can_hold(Frame(FRAME_MASK)) && !CachedPage::can_hold(Frame(FRAME_MASK + 1)));
    }

    #[test]
    fn an_empty_cache_has_no_nodes_and_a_full_one_gives_them_all_back() {
        let mut rig = Rig::new();
        for index in [0, 63, 64, 4095, 4096, MAX_PAGES - 1] {
            rig.set(index, CachedPage::Clean(Frame(5)));
        }
        rig.cache.check(&rig.nodes);
        assert_eq!(rig.cache.counts().resident, 6);
        for index in [4096, 0, MAX_PAGES - 1, 63, 64, 4095] {
            assert_eq!(rig.set(index, CachedPage::Missing), CachedPage::Clean(Frame(5)));
        }
        assert_eq!(rig.nodes.len(), 0);
        assert_eq!(rig.accounts.get(rig.payer).unwrap().used().kernel_bytes, 0);
    }

    #[test]
    fn who_cannot_pay_for_a_node_changes_nothing() {
        let mut rig = Rig::new();
        let poor = rig.accounts.create(None, Usage { frames: 0, kernel_bytes: 0 }).unwrap();
        let mut store = CacheStore { accounts: &mut rig.accounts, nodes: &mut rig.nodes };
        let refused = rig.cache.set(&mut store, poor, 70_000, CachedPage::Wanted);
        assert_eq!(refused, Err(Exhausted::AccountLimit));
        assert_eq!(rig.nodes.len(), 0);
        rig.set(3, CachedPage::Wanted);
        let mut store = CacheStore { accounts: &mut rig.accounts, nodes: &mut rig.nodes };
        assert!(rig.cache.set(&mut store, poor, 70_000, CachedPage::Wanted).is_err());
        // But what has a slot can change its state without paying.
        assert!(rig.cache.set(&mut store, poor, 3, CachedPage::Clean(Frame(9))).is_ok());
        rig.cache.check(&rig.nodes);
    }

    #[test]
    fn random_changes_agree_with_a_plain_map() {
        let mut rig = Rig::new();
        let mut model: BTreeMap<u64, CachedPage> = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let steps = if cfg!(miri) { 200 } else { 20_000 };
        for step in 0..steps {
            let index = match random() % 4 {
                0 => random() % 8,
                1 => random() % 200,
                2 => random() % 10_000,
                _ => random() % MAX_PAGES,
            };
            let new = page(random(), random() as u32 % 1000 + 1);
            let old = model.insert(index, new).unwrap_or_default();
            assert_eq!(rig.set(index, new), old);
            if new == CachedPage::Missing {
                model.remove(&index);
            }
            if step % 256 == 0 {
                rig.cache.check(&rig.nodes);
            }
            let start = random() % 10_000;
            let found = rig.cache.next(&rig.nodes, start, MAX_PAGES);
            assert_eq!(found, model.range(start..).next().map(|(at, page)| (*at, *page)));
            for mark in Mark::ALL {
                let end = start + random() % 20_000;
                let found = rig.cache.next_marked(&rig.nodes, mark, start, end);
                let expected = model.range(start..end).find(|(_, page)| page.mark() == Some(mark));
                assert_eq!(found, expected.map(|(at, page)| (*at, *page)), "{mark:?} from {start} to {end}");
            }
        }
    }
}
