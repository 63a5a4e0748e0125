//! Changing trees of extents. Every inner entry names the first block that the node below is about, exactly; nodes other than
//! the root are never empty.

use super::node::{self, ENTRY_BYTES, Extent, Header, MOST_DEPTH, State};
use super::search::{Node, Path, Step};
use super::{Lie, Progress};
use crate::Ext4;
use crate::allocation::{Held, RUN_CREDITS};
use crate::buffers::Kind;
use crate::bytes::put_u32;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::Inode;
use alloc::vec::Vec;
use core::ops::Range;

/// Groups whose blocks one transaction frees at most.
const MOST_GROUPS: usize = 16;
/// Extents that one transaction frees at most.
const MOST_EXTENTS: u32 = 512;
/// Nodes that one transaction frees at most.
const MOST_NODES: u32 = 8;

/// What one transaction may still free.
struct Budget {
    groups: Vec<u32>,
    extents: u32,
    nodes: u32,
}

impl<D: Device> Ext4<D> {
    /// Blocks that an insertion may touch, the taking of the blocks included.
    pub(super) fn insert_credits(&self, inode: &Inode) -> u32 {
        let depth = Header::parse(&inode.map).map_or(0, |header| u32::from(header.depth));
        // Every level may be split: the node, its new neighbour, bitmap and descriptor for it. Then the blocks, and the inode.
        (depth + 2) * (2 + RUN_CREDITS) + RUN_CREDITS + 1
    }

    /// Blocks that one cut may touch.
    pub(super) fn cut_extents_credits(&self, inode: &Inode) -> u32 {
        let nodes = MOST_NODES * (2 + RUN_CREDITS);
        MOST_GROUPS as u32 * RUN_CREDITS + nodes + self.insert_credits(inode)
    }

    /// Adds an extent at a hole, joined with its neighbours if it can be.
    pub(super) async fn insert_extent(&self, change: &Change<'_, D>, inode: &mut Inode, extent: Extent) -> Result<()> {
        // Each round without success splits one level; each level is split at most once, and the root may grow once.
        for _ in 0..=2 * MOST_DEPTH {
            let path = self.path(inode, extent.first).await?;
            self.check_hole(inode, &path, &extent)?;
            if self.join_neighbours(change, inode, &path, &extent) {
                return Ok(());
            }
            let leaf = &path.leaf;
            if leaf.header.entries < leaf.header.capacity {
                insert_entry(change, inode, leaf, leaf.entry, &extent.entry());
                if leaf.entry == 0 {
                    set_keys(change, inode, &path.steps, extent.first);
                }
                return Ok(());
            }
            self.make_room(change, inode, path, extent.first).await?;
        }
        Err(Error::corrupt("tree of extents", Place::Inode(inode.number)))
    }

    fn check_hole(&self, inode: &Inode, path: &Path, extent: &Extent) -> Result<()> {
        let leaf = &path.leaf;
        let (before, after) = leaf.node.read(inode, |bytes| neighbours(bytes, leaf));
        let free = before.is_none_or(|before| before.end() <= u64::from(extent.first))
            && after.is_none_or(|after| extent.end() <= u64::from(after.first))
            && extent.end() <= path.range.end;
        if free { Ok(()) } else { Err(Error::corrupt("extents that overlap", Place::Inode(inode.number))) }
    }

    /// Makes an extent part of the one before or after it in its leaf, or of both.
    fn join_neighbours(&self, change: &Change<'_, D>, inode: &mut Inode, path: &Path, extent: &Extent) -> bool {
        let leaf = &path.leaf;
        let (before, after) = leaf.node.read(inode, |bytes| neighbours(bytes, leaf));
        let left = before.and_then(|before| before.joined(extent));
        let both = left.and_then(|left| left.joined(&after?));
        if let Some(both) = both {
            set_entry(change, inode, leaf, leaf.entry - 1, &both.entry());
            remove_entry(change, inode, leaf, leaf.entry);
            return true;
        }
        if let Some(left) = left {
            set_entry(change, inode, leaf, leaf.entry - 1, &left.entry());
            return true;
        }
        let Some(right) = after.and_then(|after| extent.joined(&after)) else { return false };
        set_entry(change, inode, leaf, leaf.entry, &right.entry());
        if leaf.entry == 0 {
            set_keys(change, inode, &path.steps, right.first);
        }
        true
    }

