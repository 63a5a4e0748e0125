//! Which blocks of the device hold a file: trees of extents, and the block maps of ext2 and ext3.

mod extents;
mod indirect;
mod node;
mod search;

pub use node::State;

use crate::Ext4;
use crate::allocation::Held;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::{FileKind, Inode};
use alloc::vec::Vec;
pub(crate) use node::Extent;

/// Most runs that one request gives or makes.
const MOST_RUNS: usize = 256;

/// Where a run of a file's blocks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: they read as zeroes.
    Hole,
    /// From this block of the device on, with contents.
    Written(u64),
    /// From this block of the device on, but they read as zeroes.
    Unwritten(u64),
}

/// Blocks of a file that lie together, or are missing together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first block of the file.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where they are.
    pub target: Target,
}

/// What lies at a block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The extent that has the block.
    In(Extent),
    /// Nothing, up to this block of the file (not included), where something may begin.
    Until(u64),
}

/// How far a piece of work came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All is done.
    Done,
    /// The rest has to follow in another transaction.
    More,
}

impl Extent {
    fn run(&self) -> Run {
        let target = match self.state {
            State::Written => Target::Written(self.start),
            State::Unwritten => Target::Unwritten(self.start),
        };
        Run { first: u64::from(self.first), count: u64::from(self.count), target }
    }
}

impl<D: Device> Ext4<D> {
    /// Blocks that a file may have, by its kind of map.
    pub(crate) fn most_blocks(&self, inode: &Inode) -> u64 {
        if inode.has_extents() { u64::from(u32::MAX) } else { indirect::most_blocks(&self.superblock) }
    }

    /// What lies at a block of a file.
    pub(crate) async fn find_block(&self, inode: &Inode, block: u32) -> Result<Lie> {
        let lie = if inode.has_extents() {
            self.find_extent(inode, block).await?
        } else {
            self.find_mapped(inode, block).await?
        };
        if let Lie::In(extent) = &lie {
            self.check_blocks(extent.start, u64::from(extent.count), Place::Inode(inode.number))?;
        }
        Ok(lie)
    }

