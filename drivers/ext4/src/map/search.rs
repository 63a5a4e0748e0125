//! Going down a tree of extents.

use super::node::{self, Header};
use super::{Extent, Lie};
use crate::Ext4;
use crate::buffers::{Block, Kind};
use crate::bytes::{slice, u32_at};
use crate::checksum::crc32c;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::Inode;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks of files are numbered below this.
const END_OF_FILES: u64 = 1 << 32;

/// Where a node is.
#[derive(Clone)]
pub(super) enum Node {
    /// In the inode.
    Root,
    /// In a block of its own.
    Block(Block),
}

impl Node {
    /// Looks at the bytes of the node.
    pub(super) fn read<R>(&self, inode: &Inode, look: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Root => look(&inode.map),
            Self::Block(block) => block.read(look),
        }
    }
}

/// A node on the way down, and where the way goes on.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) node: Node,
    pub(super) header: Header,
    /// In an inner node, the entry that is followed; in a leaf, how many entries begin at or before the block.
    pub(super) entry: usize,
}

/// The way from the root to the leaf that has, or would have, a block.
pub(super) struct Path {
    /// The root first.
    pub(super) steps: Vec<Step>,
    /// The leaf.
    pub(super) leaf: Step,
    /// The blocks of the file that the leaf may be about.
    pub(super) range: Range<u64>,
}

impl<D: Device> Ext4<D> {
    /// The way to a block.
    pub(super) async fn path(&self, inode: &Inode, block: u32) -> Result<Path> {
        let corrupt = || Error::corrupt("tree of extents", Place::Inode(inode.number));
        let mut range = 0..END_OF_FILES;
        let mut node = Node::Root;
        let mut header = Header::parse(&inode.map).ok_or_else(corrupt)?;
        if !node::is_ordered(&inode.map, &header, range.clone()) {
            return Err(corrupt());
        }
        let mut steps = Vec::new();
        while header.depth > 0 {
            if header.entries == 0 {
                return Err(corrupt());
            }
            let (entry, child, next) = node.read(inode, |bytes| follow(bytes, &header, block));
            range = if entry == 0 { range.start } else { u64::from(next.start) }..next.end.unwrap_or(range.end);
            let depth = header.depth - 1;
            steps.push(Step { node, header, entry });
            node = Node::Block(self.tree_block(inode, child, depth, range.clone()).await?);
            header = node.read(inode, Header::parse).filter(|header| header.depth == depth).ok_or_else(corrupt)?;
        }
        let entry = node.read(inode, |bytes| node::position(bytes, header.entries, block));
        Ok(Path { steps, leaf: Step { node, header, entry }, range })
    }

    /// A node outside the inode; checked when it is read first.
    async fn tree_block(&self, inode: &Inode, number: u64, depth: u16, range: Range<u64>) -> Result<Block> {
        self.check_blocks(number, 1, Place::Inode(inode.number))?;
        let seed = inode.seed(&self.superblock);
        let check = |bytes: &[u8]| {
            let corrupt = |what| Error::corrupt(what, Place::Block(number));
            let header = Header::parse(bytes)
                .filter(|header| header.depth == depth && node::is_ordered(bytes, header, range))
                .ok_or_else(|| corrupt("node of extents"))?;
            let tail = node::checksum_at(bytes);
            if self.superblock.has_checksums() && crc32c(seed, slice(bytes, 0, tail)) != u32_at(bytes, tail) {
                return Err(corrupt("checksum of a node of extents"));
            }
            if header.entries == 0 { Err(corrupt("empty node of extents")) } else { Ok(()) }
        };
        self.buffers.get(number, Kind::Extents { seed }, check).await
    }

    /// What lies at a block of a file that is mapped by extents.
    pub(super) async fn find_extent(&self, inode: &Inode, block: u32) -> Result<Lie> {
        let Path { leaf, range, .. } = self.path(inode, block).await?;
        Ok(leaf.node.read(inode, |bytes| {
            let before: Option<Extent> = leaf.entry.checked_sub(1).map(|index| node::extent(bytes, index));
            match before {
                Some(extent) if u64::from(block) < extent.end() => Lie::In(extent),
                Some(_) | None if leaf.entry < leaf.header.entries => {
                    Lie::Until(u64::from(node::key(bytes, leaf.entry)))
                }
                Some(_) | None => Lie::Until(range.end),
            }
        }))
    }
}

/// What an inner node's entry is about.
struct Next {
    start: u32,
    /// Where the next entry begins; none for the last.
    end: Option<u64>,
}

/// The entry of an inner node on the way to a block, and the node it points to.
fn follow(bytes: &[u8], header: &Header, block: u32) -> (usize, u64, Next) {
    let entry = node::position(bytes, header.entries, block).saturating_sub(1);
    let end = (entry + 1 < header.entries).then(|| u64::from(node::key(bytes, entry + 1)));
    (entry, node::child(bytes, entry), Next { start: node::key(bytes, entry), end })
}