    /// Splits the lowest full node on a way whose parent has room, or makes the tree one level higher.
    async fn make_room(&self, change: &Change<'_, D>, inode: &mut Inode, path: Path, block: u32) -> Result<()> {
        let mut nodes = path.steps;
        nodes.push(path.leaf);
        let has_room = |step: &Step| step.header.entries < step.header.capacity;
        match nodes.iter().rposition(has_room) {
            Some(parent) => match (nodes.get(parent), nodes.get(parent + 1)) {
                (Some(parent), Some(full)) => self.split(change, inode, parent, full, block).await,
                _ => Ok(()),
            },
            None => self.grow(change, inode).await,
        }
    }

    async fn new_tree_node(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        depth: u16,
    ) -> Result<crate::buffers::Block> {
        let (group, _) = self.superblock.inode_group(inode.number)?;
        let (number, _) = self.take_blocks(change, self.superblock.group_start(group), 1).await?;
        let block = change.fresh(number, Kind::Extents { seed: inode.seed(&self.superblock) })?;
        let capacity = node::capacity_of(self.superblock.block_bytes as usize);
        change.edit(&block, 0..ENTRY_BYTES, |bytes| node::initialise(bytes, capacity, depth));
        inode.add_blocks(&self.superblock, 1);
        Ok(block)
    }

    /// Moves the root's entries into a node of their own.
    async fn grow(&self, change: &Change<'_, D>, inode: &mut Inode) -> Result<()> {
        let corrupt = || Error::corrupt("tree of extents", Place::Inode(inode.number));
        let root = Header::parse(&inode.map).filter(|root| root.entries > 0).ok_or_else(corrupt)?;
        if root.depth >= MOST_DEPTH {
            return Err(Error::FileTooBig);
        }
        let block = self.new_tree_node(change, inode, root.depth).await?;
        let entries = node::entries_at(0..root.entries);
        change.edit(&block, 0..entries.end, |bytes| {
            crate::bytes::put(bytes, entries.start, crate::bytes::slice(&inode.map, entries.start, entries.len()));
            node::set_entries(bytes, root.entries);
        });
        let first = node::key(&inode.map, 0);
        node::initialise(&mut inode.map, root.capacity, root.depth + 1);
        node::insert(&mut inode.map, 0, &node::index_entry(first, block.number()));
        Ok(())
    }

    /// Moves the last entries of a full node into a new one. At the end of a leaf, where files grow, the new one starts empty
    /// and gets the entry about `block` next.
    async fn split(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        parent: &Step,
        full: &Step,
        block: u32,
    ) -> Result<()> {
        let entries = full.header.entries;
        let from = match full.header.depth {
            0 if full.entry == entries => entries,
            0 => entries.div_ceil(2),
            _ if full.entry + 1 == entries => entries - 1,
            _ => entries.div_ceil(2),
        };
        let new = self.new_tree_node(change, inode, full.header.depth).await?;
        let range = node::entries_at(from..entries);
        let moved: Vec<u8> = full.node.read(inode, |bytes| crate::bytes::slice(bytes, range.start, range.len()).into());
        let key = if moved.is_empty() { block } else { crate::bytes::u32_at(&moved, 0) };
        change.edit(&new, 0..ENTRY_BYTES + moved.len(), |bytes| {
            crate::bytes::put(bytes, ENTRY_BYTES, &moved);
            node::set_entries(bytes, entries - from);
        });
        edit(change, inode, &full.node, 0..ENTRY_BYTES, |bytes| node::set_entries(bytes, from));
        insert_entry(change, inode, parent, parent.entry + 1, &node::index_entry(key, new.number()));
        Ok(())
    }

