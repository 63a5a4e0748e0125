//! Finding, taking and freeing inodes.

use super::bitmap;
use crate::buffers::Block;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::group::{BLOCKS_UNINITIALISED, Group, INODES_UNINITIALISED};
use crate::inode::FileKind;
use crate::{Ext4, ROOT};
use alloc::vec::Vec;

/// Most numbers that one request reserves.
const MOST_RESERVED: u32 = 1024;

impl<D: Device> Ext4<D> {
    /// Numbers for `count` new files of a kind in the directory `parent`, near it; directories of the root are spread. They are
    /// kept for the caller until used by [`create`](Ext4::create) or given back by [`release`](Ext4::release); nothing of it
    /// is on the disk. Fewer if fewer are free.
    ///
    /// # Errors
    /// [`Error::Full`]: no inode is free. [`Error::Corrupt`], [`Error::Device`].
    pub async fn reserve(&self, parent: u32, kind: FileKind, count: u32) -> Result<Vec<u32>> {
        let _guard = self.lock.shared().await;
        let (parent_group, _) = self.superblock.inode_group(parent)?;
        let first = match kind {
            FileKind::Directory if parent == ROOT => self.emptiest_group(parent_group).await?,
            FileKind::Directory
            | FileKind::Fifo
            | FileKind::CharacterDevice
            | FileKind::BlockDevice
            | FileKind::Regular
            | FileKind::Symlink
            | FileKind::Socket => parent_group,
        };
        let wanted = count.min(MOST_RESERVED) as usize;
        let mut found = Vec::new();
        for step in 0..self.superblock.groups {
            if found.len() >= wanted {
                break;
            }
            self.find_inodes((first + step) % self.superblock.groups, wanted, &mut found).await?;
        }
        if found.is_empty() && wanted > 0 {
            return Err(Error::Full { pending: false });
        }
        self.reserved.borrow_mut().extend(&found);
        Ok(found)
    }

    /// Keeps numbers for the caller that it has from an earlier mount: those that are still free.
    pub fn adopt(&self, numbers: &[u32]) {
        self.reserved.borrow_mut().extend(numbers);
    }

    /// Gives back reserved numbers.
    pub fn release(&self, numbers: &[u32]) {
        let mut reserved = self.reserved.borrow_mut();
        for number in numbers {
            reserved.remove(number);
        }
    }

    /// The group for a directory that shall lie apart from others: with much room and few directories.
    async fn emptiest_group(&self, start: u32) -> Result<u32> {
        let groups = self.superblock.groups;
        let (inodes, blocks) = self.free_counts().await?;
        let least_inodes = inodes / groups;
        let least_blocks = blocks / u64::from(groups);
        let mut best: Option<(u32, u32)> = None;
        for step in 0..groups {
            let number = (start + step) % groups;
            let group = self.group(number).await?;
            let roomy = group.free_inodes >= least_inodes.max(1) && u64::from(group.free_blocks) >= least_blocks;
            if roomy && best.is_none_or(|(fewest, _)| group.directories < fewest) {
                best = Some((group.directories, number));
            }
        }
        Ok(best.map_or(start, |(_, number)| number))
    }

    async fn find_inodes(&self, number: u32, wanted: usize, found: &mut Vec<u32>) -> Result<()> {
        let group = self.group(number).await?;
        if group.free_inodes == 0 {
            return Ok(());
        }
        let unused = group.flags & INODES_UNINITIALISED != 0;
        let block = if unused { None } else { Some(self.inode_bitmap(number, &group).await?) };
        let first = number * self.superblock.inodes_per_group + 1;
        let reserved = self.reserved.borrow();
        let mut offer = |place: u32| {
            let inode = first + place;
            if inode >= self.superblock.first_inode && !reserved.contains(&inode) {
                found.push(inode);
            }
            found.len() < wanted
        };
        match block {
            Some(block) => self.offer_clear(&block, offer),
            None => {
                let _all = (0..self.superblock.inodes_per_group).all(&mut offer);
            }
        }
        Ok(())
    }

    /// Goes through the free places of a bitmap of inodes as long as they are wanted.
    fn offer_clear(&self, block: &Block, mut offer: impl FnMut(u32) -> bool) {
        let limit = self.superblock.inodes_per_group;
        block.read(|bytes| {
            let mut at = 0;
            while let Some(place) = bitmap::first_clear(bytes, at, limit) {
                if !offer(place) {
                    return;
                }
                at = place + 1;
            }
        });
    }

    /// Takes the inode with a number.
    ///
    /// # Errors
    /// [`Error::Exists`]: it is taken.
    pub(crate) async fn take_inode(&self, change: &Change<'_, D>, inode: u32, directory: bool) -> Result<()> {
        let (number, place) = self.superblock.inode_group(inode)?;
        if inode < self.superblock.first_inode {
            return Err(Error::Invalid);
        }
        let mut group = self.group(number).await?;
        let block = self.inode_bitmap_to_change(change, number, &mut group).await?;
        if block.read(|bytes| bitmap::is_set(bytes, place)) {
            return Err(Error::Exists);
        }
        if group.flags & BLOCKS_UNINITIALISED != 0 {
            // A group with inodes in use is expected to have both its bitmaps.
            self.block_bitmap_to_change(change, number, &mut group).await?;
        }
        self.mark_inode(change, &block, place, true);
        let corrupt = || Error::corrupt("free inodes of a group", Place::Group(number));
        group.free_inodes = group.free_inodes.checked_sub(1).ok_or_else(corrupt)?;
        group.directories += u32::from(directory);
        group.unused_inodes = group.unused_inodes.min(self.superblock.inodes_per_group - place - 1);
        self.store_group(change, number, &group).await?;
        change.count_inodes(-1);
        Ok(())
    }

    /// Frees an inode.
    pub(crate) async fn free_inode(&self, change: &Change<'_, D>, inode: u32, directory: bool) -> Result<()> {
        let (number, place) = self.superblock.inode_group(inode)?;
        let corrupt = || Error::corrupt("an inode freed that is free", Place::Inode(inode));
        let mut group: Group = self.group(number).await?;
        if group.flags & INODES_UNINITIALISED != 0 || inode < self.superblock.first_inode {
            return Err(corrupt());
        }
        let block = self.inode_bitmap(number, &group).await?;
        if !block.read(|bytes| bitmap::is_set(bytes, place)) || group.free_inodes >= self.superblock.inodes_per_group {
            return Err(corrupt());
        }
        self.mark_inode(change, &block, place, false);
        group.free_inodes += 1;
        group.directories = group.directories.saturating_sub(u32::from(directory));
        self.store_group(change, number, &group).await?;
        change.count_inodes(1);
        Ok(())
    }

    fn mark_inode(&self, change: &Change<'_, D>, block: &Block, place: u32, taken: bool) {
        let at = (place / 8) as usize;
        change.edit(block, at..at + 1, |bytes| bitmap::fill(bytes, place % 8..place % 8 + 1, taken));
    }
}
