//! The file server: the program. It holds a channel to its disk, and the end of the one that it serves.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod machine;

#[cfg(target_os = "none")]
quire_api::entry!(machine::main);

#[cfg(not(target_os = "none"))]
fn main() {}
