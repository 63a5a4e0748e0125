//! Filling the pages of managed memories: frames move in.

use super::MemorySystem;
use super::cache::CachedPage;
use super::error::{Exhausted, MemoryError};
use super::object::{Content, Memory};
use super::overlay::{MAX_PAGES, Page, Prepaid};
use super::requests::MAX_RUN_PAGES;
use super::tables::Change;
use crate::account::Account;
use crate::machine::{Frame, Machine};
use crate::pool::Id;

impl MemorySystem {
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
        // What was cut off meanwhile needs no data any more. Pages that were added after that are zeros: what the pager has for them is old.
        let backed = self.managed(id).map_or(0, |managed| managed.backed);
        let end = end.min(backed).min(self.memories[id].pages()).min(start.saturating_add(MAX_RUN_PAGES));
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
        // A device may go on writing to it.
        if memory.pins != 0 || self.frames.pins(frame) != 0 || !CachedPage::can_hold(frame) {
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
}
