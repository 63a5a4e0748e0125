//! Inodes: what is known of a file beside its names and its contents
//! (Documentation/filesystems/ext4/inodes.rst).

use crate::bytes::{joined, put, put_u16, put_u32, slice, u16_at, u32_at};
use crate::checksum::crc32c;
use crate::error::{Error, Place, Result};
use crate::superblock::{Superblock, incompatible, read_only_compatible};

/// Bytes of the field that maps a file's blocks.
pub const MAP_BYTES: usize = 60;
/// Bytes of an inode without the extra fields.
const OLD_BYTES: usize = 128;
/// Begins extended attributes.
pub(crate) const ATTRIBUTES_MAGIC: u32 = 0xEA02_0000;
/// Bytes of a sector, the unit of [`Inode::sectors`].
const SECTOR_BYTES: u64 = 512;

/// Inode flags.
pub mod flag {
    /// The directory has a hash tree.
    pub const INDEX: u32 = 0x1000;
    /// Blocks are counted in blocks, not sectors.
    pub const HUGE_FILE: u32 = 0x4_0000;
    /// The map is a tree of extents.
    pub const EXTENTS: u32 = 0x8_0000;
    /// The contents are in the inode.
    pub const INLINE_DATA: u32 = 0x1000_0000;
    /// What new files inherit from their directory: sync, nodump, noatime, and so on.
    pub const INHERITED: u32 = 0x8 | 0x40 | 0x80 | 0x1_0000 | 0x2_0000;
}

/// What an inode is, as in the upper bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A file with contents.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A local socket.
    Socket,
}

impl FileKind {
    /// The kind in the upper bits of a mode.
    #[must_use]
    pub fn of_mode(mode: u16) -> Option<Self> {
        Some(match mode >> 12 {
            0o01 => Self::Fifo,
            0o02 => Self::CharacterDevice,
            0o04 => Self::Directory,
            0o06 => Self::BlockDevice,
            0o10 => Self::Regular,
            0o12 => Self::Symlink,
            0o14 => Self::Socket,
            _ => return None,
        })
    }

    /// The upper bits of a mode.
    #[must_use]
    pub fn mode(self) -> u16 {
        let bits = match self {
            Self::Fifo => 0o01,
            Self::CharacterDevice => 0o02,
            Self::Directory => 0o04,
            Self::BlockDevice => 0o06,
            Self::Regular => 0o10,
            Self::Symlink => 0o12,
            Self::Socket => 0o14,
        };
        bits << 12
    }

    /// The code in a directory entry.
    #[must_use]
    pub fn entry_code(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// The kind that a directory entry's code names; none if it is not told there.
    #[must_use]
    pub fn of_entry_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharacterDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return None,
        })
    }
}

/// A time, counted from 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds beyond the second, below a thousand million.
    pub nanoseconds: u32,
}

/// The last second that fits into 34 bits from 1901.
const LAST_SECOND: i64 = 0x3_7FFF_FFFF;

impl Time {
    fn load(low: u32, extra: Option<u32>) -> Self {
        let seconds = i64::from(low.cast_signed());
        match extra {
            None => Self { seconds, nanoseconds: 0 },
            Some(extra) => {
                let nanoseconds = (extra >> 2).min(999_999_999);
                Self { seconds: seconds + (i64::from(extra & 3) << 32), nanoseconds }
            }
        }
    }

    /// The two fields of a time that has both.
    fn wide(self) -> (u32, u32) {
        let seconds = self.seconds.clamp(i64::from(i32::MIN), LAST_SECOND);
        let low = seconds as u32;
        let epoch = (seconds - i64::from(low.cast_signed())) >> 32;
        (low, (epoch as u32 & 3) | self.nanoseconds << 2)
    }

    /// The only field of a time without the extra one.
    fn narrow(self) -> u32 {
        self.seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32
    }
}

/// An inode, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// Kind and permissions.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of the contents.
    pub size: u64,
    /// Names, and for directories their `.` and the `..` of the ones below; 1 for directories with too many to count.
    pub links: u16,
    /// Sectors of 512 bytes that it takes.
    pub sectors: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Last change of the contents.
    pub modified: Time,
    /// When it was made; zero if the inode has no room for it.
    pub created: Time,
    /// When it was deleted, in seconds; or the next on the list of orphans.
    pub(crate) deleted: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Distinguishes those that had the same number one after the other.
    pub generation: u32,
    /// The block of extended attributes, 0 for none.
    pub(crate) attribute_block: u64,
    /// The map of the blocks, or a short symbolic link, or a device's number.
    pub(crate) map: [u8; MAP_BYTES],
    /// Bytes of fields beyond the first 128.
    pub(crate) extra_bytes: u16,
    /// Whether it may have extended attributes.
    pub has_attributes: bool,
}

