//! The hash trees of large directories: index blocks that lead from the hash of a name to the block that has it, or would
//! have it. To who does not know them they look like blocks without names.

use super::entries::{DOT_BYTES, Format, Named, index_at, needed};
use super::hash::{self, Hasher};
use super::{Spot, bad_block, find_in};
use crate::Ext4;
use crate::buffers::Block;
use crate::bytes::{put, put_u16, put_u32, slice, u8_at, u16_at, u32_at};
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::{Inode, flag};
use crate::superblock::incompatible;
use alloc::vec::Vec;

/// Where the root's description is: reserved, algorithm, its length, levels, flags.
const ROOT_INFO: usize = 24;
const ROOT_INFO_BYTES: u8 = 8;
/// Where the entries of the root, and of other nodes, begin.
const ROOT_ENTRIES: usize = 32;
const NODE_ENTRIES: usize = 8;
/// Bytes of an entry: a hash and a block.
const ENTRY_BYTES: usize = 8;
/// The bits of an entry that number a block.
const BLOCK_MASK: u32 = 0x0FFF_FFFF;
/// Set in the hash of an entry whose names go on from the block before.
const CONTINUED: u32 = 1;
/// Splits that one insertion may need: each level once, the root's growth, and a leaf with uneven names.
const MOST_ROUNDS: usize = 8;

/// An index block on the way to a name.
struct Node {
    block: Block,
    /// Where its entries begin.
    entries: usize,
    count: usize,
    limit: usize,
    /// The entry that is followed.
    index: usize,
}

impl Node {
    fn entry(&self, index: usize) -> (u32, u32) {
        let at = self.entries + ENTRY_BYTES * index;
        self.block.read(|bytes| (u32_at(bytes, at), u32_at(bytes, at + 4) & BLOCK_MASK))
    }

    /// The last entry at or before a hash; the first one has none and is before all.
    fn find(&self, hash: u32) -> usize {
        let (mut low, mut high) = (1, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).0 <= hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }
}

/// The way through an index.
struct Way {
    hasher: Hasher,
    nodes: Vec<Node>,
}

impl<D: Device> Ext4<D> {
    fn most_levels(&self) -> usize {
        if self.superblock.features.needs(incompatible::LARGE_DIRECTORIES) { 3 } else { 2 }
    }

    fn node(&self, block: Block) -> Result<Node> {
        let bad = || Error::corrupt("index of a directory", Place::Block(block.number()));
        let size = self.superblock.block_bytes as usize;
        let (entries, limit, count) = block
            .read(|bytes| {
                let entries = index_at(bytes)?;
                Some((entries, usize::from(u16_at(bytes, entries)), usize::from(u16_at(bytes, entries + 2))))
            })
            .ok_or_else(bad)?;
        if count == 0 || count > limit || limit > self.index_limit(size, entries) {
            return Err(bad());
        }
        Ok(Node { block, entries, count, limit, index: 0 })
    }

    /// Entries that fit into an index block.
    fn index_limit(&self, size: usize, entries: usize) -> usize {
        let tail = if self.superblock.has_checksums() { ENTRY_BYTES } else { 0 };
        (size - entries - tail) / ENTRY_BYTES
    }

    /// The way to the leaf for a name, and the name's hash; none if the index is of a kind that is not understood.
    async fn probe(&self, directory: &Inode, name: &[u8]) -> Result<Option<(Way, u32)>> {
        let root = self.directory_block(directory, 0).await?;
        let (version, size, levels) = root.read(|bytes| {
            (u8_at(bytes, ROOT_INFO + 4), u8_at(bytes, ROOT_INFO + 5), usize::from(u8_at(bytes, ROOT_INFO + 6)))
        });
        let Some(hasher) = Hasher::new(&self.superblock, version) else { return Ok(None) };
        if size != ROOT_INFO_BYTES || levels >= self.most_levels() {
            return Err(Error::corrupt("index of a directory", Place::Block(root.number())));
        }
        let hash = hasher.hash(name);
        let mut node = self.node(root)?;
        let mut nodes = Vec::new();
        for _ in 0..levels {
            node.index = node.find(hash);
            let next = self.directory_block(directory, node.entry(node.index).1).await?;
            nodes.push(node);
            node = self.node(next)?;
            if node.entries != NODE_ENTRIES {
                return Err(Error::corrupt("index of a directory", Place::Block(node.block.number())));
            }
        }
        node.index = node.find(hash);
        nodes.push(node);
        Ok(Some((Way { hasher, nodes }, hash)))
    }

    async fn leaf(&self, directory: &Inode, way: &Way) -> Result<Block> {
        let Some(last) = way.nodes.last() else { return Err(Error::Invalid) };
        let (_, number) = last.entry(last.index);
        let block = self.directory_block(directory, number).await?;
        // Without checksums a leaf that has lost all its names looks like an inner node.
        if number == 0 || self.superblock.has_checksums() && block.read(index_at).is_some() {
            return Err(Error::corrupt("index of a directory", Place::Block(last.block.number())));
        }
        Ok(block)
    }

