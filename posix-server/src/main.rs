//! The POSIX server as a native program: takes its handles, fills the root, starts the first process, and serves.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod guest;

#[cfg(target_os = "none")]
quire_api::entry!(guest::main);

#[cfg(not(target_os = "none"))]
fn main() {}
