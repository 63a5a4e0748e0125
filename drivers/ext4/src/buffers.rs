//! Metadata blocks in memory, and the transactions that change them.
//!
//! Contract:
//!
//! - [`Buffers::get`] gives a block, read from the device if need be, and checked once after that. Tasks that want the same
//!   block share one read. Reading never waits for a commit.
//! - [`Buffers::begin`] opens a [`Transaction`], one at a time. It waits until the log has room for all that the operation may
//!   change, so that no operation is stopped half-way by a full log. What it changed counts with [`Transaction::finish`];
//!   dropped before that, it leaves no trace.
//! - [`Buffers::commit`] makes durable everything that was finished before. Operations go on meanwhile: the blocks of the
//!   transaction that is being written keep their bytes, and who changes one gets a copy.
//! - With a journal all of a transaction is on the disk after a power cut or nothing of it; without one its blocks are written
//!   in place, in the order of their numbers.
//! - A write that fails ends all writing: the disk would not have what memory says. Nothing is forgotten, readers go on, and
//!   what the log has is replayed by the next mount.

mod block;
mod cache;
mod commit;
mod home;
#[cfg(test)]
mod tests;
mod transaction;

pub use block::Block;
pub use transaction::Transaction;

use crate::device::{Device, SECTOR_BYTES};
use crate::error::{Error, Place, Result};
use crate::journal::Journal;
use crate::ranges::Ranges;
use crate::sync::{Lock, Signal};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use cache::{Cache, Slot};
pub(crate) use commit::Closed;
use core::cell::{Cell, RefCell};
use core::ops::Range;
pub(crate) use home::{Copies, write_home};

/// Bytes of blocks kept in memory although nobody needs them.
const CACHE_BYTES: usize = 8 << 20;

/// Names a transaction: later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(u64);

impl TransactionId {
    /// The transaction that a journal calls `sequence`.
    #[must_use]
    pub const fn from_sequence(sequence: u32) -> Self {
        Self(1 << 32 | sequence as u64)
    }

    /// What the journal calls the transaction: the number wraps around.
    #[must_use]
    pub const fn sequence(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    pub(crate) const fn plus(self, count: u32) -> Self {
        Self(self.0 + count as u64)
    }

    pub(crate) const fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

/// Completes blocks before they are written.
pub trait Seal {
    /// Sets the checksums in all blocks of a transaction that closes. Called once for it, while no operation is open.
    fn seal(&self, blocks: &BTreeMap<u64, Block>);
}

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
    /// Names of a directory, or a node of its hash tree.
    Directory {
        /// The checksum's start: over the inode's number and generation.
        seed: u32,
    },
    /// Extended attributes outside their inode.
    Attributes,
    /// Without a checksum: block maps, long symbolic links.
    Plain,
}

/// The metadata blocks of one file system.
pub struct Buffers<D> {
    device: Rc<D>,
    block_bytes: usize,
    blocks: u64,
    journal: Option<Journal>,
    state: RefCell<State>,
    seal: RefCell<Option<Rc<dyn Seal>>>,
    /// Held by the open [`Transaction`], and while the running transaction closes.
    operation: Lock,
    /// Held by who writes a closed transaction or brings logged blocks home. Taken before `operation`.
    writer: Lock,
    /// Operations that changed more blocks than they had asked for.
    overdrawn: Cell<u64>,
}

struct State {
    cache: Cache,
    running: Running,
    /// The transaction that is being written.
    closed: Option<Rc<Closed>>,
    committed: TransactionId,
    health: Health,
}

/// The transaction that operations add to.
struct Running {
    id: TransactionId,
    blocks: BTreeMap<u64, Block>,
    /// Blocks that were metadata and have been freed: older copies in the log must not come back.
    revoked: BTreeSet<u64>,
    freed: Ranges,
}

impl Running {
    fn new(id: TransactionId) -> Self {
        Self { id, blocks: BTreeMap::new(), revoked: BTreeSet::new(), freed: Ranges::default() }
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.revoked.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Writable,
    ReadOnly,
    /// A write has failed.
    Failed,
}

impl<D: Device> Buffers<D> {
    /// The blocks of a file system of `blocks` blocks of `block_bytes` bytes, without a journal.
    #[must_use]
    pub fn new(device: Rc<D>, block_bytes: usize, blocks: u64) -> Self {
        Self::with(device, block_bytes, blocks, None, TransactionId::from_sequence(1))
    }

