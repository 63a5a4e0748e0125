//! The log in use: transactions go in at its head, and leave at its tail when all of their blocks are home.

use super::area::Area;
use super::format::{Format, Tag, escape, looks_like_record};
use super::superblock::Superblock;
use crate::buffers::{Closed, Copies, TransactionId, write_home};
use crate::device::{Device, DeviceFailed};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use futures_util::{StreamExt, TryStreamExt, future, stream};

/// Most blocks written at once.
const BATCH_BLOCKS: usize = 64;
/// Most writes under way.
const WRITES: usize = 8;
/// The part of the log that one transaction may take: one in so many.
const SHARES: u32 = 4;
/// Most blocks of the log that one transaction may take.
const MOST_BLOCKS: u32 = 2048;
/// Most bytes of blocks in memory that wait for being brought home, before somebody should.
const MOST_PENDING_BYTES: usize = 8 << 20;
/// The error number that Linux understands, of a file system whose device failed.
const EIO: u32 = 5;

/// A journal in use. Of its operations that wait, one is under way at a time: the caller's lock holds that. Each can be dropped
/// at any point, and called again.
pub struct Journal {
    area: Area,
    format: Format,
    superblock: RefCell<Superblock>,
    log: RefCell<Log>,
}

struct Log {
    /// Where the next transaction goes.
    head: u32,
    next: TransactionId,
    /// The superblock on the disk says that there is nothing in the log.
    empty: bool,
    /// Blocks of the ring that must not be overwritten: from where the superblock on the disk says that the log begins.
    used: u32,
    /// Transactions in the log, the oldest first.
    logged: VecDeque<Logged>,
    /// The newest committed bytes of blocks that have not been written home since.
    pending: BTreeMap<u64, Pending>,
}

struct Logged {
    id: TransactionId,
    start: u32,
    length: u32,
    /// Blocks whose newest copy is in this transaction.
    pending: usize,
}

struct Pending {
    id: TransactionId,
    bytes: Rc<[u8]>,
}

impl Journal {
    pub(super) fn new(area: Area, superblock: Superblock, next: TransactionId) -> Self {
        let log =
            Log { head: area.first, next, empty: true, used: 0, logged: VecDeque::new(), pending: BTreeMap::new() };
        Self { format: superblock.format(), area, superblock: RefCell::new(superblock), log: RefCell::new(log) }
    }

    /// The name of the next transaction.
    pub(crate) fn next_id(&self) -> TransactionId {
        self.log.borrow().next
    }

    /// Most blocks of the log that a transaction may take.
    pub(crate) fn share(&self) -> usize {
        (self.area.length() / SHARES).min(MOST_BLOCKS) as usize
    }

    /// Blocks of the log that a transaction takes.
    pub(crate) fn cost(&self, blocks: usize, revoked: usize) -> usize {
        self.format.log_blocks(blocks, revoked)
    }

    /// Blocks of the log that may be overwritten.
    pub(crate) fn room(&self) -> usize {
        (self.area.length() - self.log.borrow().used).saturating_sub(1) as usize
    }

