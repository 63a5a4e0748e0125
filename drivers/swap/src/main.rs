//! The pager of the swap memory: the program. It holds the pager, the memory, and a channel to the partition; all of them outlive it.
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
