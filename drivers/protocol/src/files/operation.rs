//! Operations: what was done to the names and attributes of a file system, in order.
//!
//! An operation is a head of 8 bytes (kind, a byte that is 0, the length of the first bytes (16 bits), that of the second (32 bits)), ten numbers of
//! 64 bits, the bytes, and zeros up to a multiple of 8; all little-endian.
//!
//! Times are Unix time in ns. Who does an operation has checked that it can be done.

use super::entry::InodeFlags;
use super::{MAX_NAME_BYTES, MAX_TARGET_BYTES, read_u16, read_u32, read_u64};
use alloc::vec::Vec;
use bitflags::bitflags;

/// The size of an operation without its bytes.
pub const HEAD_BYTES: usize = 8 + 8 * FIELDS;
/// The most bytes that one operation takes.
pub const MAX_BYTES: usize = HEAD_BYTES + (1 << 16) + MAX_NAME_BYTES + 8;
/// The longest value of an extended attribute that fits an operation, in bytes.
pub const MAX_VALUE_BYTES: usize = 60 << 10;
const FIELDS: usize = 10;

bitflags! {
    /// Which attributes an operation sets.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Set: u32 {
        /// The permissions.
        const MODE = 1 << 0;
        /// The owner.
        const UID = 1 << 1;
        /// The group.
        const GID = 1 << 2;
        /// The size: what lies beyond is cut off, blocks set aside there too; what is added is a hole.
        const SIZE = 1 << 3;
        /// When it was last read.
        const ACCESSED = 1 << 4;
        /// When its content last changed.
        const MODIFIED = 1 << 5;
        /// When anything last changed.
        const CHANGED = 1 << 6;
        /// The marks.
        const FLAGS = 1 << 7;
        /// The size, of a file that is not shorter than before and to which was stored what is added. A power cut may leave it as long
        /// as what was written back of it: who succeeds a server that has died has to be told again.
        const GROWN = 1 << 8;
    }
}

/// Values for attributes; those that [`Set`] names count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Permissions; type bits are ignored.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The marks.
    pub flags: InodeFlags,
    /// The size in bytes.
    pub size: u64,
    /// Last read.
    pub accessed: i64,
    /// Last change of the content.
    pub modified: i64,
    /// Last change of anything.
    pub changed: i64,
}

/// How a name is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Rename {
    /// A file that has the new name loses it.
    Replace = 0,
    /// The two exchange their names.
    Exchange = 1,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A new inode got its first name. Its times, and the parent's of modification and change, become `time`.
    Create {
        /// The directory; 0 with an empty name: it has no name, and is kept until it is forgotten or gets one.
        parent: u64,
        /// A number that was reserved.
        inode: u64,
        /// The name.
        name: &'a [u8],
        /// Type and permissions.
        mode: u32,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// When.
        time: i64,
        /// Of a device: the major number above the minor number, 32 bits each.
        device: u64,
        /// Of a symbolic link: where it leads.
        target: &'a [u8],
    },
    /// A file that is no directory got one more name, or its first.
    Link {
        /// The directory.
        parent: u64,
        /// The file.
        inode: u64,
        /// The name.
        name: &'a [u8],
        /// When.
        time: i64,
    },
    /// A name is gone. If it was the last one of the file, that is kept until it is forgotten.
    Unlink {
        /// The directory.
        parent: u64,
        /// The file.
        inode: u64,
        /// The name.
        name: &'a [u8],
        /// When.
        time: i64,
    },
    /// An empty directory lost its name; it is kept until it is forgotten.
    RemoveDirectory {
        /// The directory that it was in.
        parent: u64,
        /// The directory.
        inode: u64,
        /// The name.
        name: &'a [u8],
        /// When.
        time: i64,
    },
    /// A file has another name, or two have each other's. A file that loses its last name is kept until it is forgotten.
    Rename {
        /// The directory of the old name.
        old_parent: u64,
        /// The old name.
        old_name: &'a [u8],
        /// The directory of the new one.
        new_parent: u64,
        /// The new one.
        new_name: &'a [u8],
        /// What had the old name.
        inode: u64,
        /// What had the new name; 0: nothing.
        other: u64,
        /// How.
        how: Rename,
        /// When.
        time: i64,
    },
    /// Attributes have other values.
    SetAttributes {
        /// Whose.
        inode: u64,
        /// Which.
        set: Set,
        /// The values.
        values: Values,
    },
    /// An extended attribute has this value.
    SetXattr {
        /// Whose.
        inode: u64,
        /// Its name, with the prefix.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When.
        time: i64,
    },
    /// An extended attribute is gone.
    RemoveXattr {
        /// Whose.
        inode: u64,
        /// Its name, with the prefix.
        name: &'a [u8],
        /// When.
        time: i64,
    },
    /// Every block of a range is there, whether or not something was written to it; the size stays.
    Allocate {
        /// Whose.
        inode: u64,
        /// From here on, in bytes.
        offset: u64,
        /// So many bytes.
        len_bytes: u64,
    },
    /// The blocks that lie in a range whole are gone; the size stays.
    Punch {
        /// Whose.
        inode: u64,
        /// From here on, in bytes.
        offset: u64,
        /// So many bytes.
        len_bytes: u64,
    },
    /// Nobody has a file without names open any more.
    Forget {
        /// Which.
        inode: u64,
    },
}