    /// Whether the log has something that could leave it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.log.borrow().used > 0
    }

    /// Whether it is time to bring blocks home, although nobody waits for room yet.
    pub(crate) fn is_crowded(&self) -> bool {
        let log = self.log.borrow();
        log.used > self.area.length() / 2 || log.pending.len() * self.format.block_bytes > MOST_PENDING_BYTES
    }

    /// The committed bytes of a block that is not home yet.
    pub(crate) fn pending_copy(&self, block: u64) -> Option<Rc<[u8]>> {
        self.log.borrow().pending.get(&block).map(|pending| pending.bytes.clone())
    }

    /// Writes a transaction, which becomes durable with this. The log must have room for it.
    pub(crate) async fn write<D: Device>(&self, device: &D, closed: &Closed) -> Result<(), DeviceFailed> {
        let (head, empty) = {
            let log = self.log.borrow();
            (log.head, log.empty)
        };
        if self.cost(closed.blocks.len(), closed.revoked.len()) > self.room() {
            return Err(DeviceFailed);
        }
        if empty {
            self.write_start(device, head, closed.id).await?;
        }
        // The commit record comes to where zeroes are: only its first sector changes, so that no power cut can tear it.
        let place = LogBlock::Record(crate::bytes::zeroes(self.format.block_bytes));
        let blocks = log_blocks(self.format, closed).chain(core::iter::once(place));
        let batches = Batches { blocks, position: head, area: &self.area };
        let writing = stream::iter(batches)
            .map(|batch| async move { self.area.write(device, batch.position, &batch.bytes).await })
            .buffer_unordered(WRITES)
            .try_for_each(|()| future::ready(Ok(())));
        writing.await?;
        device.flush().await?;
        let length = self.cost(closed.blocks.len(), closed.revoked.len()) as u32;
        let commit = self.format.commit(closed.id.sequence(), device.now());
        self.area.write(device, self.area.advance(head, length - 1), &commit).await?;
        device.flush().await?;
        self.log.borrow_mut().add(closed, head, length, &self.area);
        Ok(())
    }

    /// Brings home the blocks of the oldest transactions, at least `most` of them if there are as many, and gives back their
    /// room in the log.
    pub(crate) async fn checkpoint<D: Device>(&self, device: &D, most: usize) -> Result<(), DeviceFailed> {
        let oldest = self.log.borrow().oldest(most);
        if let Some((until, blocks)) = oldest {
            write_home(device, &blocks).await?;
            device.flush().await?;
            self.log.borrow_mut().came_home(until);
        }
        let (tail, sequence, used) = self.log.borrow().tail();
        if used != self.log.borrow().used {
            self.write_start(device, tail, sequence).await?;
            device.flush().await?;
            self.log.borrow_mut().used = used;
        }
        Ok(())
    }

    /// Brings everything home and says on the disk that the log is empty.
    pub(crate) async fn empty<D: Device>(&self, device: &D) -> Result<(), DeviceFailed> {
        self.checkpoint(device, usize::MAX).await?;
        if !self.log.borrow().empty {
            self.superblock.borrow_mut().set_start(0, self.next_id().sequence());
            self.write_superblock(device).await?;
            device.flush().await?;
            self.log.borrow_mut().empty = true;
        }
        Ok(())
    }

    /// Notes for whoever opens the journal next that the file system had an error.
    pub(crate) async fn note_error<D: Device>(&self, device: &D) -> Result<(), DeviceFailed> {
        self.superblock.borrow_mut().set_error(EIO);
        self.write_superblock(device).await?;
        device.flush().await
    }

    async fn write_start<D: Device>(&self, device: &D, start: u32, id: TransactionId) -> Result<(), DeviceFailed> {
        self.superblock.borrow_mut().set_start(start, id.sequence());
        self.write_superblock(device).await
    }

    async fn write_superblock<D: Device>(&self, device: &D) -> Result<(), DeviceFailed> {
        let block = self.superblock.borrow().to_block();
        self.area.write(device, 0, &block).await
    }
}

impl Log {
    /// A transaction is durable: its copies of blocks take the place of older ones.
    fn add(&mut self, closed: &Closed, start: u32, length: u32, area: &Area) {
        let gone = closed.revoked.iter().filter_map(|block| self.pending.remove(block)).collect::<Vec<_>>();
        let copies =
            closed.blocks.iter().map(|(block, bytes)| (*block, Pending { id: closed.id, bytes: bytes.clone() }));
        let replaced = copies.filter_map(|(block, copy)| self.pending.insert(block, copy)).collect::<Vec<_>>();
        for copy in gone.iter().chain(&replaced) {
            let index = self.logged.binary_search_by_key(&copy.id, |logged| logged.id);
            if let Some(logged) = index.ok().and_then(|index| self.logged.get_mut(index)) {
                logged.pending -= 1;
            }
        }
        self.logged.push_back(Logged { id: closed.id, start, length, pending: closed.blocks.len() });
        self.head = area.advance(start, length);
        self.next = closed.id.next();
        self.used += length;
        self.empty = false;
    }

