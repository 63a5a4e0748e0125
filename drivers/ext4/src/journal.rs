//! The journal: a log of what transactions changed, written before the changes go home, so that a power cut leaves all of a
//! transaction or nothing of it. The format is that of Linux (jbd2).
//!
//! The life of a transaction:
//!
//! 1. It closes; its blocks keep their bytes from here on. The log has room for all of them, since every operation reserved it.
//! 2. The file data that it points to are written by their owner, while its blocks are written to the log.
//! 3. The device is flushed: nothing that the commit record vouches for is volatile.
//! 4. The commit record is written, and flushed. Now, and not before, the transaction is durable. It takes the place of a block
//!    of zeroes, which was written with the others: only one sector changes, so that the record is there or not, but never torn.
//! 5. Sometime later (*checkpoint*) its blocks are written home, unless a later transaction has logged them too; the device is
//!    flushed; the journal's superblock is made to begin behind it, and flushed. Only then is its room in the log used again.
//!
//! A block that was metadata and is freed is *revoked*, so that recovery does not write the old metadata over the file data
//! that may be there by then.

mod area;
mod format;
mod recovery;
mod ring;
mod superblock;
#[cfg(test)]
mod tests;

pub use ring::Journal;

use crate::device::Device;
use crate::error::Result;
use area::Area;
use superblock::Superblock;

/// Blocks of the journal that follow each other on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their place in the journal.
    pub first: u32,
    /// Their place in the file system.
    pub physical: u64,
    /// How many.
    pub count: u32,
}

/// How the log is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// With checksums.
    pub checksums: bool,
    /// With block numbers of 64 bits.
    pub wide: bool,
}

/// A journal that is ready for use.
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// Blocks that were brought home: what was read before may be out of date.
    pub replayed: usize,
    /// Whoever wrote the journal last noted an error of the file system.
    pub error: bool,
}

/// Opens the journal in `runs` of a file system with `blocks` blocks, and brings home what it has. Everything that was read
/// before is to be read again.
///
/// # Errors
/// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Unsupported`](crate::Error::Unsupported): the journal makes no sense, or
/// uses what is not understood here. [`Error::Device`](crate::Error::Device). In all cases the log stays as it was.
pub async fn open<D: Device>(
    device: &D,
    block_bytes: usize,
    blocks: u64,
    runs: &[Run],
    options: Options,
) -> Result<Opened> {
    let mut area = Area::new(runs, block_bytes, blocks)?;
    let mut block = crate::bytes::zeroes(block_bytes);
    area.read(device, 0, &mut block).await?;
    let mut superblock = Superblock::parse(&block)?;
    superblock.place_ring(&mut area)?;
    let findings = recovery::scan(device, &area, &superblock, blocks).await?;
    let (was_empty, error) = (superblock.start() == 0, superblock.error() != 0);
    let last = findings.last(superblock.sequence());
    device.recovered(last);
    let replayed = findings.replay(device, &area).await?;
    // The number after the last one is not used again: the log may have parts of a transaction of that name.
    let next = last.next().next();
    superblock.set_start(0, next.sequence());
    superblock.set_error(0);
    superblock.set_format(options);
    superblock.place_ring(&mut area)?;
    if !was_empty {
        device.flush().await?;
        area.write(device, 0, &superblock.to_block()).await?;
        device.flush().await?;
        log::info!("ext4: {} transactions of the journal recovered, {replayed} blocks", findings.transactions);
    }
    Ok(Opened { journal: Journal::new(area, superblock, next), replayed, error })
}
