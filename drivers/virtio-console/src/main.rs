//! The driver of virtio consoles: the program. It holds the windows, the interrupts and the DMA space of its one device,
//! and the channel that it serves.
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
