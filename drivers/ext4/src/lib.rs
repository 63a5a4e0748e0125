//! The ext2, ext3 and ext4 file systems: what is on the disk, how it is read, and how it changes, one atomic step at a time.
//!
//! Nothing here knows a machine: sectors come from a [`Device`], time and identities are arguments, and no file's data passes
//! through. A server asks where data are , has blocks allotted , and moves the data itself.
//!
//! - [`device`], [`error`]: what a file system stands on, and how it fails.
//! - [`bytes`], [`checksum`]: fields and sums of the records on the disk.
//! - [`buffers`]: metadata blocks in memory, and transactions over them.
//! - [`journal`]: the log that makes transactions atomic, and its recovery.
//! - [`sync`]: how tasks wait for each other.
//!
//! The disk is never trusted: every size, count and pointer read from it is checked before use, and what makes no sense is
//! [`Error::Corrupt`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod buffers;
pub mod bytes;
pub mod checksum;
pub mod device;
pub mod error;
pub mod journal;
#[cfg(test)]
mod simulated;
pub mod sync;

pub use device::{Device, DeviceFailed};
pub use error::{Error, Result};
