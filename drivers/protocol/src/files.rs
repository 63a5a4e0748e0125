//! A mounted file system, as its server offers it to the one client that has names and attributes in memory.
//!
//! The client loads what it needs to know once, changes it in its own memory at once, and notes what it did in an ordered log of
//! [operations](operation::operations), which it sends in batches ([`Request::Apply`]). Contents never travel: the server is the pager of
//! each file that is in use ([`Request::Serve`]).
//!
//! # Requests
//! | request | words | buffers | handles | answered |
//! |---|---|---|---|---|
//! | `Mount` | flags, seconds between commits | receive: a [`Volume`] | 0: the notes (`READ`, `WRITE`) | when it is mounted |
//! | `Watch` | – | – | – | when there are [`News`] (word 0); when the server has died, as every call then |
//! | `Status` | – | – | – | at once: a [`Status`] |
//! | `Load` | inode | receive: one [entry] without a name | – | with the inode as the operations so far left it |
//! | `List` | inode, cookie | receive: [entries](entry), at least [`MIN_LIST_BYTES`] | – | bytes, next cookie ([`LAST_COOKIE`]: that was all) |
//! | `Xattrs` | inode | receive: [attributes](entry::xattr) | – | bytes, bytes that all of them take |
//! | `Runs` | inode, offset, bytes | receive: [runs](entry::run) | – | bytes; the last run ends where the answer does |
//! | `Reserve` | parent inode, [`NewKind`], count | receive: numbers, of 8 bytes each | – | bytes |
//! | `Apply` | first sequence number, count | send: [operations](operation::operations) | – | an [`Applied`] |
//! | `Commit` | sequence number | – | – | when all operations up to there are durable |
//! | `Serve` | inode, slot | – | 0: the pager; 1: its memory (`READ`) | when the pager is bound |
//! | `Release` | inode | – | – | when nothing is under way for the file any more, and nothing comes |
//! | `Remount` | flags | – | – | when the file system is as they say, all that was applied durable |
//! | `Unmount` | – | – | – | when all is durable and the file system clean; then it is not mounted |
//!
//! An answer's label is 0, or a [`Refused`]. Requests are served in the order in which they come where that can be seen: a `Load` after an
//! `Apply` shows what that did.
//!
//! # Sequence numbers and the server's death
//! Operations are numbered from 1 on, without gaps, from the fresh mount to the end. The server notes in the [notes] which of
//! them a transaction of the journal contains. When it has died, its successor serves the same channel and knows nothing: every
//! request but `Mount` is [`Refused::NotMounted`]. The client then
//! 1. sends `Mount` with the same notes; [`Volume::durable`] says which operations came through;
//! 2. sends the operations after that one again, in order;
//! 3. says again of each file in use that has [grown](operation::Set::GROWN) how long it is;
//! 4. forgets the inode numbers that it had reserved and not used, and says `Serve` again for all files that are in use.
//!
//! A successor takes a file system as it was left: inodes without names stay until [`Operation::Forget`](operation::Operation::Forget). On a fresh mount, where the
//! notes are all zeros, they are freed.
//!
//! # What a file's memory and its operations have to do with each other
//! Pages are written back whenever the kernel asks for it, operations come when the client sends them. What keeps the two in step
//! is the file's [slot](notes) in the notes: *before* the client makes a file's memory shorter or drops a range of it, it writes the sequence
//! number of that operation to the slot's [`notes::CUT`]; *before* it lets bytes beyond the size that the server knows be stored, that of the
//! operation that sets the size to [`notes::SIZE`]. Fills wait until the one has been applied, writebacks for both. So the server never brings back
//! what was cut off, nor has blocks beyond a file's end. If something waits for operations that the client has not sent, it hears
//! [`News::SEND`].
//!
//! A writeback is done when a server that dies would not lose it: at once where blocks were there before, otherwise when the
//! transaction with the allocation is durable. The client clears what lies between a file's end and the end of its last page before it
//! lets the file grow, and when it cuts it.

pub mod entry;
pub mod notes;
pub mod operation;
mod volume;

