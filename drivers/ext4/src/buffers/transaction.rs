//! One operation on a file system: all of its changes, or none.

use super::cache::Slot;
use super::{Block, Buffers, Kind, TransactionId};
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::sync::Guard;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;

/// One operation: what it changes joins the running transaction with [`finish`](Transaction::finish), and is undone when it is
/// dropped before that.
pub struct Transaction<'a, D: Device> {
    buffers: &'a Buffers<D>,
    /// Nobody else changes anything meanwhile. Dropped after the changes are undone.
    _alone: Guard<'a>,
    id: TransactionId,
    credits: u32,
    /// Blocks added to the running transaction, or revoked.
    used: Cell<u32>,
    undo: RefCell<Undo>,
}

#[derive(Default)]
struct Undo {
    steps: Vec<Step>,
    /// The bytes that changes overwrote, one after the other.
    bytes: Vec<u8>,
}

/// What has been done, with what it takes to undo it.
enum Step {
    /// The bytes from `at` are the last of those that were overwritten: `length` of them.
    Changed { block: Block, at: usize, length: usize },
    /// The block joined the running transaction.
    Joined(Block),
    /// The block was made or freed.
    Replaced { number: u64, before: Before },
    /// The blocks were marked as freed.
    Freed(Range<u64>),
}

/// What was known of a block's number.
struct Before {
    cached: Option<Block>,
    running: Option<Block>,
    revoked: bool,
}

impl<'a, D: Device> Transaction<'a, D> {
    pub(super) fn new(buffers: &'a Buffers<D>, alone: Guard<'a>, credits: u32) -> Self {
        let id = buffers.running();
        // Room for what most operations change: an inode or three, descriptors, bits, records.
        let undo = RefCell::new(Undo { steps: Vec::with_capacity(24), bytes: Vec::with_capacity(2048) });
        Self { buffers, _alone: alone, id, credits, used: Cell::new(0), undo }
    }

    /// The transaction that this operation is part of.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// Changes bytes of a block: as much of the range as the block has. `change` must not look at the block by other ways.
    pub fn change<R>(&self, block: &Block, range: Range<usize>, change: impl FnOnce(&mut [u8]) -> R) -> R {
        self.join(block);
        block.edit(|bytes| {
            let end = range.end.min(bytes.len());
            let at = range.start.min(end);
            let bytes = bytes.get_mut(at..end).unwrap_or_default();
            let mut undo = self.undo.borrow_mut();
            undo.bytes.extend_from_slice(bytes);
            undo.steps.push(Step::Changed { block: block.clone(), at, length: bytes.len() });
            drop(undo);
            change(bytes)
        })
    }

    /// Makes a block of zeroes, whatever the device has there.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the file system has no such block, or uses it as metadata already.
    pub fn new_block(&self, number: u64, kind: Kind) -> Result<Block> {
        if number == 0 || number >= self.buffers.blocks {
            return Err(Error::corrupt("block number", Place::Block(number)));
        }
        let zeroes = Rc::from(crate::bytes::zeroes(self.buffers.block_bytes));
        let block = Block::new(number, kind, zeroes);
        block.set_dirty(true);
        let mut state = self.buffers.state.borrow_mut();
        if matches!(state.running.blocks.get(&number), Some(present) if present.is_dirty()) {
            return Err(Error::corrupt("a block in use as two things", Place::Block(number)));
        }
        let before = Before {
            cached: state.cache.remove(number),
            running: state.running.blocks.insert(number, block.clone()),
            revoked: state.running.revoked.remove(&number),
        };
        state.cache.insert(block.clone());
        drop(state);
        self.draw();
        self.did(Step::Replaced { number, before });
        Ok(block)
    }

    /// A block that was metadata belongs to nobody now: it need not be written, and no older copy of it may come back.
    pub fn free_block(&self, number: u64) {
        let mut state = self.buffers.state.borrow_mut();
        let before = Before {
            cached: state.cache.remove(number),
            running: state.running.blocks.remove(&number),
            revoked: !state.running.revoked.insert(number),
        };
        if let Some(block) = &before.running {
            block.set_dirty(false);
        }
        drop(state);
        self.draw();
        self.did(Step::Replaced { number, before });
        self.free_data(number, 1);
    }

    /// Blocks belong to nobody now: [`Buffers::pending_in`] tells of them until that is durable.
    pub fn free_data(&self, first: u64, count: u64) {
        let range = first..first.saturating_add(count);
        self.buffers.state.borrow_mut().running.freed.insert(range.clone());
        self.did(Step::Freed(range));
    }

    /// Keeps what was changed: it is durable when the transaction with the returned name is.
    pub fn finish(self) -> TransactionId {
        if self.used.get() > self.credits {
            self.buffers.overdrawn.set(self.buffers.overdrawn.get() + 1);
            log::warn!("ext4: an operation of {} blocks had asked for {}", self.used.get(), self.credits);
        }
        *self.undo.borrow_mut() = Undo::default();
        self.id
    }

    /// Adds a block to the running transaction, unless it has been freed.
    fn join(&self, block: &Block) {
        if block.is_dirty() {
            return;
        }
        let mut state = self.buffers.state.borrow_mut();
        if state.running.revoked.contains(&block.number()) {
            return;
        }
        state.running.blocks.insert(block.number(), block.clone());
        block.set_dirty(true);
        drop(state);
        self.draw();
        self.did(Step::Joined(block.clone()));
    }

    fn did(&self, step: Step) {
        self.undo.borrow_mut().steps.push(step);
    }

    fn draw(&self) {
        self.used.set(self.used.get() + 1);
    }

    fn undo(&self, step: Step, overwritten: &mut Vec<u8>) {
        let mut state = self.buffers.state.borrow_mut();
        match step {
            Step::Changed { block, at, length } => {
                let old = overwritten.split_off(overwritten.len().saturating_sub(length));
                block.edit(|bytes| crate::bytes::put(bytes, at, &old));
            }
            Step::Joined(block) => {
                block.set_dirty(false);
                state.running.blocks.remove(&block.number());
            }
            Step::Replaced { number, before } => {
                if let Some(Slot::Present(block)) = state.cache.get(number) {
                    block.set_dirty(false);
                }
                before.restore(&mut state, number);
            }
            Step::Freed(range) => state.running.freed.remove(&range),
        }
    }
}

impl Before {
    fn restore(self, state: &mut super::State, number: u64) {
        state.cache.remove(number);
        state.running.blocks.remove(&number);
        state.running.revoked.remove(&number);
        if let Some(block) = self.cached {
            state.cache.insert(block);
        }
        if let Some(block) = self.running {
            block.set_dirty(true);
            state.running.blocks.insert(number, block);
        }
        if self.revoked {
            state.running.revoked.insert(number);
        }
    }
}

impl<D: Device> Drop for Transaction<'_, D> {
    fn drop(&mut self) {
        let mut undo = self.undo.take();
        while let Some(step) = undo.steps.pop() {
            self.undo(step, &mut undo.bytes);
        }
    }
}
