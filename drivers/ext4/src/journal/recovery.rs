//! What the log has, and bringing it home.
//!
//! The log is read once from its start, transaction by transaction, for as long as each has its commit record. Of every block
//! the newest copy counts, unless that transaction or a later one revoked it. Nothing is written before the end of the log is
//! known, and the log stays as it was until all is home: a recovery that is cut short is done again, with the same end.

use super::area::{Area, corrupt};
use super::format::{Format, Record, Tag, record_of, unescape};
use super::superblock::Superblock;
use crate::buffers::{Copies, TransactionId, write_home};
use crate::device::Device;
use crate::error::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Blocks of the log read at once.
const READ_BLOCKS: usize = 64;
/// Blocks brought home at once.
const REPLAY_BLOCKS: usize = 256;
/// How a fast commit begins: its tag and the bytes before the number of the transaction that it follows.
const FAST_COMMIT_HEAD: u16 = 9;
const FAST_COMMIT_SEQUENCE_AT: usize = 8;

/// The newest copy of a block in the log.
#[derive(Clone, Copy, Debug)]
struct Copy {
    sequence: u32,
    position: u32,
    escaped: bool,
}

/// What the log has.
#[derive(Default)]
pub(super) struct Findings {
    copies: BTreeMap<u64, Copy>,
    /// The last transaction that revoked a block.
    revoked: BTreeMap<u64, u32>,
    /// Committed transactions.
    pub(super) transactions: u32,
}

/// One transaction of the log, while its commit record has not been seen.
#[derive(Default)]
struct Candidate {
    blocks: Vec<(Tag, u32)>,
    revoked: Vec<u64>,
    /// Some record or block is not what was written.
    damaged: bool,
}

/// How a look at the next transaction ended.
enum Next {
    Committed(Candidate, u32),
    /// Its commit record is there, but something else is not as it was written.
    Damaged(u32),
    /// There is none: this is the end of the log.
    Nothing,
}

/// Reads a log's blocks in order, many at once.
struct Reader<'a, D> {
    device: &'a D,
    area: &'a Area,
    bytes: Vec<u8>,
    /// The positions that `bytes` has.
    from: u32,
    count: u32,
}

impl<'a, D: Device> Reader<'a, D> {
    fn new(device: &'a D, area: &'a Area) -> Self {
        Self { device, area, bytes: crate::bytes::zeroes(READ_BLOCKS * area.block_bytes), from: 0, count: 0 }
    }

    async fn block(&mut self, position: u32) -> Result<&[u8]> {
        if !(self.from..self.from + self.count).contains(&position) {
            self.count = 0;
            self.count = self.area.read(self.device, position, &mut self.bytes).await?;
            self.from = position;
        }
        let at = (position - self.from) as usize * self.area.block_bytes;
        Ok(crate::bytes::slice(&self.bytes, at, self.area.block_bytes))
    }
}

/// Finds the committed transactions of the log.
///
/// # Errors
/// A transaction in the midst of the log is damaged; [`Error::Unsupported`]: there are records of an unknown kind.
pub(super) async fn scan<D: Device>(device: &D, area: &Area, superblock: &Superblock, blocks: u64) -> Result<Findings> {
    let format = superblock.format();
    let mut findings = Findings::default();
    let (mut position, mut sequence) = (superblock.start(), superblock.sequence());
    if position == 0 {
        return Ok(findings);
    }
    let mut reader = Reader::new(device, area);
    let mut left = area.length();
    loop {
        match next_transaction(&mut reader, &format, position, sequence, &mut left).await? {
            Next::Committed(candidate, next) => {
                findings.add(candidate, sequence, area, blocks)?;
                position = next;
            }
            Next::Damaged(next) => {
                refuse_more(&mut reader, next, sequence.wrapping_add(1)).await?;
                log::warn!("ext4: the last transaction of the journal, {sequence}, is damaged and left out");
                break;
            }
            Next::Nothing => break,
        }
        sequence = sequence.wrapping_add(1);
    }
    if superblock.has_fast_commits() {
        refuse_fast_commits(&mut reader, area.end, sequence).await?;
    }
    Ok(findings)
}

