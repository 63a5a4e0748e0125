//! Records for managed memories and their pagers.
//!
//! A managed memory has its pages from a *pager*: whoever holds the other end. The kernel asks it to fill pages that
//! somebody needs and to write back pages that were stored to; it supplies, says that it failed, or that it has written.
//! Nobody who waits for a page waits longer than the memory's deadline, or for a pager that is gone (unless the memory's
//! maker said that there will be a successor).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most that one `pager_supply` moves, and the longest range of one request, in bytes.
pub const MAX_SUPPLY: u64 = 1 << 20;
/// How many requests one `pager_receive` takes at most.
pub const MAX_REQUESTS: usize = 64;

bitflags::bitflags! {
    /// How a managed memory is made; also told by `memory_info`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PagerFlags: u32 {
        /// While no pager is bound to a queue, those who need a page wait for one (until the deadline), instead of being
        /// refused at once.
        const AWAIT_SUCCESSOR = 1 << 0;
        /// Told only: the memory is managed.
        const MANAGED = 1 << 8;
        /// Told only: a pager takes requests.
        const PRESENT = 1 << 9;
    }
}

/// What a [`PagerRequest`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PagerRequestKind {
    /// Supply the range, or fail it.
    Fill = 1,
    /// Write the range back from the memory, then say `pager_written`, or fail it. The writeback has begun: what is stored
    /// from now on makes the page dirty again.
    Writeback = 2,
}

impl PagerRequestKind {
    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Fill,
            2 => Self::Writeback,
            _ => return None,
        })
    }
}

/// What `pager_receive` writes; 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagerRequest {
    /// A [`PagerRequestKind`].
    pub kind: u32,
    /// Always 0.
    pub reserved: u32,
    /// Where the range starts, in bytes; page-aligned.
    pub offset: u64,
    /// How long it is, in bytes; whole pages.
    pub length: u64,
    /// Of a `Fill`: so many bytes after the range are likely to be needed next. They may be supplied unasked.
    pub read_ahead: u64,
}
