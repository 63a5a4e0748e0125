//! Managed memories: pages that a pager supplies.
//!
//! What a page goes through is told at [`CachedPage`]. This file moves pages from state to state and keeps what shows them in
//! step; who waits for a page, and how the pager is told, is the kernel's business ([`crate::pager`]).
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
use super::overlay::{MAX_PAGES, Page, Prepaid};
use super::tables::Change;
use crate::account::Account;
use crate::machine::{Access, Frame, Machine, PAGE_SIZE};
use crate::pager::Pager;
use crate::pool::Id;

/// The longest run that a pager is asked for at once, and the most that one call supplies: 1 MiB.
pub const MAX_RUN_PAGES: u64 = 256;

/// How many pages one call that goes through a range visits; it tells how far it came.
const MAX_VISITED: u64 = 1024;

/// One page of RAM in so many may be dirty before stores have to wait for writeback; half of that, and writeback begins.
pub(super) const PRESSED_SHARE: u64 = 5;

/// Read-ahead starts with so many pages and doubles while the reading goes on in order.
const FIRST_AHEAD: u64 = 4;
/// The most that is read ahead.
const MAX_AHEAD: u64 = 64;

/// Shown, but not to be written without a fault.
const READ_ONLY: Change = Change::Restrict(Access { write: false, execute: true });

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

/// What a pager is asked to do with the pages from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagerRequest {
    /// Supply them, or fail. Another `ahead` pages after them are likely to be wanted next.
    Fill {
        /// The first page.
        start: u64,
        /// The page after the last.
        end: u64,
        /// How many more.
        ahead: u64,
    },
    /// Write them back, and say when that is done. It has begun: stores from now on make the page dirty again.
    Writeback {
        /// The first page.
        start: u64,
        /// The page after the last.
        end: u64,
    },
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
    backed: u64,
    /// It was dirty when [`MemorySystem::age_dirty`] last looked.
    was_dirty: bool,
    /// Where dirty pages are to be written back, whether or not there is need for their frames.
    flush: Option<(u64, u64)>,
    ahead: ReadAhead,
}

/// Notices that pages are read in order.
#[derive(Clone, Copy, Debug, Default)]
struct ReadAhead {
    /// The page after the last run that was asked for, with what was read ahead of it.
    next: u64,
    window: u64,
}

impl ReadAhead {
    /// How many pages to read ahead of a run.
    fn advance(&mut self, start: u64, end: u64) -> u64 {
        let in_order = start <= self.next && end > self.next.saturating_sub(self.window);
        self.window = match in_order && self.next != 0 {
            true => (self.window * 2).clamp(FIRST_AHEAD, MAX_AHEAD),
            false => 0,
        };
        self.next = end + self.window;
        self.window
    }
}

