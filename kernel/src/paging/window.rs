//! Windows to memory that the direct map does not have: firmware tables and the like, of which somebody with
//! hardware authority has made a memory object, and which the kernel then copies from or to. Slow, and rarely used.

use super::{KERNEL_DATA, KernelTables, OutOfFrames, bits};
use core::sync::atomic::{AtomicU64, Ordering};
use quire_core::machine::{Frame, PAGE_SIZE};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Where the windows are: in the last GiB of the address space, behind the processors' stacks.
const BASE: u64 = 0xffff_ffff_e000_0000;
const PAGE_SHIFT: u32 = 12;

/// One of the windows. A copy needs two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// For what is read.
    Source = 0,
    /// For what is written.
    Target = 1,
}

const WINDOWS: u64 = 2;

/// Address of the page-table entry of the first window; the others follow.
static ENTRIES: AtomicU64 = AtomicU64::new(0);

/// Prepares the windows.
///
/// # Errors
/// [`OutOfFrames`]
pub(crate) fn init(tables: &mut KernelTables) -> Result<(), OutOfFrames> {
    for number in 0..WINDOWS {
        tables.slot(BASE + number * PAGE_SIZE, 0)?;
    }
    ENTRIES.store(tables.slot(BASE, 0)? as u64, Ordering::Relaxed);
    Ok(())
}

/// Shows `frame` in the window until the next call for the same window. The kernel lock must be held.
pub(crate) fn show(window: Window, frame: Frame) -> *mut u8 {
    let address = BASE + window as u64 * PAGE_SIZE;
    let entry = (ENTRIES.load(Ordering::Relaxed) + window as u64 * size_of::<u64>() as u64) as *mut u64;
    let mapping = (KERNEL_DATA.0 & !bits::GLOBAL) | u64::from(frame.0) << PAGE_SHIFT;
    // SAFETY: `init` made the entries, which map nothing but the windows; the kernel lock makes this processor
    // their only user, and nothing refers to what the window showed before.
    unsafe { entry.write_volatile(mapping) };
    tlb::flush(VirtAddr::new(address));
    address as *mut u8
}
