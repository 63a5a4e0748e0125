//! The driver of virtio sources of random numbers (virtio 1.2, 5.4), generic over registers, memory and clients, so that the whole of it
//! runs on the host.
//!
//! - [`entropy`]: the service of the `entropy` protocol.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod entropy;
