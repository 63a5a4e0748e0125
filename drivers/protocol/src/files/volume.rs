//! What there is to know of a file system that was mounted.

use super::{Status, read_u64};
use bitflags::bitflags;

bitflags! {
    /// What a file system is like.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VolumeFlags: u64 {
        /// It can't be written: so it was mounted, or it has features that allow nothing else.
        const READ_ONLY = 1 << 0;
        /// It has no journal: an operation that is interrupted may be done in part.
        const NO_JOURNAL = 1 << 1;
        /// It was not put out of use as it should be, and was recovered.
        const RECOVERED = 1 << 2;
        /// It is known to have errors (somebody should run e2fsck).
        const ERRORS = 1 << 3;
        /// Directories are not limited to 65000 subdirectories.
        const MANY_SUBDIRECTORIES = 1 << 4;
    }
}

/// What there is to know of a file system that was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The inode of the root directory.
    pub root: u64,
    /// The size of a block in bytes.
    pub block_bytes: u64,
    /// Blocks in all, without those that the file system itself takes.
    pub blocks: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// The longest a file can be, in bytes.
    pub max_file_bytes: u64,
    /// How many names a file can have.
    pub max_links: u64,
    /// How long the value of an extended attribute can be, in bytes.
    pub max_xattr_bytes: u64,
    /// What it is like.
    pub flags: VolumeFlags,
    /// Its identity: the bytes of its UUID.
    pub uuid: [u8; 16],
    /// Its label, with zeros after it.
    pub label: [u8; 16],
    /// What is free; also the last operation that is durable.
    pub status: Status,
    /// 2, 3 or 4: which kind of ext file system.
    pub version: u64,
}

impl Volume {
    /// Its size as bytes.
    pub const BYTES: usize = 14 * 8 + 32;

    /// The last operation that is durable.
    pub const fn durable(&self) -> u64 {
        self.status.durable
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let status = self.status;
        let numbers = [
            self.root,
            self.block_bytes,
            self.blocks,
            self.inodes,
            self.max_file_bytes,
            self.max_links,
            self.max_xattr_bytes,
            self.flags.bits(),
            self.version,
            status.free_blocks,
            status.reserved_blocks,
            status.free_inodes,
            status.applied,
            status.durable,
        ];
        let mut bytes = [0; Self::BYTES];
        let (identity, rest) = bytes.split_at_mut(32);
        for (to, from) in identity.iter_mut().zip(self.uuid.iter().chain(&self.label)) {
            *to = *from;
        }
        for (to, number) in rest.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What the bytes say; `None` if there are too few.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let uuid = *bytes.first_chunk()?;
        let label = *bytes.get(16..)?.first_chunk()?;
        let number = |index: usize| read_u64(bytes, 32 + 8 * index);
        Some(Self {
            root: number(0)?,
            block_bytes: number(1)?,
            blocks: number(2)?,
            inodes: number(3)?,
            max_file_bytes: number(4)?,
            max_links: number(5)?,
            max_xattr_bytes: number(6)?,
            flags: VolumeFlags::from_bits_truncate(number(7)?),
            version: number(8)?,
            status: Status {
                free_blocks: number(9)?,
                reserved_blocks: number(10)?,
                free_inodes: number(11)?,
                applied: number(12)?,
                durable: number(13)?,
            },
            uuid,
            label,
        })
    }
}
