//! Frames for what the kernel needs before the frame table exists: page tables, stacks, the first of the heap.
//!
//! They are taken one after the other from the start of one free range and never given back; the frame table gets
//! what is left.

use crate::direct_map;
use crate::memory_map::{MemoryMap, Range};
use crate::sync::{Rank, SpinLock};

const PAGE: u64 = quire_core::machine::PAGE_SIZE;
/// Frames must be reachable through the first page tables.
const HIGHEST: u64 = 1 << 32;

/// Where the next frame comes from.
pub(crate) struct BootFrames {
    start: u64,
    next: u64,
    end: u64,
}

/// The source in use. It is drained by [`BootFrames::used`] when the frame table takes over.
pub(crate) static BOOT_FRAMES: SpinLock<BootFrames> = SpinLock::new(Rank::BootFrames, BootFrames::empty());

impl BootFrames {
    const fn empty() -> Self {
        Self { start: 0, next: 0, end: 0 }
    }

    /// Takes frames from the largest free range below 4 GiB.
    pub(crate) fn choose(&mut self, map: &MemoryMap, reserved: &[Range]) {
        let mut best = Range::default();
        map.for_each_free(reserved, &mut |range| {
            let range = Range { start: range.start, end: range.end.min(HIGHEST) };
            if range.size() > best.size() {
                best = range;
            }
        });
        *self = Self { start: best.start, next: best.start, end: best.end };
    }

    /// Takes `pages` adjacent frames, filled with zeros; returns the physical address of the first. `None` if there are
    /// not that many left.
    pub(crate) fn take(&mut self, pages: u64) -> Option<u64> {
        let bytes = pages.checked_mul(PAGE)?;
        let next = self.next.checked_add(bytes).filter(|next| *next <= self.end)?;
        let address = self.next;
        self.next = next;
        // SAFETY: the range is free RAM that is given out once, and both the first and the final page tables map it at
        // the direct map.
        unsafe { direct_map::pointer::<u8>(address).write_bytes(0, bytes as usize) };
        Some(address)
    }

    /// What was taken. Nothing can be taken afterwards.
    pub(crate) fn used(&mut self) -> Range {
        self.end = self.next;
        Range { start: self.start, end: self.next }
    }
}
