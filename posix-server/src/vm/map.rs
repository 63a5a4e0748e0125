//! `mmap`, `munmap`, `mprotect`.

use super::{Area, Content, Lock, MAX_AREAS, USER_START, Vm, page_up};
use crate::errno::{Errno, Result};
use crate::platform::{self, Backing, Change, Inherit, PAGE_SIZE, Protection, Sharing};
use crate::user::USER_END;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Where it fits, at this address if that is free.
    Anywhere(u64),
    /// Where it fits below 2 GiB.
    Low,
    /// Here, in the place of what is there.
    Fixed(u64),
    /// Here, if nothing is there.
    FixedIfFree(u64),
}

/// The end of `Placement::Low`.
const LOW_END: u64 = 1 << 31;

/// What `mmap` is asked for.
pub struct MapRequest {
    /// How much, in bytes.
    pub length: u64,
    /// Where.
    pub placement: Placement,
    /// How it can be used.
    pub protection: Protection,
    /// How `mprotect` may make it usable.
    pub allowed: Protection,
    /// Shared or private.
    pub sharing: Sharing,
    /// What it shows.
    pub content: Content,
    /// The limit of the address space in bytes (`RLIMIT_AS`).
    pub limit: u64,
    /// How much may be private and writable, in bytes (`RLIMIT_DATA`).
    pub data_limit: u64,
    /// Whether it is to stay in memory.
    pub lock: Lock,
    /// How much may stay, in bytes (`RLIMIT_MEMLOCK`).
    pub lock_limit: u64,
}

/// How many times its memory a machine lets one mapping promise: programs map much more than they touch.
const OVERCOMMIT: u64 = 8;
/// What may always be promised, in frames: 4 GiB.
const MIN_COMMITMENT_FRAMES: u64 = 1 << 20;

