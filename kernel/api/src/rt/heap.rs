//! The program's heap: one area of the program's own space that grows as it is needed.
//!
//! The area is mapped with private zero pages, in steps; frames come as they are touched. What the account refuses
//! is a failed allocation, which `try_reserve` and its kin turn into an error.
//!
//! In front of the allocator proper, small blocks that were freed wait in [`Shelves`] for the next request of their size:
//! taking one is a dozen instructions instead of a search. What may wait there is bounded for each size.
//!
//! What is mapped stays mapped, but pages without a block can be [given back](trim_heap): the kernel takes their frames.

#![cfg_attr(not(target_os = "none"), allow(dead_code, reason = "the host has its own heap"))]

use core::alloc::Layout;
use quire_abi::space::PAGE_SIZE;

/// Where the heap starts. Nothing of a program is linked near it.
const HEAP_START: u64 = 0x10_0000_0000;
/// How far it can grow, in bytes.
const HEAP_MAX: u64 = 64 << 30;
/// The smallest step by which it grows, in bytes.
const HEAP_STEP: u64 = 256 << 10;

/// How much of the heap is mapped and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUsage {
    /// Bytes mapped so far.
    pub mapped_bytes: u64,
    /// Bytes in blocks that the program holds.
    pub used_bytes: u64,
}

/// By how much the heap grows, so that an allocation of `size` bytes aligned to `align` fits, whatever else the
/// allocator puts around it.
fn growth(size: usize, align: usize) -> Option<u64> {
    let wanted = u64::try_from(size).ok()?.checked_add(u64::try_from(align).ok()?)?.checked_add(HEAP_STEP)?;
    wanted.checked_next_multiple_of(PAGE_SIZE.max(HEAP_STEP))
}

/// Sizes of blocks on the shelves differ by this many bytes, which is also their alignment.
const GRAIN: usize = 16;
/// Number of shelves; larger blocks than the last holds go to the allocator at once.
const SHELVES: usize = 64;
/// Bytes that may wait on one shelf, but always two blocks.
const SHELF_BYTES: usize = 8192;

/// The shelf for blocks of this layout, if there is one. `size` is not 0.
#[inline]
fn shelf_of(size: usize, align: usize) -> Option<usize> {
    (align <= GRAIN && size <= GRAIN * SHELVES).then(|| (size - 1) / GRAIN)
}

/// The size of the blocks on a shelf.
#[inline]
const fn shelf_block(shelf: usize) -> usize {
    (shelf + 1) * GRAIN
}

/// How many blocks may wait on a shelf.
#[inline]
const fn shelf_room(shelf: usize) -> u32 {
    let blocks = SHELF_BYTES / shelf_block(shelf);
    if blocks < 2 { 2 } else { blocks as u32 }
}

/// Fewer bytes than this are not worth the effort of giving them back.
const TRIM_BYTES: u64 = 64 << 10;
/// How many pieces of free memory a trim gives back at most.
const TRIM_PIECES: usize = 256;
/// The largest piece, as a power of two of pages.
const LARGEST_PIECE_SHIFT: u32 = 8;

/// The sizes of pieces, the largest first. A piece is a block of whole pages.
fn piece_layouts() -> impl Iterator<Item = Layout> {
    let page = PAGE_SIZE as usize;
    (0..=LARGEST_PIECE_SHIFT).rev().filter_map(move |shift| Layout::from_size_align(page << shift, page).ok())
}

