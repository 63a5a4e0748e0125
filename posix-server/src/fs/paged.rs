//! Contents whose pages may be elsewhere than in memory: with a pager.
//!
//! A [`Content`](super::content::Content) holds such a file as a [`PageSource`]; the two that there are (`pagerfs`, `diskfs`) share
//! [`PagedMemory`], a managed memory with its pager.

use super::content::Sought;
use crate::errno::{Errno, Result};
use crate::platform::{Account, Executor, LocalFuture, Memory, PAGE_SIZE, Pager, Successor};
use alloc::boxed::Box;
use alloc::rc::Rc;

/// The content of one file, as far as somebody else has it.
pub trait PageSource {
    /// How long the file can be, in bytes.
    fn max_bytes(&self) -> u64;

    /// Makes the memory, of a length in whole pages. To be called once. `ENOMEM`.
    fn make_memory(&self, len_bytes: u64) -> Result<Memory>;

    /// The memory and its pager, once they were made.
    fn paged(&self) -> Option<&Rc<PagedMemory>>;

    /// Notes that the file was cut off here, in bytes. What is left of the last page was made zeros in memory.
    fn cut(&self, size: u64);

    /// A range is about to be written. `ENOSPC`.
    fn before_write(&self, _position: u64, _length: u64) -> Result<()> {
        Ok(())
    }

    /// Something was stored behind the end: the size has changed from one to the other.
    fn grown(&self, _from: u64, _to: u64) {}

    /// The size has changed from one to the other, and nothing was stored between.
    fn extended(&self, from: u64, to: u64) {
        self.grown(from, to);
    }

    /// Whether a file of this size can be stored to without asking for room, by whom its bytes are shown.
    fn can_be_stored_in_place(&self, _size: u64) -> bool {
        false
    }

    /// The file was cut off where it ends: only what was set aside behind its end is to go.
    fn cut_spare(&self) {}

    /// Somebody may store to it without a call from now on.
    fn mapped_to_store(&self) {}

    /// What is stored, in blocks of 512 bytes, of a file of this size.
    fn blocks(&self, size: u64) -> u64 {
        const BLOCK_BYTES: u64 = 512;
        size.div_ceil(PAGE_SIZE) * (PAGE_SIZE / BLOCK_BYTES)
    }

    /// The first byte from `offset` on that is (or is not) data; the file ends at `size`, which counts as a hole.
    fn seek(&self, offset: u64, size: u64, sought: Sought) -> Result<u64> {
        Ok(if sought == Sought::Data { offset } else { size })
    }

    /// Has what was stored in a range until now written back, when this is awaited. `EIO`.
    fn write_back(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>>;

    /// The same, and has it last through a loss of power, with what is needed to find it again. `EIO`.
    fn synchronize(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        self.write_back(offset, len_bytes)
    }

    /// Forgets the pages that lie in a range and are as the pager has them.
    fn drop_clean(&self, offset: u64, len_bytes: u64) {
        if let Some(paged) = self.paged() {
            paged.drop_clean(offset, len_bytes);
        }
    }

    /// Has pages brought in that will be needed.
    fn will_need(&self, offset: u64, len_bytes: u64) {
        if let Some(paged) = self.paged() {
            paged.will_need(offset, len_bytes);
        }
    }

    /// It as a file on a disk.
    fn on_disk(&self) -> Option<&super::diskfs::DiskFile> {
        None
    }
}

/// A memory whose pages a pager has.
pub struct PagedMemory {
    executor: Executor,
    memory: Memory,
    pager: Pager,
}

impl PagedMemory {
    /// Makes one of `len_bytes`, whose pager has to be asked for what lies below `backed_bytes` (both in whole pages) and has each page
    /// ready in `deadline_ns`. `ENOMEM`.
    pub fn new(
        executor: &Executor,
        payer: &Account,
        (backed_bytes, len_bytes): (u64, u64),
        deadline_ns: u64,
        successor: Successor,
    ) -> Result<Rc<Self>> {
        let (memory, pager) = Memory::create_paged(payer, backed_bytes, deadline_ns, successor)?;
        if len_bytes != backed_bytes {
            memory.resize(len_bytes)?;
        }
        Ok(Rc::new(Self { executor: executor.clone(), memory, pager }))
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The filling end.
    pub fn pager(&self) -> &Pager {
        &self.pager
    }

    /// Has what was stored in a range until now written back, when this is awaited. `EIO`.
    pub fn write_back(self: &Rc<Self>, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let this = self.clone();
        Box::pin(async move {
            let length = len_bytes.min(this.memory.len_bytes().saturating_sub(offset));
            match length {
                0 => Ok(()),
                length => this.executor.write_back(&this.memory, offset, length).await,
            }
        })
    }

    /// Forgets the pages that lie in a range and are as the pager has them.
    pub fn drop_clean(&self, offset: u64, len_bytes: u64) {
        let end = offset.saturating_add(len_bytes).min(self.memory.len_bytes()) / PAGE_SIZE;
        let start = offset.div_ceil(PAGE_SIZE);
        let pages = end.saturating_sub(start);
        self.pager.invalidate(start.saturating_mul(PAGE_SIZE), pages * PAGE_SIZE);
    }

    /// Has pages brought in that will be needed.
    pub fn will_need(&self, offset: u64, len_bytes: u64) {
        let length = len_bytes.min(self.memory.len_bytes().saturating_sub(offset));
        if length > 0 {
            self.executor.will_need(&self.memory, offset, length);
        }
    }
}

/// A file that can't be longer in a managed memory's terms: `EFBIG`.
pub fn whole_pages(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EFBIG)
}