impl Inode {
    /// An inode as it was never used.
    pub(crate) fn new(number: u32, superblock: &Superblock) -> Self {
        Self {
            number,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            links: 0,
            sectors: 0,
            accessed: Time::default(),
            changed: Time::default(),
            modified: Time::default(),
            created: Time::default(),
            deleted: 0,
            flags: 0,
            generation: 0,
            attribute_block: 0,
            map: [0; MAP_BYTES],
            extra_bytes: superblock.extra_inode_bytes,
            has_attributes: false,
        }
    }

    /// Takes apart the inode that starts `bytes`, which are as many as an inode has.
    pub(crate) fn parse(superblock: &Superblock, number: u32, bytes: &[u8]) -> Result<Self> {
        let corrupt = |what| Error::corrupt(what, Place::Inode(number));
        let mode = u16_at(bytes, 0);
        if mode == 0 {
            return Err(Error::NotFound);
        }
        if superblock.has_checksums() && !checksum_holds(superblock, number, bytes) {
            return Err(corrupt("checksum of an inode"));
        }
        let kind = FileKind::of_mode(mode).ok_or_else(|| corrupt("mode"))?;
        let extra_bytes = if bytes.len() > OLD_BYTES { u16_at(bytes, 0x80) } else { 0 };
        if OLD_BYTES + usize::from(extra_bytes) > bytes.len() || !extra_bytes.is_multiple_of(4) {
            return Err(corrupt("size of the extra fields"));
        }
        let extra = |at: usize| (at + 4 <= OLD_BYTES + usize::from(extra_bytes)).then(|| u32_at(bytes, at));
        let flags = u32_at(bytes, 0x20);
        if flags & flag::INLINE_DATA != 0 {
            return Err(Error::Unsupported("contents within the inode"));
        }
        let attribute_block = joined(u32_at(bytes, 0x68), u32::from(u16_at(bytes, 0x76)));
        let behind_fields = OLD_BYTES + usize::from(extra_bytes);
        let inode = Self {
            number,
            mode,
            uid: u32::from(u16_at(bytes, 2)) | u32::from(u16_at(bytes, 0x78)) << 16,
            gid: u32::from(u16_at(bytes, 0x18)) | u32::from(u16_at(bytes, 0x7A)) << 16,
            size: joined(u32_at(bytes, 4), if has_wide_size(superblock, kind) { u32_at(bytes, 0x6C) } else { 0 }),
            links: u16_at(bytes, 0x1A),
            sectors: sectors_of(superblock, flags, bytes),
            accessed: Time::load(u32_at(bytes, 8), extra(0x8C)),
            changed: Time::load(u32_at(bytes, 0xC), extra(0x84)),
            modified: Time::load(u32_at(bytes, 0x10), extra(0x88)),
            created: extra(0x90).map_or(Time::default(), |low| Time::load(low, extra(0x94))),
            deleted: u32_at(bytes, 0x14),
            flags,
            generation: u32_at(bytes, 0x64),
            attribute_block,
            has_attributes: attribute_block != 0 || u32_at(bytes, behind_fields) == ATTRIBUTES_MAGIC,
            map: slice(bytes, 0x28, MAP_BYTES).try_into().unwrap_or([0; MAP_BYTES]),
            extra_bytes,
        };
        let most = if kind == FileKind::Directory { u64::from(u32::MAX) * 512 } else { i64::MAX as u64 };
        if inode.size > most || inode.attribute_block >= superblock.blocks {
            return Err(corrupt("size or attributes of an inode"));
        }
        Ok(inode)
    }

