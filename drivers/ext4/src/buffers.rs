//! Metadata blocks in memory, and the transactions that change them.

/// What a metadata block holds, which decides where its checksum is. A block that is asked for as two different kinds is corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The block with the primary superblock.
    Superblock,
    /// Group descriptors, each with its own checksum, kept by who changes it.
    Descriptors,
    /// The bitmap of a group's blocks.
    BlockBitmap(u32),
    /// The bitmap of a group's inodes.
    InodeBitmap(u32),
    /// Inodes, each with its own checksum, kept by who changes it.
    Inodes,
    /// A node of an inode's extent tree.
    Extents {
        /// The checksum's start: over the inode's number and generation.
        seed: u32,
    },
    /// A block of directory entries.
    Directory {
        /// The checksum's start: over the inode's number and generation.
        seed: u32,
    },
    /// A block of a directory's hash tree.
    DirectoryIndex {
        /// The checksum's start: over the inode's number and generation.
        seed: u32,
    },
    /// Extended attributes outside their inode.
    Attributes,
    /// Without a checksum: block maps, long symbolic links.
    Plain,
}
