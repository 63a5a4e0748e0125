//! The superblock: what a file system is made of, and which features it uses
//! (Linux, Documentation/filesystems/ext4/super.rst).

use crate::bytes::{joined, put, slice, u8_at, u16_at, u32_at};
use crate::checksum::{crc32c, crc32c_balance};
use crate::error::{Error, Place, Result};

/// Where the primary superblock starts, in bytes from the start of the device.
pub const SUPERBLOCK_AT: u64 = 1024;
/// Bytes of a superblock.
pub const SUPERBLOCK_BYTES: usize = 1024;

/// Offsets of the fields that change while a file system is mounted.
pub mod field {
    /// Free blocks, low half.
    pub const FREE_BLOCKS_LOW: usize = 0x0C;
    /// Free blocks, high half (64-bit file systems).
    pub const FREE_BLOCKS_HIGH: usize = 0x158;
    /// Free inodes.
    pub const FREE_INODES: usize = 0x10;
    /// When it was mounted, seconds.
    pub const MOUNT_TIME: usize = 0x2C;
    /// When it was last written, seconds.
    pub const WRITE_TIME: usize = 0x30;
    /// Mounts since the last check.
    pub const MOUNT_COUNT: usize = 0x34;
    /// Features that need not be understood.
    pub const COMPATIBLE: usize = 0x5C;
    /// Clean, with errors, orphans being recovered.
    pub const STATE: usize = 0x3A;
    /// The word whose upper half is [`STATE`].
    pub const STATE_WORD: usize = 0x38;
    /// How many errors were found since the last check.
    pub const ERROR_COUNT: usize = 0x194;
    /// When the first of them was, seconds.
    pub const FIRST_ERROR_TIME: usize = 0x198;
    /// When the last of them was.
    pub const LAST_ERROR_TIME: usize = 0x1CC;
    /// Features that must be understood to read.
    pub const INCOMPATIBLE: usize = 0x60;
    /// Features that must be understood to write.
    pub const READ_ONLY_COMPATIBLE: usize = 0x64;
    /// The first inode of the orphan list.
    pub const LAST_ORPHAN: usize = 0xE8;
    /// High byte of the time of the last write.
    pub const WRITE_TIME_HIGH: usize = 0x274;
    /// High byte of the time of the mount.
    pub const MOUNT_TIME_HIGH: usize = 0x275;
    /// Makes up for changes, so that the checksum stays: the head of a list of snapshots, which no version has ever had.
    pub const BALANCE: usize = 0x190;
    /// CRC-32C of everything before it.
    pub const CHECKSUM: usize = 0x3FC;
}

/// `s_state`: unmounted cleanly (or journaled).
pub const STATE_VALID: u16 = 1;
/// `s_state`: errors were found.
pub const STATE_ERROR: u16 = 2;

/// Compatible features.
pub mod compatible {
    /// There is a journal.
    pub const HAS_JOURNAL: u32 = 0x4;
    /// Directories may have hash trees.
    pub const DIR_INDEX: u32 = 0x20;
    /// At most two backups of the superblock.
    pub const SPARSE_SUPER2: u32 = 0x200;
    /// There is a file of orphans.
    pub const ORPHAN_FILE: u32 = 0x1000;
}

/// Features that one must understand to read.
pub mod incompatible {
    /// Directory entries tell the type of the file.
    pub const FILE_TYPE: u32 = 0x2;
    /// The journal must be replayed.
    pub const RECOVER: u32 = 0x4;
    /// Group descriptors are spread over the groups.
    pub const META_GROUPS: u32 = 0x10;
    /// Files may be mapped by extents.
    pub const EXTENTS: u32 = 0x40;
    /// Block numbers have more than 32 bits.
    pub const WIDE: u32 = 0x80;
    /// Protection against being mounted twice.
    pub const MULTIPLE_MOUNT: u32 = 0x100;
    /// Bitmaps and inode tables of several groups lie together.
    pub const FLEXIBLE_GROUPS: u32 = 0x200;
    /// The checksums' start is in the superblock.
    pub const CHECKSUM_SEED: u32 = 0x2000;
    /// Directories of three levels, and above 2 GiB.
    pub const LARGE_DIRECTORIES: u32 = 0x4000;

