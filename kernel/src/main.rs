//! The kernel on a machine.
//!
//! The order of things at start: [`boot::entry`] brings the processor into long mode and calls [`boot_main`], which
//! reads what the loader tells, makes the final page tables and stacks, and goes on in `main_on_own_stack`, which
//! finds the devices, makes the object graph with the first program in it, and leaves for user mode. From then on
//! the kernel runs only when it is entered ([`trap`]).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(all(test, not(target_os = "none")), expect(dead_code, reason = "on the host only what is tested is used"))]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod attention;
#[cfg(target_os = "none")]
mod boot;
#[cfg(any(test, target_os = "none"))]
mod calendar;
#[cfg(any(test, target_os = "none"))]
mod command_line;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod direct_map;
#[cfg(target_os = "none")]
mod firmware;
#[cfg(target_os = "none")]
mod hardware;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(any(test, target_os = "none"))]
mod iommu;
#[cfg(target_os = "none")]
mod logger;
#[cfg(any(test, target_os = "none"))]
mod memory_map;
#[cfg(any(test, target_os = "none"))]
mod paging;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod power;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod serial;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod sync;
#[cfg(target_os = "none")]
mod time;
#[cfg(target_os = "none")]
mod trap;
#[cfg(target_os = "none")]
mod vector;

#[cfg(target_os = "none")]
pub(crate) use boot::boot_main;
