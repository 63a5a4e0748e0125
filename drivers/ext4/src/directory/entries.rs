//! The records in a block of a directory: they follow each other without gaps, and one that is not in use has no inode.

use crate::bytes::{put, put_u16, put_u32, slice, u8_at, u16_at, u32_at, u64_at};
use crate::checksum::crc32c;
use crate::superblock::{Superblock, incompatible};

/// Bytes of a record before the name.
const HEAD_BYTES: usize = 8;
/// Bytes of the last record of a block with a checksum.
pub(super) const TAIL_BYTES: usize = 12;
/// What the last record of a block with a checksum has in the place of a kind.
const TAIL_CODE: u8 = 0xDE;
/// Bytes of an inode's record of itself and of its parent.
pub(super) const DOT_BYTES: usize = 12;

/// How a file system writes records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) block_bytes: usize,
    has_kinds: bool,
    has_tail: bool,
    inodes: u32,
}

/// A record, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where it is in its block.
    pub(super) at: usize,
    /// Bytes up to the next one.
    pub(super) length: usize,
    /// The inode; 0 if the record is not in use.
    pub(super) inode: u32,
    name_bytes: usize,
    /// The kind of the inode, as a code; 0 if not told.
    pub(super) code: u8,
}

impl Record {
    /// The name, in the block that has the record.
    pub(super) fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        slice(bytes, self.at + HEAD_BYTES, self.name_bytes)
    }

    /// Whether it is in use for a name, in the block that has the record. Names tend to differ at their ends.
    pub(super) fn is_named(&self, bytes: &[u8], name: &[u8]) -> bool {
        self.name_bytes == name.len()
            && self.inode != 0
            && bytes.get(self.at + HEAD_BYTES + self.name_bytes - 1) == name.last()
            && self.name(bytes) == name
    }

    /// Bytes that it needs.
    pub(super) fn used(&self) -> usize {
        if self.inode == 0 { 0 } else { needed(self.name_bytes) }
    }
}

/// Bytes that a record for a name of so many bytes needs.
pub(super) fn needed(name_bytes: usize) -> usize {
    (HEAD_BYTES + name_bytes).next_multiple_of(4)
}

impl Format {
    pub(super) fn new(superblock: &Superblock) -> Self {
        Self {
            block_bytes: superblock.block_bytes as usize,
            has_kinds: superblock.features.needs(incompatible::FILE_TYPE),
            has_tail: superblock.has_checksums(),
            inodes: superblock.inodes,
        }
    }

    /// Bytes of a block that records of names may take.
    pub(super) fn usable(&self) -> usize {
        if self.has_tail { self.block_bytes - TAIL_BYTES } else { self.block_bytes }
    }

    /// The record at `at`; none if it makes no sense.
    pub(super) fn record(&self, bytes: &[u8], at: usize) -> Option<Record> {
        // Inode, length, bytes of the name, kind. Beyond the end it reads as zero, which is no length.
        let head = u64_at(bytes, at);
        let length = self.length((head >> 32) as u16);
        let record = Record {
            at,
            length,
            inode: head as u32,
            name_bytes: (head >> 48) as usize & 0xFF,
            code: if self.has_kinds { (head >> 56) as u8 } else { 0 },
        };
        let fits = length >= needed(1)
            && length.is_multiple_of(4)
            && at + length <= bytes.len()
            && record.used() <= length
            && record.inode <= self.inodes
            && (record.inode == 0 || record.name_bytes > 0);
        fits.then_some(record)
    }

    /// Goes through the records before `end` until `visit` has found something; the error is a record that makes no sense.
    pub(super) fn visit<R>(
        &self,
        bytes: &[u8],
        end: usize,
        mut visit: impl FnMut(Record) -> Option<R>,
    ) -> Result<Option<R>, ()> {
        let mut at = 0;
        while at < end {
            let record = self.record(bytes, at).filter(|record| at + record.length <= end).ok_or(())?;
            if let Some(found) = visit(record) {
                return Ok(Some(found));
            }
            at += record.length;
        }
        Ok(None)
    }