pub use volume::{Volume, VolumeFlags};

use crate::Words;
use bitflags::bitflags;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest target of a symbolic link, in bytes.
pub const MAX_TARGET_BYTES: usize = 4095;
/// The most bytes that go along with one request, either way.
pub const MAX_BUFFER_BYTES: usize = 64 << 10;
/// The room that a listing needs at least: one entry of the greatest length.
pub const MIN_LIST_BYTES: usize = 8 << 10;
/// How many operations go in one `Apply` at most.
pub const MAX_OPERATIONS: u64 = 1024;
/// How many inodes are reserved at once at most.
pub const MAX_RESERVED: u64 = 256;
/// The cookie with which a listing begins.
pub const FIRST_COOKIE: u64 = 0;
/// The cookie after the last entry.
pub const LAST_COOKIE: u64 = u64::MAX;
/// How many files one server serves the contents of at most.
pub const MAX_SERVED: u64 = 1 << 16;

bitflags! {
    /// How a file system is mounted.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MountFlags: u64 {
        /// Nothing is written but what the recovery of the journal writes.
        const READ_ONLY = 1 << 0;
        /// When something on the disk makes no sense, nothing is written any more.
        const END_AT_ERRORS = 1 << 1;
        /// The same is only noted, whatever the file system itself wants.
        const CONTINUE_AT_ERRORS = 1 << 2;
    }
}

bitflags! {
    /// What there is to tell a client.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct News: u64 {
        /// Something waits for operations that were not sent.
        const SEND = 1 << 0;
        /// The file system has become read-only, because the disk failed or what is on it makes no sense. What was not durable stays so.
        const READ_ONLY = 1 << 1;
    }
}

/// For what an inode is reserved: it decides where on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum NewKind {
    /// A directory.
    Directory = 1,
    /// Any other file.
    Other = 2,
}

impl NewKind {
    const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Directory),
            2 => Some(Self::Other),
            _ => None,
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take the file system into use.
    Mount {
        /// How.
        flags: MountFlags,
        /// How old an operation gets before it is made durable, in seconds; 0: as the server thinks.
        commit_seconds: u64,
    },
    /// Tell when there is something to tell.
    Watch,
    /// Tell what is free.
    Status,
    /// Tell about an inode.
    Load {
        /// Its number.
        inode: u64,
    },
    /// Show names in a directory.
    List {
        /// The directory.
        inode: u64,
        /// Where to go on: [`FIRST_COOKIE`], or what the last answer said.
        cookie: u64,
    },
    /// Show all extended attributes.
    Xattrs {
        /// Of this inode.
        inode: u64,
    },
    /// Show where a file has blocks.
    Runs {
        /// Which file.
        inode: u64,
        /// From here on, in bytes.
        offset: u64,
        /// So many bytes.
        len_bytes: u64,
    },
    /// Give numbers for new inodes.
    Reserve {
        /// The directory that they will be in.
        parent: u64,
        /// What they will be.
        kind: NewKind,
        /// How many, at most [`MAX_RESERVED`].
        count: u64,
    },
    /// Do operations.
    Apply {
        /// The first one's number.
        first: u64,
        /// How many, at most [`MAX_OPERATIONS`].
        count: u64,
    },
    /// Make operations durable.
    Commit {
        /// Up to this one.
        sequence: u64,
    },
    /// Be the pager of a file.
    Serve {
        /// Which.
        inode: u64,
        /// Its slot in the notes.
        slot: u64,
    },
    /// Be it no longer.
    Release {
        /// Of which file.
        inode: u64,
    },
    /// Change how it is mounted.
    Remount {
        /// How.
        flags: MountFlags,
    },
    /// Put it out of use.
    Unmount,
}

