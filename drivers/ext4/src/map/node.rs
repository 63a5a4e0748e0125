//! The bytes of one node of an extent tree (Documentation/filesystems/ext4/ifork.rst): a header, and entries of 12 bytes sorted
//! by the first block of the file that they are about.

use crate::bytes::{joined, put_u16, put_u32, slice, u16_at, u32_at};
use core::ops::Range;

/// Bytes of the header, and of each entry.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Levels of a tree, its leaves included.
pub(crate) const MOST_DEPTH: u16 = 5;
/// Most blocks in an extent; longer ones in the length field are unwritten.
const MOST_WRITTEN: u32 = 32_768;
/// Most blocks in an unwritten extent.
const MOST_UNWRITTEN: u32 = 32_767;
/// Most blocks in an extent of either kind.
pub(crate) const MOST_IN_ONE: u32 = MOST_UNWRITTEN;

const MAGIC: u16 = 0xF30A;

/// Whether blocks of a file have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Their contents are the file's.
    Written,
    /// They are set aside and read as zeroes.
    Unwritten,
}

/// Blocks of a file that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first block of the file.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
    /// Where the first one is.
    pub(crate) start: u64,
    /// Whether they were written.
    pub(crate) state: State,
}

impl Extent {
    /// The block of the file after the last one.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    /// The part of it from block `from` of the file, which it has.
    pub(crate) fn from(&self, from: u32) -> Self {
        let skipped = from - self.first;
        Self { first: from, count: self.count - skipped, start: self.start + u64::from(skipped), ..*self }
    }

    /// The part of it before block `to` of the file, which it has.
    pub(crate) fn until(&self, to: u32) -> Self {
        Self { count: to - self.first, ..*self }
    }

    /// It and `next` as one, if that is possible.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let most = match self.state {
            State::Written => MOST_WRITTEN,
            State::Unwritten => MOST_UNWRITTEN,
        };
        let follows = self.end() == u64::from(next.first) && self.start + u64::from(self.count) == next.start;
        let fits = self.count + next.count <= most;
        (follows && fits && self.state == next.state).then(|| Self { count: self.count + next.count, ..*self })
    }

    fn load(entry: &[u8]) -> Self {
        let length = u32::from(u16_at(entry, 4));
        let (count, state) =
            if length > MOST_WRITTEN { (length - MOST_WRITTEN, State::Unwritten) } else { (length, State::Written) };
        Self { first: u32_at(entry, 0), count, start: joined(u32_at(entry, 8), u32::from(u16_at(entry, 6))), state }
    }

    /// The entry of a leaf for it.
    pub(crate) fn entry(&self) -> [u8; ENTRY_BYTES] {
        let mut entry = [0; ENTRY_BYTES];
        let length = match self.state {
            State::Written => self.count,
            State::Unwritten => self.count + MOST_WRITTEN,
        };
        put_u32(&mut entry, 0, self.first);
        put_u16(&mut entry, 4, length as u16);
        put_u16(&mut entry, 6, (self.start >> 32) as u16);
        put_u32(&mut entry, 8, self.start as u32);
        entry
    }
}

/// The entry of an inner node for the node in `block`, of which the first entry is about `first`.
pub(crate) fn index_entry(first: u32, block: u64) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    put_u32(&mut entry, 0, first);
    put_u32(&mut entry, 4, block as u32);
    put_u16(&mut entry, 8, (block >> 32) as u16);
    entry
}

/// What a node's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Entries in use.
    pub(crate) entries: usize,
    /// Entries that there is room for.
    pub(crate) capacity: usize,
    /// Levels below; 0 for a leaf.
    pub(crate) depth: u16,
}

impl Header {
    /// Takes apart the header of a node in `bytes`; none if it makes no sense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            entries: usize::from(u16_at(bytes, 2)),
            capacity: usize::from(u16_at(bytes, 4)),
            depth: u16_at(bytes, 6),
        };
        let fits = header.entries <= header.capacity && header.capacity <= capacity_of(bytes.len());
        (u16_at(bytes, 0) == MAGIC && fits && header.capacity > 0 && header.depth <= MOST_DEPTH).then_some(header)
    }
}

/// Entries that fit into a node of so many bytes.
pub(crate) fn capacity_of(bytes: usize) -> usize {
    bytes / ENTRY_BYTES - 1
}

/// Where the checksum of a node outside the inode is.
pub(crate) fn checksum_at(bytes: &[u8]) -> usize {
    ENTRY_BYTES * (1 + usize::from(u16_at(bytes, 4)))
}

/// Writes the header of an empty node.
pub(crate) fn initialise(bytes: &mut [u8], capacity: usize, depth: u16) {
    put_u16(bytes, 0, MAGIC);
    put_u16(bytes, 4, capacity as u16);
    put_u16(bytes, 6, depth);
    put_u16(bytes, 2, 0);
}

