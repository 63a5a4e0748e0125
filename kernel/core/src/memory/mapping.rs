//! Which regions show a memory, and breaking what they show.
//!
//! Every region over a memory is in that memory's list of mappings, linked through the slots of the region trees: joining
//! and leaving are O(1) and need no memory. A region holds a reference on its memory for as long as it is in the list.
//!
//! This file is also the only one that adds regions to a space and takes them out: it keeps lists, references and the
//! merging of neighbours right.

use super::MemorySystem;
use super::object::Memory;
use super::region::{Region, RegionPlace};
use super::space::Space;
use super::tables::{self, Change};
use crate::machine::Machine;
use crate::pool::Id;

impl MemorySystem {
    /// Changes the entries that show pages `start` to before `end` of a memory, through its own mappings and those of
    /// its windows.
    pub(super) fn change_mappings(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        (start, end): (u64, u64),
        change: Change,
    ) {
        self.change_own_mappings(m, id, (start, end), change);
        let mut at = id;
        while let Some(window) = self.next_window(id, at) {
            at = window;
            if let Some(part) = self.part_in_window(window, (start, end)) {
                self.change_own_mappings(m, window, part, change);
            }
        }
    }

    /// The pages of a window that show pages `start` to before `end` of the memory it was cut from; `None` if there are none.
    pub(super) fn part_in_window(&self, window: Id<Memory>, (start, end): (u64, u64)) -> Option<(u64, u64)> {
        let slice = self.slice(window)?;
        let pages = self.memories[window].pages();
        let first = start.saturating_sub(slice.offset).min(pages);
        let last = end.saturating_sub(slice.offset).min(pages);
        (first < last).then_some((first, last))
    }

    /// [`MemorySystem::change_mappings`] without the windows.
    pub(super) fn change_own_mappings(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        (start, end): (u64, u64),
        change: Change,
    ) {
        let mut cursor = self.memories[id].mappings;
        while let Some(place) = cursor {
            let space = &self.spaces[place.space];
            cursor = space.regions.link(place.slot).next;
            let shown = space.regions.region(place.slot).shown(start, end);
            if shown.0 < shown.1 {
                let (root, account) = (space.root, space.account);
                tables::change(m, self.table_store(account), root, shown, change);
            }
        }
    }

    /// Adds a region to a space, where nothing is, as one with its neighbours if it continues them.
    pub(super) fn add_region(&mut self, space: Id<Space>, region: Region) {
        let slot = self.add_region_unmerged(space, region);
        let slot = self.merge_with_previous(space, slot);
        if let Some(next) = self.spaces[space].regions.next(region.end) {
            self.merge_with_previous(space, next);
        }
        debug_assert!(self.spaces[space].regions.region(slot).start <= region.start);
    }

    /// Adds a region to a space, where nothing is.
    pub(super) fn add_region_unmerged(&mut self, space: Id<Space>, region: Region) -> u32 {
        let slot = self.spaces[space].regions.insert(region);
        self.attach(space, slot);
        slot
    }

    /// Takes the region in a slot out of its space. Whoever calls this keeps the memory alive until the page tables
    /// have been changed.
    pub(super) fn remove_region(&mut self, space: Id<Space>, slot: u32) -> Region {
        self.detach(space, slot);
        self.spaces[space].regions.remove(slot)
    }

    /// Cuts the regions of a space so that none crosses the start or the end of the range.
    pub(super) fn carve(&mut self, space: Id<Space>, start: u64, end: u64) {
        for at in [start, end] {
            let Some(slot) = self.spaces[space].regions.find(at) else { continue };
            let region = *self.spaces[space].regions.region(slot);
            if region.start < at {
                self.spaces[space].regions.replace(slot, Region { end: at, ..region });
                self.add_region_unmerged(space, region.tail(at));
            }
        }
    }

    /// Makes one region of this and the one before it, if they continue each other. Returns the slot that has the pages.
    pub(super) fn merge_with_previous(&mut self, space: Id<Space>, slot: u32) -> u32 {
        let regions = &self.spaces[space].regions;
        let region = *regions.region(slot);
        let Some(before) = regions.previous(region.start) else { return slot };
        let previous = *regions.region(before);
        if !previous.continues_in(&region) {
            return slot;
        }
        self.remove_region(space, slot);
        self.spaces[space].regions.replace(before, Region { end: region.end, ..previous });
        before
    }

    /// Puts a region at the head of its memory's list.
    pub(super) fn attach(&mut self, space: Id<Space>, slot: u32) {
        let Some(id) = self.spaces[space].regions.region(slot).backing.memory() else { return };
        self.retain_memory(id);
        let place = RegionPlace { space, slot };
        let next = self.memories[id].mappings.replace(place);
        let link = self.spaces[space].regions.link_mut(slot);
        link.previous = None;
        link.next = next;
        if let Some(next) = next {
            self.spaces[next.space].regions.link_mut(next.slot).previous = Some(place);
        }
    }

    /// Takes a region out of its memory's list and drops its reference.
    pub(super) fn detach(&mut self, space: Id<Space>, slot: u32) {
        let regions = &self.spaces[space].regions;
        let Some(id) = regions.region(slot).backing.memory() else { return };
        let link = regions.link(slot);
        match link.previous {
            Some(previous) => self.spaces[previous.space].regions.link_mut(previous.slot).next = link.next,
            None => self.memories[id].mappings = link.next,
        }
        if let Some(next) = link.next {
            self.spaces[next.space].regions.link_mut(next.slot).previous = link.previous;
        }
        self.release_memory(id);
    }
}