    /// Those understood here.
    pub const UNDERSTOOD: u32 = FILE_TYPE
        | RECOVER
        | META_GROUPS
        | EXTENTS
        | WIDE
        | MULTIPLE_MOUNT
        | FLEXIBLE_GROUPS
        | CHECKSUM_SEED
        | LARGE_DIRECTORIES;
}

/// Features that one must understand to write.
pub mod read_only_compatible {
    /// Not every group has a backup of the superblock.
    pub const SPARSE_SUPER: u32 = 0x1;
    /// There may be files above 2 GiB.
    pub const LARGE_FILE: u32 = 0x2;
    /// Files may count blocks in more than 32 bits.
    pub const HUGE_FILE: u32 = 0x8;
    /// Group descriptors have checksums (CRC-16).
    pub const GROUP_CHECKSUMS: u32 = 0x10;
    /// Directories may have more than 65,000 subdirectories.
    pub const MANY_LINKS: u32 = 0x20;
    /// Inodes have more than 128 bytes.
    pub const EXTRA_INODE_SIZE: u32 = 0x40;
    /// Bitmaps count clusters of several blocks.
    pub const CLUSTERS: u32 = 0x200;
    /// All metadata has checksums (CRC-32C).
    pub const METADATA_CHECKSUMS: u32 = 0x400;
    /// The file of orphans is not empty.
    pub const ORPHANS_PRESENT: u32 = 0x1_0000;

    /// Those understood here.
    pub const UNDERSTOOD: u32 = SPARSE_SUPER
        | LARGE_FILE
        | HUGE_FILE
        | GROUP_CHECKSUMS
        | MANY_LINKS
        | EXTRA_INODE_SIZE
        | METADATA_CHECKSUMS
        | ORPHANS_PRESENT;
}

/// The feature words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// See [`compatible`].
    pub compatible: u32,
    /// See [`incompatible`].
    pub incompatible: u32,
    /// See [`read_only_compatible`].
    pub read_only_compatible: u32,
}

impl Features {
    /// Whether a [`compatible`] feature is used.
    #[must_use]
    pub fn has(&self, feature: u32) -> bool {
        self.compatible & feature != 0
    }

    /// Whether an [`incompatible`] feature is used.
    #[must_use]
    pub fn needs(&self, feature: u32) -> bool {
        self.incompatible & feature != 0
    }

    /// Whether a [`read_only_compatible`] feature is used.
    #[must_use]
    pub fn writes(&self, feature: u32) -> bool {
        self.read_only_compatible & feature != 0
    }
}

/// What a superblock says that does not change while the file system is mounted; all of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Inodes of the file system.
    pub inodes: u32,
    /// Blocks of the file system.
    pub blocks: u64,
    /// Blocks set aside for the superuser.
    pub reserved_blocks: u64,
    /// The block where group 0 starts.
    pub first_data_block: u32,
    /// Bytes of a block: 1024 to 65,536.
    pub block_bytes: u32,
    /// Blocks of a group.
    pub blocks_per_group: u32,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// Groups.
    pub groups: u32,
    /// Bytes of an inode on disk.
    pub inode_bytes: u16,
    /// Bytes that new inodes use beyond 128.
    pub extra_inode_bytes: u16,
    /// The first inode that is not special.
    pub first_inode: u32,
    /// Bytes of a group descriptor.
    pub descriptor_bytes: u16,
    /// Blocks kept free behind the descriptors for growth.
    pub reserved_descriptor_blocks: u16,
    /// The first block of descriptors that is spread over the groups.
    pub first_meta_group: u32,
    /// Groups that keep their bitmaps together, as a power of two.
    pub flexible_group_bits: u8,
    /// The features in use.
    pub features: Features,
    /// The identity of the file system.
    pub uuid: [u8; 16],
    /// The label, padded with zeroes.
    pub label: [u8; 16],
    /// The inode of the journal, 0 for none.
    pub journal_inode: u32,
    /// The inode of the file of orphans.
    pub orphan_file: u32,
    /// The seed of the directories' hashes.
    pub hash_seed: [u32; 4],
    /// The hash of new directory indexes.
    pub hash_version: u8,
    /// Whether names are hashed as unsigned bytes.
    pub unsigned_hash: bool,
    /// The two groups with a backup of the superblock (with sparse_super2).
    pub backup_groups: [u32; 2],
    /// The start of all metadata checksums.
    pub checksum_seed: u32,
    /// Whether it was unmounted cleanly, or errors were seen.
    pub state: u16,
    /// What to do about errors, as its owner wants it (`s_errors`): 2 is to go on reading only.
    pub on_errors: u16,
}

