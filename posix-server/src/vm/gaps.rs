//! The free ranges between areas, such that the highest that is long enough is found without a look at all of them.
//!
//! A balanced search tree by first address in one vector (an AA tree: A. Andersson, "Balanced search trees made simple", 1993). Each node
//! knows how long the longest range in its subtree is.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// The index of a node.
type Link = u32;
/// The index of the node that stands for none: all zeroes.
const NONE: Link = 0;
/// Where the last range ends.
const END: u64 = 1 << 63;

#[derive(Clone, Copy, Default)]
struct Node {
    start: u64,
    length: u64,
    /// The length of the longest range here and below.
    longest: u64,
    left: Link,
    right: Link,
    /// 1 at the leaves. A left child is one level lower; a right child is as high or one lower, and its right child is lower.
    level: u32,
}

/// Free ranges, which neither overlap nor touch.
#[derive(Clone)]
pub(super) struct Gaps {
    nodes: Vec<Node>,
    root: Link,
    /// Nodes that are not in use.
    spare: Vec<Link>,
}

impl Gaps {
    /// What is free beside some ranges, given as first address and end, ascending.
    pub(super) fn between(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut gaps = Self { nodes: alloc::vec![Node::default()], root: NONE, spare: Vec::new() };
        let mut free_from = 0;
        for (start, end) in ranges {
            gaps.add(free_from, start);
            free_from = end;
        }
        gaps.add(free_from, END);
        gaps
    }

    /// A range that was free is used now.
    pub(super) fn occupy(&mut self, start: u64, end: u64) {
        let Some((gap, gap_end)) = self.last_from(start) else { return };
        debug_assert!(end <= gap_end, "a range is used twice");
        self.root = self.without(self.root, gap);
        self.add(gap, start);
        self.add(end, gap_end);
    }

    /// A range that was used is free now.
    pub(super) fn release(&mut self, start: u64, end: u64) {
        let (mut first, mut last) = (start, end);
        if let Some((gap, gap_end)) = self.last_from(end)
            && gap == end
        {
            self.root = self.without(self.root, gap);
            last = gap_end;
        }
        if let Some((gap, gap_end)) = self.last_from(start)
            && gap_end == start
        {
            self.root = self.without(self.root, gap);
            first = gap;
        }
        self.add(first, last);
    }

    /// The end of the highest part below `high` of a free range that has room for `length` bytes.
    pub(super) fn highest_end(&self, length: u64, high: u64) -> Option<u64> {
        let (last, last_end) = self.last_from(high.checked_sub(1)?)?;
        let end = last_end.min(high);
        if end - last >= length { Some(end) } else { self.last_fitting(self.root, last, length) }
    }

    /// The last range that begins at an address or before, and its end.
    fn last_from(&self, address: u64) -> Option<(u64, u64)> {
        let (mut at, mut found) = (self.root, None);
        while at != NONE {
            let node = self.node(at);
            if node.start <= address {
                found = Some((node.start, node.start + node.length));
                at = node.right;
            } else {
                at = node.left;
            }
        }
        found
    }

    /// The end of the last range in a subtree that begins before an address and is at least so long. At most one subtree in vain is
    /// looked at for each level.
    fn last_fitting(&self, at: Link, before: u64, length: u64) -> Option<u64> {
        let node = self.node(at);
        if at == NONE || node.longest < length {
            return None;
        }
        if node.start >= before {
            return self.last_fitting(node.left, before, length);
        }
        self.last_fitting(node.right, before, length)
            .or_else(|| (node.length >= length).then_some(node.start + node.length))
            .or_else(|| self.last_fitting(node.left, before, length))
    }

    // ---- the tree ----

    fn node(&self, link: Link) -> Node {
        self.nodes.get(link as usize).copied().unwrap_or_default()
    }

    fn change(&mut self, link: Link, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(link as usize).filter(|_| link != NONE) {
            change(node);
        }
    }

    /// Adds a range, if it is not empty.
    fn add(&mut self, start: u64, end: u64) {
        if start < end {
            self.root = self.with(self.root, start, end - start);
        }
    }