/// Refuses to promise what the machine could never have. `ENOMEM`.
pub(crate) fn check_commitment(length: u64) -> Result<()> {
    let most = platform::total_frames().saturating_mul(OVERCOMMIT).max(MIN_COMMITMENT_FRAMES);
    if length / PAGE_SIZE > most { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// The kernel's change that makes an area.
pub(crate) fn change_for(area: &Area) -> Change<'_> {
    let backing = area.content.memory().map_or(Backing::Zero, |(memory, offset)| Backing::Memory(memory, offset));
    Change::Map {
        address: area.start,
        length: area.length(),
        backing,
        sharing: area.sharing,
        protection: area.protection,
        inherit: Inherit::Clone,
    }
}

impl Vm {
    /// Maps; returns where. `EINVAL`, `ENOMEM`, `EEXIST`, `EPERM` for addresses below [`USER_START`].
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        let length = page_up(request.length).filter(|length| *length <= USER_END).ok_or(Errno::ENOMEM)?;
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let start = self.place(length, request.placement)?;
        let end = start + length;
        // What fits where nothing is takes nobody's place.
        let may_replace = matches!(request.placement, Placement::Fixed(_));
        let replaced = {
            let areas = self.areas.borrow();
            if areas.len() >= MAX_AREAS {
                return Err(Errno::ENOMEM);
            }
            if may_replace { areas.bytes_in(start, end) } else { 0 }
        };
        if self.virtual_bytes() - replaced + length > request.limit {
            return Err(Errno::ENOMEM);
        }
        let lock = if request.lock == Lock::None { self.future_lock() } else { request.lock };
        self.check_lockable(length, lock, request.lock_limit)?;
        let is_private = request.sharing == Sharing::Private;
        if is_private && request.protection.contains(Protection::WRITE) {
            self.check_data(length, request.data_limit)?;
            check_commitment(length)?;
        }
        let area = Area {
            start,
            end,
            protection: request.protection,
            allowed: request.allowed,
            sharing: request.sharing,
            lock,
            content: request.content,
        };
        self.space.commit(&[change_for(&area)])?;
        if matches!(area.content, Content::Segment(..)) {
            self.has_segments.set(true);
        }
        self.areas.borrow_mut().insert(area);
        Ok(start)
    }

    /// Checks that so many bytes may become private and writable beside those that are. `ENOMEM`.
    pub(super) fn check_data(&self, bytes: u64, limit: u64) -> Result<()> {
        if limit == u64::MAX {
            return Ok(());
        }
        let data: u64 = self.areas.borrow().iter().filter(|area| area.is_data()).map(Area::length).sum();
        if data.saturating_add(bytes) > limit { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn place(&self, length: u64, placement: Placement) -> Result<u64> {
        let areas = self.areas.borrow();
        let fits = |address: u64| address.checked_add(length).is_some_and(|end| end <= USER_END);
        match placement {
            Placement::Fixed(address) | Placement::FixedIfFree(address) => {
                if !fits(address) {
                    return Err(Errno::ENOMEM);
                }
                if !address.is_multiple_of(PAGE_SIZE) {
                    return Err(Errno::EINVAL);
                }
                if address < USER_START {
                    return Err(Errno::EPERM);
                }
                let must_be_free = matches!(placement, Placement::FixedIfFree(_));
                if must_be_free && !areas.is_free(address, address + length) {
                    return Err(Errno::EEXIST);
                }
                Ok(address)
            }
            Placement::Anywhere(hint) => {
                let hint = page_up(hint).unwrap_or_default();
                if hint >= USER_START && fits(hint) && areas.is_free(hint, hint + length) {
                    return Ok(hint);
                }
                self.find_free(&areas, length)
            }
            Placement::Low => areas.find_free(length, USER_START, LOW_END).ok_or(Errno::ENOMEM),
        }
    }

    pub(super) fn find_free(&self, areas: &super::Areas, length: u64) -> Result<u64> {
        let below = areas.find_free(length, USER_START, self.layout.map_end);
        below.or_else(|| areas.find_free(length, USER_START, USER_END)).ok_or(Errno::ENOMEM)
    }

    /// Unmaps what is in a range. `EINVAL`.
    pub fn unmap(&self, address: u64, length: u64) -> Result<()> {
        let end = self.checked_end(address, length).map_err(|_| Errno::EINVAL)?;
        if end == address {
            return Err(Errno::EINVAL);
        }
        // Only where there is something: the kernel's part of a space begins above its first pages, which programs may name.
        let bounds = self.areas.borrow().bounds(address, end);
        let Some((first, last)) = bounds else { return Ok(()) };
        self.space.commit(&[Change::Unmap { address: first, length: last - first }])?;
        let removed = self.areas.borrow_mut().remove(address, end);
        drop(removed);
        Ok(())
    }

    /// Changes the protection of a range. `EINVAL`, `ENOMEM` if there are holes, `EACCES` if a file was not opened for that.
    pub fn protect(&self, address: u64, length: u64, protection: Protection, data_limit: u64) -> Result<()> {
        let end = self.checked_end(address, length)?;
        if end == address {
            return Ok(());
        }
        // As on Linux, what lies before the first hole, or the first area that may not be so, is changed.
        let (good_end, result) = self.protectable(address, end, protection, data_limit);
        if good_end > address {
            self.space.commit(&[Change::Protect { address, length: good_end - address, protection }])?;
            self.areas.borrow_mut().protect(address, good_end, protection);
        }
        result
    }

    /// How far from `address` the protection can be changed, and why no further.
    fn protectable(&self, address: u64, end: u64, protection: Protection, data_limit: u64) -> (u64, Result<()>) {
        let (mut good_end, mut more_data) = (address, 0);
        for area in self.areas.borrow().in_range(address, end) {
            if area.start != good_end {
                return (good_end, Err(Errno::ENOMEM));
            }
            if !area.allowed.contains(protection) {
                return (good_end, Err(Errno::EACCES));
            }
            let becomes_data = !area.is_data() && Area { protection, ..area.clone() }.is_data();
            if becomes_data {
                more_data += area.length();
                if let Err(errno) = self.check_data(more_data, data_limit) {
                    return (good_end, Err(errno));
                }
            }
            good_end = area.end;
        }
        (good_end, if good_end == end { Ok(()) } else { Err(Errno::ENOMEM) })
    }
}
