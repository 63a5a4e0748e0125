//! The hot changes of a space: fresh zeros where nothing is, and unmapping one region of zeros or an end of it.
//!
//! These functions do nothing that a commit would not do ([`super::commit`]); they do it without a plan, and without
//! looking for the same region twice. Each first checks everything that makes its case the simple one, and declines if that
//! does not hold, having changed nothing.
//!
//! A space keeps a few regions paid for that it no longer has, for the next ones: programs map and unmap in turn.

use quire_abi::space::Protection;

use super::MemorySystem;
use super::commit::{MAX_REGIONS, MapSource, SpaceOp, page_range};
use super::overlay::Prepaid;
use super::region::{Backing, Inherit, Region, Sharing};
use super::regions::RegionTree;
use super::space::Space;
use super::tables;
use crate::account::Resource;
use crate::machine::Machine;
use crate::pool::Id;

/// How many regions a space may have paid for and not have.
const MAX_SPARE_REGIONS: u32 = 4;

/// What unmapping leaves of the one region that it concerns.
enum Rest {
    Nothing,
    Part(Region),
}

impl MemorySystem {
    /// Carries an operation out if its case is a simple one.
    #[inline]
    pub(super) fn change_plainly(&mut self, m: &mut impl Machine, space: Id<Space>, op: &SpaceOp) -> bool {
        let done = match *op {
            SpaceOp::Map {
                addr,
                len,
                source: MapSource::Anonymous,
                sharing: Sharing::Private,
                access,
                max_access,
                inherit,
                ..
            } => self.map_plainly(space, (addr, len), (access, max_access), inherit),
            SpaceOp::Unmap { addr, len } => self.unmap_plainly(m, space, (addr, len)),
            SpaceOp::Map { .. }
            | SpaceOp::Protect { .. }
            | SpaceOp::Discard { .. }
            | SpaceOp::Move { .. }
            | SpaceOp::Clone { .. } => None,
        };
        done.is_some()
    }

    /// Zeros where nothing is: a region of their own, or more of a neighbour.
    fn map_plainly(
        &mut self,
        id: Id<Space>,
        (addr, len): (u64, u64),
        (access, max_access): (Protection, Protection),
        inherit: Inherit,
    ) -> Option<()> {
        let (start, end) = page_range(addr, len).ok()?;
        if !max_access.contains(access) {
            return None;
        }
        let new = Region { start, end, backing: Backing::Zero, sharing: Sharing::Private, inherit, access, max_access };
        let space = self.spaces.get_mut(id)?;
        let (before, after) = space.regions.around(start);
        let before = before.map(|slot| (slot, *space.regions.region(slot)));
        let after = after.map(|slot| (slot, *space.regions.region(slot)));
        if after.is_some_and(|(_, region)| region.start < end) {
            return None;
        }
        let before = before.filter(|(_, region)| region.continues_in(&new));
        let after = after.filter(|(_, region)| new.continues_in(region));
        match (before, after) {
            (Some(_), Some(_)) => return None,
            (Some((slot, region)), None) => space.regions.replace(slot, Region { end, ..region }),
            (None, Some((slot, region))) => space.regions.replace(slot, Region { start, ..region }),
            (None, None) => {
                if space.regions.len() >= MAX_REGIONS {
                    return None;
                }
                space.regions.reserve(1).ok()?;
                match space.spare_regions.checked_sub(1) {
                    Some(rest) => space.spare_regions = rest,
                    None => {
                        self.accounts.charge(space.account, Resource::KernelBytes, RegionTree::BYTES).ok()?;
                    }
                }
                space.regions.insert(new);
            }
        }
        Some(())
    }

    /// A region of zeros, or its beginning or end, and nothing else.
    fn unmap_plainly(&mut self, m: &mut impl Machine, id: Id<Space>, (addr, len): (u64, u64)) -> Option<()> {
        let (start, end) = page_range(addr, len).ok()?;
        let space = self.spaces.get_mut(id)?;
        let slot = space.regions.around(start).1?;
        let region = *space.regions.region(slot);
        if region.backing != Backing::Zero {
            return None;
        }
        let rest = match (region.start < start, end.cmp(&region.end)) {
            (false, core::cmp::Ordering::Equal) => Rest::Nothing,
            (true, core::cmp::Ordering::Equal) => Rest::Part(Region { end: start, ..region }),
            (false, core::cmp::Ordering::Less) if end > region.start => Rest::Part(region.tail(end)),
            (_, core::cmp::Ordering::Less | core::cmp::Ordering::Greater) => return None,
        };
        let has_pages = !space.private.is_vacant(&self.nodes, start, end);
        if has_pages && space.private.removal_nodes(&self.nodes, start, end) != 0 {
            return None;
        }
        let (account, root) = (space.account, space.root);
        match rest {
            Rest::Part(part) => space.regions.replace(slot, part),
            Rest::Nothing => {
                space.regions.remove(slot);
                if space.spare_regions < MAX_SPARE_REGIONS {
                    space.spare_regions += 1;
                } else {
                    self.accounts.credit(account, Resource::KernelBytes, RegionTree::BYTES);
                }
            }
        }
        if !tables::is_bare(m, root, (start, end)) {
            self.break_unmapped(m, id, (start, end));
        }
        if has_pages {
            let (mut stores, _, spaces) = self.parts();
            spaces[id].private.remove(&mut stores, &mut Prepaid::new(account), start, end);
        }
        Some(())
    }
}
