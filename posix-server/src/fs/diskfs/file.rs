//! The content of a regular file on a disk.
//!
//! What must be in step: before a page may be stored to beyond the size that the server knows, the file's slot says which operation makes
//! the file that long; before pages are cut off, which one cuts. So the server, which is asked by the kernel to write pages back whenever that
//! sees fit, never has blocks beyond the file's end, and never brings back what was cut off.

use super::space::Claim;
use super::volume::{Volume, Want};
use crate::errno::{Errno, Result};
use crate::fs::paged::{PageSource, PagedMemory};
use crate::platform::{LocalFuture, Memory, PAGE_SIZE, Successor};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, OnceCell};
use driver_protocol::files::entry::InodeFlags;
use driver_protocol::files::notes;
use driver_protocol::files::operation::{Operation, Set, Values};

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
    /// It may have fewer blocks than its size takes, or more: only the disk knows.
    is_uneven: Cell<bool>,
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
            is_uneven: Cell::new(has_holes || blocks.saturating_mul(BLOCK_BYTES) > size.next_multiple_of(PAGE_SIZE)),
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

    /// What it has on the disk, in units of 512 bytes.
    pub(super) fn set_blocks(&self, blocks: u64) {
        self.blocks.set(blocks);
    }

    /// Whether what it has on the disk is to be asked for when it has changed.
    pub(super) fn is_uneven(&self) -> bool {
        self.is_uneven.get()
    }

    /// Blocks come or go by themselves.
    pub(super) fn make_uneven(&self) {
        self.is_uneven.set(true);
    }

    /// What is stored from here on, in bytes, needs blocks that are not promised.
    pub(super) fn forget_blocks_from(&self, offset: u64) {
        self.promised_pages.set(self.promised_pages.get().min(offset / PAGE_SIZE));
    }

    /// Forgets pages that are as the disk has them: there are other blocks now.
    pub(super) fn forget_pages(&self, offset: u64, len_bytes: u64) {
        if let Some((paged, _)) = self.paged.get() {
            paged.drop_clean(offset, len_bytes);
        }
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

    fn cut_spare(&self) {
        let (size, whole) = (self.size.get(), self.size.get().next_multiple_of(PAGE_SIZE) / BLOCK_BYTES);
        if self.is_uneven.get() && self.blocks.get() > whole {
            self.record_size(size);
            self.blocks.set(whole);
        }
    }

    fn extended(&self, _from: u64, to: u64) {
        self.is_uneven.set(true);
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
        let volume = self.volume.clone();
        if self.is_uneven.get()
            && let Some(inode) = volume.known(self.number())
        {
            return Box::pin(async move {
                volume.write_back(&inode).await?;
                volume.commit().await?;
                volume.count_blocks(inode.number()).await;
                Ok(())
            });
        }
        let written = self.write_back(offset, len_bytes);
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
