//! Changing a space: a list of operations, all or nothing.
//!
//! A commit goes through the list twice.
//!
//! 1. *Stage*: each operation is checked against the regions as the operations before it leave them, everything it will need
//!    is reserved and paid for, and then its change of the region tree is made. Nobody sees the tree in between, and if
//!    a later operation is refused, `undo` puts the regions back.
//! 2. *Apply*: page tables and the private overlay follow, operation by operation. Nothing here can fail.
//!
//! Memories whose regions go are kept alive until the end, when nothing shows their pages any more.

use alloc::vec::Vec;

use quire_abi::space::Protection;

use super::MemorySystem;
use super::error::{Exhausted, FaultError, MemoryError};
use super::frames::Retired;
use super::object::{Content, Memory};
use super::overlay::{MAX_PAGES, Overlay, Prepaid, REMOVAL_NODES};
use super::region::{Backing, Inherit, Region, Sharing, page_of};
use super::regions::RegionTree;
use super::space::{END_PAGE, FIRST_PAGE, Space};
use super::tables::{self, Change};
use super::undo::UndoLog;
use crate::account::{Account, Resource};
use crate::machine::{Access, Caching, Machine, PAGE_SIZE};
use crate::pool::Id;

/// How many regions a space may have.
pub(super) const MAX_REGIONS: usize = 1 << 16;

/// What a new region shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSource {
    /// Zeros; only private.
    Anonymous,
    /// A memory from a byte offset (page-aligned) on. It may be shorter than the region.
    Memory {
        /// The memory.
        id: Id<Memory>,
        /// The offset in it.
        offset: u64,
    },
}

/// What happens if the range of a new region is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// What is there is unmapped.
    Existing,
    /// Nothing may be there: the operation is refused if it is.
    Nothing,
}

/// One operation of a commit. Addresses, lengths and offsets are in bytes and page-aligned; no length is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceOp {
    /// Maps something.
    Map {
        /// First address.
        addr: u64,
        /// Length.
        len: u64,
        /// What is shown.
        source: MapSource,
        /// Where writes go.
        sharing: Sharing,
        /// What is allowed at first.
        access: Protection,
        /// What [`SpaceOp::Protect`] may ever allow.
        max_access: Protection,
        /// What becomes of it in a clone.
        inherit: Inherit,
        /// Whether the range must be free.
        replace: Replace,
    },
    /// Unmaps whatever is in the range.
    Unmap {
        /// First address.
        addr: u64,
        /// Length.
        len: u64,
    },
    /// Changes what is allowed in a range that is mapped without holes.
    Protect {
        /// First address.
        addr: u64,
        /// Length.
        len: u64,
        /// What is allowed from now on.
        access: Protection,
    },
    /// Forgets the private pages in a range: private regions read as their source again.
    Discard {
        /// First address.
        addr: u64,
        /// Length.
        len: u64,
    },
    /// Moves the regions and private pages of a range that is mapped without holes to a range that is free.
    Move {
        /// First address.
        from: u64,
        /// Length.
        len: u64,
        /// Where it goes; must not overlap `from`.
        to: u64,
    },
    /// Makes this space, which has no regions, a copy of another. Cost: the regions of the other, and one page-table
    /// entry for every 2 MiB that are in use there.
    Clone {
        /// The other space.
        source: Id<Space>,
    },
}

/// Which operation of a commit was refused, and why. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitError {
    /// The index of the operation.
    pub index: usize,
    /// Why.
    pub error: MemoryError,
}

/// A range of pages.
type Pages = (u64, u64);

/// What a commit has reserved and must settle.
struct Plan {
    space: Id<Space>,
    account: Id<Account>,
    /// For the overlay nodes of the apply phase.
    prepaid: Prepaid,
    regions_before: usize,
    /// Regions paid for beyond those.
    regions_paid: usize,
    /// Memories held until the end.
    kept: Vec<Id<Memory>>,
    /// The operation that is being staged or applied.
    index: usize,
    /// A bit for each `Map` whose range was free: nothing is shown there and no page is private.
    free_ranges: u64,
    undo: UndoLog,
    /// Whether the apply phase will bring pages to places where the overlay has none now, so that the cost of later
    /// operations can't be read off it.
    rearranged: bool,
}

impl Plan {
    /// Whether the operation maps where nothing was.
    fn is_free_range(&self) -> bool {
        self.free_ranges.checked_shr(self.index as u32).unwrap_or(0) & 1 != 0
    }
}