const MOUNT: u64 = 1;
const WATCH: u64 = 2;
const STATUS: u64 = 3;
const LOAD: u64 = 4;
const LIST: u64 = 5;
const XATTRS: u64 = 6;
const RUNS: u64 = 7;
const RESERVE: u64 = 8;
const APPLY: u64 = 9;
const COMMIT: u64 = 10;
const SERVE: u64 = 11;
const RELEASE: u64 = 12;
const REMOUNT: u64 = 13;
const UNMOUNT: u64 = 14;

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        let (label, [one, two, three]) = match self {
            Self::Mount { flags, commit_seconds } => (MOUNT, [flags.bits(), commit_seconds, 0]),
            Self::Watch => (WATCH, [0; 3]),
            Self::Status => (STATUS, [0; 3]),
            Self::Load { inode } => (LOAD, [inode, 0, 0]),
            Self::List { inode, cookie } => (LIST, [inode, cookie, 0]),
            Self::Xattrs { inode } => (XATTRS, [inode, 0, 0]),
            Self::Runs { inode, offset, len_bytes } => (RUNS, [inode, offset, len_bytes]),
            Self::Reserve { parent, kind, count } => (RESERVE, [parent, kind as u64, count]),
            Self::Apply { first, count } => (APPLY, [first, count, 0]),
            Self::Commit { sequence } => (COMMIT, [sequence, 0, 0]),
            Self::Serve { inode, slot } => (SERVE, [inode, slot, 0]),
            Self::Release { inode } => (RELEASE, [inode, 0, 0]),
            Self::Remount { flags } => (REMOUNT, [flags.bits(), 0, 0]),
            Self::Unmount => (UNMOUNT, [0; 3]),
        };
        (label, [one, two, three, 0, 0, 0, 0, 0])
    }

    /// The request with this label and these words, if it is one and within the limits.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [one, two, three, ..] = *words;
        Some(match label {
            MOUNT => Self::Mount { flags: MountFlags::from_bits(one)?, commit_seconds: two },
            WATCH => Self::Watch,
            STATUS => Self::Status,
            LOAD => Self::Load { inode: one },
            LIST => Self::List { inode: one, cookie: two },
            XATTRS => Self::Xattrs { inode: one },
            RUNS => Self::Runs { inode: one, offset: two, len_bytes: three },
            RESERVE if three <= MAX_RESERVED => {
                Self::Reserve { parent: one, kind: NewKind::from_number(two)?, count: three }
            }
            APPLY if two <= MAX_OPERATIONS && one > 0 && one.checked_add(two).is_some() => {
                Self::Apply { first: one, count: two }
            }
            COMMIT => Self::Commit { sequence: one },
            SERVE if two < MAX_SERVED => Self::Serve { inode: one, slot: two },
            RELEASE => Self::Release { inode: one },
            REMOUNT => Self::Remount { flags: MountFlags::from_bits(one)? },
            UNMOUNT => Self::Unmount,
            _ => return None,
        })
    }
}

/// Why a request was not served, or an operation not done: the label of an answer, or [`Applied::refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Refused {
    /// Label, words, buffers or handles mean nothing to the server.
    Unknown = 1,
    /// Too many requests of this kind wait already.
    Busy = 2,
    /// The disk can't be read or written.
    DeviceFailed = 3,
    /// The caller's buffer can't be used, or is too small.
    BadBuffer = 4,
    /// The server is new: see the [module](self).
    NotMounted = 16,
    /// It is mounted already.
    Mounted = 17,
    /// Operations before this one are missing.
    OutOfOrder = 18,
    /// There is no file system that the server knows.
    NotAFileSystem = 19,
    /// The file system has features that the server does not know.
    Unsupported = 20,
    /// What is on the disk makes no sense.
    Corrupt = 21,
    /// No block is free.
    NoSpace = 22,
    /// No inode is free.
    NoInodes = 23,
    /// The file system is mounted read-only, or has become so.
    ReadOnly = 24,
    /// There is no such inode or name.
    NotFound = 25,
    /// The name or the inode is there already.
    Exists = 26,
    /// The directory has names.
    NotEmpty = 27,
    /// The inode is not of the kind that this can be done with.
    WrongKind = 28,
    /// The file has as many names as it can.
    TooManyLinks = 29,
    /// A name, a value or a size is longer than there can be.
    TooLarge = 30,
    /// There is a file system, but the checksum of what describes it is wrong.
    BadChecksum = 31,
}

