//! The in-process half of POSIX.
//!
//! This is mapped into every Linux program. A `syscall` instruction of the program arrives at `shim_entry` (the kernel reflects it) with
//! `rcx` = return address, `r11` = flags and all other registers as the program had them. The shim saves them in the
//! thread's block, answers what the block can answer ([`local`]), and otherwise calls the server, with what the call needs or gives
//! carried along ([`carry`]). It leaves by loading all registers
//! from the block; `docs/life-of-a-syscall.md` tells the whole story.
//!
//! It has no data of its own and uses no vector registers.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod carry;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod files;
#[cfg(target_os = "none")]
mod futex;
#[cfg(target_os = "none")]
mod local;
#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod signals;

#[cfg(not(target_os = "none"))]
fn main() {}
