//! The pages of a memory: finding the frame to read, and the frame to write.

use super::MemorySystem;
use super::error::{Exhausted, FaultError, MemoryError};
use super::object::{Content, Memory, frame_at};
use super::overlay::Page;
use super::tables::Change;
use crate::account::Account;
use crate::machine::{Caching, Frame, Machine};
use crate::pool::Id;

/// A page of a memory, for as long as nothing else happens to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageView {
    pub(super) frame: Frame,
    pub(super) caching: Caching,
    pub(super) writing: Writing,
}

/// Whether a page may be written where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Yes: nobody else has the frame.
    InPlace,
    /// It must be copied first; or, of a managed memory, it must be noted that it is dirty.
    AfterCopy,
}

impl PageView {
    const fn new(frame: Frame, writing: Writing) -> Self {
        Self { frame, caching: Caching::WriteBack, writing }
    }
}

impl MemorySystem {
    /// Where page `page` can be read; `None` for a page of zeros that has no frame.
    pub(super) fn page_to_read(&self, id: Id<Memory>, page: u64) -> Result<Option<PageView>, FaultError> {
        let (origin, page) = self.locate(id, page)?;
        Ok(match &self.memories[origin].content {
            Content::Direct { first, caching, .. } => Some(direct(*first, *caching, page)),
            Content::Pages { overlay, base, source } => match overlay.page(&self.nodes, &self.frames, base + page) {
                Page::Owned(frame) => Some(PageView::new(frame, Writing::InPlace)),
                Page::Shared(frame) => Some(PageView::new(frame, Writing::AfterCopy)),
                Page::Absent => source.frame(page).map(|frame| PageView::new(frame, Writing::AfterCopy)),
                // Only private pages of spaces go there.
                Page::Swapped { .. } => return Err(FaultError::Revoked),
            },
            Content::Managed(managed) => {
                self.managed_page_to_read(origin, managed, page)?.and_then(|state| {
                    // A page that is not dirty must not be written unseen.
                    let writing = if state.is_dirty() { Writing::InPlace } else { Writing::AfterCopy };
                    state.frame().map(|frame| PageView::new(frame, writing))
                })
            }
            Content::Window(_) => None,
        })
    }

    /// Where page `page` can be read and shown: a page of zeros gets a frame, paid for by the memory.
    pub(super) fn page_to_show(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        page: u64,
    ) -> Result<PageView, FaultError> {
        match self.page_to_read(id, page)? {
            Some(view) => Ok(view),
            None => self.page_to_write(m, id, page),
        }
    }

    /// Where page `page` can be written: a page that others have too is copied, a page of zeros gets a frame; both paid for
    /// by the memory. Mappings that show what was there before are broken.
    pub(super) fn page_to_write(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        page: u64,
    ) -> Result<PageView, FaultError> {
        let (origin, page) = self.locate(id, page)?;
        let memory = &self.memories[origin];
        let account = memory.account;
        let (below, index) = match &memory.content {
            Content::Direct { first, caching, .. } => return Ok(direct(*first, *caching, page)),
            Content::Window(_) => return Err(FaultError::Revoked),
            Content::Managed(_) => {
                return Ok(PageView::new(self.managed_page_to_write(m, origin, page)?, Writing::InPlace));
            }
            Content::Pages { overlay, base, source } => {
                let index = base + page;
                let below = match overlay.page(&self.nodes, &self.frames, index) {
                    Page::Owned(frame) => return Ok(PageView::new(frame, Writing::InPlace)),
                    Page::Shared(frame) => Some(frame),
                    Page::Absent => source.frame(page),
                    Page::Swapped { .. } => return Err(FaultError::Revoked),
                };
                (below, index)
            }
        };
        let frame = self.new_frame(m, account, below)?;
        self.put_page(m, (origin, page), index, frame, below)?;
        Ok(PageView::new(frame, Writing::InPlace))
    }

    /// A frame for `account` with the bytes of `content`, or zeros.
    pub(super) fn new_frame(
        &mut self,
        m: &mut impl Machine,
        account: Id<Account>,
        content: Option<Frame>,
    ) -> Result<Frame, Exhausted> {
        let Some(content) = content else { return self.frames.allocate(m, &mut self.accounts, account) };
        let frame = self.frames.allocate_unfilled(&mut self.accounts, account)?;
        m.copy_frame(content, frame);
        Ok(frame)
    }

    /// Puts a frame into the overlay of a memory in place of what was shown until now.
    fn put_page(
        &mut self,
        m: &mut impl Machine,
        (id, page): (Id<Memory>, u64),
        index: u64,
        frame: Frame,
        below: Option<Frame>,
    ) -> Result<(), Exhausted> {
        let (mut stores, memories, _) = self.parts();
        let memory = &mut memories[id];
        let Content::Pages { overlay, .. } = &mut memory.content else { return Ok(()) };
        let old = match overlay.insert(&mut stores, memory.account, index, frame) {
            Ok(old) => old,
            Err(exhausted) => {
                stores.frames.release(stores.accounts, frame);
                return Err(exhausted);
            }
        };
        // A page that had no frame was shown nowhere.
        if below.is_some() {
            self.change_mappings(m, id, (page, page + 1), Change::BREAK);
        }
        if let Some(old) = old {
            self.frames.release(&mut self.accounts, old);
        }
        Ok(())
    }

    /// The memory that has the page, and its number there; all bounds checked.
    fn locate(&self, id: Id<Memory>, page: u64) -> Result<(Id<Memory>, u64), FaultError> {
        let (origin, at) = self.origin(id, page)?;
        if page >= self.memories[id].pages() || at >= self.memories[origin].pages() {
            return Err(FaultError::BeyondEnd);
        }
        Ok((origin, at))
    }

    /// The frame of a page of a memory that the kernel made for itself, so that it can go on touching it: until
    /// [`MemorySystem::unpin`], the memory can't be snapshotted, cut or discarded, and the caller keeps it alive.
    ///
    /// # Errors
    /// [`MemoryError::BadState`] for a window, [`FaultError::BeyondEnd`], else exhaustion.
    pub fn frame_for_kernel(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64) -> Result<Frame, MemoryError> {
        match self.memories[id].content {
            Content::Managed(_) | Content::Window(_) => return Err(MemoryError::BadState),
            Content::Pages { .. } | Content::Direct { .. } => {}
        }
        let view = self.page_to_write(m, id, page)?;
        let memory = &mut self.memories[id];
        memory.pins = memory.pins.saturating_add(1);
        Ok(view.frame)
    }

    /// Takes back one [`MemorySystem::frame_for_kernel`].
    pub fn unpin(&mut self, id: Id<Memory>) {
        let memory = &mut self.memories[id];
        memory.pins = memory.pins.saturating_sub(1);
    }
}

fn direct(first: Frame, caching: Caching, page: u64) -> PageView {
    PageView { frame: frame_at(first, page), caching, writing: Writing::InPlace }
}
