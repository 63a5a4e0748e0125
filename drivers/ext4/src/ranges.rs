//! Ranges of blocks that nobody may take: freed ones as long as the disk does not know that they were, and promised ones.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// Ranges of blocks that do not overlap, by their first block.
#[derive(Default)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range. What is there already stays.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if !range.is_empty() && self.first_overlap(&range).is_none() {
            self.0.insert(range.start, range.end);
        }
    }

    /// Takes back a range that was added.
    pub(crate) fn remove(&mut self, range: &Range<u64>) {
        if self.0.get(&range.start) == Some(&range.end) {
            self.0.remove(&range.start);
        }
    }

    /// The first range that has blocks in common with `wanted`.
    pub(crate) fn first_overlap(&self, wanted: &Range<u64>) -> Option<Range<u64>> {
        let before = self.0.range(..=wanted.start).next_back().filter(|(_, end)| **end > wanted.start);
        let within = || self.0.range(wanted.start..wanted.end).next();
        before.or_else(within).map(|(first, end)| *first..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_overlap_is_found_whole() {
        let mut ranges = Ranges::default();
        ranges.insert(10..20);
        ranges.insert(20..21);
        ranges.insert(30..40);
        assert_eq!(ranges.first_overlap(&(0..10)), None);
        assert_eq!(ranges.first_overlap(&(0..11)), Some(10..20));
        assert_eq!(ranges.first_overlap(&(19..35)), Some(10..20));
        assert_eq!(ranges.first_overlap(&(20..35)), Some(20..21));
        assert_eq!(ranges.first_overlap(&(21..30)), None);
        assert_eq!(ranges.first_overlap(&(21..31)), Some(30..40));
        ranges.remove(&(10..20));
        assert_eq!(ranges.first_overlap(&(0..20)), None);
    }
}
