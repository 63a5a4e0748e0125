//! The disk as the file system sees it: its metadata go by way of a region of the staging memory.

use crate::ledger::Ledger;
use crate::platform::{PAGE_BYTES, Platform, SECTOR_BYTES, Transfer};
use crate::signal::Signal;
use crate::staging::Region;
use alloc::rc::Rc;
use core::cell::Cell;
use core::time::Duration;
use ext4::{Device, DeviceFailed, TransactionId};

/// The disk, for metadata.
pub(crate) struct Metadata<P: Platform> {
    platform: Rc<P>,
    region: Rc<Region>,
    ledger: Rc<Ledger<P::Notes>>,
    /// Writes that have been done, of data and metadata.
    writes: Cell<u64>,
    /// So many of them are durable.
    flushed: Cell<u64>,
    flushes: Signal,
}

impl<P: Platform> Metadata<P> {
    pub(crate) fn new(platform: Rc<P>, region: Rc<Region>, ledger: Rc<Ledger<P::Notes>>) -> Self {
        let (writes, flushed, flushes) = (Cell::new(0), Cell::new(0), Signal::default());
        Self { platform, region, ledger, writes, flushed, flushes }
    }

    /// A write has been done.
    pub(crate) fn note_write(&self) {
        self.writes.set(self.writes.get().wrapping_add(1));
    }

    /// Makes durable what has been written until now, if it is not.
    pub(crate) async fn flush_writes(&self) -> Result<(), DeviceFailed> {
        if self.flushed.get() < self.writes.get() { self.flush().await } else { Ok(()) }
    }

    /// Calls `step` with parts of the bytes, a piece of staging memory for them, and where they are on the disk.
    fn parts(&self, first_sector: u64, len: usize) -> impl Iterator<Item = (core::ops::Range<usize>, u64)> + use<P> {
        let longest = (self.region.max_pages() * PAGE_BYTES) as usize;
        (0..len).step_by(longest).map(move |start| {
            let sector = first_sector + start as u64 / SECTOR_BYTES;
            (start..(start + longest).min(len), sector)
        })
    }
}

fn pages_for(len: usize) -> u64 {
    (len as u64).div_ceil(PAGE_BYTES)
}

impl<P: Platform> Device for Metadata<P> {
    fn sectors(&self) -> u64 {
        self.platform.sectors()
    }

    async fn read(&self, first_sector: u64, bytes: &mut [u8]) -> Result<(), DeviceFailed> {
        for (range, sector) in self.parts(first_sector, bytes.len()) {
            let Some(part) = bytes.get_mut(range) else { return Err(DeviceFailed) };
            let piece = self.region.take(pages_for(part.len())).await;
            let transfer = Transfer { sector, len_bytes: part.len() as u64, staging: piece.offset() };
            self.platform.read(transfer).await.map_err(|_| DeviceFailed)?;
            self.platform.load(piece.offset(), part).map_err(|_| DeviceFailed)?;
        }
        Ok(())
    }

    async fn write(&self, first_sector: u64, bytes: &[u8]) -> Result<(), DeviceFailed> {
        for (range, sector) in self.parts(first_sector, bytes.len()) {
            let Some(part) = bytes.get(range) else { return Err(DeviceFailed) };
            let piece = self.region.take(pages_for(part.len())).await;
            self.platform.store(piece.offset(), part).map_err(|_| DeviceFailed)?;
            let transfer = Transfer { sector, len_bytes: part.len() as u64, staging: piece.offset() };
            self.platform.write(transfer).await.map_err(|_| DeviceFailed)?;
            self.note_write();
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceFailed> {
        let writes = self.writes.get();
        self.platform.flush().await.map_err(|_| DeviceFailed)?;
        self.flushed.set(self.flushed.get().max(writes));
        self.flushes.raise();
        Ok(())
    }

    fn closing(&self, transaction: TransactionId) {
        self.ledger.closing(number_of(transaction));
    }

    fn recovered(&self, last: TransactionId) {
        self.ledger.recovered(number_of(last));
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.platform.unix_ns().unsigned_abs())
    }
}

/// The number by which the journal knows a transaction.
pub(crate) fn number_of(transaction: TransactionId) -> u64 {
    u64::from(transaction.sequence())
}
