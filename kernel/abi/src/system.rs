//! Records about the machine, accounts and time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A budget, and what is used of it. The units are frames of 4 KiB and bytes of the kernel's heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AccountLimits {
    /// Frames at most; `u64::MAX` for no limit of its own.
    pub frames: u64,
    /// Bytes of kernel memory at most; `u64::MAX` for no limit of its own.
    pub kernel_bytes: u64,
}

/// What `account_info` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AccountInfo {
    /// What may be used.
    pub limit: AccountLimits,
    /// What is used, descendants included.
    pub used: AccountLimits,
}

/// What `system_info` tells. Nothing in it is authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SystemInfo {
    /// Frames of ordinary memory that the machine has for use.
    pub total_frames: u64,
    /// Of them, those that are free now.
    pub free_frames: u64,
    /// Processors that run threads.
    pub processors: u32,
    /// Size of a thread's vector state in bytes.
    pub vector_state_bytes: u32,
    /// Time since the kernel's start in ns is `((rdtsc - tsc_base) * tsc_multiplier) >> tsc_shift`, in 128 bits.
    pub tsc_base: u64,
    /// See `tsc_base`.
    pub tsc_multiplier: u64,
    /// See `tsc_base`.
    pub tsc_shift: u64,
    /// Unix time at the kernel's start, in ns.
    pub boot_unix_ns: u64,
    /// Frames that hold pages of managed memories.
    pub cached_frames: u64,
    /// Of them, those with stores that no pager has yet.
    pub unwritten_frames: u64,
    /// Of those, the ones that pagers are writing back.
    pub writing_frames: u64,
    /// Pages that fit the swap memory; 0 if there is none.
    pub swap_total_pages: u64,
    /// Pages that are there.
    pub swap_used_pages: u64,
    /// Pages that came back from there and are as they were: their places are kept for them.
    pub swap_kept_pages: u64,
    /// How many pages were sent there since the start, and how many came back.
    pub swapped_out_pages: u64,
    /// See `swapped_out_pages`.
    pub swapped_in_pages: u64,
}

bitflags::bitflags! {
    /// What the machine does with what devices do by themselves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Confinement: u32 {
        /// A device reaches what is mapped in its DMA space and nothing else.
        const MEMORY = 1 << 0;
        /// A device raises the interrupts that were made for it and no others.
        const INTERRUPTS = 1 << 1;
    }
}

/// What `hardware_info` tells: where devices are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HardwareInfo {
    /// Physical address of the ACPI root pointer (ACPI 6.5, 5.2.5), or 0.
    pub rsdp: u64,
    /// Physical address of the configuration space of bus 0 in the window by which PCI Express has those of all buses of its first
    /// segment (PCI Firmware 3.0, 4.1.2), or 0.
    pub configuration: u64,
    /// The first bus that the window really has, and the last.
    pub first_bus: u8,
    /// See `first_bus`.
    pub last_bus: u8,
    /// Always 0.
    pub reserved: u16,
    /// Bits of [`Confinement`].
    pub confinement: u32,
}

/// How `system_shutdown` ends the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Shutdown {
    /// All is well; the machine is switched off.
    PowerOff = 1,
    /// Something failed; the machine is switched off and a test harness is told.
    Failure = 2,
    /// Reset.
    Reset = 3,
}

impl Shutdown {
    /// The way with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::PowerOff,
            2 => Self::Failure,
            3 => Self::Reset,
            _ => return None,
        })
    }
}
