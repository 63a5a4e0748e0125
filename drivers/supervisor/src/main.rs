//! The supervisor: the first program. It has all authority over the machine, starts the servers and drivers from the boot
//! archive, and hands each only what it needs.
//!
//! When a program that it started ends or faults, it says so and ends the machine; starting it again is for a later
//! version.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod loader;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod watch;

#[cfg(target_os = "none")]
quire_api::entry!(machine::main);

#[cfg(not(target_os = "none"))]
fn main() {}