const MAGIC: u16 = 0xEF53;
/// The revision with features and inode sizes.
const DYNAMIC_REVISION: u32 = 1;
const OLD_INODE_BYTES: u16 = 128;
const OLD_FIRST_INODE: u32 = 11;
/// `s_flags`: hashes take the bytes of names as unsigned.
const FLAG_UNSIGNED_HASH: u32 = 2;
/// `s_checksum_type` of CRC-32C.
const CHECKSUM_CRC32C: u8 = 1;
/// The largest block size that Linux defines.
const MOST_LOG_BLOCK_BYTES: u32 = 6;

/// What is said of a superblock that is one, but whose checksum is wrong.
pub const BAD_CHECKSUM: &str = "checksum of the superblock";

fn corrupt(what: &'static str) -> Error {
    Error::corrupt(what, Place::FileSystem)
}

fn require(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(corrupt(what)) }
}

impl Superblock {
    /// Reads and checks a superblock.
    ///
    /// # Errors
    /// It is none, makes no sense, or has incompatible features that are not understood.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        require(bytes.len() >= SUPERBLOCK_BYTES && u16_at(bytes, 0x38) == MAGIC, "no ext2, ext3 or ext4 superblock")?;
        let dynamic = u32_at(bytes, 0x4C) >= DYNAMIC_REVISION;
        let features = if dynamic { features_of(bytes) } else { Features::default() };
        check_features(&features)?;
        let log_block_bytes = u32_at(bytes, 0x18);
        require(log_block_bytes <= MOST_LOG_BLOCK_BYTES, "block size")?;
        let wide = features.needs(incompatible::WIDE);
        let high = |at| if wide { u32_at(bytes, at) } else { 0 };
        let uuid = array(bytes, 0x68);
        let mut superblock = Self {
            inodes: u32_at(bytes, 0),
            blocks: joined(u32_at(bytes, 4), high(0x150)),
            reserved_blocks: joined(u32_at(bytes, 8), high(0x154)),
            first_data_block: u32_at(bytes, 0x14),
            block_bytes: 1024 << log_block_bytes,
            blocks_per_group: u32_at(bytes, 0x20),
            inodes_per_group: u32_at(bytes, 0x28),
            groups: 0,
            inode_bytes: if dynamic { u16_at(bytes, 0x58) } else { OLD_INODE_BYTES },
            extra_inode_bytes: 0,
            first_inode: if dynamic { u32_at(bytes, 0x54) } else { OLD_FIRST_INODE },
            descriptor_bytes: if wide { u16_at(bytes, 0xFE) } else { 32 },
            reserved_descriptor_blocks: u16_at(bytes, 0xCE),
            first_meta_group: u32_at(bytes, 0x104),
            flexible_group_bits: if features.needs(incompatible::FLEXIBLE_GROUPS) { u8_at(bytes, 0x174) } else { 0 },
            features,
            uuid,
            label: array(bytes, 0x78),
            journal_inode: if features.has(compatible::HAS_JOURNAL) { u32_at(bytes, 0xE0) } else { 0 },
            orphan_file: u32_at(bytes, 0x280),
            hash_seed: core::array::from_fn(|at| u32_at(bytes, 0xEC + 4 * at)),
            hash_version: u8_at(bytes, 0xFC),
            unsigned_hash: u32_at(bytes, 0x160) & FLAG_UNSIGNED_HASH != 0,
            backup_groups: [u32_at(bytes, 0x24C), u32_at(bytes, 0x250)],
            checksum_seed: if features.needs(incompatible::CHECKSUM_SEED) {
                u32_at(bytes, 0x270)
            } else {
                crc32c(!0, &uuid)
            },
            state: u16_at(bytes, field::STATE),
            on_errors: u16_at(bytes, 0x3C),
        };
        superblock.check_checksum(bytes)?;
        superblock.check_geometry()?;
        superblock.extra_inode_bytes = superblock.extra_size(u16_at(bytes, 0x15E));
        require(
            superblock.journal_inode != 0
                || !features.has(compatible::HAS_JOURNAL)
                || Err(Error::Unsupported("a journal on another device"))?,
            "journal",
        )?;
        Ok(superblock)
    }

    /// Whether there are checksums over all metadata.
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        self.features.writes(read_only_compatible::METADATA_CHECKSUMS)
    }

    /// Whether group descriptors have a checksum of either kind, and so flags for what is not initialised.
    #[must_use]
    pub fn has_group_flags(&self) -> bool {
        self.has_checksums() || self.features.writes(read_only_compatible::GROUP_CHECKSUMS)
    }

    /// Whether it may be written: else it uses features, named here, that only readers may ignore.
    ///
    /// # Errors
    /// What hinders.
    pub fn check_writable(&self) -> Result<()> {
        if self.features.read_only_compatible & !read_only_compatible::UNDERSTOOD != 0 {
            return Err(Error::Unsupported("a feature that allows only reading"));
        }
        if self.features.needs(incompatible::MULTIPLE_MOUNT) {
            return Err(Error::Unsupported("protection against multiple mounts"));
        }
        Ok(())
    }

    fn check_checksum(&self, bytes: &[u8]) -> Result<()> {
        if !self.has_checksums() {
            return Ok(());
        }
        require(u8_at(bytes, 0x175) == CHECKSUM_CRC32C, "type of checksums")?;
        require(checksum_of(bytes) == u32_at(bytes, field::CHECKSUM), BAD_CHECKSUM)
    }

    fn check_geometry(&mut self) -> Result<()> {
        let bits = self.block_bytes * 8;
        require(self.first_data_block == u32::from(self.block_bytes == 1024), "first data block")?;
        // A multiple of 8, so that bitmaps end at a byte.
        let sizes = [self.blocks_per_group, self.inodes_per_group];
        require(sizes.iter().all(|size| (8..=bits).contains(size) && size.is_multiple_of(8)), "size of groups")?;
        let inode_bytes = u32::from(self.inode_bytes);
        require(inode_bytes.is_power_of_two() && (128..=self.block_bytes).contains(&inode_bytes), "size of inodes")?;
        let descriptor = u32::from(self.descriptor_bytes);
        let least = if self.features.needs(incompatible::WIDE) { 64 } else { 32 };
        require(descriptor.is_power_of_two() && (least..=1024).contains(&descriptor), "size of group descriptors")?;
        let first = u64::from(self.first_data_block);
        require(self.blocks > first && self.blocks < 1 << 48, "number of blocks")?;
        let groups = (self.blocks - first).div_ceil(u64::from(self.blocks_per_group));
        require(u64::from(self.inodes) == groups * u64::from(self.inodes_per_group), "number of inodes")?;
        self.groups = u32::try_from(groups).map_err(|_| corrupt("number of groups"))?;
        let tables = groups.div_ceil(u64::from(self.descriptors_per_block()));
        require(tables < self.blocks, "number of groups")?;
        require(self.first_inode >= OLD_FIRST_INODE && self.first_inode <= self.inodes, "first inode")?;
        require(self.flexible_group_bits < 32, "size of flexible groups")
    }

    /// How many bytes new inodes use beyond the first 128.
    fn extra_size(&self, wanted: u16) -> u16 {
        let room = self.inode_bytes - OLD_INODE_BYTES;
        let wanted = if wanted == 0 { 32 } else { wanted };
        if wanted > room || !wanted.is_multiple_of(4) { room.min(32) } else { wanted }
    }

    /// Group descriptors in a block.
    #[must_use]
    pub fn descriptors_per_block(&self) -> u32 {
        self.block_bytes / u32::from(self.descriptor_bytes)
    }

    /// The first block of a group.
    #[must_use]
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// The blocks of a group; the last one may have fewer.
    #[must_use]
    pub fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks.saturating_sub(self.group_start(group));
        u32::try_from(left).unwrap_or(u32::MAX).min(self.blocks_per_group)
    }

    /// The group of a block, and its place there; none for a block outside all groups.
    #[must_use]
    pub fn group_of(&self, block: u64) -> Option<(u32, u32)> {
        let at = block.checked_sub(u64::from(self.first_data_block)).filter(|_| block < self.blocks)?;
        let size = u64::from(self.blocks_per_group);
        Some((u32::try_from(at / size).ok()?, u32::try_from(at % size).ok()?))
    }

    /// The group of an inode, and its place there.
    ///
    /// # Errors
    /// There is no such inode.
    pub fn inode_group(&self, inode: u32) -> Result<(u32, u32)> {
        if inode == 0 || inode > self.inodes {
            return Err(Error::corrupt("number of an inode", Place::Inode(inode)));
        }
        Ok(((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group))
    }

    /// Whether a group has a copy of the superblock.
    #[must_use]
    pub fn group_has_superblock(&self, group: u32) -> bool {
        if self.features.has(compatible::SPARSE_SUPER2) {
            return group == 0 || self.backup_groups.contains(&group);
        }
        let sparse = self.features.writes(read_only_compatible::SPARSE_SUPER);
        group <= 1 || !sparse || [3, 5, 7].iter().any(|base| is_power(group, *base))
    }

    /// Blocks of group descriptors that lie together behind the superblock.
    fn table_blocks(&self) -> u32 {
        let all = self.groups.div_ceil(self.descriptors_per_block());
        if self.features.needs(incompatible::META_GROUPS) { all.min(self.first_meta_group) } else { all }
    }

    /// How many blocks at the start of a group hold superblock and descriptors.
    #[must_use]
    pub fn group_overhead(&self, group: u32) -> u32 {
        let copies = u32::from(self.group_has_superblock(group));
        let spread = self.features.needs(incompatible::META_GROUPS)
            && group / self.descriptors_per_block() >= self.first_meta_group;
        if spread {
            let place = group % self.descriptors_per_block();
            let has_descriptors = place == 0 || place == 1 || place == self.descriptors_per_block() - 1;
            return copies + u32::from(has_descriptors);
        }
        copies * (1 + self.table_blocks() + u32::from(self.reserved_descriptor_blocks))
    }

    /// The block with a group's descriptor, and the descriptor's place there in bytes.
    #[must_use]
    pub fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let table = group / self.descriptors_per_block();
        let place = group % self.descriptors_per_block() * u32::from(self.descriptor_bytes);
        let block = if self.features.needs(incompatible::META_GROUPS) && table >= self.first_meta_group {
            let first = table * self.descriptors_per_block();
            self.group_start(first) + u64::from(self.group_has_superblock(first))
        } else {
            u64::from(self.first_data_block) + 1 + u64::from(table)
        };
        (block, place as usize)
    }

    /// The block of the superblock, and the place of the superblock in it in bytes.
    #[must_use]
    pub fn place(&self) -> (u64, usize) {
        if self.block_bytes == 1024 { (1, 0) } else { (0, SUPERBLOCK_BYTES) }
    }

    /// The name without its padding.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        let end = self.label.iter().position(|byte| *byte == 0).unwrap_or(self.label.len());
        slice(&self.label, 0, end)
    }
}

