//! The checksums of blocks that are about to be written.

use crate::buffers::{Block, Kind, Seal};
use crate::bytes::{put_u32, slice, slice_mut};
use crate::checksum::crc32c;
use crate::directory;
use crate::group::Group;
use crate::map;
use crate::superblock::{self, Superblock};
use alloc::collections::BTreeMap;

/// Where an attribute block keeps its checksum.
pub(crate) const ATTRIBUTES_CHECKSUM: usize = 0x10;

/// Sets checksums, as the file system has them.
pub(crate) struct Sealer {
    pub(crate) superblock: Superblock,
}

impl Seal for Sealer {
    fn seal(&self, blocks: &BTreeMap<u64, Block>) {
        if !self.superblock.has_checksums() {
            return;
        }
        for block in blocks.values() {
            self.seal_block(block, blocks);
        }
    }
}

impl Sealer {
    fn seal_block(&self, block: &Block, blocks: &BTreeMap<u64, Block>) {
        let superblock = &self.superblock;
        match block.kind() {
            Kind::Superblock => {
                let at = superblock.place().1;
                block.seal(|bytes| superblock::seal(slice_mut(bytes, at, usize::MAX)));
            }
            Kind::BlockBitmap(number) => {
                let sum = self.bitmap_sum(block, superblock.blocks_per_group);
                self.store_in_group(blocks, number, |group| group.block_bitmap_checksum = sum);
            }
            Kind::InodeBitmap(number) => {
                let sum = self.bitmap_sum(block, superblock.inodes_per_group);
                self.store_in_group(blocks, number, |group| group.inode_bitmap_checksum = sum);
            }
            Kind::Extents { seed } => block.seal(|bytes| map::seal_node(seed, bytes)),
            Kind::Directory { seed } => block.seal(|bytes| directory::seal(seed, bytes)),
            Kind::Attributes => {
                let sum = attributes_sum(superblock, block.number(), &block.bytes());
                block.seal(|bytes| put_u32(bytes, ATTRIBUTES_CHECKSUM, sum));
            }
            Kind::Descriptors | Kind::Inodes | Kind::Plain => {}
        }
    }

    fn bitmap_sum(&self, block: &Block, bits: u32) -> u32 {
        let seed = self.superblock.checksum_seed;
        let sum = block.read(|bytes| crc32c(seed, slice(bytes, 0, (bits / 8) as usize)));
        Group::kept_checksum(&self.superblock, sum)
    }

    /// Changes a group's descriptor, which is in every transaction that has one of the group's bitmaps.
    fn store_in_group(&self, blocks: &BTreeMap<u64, Block>, number: u32, edit: impl FnOnce(&mut Group)) {
        let (block, at) = self.superblock.descriptor_place(number);
        let Some(block) = blocks.get(&block) else {
            log::error!("ext4: the bitmap of group {number} changed, but not its descriptor");
            return;
        };
        block.seal(|bytes| {
            let bytes = slice_mut(bytes, at, usize::MAX);
            if let Ok(mut group) = Group::parse(&self.superblock, number, bytes) {
                edit(&mut group);
                group.store(&self.superblock, number, bytes);
            }
        });
    }
}

/// The checksum that an attribute block should have.
pub(crate) fn attributes_sum(superblock: &Superblock, number: u64, bytes: &[u8]) -> u32 {
    let sum = crc32c(superblock.checksum_seed, &number.to_le_bytes());
    let sum = crc32c(crc32c(sum, slice(bytes, 0, ATTRIBUTES_CHECKSUM)), &[0; 4]);
    crc32c(sum, slice(bytes, ATTRIBUTES_CHECKSUM + 4, usize::MAX))
}
