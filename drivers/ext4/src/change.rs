//! One atomic step: what it changes, and the counts of the whole file system that follow.

use crate::Ext4;
use crate::buffers::{Block, Kind, Transaction, TransactionId};
use crate::bytes::{put_u32, u32_at};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::lock;
use crate::superblock::{field, incompatible};
use crate::sync;
use core::cell::Cell;
use core::ops::Range;

/// Blocks that every change may touch beside those it counts: the superblock.
const ALWAYS: u32 = 1;

/// A step in the making: finished, or undone when it is dropped.
pub(crate) struct Change<'a, D: Device> {
    // Dropped in this order: undone while nobody looks.
    transaction: Transaction<'a, D>,
    file_system: &'a Ext4<D>,
    freed_blocks: Cell<i64>,
    freed_inodes: Cell<i64>,
    _alone: lock::Guard<'a>,
    _turn: Option<sync::Guard<'a>>,
}

impl<D: Device> Ext4<D> {
    /// Begins a change that touches at most `credits` blocks; nobody else changes or looks until it ends.
    pub(crate) async fn change(&self, credits: u32) -> Result<Change<'_, D>> {
        let turn = self.turn.lock().await;
        self.change_in(Some(turn), credits).await
    }

    /// Keeps all other changes out while several follow each other by [`next_change`](Ext4::next_change).
    pub(crate) async fn changes(&self) -> sync::Guard<'_> {
        self.turn.lock().await
    }

    /// Begins the next change of several.
    pub(crate) async fn next_change(&self, _turn: &sync::Guard<'_>, credits: u32) -> Result<Change<'_, D>> {
        self.change_in(None, credits).await
    }

    async fn change_in<'a>(&'a self, turn: Option<sync::Guard<'a>>, credits: u32) -> Result<Change<'a, D>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        // Readers are kept out only after the wait for a commit, which may be long.
        let transaction = self.buffers.begin(credits + ALWAYS).await?;
        let alone = self.lock.exclusive().await;
        Ok(Change {
            transaction,
            file_system: self,
            freed_blocks: Cell::new(0),
            freed_inodes: Cell::new(0),
            _alone: alone,
            _turn: turn,
        })
    }
}

impl<D: Device> Change<'_, D> {
    /// Changes a range of a block.
    pub(crate) fn edit<R>(&self, block: &Block, range: Range<usize>, edit: impl FnOnce(&mut [u8]) -> R) -> R {
        self.transaction.change(block, range, edit)
    }

    /// A block to fill, zeroed, whatever it held.
    pub(crate) fn fresh(&self, number: u64, kind: Kind) -> Result<Block> {
        self.transaction.new_block(number, kind)
    }

    /// Notes that a block of metadata is free, once its bit is cleared.
    pub(crate) fn forget_metadata(&self, number: u64) {
        self.transaction.free_block(number);
    }

    /// Notes that blocks of data are free, once their bits are cleared.
    pub(crate) fn forget_data(&self, first: u64, count: u64) {
        self.transaction.free_data(first, count);
    }

    /// Counts blocks that became free, or negative ones that were taken.
    pub(crate) fn count_blocks(&self, freed: i64) {
        self.freed_blocks.set(self.freed_blocks.get() + freed);
    }

    /// Counts inodes that became free, or negative ones that were taken.
    pub(crate) fn count_inodes(&self, freed: i64) {
        self.freed_inodes.set(self.freed_inodes.get() + freed);
    }

    /// Makes the step part of the running transaction.
    pub(crate) async fn finish(self) -> Result<TransactionId> {
        if self.freed_blocks.get() != 0 || self.freed_inodes.get() != 0 {
            self.store_counts().await?;
        }
        Ok(self.transaction.finish())
    }

    async fn store_counts(&self) -> Result<()> {
        let (blocks, inodes) = (self.freed_blocks.get(), self.freed_inodes.get());
        let wide = self.file_system.superblock.features.needs(incompatible::WIDE);
        let (_, free) = self.file_system.free_counts().await?;
        let free = free.saturating_add_signed(blocks);
        self.edit_superblock(field::FREE_BLOCKS_LOW, |_| free as u32).await?;
        if wide {
            self.edit_superblock(field::FREE_BLOCKS_HIGH, |_| (free >> 32) as u32).await?;
        }
        let add = |free: u32| u32::try_from(i64::from(free) + inodes).unwrap_or(0);
        self.edit_superblock(field::FREE_INODES, add).await
    }

    /// Changes a 32-bit field of the superblock, whose checksum follows when it is written.
    pub(crate) async fn edit_superblock(&self, at: usize, edit: impl FnOnce(u32) -> u32) -> Result<()> {
        let block = self.file_system.superblock_block().await?;
        let at = self.file_system.superblock.place().1 + at;
        self.edit(&block, at..at + 4, |bytes| {
            let value = edit(u32_at(bytes, 0));
            put_u32(bytes, 0, value);
        });
        Ok(())
    }
}