/// The checksum that a superblock should have.
#[must_use]
pub fn checksum_of(bytes: &[u8]) -> u32 {
    crc32c(!0, slice(bytes, 0, field::CHECKSUM))
}

/// Makes the checksum right again after a change of the first half, without changing the second half, where the checksum is: a
/// field that nobody uses takes up the difference.
///
/// The superblock fills two sectors, and is written in place (by this and by every checkpoint). A power cut may leave one
/// sector new and the other old. With this the second one never changes, and the superblock is always valid.
pub fn seal(bytes: &mut [u8]) {
    let sum = u32_at(bytes, field::CHECKSUM);
    let before = slice(bytes, 0, field::BALANCE);
    let after = slice(bytes, field::BALANCE + 4, field::CHECKSUM - field::BALANCE - 4);
    let balance = crc32c_balance(before, after, sum);
    put(bytes, field::BALANCE, &balance);
}

fn features_of(bytes: &[u8]) -> Features {
    Features {
        compatible: u32_at(bytes, 0x5C),
        incompatible: u32_at(bytes, field::INCOMPATIBLE),
        read_only_compatible: u32_at(bytes, field::READ_ONLY_COMPATIBLE),
    }
}

fn check_features(features: &Features) -> Result<()> {
    /// What is not understood and known by name.
    const NAMES: [(u32, &str); 7] = [
        (0x1, "compression"),
        (0x8, "a journal for other file systems"),
        (0x400, "attributes in inodes of their own (ea_inode)"),
        (0x1000, "data in directory entries (dirdata)"),
        (0x8000, "data in inodes (inline_data)"),
        (0x1_0000, "encryption"),
        (0x2_0000, "names without regard to case (casefold)"),
    ];
    let unknown = features.incompatible & !incompatible::UNDERSTOOD;
    if unknown != 0 {
        let named = NAMES.iter().find(|(feature, _)| unknown & feature != 0);
        return Err(Error::Unsupported(named.map_or("an incompatible feature", |(_, name)| name)));
    }
    if features.writes(read_only_compatible::CLUSTERS) {
        return Err(Error::Unsupported("clusters of several blocks (bigalloc)"));
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|index| u8_at(bytes, at + index))
}

