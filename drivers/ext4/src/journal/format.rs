//! The records of a journal, as jbd2 lays them out: all numbers are big-endian.
//!
//! A transaction in the log is: revoke records, then descriptors, each followed by the blocks that it names, then one commit
//! record. Every record carries the transaction's number. Source: the kernel's `Documentation/filesystems/ext4/journal.rst`.

use crate::bytes::{put, slice};
use crate::checksum::{crc32_big_endian, crc32c};
use alloc::vec::Vec;
use core::time::Duration;

const MAGIC: u32 = 0xC03B_3998;
const HEADER_BYTES: usize = 12;
const UUID_BYTES: usize = 16;
/// The sum at the end of descriptors and revoke records, where there are sums.
const TAIL_BYTES: usize = 4;
/// A revoke record's header and its length in bytes.
const REVOKE_HEADER_BYTES: usize = 16;

/// The block begins like a record, so that its first four bytes are zero in the log.
const FLAG_ESCAPED: u32 = 1;
/// The tag is not followed by an identifier.
const FLAG_SAME_UUID: u32 = 2;
const FLAG_LAST: u32 = 8;

const COMMIT_SUM_TYPE_AT: usize = 12;
const COMMIT_SUM_SIZE_AT: usize = 13;
const COMMIT_SUM_AT: usize = 16;
const COMMIT_SECONDS_AT: usize = 48;
const COMMIT_NANOSECONDS_AT: usize = 56;
const SUM_TYPE_CRC32: u8 = 1;
const SUM_SIZE_CRC32: u8 = 4;

/// What a block of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Descriptor,
    Commit,
    SuperblockOld,
    Superblock,
    Revoke,
}

impl Record {
    fn number(self) -> u32 {
        match self {
            Self::Descriptor => 1,
            Self::Commit => 2,
            Self::SuperblockOld => 3,
            Self::Superblock => 4,
            Self::Revoke => 5,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::Descriptor, Self::Commit, Self::SuperblockOld, Self::Superblock, Self::Revoke]
            .into_iter()
            .find(|record| record.number() == number)
    }
}

/// Which records have sums, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    None,
    /// One CRC-32 of a transaction's descriptors and blocks, in its commit record.
    Transaction,
    /// One CRC-32C per record and 16 bits of one per block.
    Short,
    /// One CRC-32C per record and per block.
    Full,
}

/// How a journal writes its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) block_bytes: usize,
    pub(super) sums: Sums,
    /// Block numbers have 64 bits.
    pub(super) wide: bool,
    pub(super) uuid: [u8; UUID_BYTES],
}

/// What a descriptor says of one block that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Where the block belongs.
    pub(super) home: u64,
    pub(super) escaped: bool,
    sum: u32,
}

/// The big-endian 32-bit field at `at`, zero beyond the end.
pub(super) fn be32_at(bytes: &[u8], at: usize) -> u32 {
    slice(bytes, at, 4).try_into().map_or(0, u32::from_be_bytes)
}

fn be16_at(bytes: &[u8], at: usize) -> u16 {
    slice(bytes, at, 2).try_into().map_or(0, u16::from_be_bytes)
}

fn be64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32_at(bytes, at)) << 32 | u64::from(be32_at(bytes, at + 4))
}

/// Sets a big-endian 32-bit field.
pub(super) fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_be_bytes());
}

/// The record that a block of the log is, with its transaction.
pub(super) fn record_of(bytes: &[u8]) -> Option<(Record, u32)> {
    let record = Record::from_number(be32_at(bytes, 4))?;
    (be32_at(bytes, 0) == MAGIC).then(|| (record, be32_at(bytes, 8)))
}

/// Makes a block begin as a record.
pub(super) fn put_header(bytes: &mut [u8], record: Record, sequence: u32) {
    put_be32(bytes, 0, MAGIC);
    put_be32(bytes, 4, record.number());
    put_be32(bytes, 8, sequence);
}

/// Whether a block would be taken for a record of the log.
pub(super) fn looks_like_record(bytes: &[u8]) -> bool {
    be32_at(bytes, 0) == MAGIC
}

/// Puts back what the log could not hold.
pub(super) fn unescape(bytes: &mut [u8]) {
    put_be32(bytes, 0, MAGIC);
}