impl MemorySystem {
    /// Changes a space by a list of operations, each of which sees the ones before it; all or nothing.
    ///
    /// # Errors
    /// The first operation that is refused, and why.
    pub fn commit(&mut self, m: &mut impl Machine, space: Id<Space>, ops: &[SpaceOp]) -> Result<(), CommitError> {
        if let [op] = ops
            && self.change_plainly(m, space, op)
        {
            return Ok(());
        }
        let account = self.spaces[space].account;
        let mut plan = Plan {
            space,
            account,
            prepaid: Prepaid::new(account),
            regions_before: self.spaces[space].regions.len(),
            regions_paid: 0,
            kept: Vec::new(),
            index: 0,
            free_ranges: 0,
            undo: UndoLog::new(ops.len()),
            rearranged: false,
        };
        let mut staged = Ok(());
        for (index, op) in ops.iter().enumerate() {
            plan.index = index;
            if let Err(error) = self.stage(&mut plan, op) {
                self.roll_back(space, &mut plan.undo);
                staged = Err(CommitError { index, error });
                break;
            }
        }
        if staged.is_ok() {
            for (index, op) in ops.iter().enumerate() {
                plan.index = index;
                self.apply(m, &mut plan, op);
            }
        }
        self.settle(plan);
        staged
    }

    /// Checks an operation, reserves what it needs, and makes its change to the regions.
    fn stage(&mut self, plan: &mut Plan, op: &SpaceOp) -> Result<(), MemoryError> {
        match *op {
            SpaceOp::Map { addr, len, replace, .. } => {
                let pages = page_range(addr, len)?;
                let region = self.new_region(op, pages)?;
                self.stage_map(plan, pages, region, replace)
            }
            SpaceOp::Unmap { addr, len } => {
                let pages = page_range(addr, len)?;
                self.pay_for_cut(plan, pages, 0)?;
                self.pay_for_removal(plan, pages)?;
                self.keep_and_log(plan, pages)?;
                self.clear_range(plan.space, pages);
                Ok(())
            }
            SpaceOp::Protect { addr, len, access } => self.stage_protect(plan, page_range(addr, len)?, access),
            SpaceOp::Discard { addr, len } => self.pay_for_removal(plan, page_range(addr, len)?),
            SpaceOp::Move { from, len, to } => self.stage_move(plan, page_range(from, len)?, page_range(to, len)?),
            SpaceOp::Clone { source } => self.stage_clone(plan, source),
        }
    }

    /// The region that a `Map` makes.
    fn new_region(&self, op: &SpaceOp, (start, end): Pages) -> Result<Region, MemoryError> {
        let SpaceOp::Map { source, sharing, access, max_access, inherit, .. } = *op else {
            return Err(MemoryError::BadArgument);
        };
        if !max_access.contains(access) {
            return Err(FaultError::AccessDenied.into());
        }
        let backing = match source {
            MapSource::Anonymous if sharing == Sharing::Shared => return Err(MemoryError::BadArgument),
            MapSource::Anonymous => Backing::Zero,
            MapSource::Memory { id, offset } => {
                if !offset.is_multiple_of(PAGE_SIZE) {
                    return Err(MemoryError::Misaligned);
                }
                let page = page_of(offset);
                if page.checked_add(end - start).is_none_or(|last| last > MAX_PAGES) {
                    return Err(MemoryError::OutOfRange);
                }
                self.check_mappable(id, sharing)?;
                Backing::Memory { id, page }
            }
        };
        Ok(Region { start, end, backing, sharing, inherit, access, max_access })
    }

    fn check_mappable(&self, id: Id<Memory>, sharing: Sharing) -> Result<(), MemoryError> {
        if self.memories.get(id).is_none() {
            return Err(MemoryError::BadArgument);
        }
        let (origin, _) = self.origin(id, 0)?;
        match (&self.memories[origin].content, sharing) {
            // A private page is a copy, and copying device registers means nothing.
            (Content::Direct { caching: Caching::Uncached, .. }, Sharing::Private) => Err(MemoryError::BadArgument),
            (Content::Direct { .. } | Content::Pages { .. } | Content::Managed(_) | Content::Window(_), _) => Ok(()),
        }
    }