fn is_power(mut number: u32, base: u32) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bytes::{put_u16, put_u32};

    /// A superblock as of a small file system with blocks of `block_bytes`.
    pub(crate) fn example(block_bytes: u32) -> Superblock {
        Superblock::parse(&bytes(block_bytes)).unwrap()
    }

    fn bytes(block_bytes: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let fields = [(0, 1024), (4, 8192), (0x14, u32::from(block_bytes == 1024)), (0x18, block_bytes.ilog2() - 10)];
        let sizes = [(0x20, 8192), (0x28, 1024), (0x4C, 1), (0x54, 11), (0x60, incompatible::FILE_TYPE)];
        fields.iter().chain(&sizes).for_each(|(at, value)| put_u32(&mut bytes, *at, *value));
        put_u16(&mut bytes, 0x38, MAGIC);
        put_u16(&mut bytes, 0x58, 256);
        bytes
    }

    #[test]
    fn geometry_that_makes_no_sense_is_refused() {
        assert_eq!(example(1024).groups, 1);
        for (at, value) in
            [(0x18, 7), (0x20, 0), (0x20, 8193 * 8), (0x28, 1023), (0, 1025), (4, 0), (0x14, 0), (0x54, 5)]
        {
            let mut bytes = bytes(1024);
            put_u32(&mut bytes, at, value);
            assert!(matches!(Superblock::parse(&bytes), Err(Error::Corrupt(_))), "{at:#x} = {value}");
        }
    }

    #[test]
    fn an_unknown_incompatible_feature_is_refused() {
        let mut bytes = bytes(1024);
        put_u32(&mut bytes, field::INCOMPATIBLE, 0x8000_0000);
        assert_eq!(Superblock::parse(&bytes), Err(Error::Unsupported("an incompatible feature")));
    }

    #[test]
    fn what_hinders_is_named() {
        let mut bytes = bytes(1024);
        put_u32(&mut bytes, field::READ_ONLY_COMPATIBLE, read_only_compatible::CLUSTERS);
        let clusters = Error::Unsupported("clusters of several blocks (bigalloc)");
        assert_eq!(Superblock::parse(&bytes), Err(clusters));
        put_u32(&mut bytes, field::INCOMPATIBLE, 0x8040);
        assert_eq!(Superblock::parse(&bytes), Err(Error::Unsupported("data in inodes (inline_data)")));
    }

    #[test]
    fn an_unknown_read_only_feature_hinders_only_writing() {
        let mut bytes = bytes(1024);
        put_u32(&mut bytes, field::READ_ONLY_COMPATIBLE, 0x8000_0000);
        assert!(Superblock::parse(&bytes).unwrap().check_writable().is_err());
    }

    #[test]
    fn copies_lie_in_groups_that_are_powers() {
        let mut superblock = example(1024);
        superblock.features.read_only_compatible = read_only_compatible::SPARSE_SUPER;
        let with: alloc::vec::Vec<u32> = (0..128).filter(|group| superblock.group_has_superblock(*group)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
