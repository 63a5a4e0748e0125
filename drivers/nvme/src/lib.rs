//! The driver of NVMe disks (NVM Express Base Specification 1.4), generic over registers and memory, so that the whole of it runs on the
//! host.
//!
//! - [`disk`]: the disk: what [`block::service`] wants done, as commands in the controller's queues.
//! - [`queue`]: a submission and a completion queue.
//! - [`wire`]: the controller's own numbers.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod queue;
pub mod wire;

#[cfg(test)]
mod simulation;
