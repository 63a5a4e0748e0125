//! Overlays: persistent radix trees from page index to frame.
//!
//! A tree has nodes of 64 slots. In a node of height 1 a slot holds a frame, above that a node; 0 means nothing. Nodes
//! and frames are counted: a node's count is the number of slots and [`Overlay`]s that point at it, a frame's the number
//! of slots that hold it. So [`Overlay::snapshot`] only counts the root once more, and what has a count above 1 *anywhere
//! on the path from the root* is shared and must not change. Writing copies the shared part of the path; where nothing is
//! shared, nothing is copied.
//!
//! The tree is as high as its highest index needs, so the overlay of a small file has one node. No node is ever empty.
//!
//! Nodes are paid for by the account of whoever makes them. Changes that must not fail half-way are paid for in advance
//! with a [`Prepaid`].

mod below;

use super::Exhausted;
use super::frames::FrameTable;
use super::nodes::{NodeId, Nodes, SLOT_BITS, SLOTS};
use super::swap_slots::SwapSlot;
use crate::account::{Account, Accounts};
use crate::machine::Frame;
use crate::pool::Id;
use below::{
    copy_node, count_below, next_below, occupied_in, own_child, release_node, removal_nodes_below, remove_below,
    slots_from_to,
};

/// The height of a tree that can hold every index.
const MAX_HEIGHT: u32 = 6;

/// Indices must be below this.
pub(super) const MAX_PAGES: u64 = 1 << (MAX_HEIGHT * SLOT_BITS);

/// The most nodes that removing a range can have to copy: the two edges of the range, on every level.
pub(super) const REMOVAL_NODES: usize = 2 * MAX_HEIGHT as usize;

/// Where pages and nodes come from, and who counts them.
pub(super) struct Stores<'a> {
    pub(super) accounts: &'a mut Accounts,
    pub(super) frames: &'a mut FrameTable,
    pub(super) nodes: &'a mut Nodes,
}

/// Nodes that are reserved and paid for but not made yet.
#[derive(Debug)]
pub(super) struct Prepaid {
    payer: Id<Account>,
    nodes: usize,
}

impl Prepaid {
    /// Nothing paid yet.
    pub(super) const fn new(payer: Id<Account>) -> Self {
        Self { payer, nodes: 0 }
    }

    /// Pays for `additional` more nodes.
    pub(super) fn add(&mut self, stores: &mut Stores<'_>, additional: usize) -> Result<(), Exhausted> {
        if additional != 0 {
            stores.nodes.reserve(self.nodes.saturating_add(additional))?;
            stores.nodes.charge(stores.accounts, self.payer, additional)?;
            self.nodes += additional;
        }
        Ok(())
    }

    /// How many nodes are paid for.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Gives back what was not used.
    pub(super) fn refund(self, stores: &mut Stores<'_>) {
        if self.nodes != 0 {
            stores.nodes.credit(stores.accounts, self.payer, self.nodes);
        }
    }

    fn take(&mut self, stores: &mut Stores<'_>) -> NodeId {
        debug_assert!(self.nodes > 0, "a change of an overlay was not paid for");
        self.nodes = self.nodes.saturating_sub(1);
        stores.nodes.take(self.payer)
    }
}

/// A page as an overlay has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The overlay has none.
    Absent,
    /// Only this overlay has the frame, and perhaps devices: it may be written.
    Owned(Frame),
    /// Another overlay may have it too: it must be copied before it is written.
    Shared(Frame),
    /// It was swapped out.
    Swapped {
        /// Where it is.
        slot: SwapSlot,
        /// No other overlay has it.
        alone: bool,
    },
}

/// A persistent map from page index to frame. Holds a reference on its root; must be given back with
/// [`Overlay::clear`].
#[derive(Debug)]
pub(super) struct Overlay {
    root: Option<NodeId>,
    /// The height of the root; 0 exactly if there is none.
    height: u32,
    /// The node of height 1 that was written last, if nothing on the path to it is shared. Neighbouring pages tend to be
    /// written one after the other, and this spares them the walk.
    last: Option<Leaf>,
    /// How many pages it has, if that is known: adding pages counts on, taking some out makes it unknown.
    pages: Option<u64>,
}

