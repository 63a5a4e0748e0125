//! The core's view of memory hardware: [`Machine`], over the direct map.

use crate::cpu::percpu::{self, PerCpu};
use crate::cpu::requests::{self, Request};
use crate::direct_map;
use crate::iommu::Iommu;
use crate::paging;
use crate::paging::window::{self, Window};
use core::sync::atomic::{AtomicU32, Ordering};
use quire_abi::system::HardwareInfo;
use quire_core::machine::{Entry, Frame, LEVELS, Machine, PAGE_SIZE, TABLE_ENTRIES, table_index};

/// The kernel's half of a top-level table begins at this entry.
const KERNEL_HALF: usize = TABLE_ENTRIES / 2;
const PAGE_SHIFT: u32 = 12;

/// This machine. There is one, in [`crate::trap::handle::KERNEL`], so whoever has it holds the kernel lock.
pub(crate) struct Hardware {
    /// What confines devices, if something does.
    pub(crate) iommu: Option<Iommu>,
    /// Where devices are found.
    pub(crate) info: HardwareInfo,
}

impl Hardware {
    /// The machine.
    ///
    /// # Safety
    /// Once only, when the final page tables are in use. Frames that the core calls its own must be RAM that
    /// nothing else uses; the frame table sees to that. Other frames it names only for whoever has authority over
    /// hardware.
    pub(crate) unsafe fn new(iommu: Option<Iommu>, info: HardwareInfo) -> Self {
        Self { iommu, info }
    }
}

/// Where `frame` is in the direct map.
#[inline]
fn bytes(frame: Frame) -> *mut u8 {
    direct_map::pointer(u64::from(frame.0) << PAGE_SHIFT)
}

/// Where the bytes of any frame are: in the direct map, or, if it is not RAM, in a window.
#[inline]
fn any_bytes(frame: Frame, window: Window) -> *mut u8 {
    let address = u64::from(frame.0) << PAGE_SHIFT;
    if direct_map::has(address) { direct_map::pointer(address) } else { window::show(window, frame) }
}

/// Where `offset` in `frame` is, if `len` bytes from there are inside the frame.
#[inline]
fn range(frame: Frame, window: Window, offset: usize, len: usize) -> *mut u8 {
    assert!(offset <= PAGE_SIZE as usize && len <= PAGE_SIZE as usize - offset, "access leaves its frame");
    // SAFETY: the assertion keeps the result inside the frame or just behind it.
    unsafe { any_bytes(frame, window).add(offset) }
}

/// Where `N` items of a frame of RAM are, aligned, if they are inside the frame.
#[inline(always)]
fn items<T, const N: usize>(frame: Frame, offset: usize) -> *mut T {
    let fits = offset.is_multiple_of(size_of::<T>()) && offset <= PAGE_SIZE as usize - N * size_of::<T>();
    assert!(fits, "access leaves its frame");
    // SAFETY: the assertion keeps the result inside the frame.
    unsafe { bytes(frame).add(offset).cast() }
}

#[inline]
fn slot(table: Frame, index: usize) -> *mut u64 {
    assert!(index < TABLE_ENTRIES, "no such entry");
    // SAFETY: the index was checked, so the result is inside the table's frame.
    unsafe { bytes(table).cast::<u64>().add(index) }
}

impl Machine for Hardware {
    fn zero_frame(&mut self, frame: Frame) {
        // SAFETY: a frame of the core's (see `new`), mapped writable at the direct map.
        unsafe { bytes(frame).write_bytes(0, PAGE_SIZE as usize) };
    }

    fn copy_frame(&mut self, from: Frame, to: Frame) {
        let source = any_bytes(from, Window::Source);
        // SAFETY: frames of the core's, mapped where `any_bytes` says; `copy` allows that they are the same. The
        // target is RAM.
        unsafe { bytes(to).copy_from(source, PAGE_SIZE as usize) };
    }

