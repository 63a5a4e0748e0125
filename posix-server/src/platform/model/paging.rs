//! The model of memories that a pager fills: a test is the pager.

use super::{Account, Executor, Memory, Space};
use crate::errno::{Errno, Result};
use crate::platform::{Access, PAGE_SIZE, Successor};
use crate::ticket::Ticket;
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// What is known of the pages of one memory.
#[derive(Default)]
pub(super) struct Paging {
    /// From this page on, what is not there is zeros.
    backed: Cell<u64>,
    present: RefCell<BTreeSet<u64>>,
    wanted: RefCell<BTreeSet<u64>>,
    dirty: RefCell<BTreeSet<u64>>,
    /// How often the pager has refused something.
    refusals: Cell<u64>,
    changed: WaitQueue,
}

impl Paging {
    pub(super) fn new(len_bytes: u64) -> Rc<Self> {
        Rc::new(Self { backed: Cell::new(len_bytes.div_ceil(PAGE_SIZE)), ..Self::default() })
    }

    /// Whether a page has to be asked for.
    pub(super) fn is_absent(&self, page: u64) -> bool {
        page < self.backed.get() && !self.present.borrow().contains(&page)
    }

    pub(super) fn note_store(&self, page: u64) {
        self.present.borrow_mut().insert(page);
        self.dirty.borrow_mut().insert(page);
    }

    pub(super) fn cut(&self, pages: u64) {
        self.backed.set(self.backed.get().min(pages));
        self.present.borrow_mut().split_off(&pages);
        self.dirty.borrow_mut().split_off(&pages);
    }
}

/// The filling end of a memory, for tests to fill it.
#[derive(Clone)]
pub struct Pager {
    memory: Memory,
    paging: Rc<Paging>,
}

impl Memory {
    /// Makes a memory of `len_bytes` whose pages a pager has. The model has no deadlines.
    pub fn create_paged(
        _account: &Account,
        len_bytes: u64,
        _deadline_ns: u64,
        _successor: Successor,
    ) -> Result<(Self, Pager)> {
        let paging = Paging::new(len_bytes);
        let memory = Self::with_paging(len_bytes, Some(paging.clone()))?;
        Ok((memory.clone(), Pager { memory, paging }))
    }
}

impl Pager {
    /// Forgets the pages of a range that are as the pager has them.
    pub fn invalidate(&self, offset: u64, len_bytes: u64) {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes) / PAGE_SIZE;
        let dirty = self.paging.dirty.borrow();
        self.paging.present.borrow_mut().retain(|page| !pages.contains(page) || dirty.contains(page));
    }

    /// The pages that somebody waits for.
    pub fn wanted(&self) -> Vec<u64> {
        self.paging.wanted.borrow().iter().copied().collect()
    }

    /// The pages that were stored to and not written back.
    pub fn dirty(&self) -> Vec<u64> {
        self.paging.dirty.borrow().iter().copied().collect()
    }

    /// Fills a page with a byte.
    pub fn supply(&self, page: u64, byte: u8) {
        self.paging.wanted.borrow_mut().remove(&page);
        if self.paging.is_absent(page) {
            self.paging.present.borrow_mut().insert(page);
            self.memory.fill_page(page, byte);
        }
        self.paging.changed.wake();
    }

    /// Refuses what was asked for.
    pub fn fail(&self) {
        self.paging.wanted.borrow_mut().clear();
        self.paging.refusals.set(self.paging.refusals.get() + 1);
        self.paging.changed.wake();
    }

    /// Has all pages written back.
    pub fn written(&self) {
        let written = self.paging.dirty.take();
        let end = written.last().map_or(0, |page| page + 1);
        self.paging.backed.set(self.paging.backed.get().max(end));
        self.paging.changed.wake();
    }
}

/// What a call needs, and what is not there.
pub struct Absence(Missing);

enum Missing {
    /// A page, because of which a transfer ended.
    Page(Page),
    /// What the ticket is for.
    Other(Ticket),
}

struct Page {
    memory: Memory,
    page: u64,
    /// The space through which it was touched, and how.
    space: Option<u64>,
    access: Access,
}

