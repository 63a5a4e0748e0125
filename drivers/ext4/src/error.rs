//! Why an operation was not done.

use crate::device::DeviceFailed;
use core::fmt;

/// What an operation of a file system returns.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why an operation was not done. Whatever it is, nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device could not read or write.
    Device,
    /// What is on the disk makes no sense.
    Corrupt(Corruption),
    /// The file system uses something that is not understood here.
    Unsupported(&'static str),
    /// The file system is mounted read-only, or has been since an error.
    ReadOnly,
    /// No free blocks or inodes, or a directory that can't grow. `pending`: blocks were freed by what is not committed yet, so
    /// a commit may make room.
    Full {
        /// Whether a commit may help.
        pending: bool,
    },
    /// No such name, inode or attribute.
    NotFound,
    /// The name, or the inode number, is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// No directory was allowed.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// The file has as many links as can be counted.
    TooManyLinks,
    /// Names have 1 to 255 bytes, without a slash.
    BadName,
    /// The range lies beyond what a file of this kind can have.
    FileTooBig,
    /// The value does not fit into an inode's attribute space.
    AttributesTooBig,
    /// Arguments that don't fit together, such as a rename of a directory into itself.
    Invalid,
}

/// What was found to make no sense, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// What was looked at.
    pub what: &'static str,
    /// The number of the block, inode or group where it was.
    pub place: Place,
}

/// Where corruption was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the superblock, or the file system as a whole.
    FileSystem,
    /// In a block group.
    Group(u32),
    /// In an inode, or what belongs to it.
    Inode(u32),
    /// In a block.
    Block(u64),
}

impl Error {
    /// Corruption of `what` at `place`.
    #[must_use]
    pub fn corrupt(what: &'static str, place: Place) -> Self {
        Self::Corrupt(Corruption { what, place })
    }
}

impl From<DeviceFailed> for Error {
    fn from(_: DeviceFailed) -> Self {
        Self::Device
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => write!(out, "the device failed"),
            Self::Corrupt(Corruption { what, place }) => write!(out, "corrupt: {what} ({place:?})"),
            Self::Unsupported(what) => write!(out, "not supported: {what}"),
            Self::ReadOnly => write!(out, "read-only file system"),
            Self::Full { .. } => write!(out, "no space left"),
            Self::NotFound => write!(out, "not found"),
            Self::Exists => write!(out, "exists already"),
            Self::NotDirectory => write!(out, "not a directory"),
            Self::IsDirectory => write!(out, "a directory"),
            Self::NotEmpty => write!(out, "directory not empty"),
            Self::TooManyLinks => write!(out, "too many links"),
            Self::BadName => write!(out, "not a possible name"),
            Self::FileTooBig => write!(out, "file too big"),
            Self::AttributesTooBig => write!(out, "no room for the attribute"),
            Self::Invalid => write!(out, "invalid arguments"),
        }
    }
}

impl core::error::Error for Error {}
