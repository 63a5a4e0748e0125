//! Where a file has blocks, and how many: what only the disk knows.
//!
//! Pages that were stored to and not written back have none yet. So they are written back first; then the disk knows everything.

use super::file::DiskFile;
use super::session::disk_file;
use super::volume::Volume;
use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::fs::content::Sought;
use crate::platform::LocalFuture;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use driver_protocol::files::entry::run::{Kind, Run, runs};
use driver_protocol::files::operation::Operation;
use driver_protocol::files::{self, Request};

impl DiskFile {
    /// The first byte of an inode from `offset` on that lies in a block with data, or in none; the end counts as a hole. `ENXIO`: there is
    /// none before the end. `EIO`.
    pub fn seek(inode: &Rc<Inode>, offset: u64, sought: Sought) -> LocalFuture<Result<u64>> {
        let (inode, number) = (inode.clone(), inode.number());
        Box::pin(async move {
            let volume = inode.filesystem().volume().ok_or(Errno::EINVAL)?.clone();
            if !volume.has_failed() {
                volume.write_back(&inode).await?;
                volume.commit_applied().await?;
            }
            let size = inode.size();
            let mut at = offset;
            while at < size {
                let runs = volume.runs(number, at, size - at).await?;
                let is_sought = |run: &&Run| (run.kind == Kind::Data) == (sought == Sought::Data);
                if let Some(found) = runs.iter().find(is_sought).map(|run| run.offset.max(offset)) {
                    return if found < size { Ok(found) } else { end_of(size, sought) };
                }
                let end = runs.last().map_or(size, |last| last.offset.saturating_add(last.len_bytes));
                at = end.max(at + 1);
            }
            if offset >= size { Err(Errno::ENXIO) } else { end_of(size, sought) }
        })
    }

    /// Has blocks set aside for a range: `fallocate`. `ENOSPC`; `EOPNOTSUPP`: this kind of file has none but with data.
    pub fn allocate(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let (volume, inode) = (self.volume().clone(), self.number());
        self.make_uneven();
        Box::pin(async move {
            let attempted = volume.attempt(&Operation::Allocate { inode, offset, len_bytes }).await;
            volume.count_blocks(inode).await;
            attempted
        })
    }

    /// Gives the blocks of a range back that was made zeros and written back. What is stored there from now on needs others.
    pub fn punch(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let (volume, inode) = (self.volume().clone(), self.number());
        self.make_uneven();
        self.forget_blocks_from(offset);
        Box::pin(async move {
            volume.attempt(&Operation::Punch { inode, offset, len_bytes }).await?;
            volume.count_blocks(inode).await;
            if let Some(inode) = volume.known(inode)
                && let Some(file) = disk_file(&inode)
            {
                file.forget_pages(offset, len_bytes);
            }
            Ok(())
        })
    }
}

/// What is found at the end of a file.
fn end_of(size: u64, sought: Sought) -> Result<u64> {
    match sought {
        Sought::Data => Err(Errno::ENXIO),
        Sought::Hole => Ok(size),
    }
}

impl Volume {
    /// Where blocks of a file are, from an offset on, as far as one answer goes. `EIO`.
    async fn runs(&self, inode: u64, offset: u64, len_bytes: u64) -> Result<Vec<Run>> {
        let answer = self.demand(Request::Runs { inode, offset, len_bytes }, files::MIN_LIST_BYTES).await?;
        let filled = files::Filled::decode(&answer.words).len_bytes;
        Ok(runs(answer.filled(filled)).collect())
    }

    /// Asks what a file has of the disk. If that is not known, it stays as it was thought to be.
    pub(super) async fn count_blocks(&self, number: u64) {
        let Ok(answer) = self.demand(Request::Load { inode: number }, files::MIN_LIST_BYTES).await else { return };
        let filled = files::Filled::decode(&answer.words).len_bytes;
        if let Some((entry, _)) = files::entry::split_first(answer.filled(filled))
            && let Some(inode) = self.known(number)
            && let Some(file) = disk_file(&inode)
        {
            file.set_blocks(entry.attributes.blocks);
        }
    }
}
