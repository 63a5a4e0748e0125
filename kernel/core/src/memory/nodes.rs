//! The nodes of all overlays and page caches, in one store.
//!
//! Like a [`Pool`](crate::pool::Pool), but a node is named by a bare number that fits in a slot of 32 bits; no id
//! outlives its node, because the reference counts say who holds it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::Exhausted;
use crate::account::{Account, Accounts, Resource};
use crate::machine::Frame;
use crate::pool::Id;

/// How many bits of the index one level takes.
pub(super) const SLOT_BITS: u32 = 6;
/// Slots in a node.
pub(super) const SLOTS: usize = 1 << SLOT_BITS;
const _: () = assert!(SLOTS == u64::BITS as usize);

/// Nodes that are made at once. A power of two.
const CHUNK: usize = 64;

/// What a node costs its account.
const NODE_BYTES: u64 = size_of::<Node>() as u64;

/// Names a node. Never 0, so that 0 in a slot means "nothing".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(NonZeroU32);

impl NodeId {
    /// The number as it stands in a slot.
    #[inline]
    pub(super) fn raw(self) -> u32 {
        self.0.get()
    }
}

/// Something to be done about pages; see [`cache`](super::cache). Overlays have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The pager has to be told that somebody waits for it.
    Wanted,
    /// It has to be written back.
    Dirty,
    /// It could be dropped.
    Clean,
    /// Its pager has been asked to fill it or to write it back, and has not answered.
    UnderWay,
}

impl Mark {
    pub(super) const ALL: [Self; 4] = [Self::Wanted, Self::Dirty, Self::Clean, Self::UnderWay];
}

/// A node of a radix tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Frame numbers in a node of height 1, else raw [`NodeId`]s. In a free node, slot 0 links the free list.
    pub(super) slots: [u32; SLOTS],
    /// How many slots and overlays point here; 0 for a free node. `u32::MAX` sticks.
    pub(super) references: u32,
    /// Which slots are not 0: a bit for each, so that a scan visits only those.
    pub(super) occupied: u64,
    /// For each [`Mark`], the slots at or below which there is one.
    marks: [u64; Mark::ALL.len()],
    /// Of a cache's leaf: the pages that were used since reclaim last came by.
    pub(super) recent: u64,
    /// Who pays.
    owner: Option<Id<Account>>,
}

impl Node {
    const FREE: Self =
        Self { slots: [0; SLOTS], references: 0, occupied: 0, marks: [0; Mark::ALL.len()], recent: 0, owner: None };

    /// Who pays.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn owner(&self) -> Option<Id<Account>> {
        self.owner
    }

    /// The slots with a mark.
    #[inline]
    pub(super) fn marked(&self, mark: Mark) -> u64 {
        self.marks[mark as usize]
    }

    /// The slot as a node.
    #[inline]
    pub(super) fn child(&self, slot: usize) -> Option<NodeId> {
        NonZeroU32::new(self.slots[slot]).map(NodeId)
    }

    /// The slot as a frame.
    #[inline]
    pub(super) fn frame(&self, slot: usize) -> Option<Frame> {
        match self.slots[slot] {
            0 => None,
            number => Some(Frame(number)),
        }
    }
}

/// The store.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// Raw id of the first free node; 0 if there is none.
    free: u32,
    spare: usize,
}

impl Nodes {
    /// An empty store; takes no memory.
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: 0, spare: 0 }
    }

    /// The number of nodes in use.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK - self.spare
    }

    /// Makes sure that `count` nodes can be taken.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Exhausted> {
        while self.spare < count {
            self.grow()?;
        }
        Ok(())
    }

    /// Charges `count` nodes.
    pub(super) fn charge(&self, accounts: &mut Accounts, payer: Id<Account>, count: usize) -> Result<(), Exhausted> {
        accounts.charge(payer, Resource::KernelBytes, count as u64 * NODE_BYTES)?;
        Ok(())
    }

    /// Takes back [`Nodes::charge`].
    pub(super) fn credit(&self, accounts: &mut Accounts, payer: Id<Account>, count: usize) {
        accounts.credit(payer, Resource::KernelBytes, count as u64 * NODE_BYTES);
        accounts.collect(payer);
    }

    /// Takes a node that was reserved and charged; it is empty and has one reference.
    pub(super) fn take(&mut self, owner: Id<Account>) -> NodeId {
        let Some(id) = NonZeroU32::new(self.free).map(NodeId) else { unreachable!("a node was not reserved") };
        let node = &mut self[id];
        let next = core::mem::replace(&mut node.slots[0], 0);
        node.references = 1;
        node.owner = Some(owner);
        self.free = next;
        self.spare -= 1;
        id
    }

    /// Adds a reference.
    #[inline]
    pub(super) fn retain(&mut self, id: NodeId) {
        let node = &mut self[id];
        node.references = node.references.saturating_add(1);
    }

    /// Adds a reference to the node in a slot.
    #[inline]
    pub(super) fn retain_raw(&mut self, raw: u32) {
        if let Some(id) = NonZeroU32::new(raw) {
            self.retain(NodeId(id));
        }
    }

    /// Drops a reference; tells whether none is left, in which case the caller empties and frees the node.
    pub(super) fn drop_reference(&mut self, id: NodeId) -> bool {
        let node = &mut self[id];
        match node.references {
            u32::MAX => false,
            0 | 1 => true,
            more => {
                node.references = more - 1;
                false
            }
        }
    }

    /// Frees a node whose content has been released, and credits its account.
    pub(super) fn free(&mut self, accounts: &mut Accounts, id: NodeId) {
        let next = self.free;
        let node = &mut self[id];
        let owner = node.owner;
        *node = Node::FREE;
        node.slots[0] = next;
        self.free = id.raw();
        self.spare += 1;
        if let Some(owner) = owner {
            self.credit(accounts, owner, 1);
        }
    }

    /// Writes a slot and notes whether it is occupied.
    #[inline]
    pub(super) fn set(&mut self, id: NodeId, slot: usize, raw: u32) {
        let node = &mut self[id];
        node.slots[slot] = raw;
        node.occupied = node.occupied & !(1 << slot) | u64::from(raw != 0) << slot;
    }

    /// Sets or clears a mark of a slot.
    #[inline]
    pub(super) fn mark(&mut self, id: NodeId, slot: usize, mark: Mark, is_set: bool) {
        let marks = &mut self[id].marks[mark as usize];
        *marks = *marks & !(1 << slot) | u64::from(is_set) << slot;
    }

    fn grow(&mut self) -> Result<(), Exhausted> {
        let first = u32::try_from(self.chunks.len() * CHUNK).map_err(|_| Exhausted::NoMemory)?;
        // Raw ids are one above the place.
        let end = first.checked_add(CHUNK as u32 + 1).ok_or(Exhausted::NoMemory)?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK)?;
        self.chunks.try_reserve(1)?;
        for next in first + 2..=end {
            let mut node = Node::FREE;
            node.slots[0] = if next == end { self.free } else { next };
            chunk.push(node);
        }
        self.chunks.push(chunk.into_boxed_slice().try_into().map_err(|_| Exhausted::NoMemory)?);
        self.free = first + 1;
        self.spare += CHUNK;
        Ok(())
    }
}

impl core::ops::Index<NodeId> for Nodes {
    type Output = Node;

    #[inline]
    fn index(&self, id: NodeId) -> &Node {
        let place = (id.raw() - 1) as usize;
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

impl core::ops::IndexMut<NodeId> for Nodes {
    #[inline]
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        let place = (id.raw() - 1) as usize;
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }
}
