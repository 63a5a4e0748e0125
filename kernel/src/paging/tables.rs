//! Building the kernel's half.

use super::{KERNEL_DATA, KERNEL_RODATA, KERNEL_TEXT, Mapping, bits, window};
use crate::boot::frames::BOOT_FRAMES;
use crate::cpu::features::Features;
use crate::direct_map;
use crate::memory_map::{MemoryMap, Range};
use core::sync::atomic::{AtomicU64, Ordering};
use quire_core::machine::Frame;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

const PAGE: u64 = quire_core::machine::PAGE_SIZE;
const LARGE_PAGE: u64 = 2 << 20;
const HUGE_PAGE: u64 = 1 << 30;
const PAGE_SHIFT: u32 = 12;
const INDEX_BITS: u32 = 9;
/// Where the image is linked, relative to where it is loaded.
const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;

unsafe extern "C" {
    static __kernel_start: u8;
    static __text_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __kernel_end: u8;
}

/// There were no frames for the kernel's page tables or stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfFrames;

/// Physical address of the kernel's own top-level table, once it is in use.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// The frame of the kernel's own top-level table, which maps nothing for user space.
pub(crate) fn kernel_root() -> Frame {
    Frame((KERNEL_ROOT.load(Ordering::Relaxed) >> PAGE_SHIFT) as u32)
}

