//! The content of a regular file on a disk.
//!
//! What must be in step: before a page may be stored to beyond the size that the server knows, the file's slot says which operation makes
//! the file that long; before pages are cut off, which one cuts. So the server, which is asked by the kernel to write pages back whenever that
//! sees fit, never has blocks beyond the file's end, and never brings back what was cut off.

use super::space::Claim;
use super::volume::{Volume, Want};
use crate::errno::{Errno, Result};
use crate::fs::content::Sought;
use crate::fs::paged::{PageSource, PagedMemory};
use crate::platform::{LocalFuture, Memory, PAGE_SIZE, Successor};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, OnceCell};
use driver_protocol::files::entry::InodeFlags;
use driver_protocol::files::operation::{Operation, Set, Values};
use driver_protocol::files::{self, Request, notes};

/// How long the server has for a page, in ns: a disk that is being repaired takes long, but not for ever.
const DEADLINE_NS: u64 = 60_000_000_000;
/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

/// A file, as far as the disk has it.
pub struct DiskFile {
    volume: Rc<Volume>,
    number: Cell<u64>,
    paged: OnceCell<(Rc<PagedMemory>, u64)>,
    /// The size, as the content has it.
    size: Cell<u64>,
    /// What it has on the disk, in units of 512 bytes, as far as that was told.
    blocks: Cell<u64>,
    /// The operation that made it, if that was made here.
    created: Cell<u64>,
    /// The last operation that cut it, and that made it longer.
    cut: Cell<u64>,
    grown: Cell<u64>,
    /// Counts what may have stored to it.
    stores: Cell<u64>,
    /// Blocks that were promised, and the page up to which all have theirs, or a promise.
    promised: Cell<u64>,
    promised_pages: Cell<u64>,
    /// How often a writeback has failed.
    failures: Rc<Cell<u64>>,
    /// It has no names: the server may forget it when it has released it.
    is_forgotten: Cell<bool>,
}

impl DiskFile {
    /// A file of this number (0: not known yet) and size.
    pub(super) fn new(volume: &Rc<Volume>, number: u64, size: u64, blocks: u64) -> Self {
        let has_holes = blocks.saturating_mul(BLOCK_BYTES) < size;
        Self {
            volume: volume.clone(),
            number: Cell::new(number),
            paged: OnceCell::new(),
            size: Cell::new(size),
            blocks: Cell::new(blocks),
            created: Cell::new(0),
            cut: Cell::new(0),
            grown: Cell::new(0),
            stores: Cell::new(0),
            promised: Cell::new(0),
            promised_pages: Cell::new(if has_holes { 0 } else { size.div_ceil(PAGE_SIZE) }),
            failures: Rc::default(),
            is_forgotten: Cell::new(false),
        }
    }

    /// Its inode's number.
    pub fn number(&self) -> u64 {
        self.number.get()
    }

    /// It is the content of this inode.
    pub(super) fn adopt(&self, number: u64) {
        self.number.set(number);
    }

    pub(super) fn created(&self) -> u64 {
        self.created.get()
    }

    /// This operation makes it.
    pub(super) fn created_by(&self, sequence: u64) {
        self.created.set(sequence);
    }

    /// Whether the server has something of it to release.
    pub(super) fn is_served(&self) -> bool {
        self.paged.get().is_some()
    }

    /// Has the server forget it when it has released it.
    pub(super) fn forget_when_released(&self) {
        self.is_forgotten.set(true);
    }

    /// Counts what may have stored to it.
    pub(super) fn stores(&self) -> u64 {
        self.stores.get()
    }

    /// Counts writebacks that have failed.
    pub fn failures(&self) -> &Rc<Cell<u64>> {
        &self.failures
    }

    /// The volume that it is on.
    pub fn volume(&self) -> &Rc<Volume> {
        &self.volume
    }

    /// Whether blocks were promised for what was stored.
    pub(super) fn has_promises(&self) -> bool {
        self.promised.get() != 0
    }

