//! The region tree: the regions of one space, ordered by address.
//!
//! An AVL tree over a vector. A region keeps its slot as long as it lives, so slots can be named from elsewhere (the
//! lists of mappings). Every slot also knows the hull of its subtree and the widest gap inside it, which makes finding
//! room for a mapping O(log n) like everything else. Recursion is bounded by the height, at most 1.44 log2(n).

use alloc::vec::Vec;

use super::Exhausted;
use super::region::{Link, Region};

/// No slot.
const NIL: u32 = u32::MAX;

/// More than the height of any tree whose slots have numbers of 32 bits: 1.44 log2(2^32).
const MAX_HEIGHT: usize = 48;

/// The slots that an iteration in order has still to visit, innermost last.
struct Path {
    slots: [u32; MAX_HEIGHT],
    len: usize,
}

impl Path {
    /// Goes down to the first slot of a subtree.
    fn descend(&mut self, tree: &RegionTree, from: u32) {
        let mut at = from;
        while let Some(slot) = tree.slots.get(at as usize) {
            self.slots[self.len] = at;
            self.len += 1;
            at = slot.left;
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        Some(self.slots[self.len])
    }
}

#[derive(Clone, Debug)]
struct Slot {
    region: Region,
    link: Link,
    /// In a free slot, `left` links the free list.
    left: u32,
    right: u32,
    /// Height of the subtree; 0 for a free slot.
    height: u8,
    /// First page of the subtree.
    first: u64,
    /// Page after the last of the subtree.
    last: u64,
    /// The widest gap between two regions of the subtree, in pages.
    gap: u64,
}

/// An ordered set of regions that don't overlap.
#[derive(Debug)]
pub(super) struct RegionTree {
    slots: Vec<Slot>,
    root: u32,
    free: u32,
    len: usize,
}

impl RegionTree {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), root: NIL, free: NIL, len: 0 }
    }

    /// The number of regions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What one region costs, in bytes.
    pub(super) const BYTES: u64 = size_of::<Slot>() as u64;

    /// Makes sure that `additional` insertions need no memory.
    pub(super) fn reserve(&mut self, additional: usize) -> Result<(), Exhausted> {
        let spare = self.slots.len() - self.len;
        self.slots.try_reserve(additional.saturating_sub(spare))?;
        Ok(())
    }

    /// A tree with the same regions in the same slots; the links are left out.
    pub(super) fn try_clone(&self) -> Result<Self, Exhausted> {
        let mut slots = Vec::new();
        slots.try_reserve(self.slots.len())?;
        slots.extend(self.slots.iter().map(|slot| Slot { link: Link::default(), ..slot.clone() }));
        Ok(Self { slots, root: self.root, free: self.free, len: self.len })
    }

    /// The region in a slot.
    #[inline]
    pub(super) fn region(&self, slot: u32) -> &Region {
        &self.slots[slot as usize].region
    }

    /// The list node of a slot.
    pub(super) fn link(&self, slot: u32) -> Link {
        self.slots[slot as usize].link
    }

    /// The list node of a slot, to change it.
    pub(super) fn link_mut(&mut self, slot: u32) -> &mut Link {
        &mut self.slots[slot as usize].link
    }

    /// The region that holds a page.
    #[inline]
    pub(super) fn find(&self, page: u64) -> Option<u32> {
        let mut at = self.root;
        while let Some(slot) = self.slots.get(at as usize) {
            if page < slot.region.start {
                at = slot.left;
            } else if page >= slot.region.end {
                at = slot.right;
            } else {
                return Some(at);
            }
        }
        None
    }

    /// The first region that ends after `page`: the one that holds it, or else the next.
    pub(super) fn next(&self, page: u64) -> Option<u32> {
        let mut best = None;
        let mut at = self.root;
        while let Some(slot) = self.slots.get(at as usize) {
            if page < slot.region.end {
                best = Some(at);
                at = slot.left;
            } else {
                at = slot.right;
            }
        }
        best
    }

    /// The last region that ends at or below a page, and the first that ends above it.
    pub(super) fn around(&self, page: u64) -> (Option<u32>, Option<u32>) {
        let (mut before, mut after) = (None, None);
        let mut at = self.root;
        while let Some(slot) = self.slots.get(at as usize) {
            if page < slot.region.end {
                after = Some(at);
                at = slot.left;
            } else {
                before = Some(at);
                at = slot.right;
            }
        }
        (before, after)
    }

    /// The last region that starts before `page`: the one that holds `page - 1`, or else the previous.
    pub(super) fn previous(&self, page: u64) -> Option<u32> {
        let mut best = None;
        let mut at = self.root;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.region.start < page {
                best = Some(at);
                at = slot.right;
            } else {
                at = slot.left;
            }
        }
        best
    }

    /// The first region that has a page in the range.
    pub(super) fn first_in(&self, start: u64, end: u64) -> Option<u32> {
        self.next(start).filter(|slot| self.region(*slot).start < end)
    }

    /// The regions that have a page in the range, in order.
    pub(super) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (u32, &Region)> {
        let mut cursor = start;
        core::iter::from_fn(move || {
            let slot = self.first_in(cursor, end)?;
            let region = self.region(slot);
            cursor = region.end;
            Some((slot, region))
        })
    }

    /// All regions, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Region)> {
        let mut path = Path { slots: [NIL; MAX_HEIGHT], len: 0 };
        path.descend(self, self.root);
        core::iter::from_fn(move || {
            let at = path.pop()?;
            path.descend(self, self.slots[at as usize].right);
            Some((at, self.region(at)))
        })
    }

    /// The slots that have a region, in no order.
    pub(super) fn occupied(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().zip(0u32..).filter(|(slot, _)| slot.height != 0).map(|(_, at)| at)
    }

    /// The number of slots, with and without a region.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether a slot has a region.
    pub(super) fn is_occupied(&self, slot: u32) -> bool {
        self.slots[slot as usize].height != 0
    }

    /// The range without regions around `page`: from the end of the region before to the start of the one after.
    /// Without one before or after, from 0 or to `u64::MAX`.
    pub(super) fn gap_around(&self, start: u64, end: u64) -> (u64, u64) {
        let floor = self.previous(start).map_or(0, |slot| self.region(slot).end);
        let ceiling = self.next(end).map_or(u64::MAX, |slot| self.region(slot).start);
        (floor, ceiling)
    }

    /// The highest range of `pages` pages without regions, within `[low, high)`. Returns its start.
    pub(super) fn highest_gap(&self, low: u64, high: u64, pages: u64) -> Option<u64> {
        self.highest_gap_below(self.root, low, high, pages)
    }

    fn highest_gap_below(&self, at: u32, low: u64, high: u64, pages: u64) -> Option<u64> {
        if high.checked_sub(low)? < pages {
            return None;
        }
        let Some(slot) = self.slots.get(at as usize) else { return Some(high - pages) };
        let outside = slot.first.saturating_sub(low).max(high.saturating_sub(slot.last));
        if outside.max(slot.gap) < pages {
            return None;
        }
        self.highest_gap_below(slot.right, low.max(slot.region.end), high, pages)
            .or_else(|| self.highest_gap_below(slot.left, low, high.min(slot.region.start), pages))
    }

    /// Adds a region that overlaps none. Needs no memory if it was reserved.
    pub(super) fn insert(&mut self, region: Region) -> u32 {
        let new = Slot {
            region,
            link: Link::default(),
            left: NIL,
            right: NIL,
            height: 1,
            first: region.start,
            last: region.end,
            gap: 0,
        };
        let slot = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.left;
                *free = new;
                at
            }
            None => {
                debug_assert!(self.slots.len() < self.slots.capacity(), "a region was not reserved");
                self.slots.push(new);
                (self.slots.len() - 1) as u32
            }
        };
        self.root = self.insert_below(self.root, slot, region.start);
        self.len += 1;
        slot
    }

    /// Takes a region out.
    pub(super) fn remove(&mut self, slot: u32) -> Region {
        let region = *self.region(slot);
        self.root = self.remove_below(self.root, region.start);
        let vacant = &mut self.slots[slot as usize];
        vacant.height = 0;
        vacant.left = self.free;
        vacant.link = Link::default();
        self.free = slot;
        self.len -= 1;
        region
    }

    /// Replaces a region by another that keeps its place in the order (it may be longer, shorter or otherwise mapped).
    pub(super) fn replace(&mut self, slot: u32, region: Region) {
        let key = self.region(slot).start;
        self.slots[slot as usize].region = region;
        self.refresh_path(self.root, key, slot);
    }

    /// Takes everything out and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    fn refresh_path(&mut self, at: u32, key: u64, target: u32) {
        if at != target {
            let Some(slot) = self.slots.get(at as usize) else { return };
            let child = if key < slot.region.start { slot.left } else { slot.right };
            self.refresh_path(child, key, target);
        }
        self.refresh(at);
    }

    fn insert_below(&mut self, at: u32, new: u32, key: u64) -> u32 {
        let Some(slot) = self.slots.get(at as usize) else { return new };
        let (left, right) = (slot.left, slot.right);
        if key < slot.region.start {
            self.slots[at as usize].left = self.insert_below(left, new, key);
        } else {
            self.slots[at as usize].right = self.insert_below(right, new, key);
        }
        self.balance(at)
    }

    fn remove_below(&mut self, at: u32, key: u64) -> u32 {
        let Some(slot) = self.slots.get(at as usize) else { return NIL };
        let (left, right, start) = (slot.left, slot.right, slot.region.start);
        match key.cmp(&start) {
            core::cmp::Ordering::Less => self.slots[at as usize].left = self.remove_below(left, key),
            core::cmp::Ordering::Greater => self.slots[at as usize].right = self.remove_below(right, key),
            core::cmp::Ordering::Equal if left == NIL => return right,
            core::cmp::Ordering::Equal if right == NIL => return left,
            core::cmp::Ordering::Equal => {
                let (successor, rest) = self.detach_first(right);
                let slot = &mut self.slots[successor as usize];
                slot.left = left;
                slot.right = rest;
                return self.balance(successor);
            }
        }
        self.balance(at)
    }

    /// Takes the first slot out of a subtree; returns it and what remains.
    fn detach_first(&mut self, at: u32) -> (u32, u32) {
        let left = self.slots[at as usize].left;
        if left == NIL {
            return (at, self.slots[at as usize].right);
        }
        let (first, rest) = self.detach_first(left);
        self.slots[at as usize].left = rest;
        (first, self.balance(at))
    }

    fn height(&self, at: u32) -> u8 {
        self.slots.get(at as usize).map_or(0, |slot| slot.height)
    }

    /// Writes down what a slot knows of its subtree.
    fn refresh(&mut self, at: u32) {
        let Some(summary) = self.summary(at) else { return };
        let slot = &mut self.slots[at as usize];
        (slot.first, slot.last, slot.gap, slot.height) = summary;
    }

    /// What a slot should know of its subtree (first page, end, widest gap, height), from what its children know.
    fn summary(&self, at: u32) -> Option<(u64, u64, u64, u8)> {
        let slot = self.slots.get(at as usize)?;
        let (start, end) = (slot.region.start, slot.region.end);
        let (mut first, mut last, mut gap, mut height) = (start, end, 0, 0);
        if let Some(left) = self.slots.get(slot.left as usize) {
            first = left.first;
            gap = gap.max(left.gap).max(start.saturating_sub(left.last));
            height = left.height;
        }
        if let Some(right) = self.slots.get(slot.right as usize) {
            last = right.last;
            gap = gap.max(right.gap).max(right.first.saturating_sub(end));
            height = height.max(right.height);
        }
        Some((first, last, gap, height + 1))
    }

    /// Restores the AVL condition at a slot whose subtrees fulfil it; returns the subtree's new root.
    fn balance(&mut self, at: u32) -> u32 {
        let (left, right) = (self.slots[at as usize].left, self.slots[at as usize].right);
        let (left_height, right_height) = (self.height(left), self.height(right));
        if left_height > right_height + 1 {
            let (outer, inner) = (self.slots[left as usize].left, self.slots[left as usize].right);
            if self.height(inner) > self.height(outer) {
                self.slots[at as usize].left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if right_height > left_height + 1 {
            let (inner, outer) = (self.slots[right as usize].left, self.slots[right as usize].right);
            if self.height(inner) > self.height(outer) {
                self.slots[at as usize].right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.refresh(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.slots[at as usize].right;
        self.slots[at as usize].right = self.slots[up as usize].left;
        self.slots[up as usize].left = at;
        self.refresh(at);
        self.refresh(up);
        up
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.slots[at as usize].left;
        self.slots[at as usize].left = self.slots[up as usize].right;
        self.slots[up as usize].right = at;
        self.refresh(at);
        self.refresh(up);
        up
    }
}

#[cfg(any(test, debug_assertions))]
impl RegionTree {
    /// Panics if the tree is not in order.
    pub(super) fn check(&self) {
        let mut count = 0;
        let mut end = 0;
        for (_, region) in self.iter() {
            assert!(region.start < region.end && region.start >= end, "regions overlap");
            end = region.end;
            count += 1;
        }
        assert_eq!(count, self.len);
        self.check_below(self.root);
    }

    fn check_below(&self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else { return };
        self.check_below(slot.left);
        self.check_below(slot.right);
        assert!(self.height(slot.left).abs_diff(self.height(slot.right)) <= 1, "the tree is out of balance");
        let known = (slot.first, slot.last, slot.gap, slot.height);
        assert_eq!(Some(known), self.summary(at), "a slot knows its subtree wrong");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::super::region::{Backing, Inherit, Sharing};
    use super::*;
    use proptest::prelude::*;
    use quire_abi::space::Protection;

    /// The pages that the tests use.
    const PAGES: u64 = 200;

    fn region(start: u64, end: u64) -> Region {
        Region {
            start,
            end,
            backing: Backing::Zero,
            sharing: Sharing::Private,
            inherit: Inherit::Clone,
            access: Protection::READ,
            max_access: Protection::READ,
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u64),
        Remove(u64),
        Shrink(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..PAGES, 1..20u64).prop_map(|(start, len)| Op::Insert(start, start + len)),
            2 => (0..PAGES).prop_map(Op::Remove),
            1 => (0..PAGES).prop_map(Op::Shrink),
        ]
    }

    /// The reference: every region's end by its start.
    type Model = BTreeMap<u64, u64>;

    fn model_find(model: &Model, page: u64) -> Option<(u64, u64)> {
        model.range(..=page).next_back().map(|(start, end)| (*start, *end)).filter(|(_, end)| page < *end)
    }

    fn model_highest_gap(model: &Model, low: u64, high: u64, pages: u64) -> Option<u64> {
        let free = |start: u64| (start..start + pages).all(|page| model_find(model, page).is_none());
        (low..=high.checked_sub(pages)?).rev().find(|start| free(*start))
    }

    fn apply(tree: &mut RegionTree, model: &mut Model, op: &Op) {
        match *op {
            Op::Insert(start, end) => {
                if (start..end).all(|page| model_find(model, page).is_none()) {
                    tree.reserve(1).unwrap();
                    tree.insert(region(start, end));
                    model.insert(start, end);
                }
            }
            Op::Remove(page) => {
                let found = tree.find(page).map(|slot| tree.remove(slot));
                let expected = model_find(model, page);
                assert_eq!(found.map(|region| (region.start, region.end)), expected);
                expected.map(|(start, _)| model.remove(&start));
            }
            Op::Shrink(page) => {
                if let (Some((start, _)), Some(slot)) = (model_find(model, page), tree.find(page)) {
                    tree.replace(slot, region(start, page + 1));
                    model.insert(start, page + 1);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_an_ordered_map(ops in proptest::collection::vec(op(), 1..150), low in 0..40u64) {
            let mut tree = RegionTree::new();
            let mut model = Model::new();
            for op in &ops {
                apply(&mut tree, &mut model, op);
                tree.check();
            }
            let all: Vec<_> = tree.iter().map(|(_, region)| (region.start, region.end)).collect();
            prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            for page in 0..PAGES + 20 {
                let shown = |slot: Option<u32>| slot.map(|slot| (tree.region(slot).start, tree.region(slot).end));
                prop_assert_eq!(shown(tree.find(page)), model_find(&model, page));
                let next = model.iter().map(|(start, end)| (*start, *end)).find(|(_, end)| *end > page);
                prop_assert_eq!(shown(tree.next(page)), next);
                let previous = model.range(..page).next_back().map(|(start, end)| (*start, *end));
                prop_assert_eq!(shown(tree.previous(page)), previous);
                let (before, after) = tree.around(page);
                prop_assert_eq!(shown(after), next);
                let ended = model.iter().map(|(start, end)| (*start, *end)).take_while(|(_, end)| *end <= page).last();
                prop_assert_eq!(shown(before), ended);
                for pages in [1, 2, 5, 30] {
                    let expected = model_highest_gap(&model, low, page, pages);
                    prop_assert_eq!(tree.highest_gap(low, page, pages), expected);
                }
            }
        }
    }

    #[test]
    fn a_tree_filled_in_order_stays_low() {
        let mut tree = RegionTree::new();
        for start in 0..10_000 {
            tree.reserve(1).unwrap();
            tree.insert(region(2 * start, 2 * start + 1));
        }
        assert!(tree.height(tree.root) <= 19, "1.44 log2(10000)");
        tree.check();
    }

    #[test]
    fn slots_keep_their_regions_while_others_come_and_go() {
        let mut tree = RegionTree::new();
        tree.reserve(100).unwrap();
        let slots: Vec<_> = (0..100).map(|at| tree.insert(region(10 * at, 10 * at + 5))).collect();
        for slot in slots.iter().step_by(2) {
            tree.remove(*slot);
        }
        for (at, slot) in (0..100).zip(&slots).skip(1).step_by(2) {
            assert_eq!(tree.region(*slot).start, 10 * at);
        }
        assert_eq!(tree.len(), 50);
    }
}
