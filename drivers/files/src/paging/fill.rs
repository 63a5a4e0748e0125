//! Bringing pages in.

use super::{Blocks, File, Place, Run, count};
use crate::platform::{PAGE_BYTES, Pages, Platform, SECTOR_BYTES, Transfer};
use crate::staging::Piece;
use alloc::vec::Vec;
use core::ops::Range;
use driver_protocol::files::Refused;
use futures_util::future::join_all;

/// Pages that are brought in together: 256 KiB. What is asked for first is there before all has come.
const PIECE_PAGES: u64 = 64;

/// Whether a part of a job counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It does.
    Yes,
    /// Something was cut off meanwhile: once more.
    Again,
}

/// Brings pages in.
pub(super) async fn run<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>) -> Result<(), Refused> {
    let len = PIECE_PAGES.min(file.shared.reads.max_pages());
    if pages.end - pages.start <= len {
        return piece(file, pages).await;
    }
    let pieces = (pages.start..pages.end).step_by(len as usize);
    let pieces = pieces.map(|start| piece(file, start..(start + len).min(pages.end)));
    join_all(pieces).await.into_iter().collect()
}

async fn piece<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>) -> Result<(), Refused> {
    while !file.is_released() {
        let cut = file.slot.cut();
        file.shared.blocks.applied(cut).await;
        match bring(file, pages.clone(), cut).await? {
            Done::Yes => return Ok(()),
            Done::Again => count(&file.shared.counts.repeated, 1),
        }
    }
    Ok(())
}

async fn bring<P: Platform, B: Blocks>(file: &File<P, B>, pages: Range<u64>, cut: u64) -> Result<Done, Refused> {
    let shared = &file.shared;
    let blocks_per_page = PAGE_BYTES / shared.blocks.block_bytes();
    let (first, end) = (pages.start * blocks_per_page, pages.end * blocks_per_page);
    let runs = file.map(first, end - first).await?;
    if runs.iter().all(|run| !matches!(run.place, Place::Written(_))) {
        return supply(file, pages, None, cut);
    }
    let staged = shared.reads.take(pages.end - pages.start).await;
    stage(file, first, &runs, &staged).await?;
    supply_runs(file, pages, &runs, &staged, cut)
}

/// Reads what is on the disk into the staging memory; blocks that are not there become zeros where their page has others.
async fn stage<P: Platform, B: Blocks>(
    file: &File<P, B>,
    first: u64,
    runs: &[Run],
    staged: &Piece,
) -> Result<(), Refused> {
    let shared = &file.shared;
    let block_bytes = shared.blocks.block_bytes();
    let place_of = |block: u64| staged.offset() + (block - first) * block_bytes;
    let mut reads = Vec::new();
    for run in runs {
        match run.place {
            Place::Written(block) => {
                let transfer = Transfer {
                    sector: block * (block_bytes / SECTOR_BYTES),
                    len_bytes: run.count * block_bytes,
                    staging: place_of(run.first),
                };
                count(&shared.counts.reads, 1);
                count(&shared.counts.read_bytes, transfer.len_bytes);
                reads.push(shared.platform.read(transfer));
            }
            Place::Hole | Place::Unwritten(_) | Place::Promised(_) => zero_parts(file, run, place_of(run.first))?,
        }
    }
    // One after the other only where there is but one.
    match reads.len() {
        1 => match reads.pop() {
            Some(read) => read.await.map_err(|_| Refused::DeviceFailed),
            None => Ok(()),
        },
        _ => join_all(reads).await.into_iter().try_for_each(|read| read.map_err(|_| Refused::DeviceFailed)),
    }
}