    /// The newest of the oldest transactions that have `most` pending blocks together, or all, and these blocks.
    fn oldest(&self, most: usize) -> Option<(TransactionId, Copies)> {
        let mut blocks = 0;
        let enough = |logged: &&Logged| {
            blocks += logged.pending;
            blocks >= most
        };
        let until = self.logged.iter().find(enough).or(self.logged.back()).map(|logged| logged.id)?;
        Some((until, self.pending_until(until)))
    }

    fn pending_until(&self, until: TransactionId) -> Copies {
        let old = self.pending.iter().filter(|(_, pending)| pending.id <= until);
        old.map(|(block, pending)| (*block, pending.bytes.clone())).collect()
    }

    /// All transactions up to `until` are home, durably.
    fn came_home(&mut self, until: TransactionId) {
        self.pending.retain(|_, pending| pending.id > until);
        self.logged.retain(|logged| logged.id > until);
    }

    /// Where the log could begin, with which transaction, and how much of the ring it would take then.
    fn tail(&self) -> (u32, TransactionId, u32) {
        let used = self.logged.iter().map(|logged| logged.length).sum();
        self.logged.front().map_or((self.head, self.next, used), |logged| (logged.start, logged.id, used))
    }
}

/// A block of the log.
enum LogBlock<'a> {
    Record(Vec<u8>),
    Copy(&'a [u8]),
}

impl LogBlock<'_> {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        match self {
            Self::Record(record) => bytes.extend_from_slice(record),
            Self::Copy(copy) => {
                bytes.extend_from_slice(copy);
                if looks_like_record(copy) {
                    escape(bytes.split_at_mut(at).1);
                }
            }
        }
    }
}

/// All blocks of a transaction, in their order in the log, without the commit record.
fn log_blocks(format: Format, closed: &Closed) -> impl Iterator<Item = LogBlock<'_>> {
    let sequence = closed.id.sequence();
    let revoked = closed.revoked.chunks(format.blocks_per_revoke());
    let revokes = revoked.map(move |blocks| LogBlock::Record(format.revoke(sequence, blocks)));
    let groups = closed.blocks.chunks(format.tags_per_descriptor());
    let described = groups.flat_map(move |group| {
        let tags: Vec<_> = group.iter().map(|(home, bytes)| tag_of(format, *home, sequence, bytes)).collect();
        let copies = group.iter().map(|(_, bytes)| LogBlock::Copy(bytes));
        core::iter::once(LogBlock::Record(format.descriptor(sequence, &tags))).chain(copies)
    });
    revokes.chain(described)
}

fn tag_of(format: Format, home: u64, sequence: u32, bytes: &[u8]) -> Tag {
    if !looks_like_record(bytes) {
        return format.tag(home, false, sequence, bytes);
    }
    let mut escaped = bytes.to_vec();
    escape(&mut escaped);
    format.tag(home, true, sequence, &escaped)
}

/// Blocks of the log that are written at once.
struct Batch {
    position: u32,
    bytes: Vec<u8>,
}

/// Makes batches of a transaction's blocks.
struct Batches<'a, I> {
    blocks: I,
    position: u32,
    area: &'a Area,
}

impl<'a, I: Iterator<Item = LogBlock<'a>>> Iterator for Batches<'_, I> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let position = self.position;
        let mut bytes = Vec::new();
        let mut count = 0;
        for block in self.blocks.by_ref().take(BATCH_BLOCKS) {
            block.append_to(&mut bytes);
            count += 1;
        }
        self.position = self.area.advance(position, count);
        (count > 0).then_some(Batch { position, bytes })
    }
}
