//! What the core needs from the hardware.
//!
//! Everything here acts on *frames named by number*; the core never sees an address of its own. The kernel implements it
//! over its direct map of physical memory, the tests with a mock that records what was done.

use core::ops::Range;

use zerocopy::IntoBytes;

/// The size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A frame of physical memory, named by its number (physical address / 4096).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u32);

/// What a page-table entry of the lowest level lets the user-space owner do. Every present entry can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Stores are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub execute: bool,
}

/// How the processor caches accesses through an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Ordinary memory.
    #[default]
    WriteBack,
    /// Device registers: no caching, in order.
    Uncached,
}

/// One entry of a page table, of any level, independent of its encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    #[default]
    Absent,
    /// The next lower table. With `writable` clear, everything below is read-only whatever its own entries say
    /// (Intel SDM vol. 3A, 4.6.1: access rights are the conjunction over all levels).
    Table {
        /// The frame that holds the table.
        table: Frame,
        /// Stores below are allowed where the lower entries allow them too.
        writable: bool,
    },
    /// A page (lowest level only).
    Page {
        /// The frame that is shown.
        frame: Frame,
        /// What its owner may do.
        access: Access,
        /// How it is cached.
        caching: Caching,
    },
}

/// Entries per page table, on every level.
pub const TABLE_ENTRIES: usize = 512;

/// Levels of page tables.
pub const LEVELS: u32 = 4;

/// The index of a page's entry in the table of a level; 0 is the lowest.
#[inline]
pub const fn table_index(page: u64, level: u32) -> usize {
    (page >> (level * TABLE_ENTRIES.ilog2())) as usize % TABLE_ENTRIES
}

/// The hardware, as far as the core is concerned.
pub trait Machine {
    /// Fills the frame with zeros.
    fn zero_frame(&mut self, frame: Frame);

    /// Copies all of `from` to `to`.
    fn copy_frame(&mut self, from: Frame, to: Frame);

    /// Reads bytes of a frame; `offset + into.len()` is at most [`PAGE_SIZE`].
    fn read_frame(&self, frame: Frame, offset: usize, into: &mut [u8]);

    /// Writes bytes of a frame; `offset + from.len()` is at most [`PAGE_SIZE`].
    fn write_frame(&mut self, frame: Frame, offset: usize, from: &[u8]);

    /// Reads words of a frame that the core allocated; `offset` is a multiple of 8, and the words lie in the frame.
    #[inline]
    fn read_words<const N: usize>(&self, frame: Frame, offset: usize) -> [u64; N] {
        let mut words = [0; N];
        self.read_frame(frame, offset, words.as_mut_bytes());
        words
    }

    /// Writes words of a frame that the core allocated; `offset` is a multiple of 8, and the words lie in the frame.
    #[inline]
    fn write_words<const N: usize>(&mut self, frame: Frame, offset: usize, words: &[u64; N]) {
        self.write_frame(frame, offset, words.as_bytes());
    }

    /// Reads half a word of a frame that the core allocated; `offset` is a multiple of 4.
    #[inline]
    fn read_half(&self, frame: Frame, offset: usize) -> u32 {
        let mut half = 0;
        self.read_frame(frame, offset, half.as_mut_bytes());
        half
    }

    /// Writes half a word of a frame that the core allocated; `offset` is a multiple of 4.
    #[inline]
    fn write_half(&mut self, frame: Frame, offset: usize, half: u32) {
        self.write_frame(frame, offset, half.as_bytes());
    }

    /// Replaces half a word of a frame that the core allocated if it is `expected`, in one step as all processors see it;
    /// returns what it was. `offset` is a multiple of 4.
    fn exchange_half(&mut self, frame: Frame, offset: usize, expected: u32, new: u32) -> u32 {
        let found = self.read_half(frame, offset);
        if found == expected {
            self.write_half(frame, offset, new);
        }
        found
    }

    /// Copies bytes between frames (which may be the same one); neither range leaves its frame.
    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), len: usize);

    /// Reads entry `index` of the table in `table`.
    fn read_entry(&self, table: Frame, index: usize) -> Entry;

    /// What the processor would find for a page: its entry of the lowest level, in which stores are allowed only if every level
    /// allows them; [`Entry::Absent`] if there is none.
    fn find_page(&self, root: Frame, page: u64) -> Entry {
        let mut table = root;
        let mut all_writable = true;
        for level in (0..LEVELS).rev() {
            match self.read_entry(table, table_index(page, level)) {
                Entry::Absent => return Entry::Absent,
                Entry::Table { table: next, writable } => {
                    table = next;
                    all_writable &= writable;
                }
                Entry::Page { frame, mut access, caching } => {
                    access.write &= all_writable;
                    return Entry::Page { frame, access, caching };
                }
            }
        }
        Entry::Absent
    }

    /// Writes entry `index`. The caller sees to invalidation.
    fn write_entry(&mut self, table: Frame, index: usize, entry: Entry);

    /// Copies all entries of one lowest-level table to another, clearing the write permission of every page in the
    /// copy. The two may be the same table. One operation, because it is the hot part of a first write after a fork.
    fn copy_table_read_only(&mut self, from: Frame, to: Frame);

    /// Makes those of the `entries` of one table that lead to a lower table lead there from `to` as well, writable in neither,
    /// and names each lower table. One operation, because a fork does nothing else as often.
    fn share_tables(&mut self, from: Frame, to: Frame, entries: Range<usize>, mut shared: impl FnMut(Frame)) {
        for index in entries {
            let Entry::Table { table, .. } = self.read_entry(from, index) else { continue };
            shared(table);
            self.write_entry(from, index, Entry::Table { table, writable: false });
            self.write_entry(to, index, Entry::Table { table, writable: false });
        }
    }

    /// Whether a page was used through the tables with this root since this was last asked; forgets it. A processor that still has the
    /// translation cached uses it unnoticed, so the answer can be a wrong "no".
    fn take_accessed(&mut self, root: Frame, page: u64) -> bool;

    /// Prepares a new top-level table: zeroed by the caller, it gains whatever the kernel itself needs mapped.
    fn init_root(&mut self, root: Frame);

    /// Makes every processor forget cached translations of `pages` pages from virtual page number `page` in the space
    /// with this root, before it returns. `u64::MAX` pages: all of the space. Whatever the range, it also makes them forget
    /// what they cached of the higher tables of the space, as INVLPG does (Intel SDM vol. 3A, 4.10.4.1).
    fn invalidate(&mut self, root: Frame, page: u64, pages: u64);
}
