//! The blocks of files: where they are, and more or fewer of them.

use crate::Ext4;
use crate::buffers::TransactionId;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::inode::{FileKind, Inode, Time};
use crate::map::{Lie, Progress, Run};
use crate::orphans::ORPHAN_CREDITS;
use alloc::vec::Vec;

/// Runs that one transaction allots at most.
const MOST_FILLS: u32 = 4;
/// Extents that one transaction converts at most.
const MOST_CONVERSIONS: u32 = 8;
/// The last block that a file can have.
const LAST_BLOCK: u32 = u32::MAX - 1;

/// What was allotted to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotted {
    /// Where the blocks are now, from the first that was asked for, without gaps and perhaps fewer than asked for.
    pub runs: Vec<Run>,
    /// The transaction that made it so.
    pub transaction: TransactionId,
}

impl<D: Device> Ext4<D> {
    /// Where `count` blocks of a file from `first` are, without gaps; perhaps fewer than asked for, but not none.
    ///
    /// # Errors
    /// [`Error::Invalid`]: not a regular file. [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`].
    pub async fn map(&self, number: u32, first: u64, count: u64) -> Result<Vec<Run>> {
        let _guard = self.lock.shared().await;
        let inode = self.load_regular(number).await?;
        self.runs(&inode, first, count).await
    }

    /// Sees to it that `count` blocks of a file from `first` have a place; those that have one keep it, and others are set aside: they
    /// read as zeroes.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::Invalid`]: not a regular file. [`Error::Unsupported`]: a file without extents.
    /// [`Error::FileTooBig`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`], [`Error::ReadOnly`].
    pub async fn allocate(&self, number: u32, first: u64, count: u64) -> Result<Allotted> {
        let turn = self.changes().await;
        let mut most = MOST_FILLS;
        loop {
            let inode = self.load_regular(number).await?;
            let change = self.next_change(&turn, 1 + most * self.fill_credits(&inode)).await?;
            let mut inode = inode;
            let range = self.check_range(&inode, first, count)?;
            let mut fills = 0;
            match self.fill(&change, &mut inode, range, most, &mut fills).await {
                // The last one failed half-way: undone, those before it are tried again without it.
                Err(Error::Full { .. }) if fills > 1 => most = fills - 1,
                Err(error) => return Err(error),
                Ok(runs) => {
                    self.store(&change, &inode).await?;
                    return Ok(Allotted { runs, transaction: change.finish().await? });
                }
            }
        }
    }

