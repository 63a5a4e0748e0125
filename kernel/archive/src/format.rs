//! The bytes of the archive: records, constants and the checksum.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Contents begin at multiples of this: the size of a page, in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// How many segments the first program may have.
pub const MAX_SEGMENTS: usize = 8;
/// The longest path of an entry, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// The most entries that an archive may have.
pub const MAX_ENTRIES: u32 = 1 << 20;

pub(crate) const MAGIC: [u8; 8] = *b"QUIREARC";
pub(crate) const VERSION: u32 = 1;
/// User programs live below this address (the lower half of the 48-bit address space).
pub(crate) const USER_END: u64 = 1 << 47;

/// What a segment of the first program may be used for: a set of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// The segment may be read.
    pub const READ: Self = Self(1);
    /// The segment may be written.
    pub const WRITE: Self = Self(2);
    /// The segment may be executed.
    pub const EXECUTE: Self = Self(4);

    /// The set with these bits, if no other bit is set.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !7 == 0 { Some(Self(bits)) } else { None }
    }

    /// The set as bits: 1 read, 2 write, 4 execute.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The first bytes of the archive.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct HeaderRecord {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) entry_count: U32,
    pub(crate) total_length: U64,
    pub(crate) index_length: U64,
    /// [`checksum`] of the bytes `0..index_length` with this field zero.
    pub(crate) index_checksum: U64,
}

/// The program that the kernel starts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ProgramRecord {
    pub(crate) entry: U64,
    pub(crate) segment_count: U32,
    pub(crate) reserved: U32,
    pub(crate) segments: [SegmentRecord; MAX_SEGMENTS],
}

/// One segment of the first program.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SegmentRecord {
    pub(crate) offset: U64,
    pub(crate) file_length: U64,
    pub(crate) address: U64,
    pub(crate) memory_length: U64,
    pub(crate) checksum: U64,
    pub(crate) rights: U32,
    pub(crate) reserved: U32,
}

/// `EntryRecord::kind` of a directory.
pub(crate) const KIND_DIRECTORY: u32 = 1;
/// `EntryRecord::kind` of a regular file.
pub(crate) const KIND_FILE: u32 = 2;
/// `EntryRecord::kind` of a symbolic link.
pub(crate) const KIND_SYMLINK: u32 = 3;

/// One entry of the table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EntryRecord {
    pub(crate) path_offset: U32,
    pub(crate) path_length: U32,
    pub(crate) kind: U32,
    /// Permission bits, as in `chmod`: at most 0o7777.
    pub(crate) mode: U32,
    pub(crate) uid: U32,
    pub(crate) gid: U32,
    /// Time of the last change, in seconds since 1970 began.
    pub(crate) modified_s: I64,
    /// A file's content (page-aligned), or the target of a symbolic link (in the index, not aligned).
    pub(crate) offset: U64,
    pub(crate) length: U64,
    pub(crate) checksum: U64,
}

/// Where the table begins.
pub(crate) const TABLE_OFFSET: usize = size_of::<HeaderRecord>() + size_of::<ProgramRecord>();
/// Where the header's own checksum lies.
pub(crate) const CHECKSUM_OFFSET: usize = size_of::<HeaderRecord>() - size_of::<U64>();
const _: () = assert!(CHECKSUM_OFFSET.is_multiple_of(size_of::<u64>()));

/// A checksum that finds any change within one 8-byte word, and others with a chance of 2⁻⁶⁴ to miss: FNV-1a's
/// step over words of 8 bytes (the last one filled with zeros) and a rotation, then the length.
///
/// `blank` names the word (by its number) that counts as zero: the place of the checksum itself.
pub(crate) fn checksum(bytes: &[u8], blank: Option<usize>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    const ROTATE: u32 = 29;
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(ROTATE);

    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = BASIS;
    for (number, word) in words.iter().enumerate() {
        let word = if blank == Some(number) { 0 } else { u64::from_le_bytes(*word) };
        hash = step(hash, word);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    step(step(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// Checksum of an index whose header says `index_checksum`.
pub(crate) fn index_checksum(index: &[u8]) -> u64 {
    checksum(index, Some(CHECKSUM_OFFSET / size_of::<u64>()))
}
