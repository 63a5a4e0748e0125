//! Managed memories: pages that a pager supplies.
//!
//! What a page goes through is told at [`CachedPage`]. This file moves pages from state to state and keeps what shows them in
//! step ([`supply`](super::supply) fills them, [`requests`](super::requests) says what the pager is asked); who waits for a page, and how the pager is told, is the kernel's business ([`crate::pager`]).
//!
//! - A page that is not there is an error with its name, [`FaultError::NotPresent`]. Whoever gets it *wants* the page
//!   ([`MemorySystem::want`]) and tries again later.
//! - The pager takes what is wanted and what is to be written back as merged runs ([`MemorySystem::take_request`]). Taking a
//!   run of dirty pages begins their writeback: they are shown read-only from then on, so that the next store is seen.
//! - Frames are *moved* in by [`MemorySystem::supply`]; the pager's own memory loses them, and the managed memory's account
//!   pays from then on.
//! - Only so much may be dirty. Beyond that, a store to a page that is not yet dirty is answered as if the page were not there,
//!   and waits until something has been written back.
//! - What lies beyond the pages that the pager ever had ([`Managed::backed`]) is zeros, and nobody is asked.

use super::MemorySystem;
use super::cache::{CacheStore, CachedPage, PageCache};
use super::error::{Absent, Exhausted, FaultError, MemoryError};
use super::fault::FaultKind;
use super::nodes::Mark;
use super::object::{Content, Memory};
use super::overlay::MAX_PAGES;
use super::requests::ReadAhead;
use super::tables::Change;
use crate::account::Account;
use crate::machine::{Frame, Machine, PAGE_SIZE};
use crate::pager::Pager;
use crate::pool::Id;

/// How many pages one call that goes through a range visits; it tells how far it came.
const MAX_VISITED: u64 = 1024;

/// One page of RAM in so many may be dirty before stores have to wait for writeback; half of that, and writeback begins.
pub(super) const PRESSED_SHARE: u64 = 5;

/// Whether somebody would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A pager takes requests.
    Present,
    /// There is none now, but one may come.
    Awaited,
    /// There is none, and nobody waits for one: what is not there can't be had.
    Gone,
}

/// How far a page is from having been written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// Not at all: the pager has what there is.
    Nothing,
    /// Once.
    Once,
    /// The writeback that is under way came too early for the last store: twice.
    Twice,
}

/// The pages of a managed memory.
#[derive(Debug)]
pub(super) struct Managed {
    pub(super) cache: PageCache,
    presence: Presence,
    /// Whom the kernel tells. Here it is only kept.
    pager: Option<Id<Pager>>,
    /// The pager may have something for the pages below this one. From here on, what is not cached is zeros.
    pub(super) backed: u64,
    /// It was dirty when [`MemorySystem::age_dirty`] last looked.
    was_dirty: bool,
    /// Where dirty pages are to be written back, whether or not there is need for their frames.
    pub(super) flush: Option<(u64, u64)>,
    pub(super) ahead: ReadAhead,
}

impl Managed {
    /// Whether there is a pager.
    pub(super) fn presence(&self) -> Presence {
        self.presence
    }
}

impl MemorySystem {
    /// Makes a memory of `size_bytes` bytes that a pager fills. Nobody has taken its requests yet: `presence` says whether
    /// somebody is expected to.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] for a size that no index reaches, else exhaustion.
    pub fn create_managed(
        &mut self,
        account: Id<Account>,
        size_bytes: u64,
        presence: Presence,
    ) -> Result<Id<Memory>, MemoryError> {
        if size_bytes > MAX_PAGES * PAGE_SIZE {
            return Err(MemoryError::OutOfRange);
        }
        let backed = size_bytes.div_ceil(PAGE_SIZE);
        let (cache, ahead) = (PageCache::new(), ReadAhead::default());
        let content =
            Content::Managed(Managed { cache, presence, pager: None, was_dirty: false, backed, flush: None, ahead });
        Ok(self.add_memory(Memory::new(account, size_bytes, content))?)
    }

    /// Notes whom the kernel has to tell.
    pub fn set_pager(&mut self, id: Id<Memory>, pager: Id<Pager>) {
        if let Some(managed) = self.managed_mut(id) {
            managed.pager = Some(pager);
        }
    }

    /// Whom the kernel has to tell; may be gone.
    pub fn pager(&self, id: Id<Memory>) -> Option<Id<Pager>> {
        self.managed(id)?.pager
    }

    /// Says whether there is a pager. A new one is asked anew for all that the last one was asked for.
    pub fn set_presence(&mut self, id: Id<Memory>, presence: Presence) {
        if let Some(managed) = self.managed_mut(id) {
            managed.presence = presence;
        }
    }