/// Bytes that a call has left for a program, at a place whose page is not there yet.
pub struct Postponed {
    space: Space,
    address: u64,
    bytes: Box<[u8]>,
}

/// What has been noted since somebody last looked.
#[derive(Default)]
pub struct Needs {
    /// What is not there: where the last transfer ended, or what was noted last.
    pub absence: Option<Absence>,
    /// What is still to be written.
    pub postponed: Vec<Postponed>,
}

std::thread_local! {
    static NEEDS: RefCell<Needs> = RefCell::default();
}

/// Whether anything has been noted.
pub fn has_needs() -> bool {
    NEEDS.with_borrow(|needs| needs.absence.is_some() || !needs.postponed.is_empty())
}

/// Takes what has been noted.
pub fn take_needs() -> Needs {
    NEEDS.take()
}

pub(super) fn note(memory: &Memory, page: u64, access: Access) {
    note_missing(Missing::Page(Page { memory: memory.clone(), page, space: None, access }));
}

fn note_missing(missing: Missing) {
    NEEDS.with_borrow_mut(|needs| needs.absence = Some(Absence(missing)));
}

/// Notes that a call needs what a ticket is for.
pub fn note_ticket(ticket: Ticket) {
    note_missing(Missing::Other(ticket));
}

/// The transfer that has just ended was one with a space.
pub(super) fn note_space(space: &Space, access: Access) {
    NEEDS.with_borrow_mut(|needs| {
        if let Some(Absence(Missing::Page(absence))) = &mut needs.absence {
            (absence.space, absence.access) = (Some(space.id()), access);
        }
    });
}

impl Space {
    /// Has bytes written as soon as the page is there, because of which a write has just ended here.
    pub fn postpone(&self, address: u64, bytes: &[u8]) -> bool {
        NEEDS.with_borrow_mut(|needs| {
            let is_here = match &needs.absence {
                Some(Absence(Missing::Page(page))) => page.space == Some(self.id()) && page.access == Access::Write,
                Some(Absence(Missing::Other(_))) | None => false,
            };
            if is_here {
                needs.absence = None;
                needs.postponed.push(Postponed { space: self.clone(), address, bytes: Box::from(bytes) });
            }
            is_here
        })
    }
}

impl Executor {
    /// Waits until what a call needs is there.
    pub async fn bring(&self, absence: Absence) -> Result<()> {
        match absence.0 {
            Missing::Page(page) => self.bring_page(page).await,
            Missing::Other(ticket) => ticket.ended().await,
        }
    }

    async fn bring_page(&self, absence: Page) -> Result<()> {
        let Some(paging) = absence.memory.paging() else { return Ok(()) };
        let before = paging.refusals.get();
        while paging.is_absent(absence.page) {
            let listener = paging.changed.listen();
            paging.wanted.borrow_mut().insert(absence.page);
            listener.await;
            if paging.refusals.get() != before {
                return Err(if absence.space.is_some() { Errno::EFAULT } else { Errno::EIO });
            }
        }
        Ok(())
    }

    /// Writes what was put off. `EFAULT` if its page can't be had.
    pub async fn write_postponed(&self, postponed: Postponed) -> Result<()> {
        let Postponed { space, address, bytes } = postponed;
        while space.write(address, &bytes) < bytes.len() {
            let absence = take_needs().absence.ok_or(Errno::EFAULT)?;
            self.bring(absence).await?;
        }
        Ok(())
    }

    /// Has what was stored in a memory until now written back. `EIO`.
    pub async fn write_back(&self, memory: &Memory, _offset: u64, _len_bytes: u64) -> Result<()> {
        let Some(paging) = memory.paging() else { return Ok(()) };
        let before = paging.refusals.get();
        while !paging.dirty.borrow().is_empty() {
            let listener = paging.changed.listen();
            if paging.refusals.get() != before {
                return Err(Errno::EIO);
            }
            listener.await;
        }
        Ok(())
    }

    /// Has pages of a memory brought in that will be needed.
    pub fn will_need(&self, memory: &Memory, offset: u64, len_bytes: u64) {
        let Some(paging) = memory.paging() else { return };
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes).div_ceil(PAGE_SIZE);
        paging.wanted.borrow_mut().extend(pages.filter(|page| paging.is_absent(*page)));
    }
}
