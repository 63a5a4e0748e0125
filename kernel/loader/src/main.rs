//! The UEFI loader.
//!
//! It reads the kernel, its command line and the boot archive from the partition that it was started from, and ends in the
//! kernel's one entry, the PVH entry (the x86/HVM direct boot ABI of Xen, `docs/misc/pvh.pandoc`), which QEMU's `-kernel`
//! uses too: 32-bit protected mode without paging, flat segments, interrupts off, the address of a *start info* in `ebx`.
//! So the kernel can't tell who started it.
//!
//! 1. Read the files; the archive goes to pages below 4 GiB, where it stays (`files`).
//! 2. Check the kernel's ELF file and copy its segments to their physical addresses (`kernel_image`).
//! 3. Exit boot services; write the start info with the final memory map (`start_info`).
//! 4. Leave long mode and jump (`handover`).
//!
//! Whatever fails is said on the firmware's console with the name of the file; then the machine is switched off.

#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
mod files;
#[cfg(target_os = "uefi")]
mod handover;
#[cfg(any(test, target_os = "uefi"))]
mod kernel_image;
#[cfg(target_os = "uefi")]
mod pages;
#[cfg(any(test, target_os = "uefi"))]
mod start_info;
#[cfg(target_os = "uefi")]
mod uefi_main;

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("This is a UEFI program; build it with `cargo xtask image`.");
}