    /// Lengths of 64 KiB don't fit into 16 bits: their two lowest bits, else zero, are the highest.
    fn length(&self, raw: u16) -> usize {
        let raw = usize::from(raw);
        if self.block_bytes < 65_536 {
            return raw;
        }
        if raw == 65_535 || raw == 0 { 65_536 } else { raw & 65_532 | (raw & 3) << 16 }
    }

    fn put_length(&self, bytes: &mut [u8], at: usize, length: usize) {
        let raw = if length == 65_536 { 65_535 } else { length as u16 };
        put_u16(bytes, at + 4, raw);
    }

    /// Writes a record.
    pub(super) fn put(&self, bytes: &mut [u8], at: usize, length: usize, entry: &Named<'_>) {
        put_u32(bytes, at, entry.inode);
        self.put_length(bytes, at, length);
        put(bytes, at + 6, &[entry.name.len() as u8, if self.has_kinds { entry.code } else { 0 }]);
        put(bytes, at + HEAD_BYTES, entry.name);
    }

    /// Makes an empty block: one record that is not in use, and the tail.
    pub(super) fn initialise(&self, bytes: &mut [u8]) {
        self.put(bytes, 0, self.usable(), &Named { inode: 0, code: 0, name: b"" });
        self.put_tail(bytes);
    }

    /// Writes the record that holds the checksum, if there are checksums.
    pub(super) fn put_tail(&self, bytes: &mut [u8]) {
        if self.has_tail {
            let at = self.usable();
            put(bytes, at, &[0; TAIL_BYTES]);
            self.put_length(bytes, at, TAIL_BYTES);
            put(bytes, at + 7, &[TAIL_CODE]);
        }
    }

    /// The first record that has room for another name behind its own; the error is a record that makes no sense.
    pub(super) fn room(&self, bytes: &[u8], name: &[u8]) -> Result<Option<Record>, ()> {
        let wanted = needed(name.len());
        self.visit(bytes, self.usable(), |record| (record.length - record.used() >= wanted).then_some(record))
    }

    /// Adds a name behind that of a record with room for it; `bytes` begin with the record.
    pub(super) fn share(&self, bytes: &mut [u8], record: &Record, entry: &Named<'_>) {
        let used = record.used();
        if used > 0 {
            self.put_length(bytes, 0, used);
        }
        self.put(bytes, used, record.length - used, entry);
    }

    /// Makes the record with this head longer, over one behind it that goes.
    pub(super) fn lengthen(&self, head: &mut [u8], more: usize) {
        let length = self.length(u16_at(head, 4)) + more;
        self.put_length(head, 0, length);
    }

    /// Changes what a record names.
    pub(super) fn replace(&self, bytes: &mut [u8], at: usize, inode: u32, code: u8) {
        put_u32(bytes, at, inode);
        if self.has_kinds {
            put(bytes, at + 7, &[code]);
        }
    }
}

/// A name and what it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) inode: u32,
    pub(super) code: u8,
    pub(super) name: &'a [u8],
}

/// Where the entries of an index block begin; none if it holds names.
pub(super) fn index_at(bytes: &[u8]) -> Option<usize> {
    let size = bytes.len();
    let whole = |raw: u16| usize::from(raw) == size || size == 65_536 && matches!(raw, 0 | 65_535);
    if u32_at(bytes, 0) == 0 && whole(u16_at(bytes, 4)) {
        return Some(8);
    }
    let is_root = u16_at(bytes, 4) == DOT_BYTES as u16
        && usize::from(u16_at(bytes, DOT_BYTES + 4)) == (size - DOT_BYTES) & 0xFFFF
        && u32_at(bytes, 24) == 0
        && u8_at(bytes, 29) == 8;
    is_root.then_some(32)
}