    /// Writes the fields over the inode that starts `bytes`, whose other bytes stay, and its checksum.
    pub(crate) fn store(&self, superblock: &Superblock, bytes: &mut [u8]) {
        put_u16(bytes, 0, self.mode);
        put_u16(bytes, 2, (self.uid & 0xFFFF) as u16);
        put_u16(bytes, 0x78, (self.uid >> 16) as u16);
        put_u16(bytes, 0x18, (self.gid & 0xFFFF) as u16);
        put_u16(bytes, 0x7A, (self.gid >> 16) as u16);
        put_u32(bytes, 4, self.size as u32);
        if self.kind().is_some_and(|kind| has_wide_size(superblock, kind)) {
            put_u32(bytes, 0x6C, (self.size >> 32) as u32);
        }
        put_u32(bytes, 0x14, self.deleted);
        put_u16(bytes, 0x1A, self.links);
        let flags = self.store_sectors(superblock, bytes);
        put_u32(bytes, 0x20, flags);
        put(bytes, 0x28, &self.map);
        put_u32(bytes, 0x64, self.generation);
        put_u32(bytes, 0x68, self.attribute_block as u32);
        put_u16(bytes, 0x76, (self.attribute_block >> 32) as u16);
        if bytes.len() > OLD_BYTES {
            put_u16(bytes, 0x80, self.extra_bytes);
        }
        self.store_time(bytes, self.accessed, 8, 0x8C);
        self.store_time(bytes, self.changed, 0xC, 0x84);
        self.store_time(bytes, self.modified, 0x10, 0x88);
        if self.has_field(0x90) {
            self.store_time(bytes, self.created, 0x90, 0x94);
        }
        if superblock.has_checksums() {
            store_checksum(superblock, self.number, bytes);
        }
    }

    /// Whether the inode has the 32-bit field at `at`.
    fn has_field(&self, at: usize) -> bool {
        at + 4 <= OLD_BYTES + usize::from(self.extra_bytes)
    }

    fn store_time(&self, bytes: &mut [u8], time: Time, low: usize, extra: usize) {
        if self.has_field(extra) {
            let (seconds, rest) = time.wide();
            put_u32(bytes, low, seconds);
            put_u32(bytes, extra, rest);
        } else {
            put_u32(bytes, low, time.narrow());
        }
    }

    /// Writes how much it takes; gives the flags that tell the unit.
    fn store_sectors(&self, superblock: &Superblock, bytes: &mut [u8]) -> u32 {
        let in_blocks = self.sectors >= 1 << 48;
        let count =
            if in_blocks { self.sectors / (u64::from(superblock.block_bytes) / SECTOR_BYTES) } else { self.sectors };
        put_u32(bytes, 0x1C, count as u32);
        if superblock.features.writes(read_only_compatible::HUGE_FILE) {
            put_u16(bytes, 0x74, (count >> 32) as u16);
        }
        if in_blocks { self.flags | flag::HUGE_FILE } else { self.flags & !flag::HUGE_FILE }
    }

    /// What it is; none only for one that is not in use.
    #[must_use]
    pub fn kind(&self) -> Option<FileKind> {
        FileKind::of_mode(self.mode)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind() == Some(FileKind::Directory)
    }

    /// Whether its map is a tree of extents.
    #[must_use]
    pub fn has_extents(&self) -> bool {
        self.flags & flag::EXTENTS != 0
    }

    /// Whether its map field is a map of blocks, and not a short symbolic link or a device's number.
    #[must_use]
    pub fn has_map(&self) -> bool {
        match self.kind() {
            Some(FileKind::Regular | FileKind::Directory) => true,
            Some(FileKind::Symlink) => !self.is_short_symlink(),
            Some(FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket) | None => false,
        }
    }

    /// Whether it is a symbolic link whose target is in the inode.
    #[must_use]
    pub fn is_short_symlink(&self) -> bool {
        self.kind() == Some(FileKind::Symlink) && self.size < MAP_BYTES as u64
    }

    /// Major and minor number of a device.
    #[must_use]
    pub fn device(&self) -> Option<(u32, u32)> {
        if !matches!(self.kind(), Some(FileKind::CharacterDevice | FileKind::BlockDevice)) {
            return None;
        }
        let (old, new) = (u32_at(&self.map, 0), u32_at(&self.map, 4));
        if old != 0 {
            return Some((old >> 8 & 0xFF, old & 0xFF));
        }
        Some((new >> 8 & 0xFFF, (new & 0xFF) | (new >> 12 & 0xF_FF00)))
    }

