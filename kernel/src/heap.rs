//! The kernel's heap: `talc` over memory that comes from the frame table.
//!
//! Allocation never grows the heap by itself, because whoever allocates usually holds the kernel lock, under which
//! the frame table lies. Instead, the way out of the kernel sees to it that a reserve is free
//! ([`wants_more`], [`add`]). If a single entry needs more, its allocation fails, which is an ordinary error.

use crate::attention;
use crate::sync::{Rank, SpinLock};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use talc::base::Talc;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;

/// What is kept free at least, if the machine has it.
const LEAST_RESERVE_BYTES: usize = 1 << 20;
/// What is kept free at most.
const MOST_RESERVE_BYTES: usize = 8 << 20;
/// One of this many parts of the machine's memory is kept free, within these limits.
const RESERVE_SHARE: usize = 64;

struct Heap {
    talc: SpinLock<Talc<Manual, DefaultBinning>>,
    reserve: AtomicUsize,
    /// The largest block that could not be had since somebody last looked; 0 if all could.
    failed: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    talc: SpinLock::new(Rank::Heap, Talc::new(Manual)),
    reserve: AtomicUsize::new(LEAST_RESERVE_BYTES),
    failed: AtomicUsize::new(0),
};

// SAFETY: `Talc` gives out disjoint blocks of the memory that it was given for good; the lock makes its calls one at a
// time, and the arguments go through as they came.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut talc = self.talc.lock();
        // SAFETY: the caller's promise: the layout is not of size zero.
        let block = unsafe { talc.allocate(layout) };
        if block.is_none() {
            self.failed.fetch_max(layout.size().saturating_add(layout.align()), Ordering::Relaxed);
        }
        if block.is_none() || talc.counters().available_bytes < self.reserve.load(Ordering::Relaxed) {
            attention::ask();
        }
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: `block` came from `alloc` with this layout.
        unsafe { self.talc.lock().deallocate(block, layout) };
    }
}

/// Sets what is kept free by the size of the machine's memory.
pub(crate) fn set_reserve(memory_bytes: u64) {
    let share = usize::try_from(memory_bytes).unwrap_or(usize::MAX) / RESERVE_SHARE;
    HEAP.reserve.store(share.clamp(LEAST_RESERVE_BYTES, MOST_RESERVE_BYTES), Ordering::Relaxed);
}

/// Whether less is free than should be.
pub(crate) fn wants_more() -> bool {
    HEAP.talc.lock().counters().available_bytes < HEAP.reserve.load(Ordering::Relaxed)
}

/// The size of a block that could not be had since the last time, if there is one: it will be asked for again.
pub(crate) fn take_failed() -> Option<usize> {
    match HEAP.failed.swap(0, Ordering::Relaxed) {
        0 => None,
        bytes => Some(bytes),
    }
}

/// Gives memory to the heap for good.
///
/// # Safety
/// The range must be mapped, writable, and used by nobody else from now on.
pub(crate) unsafe fn add(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise. A range too small for anything is refused, which loses it.
    let _ = unsafe { HEAP.talc.lock().claim(start, bytes) };
}
