//! What is told of an inode: in a listing with its name, from `Load` without; extended attributes; runs of blocks.
//!
//! An entry is [`HEAD_BYTES`] bytes of fields, all little-endian, then the name, then the target of a symbolic link, and zeros up to a
//! multiple of 8.

use super::{MAX_NAME_BYTES, MAX_TARGET_BYTES, read_u16, read_u32, read_u64};
use alloc::vec::Vec;
use bitflags::bitflags;

/// The size of an entry's fields in bytes.
pub const HEAD_BYTES: usize = 112;

bitflags! {
    /// Marks of an inode (`chattr(1)`), with the numbers that `FS_IOC_GETFLAGS` has for them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct InodeFlags: u32 {
        /// Writes are synchronous.
        const SYNC = 0x8;
        /// It can't be changed.
        const IMMUTABLE = 0x10;
        /// It can only be made longer.
        const APPEND_ONLY = 0x20;
        /// `dump` leaves it out.
        const NO_DUMP = 0x40;
        /// Its access time stays.
        const NO_ACCESS_TIME = 0x80;
        /// Changes of the directory are synchronous.
        const SYNC_DIRECTORY = 0x1_0000;
        /// Directories in it are spread over the disk.
        const TOP_DIRECTORY = 0x2_0000;
    }
}

/// What there is to know of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: u64,
    /// Which of those that had the number.
    pub generation: u32,
    /// Type and permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many names it has; 0: it is kept until it is forgotten. In a listing: it can't be read, and nothing but the number and the type
    /// is known.
    pub links: u32,
    /// Its marks.
    pub flags: InodeFlags,
    /// Its size in bytes.
    pub size: u64,
    /// What it takes of the disk, in units of 512 bytes.
    pub blocks: u64,
    /// Last read. All times are Unix time in ns.
    pub accessed: i64,
    /// Last change of the content.
    pub modified: i64,
    /// Last change of anything.
    pub changed: i64,
    /// When it was made; the last change where that is not known.
    pub born: i64,
    /// The device that it names: the major number above the minor number, 32 bits each.
    pub device: u64,
    /// Whether it has extended attributes.
    pub has_xattrs: bool,
}

/// An inode, and the name that it was found by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The inode.
    pub attributes: Attributes,
    /// Its name; empty if it was asked for by its number.
    pub name: &'a [u8],
    /// Of a symbolic link: where it leads.
    pub target: &'a [u8],
}

impl Entry<'_> {
    /// How long it is as bytes.
    pub const fn encoded_bytes(&self) -> usize {
        (HEAD_BYTES + self.name.len() + self.target.len()).next_multiple_of(8)
    }

    /// Appends its bytes. Name and target must not be longer than they can be.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + self.encoded_bytes();
        let a = &self.attributes;
        let lengths = self.name.len() as u64 | (self.target.len() as u64) << 16 | u64::from(a.has_xattrs) << 32;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let fields = [
            lengths,
            a.inode,
            pair(a.generation, a.mode),
            pair(a.uid, a.gid),
            pair(a.links, a.flags.bits()),
            a.size,
            a.blocks,
            a.accessed as u64,
            a.modified as u64,
            a.changed as u64,
            a.born as u64,
            a.device,
        ];
        fields.iter().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes.resize(end - self.encoded_bytes() + HEAD_BYTES, 0);
        bytes.extend_from_slice(self.name);
        bytes.extend_from_slice(self.target);
        bytes.resize(end, 0);
    }
}

/// The first entry in the bytes, and what follows it; `None` if there is none, or it makes no sense.
pub fn split_first(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (name_len, target_len) = (usize::from(read_u16(bytes, 0)?), usize::from(read_u16(bytes, 2)?));
    if name_len > MAX_NAME_BYTES || target_len > MAX_TARGET_BYTES {
        return None;
    }
    let long = |index: usize| read_u64(bytes, 8 * index);
    let short = |index: usize| read_u32(bytes, 4 * index);
    let attributes = Attributes {
        has_xattrs: short(1)? & 1 != 0,
        inode: long(1)?,
        generation: short(4)?,
        mode: short(5)?,
        uid: short(6)?,
        gid: short(7)?,
        links: short(8)?,
        flags: InodeFlags::from_bits_truncate(short(9)?),
        size: long(5)?,
        blocks: long(6)?,
        accessed: long(7)? as i64,
        modified: long(8)? as i64,
        changed: long(9)? as i64,
        born: long(10)? as i64,
        device: long(11)?,
    };
    let (name, rest) = bytes.get(HEAD_BYTES..)?.split_at_checked(name_len)?;
    let target = rest.get(..target_len)?;
    let entry = Entry { attributes, name, target };
    Some((entry, bytes.get(entry.encoded_bytes()..)?))
}

