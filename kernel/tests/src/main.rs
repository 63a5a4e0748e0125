//! Tests and benchmarks of the object API: a native program that the supervisor starts alone.
//!
//! Each behaviour is tested through the call *and*, where there is one, through the hardware fault: a thread in a space of
//! its own executes the access. See `child` for how that is done without a line of `unsafe`.
//!
//! Arguments: `test=object-tests` (`filter=TEXT` takes only what has it in its name, `fuzz_seconds=N`), or
//! `test=ipc-bench`, `test=scaling`, or `test=serial-bench`, for which the supervisor starts the serial drivers too, or `test=disk-check`,
//! `disk-errors`, `disk-storm` and `disk-bench`, for which it starts those of disks, or `test=driver-check driver=NAME:VENDOR:DEVICE`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod child;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod driver;
#[cfg(target_os = "none")]
mod files;
#[cfg(target_os = "none")]
mod harness;
#[cfg(target_os = "none")]
mod objects;
#[cfg(target_os = "none")]
mod scaling;
#[cfg(target_os = "none")]
mod serial;

#[cfg(target_os = "none")]
quire_api::entry!(harness::main);

#[cfg(not(target_os = "none"))]
fn main() {}
