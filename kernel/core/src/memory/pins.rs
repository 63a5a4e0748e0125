//! Pages that devices use: pinned frames.
//!
//! A device knows frames, not memories. So what is mapped for one is a frame, and it stays that device's until it is unmapped: the
//! device has a reference of its own, beside the overlay's. What may happen to the page meanwhile:
//!
//! - *It is written.* In place: a device's reference does not make a page shared, so that device and programs see the same bytes. What was
//!   shared when it was mapped has been copied then.
//! - *A snapshot of its memory is wanted.* Refused: whoever writes first afterwards would get another frame than the device has.
//! - *It is supplied to a managed memory.* Copied, not moved: the device must not reach into a page cache.
//! - *It is cut off, discarded, or its memory goes*, whoever did that and why. The frame leaves the memory, and waits, paid for by
//!   whoever paid until now, for the device.
//! - *It is reclaimed or swapped out.* Never: only cached pages and private pages of spaces are, and neither can be mapped for a device.

use super::MemorySystem;
use super::error::{Exhausted, FaultError, MemoryError};
use super::object::{Content, Memory, Tenure};
use super::overlay::Page;
use crate::account::Account;
use crate::machine::{Frame, Machine};
use crate::pool::Id;
use alloc::vec::Vec;

impl MemorySystem {
    /// A frame of zeros for a table of the kernel's, paid for by `account`.
    ///
    /// # Errors
    /// Exhaustion.
    pub(crate) fn allocate_table(&mut self, m: &mut impl Machine, account: Id<Account>) -> Result<Frame, Exhausted> {
        self.frames.allocate(m, &mut self.accounts, account)
    }

    /// Gives such a frame back.
    pub(crate) fn free_table(&mut self, frame: Frame) {
        self.frames.release(&mut self.accounts, frame);
    }

    /// The memory whose pages a device would get, for `count` pages of `id` from `start` on.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`]; [`MemoryError::BadState`] if it is not anonymous or contiguous; [`FaultError::Revoked`].
    pub fn pinnable(&self, id: Id<Memory>, start: u64, count: u64) -> Result<Id<Memory>, MemoryError> {
        let (origin, _) = self.origin(id, start)?;
        if start.checked_add(count).is_none_or(|end| end > self.memories[id].pages()) {
            return Err(MemoryError::OutOfRange);
        }
        match &self.memories[origin].content {
            Content::Pages { .. } | Content::Direct { tenure: Tenure::Own, .. } => Ok(origin),
            Content::Direct { tenure: Tenure::Machine, .. } | Content::Managed(_) | Content::Window(_) => {
                Err(MemoryError::BadState)
            }
        }
    }

    /// Adds the frames of pages that are [pinnable](MemorySystem::pinnable) to a list that has room for them, each with a reference for a
    /// device. A page that has no frame of its own gets one, paid for by the memory. Gives the memory that had them.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`], [`MemoryError::TooManyPins`], else exhaustion; what is in the list then is pinned.
    pub fn pin_pages(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        (first, count): (u64, u64),
        frames: &mut Vec<Frame>,
    ) -> Result<(), MemoryError> {
        let origin = self.pinnable(id, first, count)?;
        let (_, at) = self.origin(id, first)?;
        let before = self.memories[origin].device_pins;
        let wanted = u32::try_from(count).ok().and_then(|count| before.checked_add(count));
        wanted.ok_or(MemoryError::TooManyPins)?;
        let mut result = Ok(());
        let mut pinned = 0;
        for index in 0..count {
            match self.pin_page(m, (id, first + index), (origin, at + index)) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            pinned += 1;
        }
        self.memories[origin].device_pins = before + pinned;
        result
    }

    fn pin_page(
        &mut self,
        m: &mut impl Machine,
        (id, page): (Id<Memory>, u64),
        (origin, at): (Id<Memory>, u64),
    ) -> Result<Frame, MemoryError> {
        let frame = match self.own_frame(origin, at) {
            Some(frame) => frame,
            None => match self.page_to_write(m, id, page) {
                Ok(view) => view.frame,
                Err(FaultError::BeyondEnd) => return Err(MemoryError::OutOfRange),
                Err(error) => return Err(error.into()),
            },
        };
        if self.frames.pin(frame) { Ok(frame) } else { Err(MemoryError::TooManyPins) }
    }

    /// The frame that an anonymous memory has for a page, if nobody else has it: the usual case, without a second look at the ranges.
    fn own_frame(&self, origin: Id<Memory>, page: u64) -> Option<Frame> {
        let memory = &self.memories[origin];
        let Content::Pages { overlay, base, .. } = &memory.content else { return None };
        match overlay.page(&self.nodes, &self.frames, base + page) {
            Page::Owned(frame) if page < memory.pages() => Some(frame),
            Page::Owned(_) | Page::Shared(_) | Page::Absent | Page::Swapped { .. } => None,
        }
    }

    /// Takes [`MemorySystem::pin_pages`] back; `origin` is what [`MemorySystem::pinnable`] said then, and may be gone.
    pub fn unpin_pages(&mut self, origin: Id<Memory>, frames: &[Frame]) {
        if let Some(memory) = self.memories.get_mut(origin) {
            memory.device_pins = memory.device_pins.saturating_sub(frames.len() as u32);
        }
        self.frames.unpin_all(&mut self.accounts, frames);
    }
}
