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
use crate::account::Account;
use crate::machine::{Frame, Machine};
use crate::pool::Id;

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

    /// The frame of a page that is [pinnable](MemorySystem::pinnable), with a reference for a device. A page that has no frame of its own
    /// gets one, paid for by the memory.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`], [`MemoryError::TooManyPins`], else exhaustion.
    pub fn pin_page(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64) -> Result<Frame, MemoryError> {
        let origin = self.pinnable(id, page, 1)?;
        let frame = match self.page_to_write(m, id, page) {
            Ok(view) => view.frame,
            Err(FaultError::BeyondEnd) => return Err(MemoryError::OutOfRange),
            Err(error) => return Err(error.into()),
        };
        let pins = self.memories[origin].device_pins.checked_add(1).ok_or(MemoryError::TooManyPins)?;
        if !self.frames.pin(frame) {
            return Err(MemoryError::TooManyPins);
        }
        self.memories[origin].device_pins = pins;
        Ok(frame)
    }

    /// Takes one [`MemorySystem::pin_page`] back; `origin` is what [`MemorySystem::pinnable`] said then, and may be gone.
    pub fn unpin_page(&mut self, origin: Id<Memory>, frame: Frame) {
        if let Some(memory) = self.memories.get_mut(origin) {
            memory.device_pins = memory.device_pins.saturating_sub(1);
        }
        self.frames.unpin(&mut self.accounts, frame);
    }
}
