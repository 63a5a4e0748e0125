//! A journal's superblock: what the log looks like, and where it begins.

use super::Options;
use super::area::{Area, corrupt};
use super::format::{Format, Record, Sums, be32_at, put_be32, put_header, record_of};
use crate::bytes::{put, slice};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use alloc::vec::Vec;

/// Bytes of the record, at the beginning of its block.
pub(super) const SUPERBLOCK_BYTES: usize = 1024;
/// Fewer blocks than this hold no transaction worth the name.
const LEAST_BLOCKS: u32 = 64;
/// Blocks at the end of the journal for another kind of record, if the superblock does not say how many.
const FAST_COMMIT_BLOCKS: u32 = 256;

const BLOCK_BYTES_AT: usize = 0x0C;
const LENGTH_AT: usize = 0x10;
const FIRST_AT: usize = 0x14;
const SEQUENCE_AT: usize = 0x18;
const START_AT: usize = 0x1C;
const ERROR_AT: usize = 0x20;
const COMPATIBLE_AT: usize = 0x24;
const INCOMPATIBLE_AT: usize = 0x28;
const READ_ONLY_COMPATIBLE_AT: usize = 0x2C;
const UUID_AT: usize = 0x30;
const USERS_AT: usize = 0x40;
const SUM_TYPE_AT: usize = 0x50;
const FAST_COMMIT_BLOCKS_AT: usize = 0x54;
const SUM_AT: usize = 0xFC;

const COMPATIBLE_SUMS: u32 = 0x1;
const INCOMPATIBLE_REVOKE: u32 = 0x1;
const INCOMPATIBLE_WIDE: u32 = 0x2;
const INCOMPATIBLE_ASYNC: u32 = 0x4;
const INCOMPATIBLE_SUMS_SHORT: u32 = 0x8;
const INCOMPATIBLE_SUMS_FULL: u32 = 0x10;
const INCOMPATIBLE_FAST_COMMIT: u32 = 0x20;
const KNOWN_INCOMPATIBLE: u32 = INCOMPATIBLE_REVOKE
    | INCOMPATIBLE_WIDE
    | INCOMPATIBLE_ASYNC
    | INCOMPATIBLE_SUMS_SHORT
    | INCOMPATIBLE_SUMS_FULL
    | INCOMPATIBLE_FAST_COMMIT;
const SUM_TYPE_CRC32C: u8 = 4;

/// The superblock's record.
pub(super) struct Superblock(Vec<u8>);

impl Superblock {
    /// Checks the record at the beginning of the journal's first block.
    pub(super) fn parse(block: &[u8]) -> Result<Self> {
        let superblock = Self(slice(block, 0, SUPERBLOCK_BYTES).to_vec());
        let record = record_of(block).map(|(record, _)| record);
        if superblock.0.len() != SUPERBLOCK_BYTES || !matches!(record, Some(Record::Superblock | Record::SuperblockOld))
        {
            return Err(corrupt("the journal's superblock"));
        }
        if superblock.field(BLOCK_BYTES_AT) as usize != block.len() {
            return Err(corrupt("the journal's block size"));
        }
        superblock.check_features()?;
        Ok(superblock)
    }

    /// The block of an empty journal, as a tool that makes file systems leaves it.
    #[cfg(test)]
    pub(super) fn blank(block_bytes: usize, length: u32) -> Vec<u8> {
        let mut block = crate::bytes::zeroes(block_bytes);
        put_header(&mut block, Record::Superblock, 0);
        for (at, value) in [(BLOCK_BYTES_AT, block_bytes as u32), (LENGTH_AT, length), (FIRST_AT, 1), (SEQUENCE_AT, 1)]
        {
            put_be32(&mut block, at, value);
        }
        put(&mut block, UUID_AT, b"sixteen letters.");
        block
    }

    fn check_features(&self) -> Result<()> {
        if self.incompatible() & !KNOWN_INCOMPATIBLE != 0 || self.feature(READ_ONLY_COMPATIBLE_AT) != 0 {
            return Err(Error::Unsupported("a feature of the journal"));
        }
        let short = self.incompatible() & INCOMPATIBLE_SUMS_SHORT != 0;
        let full = self.incompatible() & INCOMPATIBLE_SUMS_FULL != 0;
        if short && full {
            return Err(corrupt("the journal's features"));
        }
        if !(short || full) {
            return Ok(());
        }
        let kind = crate::bytes::u8_at(&self.0, SUM_TYPE_AT);
        if kind != SUM_TYPE_CRC32C || self.field(SUM_AT) != self.sum() {
            return Err(corrupt("the sum of the journal's superblock"));
        }
        Ok(())
    }

    fn field(&self, at: usize) -> u32 {
        be32_at(&self.0, at)
    }