/// Clears the parts of a hole that share a page with blocks that are there; pages that lie in it whole are supplied as zeros.
fn zero_parts<P: Platform, B: Blocks>(file: &File<P, B>, run: &Run, staging: u64) -> Result<(), Refused> {
    let block_bytes = file.shared.blocks.block_bytes();
    if block_bytes == PAGE_BYTES {
        return Ok(());
    }
    const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
    let (start, end) = (staging, staging + run.count * block_bytes);
    let head_end = start.next_multiple_of(PAGE_BYTES).min(end);
    let tail_start = (end / PAGE_BYTES * PAGE_BYTES).max(head_end);
    for (from, to) in [(start, head_end), (tail_start, end)] {
        let zeros = ZEROS.get(..(to - from) as usize).unwrap_or_default();
        file.shared.platform.store(from, zeros).map_err(|_| Refused::DeviceFailed)?;
    }
    Ok(())
}

/// Supplies the pages of which some block is there from the staging memory, and the others as zeros.
fn supply_runs<P: Platform, B: Blocks>(
    file: &File<P, B>,
    pages: Range<u64>,
    runs: &[Run],
    staged: &Piece,
    cut: u64,
) -> Result<Done, Refused> {
    let mut at = pages.start;
    for (end, is_data) in page_runs(pages.clone(), runs, PAGE_BYTES / file.shared.blocks.block_bytes()) {
        let from = is_data.then(|| staged.offset() + (at - pages.start) * PAGE_BYTES);
        if supply(file, at..end, from, cut)? == Done::Again {
            return Ok(Done::Again);
        }
        at = end;
    }
    Ok(Done::Yes)
}

/// Where runs of pages end, and whether there is anything on the disk for them.
fn page_runs(pages: Range<u64>, runs: &[Run], blocks_per_page: u64) -> Vec<(u64, bool)> {
    let mut ends: Vec<(u64, bool)> = Vec::new();
    let mut add = |end: u64, is_data: bool| match ends.last_mut() {
        Some((last, same)) if *same == is_data => *last = end,
        Some(_) | None => ends.push((end, is_data)),
    };
    // The page of which the runs so far had a part, and whether there is something.
    let mut is_part_data = false;
    for run in runs {
        let is_data = matches!(run.place, Place::Written(_));
        let end = run.first + run.count;
        let (first_page, end_page) = (run.first.div_ceil(blocks_per_page), end / blocks_per_page);
        if !run.first.is_multiple_of(blocks_per_page) {
            is_part_data |= is_data;
            if first_page * blocks_per_page <= end {
                add(first_page, is_part_data);
            }
        }
        if first_page < end_page {
            add(end_page, is_data);
        }
        if end_page >= first_page && !end.is_multiple_of(blocks_per_page) {
            is_part_data = is_data;
        }
    }
    ends.retain(|(end, _)| *end > pages.start);
    ends
}

fn supply<P: Platform, B: Blocks>(
    file: &File<P, B>,
    pages: Range<u64>,
    staging: Option<u64>,
    cut: u64,
) -> Result<Done, Refused> {
    if file.slot.cut() != cut {
        return Ok(Done::Again);
    }
    let (offset, len_bytes) = (pages.start * PAGE_BYTES, (pages.end - pages.start) * PAGE_BYTES);
    let supplied = match staging {
        Some(staging) => file.pages.supply(offset, len_bytes, staging),
        None => file.pages.supply_zeros(offset, len_bytes),
    };
    supplied.map(|()| Done::Yes).map_err(|_| Refused::DeviceFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64, is_data: bool) -> Run {
        Run { first, count, place: if is_data { Place::Written(first) } else { Place::Hole } }
    }

    #[test]
    fn a_page_with_any_block_on_the_disk_is_data() {
        let whole = [run(4, 2, false), run(6, 1, true), run(7, 1, true)];
        assert_eq!(page_runs(4..8, &whole, 1), [(6, false), (8, true)]);
        let small = [run(0, 5, false), run(5, 1, true), run(6, 10, false)];
        assert_eq!(page_runs(0..4, &small, 4), [(1, false), (2, true), (4, false)]);
        let mixed = [run(0, 1, true), run(1, 1, false), run(2, 1, true), run(3, 5, false), run(8, 4, true)];
        assert_eq!(page_runs(0..3, &mixed, 4), [(1, true), (2, false), (3, true)]);
    }
}