    /// See [`cut`](Ext4::cut).
    pub(super) async fn cut_extents(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        last: u32,
    ) -> Result<Progress> {
        let mut budget = Budget { groups: Vec::new(), extents: MOST_EXTENTS, nodes: MOST_NODES };
        let first = u64::from(first);
        let mut end = u64::from(last) + 1;
        while end > first {
            let path = self.path(inode, (end - 1) as u32).await?;
            let Some(index) = path.leaf.entry.checked_sub(1) else {
                end = path.range.start;
                continue;
            };
            let extent = path.leaf.node.read(inode, |bytes| node::extent(bytes, index));
            if extent.end() <= first {
                end = if index == 0 { path.range.start } else { first };
                continue;
            }
            self.check_blocks(extent.start, u64::from(extent.count), Place::Inode(inode.number))?;
            let gone = first.max(u64::from(extent.first))..end.min(extent.end());
            let Some(gone) = self.afford(&mut budget, &extent, gone) else { return Ok(Progress::More) };
            end = gone.start;
            let freed = self.cut_extent(change, inode, path, extent, gone).await?;
            budget.nodes = budget.nodes.saturating_sub(freed);
        }
        Ok(Progress::Done)
    }

    /// As much of the end of a range of an extent as a budget allows to free.
    fn afford(&self, budget: &mut Budget, extent: &Extent, gone: Range<u64>) -> Option<Range<u64>> {
        if budget.extents == 0 || budget.nodes <= u32::from(MOST_DEPTH) {
            return None;
        }
        budget.extents -= 1;
        let block_at = |at: u64| extent.start + (at - u64::from(extent.first));
        let mut from = gone.end;
        while from > gone.start {
            let (group, _) = self.superblock.group_of(block_at(from - 1))?;
            if !budget.groups.contains(&group) {
                if budget.groups.len() == MOST_GROUPS {
                    break;
                }
                budget.groups.push(group);
            }
            let in_group = block_at(from) - self.superblock.group_start(group).min(block_at(from));
            from = from.saturating_sub(in_group.max(1)).max(gone.start);
        }
        (from < gone.end).then_some(from..gone.end)
    }

    /// Takes a range out of an extent, the one before the leaf's position, and frees its blocks; tells how many nodes were freed.
    async fn cut_extent(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        path: Path,
        extent: Extent,
        gone: Range<u64>,
    ) -> Result<u32> {
        let (from, to) = (gone.start as u32, gone.end);
        let count = gone.end - gone.start;
        let start = extent.start + u64::from(from - extent.first);
        self.free_blocks(change, start, count, super::held(inode)).await?;
        inode.remove_blocks(&self.superblock, count);
        let index = path.leaf.entry - 1;
        let rest = (to < extent.end()).then(|| extent.from(to as u32));
        if from > extent.first {
            set_entry(change, inode, &path.leaf, index, &extent.until(from).entry());
            if let Some(rest) = rest {
                self.insert_extent(change, inode, rest).await?;
            }
            return Ok(0);
        }
        match rest {
            Some(rest) => {
                set_entry(change, inode, &path.leaf, index, &rest.entry());
                if index == 0 {
                    set_keys(change, inode, &path.steps, rest.first);
                }
                Ok(0)
            }
            None => self.remove_extent(change, inode, path, index).await,
        }
    }

    /// Takes an entry out of a leaf, and nodes that become empty out of the tree; tells how many.
    async fn remove_extent(&self, change: &Change<'_, D>, inode: &mut Inode, path: Path, index: usize) -> Result<u32> {
        let Path { mut steps, leaf, .. } = path;
        let (mut step, mut index) = (leaf, index);
        let mut freed = 0;
        loop {
            remove_entry(change, inode, &step, index);
            if step.header.entries > 1 {
                if index == 0 {
                    let first = step.node.read(inode, |bytes| node::key(bytes, 0));
                    set_keys(change, inode, &steps, first);
                }
                return Ok(freed);
            }
            let Node::Block(block) = &step.node else {
                let capacity = step.header.capacity;
                node::initialise(&mut inode.map, capacity, 0);
                return Ok(freed);
            };
            self.free_blocks(change, block.number(), 1, Held::Metadata).await?;
            inode.remove_blocks(&self.superblock, 1);
            freed += 1;
            let Some(parent) = steps.pop() else { return Ok(freed) };
            index = parent.entry;
            step = parent;
        }
    }

