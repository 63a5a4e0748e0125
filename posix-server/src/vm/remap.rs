//! `mremap`.

use super::map::{MapRequest, Placement, change_for, check_commitment};
use super::{Area, Content, Vm, page_up};
use crate::errno::{Errno, Result};
use crate::platform::{Change, PAGE_SIZE, Sharing};
use crate::user::USER_END;
use alloc::vec::Vec;

/// Where a mapping may go that is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapTarget {
    /// Nowhere.
    Stay,
    /// Elsewhere, if it can't grow where it is.
    MayMove,
    /// Here, in the place of what is there.
    Fixed(u64),
}

/// How large all areas may be that grow, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct GrowthLimits {
    /// All (`RLIMIT_AS`).
    pub all: u64,
    /// Those that are private and writable (`RLIMIT_DATA`).
    pub data: u64,
    /// Those that are locked (`RLIMIT_MEMLOCK`).
    pub locked: u64,
}

/// The same content, `bytes` further on; what grows beyond the heap or the stack is neither.
fn content_at(content: &Content, bytes: u64) -> Content {
    if content.memory().is_some() { content.advanced(bytes) } else { Content::Anonymous }
}

impl Vm {
    /// Resizes or moves a mapping; returns where it is. `EINVAL`, `EFAULT` if the old range is not one mapping, `ENOMEM`.
    pub fn remap(&self, from: (u64, u64), new: u64, target: RemapTarget, limits: GrowthLimits) -> Result<u64> {
        let (address, old) = from;
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let old = page_up(old).ok_or(Errno::EINVAL)?;
        let new = page_up(new).filter(|new| *new != 0 && *new <= USER_END).ok_or(Errno::EINVAL)?;
        let area = self.area_at(address).ok_or(Errno::EFAULT)?;
        if old == 0 {
            // A second mapping of shared pages; meaningless for private ones.
            return Err(Errno::EINVAL);
        }
        let old_end = address.checked_add(old).ok_or(Errno::EINVAL)?;
        if let RemapTarget::Fixed(to) = target {
            return self.remap_fixed(&area, (address, old), (to, new), limits);
        }
        if old_end > area.end {
            return Err(Errno::EFAULT);
        }
        if new <= old {
            if new < old {
                self.unmap(address + new, old - new)?;
            }
            return Ok(address);
        }
        self.check_growth(&area, new - old, limits)?;
        let fits = address.checked_add(new).is_some_and(|end| end <= USER_END);
        if fits && old_end == area.end && self.areas.borrow().is_free(old_end, address + new) {
            self.extend(&area, address, old, new)?;
            return Ok(address);
        }
        match target {
            RemapTarget::Stay => Err(Errno::ENOMEM),
            RemapTarget::MayMove | RemapTarget::Fixed(_) => {
                let to = {
                    let areas = self.areas.borrow();
                    self.find_free(&areas, new)?
                };
                self.relocate(&area, (address, old), (to, new))
            }
        }
    }

    fn check_growth(&self, area: &Area, bytes: u64, limits: GrowthLimits) -> Result<()> {
        self.check_lockable(bytes, area.lock, limits.locked)?;
        check_commitment(bytes)?;
        if area.is_data() {
            self.check_data(bytes, limits.data)?;
        }
        if self.virtual_bytes() + bytes > limits.all { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn remap_fixed(&self, area: &Area, from: (u64, u64), to: (u64, u64), limits: GrowthLimits) -> Result<u64> {
        let ((address, old), (target, new)) = (from, to);
        let end = target.checked_add(new).filter(|end| *end <= USER_END).ok_or(Errno::EINVAL)?;
        let overlaps = target < address + old && address < end;
        if !target.is_multiple_of(PAGE_SIZE) || target < super::USER_START || overlaps {
            return Err(Errno::EINVAL);
        }
        if address + old > area.end {
            return Err(Errno::EFAULT);
        }
        self.check_growth(area, new.saturating_sub(old), limits)?;
        self.unmap(target, new)?;
        if new < old {
            self.unmap(address + new, old - new)?;
        }
        self.relocate(area, (address, old.min(new)), to)
    }

    /// What follows an area that grows, as an area of its own.
    fn addition(&self, area: &Area, address: u64, at: u64, old: u64, new: u64) -> Result<Area> {
        let skipped = (address - area.start).checked_add(old).ok_or(Errno::EINVAL)?;
        Ok(Area { start: at + old, end: at + new, content: content_at(&area.content, skipped), ..area.clone() })
    }

    fn extend(&self, area: &Area, address: u64, old: u64, new: u64) -> Result<()> {
        let addition = self.addition(area, address, address, old, new)?;
        self.space.commit(&[change_for(&addition)])?;
        self.areas.borrow_mut().insert(addition);
        Ok(())
    }

    fn relocate(&self, area: &Area, from: (u64, u64), to: (u64, u64)) -> Result<u64> {
        let ((address, old), (target, new)) = (from, to);
        let addition = if new > old { Some(self.addition(area, address, target, old, new)?) } else { None };
        let mut changes = Vec::new();
        changes.push(Change::Move { from: address, length: old, to: target });
        changes.extend(addition.as_ref().map(change_for));
        self.space.commit(&changes)?;
        let mut areas = self.areas.borrow_mut();
        for part in areas.remove(address, address + old).ascending() {
            let (start, end) = (part.start - address + target, part.end - address + target);
            areas.insert(Area { start, end, ..part });
        }
        if let Some(addition) = addition {
            areas.insert(addition);
        }
        Ok(target)
    }
}

impl Vm {
    /// Has a range of a shared mapping show its file from another offset on (`remap_file_pages`). `EINVAL` unless the range is
    /// one mapping; the errors of [`Vm::map`].
    pub fn remap_pages(&self, start: u64, length: u64, offset: u64, limits: GrowthLimits) -> Result<()> {
        let end = start.checked_add(length).filter(|end| *end > start).ok_or(Errno::EINVAL)?;
        let area = self.area_at(start).filter(|area| area.sharing == Sharing::Shared).ok_or(Errno::EINVAL)?;
        let parts = self.areas.borrow().in_range(start, end);
        let is_like = |part: &Area| part.content.is_same_file(&area.content) && part.protection == area.protection;
        if !self.areas.borrow().is_covered(start, end) || !parts.iter().all(is_like) {
            return Err(Errno::EINVAL);
        }
        let request = MapRequest {
            length,
            placement: Placement::Fixed(start),
            protection: area.protection,
            allowed: area.allowed,
            sharing: Sharing::Shared,
            content: area.content.at(offset),
            limit: limits.all,
            data_limit: limits.data,
            lock: area.lock,
            // What is locked was so before.
            lock_limit: u64::MAX,
        };
        self.map(request).map(drop)
    }
}