    /// The pager can't do what it was asked for: what it was to fill is missing again, what it was writing back is dirty.
    /// Returns the page after the last that was looked at.
    pub fn fail_pages(&mut self, id: Id<Memory>, start: u64, end: u64) -> u64 {
        self.visit(id, &[Mark::Wanted, Mark::UnderWay], (start, end), |system, page, state| match state {
            CachedPage::Wanted | CachedPage::Requested => system.change_state(id, page, CachedPage::Missing),
            CachedPage::WritingBack(frame) | CachedPage::WritingBackDirtied(frame) => {
                system.change_state(id, page, CachedPage::Dirty(frame));
            }
            CachedPage::Missing | CachedPage::Clean(_) | CachedPage::Dirty(_) => {}
        })
    }

    /// The pager has written back what it was asked to. Returns the page after the last that was looked at.
    pub fn written(&mut self, id: Id<Memory>, start: u64, end: u64) -> u64 {
        let until = self.visit(id, &[Mark::UnderWay], (start, end), |system, page, state| match state {
            CachedPage::WritingBack(frame) => system.change_state(id, page, CachedPage::Clean(frame)),
            CachedPage::WritingBackDirtied(frame) => system.change_state(id, page, CachedPage::Dirty(frame)),
            CachedPage::Missing
            | CachedPage::Wanted
            | CachedPage::Requested
            | CachedPage::Clean(_)
            | CachedPage::Dirty(_) => {}
        });
        let size = self.memories[id].pages();
        if let Some(managed) = self.managed_mut(id) {
            managed.backed = managed.backed.max(until.min(size));
        }
        until
    }

    /// Forgets the clean pages of a range; the pager will be asked for them again. Returns the page after the last that was
    /// looked at.
    pub fn invalidate_pages(&mut self, m: &mut impl Machine, id: Id<Memory>, start: u64, end: u64) -> u64 {
        self.visit(id, &[Mark::Clean], (start, end), |system, page, state| match state {
            CachedPage::Clean(frame) => system.drop_page(m, id, page, frame),
            CachedPage::Missing
            | CachedPage::Wanted
            | CachedPage::Requested
            | CachedPage::Dirty(_)
            | CachedPage::WritingBack(_)
            | CachedPage::WritingBackDirtied(_) => {}
        })
    }

    /// How often a page has to be written back until the pager has what there is now.
    pub fn unwritten(&self, id: Id<Memory>, page: u64) -> Unwritten {
        match self.cached(id, page) {
            CachedPage::Missing | CachedPage::Wanted | CachedPage::Requested | CachedPage::Clean(_) => {
                Unwritten::Nothing
            }
            CachedPage::Dirty(_) | CachedPage::WritingBack(_) => Unwritten::Once,
            CachedPage::WritingBackDirtied(_) => Unwritten::Twice,
        }
    }

    /// The first page of a range whose stores the pager does not have.
    pub fn next_unwritten(&self, id: Id<Memory>, start: u64, end: u64) -> Option<u64> {
        let managed = self.managed(id)?;
        if managed.cache.counts().unwritten == 0 {
            return None;
        }
        let mut at = start;
        while let Some((page, state)) = self.next_marked(id, &[Mark::Dirty, Mark::UnderWay], at, end) {
            if state.is_unwritten() {
                return Some(page);
            }
            at = page + 1;
        }
        None
    }

    /// Whether a page is there, on its way, or was never asked for.
    pub fn is_awaited(&self, id: Id<Memory>, page: u64) -> bool {
        match self.cached(id, page) {
            CachedPage::Wanted | CachedPage::Requested => true,
            CachedPage::Missing
            | CachedPage::Clean(_)
            | CachedPage::Dirty(_)
            | CachedPage::WritingBack(_)
            | CachedPage::WritingBackDirtied(_) => false,
        }
    }

    /// Does what a load or a store at a page of a memory does, without the load or the store.
    ///
    /// # Errors
    /// As [`MemorySystem::fault`].
    pub fn touch_memory(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        page: u64,
        kind: FaultKind,
    ) -> Result<(), FaultError> {
        match kind {
            FaultKind::Write => self.page_to_write(m, id, page)?,
            FaultKind::Read | FaultKind::Execute => self.page_to_show(m, id, page)?,
        };
        Ok(())
    }