    /// Sets the number of a device: 12 bits of major, 20 of minor.
    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        self.map = [0; MAP_BYTES];
        if major < 256 && minor < 256 {
            put_u32(&mut self.map, 0, major << 8 | minor);
        } else {
            put_u32(&mut self.map, 4, (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xF_FF00) << 12);
        }
    }

    /// The start of the checksums of what belongs to it.
    pub(crate) fn seed(&self, superblock: &Superblock) -> u32 {
        seed(superblock, self.number, self.generation)
    }

    /// Counts blocks that it takes in addition.
    pub(crate) fn add_blocks(&mut self, superblock: &Superblock, blocks: u64) {
        self.sectors = self.sectors.saturating_add(blocks * (u64::from(superblock.block_bytes) / SECTOR_BYTES));
    }

    /// Counts blocks that it no longer takes.
    pub(crate) fn remove_blocks(&mut self, superblock: &Superblock, blocks: u64) {
        self.sectors = self.sectors.saturating_sub(blocks * (u64::from(superblock.block_bytes) / SECTOR_BYTES));
    }

    /// Blocks of contents up to its size.
    pub(crate) fn size_blocks(&self, superblock: &Superblock) -> u64 {
        self.size.div_ceil(u64::from(superblock.block_bytes))
    }
}

fn has_wide_size(superblock: &Superblock, kind: FileKind) -> bool {
    kind == FileKind::Regular
        || kind == FileKind::Directory && superblock.features.needs(incompatible::LARGE_DIRECTORIES)
}

fn sectors_of(superblock: &Superblock, flags: u32, bytes: &[u8]) -> u64 {
    let low = u32_at(bytes, 0x1C);
    if !superblock.features.writes(read_only_compatible::HUGE_FILE) {
        return u64::from(low);
    }
    let count = joined(low, u32::from(u16_at(bytes, 0x74)));
    if flags & flag::HUGE_FILE == 0 { count } else { count * (u64::from(superblock.block_bytes) / SECTOR_BYTES) }
}

fn seed(superblock: &Superblock, number: u32, generation: u32) -> u32 {
    let sum = crc32c(superblock.checksum_seed, &number.to_le_bytes());
    crc32c(sum, &generation.to_le_bytes())
}

/// Whether the inode has the upper half of the checksum.
fn has_wide_checksum(bytes: &[u8]) -> bool {
    bytes.len() > OLD_BYTES && u16_at(bytes, 0x80) >= 4
}

fn checksum(superblock: &Superblock, number: u32, bytes: &[u8]) -> u32 {
    let sum = seed(superblock, number, u32_at(bytes, 0x64));
    let sum = crc32c(crc32c(sum, slice(bytes, 0, 0x7C)), &[0; 2]);
    let sum = crc32c(sum, slice(bytes, 0x7E, OLD_BYTES - 0x7E));
    if !has_wide_checksum(bytes) {
        return crc32c(sum, slice(bytes, OLD_BYTES, usize::MAX));
    }
    let sum = crc32c(crc32c(sum, slice(bytes, OLD_BYTES, 2)), &[0; 2]);
    crc32c(sum, slice(bytes, 0x84, usize::MAX))
}

fn checksum_holds(superblock: &Superblock, number: u32, bytes: &[u8]) -> bool {
    let sum = checksum(superblock, number, bytes);
    let low = u32::from(u16_at(bytes, 0x7C));
    if has_wide_checksum(bytes) { low | u32::from(u16_at(bytes, 0x82)) << 16 == sum } else { low == sum & 0xFFFF }
}

/// Writes the checksum of the inode in `bytes`.
pub(crate) fn store_checksum(superblock: &Superblock, number: u32, bytes: &mut [u8]) {
    let sum = checksum(superblock, number, bytes);
    put_u16(bytes, 0x7C, (sum & 0xFFFF) as u16);
    if has_wide_checksum(bytes) {
        put_u16(bytes, 0x82, (sum >> 16) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_four_centuries_come_back() {
        for seconds in [i64::from(i32::MIN), -1, 0, 1, 0x7FFF_FFFF, 0x8000_0000, 0x1_0000_0000, LAST_SECOND] {
            let time = Time { seconds, nanoseconds: 999_999_999 };
            let (low, extra) = time.wide();
            assert_eq!(Time::load(low, Some(extra)), time);
        }
    }

    #[test]
    fn times_without_the_extra_field_end_in_2038() {
        let time = Time { seconds: 1 << 40, nanoseconds: 5 };
        assert_eq!(Time::load(time.narrow(), None), Time { seconds: i64::from(i32::MAX), nanoseconds: 0 });
    }
}
