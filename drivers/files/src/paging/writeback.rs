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
    let place = file.order.enter(pages.start);
    let last = file.size().div_ceil(PAGE_BYTES);
    let end = pages.end.min(last);
    if pages.start >= end {
        return Ok(None);
    }
    let (offset, len_bytes) = (pages.start * PAGE_BYTES, (end - pages.start) * PAGE_BYTES);
    let copied = file.pages.copy(offset, len_bytes, staged.offset()).map_err(|_| Refused::DeviceFailed)?;
    let copied = copied.min(file.size() - offset);
    let block_bytes = shared.blocks.block_bytes();
    let first = pages.start * (PAGE_BYTES / block_bytes);
    let work = Work { file, staging: staged.offset(), first, block_bytes };
    let mut promises = Promises { blocks: &*shared.blocks, runs: Vec::new() };
    work.all(first..first + copied.div_ceil(block_bytes), &mut promises).await?;
    drop(staged);
    let size = offset + copied;
    let is_longer = size > file.stored.get();
    if promises.runs.is_empty() && !is_longer {
        return Ok(None);
    }
    if is_longer {
        place.first().await;
    }
    let attached = shared.blocks.attach(file.inode, &promises.runs, size).await;
    file.has_been_cut();
    let transaction = attached?;
    promises.runs.clear();
    file.stored.set(file.stored.get().max(size));
    Ok(Some(transaction))
}

/// Blocks that data go to and that are not the file's yet, or not written. What was promised is given back unless it was attached.
struct Promises<'a, B: Blocks> {
    blocks: &'a B,
    runs: Vec<Run>,
}

impl<B: Blocks> Drop for Promises<'_, B> {
    fn drop(&mut self) {
        self.blocks.give_back(&self.runs);
    }
}

/// Blocks that are in the staging memory, and on their way to the disk.
struct Work<'a, P: Platform, B> {
    file: &'a File<P, B>,
    staging: u64,
    first: u64,
    block_bytes: u64,
}

impl<P: Platform, B: Blocks> Work<'_, P, B> {
    /// Writes blocks; what is to be attached then is added to the promises.
    async fn all(&self, blocks: Range<u64>, promises: &mut Promises<'_, B>) -> Result<(), Refused> {
        let runs = self.file.map(blocks.start, blocks.end - blocks.start).await?;
        let mut there = Vec::new();
        for run in &runs {
            match run.place {
                Place::Written(block) => there.push(self.one(run.first, run.count, block)),
                Place::Unwritten(_) | Place::Promised(_) => promises.runs.push(*run),
                Place::Hole => self.promise(run, promises).await?,
            }
        }
        for run in &promises.runs {
            if let Place::Unwritten(block) | Place::Promised(block) = run.place {
                there.push(self.one(run.first, run.count, block));
            }
        }
        join_all(there).await.into_iter().collect()
    }

    /// Finds blocks for a hole.
    async fn promise(&self, hole: &Run, promises: &mut Promises<'_, B>) -> Result<(), Refused> {
        let (mut at, end) = (hole.first, hole.first + hole.count);
        while at < end {
            let found = self.file.shared.blocks.promise(self.file.inode, at, end - at).await?;
            let before = at;
            for run in found {
                at = run.first + run.count;
                promises.runs.push(run);
            }
            if at <= before {
                return Err(Refused::Corrupt);
            }
        }
        Ok(())
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
