//! The file of orphans that newer Linux keeps in the place of the list: its entries are moved to the list, which we keep
//! (Documentation/filesystems/ext4/orphan.rst).

use crate::Ext4;
use crate::buffers::{Block, Kind};
use crate::bytes::{put_u32, slice, u32_at};
use crate::checksum::crc32c;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::Inode;
use crate::superblock::{compatible, field, read_only_compatible};
use alloc::vec::Vec;

/// Ends each block of the file, before the checksum.
const MAGIC: u32 = 0x0B10_CA04;
/// Bytes of the end of a block.
const TAIL_BYTES: usize = 8;
/// Blocks that moving one entry may touch: its block, its inode.
const MOVE_CREDITS: u32 = 2;

impl<D: Device> Ext4<D> {
    /// Moves what is in the file of orphans to the list.
    pub(super) async fn empty_orphan_file(&self) -> Result<()> {
        let features = &self.superblock.features;
        if !features.has(compatible::ORPHAN_FILE) || !features.writes(read_only_compatible::ORPHANS_PRESENT) {
            return Ok(());
        }
        let file = self.load_any(self.superblock.orphan_file).await?;
        let blocks = u32::try_from(file.size_blocks(&self.superblock)).unwrap_or(u32::MAX);
        for number in 0..blocks {
            let Some(block) = self.block_of(&file, number).await? else {
                return Err(Error::corrupt("file of orphans", Place::Inode(file.number)));
            };
            self.empty_orphan_block(&file, block).await?;
        }
        let change = self.change(0).await?;
        change
            .edit_superblock(field::READ_ONLY_COMPATIBLE, |features| features & !read_only_compatible::ORPHANS_PRESENT)
            .await?;
        change.finish().await?;
        Ok(())
    }

    async fn empty_orphan_block(&self, file: &Inode, number: u64) -> Result<()> {
        let tail = self.superblock.block_bytes as usize - TAIL_BYTES;
        let check = |bytes: &[u8]| {
            let sum = || self.orphan_sum(file, number, bytes);
            let whole =
                u32_at(bytes, tail) == MAGIC && (!self.superblock.has_checksums() || sum() == u32_at(bytes, tail + 4));
            if whole { Ok(()) } else { Err(Error::corrupt("file of orphans", Place::Block(number))) }
        };
        let block = self.buffers.get(number, Kind::Plain, check).await?;
        let entries: Vec<(usize, u32)> = block.read(|bytes| {
            let all = (0..tail).step_by(4).map(|at| (at, u32_at(bytes, at)));
            all.filter(|(_, inode)| *inode != 0).collect()
        });
        for (at, inode) in entries {
            self.move_to_list(file, &block, at, inode).await?;
        }
        Ok(())
    }

    /// Moves one entry.
    async fn move_to_list(&self, file: &Inode, block: &Block, at: usize, number: u32) -> Result<()> {
        let tail = self.superblock.block_bytes as usize - TAIL_BYTES;
        let change = self.change(MOVE_CREDITS).await?;
        let mut inode = self.load(number).await?;
        if self.orphans.borrow().contains(number) {
            return Err(Error::corrupt("file of orphans", Place::Inode(number)));
        }
        self.add_orphan(&change, &mut inode).await?;
        self.store(&change, &inode).await?;
        change.edit(block, at..at + 4, |entry| entry.fill(0));
        let sum = block.read(|bytes| self.orphan_sum(file, block.number(), bytes));
        change.edit(block, tail + 4..tail + 8, |bytes| put_u32(bytes, 0, sum));
        change.finish().await?;
        self.orphans.borrow_mut().added(number);
        Ok(())
    }

    /// The checksum that a block of the file of orphans should have.
    fn orphan_sum(&self, file: &Inode, number: u64, bytes: &[u8]) -> u32 {
        let seed = crc32c(file.seed(&self.superblock), &number.to_le_bytes());
        crc32c(seed, slice(bytes, 0, bytes.len().saturating_sub(TAIL_BYTES)))
    }
}
