//! The program's heap: one area of the program's own space that grows as it is needed.
//!
//! The area is mapped with private zero pages, in steps; frames come as they are touched. What the account refuses
//! is a failed allocation, which `try_reserve` and its kin turn into an error.

#![cfg_attr(not(target_os = "none"), allow(dead_code, reason = "the host has its own heap"))]

use quire_abi::space::PAGE_SIZE;

/// Where the heap starts. Nothing of a program is linked near it.
const HEAP_START: u64 = 0x10_0000_0000;
/// How far it can grow, in bytes.
const HEAP_MAX: u64 = 64 << 30;
/// The smallest step by which it grows, in bytes.
const HEAP_STEP: u64 = 256 << 10;

/// How much of the heap is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUsage {
    /// Bytes mapped so far.
    pub mapped_bytes: u64,
}

/// By how much the heap grows, so that an allocation of `size` bytes aligned to `align` fits, whatever else the
/// allocator puts around it.
fn growth(size: usize, align: usize) -> Option<u64> {
    let wanted = u64::try_from(size).ok()?.checked_add(u64::try_from(align).ok()?)?.checked_add(HEAP_STEP)?;
    wanted.checked_next_multiple_of(PAGE_SIZE.max(HEAP_STEP))
}

#[cfg(target_os = "none")]
mod machine {
    use super::{HEAP_MAX, HEAP_START, HeapUsage, growth};
    use crate::{MapFlags, Protection, rt};
    use core::alloc::{GlobalAlloc, Layout};
    use core::ptr::{NonNull, null_mut};
    use quire_abi::space::{SpaceOp, SpaceOpKind};
    use spin::Mutex;
    use talc::DefaultBinning;
    use talc::base::{Talc, binning::Binning};
    use talc::source::Source;

    /// Maps more of the heap's area.
    #[derive(Debug)]
    struct Growing {
        mapped_bytes: u64,
        end: Option<NonNull<u8>>,
    }

    // SAFETY: `end` points to the heap's area, which belongs to the program and not to a thread.
    unsafe impl Send for Growing {}

    // SAFETY: `acquire` uses the allocator only through `talc`; making a commit of one operation allocates nothing.
    unsafe impl Source for Growing {
        fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
            let step = growth(layout.size(), layout.align()).ok_or(())?;
            let mapped = talc.source.mapped_bytes;
            let after = mapped.checked_add(step).filter(|after| *after <= HEAP_MAX).ok_or(())?;
            map(HEAP_START + mapped, step)?;
            talc.source.mapped_bytes = after;
            let new_end = (HEAP_START + after) as *mut u8;
            talc.source.end = match talc.source.end {
                // SAFETY: the heap ends at `end`, and the bytes from there (within the mapped area, whose last
                // part the heap may have left out for alignment) to `new_end` are mapped and used by nobody else.
                Some(end) => Some(unsafe { talc.extend(end, new_end) }),
                // SAFETY: the area was just mapped, is writable and used by nobody else.
                None => Some(unsafe { talc.claim((HEAP_START + mapped) as *mut u8, step as usize) }.ok_or(())?),
            };
            Ok(())
        }
    }

    /// Maps private zero pages, without allocating.
    fn map(address: u64, length: u64) -> Result<(), ()> {
        let operation = SpaceOp {
            kind: SpaceOpKind::Map as u32,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: MapFlags::PRIVATE.bits(),
            address,
            length,
            ..SpaceOp::default()
        };
        let space = rt::space().map_err(drop)?;
        space.commit_raw(&[operation]).map(drop).map_err(drop)
    }

    struct Heap(Mutex<Talc<Growing, DefaultBinning>>);

    // SAFETY: the methods hand on what `Talc` returns, which keeps the contract of an allocator; the mutex makes each
    // call exclusive.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller promises that the layout's size is not 0.
            unsafe { self.0.lock().allocate(layout) }.map_or(null_mut(), NonNull::as_ptr)
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller promises that `pointer` came from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the caller promises that `pointer` came from `alloc` with this layout, and that `new_size` is not 0
            // and makes a valid layout; the old bytes are copied before they are freed.
            unsafe {
                if self.0.lock().try_realloc_in_place(pointer, layout, new_size) {
                    return pointer;
                }
                let new_layout = Layout::from_size_align_unchecked(new_size, layout.align());
                let new_pointer = self.alloc(new_layout);
                if !new_pointer.is_null() {
                    core::ptr::copy_nonoverlapping(pointer, new_pointer, layout.size().min(new_size));
                    self.dealloc(pointer, layout);
                }
                new_pointer
            }
        }
    }

    #[global_allocator]
    static HEAP: Heap = Heap(Mutex::new(Talc::new(Growing { mapped_bytes: 0, end: None })));

    /// How much of the heap is mapped.
    pub fn heap_usage() -> HeapUsage {
        HeapUsage { mapped_bytes: HEAP.0.lock().source.mapped_bytes }
    }
}

#[cfg(not(target_os = "none"))]
mod machine {
    use super::HeapUsage;

    /// The host's heap is not ours: nothing.
    pub fn heap_usage() -> HeapUsage {
        HeapUsage { mapped_bytes: 0 }
    }
}

pub use machine::heap_usage;

#[cfg(test)]
mod tests {
    use super::{HEAP_STEP, growth};

    #[test]
    fn growth_holds_the_allocation_and_its_alignment() {
        assert!(growth(1, 1).unwrap() >= HEAP_STEP);
        assert!(growth(10 << 20, 4096).unwrap() >= (10 << 20) + 4096);
        assert_eq!(growth(usize::MAX, 1), None);
    }
}
