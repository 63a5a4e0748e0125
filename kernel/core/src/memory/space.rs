//! The `Space` object: what a thread sees.

use quire_abi::space::{Protection, USER_END, USER_START};

use super::MemorySystem;
use super::error::{Exhausted, MemoryError};
use super::object::Memory;
use super::overlay::Overlay;
use super::region::{Inherit, Sharing, page_of};
use super::regions::RegionTree;
use super::tables::{self, TableStore};
use crate::account::{Account, Resource};
use crate::machine::{Frame, Machine, PAGE_SIZE};
use crate::pool::Id;

/// What a space costs its account, apart from its regions.
const OBJECT_BYTES: u64 = size_of::<Space>() as u64;

/// The first page that can be mapped.
pub(super) const FIRST_PAGE: u64 = USER_START / PAGE_SIZE;
/// The page after the last that can be mapped.
pub(super) const END_PAGE: u64 = USER_END / PAGE_SIZE;

/// An address space: regions, the private overlay, page tables.
#[derive(Debug)]
pub struct Space {
    /// Pays for the object, its regions, page tables and private pages.
    pub(super) account: Id<Account>,
    pub(super) references: u32,
    /// The top page table.
    pub(super) root: Frame,
    pub(super) regions: RegionTree,
    /// How many regions are paid for beyond those in the tree; see `plain`.
    pub(super) spare_regions: u32,
    /// The private pages, keyed by virtual page number. Has pages only where private regions are.
    pub(super) private: Overlay,
}

/// What there is to know about a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// First address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// The memory it shows, and the offset in it at which it starts, in bytes; `None` for zeros.
    pub memory: Option<(Id<Memory>, u64)>,
    /// Where writes go.
    pub sharing: Sharing,
    /// What is allowed now.
    pub access: Protection,
    /// What may ever be allowed.
    pub max_access: Protection,
    /// What becomes of it in a clone.
    pub inherit: Inherit,
    /// Pages of the range that are private frames of the space.
    pub private_pages: u64,
}

impl MemorySystem {
    /// Makes an empty space, paid for by `account`.
    ///
    /// # Errors
    /// If there is no memory for it or the account can't pay.
    pub fn create_space(&mut self, m: &mut impl Machine, account: Id<Account>) -> Result<Id<Space>, Exhausted> {
        self.accounts.charge(account, Resource::KernelBytes, OBJECT_BYTES)?;
        let made = self.spaces.reserve(1).map_err(Exhausted::from);
        let made = made.and_then(|()| tables::new_root(m, self.table_store(account)));
        let made = made.and_then(|root| {
            let (regions, private) = (RegionTree::new(), Overlay::new());
            Ok(self.spaces.insert(Space { account, references: 1, root, regions, spare_regions: 0, private })?)
        });
        if made.is_err() {
            self.accounts.credit(account, Resource::KernelBytes, OBJECT_BYTES);
        }
        made
    }

    /// The object, or `None` if the id is stale.
    pub fn space(&self, id: Id<Space>) -> Option<&Space> {
        self.spaces.get(id)
    }

    /// The top page table.
    pub fn space_root(&self, id: Id<Space>) -> Frame {
        self.spaces[id].root
    }

    /// Its regions, and the pages of its private overlay.
    pub fn space_sizes(&mut self, id: Id<Space>) -> (u64, u64) {
        let space = &mut self.spaces[id];
        (space.regions.len() as u64, space.private.count_all(&self.nodes))
    }

    /// Adds a reference.
    pub fn retain_space(&mut self, id: Id<Space>) {
        let space = &mut self.spaces[id];
        space.references = space.references.saturating_add(1);
    }

    /// Whether the space ends when one reference is dropped.
    pub fn is_last_reference(&self, id: Id<Space>) -> bool {
        self.spaces[id].references <= 1
    }

    /// Drops a reference; the last one ends the space, which no processor may be using any more.
    pub fn release_space(&mut self, m: &mut impl Machine, id: Id<Space>) {
        let space = &mut self.spaces[id];
        if space.references > 1 {
            space.references -= u32::from(space.references != u32::MAX);
            return;
        }
        // The page tables first, as they show what the rest gives back.
        let ranges =
            space.regions.occupied().map(|slot| space.regions.region(slot)).map(|region| (region.start, region.end));
        let store = TableStore { accounts: &mut self.accounts, frames: &mut self.frames, payer: space.account };
        tables::free_root(m, store, space.root, ranges);
        let regions = u64::from(space.spare_regions) + self.remove_all_regions(id);
        let Some(mut space) = self.spaces.remove(id) else { return };
        let (mut stores, ..) = self.parts();
        space.private.clear(&mut stores);
        self.accounts.credit(space.account, Resource::KernelBytes, OBJECT_BYTES + regions * RegionTree::BYTES);
        self.accounts.collect(space.account);
    }

    /// Takes all regions out; tells how many there were.
    pub(super) fn remove_all_regions(&mut self, id: Id<Space>) -> u64 {
        let count = self.spaces[id].regions.len() as u64;
        for slot in 0..self.spaces[id].regions.slots() {
            if self.spaces[id].regions.is_occupied(slot) {
                self.detach(id, slot);
            }
        }
        self.spaces[id].regions.clear();
        count
    }

    /// The region that holds the address, or else the next above it.
    pub fn query(&self, id: Id<Space>, addr: u64) -> Option<RegionInfo> {
        let space = &self.spaces[id];
        let region = space.regions.region(space.regions.next(page_of(addr))?);
        Some(RegionInfo {
            addr: region.start * PAGE_SIZE,
            len: (region.end - region.start) * PAGE_SIZE,
            memory: region.backing_page(region.start).map(|(id, page)| (id, page * PAGE_SIZE)),
            sharing: region.sharing,
            access: region.access,
            max_access: region.max_access,
            inherit: region.inherit,
            private_pages: space.private.count(&self.nodes, region.start, region.end),
        })
    }

    /// A range of `len` bytes without regions: the one at `hint` if it is free, otherwise the highest that ends at or below
    /// it, otherwise the highest of all. A hint of 0 means the highest of all.
    ///
    /// # Errors
    /// [`MemoryError::Misaligned`]; [`MemoryError::OutOfRange`] for a length of 0;
    /// [`FaultError::NoMemory`](super::FaultError::NoMemory) if no range is long enough.
    pub fn find_range(&self, id: Id<Space>, hint: u64, len: u64) -> Result<u64, MemoryError> {
        if !hint.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
            return Err(MemoryError::Misaligned);
        }
        let (hint, pages) = (page_of(hint), page_of(len));
        if pages == 0 {
            return Err(MemoryError::OutOfRange);
        }
        let regions = &self.spaces[id].regions;
        let fits = hint >= FIRST_PAGE && hint.checked_add(pages).is_some_and(|end| end <= END_PAGE);
        if fits && regions.first_in(hint, hint + pages).is_none() {
            return Ok(hint * PAGE_SIZE);
        }
        let below = regions.highest_gap(FIRST_PAGE, hint.min(END_PAGE), pages);
        let found = below.or_else(|| regions.highest_gap(FIRST_PAGE, END_PAGE, pages));
        found.map(|page| page * PAGE_SIZE).ok_or(MemoryError::Fault(super::FaultError::NoMemory))
    }

    /// How many pages of the space are private frames.
    pub fn private_pages(&self, id: Id<Space>) -> u64 {
        self.spaces[id].private.count(&self.nodes, FIRST_PAGE, END_PAGE)
    }
}
