//! The supervisor: the first program. It has all authority over the machine, starts the servers and drivers from the boot
//! archive, and hands each only what it needs.
//!
//! When a program ends or faults without which the system can't go on, it says so and ends the machine. Others it starts again:
//! what they work on lies in objects that it keeps for them ([`successors`]).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod disks;
#[cfg(target_os = "none")]
mod filesystems;
#[cfg(target_os = "none")]
mod loader;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod orders;
#[cfg(target_os = "none")]
mod programs;
#[cfg(target_os = "none")]
mod signal;
#[cfg(target_os = "none")]
mod successors;
#[cfg(target_os = "none")]
mod swap;
#[cfg(target_os = "none")]
mod watch;

#[cfg(target_os = "none")]
quire_api::entry!(machine::main);

#[cfg(not(target_os = "none"))]
fn main() {}
