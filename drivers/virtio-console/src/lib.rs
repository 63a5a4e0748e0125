//! The driver of virtio consoles (virtio 1.2, 5.3), with one port, generic over registers and memory, so that the whole of it runs on
//! the host.
//!
//! - [`port`]: the port, a [`console::Device`]; what serves its clients is the same for all consoles.
#![no_std]
#![forbid(unsafe_code)]

pub mod port;
