//! Writing pages back.

use super::{Blocks, File, Place, Run, count};
use crate::platform::{PAGE_BYTES, Pages, Platform, SECTOR_BYTES, Transfer};
use crate::turns::Use;
use alloc::vec::Vec;
use core::ops::Range;
use driver_protocol::files::Refused;
use futures_util::future::join_all;

/// Pages that are written together: 512 KiB.
const PIECE_PAGES: u64 = crate::staging::MAX_PIECE_PAGES;

/// Writes pages back.
pub(super) async fn run<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>) -> Result<(), Refused> {
    let len = PIECE_PAGES.min(file.shared.writes.max_pages());
    if pages.end - pages.start <= len {
        return piece(file, pages).await;
    }
    let pieces = (pages.start..pages.end).step_by(len as usize);
    let pieces = pieces.map(|start| piece(file, start..(start + len).min(pages.end)));
    join_all(pieces).await.into_iter().collect()
}

async fn piece<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>) -> Result<(), Refused> {
    if file.is_released() {
        return Ok(());
    }
    file.shared.blocks.applied(file.slot.cut().max(file.slot.size())).await;
    if let Some(transaction) = write(file, pages).await? {
        file.shared.blocks.durable(transaction).await?;
    }
    Ok(())
}

/// Writes pages, as far as the file goes; tells which transaction has to be durable before they are.
async fn write<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>) -> Result<Option<u64>, Refused> {
    let shared = &file.shared;
    let staged = shared.writes.take(pages.end - pages.start).await;
    let _turn = file.writes.take(Use::Shared).await;
    let last = file.size().div_ceil(PAGE_BYTES);
    let end = pages.end.min(last);
    if pages.start >= end {
        return Ok(None);
    }
    let len_bytes = (end - pages.start) * PAGE_BYTES;
    let copied =
        file.pages.copy(pages.start * PAGE_BYTES, len_bytes, staged.offset()).map_err(|_| Refused::DeviceFailed)?;
    let block_bytes = shared.blocks.block_bytes();
    let first = pages.start * (PAGE_BYTES / block_bytes);
    let blocks = copied.min(file.size() - pages.start * PAGE_BYTES).div_ceil(block_bytes);
    let work = Work { file, staging: staged.offset(), first, block_bytes };
    work.all(first..first + blocks).await
}

/// Blocks that are in the staging memory, and on their way to the disk.
struct Work<'a, P: Platform, B> {
    file: &'a File<P, B>,
    staging: u64,
    first: u64,
    block_bytes: u64,
}

impl<P: Platform, B: Blocks> Work<'_, P, B> {
    /// Writes blocks; tells the last transaction that they need.
    async fn all(&self, blocks: Range<u64>) -> Result<Option<u64>, Refused> {
        let system = &self.file.shared.blocks;
        let runs = self.file.map(blocks.start, blocks.end - blocks.start).await?;
        let mut needed = None;
        let mut there = Vec::new();
        let mut at = blocks.start;
        for run in &runs {
            match run.place {
                Place::Written(block) => there.push(self.one(run.first, run.count, block)),
                Place::Unwritten(block) => {
                    self.one(run.first, run.count, block).await?;
                    let converted = system.convert(self.file.inode, run.first, run.count).await;
                    self.file.has_been_cut();
                    needed = Some(converted?);
                }
                Place::Hole => needed = self.allot(run).await?.or(needed),
            }
            at = run.first + run.count;
        }
        debug_assert_eq!(at, blocks.end, "the runs have a gap");
        join_all(there).await.into_iter().collect::<Result<(), Refused>>()?;
        Ok(needed)
    }

    /// Allots blocks for a hole and writes them: what was allotted together goes to the disk before more is asked for.
    async fn allot(&self, hole: &Run) -> Result<Option<u64>, Refused> {
        let (mut at, end) = (hole.first, hole.first + hole.count);
        let mut needed = None;
        while at < end {
            let allotted = self.file.shared.blocks.allot(self.file.inode, at, end - at).await;
            self.file.has_been_cut();
            let allotted = allotted?;
            let guard = self.file.shared.blocks.begin_data(allotted.transaction);
            needed = Some(allotted.transaction);
            let before = at;
            for run in &allotted.runs {
                let (Place::Written(block) | Place::Unwritten(block)) = run.place else { continue };
                self.one(run.first, run.count, block).await?;
                at = run.first + run.count;
            }
            drop(guard);
            if at == before {
                return Err(Refused::Corrupt);
            }
        }
        Ok(needed)
    }

    /// Writes blocks of the file to blocks of the disk.
    async fn one(&self, first: u64, blocks: u64, to: u64) -> Result<(), Refused> {
        let shared = &self.file.shared;
        let transfer = Transfer {
            sector: to * (self.block_bytes / SECTOR_BYTES),
            len_bytes: blocks * self.block_bytes,
            staging: self.staging + (first - self.first) * self.block_bytes,
        };
        count(&shared.counts.writes, 1);
        count(&shared.counts.written_bytes, transfer.len_bytes);
        let written = shared.platform.write(transfer).await;
        shared.blocks.note_write();
        written.map_err(|_| Refused::DeviceFailed)
    }
}