    fn stage_map(
        &mut self,
        plan: &mut Plan,
        (start, end): Pages,
        region: Region,
        replace: Replace,
    ) -> Result<(), MemoryError> {
        if self.spaces[plan.space].regions.first_in(start, end).is_none() {
            // No region goes, but for one that becomes part of a neighbour, which then keeps the same memory alive.
            self.pay_for_regions(plan, 1)?;
            self.log(plan, (start, end))?;
            plan.free_ranges |= 1u64.checked_shl(plan.index as u32).unwrap_or(0);
        } else if replace == Replace::Nothing {
            return Err(MemoryError::Overlap);
        } else {
            self.pay_for_cut(plan, (start, end), 1)?;
            self.pay_for_removal(plan, (start, end))?;
            self.keep_and_log(plan, (start, end))?;
            self.clear_range(plan.space, (start, end));
        }
        self.add_region(plan.space, region);
        Ok(())
    }

    fn stage_protect(&mut self, plan: &mut Plan, (start, end): Pages, access: Protection) -> Result<(), MemoryError> {
        self.check_mapped(plan.space, (start, end))?;
        let regions = &self.spaces[plan.space].regions;
        if regions.range(start, end).any(|(_, region)| !region.max_access.contains(access)) {
            return Err(FaultError::AccessDenied.into());
        }
        self.pay_for_regions(plan, 2)?;
        self.keep_and_log(plan, (start, end))?;
        self.carve(plan.space, start, end);
        let mut cursor = start;
        while let Some(slot) = self.spaces[plan.space].regions.first_in(cursor, end) {
            let regions = &mut self.spaces[plan.space].regions;
            let region = Region { access, ..*regions.region(slot) };
            regions.replace(slot, region);
            cursor = region.end;
            self.merge_with_previous(plan.space, slot);
        }
        if let Some(after) = self.spaces[plan.space].regions.next(end) {
            self.merge_with_previous(plan.space, after);
        }
        Ok(())
    }

    fn stage_move(&mut self, plan: &mut Plan, from: Pages, to: Pages) -> Result<(), MemoryError> {
        if from.0 < to.1 && to.0 < from.1 {
            return Err(MemoryError::Overlap);
        }
        self.check_mapped(plan.space, from)?;
        let space = &self.spaces[plan.space];
        if space.regions.first_in(to.0, to.1).is_some() {
            return Err(MemoryError::Overlap);
        }
        let pages = from.1 - from.0;
        let resident = if plan.rearranged { pages } else { space.private.count(&self.nodes, from.0, from.1) };
        self.pay_for_nodes(plan, Overlay::moving_nodes(pages, resident))?;
        self.pay_for_regions(plan, 2)?;
        self.keep_and_log(plan, from)?;
        self.keep_and_log(plan, to)?;
        plan.rearranged = true;
        self.carve(plan.space, from.0, from.1);
        while let Some(slot) = self.spaces[plan.space].regions.first_in(from.0, from.1) {
            let region = self.remove_region(plan.space, slot);
            self.add_region(plan.space, region.moved_to(to.0 + (region.start - from.0)));
        }
        Ok(())
    }

    fn stage_clone(&mut self, plan: &mut Plan, source: Id<Space>) -> Result<(), MemoryError> {
        let Some(original) = self.spaces.get(source) else { return Err(MemoryError::BadArgument) };
        if source == plan.space || !self.spaces[plan.space].regions.is_empty() {
            return Err(MemoryError::BadState);
        }
        let regions = original.regions.try_clone()?;
        let omitted = |slot: &u32| regions.region(*slot).inherit == Inherit::Omit;
        let omitted = regions.occupied().filter(omitted).count();
        self.pay_for_nodes(plan, omitted.saturating_mul(REMOVAL_NODES))?;
        self.pay_for_regions(plan, regions.len())?;
        plan.undo.reserve()?;
        plan.rearranged = true;
        plan.undo.log_clone(core::mem::replace(&mut self.spaces[plan.space].regions, regions));
        for slot in 0..self.spaces[plan.space].regions.slots() {
            if self.spaces[plan.space].regions.is_occupied(slot) {
                self.attach(plan.space, slot);
            }
        }
        if omitted != 0 {
            self.omit_regions(plan.space);
        }
        Ok(())
    }

    /// Takes out the regions that a clone does not inherit.
    fn omit_regions(&mut self, space: Id<Space>) {
        for slot in 0..self.spaces[space].regions.slots() {
            let regions = &self.spaces[space].regions;
            if regions.is_occupied(slot) && regions.region(slot).inherit == Inherit::Omit {
                self.remove_region(space, slot);
            }
        }
    }

    /// Takes the regions, and the parts of regions, that are in a range out of a space.
    fn clear_range(&mut self, space: Id<Space>, (start, end): Pages) {
        self.carve(space, start, end);
        while let Some(slot) = self.spaces[space].regions.first_in(start, end) {
            self.remove_region(space, slot);
        }
    }

