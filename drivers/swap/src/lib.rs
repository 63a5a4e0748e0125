//! The pager of the swap memory: private pages of programs lie on a partition while there is no room for them.
//!
//! - [`service`]: what is read and written when; generic over the disk and the pager, so that it runs on the host.
//! - `machine`: on a block device's channel, and the pager that the supervisor made.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod service;
