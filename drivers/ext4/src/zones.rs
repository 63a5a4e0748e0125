//! The blocks that belong to the file system itself: no file may claim them.

use crate::group::{Group, table_blocks};
use crate::superblock::Superblock;
use alloc::vec::Vec;

/// Ranges of blocks, sorted and apart.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    ranges: Vec<(u64, u64)>,
}

impl Zones {
    /// Adds what a group keeps for itself. [`settle`](Zones::settle) before asking.
    pub(crate) fn add_group(&mut self, superblock: &Superblock, number: u32, group: &Group) {
        let start = superblock.group_start(number);
        self.add(start, u64::from(superblock.group_overhead(number)));
        self.add(group.block_bitmap, 1);
        self.add(group.inode_bitmap, 1);
        self.add(group.inode_table, table_blocks(superblock));
    }

    /// Adds `count` blocks from `first`.
    pub(crate) fn add(&mut self, first: u64, count: u64) {
        if count > 0 {
            self.ranges.push((first, first.saturating_add(count)));
        }
    }

    /// Sorts and joins the ranges.
    pub(crate) fn settle(&mut self) {
        self.ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, end) in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if first <= last.1 => last.1 = last.1.max(end),
                Some(_) | None => joined.push((first, end)),
            }
        }
        self.ranges = joined;
    }

    /// Whether any of `count` blocks from `first` is in a zone.
    pub(crate) fn overlap(&self, first: u64, count: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.1 <= first);
        self.ranges.get(after).is_some_and(|range| range.0 < first.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_joined() {
        let mut zones = Zones::default();
        for (first, count) in [(10, 5), (0, 2), (15, 1), (12, 2), (40, 1)] {
            zones.add(first, count);
        }
        zones.settle();
        assert_eq!(zones.ranges, [(0, 2), (10, 16), (40, 41)]);
        assert!(!zones.overlap(2, 8) && zones.overlap(2, 9) && zones.overlap(15, 1) && !zones.overlap(16, 24));
    }
}
