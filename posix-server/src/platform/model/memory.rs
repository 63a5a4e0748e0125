//! The model of memories: pages in a map.

use super::account::Account;
use super::next_id;
use super::paging::{Paging, note};
use crate::errno::{Errno, Result};
use crate::platform::{Access, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// The largest memory the model makes; asking for more is `ENOMEM`, so that tests can exhaust it.
const MAX_MEMORY_BYTES: u64 = 1 << 46;

pub(super) type Page = Box<[u8; PAGE_SIZE as usize]>;

/// Splits [`offset`, +`length`) at page boundaries: page number, offset in the page, bytes.
pub(super) fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(length as u64);
    let mut at = offset;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % PAGE_SIZE;
        let count = (PAGE_SIZE - within).min(end - at);
        let piece = (at / PAGE_SIZE, within as usize, count as usize);
        at += count;
        Some(piece)
    })
}

pub(super) fn read_page(pages: &BTreeMap<u64, Page>, page: u64, within: usize, out: &mut [u8]) {
    match pages.get(&page) {
        Some(bytes) => out.copy_from_slice(&bytes[within..within + out.len()]),
        None => out.fill(0),
    }
}

pub(super) fn new_page() -> Page {
    Box::new([0; PAGE_SIZE as usize])
}

struct MemoryState {
    id: u64,
    len_bytes: Cell<u64>,
    pages: RefCell<BTreeMap<u64, Page>>,
    paging: Option<Rc<Paging>>,
}

/// A sized range of pages; a clone is the same memory.
#[derive(Clone)]
pub struct Memory(Rc<MemoryState>);

impl Memory {
    /// Makes a memory of `len_bytes`, which reads as zero; the server's budget for files pays. `ENOMEM`.
    pub fn create(len_bytes: u64) -> Result<Self> {
        Self::with_paging(len_bytes, None)
    }

    pub(super) fn with_paging(len_bytes: u64, paging: Option<Rc<Paging>>) -> Result<Self> {
        if len_bytes > MAX_MEMORY_BYTES {
            return Err(Errno::ENOMEM);
        }
        let state = MemoryState { id: next_id(), len_bytes: Cell::new(len_bytes), pages: RefCell::default(), paging };
        Ok(Self(Rc::new(state)))
    }

    pub(super) fn paging(&self) -> Option<&Paging> {
        self.0.paging.as_deref()
    }

    pub(super) fn fill_page(&self, page: u64, byte: u8) {
        self.0.pages.borrow_mut().insert(page, Box::new([byte; PAGE_SIZE as usize]));
    }

    /// Whether a page is not there; then that is noted.
    fn lacks(&self, page: u64, access: Access) -> bool {
        let lacks = self.paging().is_some_and(|paging| paging.is_absent(page));
        if lacks {
            note(self, page, access);
        }
        lacks
    }

    /// The same, paid by an account. `ENOMEM`.
    pub fn create_for(_account: &Account, len_bytes: u64) -> Result<Self> {
        Self::create(len_bytes)
    }

    /// The same, paid like the contents of file systems. `ENOMEM`.
    pub fn create_lasting(len_bytes: u64) -> Result<Self> {
        Self::create(len_bytes)
    }

    /// The size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.len_bytes.get()
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Changes the size; what is cut off reads as zero if it comes back. `ENOMEM`, `EFBIG`.
    pub fn resize(&self, len_bytes: u64) -> Result<()> {
        if len_bytes > MAX_MEMORY_BYTES {
            return Err(Errno::EFBIG);
        }
        let kept = len_bytes.min(self.len_bytes());
        if !kept.is_multiple_of(PAGE_SIZE) && self.lacks(kept / PAGE_SIZE, Access::Write) {
            return Err(Errno::EFAULT);
        }
        if let Some(paging) = self.paging() {
            paging.cut(len_bytes.div_ceil(PAGE_SIZE));
        }
        let mut pages = self.0.pages.borrow_mut();
        pages.split_off(&len_bytes.div_ceil(PAGE_SIZE));
        if let Some(page) = pages.get_mut(&(len_bytes / PAGE_SIZE)) {
            page[(len_bytes % PAGE_SIZE) as usize..].fill(0);
        }
        self.0.len_bytes.set(len_bytes);
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes from `offset`; returns how many were there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.available(offset, buffer.len());
        let pages = self.0.pages.borrow();
        let mut done = 0;
        for (page, within, length) in pieces(offset, count) {
            if self.lacks(page, Access::Read) {
                break;
            }
            read_page(&pages, page, within, &mut buffer[done..done + length]);
            done += length;
        }
        done
    }

    /// Writes up to `bytes.len()` bytes at `offset`, not beyond the end; returns how many (less if memory ran out).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> usize {
        let count = self.available(offset, bytes.len());
        let mut pages = self.0.pages.borrow_mut();
        let mut done = 0;
        for (page, within, length) in pieces(offset, count) {
            if self.lacks(page, Access::Write) {
                break;
            }
            if let Some(paging) = self.paging() {
                paging.note_store(page);
            }
            pages.entry(page).or_insert_with(new_page)[within..within + length]
                .copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
        done
    }

    /// Gives the frames of a page-aligned range back; it reads as zero.
    pub fn discard(&self, offset: u64, len_bytes: u64) {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes) / PAGE_SIZE;
        self.0.pages.borrow_mut().retain(|page, _| !pages.contains(page));
    }

    /// Pages that the memory has frames for.
    pub fn resident_pages(&self) -> u64 {
        self.0.pages.borrow().len() as u64
    }

    /// The same, of a page-aligned range.
    pub fn resident_pages_in(&self, offset: u64, len_bytes: u64) -> Result<u64> {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes) / PAGE_SIZE;
        Ok(self.0.pages.borrow().range(pages).count() as u64)
    }

    fn available(&self, offset: u64, length: usize) -> usize {
        self.len_bytes().saturating_sub(offset).min(length as u64) as usize
    }
}
