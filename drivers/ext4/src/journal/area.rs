//! Where the log is: a ring of positions, in runs of the file system's blocks.

use super::Run;
use crate::device::{Device, DeviceFailed, SECTOR_BYTES};
use crate::error::{Error, Place, Result};
use alloc::vec::Vec;

/// The blocks of a journal. Position 0 is its superblock, positions from `first` up to `end` are a ring.
pub(super) struct Area {
    runs: Vec<Run>,
    pub(super) block_bytes: usize,
    pub(super) first: u32,
    pub(super) end: u32,
}

impl Area {
    /// The area of an inode's runs, which must be in order and without holes; the ring is not known yet.
    pub(super) fn new(runs: &[Run], block_bytes: usize, blocks: u64) -> Result<Self> {
        let mut next = 0_u32;
        for run in runs {
            let inside =
                run.physical.checked_add(run.count.into()).is_some_and(|end| run.physical > 0 && end <= blocks);
            if run.first != next || run.count == 0 || !inside {
                return Err(corrupt("the journal's blocks"));
            }
            next = next.checked_add(run.count).ok_or(corrupt("the journal's blocks"))?;
        }
        Ok(Self { runs: runs.to_vec(), block_bytes, first: next, end: next })
    }

    /// Positions that there are, the superblock included.
    pub(super) fn positions(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.first + run.count)
    }

    /// Blocks in the ring.
    pub(super) fn length(&self) -> u32 {
        self.end - self.first
    }

    /// The position `count` after `position`, with `count` at most the length.
    pub(super) fn advance(&self, position: u32, count: u32) -> u32 {
        let moved = u64::from(position) + u64::from(count);
        (if moved >= u64::from(self.end) { moved - u64::from(self.length()) } else { moved }) as u32
    }

    /// Whether a block of the file system is part of the journal.
    pub(super) fn contains(&self, block: u64) -> bool {
        self.runs.iter().any(|run| (run.physical..run.physical + u64::from(run.count)).contains(&block))
    }

    /// Where a position is, and how many follow it, up to `most`, on the disk as in the ring.
    pub(super) fn locate(&self, position: u32, most: u32) -> Option<(u64, u32)> {
        let index = self.runs.partition_point(|run| run.first <= position).checked_sub(1)?;
        let run = self.runs.get(index)?;
        let within = position - run.first;
        let ring = if position < self.end { self.end - position } else { 1 };
        let count = run.count.checked_sub(within)?.min(ring).min(most);
        (count > 0).then_some((run.physical + u64::from(within), count))
    }

    pub(super) fn sector_of(&self, block: u64) -> u64 {
        block * (self.block_bytes / SECTOR_BYTES) as u64
    }

    /// Reads whole blocks from a position on, as many as are in a row and fit. How many were read.
    pub(super) async fn read<D: Device>(&self, device: &D, position: u32, bytes: &mut [u8]) -> Result<u32> {
        let most = (bytes.len() / self.block_bytes) as u32;
        let (block, count) = self.locate(position, most).ok_or(corrupt("a position in the journal"))?;
        let length = count as usize * self.block_bytes;
        device.read(self.sector_of(block), crate::bytes::slice_mut(bytes, 0, length)).await?;
        Ok(count)
    }

    /// Writes whole blocks from a position on, which may be in several places.
    pub(super) async fn write<D: Device>(&self, device: &D, position: u32, bytes: &[u8]) -> Result<(), DeviceFailed> {
        let (mut position, mut bytes) = (position, bytes);
        while !bytes.is_empty() {
            let most = (bytes.len() / self.block_bytes) as u32;
            let (block, count) = self.locate(position, most).ok_or(DeviceFailed)?;
            let (now, later) = bytes.split_at_checked(count as usize * self.block_bytes).ok_or(DeviceFailed)?;
            device.write(self.sector_of(block), now).await?;
            position = self.advance(position, count);
            bytes = later;
        }
        Ok(())
    }
}

/// The journal makes no sense.
pub(super) fn corrupt(what: &'static str) -> Error {
    Error::corrupt(what, Place::FileSystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area() -> Area {
        let runs = [Run { first: 0, physical: 100, count: 4 }, Run { first: 4, physical: 50, count: 6 }];
        let mut area = Area::new(&runs, 1024, 1000).unwrap();
        (area.first, area.end) = (1, 10);
        area
    }

    #[test]
    fn positions_are_found_in_their_runs() {
        let area = area();
        assert_eq!(area.locate(0, 9), Some((100, 4)));
        assert_eq!(area.locate(3, 9), Some((103, 1)));
        assert_eq!(area.locate(4, 9), Some((50, 6)));
        assert_eq!(area.locate(9, 9), Some((55, 1)));
        assert_eq!(area.locate(10, 9), None);
        assert!(area.contains(103) && !area.contains(104) && area.contains(50) && !area.contains(56));
    }

    #[test]
    fn the_ring_closes_behind_its_first_block() {
        let area = area();
        assert_eq!(area.advance(8, 1), 9);
        assert_eq!(area.advance(9, 1), 1);
        assert_eq!(area.advance(9, 9), 9);
        assert_eq!(area.advance(1, 8), 9);
    }

    #[test]
    fn holes_and_blocks_outside_are_refused() {
        let bad = |runs: &[Run]| Area::new(runs, 1024, 1000).is_err();
        assert!(bad(&[Run { first: 1, physical: 100, count: 4 }]));
        assert!(bad(&[Run { first: 0, physical: 100, count: 4 }, Run { first: 5, physical: 50, count: 6 }]));
        assert!(bad(&[Run { first: 0, physical: 998, count: 4 }]));
        assert!(bad(&[Run { first: 0, physical: u64::MAX, count: 4 }]));
        assert!(bad(&[Run { first: 0, physical: 0, count: 4 }]));
        assert!(bad(&[Run { first: 0, physical: 5, count: 0 }]));
    }
}