    /// A field that only newer journals have.
    fn feature(&self, at: usize) -> u32 {
        let old = matches!(record_of(&self.0), Some((Record::SuperblockOld, _)));
        if old { 0 } else { self.field(at) }
    }

    fn incompatible(&self) -> u32 {
        self.feature(INCOMPATIBLE_AT)
    }

    fn sum(&self) -> u32 {
        let mut zeroed = self.0.clone();
        put_be32(&mut zeroed, SUM_AT, 0);
        crc32c(!0, &zeroed)
    }

    /// How the log is written at the moment.
    pub(super) fn format(&self) -> Format {
        let features = self.incompatible();
        let sums = if features & INCOMPATIBLE_SUMS_FULL != 0 {
            Sums::Full
        } else if features & INCOMPATIBLE_SUMS_SHORT != 0 {
            Sums::Short
        } else if self.feature(COMPATIBLE_AT) & COMPATIBLE_SUMS != 0 {
            Sums::Transaction
        } else {
            Sums::None
        };
        let mut uuid = [0; 16];
        put(&mut uuid, 0, slice(&self.0, UUID_AT, 16));
        let block_bytes = self.field(BLOCK_BYTES_AT) as usize;
        Format { block_bytes, sums, wide: features & INCOMPATIBLE_WIDE != 0, uuid }
    }

    /// Finds the ring within the journal's blocks.
    pub(super) fn place_ring(&self, area: &mut Area) -> Result<()> {
        let length = self.field(LENGTH_AT);
        let kept = if !self.has_fast_commits() {
            0
        } else if self.field(FAST_COMMIT_BLOCKS_AT) == 0 {
            FAST_COMMIT_BLOCKS
        } else {
            self.field(FAST_COMMIT_BLOCKS_AT)
        };
        let (first, end) = (self.field(FIRST_AT), length.saturating_sub(kept));
        if first == 0 || length > area.positions() || end < first.saturating_add(LEAST_BLOCKS) {
            return Err(corrupt("the journal's length"));
        }
        let start = self.start();
        if start != 0 && !(first..end).contains(&start) {
            return Err(corrupt("the journal's start"));
        }
        (area.first, area.end) = (first, end);
        Ok(())
    }

    /// Whether the journal may have records of a kind that is not understood here, behind the ring.
    pub(super) fn has_fast_commits(&self) -> bool {
        self.incompatible() & INCOMPATIBLE_FAST_COMMIT != 0
    }

    /// The position of the oldest transaction; zero: the log is empty.
    pub(super) fn start(&self) -> u32 {
        self.field(START_AT)
    }

    /// The oldest transaction of the log, or the next one if it is empty.
    pub(super) fn sequence(&self) -> u32 {
        self.field(SEQUENCE_AT)
    }

    /// What went wrong before the last transaction was written, as an error number of Linux; zero: nothing.
    pub(super) fn error(&self) -> u32 {
        self.field(ERROR_AT)
    }

    pub(super) fn set_error(&mut self, error: u32) {
        put_be32(&mut self.0, ERROR_AT, error);
    }

    /// Makes the log begin at a position with a transaction.
    pub(super) fn set_start(&mut self, start: u32, sequence: u32) {
        put_be32(&mut self.0, START_AT, start);
        put_be32(&mut self.0, SEQUENCE_AT, sequence);
    }

    /// Decides how the log is written from now on: while it is empty only.
    pub(super) fn set_format(&mut self, options: Options) {
        if matches!(record_of(&self.0), Some((Record::SuperblockOld, _))) {
            self.0.iter_mut().skip(COMPATIBLE_AT).for_each(|byte| *byte = 0);
            put_be32(&mut self.0, USERS_AT, 1);
        }
        let wide = if options.wide { INCOMPATIBLE_WIDE } else { 0 };
        let sums = if options.checksums { INCOMPATIBLE_SUMS_FULL } else { 0 };
        put_header(&mut self.0, Record::Superblock, 0);
        put_be32(&mut self.0, INCOMPATIBLE_AT, INCOMPATIBLE_REVOKE | wide | sums);
        let compatible = self.field(COMPATIBLE_AT) & !COMPATIBLE_SUMS;
        put_be32(&mut self.0, COMPATIBLE_AT, compatible);
        put(&mut self.0, SUM_TYPE_AT, &[if options.checksums { SUM_TYPE_CRC32C } else { 0 }]);
    }

    /// The block to write.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let format = self.format();
        let mut block = self.0.clone();
        let sum = match format.sums {
            Sums::Short | Sums::Full => self.sum(),
            Sums::None | Sums::Transaction => 0,
        };
        put_be32(&mut block, SUM_AT, sum);
        block.resize(format.block_bytes, 0);
        block
    }
}