    /// The blocks of a file system with a journal, of the same block size.
    #[must_use]
    pub fn with_journal(device: Rc<D>, block_bytes: usize, blocks: u64, journal: Journal) -> Self {
        let first = journal.next_id();
        Self::with(device, block_bytes, blocks, Some(journal), first)
    }

    fn with(device: Rc<D>, block_bytes: usize, blocks: u64, journal: Option<Journal>, first: TransactionId) -> Self {
        let state = State {
            cache: Cache::new(CACHE_BYTES / block_bytes.max(1)),
            running: Running::new(first),
            closed: None,
            committed: first.previous(),
            health: Health::Writable,
        };
        Self {
            device,
            block_bytes,
            blocks,
            journal,
            state: RefCell::new(state),
            seal: RefCell::new(None),
            operation: Lock::new(),
            writer: Lock::new(),
            overdrawn: Cell::new(0),
        }
    }

    /// Names who completes the blocks of each transaction before it is written.
    pub fn set_sealer(&self, seal: Rc<dyn Seal>) {
        *self.seal.borrow_mut() = Some(seal);
    }

    /// Refuses operations from now on.
    pub fn set_read_only(&self) {
        let health = &mut self.state.borrow_mut().health;
        *health = match *health {
            Health::Writable | Health::ReadOnly => Health::ReadOnly,
            Health::Failed => Health::Failed,
        };
    }