/// A node of height 1 whose whole path belongs to one overlay.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// The index of its slots, without the last digit.
    group: u64,
    node: NodeId,
}

impl Overlay {
    /// An overlay without pages.
    pub(super) const fn new() -> Self {
        Self { root: None, height: 0, last: None, pages: Some(0) }
    }

    /// Another overlay with the same pages. O(1): the root is shared.
    pub(super) fn snapshot(&mut self, nodes: &mut Nodes) -> Self {
        self.last = None;
        if let Some(root) = self.root {
            nodes.retain(root);
        }
        Self { root: self.root, height: self.height, last: None, pages: self.pages }
    }

    /// Whether it has no page.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The frame of a page. That of a page that was swapped out is none that could be shown.
    pub(super) fn lookup(&self, nodes: &Nodes, index: u64) -> Option<Frame> {
        let mut node = self.root?;
        if !covers(self.height, index) {
            return None;
        }
        for height in (2..=self.height).rev() {
            node = nodes[node].child(slot_of(index, height))?;
        }
        nodes[node].frame(slot_of(index, 1))
    }

    /// The frame of a page, and whether it is this overlay's alone.
    pub(super) fn page(&self, nodes: &Nodes, frames: &FrameTable, index: u64) -> Page {
        if let Some(leaf) = self.last_written(index) {
            return page_in(nodes, frames, leaf, index, false);
        }
        let Some(mut node) = self.root else { return Page::Absent };
        if !covers(self.height, index) {
            return Page::Absent;
        }
        let mut shared = nodes[node].references > 1;
        for height in (2..=self.height).rev() {
            let Some(child) = nodes[node].child(slot_of(index, height)) else { return Page::Absent };
            node = child;
            shared |= nodes[node].references > 1;
        }
        page_in(nodes, frames, node, index, shared)
    }

    /// Puts a frame at an index, handing over the caller's reference. Returns the frame that stood there, whose
    /// reference is now the caller's to release once no mapping shows it.
    ///
    /// # Errors
    /// If `payer` can't pay for the nodes or there is no memory for them; nothing has changed then.
    pub(super) fn insert(
        &mut self,
        stores: &mut Stores<'_>,
        payer: Id<Account>,
        index: u64,
        frame: Frame,
    ) -> Result<Option<Frame>, Exhausted> {
        if let Some(leaf) = self.last_written(index) {
            return Ok(self.put(stores.nodes, leaf, index, frame));
        }
        let mut prepaid = Prepaid::new(payer);
        let needed = self.insertion_nodes(stores.nodes, index);
        prepaid.add(stores, needed)?;
        let old = self.insert_prepaid(stores, &mut prepaid, index, frame);
        prepaid.refund(stores);
        Ok(old)
    }

    /// [`Overlay::insert`], paid for with at least [`Overlay::insertion_nodes`].
    pub(super) fn insert_prepaid(
        &mut self,
        stores: &mut Stores<'_>,
        prepaid: &mut Prepaid,
        index: u64,
        frame: Frame,
    ) -> Option<Frame> {
        debug_assert!(index < MAX_PAGES);
        self.raise(stores, prepaid, index);
        let mut node = self.own_root(stores, prepaid);
        for height in (2..=self.height).rev() {
            node = own_child(stores, prepaid, node, slot_of(index, height), height);
        }
        self.last = Some(Leaf { group: index >> SLOT_BITS, node });
        self.put(stores.nodes, node, index, frame)
    }

    /// Puts a frame into a node of height 1; returns what was there.
    #[inline]
    fn put(&mut self, nodes: &mut Nodes, node: NodeId, index: u64, frame: Frame) -> Option<Frame> {
        let slot = slot_of(index, 1);
        let old = nodes[node].frame(slot);
        nodes.set(node, slot, frame.0);
        if old.is_none() {
            self.pages = self.pages.map(|pages| pages + 1);
        }
        old
    }

