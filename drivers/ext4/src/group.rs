//! Group descriptors: where a group's bitmaps and inodes are, and how much of it is free
//! (Documentation/filesystems/ext4/group_descr.rst).

use crate::bytes::{joined, put_u16, slice, slice_mut, u16_at, u32_at};
use crate::checksum::{crc16, crc32c};
use crate::error::{Error, Place, Result};
use crate::superblock::Superblock;

/// The group's inode bitmap and table were never written.
pub const INODES_UNINITIALISED: u16 = 1;
/// The group's block bitmap was never written.
pub const BLOCKS_UNINITIALISED: u16 = 2;

const CHECKSUM: usize = 0x1E;
/// Descriptors of at least this size have the high halves of their fields.
const WIDE_BYTES: usize = 64;

/// A group descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The block with the bitmap of blocks.
    pub block_bitmap: u64,
    /// The block with the bitmap of inodes.
    pub inode_bitmap: u64,
    /// The first block of the inodes.
    pub inode_table: u64,
    /// Free blocks.
    pub free_blocks: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Inodes that are directories.
    pub directories: u32,
    /// Inodes at the end of the table that were never used.
    pub unused_inodes: u32,
    /// What is not initialised; 0 where descriptors have no checksums.
    pub flags: u16,
    /// The checksum of the block bitmap.
    pub block_bitmap_checksum: u32,
    /// The checksum of the inode bitmap.
    pub inode_bitmap_checksum: u32,
}

impl Group {
    /// Reads the descriptor of group `number` at the start of `bytes`. Its checksum is [checked](check_block) when its block is
    /// read.
    ///
    /// # Errors
    /// It points outside the file system, or counts more than there is.
    pub fn parse(superblock: &Superblock, number: u32, bytes: &[u8]) -> Result<Self> {
        let bytes = slice(bytes, 0, usize::from(superblock.descriptor_bytes));
        let corrupt = |what| Error::corrupt(what, Place::Group(number));
        let wide = bytes.len() >= WIDE_BYTES;
        let half =
            |low, high| u32::from(u16_at(bytes, low)) | if wide { u32::from(u16_at(bytes, high)) << 16 } else { 0 };
        let whole = |low, high| joined(u32_at(bytes, low), if wide { u32_at(bytes, high) } else { 0 });
        let group = Self {
            block_bitmap: whole(0, 0x20),
            inode_bitmap: whole(4, 0x24),
            inode_table: whole(8, 0x28),
            free_blocks: half(0xC, 0x2C),
            free_inodes: half(0xE, 0x2E),
            directories: half(0x10, 0x30),
            unused_inodes: if superblock.has_group_flags() { half(0x1C, 0x32) } else { 0 },
            flags: if superblock.has_group_flags() { u16_at(bytes, 0x12) } else { 0 },
            block_bitmap_checksum: half(0x18, 0x38),
            inode_bitmap_checksum: half(0x1A, 0x3A),
        };
        group.check(superblock).then_some(group).ok_or_else(|| corrupt("group descriptor"))
    }

    fn check(&self, superblock: &Superblock) -> bool {
        let within = |block: u64| block > u64::from(superblock.first_data_block) && block < superblock.blocks;
        let table_blocks = table_blocks(superblock);
        let table_end = self.inode_table.saturating_add(table_blocks);
        within(self.block_bitmap)
            && within(self.inode_bitmap)
            && within(self.inode_table)
            && table_end <= superblock.blocks
            && self.free_blocks <= superblock.blocks_per_group
            && self.free_inodes <= superblock.inodes_per_group
            && self.directories <= superblock.inodes_per_group
            && self.unused_inodes <= superblock.inodes_per_group
    }

    /// Writes what changes (counts, flags, the bitmaps' checksums) into the descriptor at the start of `bytes`, and its checksum.
    pub fn store(&self, superblock: &Superblock, number: u32, bytes: &mut [u8]) {
        let bytes = slice_mut(bytes, 0, usize::from(superblock.descriptor_bytes));
        let wide = bytes.len() >= WIDE_BYTES;
        let mut half = |low, high, value: u32| {
            put_u16(bytes, low, (value & 0xFFFF) as u16);
            if wide {
                put_u16(bytes, high, (value >> 16) as u16);
            }
        };
        half(0xC, 0x2C, self.free_blocks);
        half(0xE, 0x2E, self.free_inodes);
        half(0x10, 0x30, self.directories);
        if superblock.has_group_flags() {
            half(0x1C, 0x32, self.unused_inodes);
        }
        if superblock.has_checksums() {
            half(0x18, 0x38, self.block_bitmap_checksum);
            half(0x1A, 0x3A, self.inode_bitmap_checksum);
        }
        if superblock.has_group_flags() {
            put_u16(bytes, 0x12, self.flags);
        }
        if let Some(sum) = checksum(superblock, number, bytes) {
            put_u16(bytes, CHECKSUM, sum);
        }
    }

    /// As much of a bitmap's checksum as a descriptor keeps.
    #[must_use]
    pub fn kept_checksum(superblock: &Superblock, sum: u32) -> u32 {
        if usize::from(superblock.descriptor_bytes) >= WIDE_BYTES { sum } else { sum & 0xFFFF }
    }
}

/// Checks the checksums of a block of descriptors, of which the first is that of group `first`.
///
/// # Errors
/// One is wrong.
pub fn check_block(superblock: &Superblock, first: u32, bytes: &[u8]) -> Result<()> {
    for (number, descriptor) in (first..superblock.groups).zip(bytes.chunks(usize::from(superblock.descriptor_bytes))) {
        if checksum(superblock, number, descriptor).is_some_and(|sum| sum != u16_at(descriptor, CHECKSUM)) {
            return Err(Error::corrupt("checksum of a group descriptor", Place::Group(number)));
        }
    }
    Ok(())
}

/// Blocks that the inodes of a group take.
#[must_use]
pub fn table_blocks(superblock: &Superblock) -> u64 {
    let bytes = u64::from(superblock.inodes_per_group) * u64::from(superblock.inode_bytes);
    bytes.div_ceil(u64::from(superblock.block_bytes))
}

/// The checksum that a descriptor should have; none if there are no checksums.
fn checksum(superblock: &Superblock, number: u32, bytes: &[u8]) -> Option<u16> {
    let (before, after) = (slice(bytes, 0, CHECKSUM), slice(bytes, CHECKSUM + 2, usize::MAX));
    let number = number.to_le_bytes();
    if superblock.has_checksums() {
        let sum = crc32c(crc32c(superblock.checksum_seed, &number), before);
        return Some((crc32c(crc32c(sum, &[0; 2]), after) & 0xFFFF) as u16);
    }
    let sum = || crc16(crc16(crc16(crc16(!0, &superblock.uuid), &number), before), after);
    superblock.has_group_flags().then(sum)
}