/// Sets how many entries are in use.
pub(crate) fn set_entries(bytes: &mut [u8], entries: usize) {
    put_u16(bytes, 2, entries as u16);
}

/// Where the entries from one to another are.
pub(crate) fn entries_at(entries: Range<usize>) -> Range<usize> {
    ENTRY_BYTES * (1 + entries.start)..ENTRY_BYTES * (1 + entries.end)
}

fn entry(bytes: &[u8], index: usize) -> &[u8] {
    slice(bytes, ENTRY_BYTES * (1 + index), ENTRY_BYTES)
}

/// The first block of the file that an entry is about.
pub(crate) fn key(bytes: &[u8], index: usize) -> u32 {
    u32_at(entry(bytes, index), 0)
}

/// An entry of a leaf.
pub(crate) fn extent(bytes: &[u8], index: usize) -> Extent {
    Extent::load(entry(bytes, index))
}

/// The block that an entry of an inner node points to.
pub(crate) fn child(bytes: &[u8], index: usize) -> u64 {
    let entry = entry(bytes, index);
    joined(u32_at(entry, 4), u32::from(u16_at(entry, 8)))
}

/// How many of the entries are about `block` of the file or one before it.
pub(crate) fn position(bytes: &[u8], entries: usize, block: u32) -> usize {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low + (high - low) / 2;
        if key(bytes, middle) <= block {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Whether a node's entries are in order and within the blocks `range` of the file, which its parent gives it.
pub(crate) fn is_ordered(bytes: &[u8], header: &Header, range: Range<u64>) -> bool {
    let mut at = range.start;
    for index in 0..header.entries {
        let first = u64::from(key(bytes, index));
        let end = if header.depth == 0 { extent(bytes, index).end() } else { first + 1 };
        if first < at || end <= first || end > range.end {
            return false;
        }
        at = end;
    }
    true
}

/// Puts an entry before the one at `index`; there is room.
pub(crate) fn insert(bytes: &mut [u8], index: usize, entry: &[u8; ENTRY_BYTES]) {
    let entries = usize::from(u16_at(bytes, 2));
    let at = ENTRY_BYTES * (1 + index);
    let end = ENTRY_BYTES * (1 + entries);
    if index <= entries && end + ENTRY_BYTES <= bytes.len() {
        bytes.copy_within(at..end, at + ENTRY_BYTES);
        crate::bytes::put(bytes, at, entry);
        put_u16(bytes, 2, (entries + 1) as u16);
    }
}

/// Takes entries out.
pub(crate) fn remove(bytes: &mut [u8], gone: Range<usize>) {
    let entries = usize::from(u16_at(bytes, 2));
    let end = ENTRY_BYTES * (1 + entries);
    if gone.start <= gone.end && gone.end <= entries && end <= bytes.len() {
        bytes.copy_within(ENTRY_BYTES * (1 + gone.end)..end, ENTRY_BYTES * (1 + gone.start));
        put_u16(bytes, 2, (entries - (gone.end - gone.start)) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(first: u32, count: u32, start: u64) -> Extent {
        Extent { first, count, start, state: State::Written }
    }

    #[test]
    fn entries_come_back_in_both_states() {
        for state in [State::Written, State::Unwritten] {
            let extent = Extent { first: 7, count: 300, start: 0x1234_5678_9ABC, state };
            assert_eq!(Extent::load(&extent.entry()), extent);
        }
        assert_eq!(Extent::load(&written(0, 32_768, 1).entry()), written(0, 32_768, 1));
    }

    #[test]
    fn a_node_keeps_its_entries_sorted() {
        let mut bytes = [0; 60];
        initialise(&mut bytes, 4, 0);
        insert(&mut bytes, 0, &written(10, 5, 100).entry());
        insert(&mut bytes, 0, &written(0, 5, 50).entry());
        insert(&mut bytes, 2, &written(20, 5, 200).entry());
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header, Header { entries: 3, capacity: 4, depth: 0 });
        assert!(is_ordered(&bytes, &header, 0..25) && !is_ordered(&bytes, &header, 0..24));
        assert_eq!([0, 9, 10, 30].map(|block| position(&bytes, 3, block)), [1, 1, 2, 3]);
        remove(&mut bytes, 0..2);
        assert_eq!(extent(&bytes, 0), written(20, 5, 200));
    }

    #[test]
    fn extents_join_only_where_file_and_disk_go_on() {
        let left = written(0, 4, 100);
        assert_eq!(left.joined(&written(4, 4, 104)), Some(written(0, 8, 100)));
        assert_eq!(left.joined(&written(4, 4, 105)), None);
        assert_eq!(left.joined(&written(5, 4, 104)), None);
        assert_eq!(left.joined(&Extent { state: State::Unwritten, ..written(4, 4, 104) }), None);
        assert_eq!(left.joined(&written(4, 32_765, 104)), None);
    }
}