    /// Refuses a range with holes.
    fn check_mapped(&self, space: Id<Space>, (start, end): Pages) -> Result<(), MemoryError> {
        let mut cursor = start;
        for (_, region) in self.spaces[space].regions.range(start, end) {
            if region.start > cursor {
                break;
            }
            cursor = region.end;
        }
        if cursor < end { Err(MemoryError::NOT_MAPPED) } else { Ok(()) }
    }

    /// Pays for `more` new regions and for what is left of those that a range is cut out of: one region more if it lies
    /// within a single one. Until the range is cleared there may be two more.
    fn pay_for_cut(&mut self, plan: &mut Plan, (start, end): Pages, more: usize) -> Result<(), MemoryError> {
        let regions = &mut self.spaces[plan.space].regions;
        regions.reserve(2 + more)?;
        let first = regions.find(start).map(|slot| regions.region(slot));
        let splits = first.is_some_and(|region| region.start < start && region.end > end);
        self.pay_for_regions(plan, usize::from(splits) + more)
    }

    fn pay_for_regions(&mut self, plan: &mut Plan, count: usize) -> Result<(), MemoryError> {
        if count == 0 {
            return Ok(());
        }
        let regions = &mut self.spaces[plan.space].regions;
        if regions.len().saturating_add(count) > MAX_REGIONS {
            return Err(MemoryError::TooManyRegions);
        }
        regions.reserve(count)?;
        let bytes = count as u64 * RegionTree::BYTES;
        self.accounts.charge(plan.account, Resource::KernelBytes, bytes).map_err(Exhausted::from)?;
        plan.regions_paid += count;
        Ok(())
    }

    fn pay_for_nodes(&mut self, plan: &mut Plan, count: usize) -> Result<(), MemoryError> {
        let (mut stores, ..) = self.parts();
        Ok(plan.prepaid.add(&mut stores, count)?)
    }

    /// Pays for taking the private pages of a range out.
    fn pay_for_removal(&mut self, plan: &mut Plan, (start, end): Pages) -> Result<(), MemoryError> {
        let count = match plan.rearranged {
            true => REMOVAL_NODES,
            false => self.spaces[plan.space].private.removal_nodes(&self.nodes, start, end),
        };
        self.pay_for_nodes(plan, count)
    }

    /// Keeps the memories of the regions in a range, and of those that touch it, alive, and remembers these regions.
    fn keep_and_log(&mut self, plan: &mut Plan, (start, end): Pages) -> Result<(), MemoryError> {
        let regions = &self.spaces[plan.space].regions;
        for (_, region) in regions.range(start.saturating_sub(1), end.saturating_add(1)) {
            let Some(id) = region.backing.memory() else { continue };
            plan.kept.try_reserve(1).map_err(Exhausted::from)?;
            plan.kept.push(id);
            let memory = &mut self.memories[id];
            memory.references = memory.references.saturating_add(1);
        }
        self.log(plan, (start, end))
    }

    /// Remembers the regions in a range and those that touch it.
    fn log(&self, plan: &mut Plan, (start, end): Pages) -> Result<(), MemoryError> {
        if plan.undo.is_complete() {
            return Ok(());
        }
        let regions = &self.spaces[plan.space].regions;
        let near = regions.range(start.saturating_sub(1), end.saturating_add(1));
        Ok(plan.undo.log_range((start, end), near.map(|(_, region)| *region))?)
    }

    /// Makes page tables and private pages follow the regions. Does not fail.
    fn apply(&mut self, m: &mut impl Machine, plan: &mut Plan, op: &SpaceOp) {
        match *op {
            SpaceOp::Map { .. } if plan.is_free_range() => {}
            SpaceOp::Map { addr, len, .. } | SpaceOp::Discard { addr, len } => {
                let (start, end) = (page_of(addr), page_of(addr) + page_of(len));
                self.change_tables(m, plan.space, (start, end), Change::Break { floor: start, ceiling: end });
                self.remove_private(plan, (start, end));
            }
            SpaceOp::Unmap { addr, len } => {
                let pages = (page_of(addr), page_of(addr) + page_of(len));
                self.break_unmapped(m, plan.space, pages);
                self.remove_private(plan, pages);
            }
            SpaceOp::Protect { addr, len, access } => {
                let pages = (page_of(addr), page_of(addr) + page_of(len));
                self.change_tables(m, plan.space, pages, restriction(access));
            }
            SpaceOp::Move { from, len, to } => {
                let pages = (page_of(from), page_of(from) + page_of(len));
                self.break_unmapped(m, plan.space, pages);
                let (mut stores, _, spaces) = self.parts();
                let private = &mut spaces[plan.space].private;
                private.relocate(&mut stores, &mut plan.prepaid, pages, page_of(to));
            }
            SpaceOp::Clone { source } => self.apply_clone(m, plan, source),
        }
    }