    /// Where a page of a managed memory can be read.
    pub(super) fn managed_page_to_read(
        &self,
        id: Id<Memory>,
        managed: &Managed,
        page: u64,
    ) -> Result<Option<CachedPage>, FaultError> {
        let state = managed.cache.get(&self.nodes, page);
        if state.frame().is_some() {
            return Ok(Some(state));
        }
        if page >= managed.backed {
            return Ok(None);
        }
        match managed.presence {
            Presence::Present | Presence::Awaited => Err(FaultError::NotPresent(Absent { memory: id, page })),
            Presence::Gone => Err(FaultError::NoPager),
        }
    }

    /// Where a page of a managed memory can be written: it is dirty from now on.
    pub(super) fn managed_page_to_write(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        page: u64,
    ) -> Result<Frame, FaultError> {
        let Content::Managed(managed) = &self.memories[id].content else { return Err(FaultError::Revoked) };
        let frame = match self.managed_page_to_read(id, managed, page)? {
            Some(state) => {
                if !state.is_dirty() && !self.may_dirty(managed) {
                    return Err(self.make_room(id, page));
                }
                let (frame, next) = match state {
                    CachedPage::Clean(frame) => (frame, CachedPage::Dirty(frame)),
                    CachedPage::WritingBack(frame) => (frame, CachedPage::WritingBackDirtied(frame)),
                    CachedPage::Dirty(frame) | CachedPage::WritingBackDirtied(frame) => return Ok(frame),
                    CachedPage::Missing | CachedPage::Wanted | CachedPage::Requested => {
                        return Err(FaultError::NotPresent(Absent { memory: id, page }));
                    }
                };
                self.change_state(id, page, next);
                frame
            }
            None if self.may_dirty(managed) => self.add_zeros(m, id, page)?,
            None => return Err(self.make_room(id, page)),
        };
        Ok(frame)
    }

    /// Too much is dirty for this page to become so: its pager has to write back first.
    fn make_room(&mut self, id: Id<Memory>, page: u64) -> FaultError {
        self.request_writeback(id, 0, MAX_PAGES);
        match self.managed(id).map(|managed| managed.presence) {
            Some(Presence::Present | Presence::Awaited) => FaultError::NotPresent(Absent { memory: id, page }),
            Some(Presence::Gone) | None => FaultError::NoPager,
        }
    }

    /// Gives a page beyond all that the pager has a frame of zeros. It is dirty: if it were dropped, nobody would know of it.
    fn add_zeros(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64) -> Result<Frame, Exhausted> {
        let account = self.memories[id].account;
        let before = self.set_page(id, page, CachedPage::Requested)?;
        match self.new_frame(m, account, None) {
            Ok(frame) if CachedPage::can_hold(frame) => {
                self.change_state(id, page, CachedPage::Dirty(frame));
                Ok(frame)
            }
            Ok(frame) => {
                self.frames.release(&mut self.accounts, frame);
                self.change_state(id, page, before);
                Err(Exhausted::NoMemory)
            }
            Err(exhausted) => {
                self.change_state(id, page, before);
                Err(exhausted)
            }
        }
    }

    /// Takes the pages from `start` on away, whatever their state. Needs no memory.
    pub(super) fn cut_managed(&mut self, m: &mut impl Machine, id: Id<Memory>, start: u64) {
        self.change_mappings(m, id, (start, MAX_PAGES), Change::BREAK);
        while let Some((page, state)) = self.next_cached(id, start, MAX_PAGES) {
            self.change_state(id, page, CachedPage::Missing);
            if let Some(frame) = state.frame() {
                self.frames.release(&mut self.accounts, frame);
            }
        }
        if let Some(managed) = self.managed_mut(id) {
            managed.backed = managed.backed.min(start);
        }
    }

    /// Gives everything back that the cache of a memory holds, which no mapping shows any more.
    pub(super) fn empty_managed(&mut self, id: Id<Memory>) {
        while let Some((page, state)) = self.next_cached(id, 0, MAX_PAGES) {
            self.change_state(id, page, CachedPage::Missing);
            if let Some(frame) = state.frame() {
                self.frames.release(&mut self.accounts, frame);
            }
        }
    }

    /// Drops a clean page.
    fn drop_page(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64, frame: Frame) {
        self.change_mappings(m, id, (page, page + 1), Change::BREAK);
        self.change_state(id, page, CachedPage::Missing);
        self.frames.release(&mut self.accounts, frame);
    }

    /// Goes through the pages of a range with one of these marks, at most [`MAX_VISITED`]; returns the page after the last that was
    /// looked at.
    fn visit(
        &mut self,
        id: Id<Memory>,
        marks: &[Mark],
        (start, end): (u64, u64),
        mut each: impl FnMut(&mut Self, u64, CachedPage),
    ) -> u64 {
        let mut at = start;
        for _ in 0..MAX_VISITED {
            let Some((page, state)) = self.next_marked(id, marks, at, end) else { return end };
            each(self, page, state);
            at = page + 1;
        }
        at
    }

