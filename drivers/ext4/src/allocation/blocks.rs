//! Taking and freeing blocks.

use super::bitmap;
use crate::Ext4;
use crate::buffers::Block;
use crate::bytes::zeroes;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::group::{BLOCKS_UNINITIALISED, Group};
use core::ops::Range;

/// What freed blocks held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Contents of files, which the journal never saw.
    Data,
    /// Metadata: what the journal has of it must not come back.
    Metadata,
}

/// How good a place must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taste {
    /// All that is wanted in one run, or what follows the goal directly.
    Whole,
    /// The longest run of the first group that has any.
    Any,
}

impl<D: Device> Ext4<D> {
    /// Takes a run of up to `want` free blocks, at `goal` or near it; gives the first and their count.
    pub(crate) async fn take_blocks(&self, change: &Change<'_, D>, goal: u64, want: u32) -> Result<(u64, u32)> {
        let (first, count) = self.find_blocks(goal, want).await?;
        self.take_run(change, first, count).await?;
        Ok((first, count))
    }

    /// Finds a run of up to `want` free blocks of one group, at `goal` or near it; gives the first and their count.
    pub(crate) async fn find_blocks(&self, goal: u64, want: u32) -> Result<(u64, u32)> {
        let (goal_group, goal_at) = self.superblock.group_of(goal).unwrap_or((0, 0));
        let want = want.clamp(1, self.superblock.blocks_per_group);
        let first_pass = self.first_group_with_room(goal_group, want).await?;
        for taste in [Taste::Whole, Taste::Any] {
            for step in 0..self.superblock.groups {
                let number = (first_pass + step) % self.superblock.groups;
                let from = if number == goal_group { goal_at } else { 0 };
                if let Some(run) = self.find_in_group(number, from, want, taste).await? {
                    self.last_group.set(number);
                    return Ok(run);
                }
            }
        }
        Err(self.full())
    }

    /// That nothing is free, unless a commit helps.
    pub(crate) fn full(&self) -> Error {
        Error::Full { pending: self.buffers.pending_in(0, self.superblock.blocks).is_some() }
    }

    /// Where to begin: the goal's group, or when it is full, the one where the last search ended.
    async fn first_group_with_room(&self, goal_group: u32, want: u32) -> Result<u32> {
        let group = self.group(goal_group).await?;
        let last = self.last_group.get();
        Ok(if group.free_blocks < want.min(8) && last < self.superblock.groups { last } else { goal_group })
    }

    async fn find_in_group(&self, number: u32, from: u32, want: u32, taste: Taste) -> Result<Option<(u64, u32)>> {
        let group = self.group(number).await?;
        if group.free_blocks == 0 || taste == Taste::Whole && group.free_blocks < want && from == 0 {
            return Ok(None);
        }
        if group.flags & BLOCKS_UNINITIALISED != 0 && taste == Taste::Whole && group.free_blocks < want {
            return Ok(None);
        }
        let found = if group.flags & BLOCKS_UNINITIALISED != 0 {
            let mut bytes = zeroes(self.superblock.block_bytes as usize);
            self.initial_block_bitmap(number, &group, &mut bytes);
            self.find_run(number, &bytes, from, want, taste)
        } else {
            let block = self.block_bitmap(number, &group).await?;
            block.read(|bytes| self.find_run(number, bytes, from, want, taste))
        };
        let Some(run) = found else { return Ok(None) };
        let count = run.end - run.start;
        let first = self.superblock.group_start(number) + u64::from(run.start);
        if self.zones.overlap(first, u64::from(count)) || count > group.free_blocks {
            return Err(Error::corrupt("bitmap of blocks", Place::Group(number)));
        }
        Ok(Some((first, count)))
    }

    /// Takes blocks of one group that are free.
    pub(crate) async fn take_run(&self, change: &Change<'_, D>, first: u64, count: u32) -> Result<()> {
        let Some((number, start)) = self.superblock.group_of(first) else {
            return Err(Error::corrupt("number of a block", Place::Block(first)));
        };
        let mut group = self.group(number).await?;
        let block = self.block_bitmap_to_change(change, number, &mut group).await?;
        let run = start..start + count;
        if count > group.free_blocks || block.read(|bytes| bitmap::first_set(bytes, run.start, run.end)).is_some() {
            return Err(Error::corrupt("bitmap of blocks", Place::Group(number)));
        }
        self.mark_blocks(change, &block, run, true);
        group.free_blocks -= count;
        self.store_group(change, number, &group).await?;
        change.count_blocks(-i64::from(count));
        Ok(())
    }