const CREATE: u8 = 1;
const LINK: u8 = 2;
const UNLINK: u8 = 3;
const REMOVE_DIRECTORY: u8 = 4;
const RENAME: u8 = 5;
const SET_ATTRIBUTES: u8 = 6;
const SET_XATTR: u8 = 7;
const REMOVE_XATTR: u8 = 8;
const ALLOCATE: u8 = 9;
const PUNCH: u8 = 10;
const FORGET: u8 = 11;

/// An operation as it travels.
struct Raw<'a> {
    kind: u8,
    fields: [u64; FIELDS],
    first: &'a [u8],
    second: &'a [u8],
}

const fn fields<const N: usize>(given: [u64; N]) -> [u64; FIELDS] {
    let mut all = [0; FIELDS];
    let mut index = 0;
    while index < N && index < FIELDS {
        all[index] = given[index];
        index += 1;
    }
    all
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

const fn halves(both: u64) -> (u32, u32) {
    (both as u32, (both >> 32) as u32)
}

impl<'a> Operation<'a> {
    /// How long it is as bytes.
    pub const fn encoded_bytes(&self) -> usize {
        let bytes = match self {
            Self::Create { name, target, .. } => name.len() + target.len(),
            Self::Rename { old_name, new_name, .. } => old_name.len() + new_name.len(),
            Self::SetXattr { name, value, .. } => name.len() + value.len(),
            Self::Link { name, .. }
            | Self::Unlink { name, .. }
            | Self::RemoveDirectory { name, .. }
            | Self::RemoveXattr { name, .. } => name.len(),
            Self::SetAttributes { .. } | Self::Allocate { .. } | Self::Punch { .. } | Self::Forget { .. } => 0,
        };
        (HEAD_BYTES + bytes).next_multiple_of(8)
    }

    /// Appends its bytes. Names, targets and values must not be longer than they can be.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + self.encoded_bytes();
        let Raw { kind, fields, first, second } = self.raw();
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&(first.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(second.len() as u32).to_le_bytes());
        fields.iter().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        bytes.resize(end, 0);
    }

    const fn raw(&self) -> Raw<'a> {
        const NONE: &[u8] = &[];
        let (kind, fields, first, second) = match *self {
            Self::Create { parent, inode, name, mode, uid, gid, time, device, target } => {
                (CREATE, fields([parent, inode, time as u64, mode as u64, pair(uid, gid), device]), name, target)
            }
            Self::Link { parent, inode, name, time } => (LINK, fields([parent, inode, time as u64]), name, NONE),
            Self::Unlink { parent, inode, name, time } => (UNLINK, fields([parent, inode, time as u64]), name, NONE),
            Self::RemoveDirectory { parent, inode, name, time } => {
                (REMOVE_DIRECTORY, fields([parent, inode, time as u64]), name, NONE)
            }
            Self::Rename { old_parent, old_name, new_parent, new_name, inode, other, how, time } => {
                let numbers = fields([old_parent, inode, time as u64, new_parent, other, how as u64]);
                (RENAME, numbers, old_name, new_name)
            }
            Self::SetAttributes { inode, set, values } => (SET_ATTRIBUTES, set_fields(inode, set, &values), NONE, NONE),
            Self::SetXattr { inode, name, value, time } => (SET_XATTR, fields([0, inode, time as u64]), name, value),
            Self::RemoveXattr { inode, name, time } => (REMOVE_XATTR, fields([0, inode, time as u64]), name, NONE),
            Self::Allocate { inode, offset, len_bytes } => {
                (ALLOCATE, fields([0, inode, 0, offset, len_bytes]), NONE, NONE)
            }
            Self::Punch { inode, offset, len_bytes } => (PUNCH, fields([0, inode, 0, offset, len_bytes]), NONE, NONE),
            Self::Forget { inode } => (FORGET, fields([0, inode]), NONE, NONE),
        };
        Raw { kind, fields, first, second }
    }

    /// The operation at the start of the bytes, and what follows it; `None` if it makes no sense or is cut off.
    pub fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (raw, rest) = Raw::split_first(bytes)?;
        Some((raw.operation()?, rest))
    }

    /// The inode that it is about.
    pub const fn inode(&self) -> u64 {
        match *self {
            Self::Create { inode, .. }
            | Self::Link { inode, .. }
            | Self::Unlink { inode, .. }
            | Self::RemoveDirectory { inode, .. }
            | Self::Rename { inode, .. }
            | Self::SetAttributes { inode, .. }
            | Self::SetXattr { inode, .. }
            | Self::RemoveXattr { inode, .. }
            | Self::Allocate { inode, .. }
            | Self::Punch { inode, .. }
            | Self::Forget { inode } => inode,
        }
    }
}