    /// The runs of `count` blocks of a file from `first`, without gaps; perhaps fewer than asked for.
    pub(crate) async fn runs(&self, inode: &Inode, first: u64, count: u64) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let end = first.saturating_add(count);
        let most = self.most_blocks(inode).min(end);
        let mut at = first;
        while at < most && runs.len() < MOST_RUNS {
            let block = at as u32;
            let run = match self.find_block(inode, block).await? {
                Lie::In(extent) => extent.from(block).run(),
                Lie::Until(next) => Run { first: at, count: next.saturating_sub(at).max(1), target: Target::Hole },
            };
            let run = Run { count: run.count.min(end - at), ..run };
            at += run.count;
            join_or_push(&mut runs, run);
        }
        if at >= most && at < end {
            join_or_push(&mut runs, Run { first: at, count: end - at, target: Target::Hole });
        }
        Ok(runs)
    }

    /// The device's block that holds a block of a file, if it was written.
    pub(crate) async fn block_of(&self, inode: &Inode, block: u32) -> Result<Option<u64>> {
        Ok(match self.find_block(inode, block).await? {
            Lie::In(extent) if extent.state == State::Written => Some(extent.start + u64::from(block - extent.first)),
            Lie::In(_) | Lie::Until(_) => None,
        })
    }

    /// Where a file's block should go: behind the one before it, or near the inode.
    async fn goal(&self, inode: &Inode, block: u32) -> Result<u64> {
        if let Some(before) = block.checked_sub(1)
            && let Lie::In(extent) = self.find_block(inode, before).await?
        {
            return Ok(extent.start + u64::from(block - extent.first));
        }
        let (group, _) = self.superblock.inode_group(inode.number)?;
        Ok(self.superblock.group_start(group))
    }

    /// Finds free blocks for a hole of a file: as many of `count` from `first` as there are in one run.
    pub(crate) async fn find_for_hole(&self, inode: &Inode, first: u32, count: u32) -> Result<(u64, u32)> {
        let goal = self.goal(inode, first).await?;
        if inode.has_extents() {
            self.find_blocks(goal, count.min(node::MOST_IN_ONE)).await
        } else {
            self.find_for_mapped(goal, first, count).await
        }
    }

    /// Sets blocks aside for a hole of a file, as [`find_for_hole`](Ext4::find_for_hole) finds them. The inode is to be stored.
    pub(crate) async fn fill_hole(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        count: u32,
    ) -> Result<Run> {
        if !inode.has_extents() {
            return Err(Error::Unsupported("blocks set aside in a file without extents"));
        }
        let (start, count) = self.find_for_hole(inode, first, count).await?;
        let extent = Extent { first, count, start, state: State::Unwritten };
        self.attach_extent(change, inode, extent).await?;
        Ok(extent.run())
    }

    /// Gives a file blocks with data, which are free, at a hole. The inode is to be stored.
    pub(crate) async fn attach_run(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        start: u64,
        count: u32,
    ) -> Result<()> {
        if inode.has_extents() {
            self.attach_extent(change, inode, Extent { first, count, start, state: State::Written }).await
        } else {
            self.attach_mapped(change, inode, first, start, count).await
        }
    }

    /// Gives a file that is metadata a block at a hole. The inode is to be stored.
    pub(crate) async fn add_block(&self, change: &Change<'_, D>, inode: &mut Inode, block: u32) -> Result<u64> {
        let (start, count) = self.find_for_hole(inode, block, 1).await?;
        let found = start..start + u64::from(count);
        // Nor may the tables that are made on the way take it.
        self.promised.borrow_mut().insert(found.clone());
        let attached = self.attach_run(change, inode, block, start, count).await;
        self.promised.borrow_mut().remove(&found);
        attached.map(|()| start)
    }

    async fn attach_extent(&self, change: &Change<'_, D>, inode: &mut Inode, extent: Extent) -> Result<()> {
        self.take_run(change, extent.start, extent.count).await?;
        inode.add_blocks(&self.superblock, u64::from(extent.count));
        self.insert_extent(change, inode, extent).await
    }

    /// Takes blocks from `first` to `last` of the file away, the last ones first, as far as one transaction allows. The inode
    /// is to be stored.
    pub(crate) async fn cut(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        last: u32,
    ) -> Result<Progress> {
        if inode.has_extents() {
            self.cut_extents(change, inode, first, last).await
        } else {
            self.cut_mapped(change, inode, first, last).await
        }
    }

    /// Blocks that filling one hole may touch.
    pub(crate) fn fill_credits(&self, inode: &Inode) -> u32 {
        if inode.has_extents() { self.insert_credits(inode) } else { indirect::FILL_CREDITS }
    }

    /// Blocks that one [`cut`](Ext4::cut) may touch.
    pub(crate) fn cut_credits(&self, inode: &Inode) -> u32 {
        if inode.has_extents() { self.cut_extents_credits(inode) } else { indirect::CUT_CREDITS }
    }
}

fn join_or_push(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut() {
        let follows = match (last.target, run.target) {
            (Target::Hole, Target::Hole) => true,
            (Target::Written(before), Target::Written(start))
            | (Target::Unwritten(before), Target::Unwritten(start)) => before + last.count == start,
            (Target::Hole | Target::Written(_) | Target::Unwritten(_), _) => false,
        };
        if follows {
            last.count += run.count;
            return;
        }
    }
    runs.push(run);
}

/// Writes the checksum of a node of an extent tree.
pub(crate) fn seal_node(seed: u32, bytes: &mut [u8]) {
    let tail = node::checksum_at(bytes);
    let sum = crate::checksum::crc32c(seed, crate::bytes::slice(bytes, 0, tail));
    crate::bytes::put_u32(bytes, tail, sum);
}

/// Makes the map of an inode an empty tree of extents.
pub(crate) fn empty_tree(map: &mut [u8; crate::inode::MAP_BYTES]) {
    node::initialise(map, node::capacity_of(crate::inode::MAP_BYTES), 0);
}

/// The run of an extent's part from block `at` of the file, of at most `most` blocks.
pub(crate) fn clipped(extent: &Extent, at: u32, most: u32) -> Run {
    let run = extent.from(at).run();
    Run { count: run.count.min(u64::from(most)), ..run }
}

/// What the blocks of a file are to the journal.
fn held(inode: &Inode) -> Held {
    if inode.kind() == Some(FileKind::Regular) { Held::Data } else { Held::Metadata }
}