impl Refused {
    const ALL: [Self; 20] = [
        Self::Unknown,
        Self::Busy,
        Self::DeviceFailed,
        Self::BadBuffer,
        Self::NotMounted,
        Self::Mounted,
        Self::OutOfOrder,
        Self::NotAFileSystem,
        Self::Unsupported,
        Self::Corrupt,
        Self::NoSpace,
        Self::NoInodes,
        Self::ReadOnly,
        Self::NotFound,
        Self::Exists,
        Self::NotEmpty,
        Self::WrongKind,
        Self::TooManyLinks,
        Self::TooLarge,
        Self::BadChecksum,
    ];

    /// What an answer's label says: `Ok` if the request was served. A label that nobody defined is taken for
    /// [`Refused::Unknown`].
    pub fn check(label: u64) -> Result<(), Self> {
        if label == crate::ANSWERED {
            return Ok(());
        }
        Err(Self::ALL.into_iter().find(|refused| *refused as u64 == label).unwrap_or(Self::Unknown))
    }

    /// Whether a server that is in its senses answers with this label.
    pub fn is_answer(label: u64) -> bool {
        label == crate::ANSWERED || Self::ALL.into_iter().any(|refused| refused as u64 == label)
    }
}

/// What is free: the words of the answer to [`Request::Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Blocks that are free, also those kept for the superuser.
    pub free_blocks: u64,
    /// Blocks of them that only the superuser may use.
    pub reserved_blocks: u64,
    /// Inodes that are free and not reserved for anybody.
    pub free_inodes: u64,
    /// The last operation that was applied.
    pub applied: u64,
    /// The last operation that is durable.
    pub durable: u64,
}

impl Status {
    /// The words of the answer.
    pub const fn encode(self) -> Words {
        [self.free_blocks, self.reserved_blocks, self.free_inodes, self.applied, self.durable, 0, 0, 0]
    }

    /// What the words say.
    pub const fn decode(words: &Words) -> Self {
        let [free_blocks, reserved_blocks, free_inodes, applied, durable, ..] = *words;
        Self { free_blocks, reserved_blocks, free_inodes, applied, durable }
    }
}

/// The answer to [`Request::Apply`]. Operations that had been applied before are passed over.
///
/// An operation that can't be done does nothing, counts as applied, and is the last of the request that does. What to make of it
/// is the client's business: for an [`Allocate`](operation::Operation::Allocate) it says that there is no room, others should not have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What is free now, and the last operation that was applied.
    pub status: Status,
    /// Why the last one was not done.
    pub refused: Option<Refused>,
}

impl Applied {
    /// The words of the answer.
    pub const fn encode(self) -> Words {
        let mut words = self.status.encode();
        let [.., label] = &mut words;
        *label = match self.refused {
            Some(refused) => refused as u64,
            None => crate::ANSWERED,
        };
        words
    }

    /// What the words say.
    pub fn decode(words: &Words) -> Self {
        let [.., label] = *words;
        Self { status: Status::decode(words), refused: Refused::check(label).err() }
    }
}

/// How much an answer wrote into the receive buffer: words 0 and 1 of the answers that say bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Bytes in the buffer.
    pub len_bytes: u64,
    /// Of `List`: the next cookie. Of `Xattrs`: the bytes that all of them take. Otherwise 0.
    pub next: u64,
}

impl Filled {
    /// The words of the answer.
    pub const fn encode(self) -> Words {
        [self.len_bytes, self.next, 0, 0, 0, 0, 0, 0]
    }

    /// What the words say. The caller must not believe `len_bytes` beyond its buffer's size.
    pub const fn decode(words: &Words) -> Self {
        let [len_bytes, next, ..] = *words;
        Self { len_bytes, next }
    }
}

/// Reads a little-endian number at `offset`, if the bytes reach so far.
fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

/// Reads a little-endian number at `offset`, if the bytes reach so far.
fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

/// Reads a little-endian number at `offset`, if the bytes reach so far.
fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*field))
}

#[cfg(test)]
mod tests;