    /// The first page of a range with one of these marks.
    pub(super) fn next_marked(
        &self,
        id: Id<Memory>,
        marks: &[Mark],
        start: u64,
        end: u64,
    ) -> Option<(u64, CachedPage)> {
        self.managed(id)?.cache.next_of_marks(&self.nodes, marks, start, end)
    }

    pub(super) fn managed(&self, id: Id<Memory>) -> Option<&Managed> {
        match &self.memories.get(id)?.content {
            Content::Managed(managed) => Some(managed),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => None,
        }
    }

    pub(super) fn managed_mut(&mut self, id: Id<Memory>) -> Option<&mut Managed> {
        match &mut self.memories.get_mut(id)?.content {
            Content::Managed(managed) => Some(managed),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => None,
        }
    }

    pub(super) fn cached(&self, id: Id<Memory>, page: u64) -> CachedPage {
        self.managed(id).map_or(CachedPage::Missing, |managed| managed.cache.get(&self.nodes, page))
    }

    pub(super) fn next_cached(&self, id: Id<Memory>, start: u64, end: u64) -> Option<(u64, CachedPage)> {
        self.managed(id)?.cache.next(&self.nodes, start, end)
    }

    /// Changes the state of a page that may have no slot yet.
    pub(super) fn set_page(&mut self, id: Id<Memory>, page: u64, state: CachedPage) -> Result<CachedPage, Exhausted> {
        let memory = &mut self.memories[id];
        let account = memory.account;
        let Content::Managed(managed) = &mut memory.content else { return Ok(CachedPage::Missing) };
        let mut store = CacheStore { accounts: &mut self.accounts, nodes: &mut self.nodes };
        let before = managed.cache.set(&mut store, account, page, state)?;
        self.cached.exchange(before, state);
        Ok(before)
    }

    /// Notes that a page was used, if it is a cached one.
    pub(super) fn note_use(&mut self, id: Id<Memory>, page: u64) {
        let Ok((origin, page)) = self.origin(id, page) else { return };
        if let Content::Managed(managed) = &self.memories[origin].content {
            managed.cache.note_use(&mut self.nodes, page);
        }
    }

    /// Whether a page of a managed memory was used by the kernel since this was last asked.
    pub(super) fn take_recent(&mut self, id: Id<Memory>, page: u64) -> bool {
        match &self.memories[id].content {
            Content::Managed(managed) => managed.cache.take_recent(&mut self.nodes, page),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => false,
        }
    }

    /// Notes whether a memory is dirty; tells whether it was the last time as well.
    pub(super) fn grow_old(&mut self, id: Id<Memory>) -> bool {
        let Some(managed) = self.managed_mut(id) else { return false };
        let is_dirty = managed.cache.counts().unwritten != 0;
        core::mem::replace(&mut managed.was_dirty, is_dirty) && is_dirty
    }

    /// Whether a page that is not dirty may become so: if too much is already, much of it this memory's, its pager has to write
    /// back first.
    fn may_dirty(&self, managed: &Managed) -> bool {
        let limit = self.frames.total() / PRESSED_SHARE;
        self.cached.unwritten < limit || managed.cache.counts().unwritten < limit / 8
    }

    /// Changes the state of a page that has a slot, which needs no memory.
    pub(super) fn change_state(&mut self, id: Id<Memory>, page: u64, state: CachedPage) {
        let changed = self.set_page(id, page, state);
        debug_assert!(changed.is_ok(), "changing the state of a cached page needed memory");
    }
}

/// What the pages of a managed memory are, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagedInfo {
    /// Whether there is a pager.
    pub presence: Presence,
    /// Pages that have a frame.
    pub resident_pages: u64,
    /// Pages with stores that the pager does not have.
    pub unwritten_pages: u64,
}

impl MemorySystem {
    /// What there is to know of a managed memory (or the one that a window shows); `None` of any other.
    pub fn managed_info(&self, id: Id<Memory>) -> Option<ManagedInfo> {
        let (origin, _) = self.origin(id, 0).ok()?;
        let managed = self.managed(origin)?;
        let counts = managed.cache.counts();
        Some(ManagedInfo {
            presence: managed.presence,
            resident_pages: counts.resident,
            unwritten_pages: counts.unwritten,
        })
    }

    /// The managed memory that has a page, and the page's number there.
    pub fn managed_origin(&self, id: Id<Memory>, page: u64) -> Option<(Id<Memory>, u64)> {
        let (origin, page) = self.origin(id, page).ok()?;
        self.managed(origin).map(|_| (origin, page))
    }
}