    /// Marks unwritten blocks of a file from `first` as written, at most one extent; gives the block after the last that was
    /// looked at. The inode is to be stored.
    pub(crate) async fn convert_extent(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        last: u32,
    ) -> Result<u64> {
        let extent = match self.find_extent(inode, first).await? {
            Lie::In(extent) => extent,
            Lie::Until(next) => return Ok(next),
        };
        let end = extent.end().min(u64::from(last) + 1);
        if extent.state == State::Written {
            return Ok(end);
        }
        let rest = (end < extent.end()).then(|| extent.from(end as u32));
        let part = extent.from(first);
        let part = Extent { state: State::Written, ..part.until(part.first + (end - u64::from(first)) as u32) };
        let path = self.path(inode, first).await?;
        let index = path.leaf.entry - 1;
        if first > extent.first {
            set_entry(change, inode, &path.leaf, index, &extent.until(first).entry());
            self.insert_extent(change, inode, part).await?;
        } else {
            self.convert_start(change, inode, path, part).await?;
        }
        if let Some(rest) = rest {
            self.insert_extent(change, inode, rest).await?;
        }
        Ok(end)
    }

    /// Replaces the extent at a leaf's position by its first part, written; joined with the one before if it can be.
    async fn convert_start(&self, change: &Change<'_, D>, inode: &mut Inode, path: Path, part: Extent) -> Result<()> {
        let leaf = &path.leaf;
        let index = leaf.entry - 1;
        let before = index.checked_sub(1).map(|before| leaf.node.read(inode, |bytes| node::extent(bytes, before)));
        if let Some(joined) = before.and_then(|before| before.joined(&part)) {
            set_entry(change, inode, leaf, index - 1, &joined.entry());
            self.remove_extent(change, inode, path, index).await?;
        } else {
            set_entry(change, inode, leaf, index, &part.entry());
        }
        Ok(())
    }
}

/// The extents before and after the position in a leaf.
fn neighbours(bytes: &[u8], leaf: &Step) -> (Option<Extent>, Option<Extent>) {
    let before = leaf.entry.checked_sub(1).map(|index| node::extent(bytes, index));
    let after = (leaf.entry < leaf.header.entries).then(|| node::extent(bytes, leaf.entry));
    (before, after)
}

/// Changes a range of a node.
fn edit<D: Device>(
    change: &Change<'_, D>,
    inode: &mut Inode,
    node: &Node,
    range: Range<usize>,
    edit: impl FnOnce(&mut [u8]),
) {
    match node {
        Node::Root => edit(crate::bytes::slice_mut(&mut inode.map, range.start, range.len())),
        Node::Block(block) => change.edit(block, range, edit),
    }
}

fn set_entry<D: Device>(
    change: &Change<'_, D>,
    inode: &mut Inode,
    step: &Step,
    index: usize,
    entry: &[u8; ENTRY_BYTES],
) {
    edit(change, inode, &step.node, node::entries_at(index..index + 1), |bytes| crate::bytes::put(bytes, 0, entry));
}

fn insert_entry<D: Device>(
    change: &Change<'_, D>,
    inode: &mut Inode,
    step: &Step,
    index: usize,
    entry: &[u8; ENTRY_BYTES],
) {
    let entries = step.header.entries;
    if index == entries {
        // Files grow at their end: what is before it need not be saved.
        set_entry(change, inode, step, index, entry);
        return edit(change, inode, &step.node, 0..ENTRY_BYTES, |bytes| node::set_entries(bytes, entries + 1));
    }
    let end = node::entries_at(0..entries + 1).end;
    edit(change, inode, &step.node, 0..end, |bytes| node::insert(bytes, index, entry));
}

fn remove_entry<D: Device>(change: &Change<'_, D>, inode: &mut Inode, step: &Step, index: usize) {
    let end = node::entries_at(0..step.header.entries).end;
    edit(change, inode, &step.node, 0..end, |bytes| node::remove(bytes, index..index + 1));
}

/// Tells the nodes above that the one at the end of the way begins with another block now.
fn set_keys<D: Device>(change: &Change<'_, D>, inode: &mut Inode, steps: &[Step], first: u32) {
    for step in steps.iter().rev() {
        let at = node::entries_at(step.entry..step.entry + 1);
        edit(change, inode, &step.node, at, |bytes| put_u32(bytes, 0, first));
        if step.entry > 0 {
            return;
        }
    }
}
