//! What is free: counted from what the server said last and what was promised since, so that who is refused is refused at once.
//!
//! Promises are made high: a store below a file's end may need no block, a name no new block of its directory. When what is left seems too
//! little, everything that waits is sent and written back, and the server asked: only then is anybody refused.

use super::volume::{Volume, Want};
use crate::errno::{Errno, Result};
use crate::fs::attributes::Attributes;
use crate::platform::PAGE_SIZE;
use alloc::rc::Rc;
use core::cell::Cell;

/// Blocks that are left for what the file system itself needs to note what others need.
const MARGIN_BLOCKS: u64 = 16;
/// Blocks that a new name needs at most, about: of the directory, and of what it names.
const NAME_BLOCKS: u64 = 2;

/// What an extended attribute takes of the disk besides its bytes, and what a block of them takes.
const ATTRIBUTE_BYTES: usize = 16;
const ATTRIBUTE_BLOCK_BYTES: usize = 36;

/// What was promised, and what is known to be kept.
#[derive(Default)]
pub(super) struct Space {
    /// Blocks for stores that are not written back.
    stores: Cell<u64>,
    /// Blocks for names that are not applied.
    names: Cell<u64>,
    /// The server was asked when nothing else was promised, and nothing has been since.
    is_settled: Cell<bool>,
}

impl Space {
    /// Blocks that were promised.
    pub(super) fn promised(&self) -> u64 {
        self.stores.get().saturating_add(self.names.get())
    }
}

/// Who wants blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Stores to a file.
    Stores,
    /// A new name.
    Name,
}

impl Volume {
    /// How many blocks so many pages take.
    pub(super) fn blocks_of_pages(&self, pages: u64) -> u64 {
        pages.saturating_mul((PAGE_SIZE / self.geometry.get().block_bytes.max(1)).max(1))
    }

    /// Promises blocks. `ENOSPC`.
    pub(super) fn promise(self: &Rc<Self>, blocks: u64, claim: Claim) -> Result<()> {
        let (space, status) = (&self.space, self.status.get());
        let kept = if crate::budget::caller_is_superuser() { 0 } else { status.reserved_blocks };
        let free = status.free_blocks.saturating_sub(kept).saturating_sub(space.promised());
        if blocks.saturating_add(MARGIN_BLOCKS) > free {
            // Asking again would give the same answer.
            let is_known = space.is_settled.get() && space.promised() == 0;
            return Err(if is_known { Errno::ENOSPC } else { self.want(Want::Settled, Errno::ENOSPC) });
        }
        let promised = match claim {
            Claim::Stores => &space.stores,
            Claim::Name => &space.names,
        };
        promised.set(promised.get().saturating_add(blocks));
        space.is_settled.set(false);
        Ok(())
    }

    /// Whether an extended attribute fits beside the others: all of an inode must fit a block. `ENOSPC`.
    pub(crate) fn check_attribute(&self, others: &Attributes, name: &[u8], value: &[u8]) -> Result<()> {
        let taken =
            |name: &[u8], length: usize| ATTRIBUTE_BYTES + name.len().next_multiple_of(4) + length.next_multiple_of(4);
        let sum = others.sum(|other, length| if other == name { 0 } else { taken(other, length) });
        let room = (self.geometry.get().block_bytes as usize).saturating_sub(ATTRIBUTE_BLOCK_BYTES);
        let is_short = value.len() as u64 <= self.geometry.get().max_xattr_bytes;
        if is_short && sum + taken(name, value.len()) <= room { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Promises what a new name needs. `ENOSPC`.
    pub(crate) fn promise_name(self: &Rc<Self>) -> Result<()> {
        self.promise(NAME_BLOCKS, Claim::Name)
    }

    /// Stores were written back, or are not needed any more.
    pub(super) fn forget_store_promise(&self, blocks: u64) {
        self.space.stores.set(self.space.stores.get().saturating_sub(blocks));
    }

    /// All names were applied.
    pub(super) fn forget_name_promises(&self) {
        self.space.names.set(0);
    }

    /// The server said what is free, when everything had been sent.
    pub(super) fn note_settled(&self) {
        self.space.is_settled.set(true);
    }
}