    /// Shares pages and page tables with the source, then takes away what the clone must not have.
    fn apply_clone(&mut self, m: &mut impl Machine, plan: &mut Plan, source: Id<Space>) {
        let (stores, _, spaces) = self.parts();
        spaces[plan.space].private = spaces[source].private.snapshot(stores.nodes);
        self.share_tables(m, source, plan.space);
        for slot in 0..self.spaces[source].regions.slots() {
            let regions = &self.spaces[source].regions;
            let region = *regions.region(slot);
            if regions.is_occupied(slot) && region.inherit == Inherit::Omit {
                self.break_unmapped(m, plan.space, (region.start, region.end));
                self.remove_private(plan, (region.start, region.end));
            }
        }
    }

    fn share_tables(&mut self, m: &mut impl Machine, source: Id<Space>, target: Id<Space>) {
        let (from, to) = (self.spaces[source].root, self.spaces[target].root);
        if self.frames.tables(to) != 0 {
            // What earlier operations of the commit unmapped: the tables stayed for the sake of regions that come now.
            self.change_tables(m, target, (0, END_PAGE), Change::Break { floor: 0, ceiling: u64::MAX });
        }
        let payer = self.spaces[target].account;
        let mut retired = Retired::new();
        let mut shared_until = 0;
        for (_, region) in self.spaces[source].regions.iter() {
            let start = region.start.max(shared_until);
            // A table that shows only what the clone does not get stays the source's, which can go on writing through it.
            if start < region.end && region.inherit == Inherit::Clone {
                let mut store = tables::TableStore { accounts: &mut self.accounts, frames: &mut self.frames, payer };
                shared_until = tables::share(m, &mut store, (from, to), (start, region.end), &mut retired);
            }
        }
        tables::finish_sharing(m, self.table_store(payer), from, retired);
    }

    /// Breaks what is shown in a range, and frees the tables that have no region any more.
    pub(super) fn break_unmapped(&mut self, m: &mut impl Machine, space: Id<Space>, pages: Pages) {
        let (floor, ceiling) = self.spaces[space].regions.gap_around(pages.0, pages.1);
        self.change_tables(m, space, pages, Change::Break { floor, ceiling });
    }

    fn change_tables(&mut self, m: &mut impl Machine, space: Id<Space>, pages: Pages, change: Change) {
        let Space { root, account, .. } = self.spaces[space];
        tables::change(m, self.table_store(account), root, pages, change);
    }

    fn remove_private(&mut self, plan: &mut Plan, (start, end): Pages) {
        let (mut stores, _, spaces) = self.parts();
        spaces[plan.space].private.remove(&mut stores, &mut plan.prepaid, start, end);
    }

    /// Gives back what was reserved and not used, and lets go of the memories.
    fn settle(&mut self, plan: Plan) {
        let (mut stores, ..) = self.parts();
        plan.prepaid.refund(&mut stores);
        let unused = plan.regions_before + plan.regions_paid - self.spaces[plan.space].regions.len();
        if unused != 0 {
            self.accounts.credit(plan.account, Resource::KernelBytes, unused as u64 * RegionTree::BYTES);
        }
        for id in plan.kept {
            self.release_memory(id);
        }
    }
}

/// What a change of protection takes away from the entries.
fn restriction(access: Protection) -> Change {
    if access.is_empty() {
        return Change::BREAK;
    }
    Change::Restrict(Access {
        write: access.contains(Protection::WRITE),
        execute: access.contains(Protection::EXECUTE),
    })
}

/// The pages of a range of user addresses.
pub(super) fn page_range(addr: u64, len: u64) -> Result<Pages, MemoryError> {
    if !addr.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
        return Err(MemoryError::Misaligned);
    }
    let (start, pages) = (page_of(addr), page_of(len));
    let end = start.checked_add(pages).filter(|end| *end <= END_PAGE).ok_or(MemoryError::OutOfRange)?;
    if pages == 0 || start < FIRST_PAGE {
        return Err(MemoryError::OutOfRange);
    }
    Ok((start, end))
}