#[cfg(target_os = "none")]
mod machine {
    use super::{
        GRAIN, HEAP_MAX, HEAP_START, HeapUsage, SHELVES, TRIM_BYTES, TRIM_PIECES, growth, piece_layouts, shelf_block,
        shelf_of, shelf_room,
    };
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
        change(SpaceOp {
            kind: SpaceOpKind::Map as u32,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: MapFlags::PRIVATE.bits(),
            address,
            length,
            ..SpaceOp::default()
        })
    }

    /// Gives the frames of mapped pages back, without allocating: they read as zero.
    fn discard(address: u64, length: u64) {
        // Should it fail, the pages keep what is in them.
        let _ = change(SpaceOp { kind: SpaceOpKind::Discard as u32, address, length, ..SpaceOp::default() });
    }

    fn change(operation: SpaceOp) -> Result<(), ()> {
        let space = rt::space().map_err(drop)?;
        space.commit_raw(&[operation]).map(drop).map_err(drop)
    }

    type Allocator = Talc<Growing, DefaultBinning>;

    /// A block that waits on a shelf: its first bytes link it to the next.
    struct Waiting {
        next: Option<NonNull<Waiting>>,
    }

    /// Blocks of one size that were freed.
    #[derive(Clone, Copy)]
    struct Shelf {
        first: Option<NonNull<Waiting>>,
        room: u32,
    }

    /// Freed blocks by size.
    struct Shelves([Shelf; SHELVES]);

    // SAFETY: the blocks belong to the program and not to a thread.
    unsafe impl Send for Shelves {}

    impl Shelves {
        const fn new() -> Self {
            let mut shelves = [Shelf { first: None, room: 0 }; SHELVES];
            let mut index = 0;
            while index < SHELVES {
                shelves[index].room = shelf_room(index);
                index += 1;
            }
            Self(shelves)
        }

        /// Takes a block from a shelf.
        #[inline]
        fn take(&mut self, shelf: usize) -> Option<NonNull<u8>> {
            let shelf = self.0.get_mut(shelf)?;
            let block = shelf.first?;
            // SAFETY: blocks on a shelf are free and begin with their link, which `put` wrote.
            shelf.first = unsafe { block.read() }.next;
            shelf.room += 1;
            Some(block.cast())
        }

        /// Puts a block on a shelf; false if that is full.
        ///
        /// # Safety
        /// The block is free, aligned to [`GRAIN`] and as large as the shelf's blocks.
        #[inline]
        unsafe fn put(&mut self, shelf: usize, block: NonNull<u8>) -> bool {
            let Some(shelf) = self.0.get_mut(shelf) else { return false };
            if shelf.room == 0 {
                return false;
            }
            let block = block.cast::<Waiting>();
            // SAFETY: by this function's contract nobody uses the block, and a link fits it.
            unsafe { block.write(Waiting { next: shelf.first }) };
            shelf.first = Some(block);
            shelf.room -= 1;
            true
        }
    }

    struct State {
        shelves: Shelves,
        allocator: Allocator,
        /// Bytes in blocks that the allocator has given out, those that wait on shelves among them.
        given_bytes: u64,
        /// The most that was since the last trim.
        most_given_bytes: u64,
    }

    impl State {
        /// A block for a layout; null if there is none.
        ///
        /// # Safety
        /// The layout's size is not 0.
        unsafe fn allocate(&mut self, layout: Layout) -> *mut u8 {
            // SAFETY: this function's contract.
            match unsafe { self.allocator.allocate(layout) } {
                Some(block) => {
                    self.given_bytes += layout.size() as u64;
                    self.most_given_bytes = self.most_given_bytes.max(self.given_bytes);
                    block.as_ptr()
                }
                None => null_mut(),
            }
        }

        /// Changes the size of a block where it is; false if that can't be.
        ///
        /// # Safety
        /// The block came from [`State::allocate`] with this layout, and the new size is not 0.
        unsafe fn resize(&mut self, block: *mut u8, layout: Layout, new_size: usize) -> bool {
            // SAFETY: this function's contract.
            let is_resized = unsafe { self.allocator.try_realloc_in_place(block, layout, new_size) };
            if is_resized {
                self.given_bytes = self.given_bytes + new_size as u64 - layout.size() as u64;
            }
            is_resized
        }

        /// Takes a block back that does not go to a shelf.
        ///
        /// # Safety
        /// The block came from [`State::allocate`] with this layout, and nobody uses it.
        unsafe fn deallocate(&mut self, block: *mut u8, layout: Layout) {
            self.given_bytes -= layout.size() as u64;
            // SAFETY: this function's contract.
            unsafe { self.allocator.deallocate(block, layout) }
        }

        /// Gives the blocks on shelves back to the allocator, so that they become parts of larger ones.
        fn clear_shelves(&mut self) {
            for shelf in 0..SHELVES {
                while let Some(block) = self.shelves.take(shelf) {
                    // SAFETY: blocks on a shelf came from the allocator with the shelf's layout, and are free.
                    unsafe { self.deallocate(block.as_ptr(), shelf_layout(shelf)) };
                }
            }
        }

        /// Gives the pages back in which no block is. It takes the free memory out of the allocator, the largest pieces first, as blocks
        /// whose pages are then its own to discard.
        fn trim(&mut self) {
            self.clear_shelves();
            let mut pieces = [None; TRIM_PIECES];
            let mut rooms = pieces.iter_mut();
            for layout in piece_layouts() {
                while rooms.len() > 0 {
                    // SAFETY: the layout's size is not 0.
                    let Some(block) = (unsafe { self.allocator.try_allocate(layout) }) else { break };
                    if let Some(room) = rooms.next() {
                        *room = Some((block, layout));
                    }
                }
            }
            for (block, layout) in pieces.into_iter().flatten() {
                discard(block.as_ptr() as u64, layout.size() as u64);
                // SAFETY: the block was allocated above with this layout.
                unsafe { self.allocator.deallocate(block.as_ptr(), layout) };
            }
            self.most_given_bytes = self.given_bytes;
        }

        /// Bytes in blocks that wait on shelves.
        fn waiting_bytes(&self) -> u64 {
            let shelves = self.shelves.0.iter().enumerate();
            shelves.map(|(index, shelf)| u64::from(shelf_room(index) - shelf.room) * shelf_block(index) as u64).sum()
        }
    }

    struct Heap(Mutex<State>);

    /// The layout of the blocks on a shelf.
    #[inline]
    fn shelf_layout(shelf: usize) -> Layout {
        // SAFETY: the alignment is a power of two, and the size is at most `GRAIN * SHELVES`.
        unsafe { Layout::from_size_align_unchecked(shelf_block(shelf), GRAIN) }
    }

    // SAFETY: the methods hand on what `Talc` returns, which keeps the contract of an allocator; blocks that have a shelf
    // are always allocated and freed with the layout of the shelf, so they serve every request that has the same shelf. The
    // mutex makes each call exclusive.
    unsafe impl GlobalAlloc for Heap {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let mut state = self.0.lock();
            let layout = match shelf_of(layout.size(), layout.align()) {
                Some(shelf) => {
                    if let Some(block) = state.shelves.take(shelf) {
                        return block.as_ptr();
                    }
                    shelf_layout(shelf)
                }
                None => layout,
            };
            // SAFETY: the caller promises that the layout's size is not 0.
            unsafe { state.allocate(layout) }
        }

        #[inline]
        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            let mut state = self.0.lock();
            let layout = match shelf_of(layout.size(), layout.align()) {
                Some(shelf) => {
                    let block = NonNull::new(pointer);
                    // SAFETY: the block was allocated with the shelf's layout, and the caller gives it up.
                    if block.is_some_and(|block| unsafe { state.shelves.put(shelf, block) }) {
                        return;
                    }
                    shelf_layout(shelf)
                }
                None => layout,
            };
            // SAFETY: the caller promises that `pointer` came from `alloc` with this layout.
            unsafe { state.deallocate(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            let (old, new) = (shelf_of(layout.size(), layout.align()), shelf_of(new_size, layout.align()));
            // SAFETY: the caller promises that `pointer` came from `alloc` with this layout, and that `new_size` is not 0
            // and makes a valid layout; the old bytes are copied before they are freed. A block is changed in place only
            // if its layout and the new one are either served by the same shelf or both by the allocator.
            unsafe {
                let fits = match (old, new) {
                    (Some(old), Some(new)) => old == new,
                    (None, None) => self.0.lock().resize(pointer, layout, new_size),
                    (Some(_), None) | (None, Some(_)) => false,
                };
                if fits {
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
    static HEAP: Heap = Heap(Mutex::new(State {
        shelves: Shelves::new(),
        allocator: Talc::new(Growing { mapped_bytes: 0, end: None }),
        given_bytes: 0,
        most_given_bytes: 0,
    }));

    /// How much of the heap is mapped and used.
    pub fn heap_usage() -> HeapUsage {
        let state = HEAP.0.lock();
        let used_bytes = state.given_bytes - state.waiting_bytes();
        HeapUsage { mapped_bytes: state.allocator.source.mapped_bytes, used_bytes }
    }

    /// Gives pages that hold nothing back to the kernel, if the program uses a good deal less memory than at some time since the last
    /// time. Cheap otherwise.
    pub fn trim_heap() {
        let mut state = HEAP.0.lock();
        if state.most_given_bytes - state.given_bytes >= TRIM_BYTES {
            state.trim();
        }
    }
}

#[cfg(not(target_os = "none"))]
mod machine {
    use super::HeapUsage;

    /// The host's heap is not ours: nothing.
    pub fn heap_usage() -> HeapUsage {
        HeapUsage::default()
    }

    /// There is nothing to be given back.
    pub fn trim_heap() {}
}

pub use machine::{heap_usage, trim_heap};

#[cfg(test)]
mod tests {
    use super::{GRAIN, HEAP_STEP, PAGE_SIZE, SHELVES, growth, piece_layouts, shelf_block, shelf_of, shelf_room};

    #[test]
    fn pieces_are_whole_pages_from_large_to_small() {
        let sizes: alloc::vec::Vec<_> =
            piece_layouts().map(|layout| (layout.size() as u64, layout.align() as u64)).collect();
        assert_eq!(sizes.first(), Some(&(1 << 20, PAGE_SIZE)));
        assert_eq!(sizes.last(), Some(&(PAGE_SIZE, PAGE_SIZE)));
        assert!(sizes.windows(2).all(|pair| pair[0].0 == 2 * pair[1].0));
    }

    #[test]
    fn a_shelf_has_the_smallest_blocks_that_hold_the_request() {
        for size in 1..=GRAIN * SHELVES {
            let shelf = shelf_of(size, 8).unwrap();
            assert!(shelf_block(shelf) >= size && shelf_block(shelf) - size < GRAIN);
            assert!(shelf_room(shelf) >= 2);
        }
        assert_eq!(shelf_of(GRAIN * SHELVES + 1, 8), None);
        assert_eq!(shelf_of(64, 2 * GRAIN), None);
    }

    #[test]
    fn growth_holds_the_allocation_and_its_alignment() {
        assert!(growth(1, 1).unwrap() >= HEAP_STEP);
        assert!(growth(10 << 20, 4096).unwrap() >= (10 << 20) + 4096);
        assert_eq!(growth(usize::MAX, 1), None);
    }
}