    /// Fills the first `most` holes of a range, counted; gives what is in the range up to where it came.
    async fn fill(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        range: core::ops::Range<u32>,
        most: u32,
        fills: &mut u32,
    ) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let left = range.end - at;
            let run = match self.find_block(inode, at).await? {
                Lie::In(extent) => crate::map::clipped(&extent, at, left),
                Lie::Until(_) if *fills == most => break,
                Lie::Until(next) => {
                    *fills += 1;
                    let hole = u32::try_from(next).unwrap_or(u32::MAX) - at;
                    self.fill_hole(change, inode, at, hole.min(left)).await?
                }
            };
            at += run.count as u32;
            runs.push(run);
        }
        Ok(runs)
    }

    /// Marks unwritten blocks of a file as written, once their data are on the device; gives the last transaction.
    ///
    /// # Errors
    /// [`Error::Full`]: no room to note it. [`Error::Invalid`], [`Error::NotFound`], [`Error::Corrupt`],
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn convert(&self, number: u32, first: u64, count: u64) -> Result<TransactionId> {
        let turn = self.changes().await;
        let inode = self.load_regular(number).await?;
        let range = self.check_range(&inode, first, count)?;
        if !inode.has_extents() || range.is_empty() {
            return Ok(self.buffers.running());
        }
        let (mut at, mut transaction) = (u64::from(range.start), self.buffers.running());
        while at < u64::from(range.end) {
            let inode = self.load_regular(number).await?;
            let change = self.next_change(&turn, 1 + MOST_CONVERSIONS * 2 * self.fill_credits(&inode)).await?;
            let mut inode = inode;
            for _ in 0..MOST_CONVERSIONS {
                if at < u64::from(range.end) {
                    at = self.convert_extent(&change, &mut inode, at as u32, range.end - 1).await?;
                }
            }
            self.store(&change, &inode).await?;
            transaction = change.finish().await?;
        }
        Ok(transaction)
    }

    /// Sets blocks aside for a file where it has none; they read as zeroes. Its size stays. On an error some may have been.
    ///
    /// # Errors
    /// As of [`allocate`](Ext4::allocate).
    pub async fn fallocate(&self, number: u32, first: u64, count: u64) -> Result<()> {
        let (mut at, end) = (first, first.saturating_add(count));
        while at < end {
            let allotted = self.allocate(number, at, end - at).await?;
            at = allotted.runs.last().map_or(end, |run| run.first + run.count);
        }
        Ok(())
    }

    /// Takes `count` blocks of a file from `first` away: they read as zeroes. Its size stays. On an error some may be gone.
    ///
    /// # Errors
    /// [`Error::Full`]: no room to note it. [`Error::Invalid`], [`Error::NotFound`], [`Error::Corrupt`],
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn punch(&self, number: u32, first: u64, count: u64) -> Result<()> {
        let turn = self.changes().await;
        loop {
            let inode = self.load_regular(number).await?;
            let most = self.most_blocks(&inode);
            let end = first.saturating_add(count).min(most);
            if first >= end {
                return Ok(());
            }
            let change = self.next_change(&turn, 1 + self.cut_credits(&inode)).await?;
            let mut inode = inode;
            let progress = self.cut(&change, &mut inode, first as u32, (end - 1) as u32).await?;
            self.store(&change, &inode).await?;
            change.finish().await?;
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Sets the size of a regular file, and frees the blocks beyond, also such as were set aside there. (To make a file longer without that:
    /// [`set_attributes`](Ext4::set_attributes).) The bytes of the last block behind
    /// the size are the caller's to clear. A huge file is cut in several transactions; the next mount finishes what was begun.
    ///
    /// # Errors
    /// [`Error::FileTooBig`], [`Error::Invalid`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn truncate(&self, number: u32, size: u64, now: Time) -> Result<()> {
        let turn = self.changes().await;
        let inode = self.load_regular(number).await?;
        let credits = 1 + ORPHAN_CREDITS + self.cut_credits(&inode);
        let change = self.next_change(&turn, credits).await?;
        let mut inode = inode;
        self.set_size(&change, &mut inode, size).await?;
        (inode.modified, inode.changed) = (now, now);
        let progress = self.cut_tail(&change, &mut inode).await?;
        let unfinished = progress == Progress::More && !self.orphans.borrow().contains(number);
        if unfinished {
            self.add_orphan(&change, &mut inode).await?;
        }
        self.store(&change, &inode).await?;
        change.finish().await?;
        if unfinished {
            self.orphans.borrow_mut().added(number);
        }
        if progress == Progress::More { self.cut_rest(&turn, number).await } else { Ok(()) }
    }

    /// Frees the blocks beyond the size. The inode is to be stored.
    async fn cut_tail(&self, change: &Change<'_, D>, inode: &mut Inode) -> Result<Progress> {
        match u32::try_from(inode.size_blocks(&self.superblock)) {
            Ok(first) if first <= LAST_BLOCK => self.cut(change, inode, first, LAST_BLOCK).await,
            Ok(_) | Err(_) => Ok(Progress::Done),
        }
    }

    /// Goes on with a cut that was begun, and takes a file that has a name from the orphans at its end.
    async fn cut_rest(&self, turn: &crate::sync::Guard<'_>, number: u32) -> Result<()> {
        loop {
            let inode = self.load(number).await?;
            let change = self.next_change(turn, 1 + ORPHAN_CREDITS + self.cut_credits(&inode)).await?;
            let mut inode = inode;
            let progress = self.cut_tail(&change, &mut inode).await?;
            let finished = progress == Progress::Done && inode.links > 0;
            if finished {
                self.remove_orphan(&change, &mut inode).await?;
            }
            self.store(&change, &inode).await?;
            change.finish().await?;
            if finished {
                self.orphans.borrow_mut().removed(number);
            }
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Finishes the cut of a file on the list of orphans that has a name.
    pub(crate) async fn finish_cut(&self, inode: &Inode) -> Result<()> {
        let turn = self.changes().await;
        self.cut_rest(&turn, inode.number).await
    }

    pub(super) async fn load_regular(&self, number: u32) -> Result<Inode> {
        let inode = self.load(number).await?;
        if inode.kind() == Some(FileKind::Regular) { Ok(inode) } else { Err(Error::Invalid) }
    }

    pub(super) fn check_range(&self, inode: &Inode, first: u64, count: u64) -> Result<core::ops::Range<u32>> {
        let end = first.checked_add(count).filter(|end| *end <= self.most_blocks(inode)).ok_or(Error::FileTooBig)?;
        Ok(first as u32..end as u32)
    }
}