/// Follows a transaction's records to its commit record. `left`: blocks of the ring that have not been looked at.
async fn next_transaction<D: Device>(
    reader: &mut Reader<'_, D>,
    format: &Format,
    start: u32,
    sequence: u32,
    left: &mut u32,
) -> Result<Next> {
    let area = reader.area;
    let mut candidate = Candidate::default();
    let mut position = start;
    let mut sum = !0;
    while *left > 0 {
        let bytes = reader.block(position).await?;
        let Some((record, found)) = record_of(bytes) else { return Ok(Next::Nothing) };
        if found != sequence {
            return Ok(Next::Nothing);
        }
        *left -= 1;
        position = area.advance(position, 1);
        match record {
            Record::Descriptor => {
                candidate.damaged |= !format.tail_holds(bytes);
                sum = format.transaction_sum(sum, bytes);
                let tags = format.tags(bytes);
                for tag in tags {
                    let Some(rest) = left.checked_sub(1) else { return Ok(Next::Nothing) };
                    *left = rest;
                    let logged = reader.block(position).await?;
                    candidate.damaged |= !format.tag_holds(&tag, sequence, logged);
                    sum = format.transaction_sum(sum, logged);
                    candidate.blocks.push((tag, position));
                    position = area.advance(position, 1);
                }
            }
            Record::Revoke => match format.revoked(bytes).filter(|_| format.tail_holds(bytes)) {
                Some(blocks) => candidate.revoked.extend(blocks),
                None => candidate.damaged = true,
            },
            Record::Commit if !format.commit_holds(bytes, sum) => return Ok(Next::Damaged(position)),
            Record::Commit if candidate.damaged => return Ok(Next::Damaged(position)),
            Record::Commit => return Ok(Next::Committed(candidate, position)),
            Record::Superblock | Record::SuperblockOld => return Ok(Next::Nothing),
        }
    }
    Ok(Next::Nothing)
}

/// A damaged transaction may only be the last.
async fn refuse_more<D: Device>(reader: &mut Reader<'_, D>, position: u32, sequence: u32) -> Result<()> {
    match record_of(reader.block(position).await?) {
        Some((_, found)) if found == sequence => Err(corrupt("a transaction of the journal")),
        Some(_) | None => Ok(()),
    }
}

/// Changes that were logged in another way must not be lost: somebody else has to replay them.
async fn refuse_fast_commits<D: Device>(reader: &mut Reader<'_, D>, position: u32, sequence: u32) -> Result<()> {
    let bytes = reader.block(position).await?;
    let follows = crate::bytes::u32_at(bytes, FAST_COMMIT_SEQUENCE_AT) == sequence;
    if crate::bytes::u16_at(bytes, 0) == FAST_COMMIT_HEAD && follows {
        return Err(Error::Unsupported("fast commits to replay"));
    }
    Ok(())
}

/// Whether transaction `a` is the same as `b` or came after it.
fn is_at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) <= u32::MAX / 2
}

impl Findings {
    fn add(&mut self, candidate: Candidate, sequence: u32, area: &Area, blocks: u64) -> Result<()> {
        for (tag, position) in candidate.blocks {
            if tag.home >= blocks || area.contains(tag.home) {
                return Err(corrupt("a block number in the journal"));
            }
            self.copies.insert(tag.home, Copy { sequence, position, escaped: tag.escaped });
        }
        self.revoked.extend(candidate.revoked.into_iter().map(|block| (block, sequence)));
        self.transactions += 1;
        Ok(())
    }

    /// The last committed transaction of a log that begins with `first`; the one before it, if the log has none.
    pub(super) fn last(&self, first: u32) -> TransactionId {
        TransactionId::from_sequence(first).plus(self.transactions).previous()
    }

    /// Writes all blocks home. Not durable yet.
    pub(super) async fn replay<D: Device>(&self, device: &D, area: &Area) -> Result<usize> {
        let stands = |(block, copy): &(&u64, &Copy)| {
            !self.revoked.get(block).is_some_and(|revoked| is_at_least(*revoked, copy.sequence))
        };
        let mut copies: Vec<_> = self.copies.iter().filter(stands).map(|(block, copy)| (*block, *copy)).collect();
        copies.sort_unstable_by_key(|(_, copy)| copy.position);
        let mut reader = Reader::new(device, area);
        for some in copies.chunks(REPLAY_BLOCKS) {
            let mut blocks = Copies::new();
            for (home, copy) in some {
                let mut bytes: Rc<[u8]> = Rc::from(reader.block(copy.position).await?);
                if let Some(bytes) = Rc::get_mut(&mut bytes).filter(|_| copy.escaped) {
                    unescape(bytes);
                }
                blocks.push((*home, bytes));
            }
            blocks.sort_unstable_by_key(|(home, _)| *home);
            write_home(device, &blocks).await?;
        }
        Ok(copies.len())
    }
}