    fn read_frame(&self, frame: Frame, offset: usize, into: &mut [u8]) {
        let source = range(frame, Window::Source, offset, into.len());
        // SAFETY: `range` checked the bounds; `into` is the kernel's own memory, which is no frame of the core's.
        // User space may write the frame meanwhile on another processor; then the bytes are some mixture, and any
        // bytes are valid.
        unsafe { source.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
    }

    fn write_frame(&mut self, frame: Frame, offset: usize, from: &[u8]) {
        let target = range(frame, Window::Target, offset, from.len());
        // SAFETY: as for `read_frame`, the other way.
        unsafe { target.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }

    #[inline(always)]
    fn read_words<const N: usize>(&self, frame: Frame, offset: usize) -> [u64; N] {
        let source = items::<u64, N>(frame, offset);
        // SAFETY: a frame of the core's is RAM and mapped; `items` checked bounds and alignment. User space may write it
        // meanwhile, hence volatile; any words are valid.
        core::array::from_fn(|index| unsafe { source.add(index).read_volatile() })
    }

    #[inline(always)]
    fn write_words<const N: usize>(&mut self, frame: Frame, offset: usize, words: &[u64; N]) {
        let target = items::<u64, N>(frame, offset);
        for (index, word) in words.iter().enumerate() {
            // SAFETY: as for `read_words`.
            unsafe { target.add(index).write_volatile(*word) };
        }
    }

    #[inline(always)]
    fn read_half(&self, frame: Frame, offset: usize) -> u32 {
        // SAFETY: as for `read_words`.
        unsafe { items::<u32, 1>(frame, offset).read_volatile() }
    }

    #[inline(always)]
    fn write_half(&mut self, frame: Frame, offset: usize, half: u32) {
        // SAFETY: as for `read_words`.
        unsafe { items::<u32, 1>(frame, offset).write_volatile(half) };
    }

    fn exchange_half(&mut self, frame: Frame, offset: usize, expected: u32, new: u32) -> u32 {
        assert!(offset.is_multiple_of(size_of::<u32>()), "a word that is not aligned");
        // SAFETY: `range` checked the bounds, and the frame begins at a multiple of its size. User space may write the word
        // meanwhile, and the processor orders that and the exchange.
        let word = unsafe { AtomicU32::from_ptr(range(frame, Window::Target, offset, size_of::<u32>()).cast()) };
        match word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(found) | Err(found) => found,
        }
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), len: usize) {
        let source = range(from.0, Window::Source, from.1, len);
        let target = range(to.0, Window::Target, to.1, len);
        // SAFETY: `range` checked the bounds of both; `copy` allows overlap.
        unsafe { target.copy_from(source, len) };
    }

    #[inline]
    fn read_entry(&self, table: Frame, index: usize) -> Entry {
        // SAFETY: the core names page tables that it made; the processor may set accessed and dirty bits meanwhile,
        // hence volatile.
        paging::decode(unsafe { slot(table, index).read_volatile() })
    }

    #[inline]
    fn write_entry(&mut self, table: Frame, index: usize, entry: Entry) {
        // SAFETY: as for `read_entry`. Entries made by `encode` are user space's, so they can't reach the kernel's
        // half.
        unsafe { slot(table, index).write_volatile(paging::encode(entry)) };
    }

    fn take_accessed(&mut self, root: Frame, page: u64) -> bool {
        let mut table = root;
        for level in (1..LEVELS).rev() {
            // SAFETY: as for `read_entry`.
            let raw = unsafe { slot(table, table_index(page, level)).read_volatile() };
            let Some(next) = paging::table_in(raw) else { return false };
            table = next;
        }
        let entry = slot(table, table_index(page, 0));
        // SAFETY: as for `read_entry`.
        let raw = unsafe { entry.read_volatile() };
        let was_accessed = paging::is_accessed(raw);
        if was_accessed {
            // SAFETY: as for `write_entry`. Only the processor could change the entry meanwhile, and only bits that do not
            // matter: what is lost is that it used the page just now.
            unsafe { entry.write_volatile(paging::not_accessed(raw)) };
        }
        was_accessed
    }

    #[inline]
    fn find_page(&self, root: Frame, page: u64) -> Entry {
        let mut table = root;
        let mut rights = u64::MAX;
        for level in (1..LEVELS).rev() {
            // SAFETY: as for `read_entry`.
            let raw = unsafe { slot(table, table_index(page, level)).read_volatile() };
            let Some(next) = paging::table_in(raw) else { return Entry::Absent };
            table = next;
            rights &= raw;
        }
        // SAFETY: as for `read_entry`.
        let raw = unsafe { slot(table, table_index(page, 0)).read_volatile() };
        paging::decode(paging::restricted(raw, rights))
    }

    fn copy_table_read_only(&mut self, from: Frame, to: Frame) {
        for index in 0..TABLE_ENTRIES {
            // SAFETY: as for `read_entry` and `write_entry`.
            unsafe {
                let raw = slot(from, index).read_volatile();
                slot(to, index).write_volatile(paging::read_only(raw));
            }
        }
    }

    fn init_root(&mut self, root: Frame) {
        let kernel = paging::kernel_root();
        for index in KERNEL_HALF..TABLE_ENTRIES {
            // SAFETY: both are top-level tables; the kernel's entries don't change after boot, so copies stay right.
            unsafe { slot(root, index).write_volatile(slot(kernel, index).read_volatile()) };
        }
    }

    fn invalidate(&mut self, root: Frame, page: u64, pages: u64) {
        // Loading a root forgets all about user space, so a processor that has another one loaded remembers nothing of this.
        let uses_it = move |cpu: &&PerCpu| cpu.guarded.loaded_root.get() == root;
        if !percpu::is_alone() && percpu::others().any(|cpu| uses_it(&cpu)) {
            requests::ask(percpu::others().filter(uses_it), Request::Invalidate { page, pages });
        }
        if uses_it(&percpu::current()) {
            requests::invalidate(page, pages);
        }
    }
}
