//! What a pager is asked: which pages are wanted, and which are to be written back.
//!
//! A request is not kept anywhere: it *is* the state of the pages. Taking requests turns what is wanted into what has been
//! requested, and what is dirty into what is being written back, a run at a time; undoing that is all that a successor needs.

use super::MemorySystem;
use super::cache::CachedPage;
use super::error::Exhausted;
use super::managed::Managed;
use super::nodes::{Mark, Nodes};
use super::object::Memory;
use super::overlay::MAX_PAGES;
use super::tables::Change;
use crate::machine::{Access, Machine};
use crate::pool::Id;

/// The longest run that a pager is asked for at once, and the most that one call supplies: 1 MiB.
pub const MAX_RUN_PAGES: u64 = 256;

/// Read-ahead starts with so many pages and doubles while the reading goes on in order.
const FIRST_AHEAD: u64 = 4;
/// The most that is read ahead.
const MAX_AHEAD: u64 = 64;

/// Shown, but not to be written without a fault.
const READ_ONLY: Change = Change::Restrict(Access { write: false, execute: true });

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

/// Notices that pages are read in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadAhead {
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
    /// Whether there is something for the pager to take.
    fn has_request(&self, nodes: &Nodes) -> bool {
        let wanted = self.cache.next_marked(nodes, Mark::Wanted, 0, MAX_PAGES).is_some();
        let dirty = |(start, end)| self.cache.next_marked(nodes, Mark::Dirty, start, end).is_some();
        wanted || self.flush.is_some_and(dirty)
    }
}

impl MemorySystem {
    /// Undoes what was asked of a pager that is gone: what it was to fill is wanted again, what it was writing back is dirty
    /// again.
    pub fn restart_requests(&mut self, id: Id<Memory>) {
        let mut at = 0;
        while let Some((page, state)) = self.next_marked(id, &[Mark::UnderWay], at, MAX_PAGES) {
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
}