/// The checksum of a block of a directory, and where it is kept; none if there is no place for it.
fn checksum(seed: u32, bytes: &[u8]) -> Option<(u32, usize)> {
    if let Some(entries) = index_at(bytes) {
        let (limit, count) = (usize::from(u16_at(bytes, entries)), usize::from(u16_at(bytes, entries + 2)));
        let tail = entries + 8 * limit;
        if count > limit || tail + 8 > bytes.len() {
            return None;
        }
        let sum = crc32c(seed, slice(bytes, 0, entries + 8 * count));
        return Some((crc32c(crc32c(sum, slice(bytes, tail, 4)), &[0; 4]), tail + 4));
    }
    let tail = bytes.len().checked_sub(TAIL_BYTES)?;
    let is_tail = u32_at(bytes, tail) == 0
        && usize::from(u16_at(bytes, tail + 4)) == TAIL_BYTES
        && u16_at(bytes, tail + 6) == u16::from(TAIL_CODE) << 8;
    is_tail.then(|| (crc32c(seed, slice(bytes, 0, tail)), tail + 8))
}

/// Whether the checksum of a block of a directory is right.
pub(super) fn checksum_holds(seed: u32, bytes: &[u8]) -> bool {
    checksum(seed, bytes).is_some_and(|(sum, at)| u32_at(bytes, at) == sum)
}

/// Writes the checksum of a block of a directory.
pub(crate) fn seal(seed: u32, bytes: &mut [u8]) {
    if let Some((sum, at)) = checksum(seed, bytes) {
        put_u32(bytes, at, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> Format {
        Format { block_bytes: 1024, has_kinds: true, has_tail: true, inodes: 100 }
    }

    fn names(bytes: &[u8]) -> std::vec::Vec<std::vec::Vec<u8>> {
        let mut names = std::vec::Vec::new();
        let walked: Result<Option<()>, ()> = format().visit(bytes, 1024, |record| {
            if record.inode != 0 {
                names.push(record.name(bytes).to_vec());
            }
            None
        });
        walked.unwrap();
        names
    }

    fn insert(bytes: &mut [u8], inode: u32, name: &[u8]) -> bool {
        let Some(record) = format().room(bytes, name).unwrap() else { return false };
        format().share(&mut bytes[record.at..], &record, &Named { inode, code: 1, name });
        true
    }

    #[test]
    fn names_come_and_go() {
        let format = format();
        let mut bytes = [0xAA; 1024];
        format.initialise(&mut bytes);
        for (inode, name) in [(1, &b"one"[..]), (2, b"two"), (3, b"three")] {
            assert!(insert(&mut bytes, inode, name));
        }
        assert_eq!(names(&bytes), [&b"one"[..], b"two", b"three"]);
        format.lengthen(&mut bytes[0..8], 12);
        assert_eq!(names(&bytes), [&b"one"[..], b"three"]);
        assert!(insert(&mut bytes, 4, b"four"));
        assert_eq!(names(&bytes), [&b"one"[..], b"four", b"three"]);
        bytes[0..4].fill(0);
        assert_eq!(names(&bytes), [&b"four"[..], b"three"]);
        seal(7, &mut bytes);
        assert!(checksum_holds(7, &bytes) && !checksum_holds(8, &bytes));
    }

    #[test]
    fn a_full_block_takes_no_more_and_loses_nothing() {
        let format = format();
        let mut bytes = [0; 1024];
        format.initialise(&mut bytes);
        let mut count = 0;
        while insert(&mut bytes, 5, &[b'x'; 100]) {
            count += 1;
        }
        assert_eq!((count, names(&bytes).len()), (1012 / 108, 1012 / 108));
    }

    #[test]
    fn records_that_make_no_sense_are_refused() {
        let mut bytes = [0; 1024];
        format().initialise(&mut bytes);
        for (at, value) in [(4, 0_u16), (4, 10), (4, 2000), (0, 101)] {
            let mut bytes = bytes;
            put_u16(&mut bytes, at, value);
            assert!(format().record(&bytes, 0).is_none(), "{at} {value}");
        }
    }
}