    fn mark_blocks(&self, change: &Change<'_, D>, block: &Block, run: Range<u32>, taken: bool) {
        let bytes = (run.start / 8) as usize..run.end.div_ceil(8) as usize;
        let base = run.start & !7;
        change.edit(block, bytes, |bytes| bitmap::fill(bytes, run.start - base..run.end - base, taken));
    }

    /// A run of free blocks in a bitmap: at `from`, else the first that is long enough, else (by taste) the longest.
    fn find_run(&self, number: u32, bytes: &[u8], from: u32, want: u32, taste: Taste) -> Option<Range<u32>> {
        let limit = self.superblock.group_blocks(number);
        let mut longest: Option<Range<u32>> = None;
        for (start, end) in [(from, limit), (0, from.min(limit))] {
            let mut at = start;
            while let Some(run) = self.usable_run(number, bytes, at, end) {
                let run = run.start..run.end.min(run.start + want);
                let length = run.end - run.start;
                if length == want || from != 0 && run.start == from {
                    return Some(run);
                }
                at = run.end;
                if longest.as_ref().is_none_or(|best| best.end - best.start < length) {
                    longest = Some(run);
                }
            }
        }
        longest.filter(|_| taste == Taste::Any)
    }

    /// The first block range within this one that may not be taken: freed but not yet for the disk, or promised.
    fn kept_from_all(&self, range: Range<u64>) -> Option<Range<u64>> {
        let freed = self.buffers.pending_in(range.start, range.end - range.start);
        let promised = self.promised.borrow().first_overlap(&range);
        match (freed, promised) {
            (Some(freed), Some(promised)) => Some(if freed.start <= promised.start { freed } else { promised }),
            (freed, promised) => freed.or(promised),
        }
    }

    /// The first run from `from` whose blocks are free, were so in what is durable, and are promised to nobody.
    fn usable_run(&self, number: u32, bytes: &[u8], from: u32, limit: u32) -> Option<Range<u32>> {
        let base = self.superblock.group_start(number);
        let mut at = from;
        loop {
            let run = bitmap::clear_run(bytes, at, limit)?;
            let first = base + u64::from(run.start);
            let Some(kept) = self.kept_from_all(first..first + u64::from(run.end - run.start)) else {
                return Some(run);
            };
            if kept.start > first {
                return Some(run.start..(kept.start - base) as u32);
            }
            at = u32::try_from(kept.end.saturating_sub(base)).unwrap_or(limit).max(run.start + 1);
        }
    }

    /// Frees blocks.
    pub(crate) async fn free_blocks(&self, change: &Change<'_, D>, first: u64, count: u64, held: Held) -> Result<()> {
        self.check_blocks(first, count, Place::Block(first))?;
        let mut at = first;
        while at < first + count {
            let Some((number, offset)) = self.superblock.group_of(at) else {
                return Err(Error::corrupt("number of a block", Place::Block(at)));
            };
            let left = u64::from(self.superblock.group_blocks(number) - offset);
            let part = left.min(first + count - at) as u32;
            self.free_in_group(change, number, offset..offset + part).await?;
            at += u64::from(part);
        }
        match held {
            Held::Data => change.forget_data(first, count),
            Held::Metadata => (first..first + count).for_each(|block| change.forget_metadata(block)),
        }
        change.count_blocks(count as i64);
        Ok(())
    }

    async fn free_in_group(&self, change: &Change<'_, D>, number: u32, run: Range<u32>) -> Result<()> {
        let corrupt = || Error::corrupt("blocks freed that are free", Place::Group(number));
        let mut group: Group = self.group(number).await?;
        if group.flags & BLOCKS_UNINITIALISED != 0 {
            return Err(corrupt());
        }
        let block = self.block_bitmap(number, &group).await?;
        if block.read(|bytes| bitmap::first_clear(bytes, run.start, run.end)).is_some() {
            return Err(corrupt());
        }
        group.free_blocks += run.end - run.start;
        if group.free_blocks > self.superblock.group_blocks(number) {
            return Err(corrupt());
        }
        self.mark_blocks(change, &block, run, false);
        self.store_group(change, number, &group).await
    }
}
