//! The kernel's half of every address space (4-level paging, Intel SDM vol. 3A, 5.5).
//!
//! What is mapped there: all RAM at the [direct map](crate::direct_map), never executable; the kernel's image, code
//! and constants read-only wherever they are mapped; the processors' stacks; the registers of the devices that the
//! kernel drives, uncached, in the direct map. The top-level entries are all made while booting and never change,
//! because every address space has a copy.

mod entry;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
pub(crate) mod window;

#[cfg(target_os = "none")]
pub(crate) use entry::{decode, encode, is_accessed, not_accessed, read_only, restricted, table_in};
#[cfg(target_os = "none")]
pub(crate) use tables::{KernelTables, OutOfFrames, image, kernel_root, load_root, reload_root};

/// Bits of an entry.
mod bits {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const WRITE_THROUGH: u64 = 1 << 3;
    pub(super) const CACHE_DISABLE: u64 = 1 << 4;
    pub(super) const ACCESSED: u64 = 1 << 5;
    pub(super) const LARGE: u64 = 1 << 7;
    pub(super) const GLOBAL: u64 = 1 << 8;
    /// Ignored by the processor; set where an entry of user space refers to a table.
    pub(super) const SOFTWARE_TABLE: u64 = 1 << 9;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
    /// Where the physical address is.
    pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// How a page of the kernel's half is mapped: bits of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping(u64);

/// Code.
pub(crate) const KERNEL_TEXT: Mapping = Mapping(bits::PRESENT | bits::GLOBAL);
/// Constants.
pub(crate) const KERNEL_RODATA: Mapping = Mapping(bits::PRESENT | bits::GLOBAL | bits::NO_EXECUTE);
/// Variables, stacks, and the direct map.
pub(crate) const KERNEL_DATA: Mapping = Mapping(bits::PRESENT | bits::WRITE | bits::GLOBAL | bits::NO_EXECUTE);
/// Device registers.
pub(crate) const DEVICE: Mapping = Mapping(KERNEL_DATA.0 | bits::CACHE_DISABLE | bits::WRITE_THROUGH);