    /// Goes to the next leaf if names with this hash may go on there.
    async fn next_leaf(&self, directory: &Inode, way: &mut Way, hash: u32) -> Result<bool> {
        let more = |node: &Node| node.index + 1 < node.count;
        let Some(level) = way.nodes.iter().rposition(more) else { return Ok(false) };
        let Some(node) = way.nodes.get_mut(level) else { return Ok(false) };
        node.index += 1;
        let (next, mut child) = node.entry(node.index);
        if next & !CONTINUED != hash {
            return Ok(false);
        }
        for below in level + 1..way.nodes.len() {
            let node = self.node(self.directory_block(directory, child).await?)?;
            child = node.entry(0).1;
            if let Some(place) = way.nodes.get_mut(below) {
                *place = node;
            }
        }
        Ok(true)
    }

    /// Finds a name by the index; none at all if the index is not understood.
    pub(super) async fn find_indexed(&self, directory: &Inode, name: &[u8]) -> Result<Option<Option<Spot>>> {
        let Some((mut way, hash)) = self.probe(directory, name).await? else { return Ok(None) };
        let format = self.format();
        loop {
            let leaf = self.leaf(directory, &way).await?;
            if let Some(spot) = find_in(&format, &leaf, name)? {
                return Ok(Some(Some(spot)));
            }
            if !self.next_leaf(directory, &mut way, hash).await? {
                return Ok(Some(None));
            }
        }
    }

    /// Adds a name where its hash belongs; false if the index is not understood.
    pub(super) async fn insert_indexed(
        &self,
        change: &Change<'_, D>,
        directory: &mut Inode,
        entry: &Named<'_>,
    ) -> Result<bool> {
        for _ in 0..MOST_ROUNDS {
            let Some((way, _)) = self.probe(directory, entry.name).await? else { return Ok(false) };
            let leaf = self.leaf(directory, &way).await?;
            if self.try_insert(change, &leaf, entry)? {
                return Ok(true);
            }
            let room = way.nodes.iter().rposition(|node| node.count < node.limit);
            match room {
                Some(level) if level + 1 == way.nodes.len() => {
                    self.split_leaf(change, directory, &way, &leaf).await?;
                }
                Some(level) => self.split_node(change, directory, &way, level).await?,
                None => self.add_level(change, directory, &way).await?,
            }
        }
        Err(self.full())
    }

    /// Divides the names of a full leaf by their hashes between it and a new one.
    async fn split_leaf(&self, change: &Change<'_, D>, directory: &mut Inode, way: &Way, leaf: &Block) -> Result<()> {
        let format = self.format();
        let old = leaf.bytes();
        let names = sorted(&format, &way.hasher, &old).map_err(|()| bad_block(leaf))?;
        let sizes: Vec<(u32, usize)> = names.iter().map(|(hash, name)| (*hash, needed(name.name.len()))).collect();
        let split = hash::middle(&sizes);
        let (stay, move_) = names.split_at_checked(split).ok_or_else(|| self.full())?;
        let Some((first, _)) = move_.first() else { return Err(self.full()) };
        let continued = stay.last().is_some_and(|(last, _)| last == first);
        let key = first | if continued { CONTINUED } else { 0 };
        let (number, new) = self.append_block(change, directory).await?;
        change.edit(&new, 0..format.block_bytes, |bytes| pack(&format, bytes, move_));
        change.edit(leaf, 0..format.block_bytes, |bytes| pack(&format, bytes, stay));
        if let Some(parent) = way.nodes.last() {
            insert_entry(change, parent, key, number);
        }
        Ok(())
    }

    /// Moves half of the entries of the node below `level` of a way, which is full, into a new one.
    async fn split_node(&self, change: &Change<'_, D>, directory: &mut Inode, way: &Way, level: usize) -> Result<()> {
        let (Some(parent), Some(full)) = (way.nodes.get(level), way.nodes.get(level + 1)) else {
            return Err(Error::Invalid);
        };
        let half = full.count / 2;
        if half == 0 {
            return Err(Error::corrupt("index of a directory", Place::Block(full.block.number())));
        }
        let (key, _) = full.entry(half);
        let at = full.entries + ENTRY_BYTES * half;
        let moved: Vec<u8> = full.block.read(|bytes| slice(bytes, at, ENTRY_BYTES * (full.count - half)).into());
        let number = self.new_index_node(change, directory, &moved).await?;
        change.edit(&full.block, full.entries..full.entries + 4, |bytes| put_u16(bytes, 2, half as u16));
        insert_entry(change, parent, key, number);
        Ok(())
    }

