//! Data on their way: blocks are a file's only when the data are there. So nobody ever finds in a file what its blocks held before, and no
//! file is longer than what was written of it, whenever the power fails.

use crate::Ext4;
use crate::buffers::TransactionId;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::map::{Extent, Lie, State};
use alloc::vec::Vec;

/// Holes that are given places together, and runs that one transaction attaches.
const MOST_RUNS: u32 = 4;

/// Where blocks of a file are that data go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// From this block of the device on, which have data already.
    Written(u64),
    /// From this block of the device on, which are the file's and read as zeroes until they are attached.
    Unwritten(u64),
    /// From this block of the device on, which are not the file's until they are attached.
    Promised(u64),
}

/// Blocks of a file that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The first block of the file.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where they are.
    pub room: Room,
}

/// What an extent has from block `at` of the file on, up to `end`.
fn placed_at(extent: &Extent, at: u32, end: u32) -> Placed {
    let rest = extent.from(at);
    let room = match rest.state {
        State::Written => Room::Written(rest.start),
        State::Unwritten => Room::Unwritten(rest.start),
    };
    Placed { first: u64::from(at), count: u64::from(rest.count.min(end - at)), room }
}

impl<D: Device> Ext4<D> {
    /// Finds places for the holes among `count` blocks of a file from `first`, for data that will be written now, and tells where all
    /// lie from the first on without gaps, perhaps fewer than asked for: what was a hole is [`Promised`](Room::Promised). On the disk these
    /// blocks are free until they are [attached](Ext4::attach), or [given back](Ext4::give_back); nobody else gets them meanwhile, and a
    /// file system that is mounted anew knows nothing of it.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::Invalid`]: not a regular file. [`Error::FileTooBig`], [`Error::NotFound`], [`Error::Corrupt`],
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn promise(&self, number: u32, first: u64, count: u64) -> Result<Vec<Placed>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let _turn = self.changes().await;
        let inode = self.load_regular(number).await?;
        let range = self.check_range(&inode, first, count)?;
        let (mut at, mut promises, mut placed) = (range.start, 0, Vec::new());
        while at < range.end && promises < MOST_RUNS {
            let found = match self.find_block(&inode, at).await {
                Err(error) => Err(error),
                Ok(Lie::In(extent)) => Ok(placed_at(&extent, at, range.end)),
                Ok(Lie::Until(next)) => {
                    promises += 1;
                    let end = u32::try_from(next).unwrap_or(u32::MAX).min(range.end);
                    self.promise_hole(&inode, at, end - at).await
                }
            };
            match found {
                Ok(run) => {
                    at += run.count as u32;
                    placed.push(run);
                }
                // What was found before is better than nothing.
                Err(Error::Full { .. }) if !placed.is_empty() => break,
                Err(error) => {
                    self.give_back(&placed);
                    return Err(error);
                }
            }
        }
        Ok(placed)
    }

    async fn promise_hole(&self, inode: &Inode, first: u32, count: u32) -> Result<Placed> {
        let (start, count) = self.find_for_hole(inode, first, count).await?;
        self.promised.borrow_mut().insert(start..start + u64::from(count));
        Ok(Placed { first: u64::from(first), count: u64::from(count), room: Room::Promised(start) })
    }

    /// Gives promised blocks back that were not attached.
    pub fn give_back(&self, placed: &[Placed]) {
        let mut promised = self.promised.borrow_mut();
        for Placed { count, room, .. } in placed {
            if let Room::Promised(start) = room {
                promised.remove(&(*start..*start + *count));
            }
        }
    }

    /// Data were written to these blocks: promised ones become the file's, unwritten ones written, and the file has `size` bytes if it had
    /// fewer. On an error the promises stay, and those at the front may have been kept. Gives the last transaction.
    ///
    /// # Errors
    /// [`Error::Full`]: no room to note it. [`Error::Invalid`], [`Error::FileTooBig`], [`Error::NotFound`], [`Error::Corrupt`],
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn attach(&self, number: u32, placed: &[Placed], size: u64) -> Result<TransactionId> {
        let turn = self.changes().await;
        let mut rest = placed;
        // Where the first of the rest goes on.
        let mut skipped = 0;
        loop {
            let inode = self.load_regular(number).await?;
            let change = self.next_change(&turn, 2 + MOST_RUNS * 2 * self.fill_credits(&inode)).await?;
            let (mut inode, mut kept) = (inode, rest);
            for _ in 0..MOST_RUNS {
                let Some((run, others)) = rest.split_first() else { break };
                skipped = self.attach_part(&change, &mut inode, run, skipped).await?;
                if skipped >= run.count {
                    (rest, skipped) = (others, 0);
                }
            }
            let reached =
                rest.first().map_or(u64::MAX, |run| (run.first + skipped) * u64::from(self.superblock.block_bytes));
            let size = size.min(reached);
            if size > inode.size {
                self.set_size(&change, &mut inode, size).await?;
            }
            self.store(&change, &inode).await?;
            let transaction = change.finish().await?;
            kept = kept.get(..kept.len() - rest.len()).unwrap_or_default();
            self.give_back(kept);
            if rest.is_empty() {
                return Ok(transaction);
            }
        }
    }

    /// Attaches a run from `skipped` blocks on, as far as one step goes; tells how far it came.
    async fn attach_part(&self, change: &Change<'_, D>, inode: &mut Inode, run: &Placed, skipped: u64) -> Result<u64> {
        let range = self.check_range(inode, run.first + skipped, run.count - skipped)?;
        match run.room {
            Room::Written(_) => Ok(run.count),
            Room::Promised(start) => {
                self.attach_run(change, inode, range.start, start, run.count as u32).await?;
                Ok(run.count)
            }
            Room::Unwritten(_) if range.is_empty() => Ok(run.count),
            Room::Unwritten(_) => {
                let next = self.convert_extent(change, inode, range.start, range.end - 1).await?;
                Ok(next.max(u64::from(range.start) + 1) - run.first)
            }
        }
    }
}
