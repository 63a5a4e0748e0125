//! The notes: a memory of the client's that outlives the server.
//!
//! The first page is the server's: which operations the last transactions of its journal contain. After that come the slots of files,
//! which the client writes and the server reads: two little-endian numbers of 64 bits each. A memory that is all zeros says that the mount is
//! a fresh one.

use super::read_u64;

/// Where the slots begin, in bytes.
pub const SLOTS_OFFSET: u64 = 4096;
/// The size of a slot in bytes.
pub const SLOT_BYTES: u64 = 16;
/// Where in its slot the number is of the last operation that makes the file shorter or takes a range out of it.
pub const CUT: u64 = 0;
/// Where in its slot the number is of the last operation that makes the file longer.
pub const SIZE: u64 = 8;

/// Where a slot is, in bytes.
pub const fn slot_offset(slot: u64) -> u64 {
    SLOTS_OFFSET.saturating_add(slot.saturating_mul(SLOT_BYTES))
}

/// How large the notes are that have so many slots, in bytes.
pub const fn bytes_for(slots: u64) -> u64 {
    slot_offset(slots)
}

/// Which operations a transaction contains: all up to this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The transaction's number.
    pub transaction: u64,
    /// The last operation.
    pub sequence: u64,
}

/// How many transactions the notes remember.
pub const RECORDS: u64 = 64;
/// The size of a record in bytes.
pub const RECORD_BYTES: usize = 24;
/// Where the records begin; before them is what says that the notes are in use.
const RECORDS_OFFSET: u64 = 512;
/// What [`Record::check`] of no record is.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Record {
    /// Where the record of a transaction is, in bytes: that of one [`RECORDS`] before it is written over.
    pub const fn offset_bytes(transaction: u64) -> u64 {
        RECORDS_OFFSET + transaction % RECORDS * RECORD_BYTES as u64
    }

    /// A number that only this record has, never 0: so a record that was written half is none.
    const fn check(self) -> u64 {
        (self.transaction ^ self.sequence.rotate_left(32)).wrapping_mul(MIX) | 1
    }

    /// Its bytes.
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let fields = [self.transaction, self.sequence, self.check()];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// The record in the bytes, if there is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let record = Self { transaction: read_u64(bytes, 0)?, sequence: read_u64(bytes, 8)? };
        (read_u64(bytes, 16)? == record.check()).then_some(record)
    }
}
