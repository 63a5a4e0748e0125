//! The vDSO: a shared object that every program finds mapped (`vdso(7)`) and that tells the time without a system call.
//!
//! C libraries and language run-times look it up through `AT_SYSINFO_EHDR` and its dynamic tables. It is pure code: what it
//! reads, [`posix_protocol::shim::ClockPage`], lies in the page before its first one, and belongs to the server.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod clocks;

#[cfg(not(target_os = "none"))]
fn main() {}
