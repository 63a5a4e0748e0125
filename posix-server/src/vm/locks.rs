//! `mlock`: what is to stay in memory.

use super::{Lock, Vm};
use crate::errno::{Errno, Result};
use crate::platform::Protection;

/// What to do with locked areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The same as with all others.
    Taken,
    /// They are refused.
    Refused,
}

impl Vm {
    /// What becomes of areas that are mapped.
    pub(super) fn future_lock(&self) -> Lock {
        self.future_lock.get()
    }

    /// Sets that.
    pub fn set_future_lock(&self, lock: Lock) {
        self.future_lock.set(lock);
    }

    /// `EAGAIN` if so many bytes more would be locked that it is beyond the limit.
    pub(super) fn check_lockable(&self, bytes: u64, lock: Lock, limit: u64) -> Result<()> {
        let is_too_much = || self.areas.borrow().locked_bytes().saturating_add(bytes) > limit;
        if lock != Lock::None && is_too_much() { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// How many bytes would be locked, were all of a range.
    pub fn locked_bytes_with(&self, start: u64, length: u64) -> u64 {
        let areas = self.areas.borrow();
        let already = areas.in_range(start, start.saturating_add(length));
        let already: u64 = already.iter().map(super::Area::locked_bytes).sum();
        (areas.locked_bytes() - already).saturating_add(length)
    }

    /// Whether anything in a range is locked.
    pub fn is_locked_in(&self, start: u64, end: u64) -> bool {
        let areas = self.areas.borrow();
        areas.locked_bytes() > 0 && areas.in_range(start, end).iter().any(|area| area.lock != Lock::None)
    }

    /// Locks or unlocks a range of whole pages, as far as it has no hole. `EINVAL` if it wraps, `ENOMEM` for a hole, or for what
    /// can't be accessed and so can't be brought into memory.
    pub fn set_lock(&self, start: u64, length: u64, lock: Lock) -> Result<()> {
        let end = start.checked_add(length).ok_or(Errno::EINVAL)?;
        let parts = self.areas.borrow().in_range(start, end);
        let mut good_end = start;
        for part in &parts {
            if part.start != good_end {
                break;
            }
            good_end = part.end;
        }
        if good_end > start {
            self.areas.borrow_mut().set_lock(start, good_end, lock);
        }
        let access = Protection::READ | Protection::WRITE | Protection::EXECUTE;
        let is_accessible = lock != Lock::All || parts.iter().all(|part| part.protection.intersects(access));
        if good_end == end && is_accessible { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Locks or unlocks all that is mapped.
    pub fn lock_all(&self, lock: Lock) {
        self.areas.borrow_mut().set_lock(0, u64::MAX, lock);
    }
}
