//! Disks, for those who use them and for those who drive them.
//!
//! - [`client`]: a disk as a program uses it: many requests under way at once, sent again when the driver dies.
//! - [`machine`]: the client on a channel.
//! - [`driver`]: the service on its channels, interrupts and clients' memories.
//! - [`gpt`]: the partition table; pure.
//! - [`service`]: what a driver does for its clients, whatever its disk is; pure.
//!
//! The words that travel are in [`driver_protocol::block`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client;
pub mod driver;
pub mod gpt;
pub mod machine;
pub mod service;