    fn make(&mut self, start: u64, length: u64) -> Link {
        let node = Node { start, length, longest: length, left: NONE, right: NONE, level: 1 };
        if let Some(link) = self.spare.pop() {
            self.change(link, |old| *old = node);
            return link;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as Link
    }

    /// A subtree with one range more.
    fn with(&mut self, at: Link, start: u64, length: u64) -> Link {
        if at == NONE {
            return self.make(start, length);
        }
        let node = self.node(at);
        if start < node.start {
            let left = self.with(node.left, start, length);
            self.change(at, |node| node.left = left);
        } else {
            let right = self.with(node.right, start, length);
            self.change(at, |node| node.right = right);
        }
        let at = self.skew(at);
        self.split(at)
    }

    /// A subtree without the range that begins at an address.
    fn without(&mut self, at: Link, start: u64) -> Link {
        if at == NONE {
            return NONE;
        }
        let node = self.node(at);
        match start.cmp(&node.start) {
            Ordering::Less => {
                let left = self.without(node.left, start);
                self.change(at, |node| node.left = left);
            }
            Ordering::Greater => {
                let right = self.without(node.right, start);
                self.change(at, |node| node.right = right);
            }
            Ordering::Equal if node.right == NONE => {
                // Then there is nothing to its left, either.
                self.spare.push(at);
                return NONE;
            }
            Ordering::Equal => {
                let next = self.first(node.right);
                let right = self.without(node.right, next.start);
                self.change(at, |node| {
                    (node.start, node.length, node.right) = (next.start, next.length, right);
                });
            }
        }
        self.rebalanced(at)
    }

    fn first(&self, mut at: Link) -> Node {
        while self.node(at).left != NONE {
            at = self.node(at).left;
        }
        self.node(at)
    }

    /// Restores a subtree of which a child has become lower.
    fn rebalanced(&mut self, at: Link) -> Link {
        let node = self.node(at);
        let level = self.node(node.left).level.min(self.node(node.right).level) + 1;
        if level < node.level {
            self.change(at, |node| node.level = level);
            if self.node(node.right).level > level {
                self.change(node.right, |node| node.level = level);
            }
        }
        let at = self.skew(at);
        let right = self.skew(self.node(at).right);
        self.change(at, |node| node.right = right);
        let beyond = self.skew(self.node(right).right);
        self.change(right, |node| node.right = beyond);
        self.note_longest(right);
        let at = self.split(at);
        let right = self.split(self.node(at).right);
        self.change(at, |node| node.right = right);
        self.note_longest(at);
        at
    }

    /// A left child on the same level comes to the top.
    fn skew(&mut self, at: Link) -> Link {
        let node = self.node(at);
        let left = self.node(node.left);
        if at == NONE || left.level != node.level {
            self.note_longest(at);
            return at;
        }
        self.change(at, |node| node.left = left.right);
        self.change(node.left, |top| top.right = at);
        self.note_longest(at);
        self.note_longest(node.left);
        node.left
    }

    /// The middle of three on the same level comes to the top, and rises.
    fn split(&mut self, at: Link) -> Link {
        let node = self.node(at);
        let right = self.node(node.right);
        if at == NONE || self.node(right.right).level != node.level {
            self.note_longest(at);
            return at;
        }
        self.change(at, |node| node.right = right.left);
        self.change(node.right, |top| {
            top.left = at;
            top.level += 1;
        });
        self.note_longest(at);
        self.note_longest(node.right);
        node.right
    }

    fn note_longest(&mut self, at: Link) {
        let node = self.node(at);
        let longest = node.length.max(self.node(node.left).longest).max(self.node(node.right).longest);
        self.change(at, |node| node.longest = longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Gaps {
        /// Checks a subtree; its ranges, ascending.
        fn check(&self, at: Link) -> Vec<(u64, u64)> {
            if at == NONE {
                return Vec::new();
            }
            let node = self.node(at);
            let (left, right) = (self.node(node.left), self.node(node.right));
            assert_eq!(left.level + 1, node.level);
            assert!(right.level == node.level || right.level + 1 == node.level);
            assert!(self.node(right.right).level < node.level);
            assert_eq!(node.longest, node.length.max(left.longest).max(right.longest));
            let mut all = self.check(node.left);
            all.push((node.start, node.start + node.length));
            all.extend(self.check(node.right));
            all
        }
    }

    /// The free ranges below [`END`] when these numbers are used.
    fn free(used: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        let mut from = 0;
        for number in used.iter().copied().chain([END]) {
            if from < number {
                ranges.push((from, number));
            }
            from = number + 1;
        }
        ranges
    }

    proptest! {
        #[test]
        fn the_tree_has_what_a_set_of_numbers_leaves(
            steps in proptest::collection::vec((0u64..300, 1u64..20), 0..200),
            asked in proptest::collection::vec((1u64..40, 1u64..330), 20),
        ) {
            let mut used = BTreeSet::new();
            let mut gaps = Gaps::between(core::iter::empty());
            for (start, length) in steps {
                let range = start..start + length;
                if range.clone().all(|number| !used.contains(&number)) {
                    used.extend(range);
                    gaps.occupy(start, start + length);
                } else if range.clone().all(|number| used.contains(&number)) {
                    range.for_each(|number| { used.remove(&number); });
                    gaps.release(start, start + length);
                }
            }
            let ranges = free(&used);
            prop_assert_eq!(gaps.check(gaps.root), ranges.clone());
            prop_assert_eq!(gaps.nodes.len(), 1 + ranges.len() + gaps.spare.len());
            for (length, high) in asked {
                let naive = ranges.iter().filter(|(start, _)| *start < high).map(|(start, end)| (start, *end.min(&high)));
                let naive = naive.filter(|(start, end)| end - *start >= length).map(|(_, end)| end).next_back();
                prop_assert_eq!(gaps.highest_end(length, high), naive);
            }
        }
    }

    #[test]
    fn a_hundred_thousand_ranges_are_not_deep() {
        let mut gaps = Gaps::between(core::iter::empty());
        (0..100_000).for_each(|number| gaps.occupy(2 * number, 2 * number + 1));
        assert!(gaps.node(gaps.root).level <= 18);
        assert_eq!(gaps.highest_end(1, 100_000), Some(100_000));
        assert_eq!(gaps.highest_end(2, 199_000), None);
        gaps.release(2, 3);
        assert_eq!(gaps.highest_end(3, 199_000), Some(4));
    }
}