const fn set_fields(inode: u64, set: Set, values: &Values) -> [u64; FIELDS] {
    fields([
        0,
        inode,
        0,
        pair(set.bits(), values.mode),
        pair(values.uid, values.gid),
        values.flags.bits() as u64,
        values.size,
        values.accessed as u64,
        values.modified as u64,
        values.changed as u64,
    ])
}

impl<'a> Raw<'a> {
    fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let kind = *bytes.first()?;
        let (first_len, second_len) = (usize::from(read_u16(bytes, 2)?), read_u32(bytes, 4)? as usize);
        if first_len > MAX_NAME_BYTES || second_len > MAX_VALUE_BYTES {
            return None;
        }
        let mut fields = [0; FIELDS];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = read_u64(bytes, 8 + 8 * index)?;
        }
        let (first, rest) = bytes.get(HEAD_BYTES..)?.split_at_checked(first_len)?;
        let second = rest.get(..second_len)?;
        let end = (HEAD_BYTES + first_len + second_len).next_multiple_of(8);
        Some((Self { kind, fields, first, second }, bytes.get(end..)?))
    }

    fn operation(&self) -> Option<Operation<'a>> {
        let [parent, inode, time, three, four, five, size, accessed, modified, changed] = self.fields;
        let (name, time) = (self.first, time as i64);
        Some(match self.kind {
            CREATE if self.second.len() <= MAX_TARGET_BYTES && (parent == 0) == name.is_empty() => {
                let (uid, gid) = halves(four);
                let mode = u32::try_from(three).ok()?;
                Operation::Create { parent, inode, name, mode, uid, gid, time, device: five, target: self.second }
            }
            LINK if !name.is_empty() => Operation::Link { parent, inode, name, time },
            UNLINK if !name.is_empty() => Operation::Unlink { parent, inode, name, time },
            REMOVE_DIRECTORY if !name.is_empty() => Operation::RemoveDirectory { parent, inode, name, time },
            RENAME => self.rename()?,
            SET_ATTRIBUTES => {
                let ((set, mode), (uid, gid)) = (halves(three), halves(four));
                let values = Values {
                    mode,
                    uid,
                    gid,
                    flags: InodeFlags::from_bits(u32::try_from(five).ok()?)?,
                    size,
                    accessed: accessed as i64,
                    modified: modified as i64,
                    changed: changed as i64,
                };
                Operation::SetAttributes { inode, set: Set::from_bits(set)?, values }
            }
            SET_XATTR if !name.is_empty() => Operation::SetXattr { inode, name, value: self.second, time },
            REMOVE_XATTR if !name.is_empty() => Operation::RemoveXattr { inode, name, time },
            ALLOCATE => Operation::Allocate { inode, offset: three, len_bytes: four },
            PUNCH => Operation::Punch { inode, offset: three, len_bytes: four },
            FORGET => Operation::Forget { inode },
            _ => return None,
        })
    }

    fn rename(&self) -> Option<Operation<'a>> {
        let [old_parent, inode, time, new_parent, other, how, ..] = self.fields;
        let (old_name, new_name) = (self.first, self.second);
        let how = match how {
            0 => Rename::Replace,
            1 => Rename::Exchange,
            _ => return None,
        };
        if old_name.is_empty() || new_name.is_empty() || new_name.len() > MAX_NAME_BYTES {
            return None;
        }
        Some(Operation::Rename { old_parent, old_name, new_parent, new_name, inode, other, how, time: time as i64 })
    }
}

/// All operations in the bytes; ends at the first that makes no sense.
pub fn operations(bytes: &[u8]) -> impl Iterator<Item = Operation<'_>> {
    super::entry::sequence(bytes, Operation::split_first)
}