    /// What was stored has been written back.
    pub(super) fn forget_promises(&self) {
        let promised = self.promised.take();
        self.volume.forget_store_promise(promised);
        let known = self.blocks.get().saturating_add(promised.saturating_mul(self.units_per_block()));
        self.blocks
            .set(known.min(self.size.get().div_ceil(PAGE_SIZE) * (PAGE_SIZE / BLOCK_BYTES)).max(self.blocks.get()));
    }

    fn units_per_block(&self) -> u64 {
        self.volume.geometry().block_bytes / BLOCK_BYTES
    }

    /// Has all stores written back.
    pub(super) fn write_back_all(&self) -> LocalFuture<Result<()>> {
        self.write_back(0, u64::MAX)
    }

    fn write_slot(&self, field: u64, sequence: u64) {
        if let Some((_, slot)) = self.paged.get() {
            self.volume.write_slot(*slot, field, sequence);
        }
    }

    /// It is about to have this size: the server must know before it gets what is stored there.
    fn cover(&self, size: u64) {
        if size <= self.size.get() {
            return;
        }
        self.tell_grown();
    }

    /// Tells the server how long it is, and that it was stored to.
    pub(super) fn tell_grown(&self) {
        self.grown_by(self.volume.attributes_changed(self.number(), Set::GROWN));
    }

    /// This operation makes it longer.
    fn grown_by(&self, sequence: u64) {
        if sequence > self.grown.get() {
            self.grown.set(sequence);
            self.write_slot(notes::SIZE, sequence);
        }
    }

    /// Whether a successor of its server has to be told how long it is.
    pub(super) fn has_grown(&self) -> bool {
        self.grown.get() != 0
    }

    /// Records that it has this size, whatever was stored.
    fn record_size(&self, size: u64) -> u64 {
        let values = Values { flags: InodeFlags::empty(), size, ..Values::default() };
        let number = self.number();
        self.volume.record(&Operation::SetAttributes { inode: number, set: Set::SIZE, values }, &[number])
    }

    /// Promises blocks for pages that may have none.
    fn promise(&self, position: u64, length: u64) -> Result<()> {
        let (first, end) = (position / PAGE_SIZE, position.saturating_add(length).div_ceil(PAGE_SIZE));
        let known = self.promised_pages.get();
        let pages = end.saturating_sub(first.max(known));
        if pages == 0 {
            return Ok(());
        }
        let blocks = self.volume.blocks_of_pages(pages);
        self.volume.promise(blocks, Claim::Stores)?;
        self.promised.set(self.promised.get().saturating_add(blocks));
        // What lies between stays without.
        if first <= known {
            self.promised_pages.set(end);
        }
        Ok(())
    }

    fn note_store(&self) {
        self.stores.set(self.stores.get().wrapping_add(1));
        self.volume.note_dirty(self.number());
    }

    /// Has a range written to the disk's notes of what is free: `fallocate`. `ENOSPC`.
    pub fn allocate(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let (volume, inode) = (self.volume.clone(), self.number());
        Box::pin(async move { volume.attempt(&Operation::Allocate { inode, offset, len_bytes }).await })
    }

    /// Gives the blocks of a range back that was made zeros and written back. What is stored there from now on needs others.
    pub fn punch(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        self.promised_pages.set(self.promised_pages.get().min(offset / PAGE_SIZE));
        let (volume, inode, paged) =
            (self.volume.clone(), self.number(), self.paged.get().map(|(paged, _)| paged.clone()));
        Box::pin(async move {
            volume.attempt(&Operation::Punch { inode, offset, len_bytes }).await?;
            if let Some(paged) = paged {
                paged.drop_clean(offset, len_bytes);
            }
            Ok(())
        })
    }

    /// Where blocks are, from `offset` on: the first run of which kind begins where.
    pub fn runs(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<alloc::vec::Vec<files::entry::run::Run>>> {
        let (volume, inode) = (self.volume.clone(), self.number());
        Box::pin(async move {
            volume.commit_applied().await?;
            let answer = volume.demand(Request::Runs { inode, offset, len_bytes }, files::MIN_LIST_BYTES).await?;
            let filled = files::Filled::decode(&answer.words).len_bytes;
            Ok(files::entry::run::runs(answer.filled(filled)).collect())
        })
    }
}

impl PageSource for DiskFile {
    fn max_bytes(&self) -> u64 {
        self.volume.geometry().max_file_bytes
    }

