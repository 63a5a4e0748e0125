//! What a region is.

use quire_abi::space::Protection;

use super::object::Memory;
use super::space::Space;
use crate::machine::{Access, PAGE_SIZE};
use crate::pool::Id;

/// The number of the page that holds a byte.
pub(super) const fn page_of(address: u64) -> u64 {
    address / PAGE_SIZE
}

/// Where the pages of a region go when they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// To the memory: everybody who maps it sees it.
    Shared,
    /// To a copy in the space's private overlay.
    Private,
}

/// What becomes of a region when its space is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherit {
    /// The clone has it too: the same pages if shared, copy-on-write if private.
    Clone,
    /// The clone has nothing there.
    Omit,
}

/// What a region shows where the private overlay has nothing (private), or always (shared).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// Zeros.
    Zero,
    /// A memory, the region's first page being this page of it.
    Memory { id: Id<Memory>, page: u64 },
}

impl Backing {
    /// The memory behind it.
    pub(super) fn memory(self) -> Option<Id<Memory>> {
        match self {
            Self::Zero => None,
            Self::Memory { id, .. } => Some(id),
        }
    }

    fn advanced_by(self, pages: u64) -> Self {
        match self {
            Self::Zero => Self::Zero,
            Self::Memory { id, page } => Self::Memory { id, page: page + pages },
        }
    }
}

/// A range of pages of a space, all mapped the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First page number.
    pub(super) start: u64,
    /// Page number after the last.
    pub(super) end: u64,
    pub(super) backing: Backing,
    pub(super) sharing: Sharing,
    pub(super) inherit: Inherit,
    /// What the owner may do now.
    pub(super) access: Protection,
    /// What the owner may ever be allowed to do.
    pub(super) max_access: Protection,
}

impl Region {
    /// The page of the backing memory that is shown at a page of the region.
    pub(super) fn backing_page(&self, page: u64) -> Option<(Id<Memory>, u64)> {
        match self.backing {
            Backing::Zero => None,
            Backing::Memory { id, page: first } => Some((id, first + (page - self.start))),
        }
    }

    /// The pages of the space at which a range of pages of the backing memory is shown; may be an empty range.
    pub(super) fn shown(&self, first: u64, end: u64) -> (u64, u64) {
        let Backing::Memory { page, .. } = self.backing else { return (self.start, self.start) };
        let pages = self.end - self.start;
        let from = first.saturating_sub(page).min(pages);
        let to = end.saturating_sub(page).min(pages);
        (self.start + from, self.start + to)
    }

    /// Whether `next` begins where this region ends and is the same in all else, so that the two can be one.
    pub(super) fn continues_in(&self, next: &Self) -> bool {
        self.end == next.start
            && self.sharing == next.sharing
            && self.inherit == next.inherit
            && self.access == next.access
            && self.max_access == next.max_access
            && self.backing.advanced_by(self.end - self.start) == next.backing
    }

    /// The part of the region from page `at` on.
    pub(super) fn tail(&self, at: u64) -> Self {
        Self { start: at, backing: self.backing.advanced_by(at - self.start), ..*self }
    }

    /// The same region elsewhere.
    pub(super) fn moved_to(&self, start: u64) -> Self {
        Self { start, end: start + (self.end - self.start), ..*self }
    }

    /// What a page-table entry in this region may allow.
    pub(super) fn entry_access(&self) -> Access {
        Access { write: self.access.contains(Protection::WRITE), execute: self.access.contains(Protection::EXECUTE) }
    }
}

/// Names a region in the list of a memory's mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RegionPlace {
    pub(super) space: Id<Space>,
    pub(super) slot: u32,
}

/// A region's place in the list of its memory's mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) previous: Option<RegionPlace>,
    pub(super) next: Option<RegionPlace>,
}