    /// How many nodes [`Overlay::insert`] would make for this index.
    pub(super) fn insertion_nodes(&self, nodes: &Nodes, index: u64) -> usize {
        let Some(mut node) = self.root else { return height_for(index) as usize };
        if !covers(self.height, index) {
            let height = height_for(index);
            return (2 * height - self.height - 1) as usize;
        }
        let mut height = self.height;
        loop {
            if nodes[node].references > 1 {
                return height as usize;
            }
            height -= 1;
            match nodes[node].child(slot_of(index, height + 1)) {
                Some(child) if height > 0 => node = child,
                Some(_) | None => return height as usize,
            }
        }
    }

    /// How many nodes [`Overlay::remove`] would make: those at the edges of the range that are shared.
    pub(super) fn removal_nodes(&self, nodes: &Nodes, start: u64, end: u64) -> usize {
        self.root.map_or(0, |root| removal_nodes_below(nodes, root, self.height, false, start, end))
    }

    /// Takes out the pages from `start` to before `end`, releasing their frames. No mapping may show them any more.
    /// Paid for with at least [`Overlay::removal_nodes`].
    pub(super) fn remove(&mut self, stores: &mut Stores<'_>, prepaid: &mut Prepaid, start: u64, end: u64) {
        let Some(root) = self.root else { return };
        self.last = None;
        let end = end.min(span(self.height));
        if start >= end {
            return;
        }
        if start == 0 && end == span(self.height) {
            return self.clear(stores);
        }
        let is_shared = stores.nodes[root].references > 1;
        if is_shared && !occupied_in(stores.nodes, root, self.height, start, end) {
            return;
        }
        let root = self.own_root(stores, prepaid);
        if remove_below(stores, prepaid, root, self.height, (start, end)) {
            self.pages = None;
        }
        if stores.nodes[root].occupied == 0 {
            self.clear(stores);
        }
    }

    /// Whether a range that is not empty has no page, as far as the one way down to it tells.
    pub(super) fn is_vacant(&self, nodes: &Nodes, start: u64, end: u64) -> bool {
        let Some(mut node) = self.root else { return true };
        if !covers(self.height, start) {
            return true;
        }
        if !covers(self.height, end - 1) {
            return false;
        }
        for height in (1..=self.height).rev() {
            let (first, last) = (slot_of(start, height), slot_of(end - 1, height));
            if nodes[node].occupied & slots_from_to(first as u64, last as u64) == 0 {
                return true;
            }
            match nodes[node].child(first) {
                Some(child) if first == last && height > 1 => node = child,
                Some(_) | None => return false,
            }
        }
        false
    }

    /// Takes out everything. Needs no memory.
    pub(super) fn clear(&mut self, stores: &mut Stores<'_>) {
        self.last = None;
        self.pages = Some(0);
        if let Some(root) = self.root.take() {
            release_node(stores, root, self.height);
        }
        self.height = 0;
    }

    /// Moves the pages from `start` to before `end` so that they begin at `target`. The two ranges don't overlap and the
    /// target is empty. Paid for with [`Overlay::moving_nodes`].
    pub(super) fn relocate(
        &mut self,
        stores: &mut Stores<'_>,
        prepaid: &mut Prepaid,
        (start, end): (u64, u64),
        target: u64,
    ) {
        let mut cursor = start;
        while let Some((index, frame)) = self.next(stores.nodes, cursor, end) {
            stores.frames.retain(frame);
            self.insert_prepaid(stores, prepaid, target + (index - start), frame);
            cursor = index + 1;
        }
        self.remove(stores, prepaid, start, end);
    }

    /// An upper bound for the nodes that [`Overlay::relocate`] makes for a range of `pages` pages, `resident` of which
    /// are there.
    pub(super) fn moving_nodes(pages: u64, resident: u64) -> usize {
        let mut spanned = 0;
        for height in 1..=MAX_HEIGHT {
            spanned += (pages >> (height * SLOT_BITS)) + 2;
        }
        let isolated = resident.saturating_mul(u64::from(MAX_HEIGHT));
        // Raising the tree adds the chain that leads to the old root.
        let chain = MAX_HEIGHT as usize;
        usize::try_from(spanned.min(isolated)).unwrap_or(usize::MAX).saturating_add(REMOVAL_NODES + chain)
    }