    fn make_memory(&self, len_bytes: u64) -> Result<Memory> {
        let volume = &self.volume;
        let paged =
            PagedMemory::new(&volume.executor, &volume.payer, (len_bytes, len_bytes), DEADLINE_NS, Successor::Awaited)?;
        let slot = volume.serve(self, &paged)?;
        let memory = paged.memory().clone();
        if self.paged.set((paged, slot)).is_err() {
            return Err(Errno::EIO);
        }
        self.write_slot(notes::CUT, self.cut.get());
        self.write_slot(notes::SIZE, self.grown.get());
        Ok(memory)
    }

    fn paged(&self) -> Option<&Rc<PagedMemory>> {
        self.paged.get().map(|(paged, _)| paged)
    }

    fn cut(&self, size: u64) {
        let sequence = self.record_size(size);
        self.cut.set(sequence);
        self.write_slot(notes::CUT, sequence);
        self.size.set(size);
        let pages = size.div_ceil(PAGE_SIZE);
        self.promised_pages.set(self.promised_pages.get().min(pages));
        self.blocks.set(self.blocks.get().min(pages * (PAGE_SIZE / BLOCK_BYTES)));
        self.note_store();
    }

    fn before_write(&self, position: u64, length: u64) -> Result<()> {
        self.volume.check_writable()?;
        self.promise(position, length)?;
        self.cover(position.saturating_add(length));
        self.note_store();
        Ok(())
    }

    fn grown(&self, _from: u64, to: u64) {
        self.cover(to);
        self.size.set(to);
    }

    fn extended(&self, _from: u64, to: u64) {
        self.grown_by(self.record_size(to));
        self.size.set(to);
    }

    fn can_be_stored_in_place(&self, size: u64) -> bool {
        !self.volume.has_failed() && self.promised_pages.get() >= size.div_ceil(PAGE_SIZE)
    }

    fn mapped_to_store(&self) {
        self.note_store();
    }

    fn blocks(&self, _size: u64) -> u64 {
        self.blocks.get().saturating_add(self.promised.get().saturating_mul(self.units_per_block()))
    }

    fn seek(&self, offset: u64, size: u64, sought: Sought) -> Result<u64> {
        let is_whole = self.blocks(size).saturating_mul(BLOCK_BYTES) >= size;
        match sought {
            Sought::Data => Ok(offset),
            Sought::Hole if is_whole => Ok(size),
            Sought::Hole => Ok(size),
        }
    }

    fn write_back(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let Some((paged, _)) = self.paged.get() else { return Box::pin(async { Ok(()) }) };
        let (paged, failures) = (paged.clone(), self.failures.clone());
        Box::pin(async move {
            let result = paged.write_back(offset, len_bytes).await;
            if result.is_err() {
                failures.set(failures.get().wrapping_add(1));
            }
            result
        })
    }

    fn synchronize(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let (volume, written) = (self.volume.clone(), self.write_back(offset, len_bytes));
        Box::pin(async move {
            written.await?;
            volume.commit().await
        })
    }

    fn on_disk(&self) -> Option<&DiskFile> {
        Some(self)
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        self.volume.forget_store_promise(self.promised.get());
        if let Some((_, slot)) = self.paged.get() {
            self.volume.release(*slot, self.number(), self.is_forgotten.get());
        }
    }
}

impl Volume {
    /// Has all that was done until now applied. `EIO`.
    pub(super) async fn commit_applied(&self) -> Result<()> {
        let last = self.log.borrow().last();
        self.applied_up_to(last).await
    }

    /// The wish for an inode that has to be asked for by its number.
    pub(super) fn want_inode(self: &Rc<Self>, number: u64) -> Errno {
        self.want(Want::Inode(number), Errno::EIO)
    }
}
