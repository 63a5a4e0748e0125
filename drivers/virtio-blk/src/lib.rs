//! The driver of virtio disks (virtio 1.2, 5.2), generic over registers and memory, so that the whole of it runs on the host.
//!
//! - [`disk`]: the disk: what [`block::service`] wants done, as requests in the device's queues.
//! - [`wire`]: the device's own numbers.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod wire;

#[cfg(test)]
mod simulation;