/// Switches this processor to these page tables. What the TLB holds of the old ones is forgotten, but for global pages.
///
/// # Safety
/// The frame must be a top-level table with the kernel's half in it, and stay one as long as it is loaded.
#[inline]
pub(crate) unsafe fn load_root(root: Frame) {
    let frame = PhysFrame::containing_address(PhysAddr::new(u64::from(root.0) << PAGE_SHIFT));
    // SAFETY: the caller's promise; the kernel's half is the same in all tables, so the code goes on running.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Makes this processor forget what it holds of the page tables that are loaded, but for global pages.
///
/// # Safety
/// As for [`load_root`]: the loaded tables must still be tables.
pub(crate) unsafe fn reload_root() {
    let (frame, flags) = Cr3::read();
    // SAFETY: the caller's promise.
    unsafe { Cr3::write(frame, flags) };
}

/// Physical addresses of the image, without its boot part.
pub(crate) fn image() -> Range {
    let (start, end) = (symbol(&raw const __kernel_start), symbol(&raw const __kernel_end));
    Range { start: start - IMAGE_OFFSET, end: end - IMAGE_OFFSET }
}

fn symbol(address: *const u8) -> u64 {
    address as u64
}

/// The kernel's page tables, to add to them.
pub(crate) struct KernelTables {
    root: u64,
    huge_pages: bool,
}

impl KernelTables {
    /// Tables that map RAM and the image.
    ///
    /// # Errors
    /// [`OutOfFrames`]
    pub(crate) fn build(map: &MemoryMap, features: &Features) -> Result<Self, OutOfFrames> {
        let mut tables = Self { root: new_table()?, huge_pages: features.huge_pages };
        for range in map.ram() {
            let range = range.shrink_to_pages();
            tables.map_ram(Range { start: range.start, end: range.end.min(direct_map::PHYSICAL_END) })?;
        }
        let text = symbol(&raw const __text_start);
        let rodata = symbol(&raw const __rodata_start);
        let data = symbol(&raw const __data_start);
        let end = symbol(&raw const __kernel_end);
        for (start, end, mapping) in
            [(text, rodata, KERNEL_TEXT), (rodata, data, KERNEL_RODATA), (data, end, KERNEL_DATA)]
        {
            tables.map(start, Range { start: start - IMAGE_OFFSET, end: end - IMAGE_OFFSET }, mapping)?;
        }
        window::init(&mut tables)?;
        Ok(tables)
    }

    /// Maps RAM at the direct map; what of it is the image's code and constants, read-only there too.
    fn map_ram(&mut self, ram: Range) -> Result<(), OutOfFrames> {
        let constant_start = symbol(&raw const __text_start) - IMAGE_OFFSET;
        let constant_end = symbol(&raw const __data_start) - IMAGE_OFFSET;
        let pieces = [
            (ram.start, ram.end.min(constant_start), KERNEL_DATA),
            (ram.start.max(constant_start), ram.end.min(constant_end), KERNEL_RODATA),
            (ram.start.max(constant_end), ram.end, KERNEL_DATA),
        ];
        for (start, end, mapping) in pieces {
            if start < end {
                self.map(direct_map::BASE + start, Range { start, end }, mapping)?;
            }
        }
        if !ram.is_empty() {
            direct_map::note_ram(ram.start, ram.end);
        }
        Ok(())
    }

    /// The tables in use, to add device registers or firmware tables while booting.
    pub(crate) fn active() -> Self {
        Self { root: KERNEL_ROOT.load(Ordering::Relaxed), huge_pages: false }
    }

    /// Puts the tables to use.
    ///
    /// # Safety
    /// The code that runs, its stack and all that it refers to must be mapped by them at the same addresses as now.
    pub(crate) unsafe fn activate(&self) {
        KERNEL_ROOT.store(self.root, Ordering::Relaxed);
        // SAFETY: the caller's promise, and these tables are never freed.
        unsafe { load_root(kernel_root()) };
    }

    /// Maps a page of zeros.
    ///
    /// # Errors
    /// [`OutOfFrames`]
    pub(crate) fn map_new(&mut self, address: u64, mapping: Mapping) -> Result<(), OutOfFrames> {
        let start = BOOT_FRAMES.lock().take(1).ok_or(OutOfFrames)?;
        self.map(address, Range::new(start, PAGE), mapping)
    }

    /// Maps physical addresses at their place in the direct map, where they aren't yet.
    ///
    /// # Errors
    /// [`OutOfFrames`]
    pub(crate) fn map_direct(&mut self, range: Range, mapping: Mapping) -> Result<(), OutOfFrames> {
        let range = range.grow_to_pages();
        let mut at = range.start;
        while at < range.end {
            if !self.is_mapped(direct_map::BASE + at) {
                self.map(direct_map::BASE + at, Range::new(at, PAGE), mapping)?;
            }
            at += PAGE;
        }
        Ok(())
    }

    /// Maps whole pages, with the largest page size that fits at each place.
    fn map(&mut self, address: u64, range: Range, mapping: Mapping) -> Result<(), OutOfFrames> {
        let (mut address, mut physical) = (address, range.start);
        while physical < range.end {
            let left = range.end - physical;
            let fits = |size: u64| left >= size && (address | physical).is_multiple_of(size);
            let (size, level, large) = match () {
                () if self.huge_pages && fits(HUGE_PAGE) => (HUGE_PAGE, 2, bits::LARGE),
                () if fits(LARGE_PAGE) => (LARGE_PAGE, 1, bits::LARGE),
                () => (PAGE, 0, 0),
            };
            let slot = self.slot(address, level)?;
            // SAFETY: `slot` gave an entry of a table that only this builder changes.
            unsafe { slot.write_volatile(physical | mapping.0 | large) };
            address = address.wrapping_add(size);
            physical += size;
        }
        Ok(())
    }

    /// The entry for `address` at `level` (0: pages); makes the tables on the way.
    pub(super) fn slot(&mut self, address: u64, level: u32) -> Result<*mut u64, OutOfFrames> {
        let mut table = self.root;
        for above in (level + 1..4).rev() {
            let slot = entry_of(table, address, above);
            // SAFETY: `table` is a table of ours in the direct map, and the index is below 512.
            let mut value = unsafe { slot.read_volatile() };
            if value & bits::PRESENT == 0 {
                value = new_table()? | bits::PRESENT | bits::WRITE;
                // SAFETY: as above; nobody else changes the kernel's tables.
                unsafe { slot.write_volatile(value) };
            }
            table = value & bits::ADDRESS;
        }
        Ok(entry_of(table, address, level))
    }

    fn is_mapped(&self, address: u64) -> bool {
        let mut table = self.root;
        for level in (0..4).rev() {
            // SAFETY: `table` is a table of ours in the direct map, and the index is below 512.
            let value = unsafe { entry_of(table, address, level).read_volatile() };
            if value & bits::PRESENT == 0 {
                return false;
            }
            if value & bits::LARGE != 0 {
                return true;
            }
            table = value & bits::ADDRESS;
        }
        true
    }
}

fn entry_of(table: u64, address: u64, level: u32) -> *mut u64 {
    let index = address >> (PAGE_SHIFT + level * INDEX_BITS) & 0x1ff;
    direct_map::pointer(table + index * 8)
}

fn new_table() -> Result<u64, OutOfFrames> {
    BOOT_FRAMES.lock().take(1).ok_or(OutOfFrames)
}