    /// Takes operations again that [`set_read_only`](Buffers::set_read_only) kept out.
    pub fn set_writable(&self) {
        let health = &mut self.state.borrow_mut().health;
        *health = match *health {
            Health::Writable | Health::ReadOnly => Health::Writable,
            Health::Failed => Health::Failed,
        };
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Rc<D> {
        &self.device
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// The last transaction that is durable.
    #[must_use]
    pub fn committed(&self) -> TransactionId {
        self.state.borrow().committed
    }

    /// The transaction that the next operation joins.
    #[must_use]
    pub fn running(&self) -> TransactionId {
        self.state.borrow().running.id
    }

    /// The first range of blocks with some of `count` from `first` on that were freed by what is not durable yet. They must not
    /// be used: after a power cut they would belong to whom they belonged before. A commit makes them available.
    #[must_use]
    pub fn pending_in(&self, first: u64, count: u64) -> Option<Range<u64>> {
        let wanted = first..first.saturating_add(count);
        let state = self.state.borrow();
        let running = state.running.freed.first_overlap(&wanted);
        let closed = state.closed.as_ref().and_then(|closed| closed.freed.first_overlap(&wanted));
        running.into_iter().chain(closed).min_by_key(|range| range.start)
    }

    /// How often an operation changed more blocks than it had asked for. Not an error as long as the log has some room left,
    /// but the estimate of the operation is wrong.
    #[must_use]
    pub fn overdrawn(&self) -> u64 {
        self.overdrawn.get()
    }

    /// The block with a number, as a `kind` of block. When it has to be read, `check` sees it before anybody else does.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: no such block, or in use as another kind; [`Error::Device`]; those of `check`.
    pub async fn get(&self, number: u64, kind: Kind, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<Block> {
        let load = loop {
            let signal = match self.look_up(number, kind)? {
                Found::Block(block) => return Ok(block),
                Found::Loading(signal) => signal,
                Found::Nothing(load) => break load,
            };
            signal.wait().await;
        };
        let mut bytes: Rc<[u8]> = Rc::from(crate::bytes::zeroes(self.block_bytes));
        if let Some(bytes) = Rc::get_mut(&mut bytes) {
            self.device.read(self.sector_of(number), bytes).await?;
        }
        check(&bytes)?;
        load.finish(Block::new(number, kind, bytes))
    }

    fn look_up(&self, number: u64, kind: Kind) -> Result<Found<'_, D>> {
        let mut state = self.state.borrow_mut();
        let block = match state.cache.get(number) {
            Some(Slot::Present(block)) => block.clone(),
            Some(Slot::Loading(signal)) => return Ok(Found::Loading(signal.clone())),
            None if !(1..self.blocks).contains(&number) && kind != Kind::Superblock => {
                return Err(Error::corrupt("block number", Place::Block(number)));
            }
            None => match self.pending_copy(&state, number) {
                Some(bytes) => {
                    let block = Block::new(number, kind, bytes);
                    state.cache.insert(block.clone());
                    block
                }
                None => {
                    let signal = state.cache.begin_loading(number);
                    return Ok(Found::Nothing(Load { buffers: self, number, signal }));
                }
            },
        };
        if block.kind() != kind {
            return Err(Error::corrupt("a block in use as two things", Place::Block(number)));
        }
        block.set_referenced();
        Ok(Found::Block(block))
    }

    /// Changes a block in memory and at its home at once, outside of any transaction: for the flags of the superblock, while
    /// no transaction has changed it. Durable after the next commit or flush of the device.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a transaction has changed the block; [`Error::ReadOnly`]; [`Error::Device`].
    pub async fn write_home(&self, block: &Block, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let _writer = self.writer.lock().await;
        let _operation = self.operation.lock().await;
        self.check_healthy()?;
        if block.is_dirty() || self.pending_copy(&self.state.borrow(), block.number()).is_some() {
            return Err(Error::Invalid);
        }
        block.edit(change);
        let written = self.device.write(self.sector_of(block.number()), &block.bytes()).await;
        written.map_err(|_| self.fail("the superblock"))
    }

    /// What a block holds that is not home yet, although it is not in the cache.
    fn pending_copy(&self, state: &State, number: u64) -> Option<Rc<[u8]>> {
        let closed = state.closed.as_ref().and_then(|closed| closed.copy_of(number));
        closed.or_else(|| self.journal.as_ref()?.pending_copy(number))
    }

    fn sector_of(&self, block: u64) -> u64 {
        block * (self.block_bytes / SECTOR_BYTES) as u64
    }

    fn check_writable(&self) -> Result<()> {
        match self.state.borrow().health {
            Health::Writable => Ok(()),
            Health::ReadOnly | Health::Failed => Err(Error::ReadOnly),
        }
    }

    fn check_healthy(&self) -> Result<()> {
        match self.state.borrow().health {
            Health::Writable | Health::ReadOnly => Ok(()),
            Health::Failed => Err(Error::ReadOnly),
        }
    }

    /// Ends all writing: the device did not take what it had to.
    fn fail(&self, what: &str) -> Error {
        let mut state = self.state.borrow_mut();
        if state.health != Health::Failed {
            log::error!("ext4: the device failed to write {what}: the file system is read-only from here");
            state.health = Health::Failed;
        }
        Error::Device
    }
}

/// What the cache has of a block.
enum Found<'a, D> {
    Block(Block),
    Loading(Rc<Signal>),
    Nothing(Load<'a, D>),
}

/// A block that is being read. Dropped at any point, it lets somebody else try.
struct Load<'a, D> {
    buffers: &'a Buffers<D>,
    number: u64,
    signal: Rc<Signal>,
}

impl<D> Load<'_, D> {
    /// The block has arrived. If it came into being by other means meanwhile, that is the block.
    fn finish(self, block: Block) -> Result<Block> {
        let mut state = self.buffers.state.borrow_mut();
        match state.cache.get(self.number) {
            Some(Slot::Present(present)) if present.kind() == block.kind() => return Ok(present.clone()),
            Some(Slot::Present(_)) => {
                return Err(Error::corrupt("a block in use as two things", Place::Block(self.number)));
            }
            Some(Slot::Loading(signal)) if Rc::ptr_eq(signal, &self.signal) => state.cache.insert(block.clone()),
            Some(Slot::Loading(_)) | None => {}
        }
        Ok(block)
    }
}

impl<D> Drop for Load<'_, D> {
    fn drop(&mut self) {
        self.buffers.state.borrow_mut().cache.give_up_loading(self.number, &self.signal);
        self.signal.raise();
    }
}