    /// The first page at or after `start` and before `end`.
    pub(super) fn next(&self, nodes: &Nodes, start: u64, end: u64) -> Option<(u64, Frame)> {
        let end = end.min(span(self.height));
        if start >= end {
            return None;
        }
        next_below(nodes, self.root?, self.height, start, end)
    }

    /// The number of pages from `start` to before `end`. Visits the leaves of the range.
    pub(super) fn count(&self, nodes: &Nodes, start: u64, end: u64) -> u64 {
        let end = end.min(span(self.height));
        match self.root {
            Some(root) if start < end => count_below(nodes, root, self.height, start, end),
            Some(_) | None => 0,
        }
    }

    /// The number of all pages. Visits the leaves only if some were taken out since it was last asked.
    pub(super) fn count_all(&mut self, nodes: &Nodes) -> u64 {
        let pages = self.pages.unwrap_or_else(|| self.count(nodes, 0, MAX_PAGES));
        self.pages = Some(pages);
        pages
    }

    /// What [`Overlay::count_all`] would say without counting.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn known_pages(&self) -> Option<u64> {
        self.pages
    }

    /// The root and its height, for whoever checks the counts.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn root(&self) -> Option<(NodeId, u32)> {
        self.root.map(|root| (root, self.height))
    }

    /// The node of height 1 above `index`, if it was the last to be written.
    #[inline]
    fn last_written(&self, index: u64) -> Option<NodeId> {
        self.last.filter(|leaf| leaf.group == index >> SLOT_BITS).map(|leaf| leaf.node)
    }

    /// Makes the tree high enough for `index`.
    fn raise(&mut self, stores: &mut Stores<'_>, prepaid: &mut Prepaid, index: u64) {
        let needed = height_for(index);
        if self.root.is_none() {
            self.root = Some(prepaid.take(stores));
            self.height = needed;
        }
        while self.height < needed {
            let top = prepaid.take(stores);
            if let Some(root) = self.root {
                stores.nodes.set(top, 0, root.raw());
            }
            self.root = Some(top);
            self.height += 1;
        }
    }

    fn own_root(&mut self, stores: &mut Stores<'_>, prepaid: &mut Prepaid) -> NodeId {
        let root = match self.root {
            Some(root) if stores.nodes[root].references == 1 => root,
            Some(root) => copy_node(stores, prepaid, root, self.height),
            None => prepaid.take(stores),
        };
        self.root = Some(root);
        root
    }
}

/// A page in a node of height 1, to which the path is shared or not.
#[inline]
fn page_in(nodes: &Nodes, frames: &FrameTable, node: NodeId, index: u64, shared_path: bool) -> Page {
    let Some(frame) = nodes[node].frame(slot_of(index, 1)) else { return Page::Absent };
    let shared = shared_path || frames.is_shared(frame);
    match SwapSlot::of(frame) {
        Some(slot) => Page::Swapped { slot, alone: !shared },
        None if shared => Page::Shared(frame),
        None => Page::Owned(frame),
    }
}

/// The number of pages below a node of this height.
pub(super) const fn span(height: u32) -> u64 {
    if height == 0 { 0 } else { 1 << (height * SLOT_BITS) }
}

fn covers(height: u32, index: u64) -> bool {
    index < span(height)
}

pub(super) fn height_for(index: u64) -> u32 {
    let bits = u64::BITS - index.leading_zeros();
    bits.div_ceil(SLOT_BITS).max(1)
}

/// The slot that leads to `index` in a node of this height.
#[inline]
pub(super) fn slot_of(index: u64, height: u32) -> usize {
    (index >> ((height - 1) * SLOT_BITS)) as usize % SLOTS
}

#[cfg(test)]
#[path = "tests/overlay.rs"]
mod tests;