    /// Moves the entries of the root, which is full, into a node of their own.
    async fn add_level(&self, change: &Change<'_, D>, directory: &mut Inode, way: &Way) -> Result<()> {
        if way.nodes.len() >= self.most_levels() {
            return Err(self.full());
        }
        let Some(root) = way.nodes.first() else { return Err(Error::Invalid) };
        let entries = root.block.read(|bytes| slice(bytes, root.entries, ENTRY_BYTES * root.count).to_vec());
        let number = self.new_index_node(change, directory, &entries).await?;
        let levels = way.nodes.len() as u8;
        change.edit(&root.block, 0..root.entries + ENTRY_BYTES, |bytes| {
            put(bytes, ROOT_INFO + 6, &[levels]);
            put_u16(bytes, root.entries + 2, 1);
            put_u32(bytes, root.entries + 4, number);
        });
        Ok(())
    }

    /// A new index block with these entries.
    async fn new_index_node(&self, change: &Change<'_, D>, directory: &mut Inode, entries: &[u8]) -> Result<u32> {
        let (number, block) = self.append_block(change, directory).await?;
        let format = self.format();
        let limit = self.index_limit(format.block_bytes, NODE_ENTRIES);
        change.edit(&block, 0..format.block_bytes, |bytes| {
            bytes.fill(0);
            format.put(bytes, 0, format.block_bytes, &Named { inode: 0, code: 0, name: b"" });
            put(bytes, NODE_ENTRIES, entries);
            put_u16(bytes, NODE_ENTRIES, limit as u16);
            put_u16(bytes, NODE_ENTRIES + 2, (entries.len() / ENTRY_BYTES) as u16);
        });
        Ok(number)
    }

    /// Gives a directory of one block an index: its names move into a second block. The inode is to be stored.
    pub(super) async fn make_index(&self, change: &Change<'_, D>, directory: &mut Inode) -> Result<()> {
        let root = self.directory_block(directory, 0).await?;
        let format = self.format();
        let version = self.superblock.hash_version;
        let Some(hasher) = Hasher::new(&self.superblock, version) else { return Ok(()) };
        let old = root.bytes();
        let bad = |()| bad_block(&root);
        let (own, parent) = (format.record(&old, 0), format.record(&old, DOT_BYTES));
        let (Some(own), Some(parent)) = (own, parent) else { return Err(bad(())) };
        if own.name(&old) != b"." || own.length != DOT_BYTES || parent.name(&old) != b".." {
            return Err(bad(()));
        }
        let names = sorted(&format, &hasher, &old).map_err(bad)?;
        let (number, leaf) = self.append_block(change, directory).await?;
        change.edit(&leaf, 0..format.block_bytes, |bytes| pack(&format, bytes, &names));
        let limit = self.index_limit(format.block_bytes, ROOT_ENTRIES);
        change.edit(&root, 0..format.block_bytes, |bytes| {
            let entry = Named { inode: parent.inode, code: parent.code, name: b".." };
            format.put(bytes, DOT_BYTES, format.block_bytes - DOT_BYTES, &entry);
            bytes.iter_mut().skip(ROOT_INFO).for_each(|byte| *byte = 0);
            put(bytes, ROOT_INFO + 4, &[version, ROOT_INFO_BYTES]);
            put_u16(bytes, ROOT_ENTRIES, limit as u16);
            put_u16(bytes, ROOT_ENTRIES + 2, 1);
            put_u32(bytes, ROOT_ENTRIES + 4, number);
        });
        directory.flags |= flag::INDEX;
        Ok(())
    }
}

/// Adds an entry behind the one that a way follows; there is room.
fn insert_entry<D: Device>(change: &Change<'_, D>, node: &Node, hash: u32, number: u32) {
    let at = node.entries + ENTRY_BYTES * (node.index + 1);
    let end = node.entries + ENTRY_BYTES * node.count;
    change.edit(&node.block, node.entries..end + ENTRY_BYTES, |bytes| {
        let (at, end) = (at - node.entries, end - node.entries);
        bytes.copy_within(at..end, at + ENTRY_BYTES);
        put_u32(bytes, at, hash);
        put_u32(bytes, at + 4, number);
        put_u16(bytes, 2, (node.count + 1) as u16);
    });
}

/// The names of a block other than `.` and `..`, sorted by their hashes.
fn sorted<'a>(format: &Format, hasher: &Hasher, bytes: &'a [u8]) -> Result<Vec<(u32, Named<'a>)>, ()> {
    let mut names = Vec::new();
    let _none: Option<()> = format.visit(bytes, format.usable(), |record| {
        let name = record.name(bytes);
        if record.inode != 0 && !matches!(name, b"." | b"..") {
            names.push((hasher.hash(name), Named { inode: record.inode, code: record.code, name }));
        }
        None
    })?;
    names.sort_by_key(|(hash, _)| *hash);
    Ok(names)
}

/// Writes names into a block one behind the other; they fit, as they come from one.
fn pack(format: &Format, bytes: &mut [u8], names: &[(u32, Named<'_>)]) {
    format.initialise(bytes);
    let mut at = 0;
    for (place, (_, name)) in names.iter().enumerate() {
        let size = needed(name.name.len());
        let length = if place + 1 == names.len() { format.usable().saturating_sub(at) } else { size };
        format.put(bytes, at, length, name);
        at += size;
    }
}