/// Makes a block's copy fit for the log.
pub(super) fn escape(bytes: &mut [u8]) {
    put_be32(bytes, 0, 0);
}

impl Format {
    fn has_record_sums(&self) -> bool {
        match self.sums {
            Sums::None | Sums::Transaction => false,
            Sums::Short | Sums::Full => true,
        }
    }

    /// What all sums of records and blocks start from.
    fn seed(&self) -> u32 {
        crc32c(!0, &self.uuid)
    }

    fn tail_bytes(&self) -> usize {
        if self.has_record_sums() { TAIL_BYTES } else { 0 }
    }

    fn tag_bytes(&self) -> usize {
        let high = if self.wide { 4 } else { 0 };
        match self.sums {
            Sums::None | Sums::Transaction => 8 + high,
            Sums::Short => 10 + high,
            Sums::Full => 16,
        }
    }

    fn revoked_bytes(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// Blocks that one descriptor can name.
    pub(super) fn tags_per_descriptor(&self) -> usize {
        let room = self.block_bytes.saturating_sub(HEADER_BYTES + UUID_BYTES + self.tail_bytes());
        (room / self.tag_bytes()).max(1)
    }

    /// Blocks that one revoke record can name.
    pub(super) fn blocks_per_revoke(&self) -> usize {
        let room = self.block_bytes.saturating_sub(REVOKE_HEADER_BYTES + self.tail_bytes());
        (room / self.revoked_bytes()).max(1)
    }

    /// Blocks of the log that a transaction takes.
    pub(super) fn log_blocks(&self, blocks: usize, revoked: usize) -> usize {
        let records = blocks.div_ceil(self.tags_per_descriptor()) + revoked.div_ceil(self.blocks_per_revoke());
        blocks + records + 1
    }

    fn seal_tail(&self, bytes: &mut [u8]) {
        if self.has_record_sums() {
            let at = bytes.len() - TAIL_BYTES;
            put_be32(bytes, at, 0);
            let sum = crc32c(self.seed(), bytes);
            put_be32(bytes, at, sum);
        }
    }

    /// Whether the sum of a descriptor or revoke record is right.
    pub(super) fn tail_holds(&self, bytes: &[u8]) -> bool {
        let (body, tail) = bytes.split_at(bytes.len().saturating_sub(TAIL_BYTES));
        !self.has_record_sums() || be32_at(tail, 0) == crc32c(crc32c(self.seed(), body), &[0; TAIL_BYTES])
    }

    /// A tag for a block, given as the log holds it.
    pub(super) fn tag(&self, home: u64, escaped: bool, sequence: u32, logged: &[u8]) -> Tag {
        Tag { home, escaped, sum: self.block_sum(sequence, logged) }
    }

    fn block_sum(&self, sequence: u32, logged: &[u8]) -> u32 {
        if !self.has_record_sums() {
            return 0;
        }
        crc32c(crc32c(self.seed(), &sequence.to_be_bytes()), logged)
    }

    /// Whether a block of the log is the one that the tag was made for.
    pub(super) fn tag_holds(&self, tag: &Tag, sequence: u32, logged: &[u8]) -> bool {
        match self.sums {
            Sums::None | Sums::Transaction => true,
            Sums::Short => tag.sum == self.block_sum(sequence, logged) & 0xFFFF,
            Sums::Full => tag.sum == self.block_sum(sequence, logged),
        }
    }

    /// A descriptor of the blocks that follow it.
    pub(super) fn descriptor(&self, sequence: u32, tags: &[Tag]) -> Vec<u8> {
        let mut bytes = crate::bytes::zeroes(self.block_bytes);
        put_header(&mut bytes, Record::Descriptor, sequence);
        let mut at = HEADER_BYTES;
        for (index, tag) in tags.iter().enumerate() {
            let first = index == 0;
            let last = index + 1 == tags.len();
            let flags = if tag.escaped { FLAG_ESCAPED } else { 0 }
                | if first { 0 } else { FLAG_SAME_UUID }
                | if last { FLAG_LAST } else { 0 };
            self.put_tag(&mut bytes, at, tag, flags);
            at += self.tag_bytes();
            if first {
                put(&mut bytes, at, &self.uuid);
                at += UUID_BYTES;
            }
        }
        self.seal_tail(&mut bytes);
        bytes
    }

    fn put_tag(&self, bytes: &mut [u8], at: usize, tag: &Tag, flags: u32) {
        put_be32(bytes, at, tag.home as u32);
        let high = (tag.home >> 32) as u32;
        match self.sums {
            Sums::Full => {
                put_be32(bytes, at + 4, flags);
                put_be32(bytes, at + 8, high);
                put_be32(bytes, at + 12, tag.sum);
                return;
            }
            Sums::Short => put(bytes, at + 4, &(tag.sum as u16).to_be_bytes()),
            Sums::None | Sums::Transaction => {}
        }
        put(bytes, at + 6, &(flags as u16).to_be_bytes());
        if self.wide {
            put_be32(bytes, at + 8, high);
        }
    }

    /// What a descriptor says, as far as it makes sense.
    pub(super) fn tags(&self, bytes: &[u8]) -> Vec<Tag> {
        let end = bytes.len().saturating_sub(self.tail_bytes());
        let mut tags = Vec::new();
        let mut at = HEADER_BYTES;
        while at + self.tag_bytes() <= end {
            let (tag, flags) = self.tag_at(bytes, at);
            tags.push(tag);
            at += self.tag_bytes() + if flags & FLAG_SAME_UUID == 0 { UUID_BYTES } else { 0 };
            if flags & FLAG_LAST != 0 {
                break;
            }
        }
        tags
    }

    fn tag_at(&self, bytes: &[u8], at: usize) -> (Tag, u32) {
        let (flags, sum) = match self.sums {
            Sums::Full => (be32_at(bytes, at + 4), be32_at(bytes, at + 12)),
            Sums::Short | Sums::None | Sums::Transaction => {
                (be16_at(bytes, at + 6).into(), be16_at(bytes, at + 4).into())
            }
        };
        let high = if self.wide { be32_at(bytes, at + 8) } else { 0 };
        let home = u64::from(high) << 32 | u64::from(be32_at(bytes, at));
        (Tag { home, escaped: flags & FLAG_ESCAPED != 0, sum }, flags)
    }

    /// A record of blocks of which no older copy may come back.
    pub(super) fn revoke(&self, sequence: u32, blocks: &[u64]) -> Vec<u8> {
        let mut bytes = crate::bytes::zeroes(self.block_bytes);
        put_header(&mut bytes, Record::Revoke, sequence);
        let mut at = REVOKE_HEADER_BYTES;
        for block in blocks {
            if self.wide {
                put(&mut bytes, at, &block.to_be_bytes());
            } else {
                put_be32(&mut bytes, at, *block as u32);
            }
            at += self.revoked_bytes();
        }
        put_be32(&mut bytes, HEADER_BYTES, at as u32);
        self.seal_tail(&mut bytes);
        bytes
    }

    /// The blocks that a revoke record names; none if its length makes no sense.
    pub(super) fn revoked(&self, bytes: &[u8]) -> Option<Vec<u64>> {
        let end = be32_at(bytes, HEADER_BYTES) as usize;
        let most = bytes.len().saturating_sub(self.tail_bytes());
        let named = bytes.get(REVOKE_HEADER_BYTES..end).filter(|_| end <= most)?;
        let number = |entry: &[u8]| if self.wide { be64_at(entry, 0) } else { be32_at(entry, 0).into() };
        Some(named.chunks_exact(self.revoked_bytes()).map(number).collect())
    }

    /// The record that makes a transaction count.
    pub(super) fn commit(&self, sequence: u32, now: Duration) -> Vec<u8> {
        let mut bytes = crate::bytes::zeroes(self.block_bytes);
        put_header(&mut bytes, Record::Commit, sequence);
        put(&mut bytes, COMMIT_SECONDS_AT, &now.as_secs().to_be_bytes());
        put_be32(&mut bytes, COMMIT_NANOSECONDS_AT, now.subsec_nanos());
        if self.has_record_sums() {
            let sum = crc32c(self.seed(), &bytes);
            put_be32(&mut bytes, COMMIT_SUM_AT, sum);
        }
        bytes
    }

    /// Whether a commit record is right; `transaction` is the CRC-32 of the descriptors and blocks before it.
    pub(super) fn commit_holds(&self, bytes: &[u8], transaction: u32) -> bool {
        let sum = be32_at(bytes, COMMIT_SUM_AT);
        match self.sums {
            Sums::None => true,
            Sums::Transaction => {
                let kind =
                    (crate::bytes::u8_at(bytes, COMMIT_SUM_TYPE_AT), crate::bytes::u8_at(bytes, COMMIT_SUM_SIZE_AT));
                (kind == (SUM_TYPE_CRC32, SUM_SIZE_CRC32) && sum == transaction) || (kind == (0, 0) && sum == 0)
            }
            Sums::Short | Sums::Full => {
                let mut zeroed = bytes.to_vec();
                put_be32(&mut zeroed, COMMIT_SUM_AT, 0);
                sum == crc32c(self.seed(), &zeroed)
            }
        }
    }

    /// Goes on with the sum of a transaction's descriptors and blocks, which starts at `!0`.
    pub(super) fn transaction_sum(&self, sum: u32, bytes: &[u8]) -> u32 {
        match self.sums {
            Sums::Transaction => crc32_big_endian(sum, bytes),
            Sums::None | Sums::Short | Sums::Full => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats() -> impl Iterator<Item = Format> {
        let sums = [Sums::None, Sums::Transaction, Sums::Short, Sums::Full];
        let sizes = [1024, 2048, 4096];
        sums.into_iter().flat_map(move |sums| {
            sizes.into_iter().flat_map(move |block_bytes| {
                [false, true].map(|wide| Format { block_bytes, sums, wide, uuid: [7; UUID_BYTES] })
            })
        })
    }

    #[test]
    fn a_full_descriptor_reads_back() {
        for format in formats() {
            let block = crate::bytes::zeroes(format.block_bytes);
            let high = if format.wide { 1 << 40 } else { 0 };
            let count = format.tags_per_descriptor() as u64;
            let tags: Vec<_> = (0..count).map(|n| format.tag(high | n, n % 3 == 0, 9, &block)).collect();
            let bytes = format.descriptor(9, &tags);
            assert_eq!(record_of(&bytes), Some((Record::Descriptor, 9)));
            assert!(format.tail_holds(&bytes));
            let read = format.tags(&bytes);
            let names = |tags: &[Tag]| tags.iter().map(|tag| (tag.home, tag.escaped)).collect::<Vec<_>>();
            assert_eq!(names(&read), names(&tags), "{format:?}");
            assert!(read.iter().all(|tag| format.tag_holds(tag, 9, &block)));
            let sums = format.has_record_sums();
            assert_eq!(read.iter().any(|tag| format.tag_holds(tag, 10, &block)), !sums);
        }
    }

    #[test]
    fn a_full_revoke_record_reads_back() {
        for format in formats() {
            let blocks: Vec<_> = (0..format.blocks_per_revoke() as u64).map(|n| n * 3).collect();
            let bytes = format.revoke(4, &blocks);
            assert!(format.tail_holds(&bytes));
            assert_eq!(format.revoked(&bytes), Some(blocks), "{format:?}");
        }
    }

    #[test]
    fn a_changed_record_is_noticed() {
        for format in formats().filter(Format::has_record_sums) {
            let commit = format.commit(4, Duration::from_nanos(1_000_000_001));
            assert!(format.commit_holds(&commit, 0));
            let revoke = format.revoke(4, &[1, 2]);
            for at in (0..format.block_bytes).step_by(37) {
                let changed = |bytes: &[u8]| {
                    let mut bytes = bytes.to_vec();
                    bytes[at] ^= 0x10;
                    bytes
                };
                assert!(!format.commit_holds(&changed(&commit), 0));
                assert!(!format.tail_holds(&changed(&revoke)));
            }
        }
    }

    #[test]
    fn lengths_that_make_no_sense_are_refused() {
        for format in formats() {
            let mut bytes = format.revoke(4, &[1, 2]);
            for length in [0, 15, format.block_bytes as u32 + 1, u32::MAX] {
                put_be32(&mut bytes, HEADER_BYTES, length);
                assert_eq!(format.revoked(&bytes), None);
            }
        }
    }
}
