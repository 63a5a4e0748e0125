//! Blocks that were freed, and may not be used again until the disk knows that they were.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// Ranges of blocks that do not overlap, by their first block.
#[derive(Default)]
pub(super) struct Freed(BTreeMap<u64, u64>);

impl Freed {
    /// Adds a range. What is there already stays.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if !range.is_empty() && self.first_overlap(&range).is_none() {
            self.0.insert(range.start, range.end);
        }
    }

    /// Takes back a range that was added.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if self.0.get(&range.start) == Some(&range.end) {
            self.0.remove(&range.start);
        }
    }

    /// The first range that has blocks in common with `wanted`.
    pub(super) fn first_overlap(&self, wanted: &Range<u64>) -> Option<Range<u64>> {
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
        let mut freed = Freed::default();
        freed.insert(10..20);
        freed.insert(20..21);
        freed.insert(30..40);
        assert_eq!(freed.first_overlap(&(0..10)), None);
        assert_eq!(freed.first_overlap(&(0..11)), Some(10..20));
        assert_eq!(freed.first_overlap(&(19..35)), Some(10..20));
        assert_eq!(freed.first_overlap(&(20..35)), Some(20..21));
        assert_eq!(freed.first_overlap(&(21..30)), None);
        assert_eq!(freed.first_overlap(&(21..31)), Some(30..40));
        freed.remove(&(10..20));
        assert_eq!(freed.first_overlap(&(0..20)), None);
    }
}
