//! The ext2, ext3 and ext4 file systems: what is on the disk, how it is read, and how it changes, one atomic step at a time.
//!
//! Nothing here knows a machine: sectors come from a [`Device`], time and identities are arguments, and no file's data passes
//! through. A server asks where data are ([`Ext4::map`]), has free blocks promised and, once written, attached ([`Ext4::promise`]), and moves the data itself.
//!
//! - [`device`], [`error`]: what a file system stands on, and how it fails.
//! - [`bytes`], [`checksum`]: fields and sums of the records on the disk.
//! - [`superblock`], [`group`], [`inode`]: the records themselves.
//! - [`buffers`]: metadata blocks in memory, and transactions over them.
//! - [`journal`]: the log that makes transactions atomic, and its recovery.
//! - [`sync`]: how tasks wait for each other.
//! - `allocation`, `map`, `directory`, `attributes`, `orphans`: blocks and inodes, the blocks of a file, names, extended
//!   attributes, and files without a name.
//! - `operations`: what a server asks for; each is one `change`, all of it or nothing.
//!
//! The disk is never trusted: every size, count and pointer read from it is checked before use, and what makes no sense is
//! [`Error::Corrupt`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// Tests use the simulated disk from within and from outside.
#[cfg(test)]
extern crate self as ext4;
#[cfg(test)]
extern crate std;

mod allocation;
mod attributes;
pub mod buffers;
pub mod bytes;
mod change;
pub mod checksum;
pub mod device;
mod directory;
pub mod error;
mod file_system;
pub mod group;
pub mod inode;
pub mod journal;
mod lock;
mod map;
mod operations;
mod orphans;
mod ranges;
mod seal;
#[cfg(test)]
mod simulated;
pub mod superblock;
pub mod sync;
mod zones;

pub use buffers::TransactionId;
pub use device::{Device, DeviceFailed};
pub use directory::Entry;
pub use error::{Corruption, Error, Place, Result};
pub use file_system::{Ext4, Options, Statistics};
pub use inode::{FileKind, Inode, Time};
pub use map::{Run, State, Target};
pub use operations::{Allotted, Attributes, New, Placed, Rename, Room, Unlinked};

/// The inode of the root directory.
pub const ROOT: u32 = 2;