/// All entries in the bytes of an answer; ends at the first that makes no sense.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    sequence(bytes, split_first)
}

/// Extended attributes: the lengths of name and value (32 bits each), both, and zeros up to a multiple of 8.
pub mod xattr {
    use super::{Vec, read_u32, sequence};

    /// An attribute.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Xattr<'a> {
        /// Its name, with the prefix (`user.`…).
        pub name: &'a [u8],
        /// Its value.
        pub value: &'a [u8],
    }

    impl Xattr<'_> {
        /// How long it is as bytes.
        pub const fn encoded_bytes(&self) -> usize {
            (8 + self.name.len() + self.value.len()).next_multiple_of(8)
        }

        /// Appends its bytes.
        pub fn encode(&self, bytes: &mut Vec<u8>) {
            let end = bytes.len() + self.encoded_bytes();
            bytes.extend_from_slice(&(self.name.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(self.value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(self.name);
            bytes.extend_from_slice(self.value);
            bytes.resize(end, 0);
        }
    }

    fn split_first(bytes: &[u8]) -> Option<(Xattr<'_>, &[u8])> {
        let (name_len, value_len) = (read_u32(bytes, 0)? as usize, read_u32(bytes, 4)? as usize);
        let (name, rest) = bytes.get(8..)?.split_at_checked(name_len)?;
        let xattr = Xattr { name, value: rest.get(..value_len)? };
        Some((xattr, bytes.get(xattr.encoded_bytes()..)?))
    }

    /// All in the bytes of an answer; ends at the first that makes no sense.
    pub fn xattrs(bytes: &[u8]) -> impl Iterator<Item = Xattr<'_>> {
        sequence(bytes, split_first)
    }
}

/// Runs of a file's blocks: four numbers of 64 bits each.
pub mod run {
    use super::{Vec, read_u64, sequence};

    /// What a run of blocks is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        /// Nothing: it reads as zeros.
        Hole,
        /// Blocks that nothing was written to: they read as zeros.
        Unwritten,
        /// Blocks with data.
        Data,
    }

    /// A run of a file's blocks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Run {
        /// Where in the file, in bytes.
        pub offset: u64,
        /// How long, in bytes.
        pub len_bytes: u64,
        /// Where on the file system, in bytes; 0 of a hole.
        pub physical: u64,
        /// What it is.
        pub kind: Kind,
    }

    /// The size of a run as bytes.
    pub const RUN_BYTES: usize = 32;

    impl Run {
        /// Appends its bytes.
        pub fn encode(&self, bytes: &mut Vec<u8>) {
            let kind = match self.kind {
                Kind::Hole => 0,
                Kind::Unwritten => 1,
                Kind::Data => 2,
            };
            for field in [self.offset, self.len_bytes, self.physical, kind] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
    }

    fn split_first(bytes: &[u8]) -> Option<(Run, &[u8])> {
        let kind = match read_u64(bytes, 24)? {
            0 => Kind::Hole,
            1 => Kind::Unwritten,
            2 => Kind::Data,
            _ => return None,
        };
        let run =
            Run { offset: read_u64(bytes, 0)?, len_bytes: read_u64(bytes, 8)?, physical: read_u64(bytes, 16)?, kind };
        Some((run, bytes.get(RUN_BYTES..)?))
    }

    /// All in the bytes of an answer; ends at the first that makes no sense.
    pub fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> + '_ {
        sequence(bytes, split_first)
    }
}

/// A first item, and the bytes after it.
pub(super) type Split<'a, T> = Option<(T, &'a [u8])>;

/// What `split_first` finds in the bytes, one after the other.
pub(super) fn sequence<'a, T>(bytes: &'a [u8], split_first: fn(&'a [u8]) -> Split<'a, T>) -> impl Iterator<Item = T> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (first, after) = split_first(rest)?;
        rest = after;
        Some(first)
    })
}
