//! Which blocks and inodes are free: groups, their bitmaps, and how something new finds its place.

pub(crate) mod bitmap;
mod blocks;
mod inodes;

pub(crate) use blocks::Held;

use crate::Ext4;
use crate::buffers::{Block, Kind};
use crate::bytes::slice;
use crate::change::Change;
use crate::checksum::crc32c;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::group::{self, BLOCKS_UNINITIALISED, Group, INODES_UNINITIALISED, table_blocks};

/// Blocks that taking or freeing one run in one group may touch: bitmap and descriptor.
pub(crate) const RUN_CREDITS: u32 = 2;
/// Blocks that taking or freeing an inode may touch: both bitmaps and the descriptor.
pub(crate) const INODE_CREDITS: u32 = 3;

impl<D: Device> Ext4<D> {
    /// The block with a group's descriptor.
    async fn descriptor_block(&self, number: u32) -> Result<(Block, usize)> {
        let (block, at) = self.superblock.descriptor_place(number);
        let first = number - number % self.superblock.descriptors_per_block();
        let check = |bytes: &[u8]| group::check_block(&self.superblock, first, bytes);
        Ok((self.buffers.get(block, Kind::Descriptors, check).await?, at))
    }

    /// A group's descriptor.
    pub(crate) async fn group(&self, number: u32) -> Result<Group> {
        if number >= self.superblock.groups {
            return Err(Error::corrupt("number of a group", Place::Group(number)));
        }
        let (block, at) = self.descriptor_block(number).await?;
        block.read(|bytes| Group::parse(&self.superblock, number, slice(bytes, at, usize::MAX)))
    }

    /// Writes a group's descriptor.
    pub(crate) async fn store_group(&self, change: &Change<'_, D>, number: u32, group: &Group) -> Result<()> {
        let (block, at) = self.descriptor_block(number).await?;
        let size = usize::from(self.superblock.descriptor_bytes);
        change.edit(&block, at..at + size, |bytes| group.store(&self.superblock, number, bytes));
        Ok(())
    }

    /// The bitmap of a group's blocks, which has been written before.
    async fn block_bitmap(&self, number: u32, group: &Group) -> Result<Block> {
        let check = |bytes: &[u8]| {
            let covered = slice(bytes, 0, (self.superblock.blocks_per_group / 8) as usize);
            self.check_bitmap(number, covered, group.block_bitmap_checksum)
        };
        self.buffers.get(group.block_bitmap, Kind::BlockBitmap(number), check).await
    }

    /// The bitmap of a group's inodes, which has been written before.
    async fn inode_bitmap(&self, number: u32, group: &Group) -> Result<Block> {
        let check = |bytes: &[u8]| {
            let covered = slice(bytes, 0, (self.superblock.inodes_per_group / 8) as usize);
            self.check_bitmap(number, covered, group.inode_bitmap_checksum)
        };
        self.buffers.get(group.inode_bitmap, Kind::InodeBitmap(number), check).await
    }

    fn check_bitmap(&self, number: u32, covered: &[u8], expected: u32) -> Result<()> {
        if !self.superblock.has_checksums() {
            return Ok(());
        }
        let sum = Group::kept_checksum(&self.superblock, crc32c(self.superblock.checksum_seed, covered));
        if sum != expected {
            return Err(Error::corrupt("checksum of a bitmap", Place::Group(number)));
        }
        Ok(())
    }

    /// The bitmap of a group's blocks, written now if it never was.
    async fn block_bitmap_to_change(&self, change: &Change<'_, D>, number: u32, group: &mut Group) -> Result<Block> {
        if group.flags & BLOCKS_UNINITIALISED == 0 {
            return self.block_bitmap(number, group).await;
        }
        let block = change.fresh(group.block_bitmap, Kind::BlockBitmap(number))?;
        let size = self.superblock.block_bytes as usize;
        change.edit(&block, 0..size, |bytes| self.initial_block_bitmap(number, group, bytes));
        group.flags &= !BLOCKS_UNINITIALISED;
        Ok(block)
    }

    /// The bitmap of a group of which nothing was ever taken but what it keeps for itself.
    fn initial_block_bitmap(&self, number: u32, group: &Group, bytes: &mut [u8]) {
        let superblock = &self.superblock;
        let (start, blocks) = (superblock.group_start(number), superblock.group_blocks(number));
        let mut take = |first: u64, count: u64| {
            let from = first.saturating_sub(start).min(u64::from(blocks));
            let to = (first + count).saturating_sub(start).min(u64::from(blocks));
            bitmap::fill(bytes, from as u32..to as u32, true);
        };
        take(start, u64::from(superblock.group_overhead(number)));
        take(group.block_bitmap, 1);
        take(group.inode_bitmap, 1);
        take(group.inode_table, table_blocks(superblock));
        bitmap::fill(bytes, blocks..superblock.block_bytes * 8, true);
    }

    /// The bitmap of a group's inodes, written now if it never was.
    async fn inode_bitmap_to_change(&self, change: &Change<'_, D>, number: u32, group: &mut Group) -> Result<Block> {
        if group.flags & INODES_UNINITIALISED == 0 {
            return self.inode_bitmap(number, group).await;
        }
        let block = change.fresh(group.inode_bitmap, Kind::InodeBitmap(number))?;
        let (inodes, bits) = (self.superblock.inodes_per_group, self.superblock.block_bytes * 8);
        change.edit(&block, 0..(bits / 8) as usize, |bytes| bitmap::fill(bytes, inodes..bits, true));
        group.flags &= !INODES_UNINITIALISED;
        Ok(block)
    }

    /// Fails unless a file may have these blocks.
    pub(crate) fn check_blocks(&self, first: u64, count: u64, place: Place) -> Result<()> {
        let inside = first > u64::from(self.superblock.first_data_block)
            && first.checked_add(count).is_some_and(|end| end <= self.superblock.blocks);
        if !inside || self.zones.overlap(first, count) {
            return Err(Error::corrupt("number of a block", place));
        }
        Ok(())
    }
}
