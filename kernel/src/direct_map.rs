//! All of physical memory that is RAM, at a fixed offset in the kernel's half.
//!
//! RAM is mapped write-back, writable and never executable. The registers of the few devices that the kernel drives
//! itself appear at the same offset, uncached (see [`crate::paging`]).

use core::sync::atomic::{AtomicU64, Ordering};

/// Virtual address of physical address 0: the start of the upper canonical half.
pub(crate) const BASE: u64 = 0xffff_8000_0000_0000;

/// The first physical address that has no place in the direct map (almost 16 TiB: what a 32-bit frame number can name).
pub(crate) const PHYSICAL_END: u64 = (u32::MAX as u64) << 12;

/// Where physical address `physical` is mapped, if it is.
pub(crate) fn pointer<T>(physical: u64) -> *mut T {
    debug_assert!(physical < PHYSICAL_END);
    (BASE + physical) as *mut T
}

/// Ranges of RAM that are remembered.
const MAX_RANGES: usize = 16;

/// A range of physical addresses.
struct RamRange {
    start: AtomicU64,
    end: AtomicU64,
}

/// RAM that is mapped, the largest range first.
static RAM: [RamRange; MAX_RANGES] =
    [const { RamRange { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; MAX_RANGES];

impl RamRange {
    fn get(&self) -> (u64, u64) {
        (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed))
    }

    fn set(&self, (start, end): (u64, u64)) {
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
    }
}

/// Remembers that the direct map has this range. If there are too many, the smallest is forgotten, which only makes
/// access to it slow.
pub(crate) fn note_ram(start: u64, end: u64) {
    let mut new = (start, end);
    for slot in &RAM {
        let old = slot.get();
        if new.1 - new.0 > old.1 - old.0 {
            slot.set(new);
            new = old;
        }
    }
}

/// Whether the direct map is known to have this address.
#[inline]
pub(crate) fn has(physical: u64) -> bool {
    let (start, end) = RAM[0].get();
    physical.wrapping_sub(start) < end.wrapping_sub(start) || a_smaller_range_has(physical)
}

#[cold]
fn a_smaller_range_has(physical: u64) -> bool {
    RAM[1..].iter().map(RamRange::get).any(|(start, end)| start <= physical && physical < end)
}
