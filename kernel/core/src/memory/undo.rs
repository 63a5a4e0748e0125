//! Putting regions back after a commit that was refused in the middle.

use alloc::vec::Vec;

use super::MemorySystem;
use super::error::Exhausted;
use super::region::Region;
use super::regions::RegionTree;
use super::space::Space;
use crate::pool::Id;

/// What an operation changed.
enum Mark {
    /// The regions of a range; those that were there before are the log's from this index on.
    Range { start: u64, end: u64, first: usize },
    /// All: the space had this tree, without regions but with room for those that operations before took out.
    Everything { before: RegionTree },
}

/// The regions as they were before each operation of a commit but the last, which is either refused before it changes
/// anything or not at all.
pub(super) struct UndoLog {
    marks: Vec<Mark>,
    regions: Vec<Region>,
    /// Operations that are still to come.
    pending: usize,
}

impl UndoLog {
    /// A log for a commit of so many operations.
    pub(super) fn new(ops: usize) -> Self {
        Self { marks: Vec::new(), regions: Vec::new(), pending: ops }
    }

    /// Whether it need not remember what the operation at hand changes, because that is the last.
    pub(super) fn is_complete(&self) -> bool {
        self.pending <= 1
    }

    /// Remembers the regions in a range and those that touch it, before the range is changed.
    pub(super) fn log_range(
        &mut self,
        (start, end): (u64, u64),
        near: impl Iterator<Item = Region>,
    ) -> Result<(), Exhausted> {
        let first = self.regions.len();
        let (mut low, mut high) = (start, end);
        for region in near {
            self.regions.try_reserve(1)?;
            self.regions.push(region);
            low = low.min(region.start);
            high = high.max(region.end);
        }
        self.marks.try_reserve(1)?;
        self.marks.push(Mark::Range { start: low, end: high, first });
        Ok(())
    }

    /// Makes sure that [`UndoLog::log_clone`] needs no memory.
    pub(super) fn reserve(&mut self) -> Result<(), Exhausted> {
        Ok(self.marks.try_reserve(1)?)
    }

    /// Remembers the tree without regions that a clone replaced.
    pub(super) fn log_clone(&mut self, before: RegionTree) {
        self.marks.push(Mark::Everything { before });
    }
}

impl MemorySystem {
    /// Puts the regions back as they were before the first operation that was logged. Needs no memory: there were as many
    /// regions before, and trees don't shrink.
    pub(super) fn roll_back(&mut self, space: Id<Space>, log: &mut UndoLog) {
        while let Some(mark) = log.marks.pop() {
            match mark {
                Mark::Everything { before } => {
                    self.remove_all_regions(space);
                    self.spaces[space].regions = before;
                }
                Mark::Range { start, end, first } => {
                    while let Some(slot) = self.spaces[space].regions.first_in(start, end) {
                        self.remove_region(space, slot);
                    }
                    for region in log.regions.drain(first..) {
                        self.add_region_unmerged(space, region);
                    }
                }
            }
        }
    }
}