impl Managed {
    /// Whether there is a pager.
    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    /// Whether there is something for the pager to take.
    fn has_request(&self, nodes: &super::nodes::Nodes) -> bool {
        let wanted = self.cache.next_marked(nodes, Mark::Wanted, 0, MAX_PAGES).is_some();
        let dirty = |(start, end)| self.cache.next_marked(nodes, Mark::Dirty, start, end).is_some();
        wanted || self.flush.is_some_and(dirty)
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

    /// Undoes what was asked of a pager that is gone: what it was to fill is wanted again, what it was writing back is dirty
    /// again.
    pub fn restart_requests(&mut self, id: Id<Memory>) {
        let mut at = 0;
        while let Some((page, state)) = self.next_cached(id, at, MAX_PAGES) {
            at = page + 1;
            match state {
                CachedPage::Requested => self.change_state(id, page, CachedPage::Wanted),
                CachedPage::WritingBack(frame) | CachedPage::WritingBackDirtied(frame) => {
                    self.change_state(id, page, CachedPage::Dirty(frame));
                    self.request_writeback(id, page, page + 1);
                }
                CachedPage::Missing | CachedPage::Wanted | CachedPage::Clean(_) | CachedPage::Dirty(_) => {}
            }
        }
    }

    /// Notes that somebody waits for a page. Nothing happens if it is on its way or there.
    ///
    /// # Errors
    /// Exhaustion; then nobody may wait, because nobody would be asked.
    pub fn want(&mut self, id: Id<Memory>, page: u64) -> Result<(), Exhausted> {
        match self.cached(id, page) {
            // What lies beyond all that the pager has is not waited for, but for room to make it.
            CachedPage::Missing if self.managed(id).is_some_and(|managed| page >= managed.backed) => Ok(()),
            CachedPage::Missing => self.set_page(id, page, CachedPage::Wanted).map(|_| ()),
            CachedPage::Wanted
            | CachedPage::Requested
            | CachedPage::Clean(_)
            | CachedPage::Dirty(_)
            | CachedPage::WritingBack(_)
            | CachedPage::WritingBackDirtied(_) => Ok(()),
        }
    }

    /// Notes that the missing pages of a range will be needed; as many as there is memory to note, at most
    /// [`MAX_RUN_PAGES`].
    pub fn want_range(&mut self, id: Id<Memory>, start: u64, end: u64) {
        let Ok((origin, first)) = self.origin(id, start) else { return };
        let Some(managed) = self.managed(origin) else { return };
        let last = (first + end.saturating_sub(start).min(MAX_RUN_PAGES)).min(managed.backed);
        for page in first..last.min(self.memories[origin].pages()) {
            if self.want(origin, page).is_err() {
                return;
            }
        }
    }

    /// Asks for the dirty pages of a range to be written back.
    pub fn request_writeback(&mut self, id: Id<Memory>, start: u64, end: u64) {
        if let Some(managed) = self.managed_mut(id) {
            let (first, last) = managed.flush.unwrap_or((start, end));
            managed.flush = Some((first.min(start), last.max(end)));
        }
    }

    /// Whether there is something for the pager to take.
    pub fn has_request(&self, id: Id<Memory>) -> bool {
        self.managed(id).is_some_and(|managed| managed.has_request(&self.nodes))
    }

    /// Takes the next thing to do for the pager: first what somebody waits for.
    pub fn take_request(&mut self, m: &mut impl Machine, id: Id<Memory>) -> Option<PagerRequest> {
        self.take_fill(id).or_else(|| self.take_writeback(m, id))
    }

    fn take_fill(&mut self, id: Id<Memory>) -> Option<PagerRequest> {
        let (start, _) = self.managed(id)?.cache.next_marked(&self.nodes, Mark::Wanted, 0, MAX_PAGES)?;
        let mut end = start;
        while end - start < MAX_RUN_PAGES && self.cached(id, end) == CachedPage::Wanted {
            self.change_state(id, end, CachedPage::Requested);
            end += 1;
        }
        let size = self.memories[id].pages();
        let managed = self.managed_mut(id)?;
        let ahead = managed.ahead.advance(start, end).min(managed.backed.min(size).saturating_sub(end));
        Some(PagerRequest::Fill { start, end, ahead })
    }

    fn take_writeback(&mut self, m: &mut impl Machine, id: Id<Memory>) -> Option<PagerRequest> {
        let managed = self.managed_mut(id)?;
        let (from, until) = managed.flush?;
        let Some((start, _)) = self.managed(id)?.cache.next_marked(&self.nodes, Mark::Dirty, from, until) else {
            self.managed_mut(id)?.flush = None;
            return None;
        };
        let mut end = start;
        while end < until && end - start < MAX_RUN_PAGES {
            let CachedPage::Dirty(frame) = self.cached(id, end) else { break };
            self.change_state(id, end, CachedPage::WritingBack(frame));
            end += 1;
        }
        self.change_mappings(m, id, (start, end), READ_ONLY);
        self.managed_mut(id)?.flush = (end < until).then_some((end, until));
        Some(PagerRequest::Writeback { start, end })
    }

    /// Fills the missing pages from `start` on with `count` pages of `source` from `source_page` on, or with zeros. The frames
    /// are moved where `source` is anonymous and they are its alone, and copied otherwise. A page that is there already keeps
    /// what it has. Returns how many pages were dealt with, at most [`MAX_RUN_PAGES`].
    ///
    /// # Errors
    /// [`MemoryError::BadState`] if the memory is not managed, or the source is; [`MemoryError::OutOfRange`]; exhaustion, if not
    /// even the first page could be supplied.
    pub fn supply(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        (start, count): (u64, u64),
        source: Option<(Id<Memory>, u64)>,
    ) -> Result<u64, MemoryError> {
        self.managed(id).ok_or(MemoryError::BadState)?;
        let end = start.checked_add(count).filter(|end| *end <= MAX_PAGES).ok_or(MemoryError::OutOfRange)?;
        if let Some((source, page)) = source {
            self.check_source(source, page, count)?;
        }
        // What was cut off meanwhile needs no data any more.
        let end = end.min(self.memories[id].pages()).min(start.saturating_add(MAX_RUN_PAGES));
        for page in start..end {
            let from = source.map(|(source, first)| (source, first + (page - start)));
            if let Err(error) = self.supply_page(m, id, page, from) {
                return if page == start { Err(error) } else { Ok(page - start) };
            }
        }
        Ok(end.saturating_sub(start).max(count.min(MAX_RUN_PAGES)))
    }

    fn check_source(&self, source: Id<Memory>, page: u64, count: u64) -> Result<(), MemoryError> {
        let (origin, _) = self.origin(source, page)?;
        match &self.memories[origin].content {
            Content::Pages { .. } | Content::Direct { .. } => {}
            Content::Managed(_) | Content::Window(_) => return Err(MemoryError::BadState),
        }
        let fits = page.checked_add(count).is_some_and(|end| end <= self.memories[source].pages());
        if fits { Ok(()) } else { Err(MemoryError::OutOfRange) }
    }

    fn supply_page(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        page: u64,
        from: Option<(Id<Memory>, u64)>,
    ) -> Result<(), MemoryError> {
        if self.cached(id, page).frame().is_some() {
            return Ok(());
        }
        let account = self.memories[id].account;
        // The slot first: once that is there, nothing is left to fail but the frame.
        let before = self.set_page(id, page, CachedPage::Requested)?;
        let frame = match from {
            Some((source, at)) => self.take_or_copy_frame(m, source, at, account),
            None => self.new_frame(m, account, None).map_err(MemoryError::from),
        };
        match frame {
            Ok(frame) => self.change_state(id, page, CachedPage::Clean(frame)),
            Err(error) => {
                self.change_state(id, page, before);
                return Err(error);
            }
        }
        Ok(())
    }

    /// A frame with the bytes of a page of `source`, which `account` pays for: the page's own if nobody else has it.
    fn take_or_copy_frame(
        &mut self,
        m: &mut impl Machine,
        source: Id<Memory>,
        page: u64,
        account: Id<Account>,
    ) -> Result<Frame, MemoryError> {
        if let Some(frame) = self.take_frame(m, source, page, account)? {
            return Ok(frame);
        }
        let content = self.page_to_read(source, page)?.map(|view| view.frame);
        let frame = self.new_frame(m, account, content)?;
        if CachedPage::can_hold(frame) { Ok(frame) } else { Err(self.give_up_frame(frame)) }
    }

    fn give_up_frame(&mut self, frame: Frame) -> MemoryError {
        self.frames.release(&mut self.accounts, frame);
        Exhausted::NoMemory.into()
    }

    /// Takes the frame of a page out of an anonymous memory, if it is that memory's alone.
    fn take_frame(
        &mut self,
        m: &mut impl Machine,
        source: Id<Memory>,
        page: u64,
        account: Id<Account>,
    ) -> Result<Option<Frame>, MemoryError> {
        let (origin, at) = self.origin(source, page)?;
        let memory = &self.memories[origin];
        let Content::Pages { overlay, base, .. } = &memory.content else { return Ok(None) };
        let index = base + at;
        let Page::Owned(frame) = overlay.page(&self.nodes, &self.frames, index) else { return Ok(None) };
        if memory.pins != 0 || !CachedPage::can_hold(frame) {
            return Ok(None);
        }
        self.frames.charge_to(&mut self.accounts, frame, account)?;
        let payer = memory.account;
        self.change_mappings(m, origin, (at, at + 1), Change::BREAK);
        self.frames.retain(frame);
        let (mut stores, memories, _) = self.parts();
        if let Content::Pages { overlay, .. } = &mut memories[origin].content {
            // The page is this overlay's alone, so that nothing on its path has to be copied.
            overlay.remove(&mut stores, &mut Prepaid::new(payer), index, index + 1);
        }
        Ok(Some(frame))
    }

    /// The pager can't do what it was asked for: what it was to fill is missing again, what it was writing back is dirty.
    /// Returns the page after the last that was looked at.
    pub fn fail_pages(&mut self, id: Id<Memory>, start: u64, end: u64) -> u64 {
        self.visit(id, (start, end), |system, page, state| match state {
            CachedPage::Wanted | CachedPage::Requested => system.change_state(id, page, CachedPage::Missing),
            CachedPage::WritingBack(frame) | CachedPage::WritingBackDirtied(frame) => {
                system.change_state(id, page, CachedPage::Dirty(frame));
            }
            CachedPage::Missing | CachedPage::Clean(_) | CachedPage::Dirty(_) => {}
        })
    }

    /// The pager has written back what it was asked to. Returns the page after the last that was looked at.
    pub fn written(&mut self, id: Id<Memory>, start: u64, end: u64) -> u64 {
        let until = self.visit(id, (start, end), |system, page, state| match state {
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
        self.visit(id, (start, end), |system, page, state| match state {
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
        while let Some((page, state)) = managed.cache.next(&self.nodes, at, end) {
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

    /// Goes through the pages of a range that are not missing, at most [`MAX_VISITED`]; returns the page after the last that
    /// was looked at.
    fn visit(
        &mut self,
        id: Id<Memory>,
        (start, end): (u64, u64),
        mut each: impl FnMut(&mut Self, u64, CachedPage),
    ) -> u64 {
        let mut at = start;
        for _ in 0..MAX_VISITED {
            let Some((page, state)) = self.next_cached(id, at, end) else { return end };
            each(self, page, state);
            at = page + 1;
        }
        at
    }

    pub(super) fn managed(&self, id: Id<Memory>) -> Option<&Managed> {
        match &self.memories.get(id)?.content {
            Content::Managed(managed) => Some(managed),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => None,
        }
    }

    fn managed_mut(&mut self, id: Id<Memory>) -> Option<&mut Managed> {
        match &mut self.memories.get_mut(id)?.content {
            Content::Managed(managed) => Some(managed),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => None,
        }
    }

    pub(super) fn cached(&self, id: Id<Memory>, page: u64) -> CachedPage {
        self.managed(id).map_or(CachedPage::Missing, |managed| managed.cache.get(&self.nodes, page))
    }

    fn next_cached(&self, id: Id<Memory>, start: u64, end: u64) -> Option<(u64, CachedPage)> {
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
