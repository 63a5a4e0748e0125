//! Cutting a memory off: with its last pages go the private copies that spaces have made of them, so that whoever touches
//! such a page again finds that it is beyond the end.
//!
//! Taking pages out of an overlay can need nodes, where a clone of the space shares the path. All of them are counted,
//! reserved and paid for, by the account of the memory, before anything is changed.

use alloc::vec::Vec;

use super::MemorySystem;
use super::error::{Exhausted, MemoryError};
use super::object::{Content, Memory};
use super::overlay::Prepaid;
use super::region::Sharing;
use super::space::Space;
use crate::account::Account;
use crate::machine::Machine;
use crate::pool::Id;

/// A range of pages.
type Pages = (u64, u64);

/// Private pages that will go.
struct Cut {
    space: Id<Space>,
    pages: Pages,
    prepaid: Prepaid,
}

impl MemorySystem {
    /// Takes the pages of a range, up to the end of the memory, out of it and out of whatever maps it.
    pub(super) fn cut_off(&mut self, m: &mut impl Machine, id: Id<Memory>, range: Pages) -> Result<(), MemoryError> {
        let mut cuts = Vec::new();
        let planned = self.plan_cuts(id, range, &mut cuts).map_err(MemoryError::from);
        // This fails only before it changes anything.
        let removed = planned.and_then(|()| self.remove_pages(m, id, range));
        for Cut { space, pages: (start, end), mut prepaid } in cuts {
            let (mut stores, _, spaces) = self.parts();
            if removed.is_ok() {
                spaces[space].private.remove(&mut stores, &mut prepaid, start, end);
            }
            prepaid.refund(&mut stores);
        }
        removed
    }

    /// Finds the private copies of a range of pages, and reserves and pays for all that taking them out and
    /// [`MemorySystem::remove_pages`] will need. What is in `cuts` on an error is to be refunded.
    fn plan_cuts(&mut self, id: Id<Memory>, range: Pages, cuts: &mut Vec<Cut>) -> Result<(), Exhausted> {
        let payer = self.memories[id].account;
        self.plan_own_cuts(payer, id, range, cuts)?;
        let mut at = id;
        while let Some(window) = self.next_window(id, at) {
            at = window;
            let Some(part) = self.part_in_window(window, range) else { continue };
            self.plan_own_cuts(payer, window, part, cuts)?;
        }
        let mut nodes: usize = cuts.iter().map(|cut| cut.prepaid.nodes()).sum();
        if let Content::Pages { overlay, base, .. } = &self.memories[id].content {
            nodes += overlay.removal_nodes(&self.nodes, base + range.0, base + range.1);
        }
        self.nodes.reserve(nodes)
    }

    /// The same for the regions that map this very memory.
    fn plan_own_cuts(
        &mut self,
        payer: Id<Account>,
        id: Id<Memory>,
        (start, end): Pages,
        cuts: &mut Vec<Cut>,
    ) -> Result<(), Exhausted> {
        let mut cursor = self.memories[id].mappings;
        while let Some(place) = cursor {
            let (mut stores, _, spaces) = self.parts();
            let space = &spaces[place.space];
            cursor = space.regions.link(place.slot).next;
            let region = space.regions.region(place.slot);
            let pages = region.shown(start, end);
            if region.sharing != Sharing::Private || space.private.next(stores.nodes, pages.0, pages.1).is_none() {
                continue;
            }
            cuts.try_reserve(1)?;
            let mut prepaid = Prepaid::new(payer);
            let copies = space.private.removal_nodes(stores.nodes, pages.0, pages.1);
            prepaid.add(&mut stores, copies)?;
            cuts.push(Cut { space: place.space, pages, prepaid });
        }
        Ok(())
    }
}
