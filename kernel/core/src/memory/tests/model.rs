//! The reference: memories are vectors of pages, spaces are maps from page number to what is there, and everything is
//! copied when it is copied.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::super::{
    FaultError, FaultKind, Inherit, MapSource, Memory, MemoryError, Place, Replace, Sharing, Side, Space, SpaceOp, Stop,
};
use crate::machine::PAGE_SIZE;
use crate::pool::Id;
use quire_abi::space::{Protection, USER_END, USER_START};

const PAGE: usize = PAGE_SIZE as usize;

pub(super) type Bytes = Box<[u8; PAGE]>;

pub(super) fn zeros() -> Bytes {
    Box::new([0; PAGE])
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Anonymous,
    Contiguous,
    Physical,
}

#[derive(Clone)]
pub(super) enum ModelMemory {
    Pages { size: u64, pages: Vec<Bytes>, kind: Kind },
    Window { size: u64, parent: Id<Memory>, offset: u64, revoked: bool },
}

#[derive(Clone)]
pub(super) struct ModelPage {
    pub(super) backing: Option<(Id<Memory>, u64)>,
    pub(super) sharing: Sharing,
    pub(super) access: Protection,
    pub(super) max_access: Protection,
    pub(super) inherit: Inherit,
    pub(super) copy: Option<Bytes>,
}

pub(super) type ModelSpace = BTreeMap<u64, ModelPage>;

#[derive(Default)]
pub(super) struct World {
    pub(super) memories: BTreeMap<Id<Memory>, ModelMemory>,
    pub(super) spaces: BTreeMap<Id<Space>, ModelSpace>,
}

impl World {
    pub(super) fn size(&self, id: Id<Memory>) -> u64 {
        match &self.memories[&id] {
            ModelMemory::Pages { size, .. } | ModelMemory::Window { size, .. } => *size,
        }
    }

    /// The memory that really has a page, and its number there.
    pub(super) fn origin(&self, id: Id<Memory>, page: u64) -> Result<(Id<Memory>, u64), FaultError> {
        match &self.memories[&id] {
            ModelMemory::Pages { .. } => Ok((id, page)),
            ModelMemory::Window { revoked: true, .. } => Err(FaultError::Revoked),
            ModelMemory::Window { parent, offset, .. } => self.origin(*parent, offset + page),
        }
    }

    pub(super) fn kind(&self, id: Id<Memory>) -> Option<Kind> {
        let (origin, _) = self.origin(id, 0).ok()?;
        match &self.memories[&origin] {
            ModelMemory::Pages { kind, .. } => Some(*kind),
            ModelMemory::Window { .. } => None,
        }
    }

    fn locate(&self, id: Id<Memory>, page: u64) -> Result<(Id<Memory>, u64), FaultError> {
        let (origin, at) = self.origin(id, page)?;
        let inside = page < self.size(id).div_ceil(PAGE_SIZE) && at < self.size(origin).div_ceil(PAGE_SIZE);
        if inside { Ok((origin, at)) } else { Err(FaultError::BeyondEnd) }
    }

    fn memory_page(&self, id: Id<Memory>, page: u64) -> Result<&Bytes, FaultError> {
        let (origin, at) = self.locate(id, page)?;
        match &self.memories[&origin] {
            ModelMemory::Pages { pages, .. } => Ok(&pages[at as usize]),
            ModelMemory::Window { .. } => unreachable!(),
        }
    }

    fn memory_page_mut(&mut self, id: Id<Memory>, page: u64) -> Result<&mut Bytes, FaultError> {
        let (origin, at) = self.locate(id, page)?;
        match self.memories.get_mut(&origin) {
            Some(ModelMemory::Pages { pages, .. }) => Ok(&mut pages[at as usize]),
            Some(ModelMemory::Window { .. }) | None => unreachable!(),
        }
    }

    /// The bytes that a space shows at a page.
    pub(super) fn page(&self, space: Id<Space>, page: u64, kind: FaultKind) -> Result<Bytes, FaultError> {
        let entry = self.spaces[&space].get(&page).ok_or(FaultError::NotMapped)?;
        let allowed = match kind {
            FaultKind::Read => !entry.access.is_empty(),
            FaultKind::Write => entry.access.contains(Protection::WRITE),
            FaultKind::Execute => entry.access.contains(Protection::EXECUTE),
        };
        if !allowed {
            return Err(FaultError::AccessDenied);
        }
        match (&entry.copy, entry.backing) {
            (Some(bytes), _) => Ok(bytes.clone()),
            (None, Some((id, page))) => self.memory_page(id, page).cloned(),
            (None, None) => Ok(zeros()),
        }
    }

    /// Stores bytes, which don't cross a page boundary.
    pub(super) fn store(&mut self, space: Id<Space>, addr: u64, bytes: &[u8]) -> Result<(), FaultError> {
        let page = addr / PAGE_SIZE;
        let mut whole = self.page(space, page, FaultKind::Write)?;
        let offset = (addr % PAGE_SIZE) as usize;
        whole[offset..offset + bytes.len()].copy_from_slice(bytes);
        let entry = self.spaces.get_mut(&space).unwrap().get_mut(&page).unwrap();
        match (entry.sharing, entry.backing) {
            (Sharing::Private, _) => entry.copy = Some(whole),
            (Sharing::Shared, Some((id, page))) => *self.memory_page_mut(id, page)? = whole,
            (Sharing::Shared, None) => unreachable!(),
        }
        Ok(())
    }

    /// The bytes from a place to the end of its page or memory.
    fn reach(&self, place: Place, kind: FaultKind) -> Result<Vec<u8>, FaultError> {
        match place {
            Place::Space(_, addr) if addr >= USER_END => Err(FaultError::NotMapped),
            Place::Space(id, addr) => {
                Ok(self.page(id, addr / PAGE_SIZE, kind)?[(addr % PAGE_SIZE) as usize..].to_vec())
            }
            Place::Memory(id, offset) => {
                let left = self.size(id).saturating_sub(offset);
                if left == 0 {
                    return Err(FaultError::BeyondEnd);
                }
                let from = (offset % PAGE_SIZE) as usize;
                let to = PAGE.min(from.saturating_add(left as usize));
                Ok(self.memory_page(id, offset / PAGE_SIZE)?[from..to].to_vec())
            }
        }
    }

    fn put(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Space(id, addr) => self.store(id, addr, bytes).unwrap(),
            Place::Memory(id, offset) => {
                let from = (offset % PAGE_SIZE) as usize;
                self.memory_page_mut(id, offset / PAGE_SIZE).unwrap()[from..from + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// What a transfer does; returns the bytes moved and why it stopped.
    pub(super) fn transfer(&mut self, to: Place, from: Place, len: u64) -> (u64, Option<Stop>) {
        let mut moved = 0;
        while moved < len {
            let (to, from) = (advanced(to, moved), advanced(from, moved));
            let stop = |side, error: FaultError| (moved, Some(Stop { side, error: error.into() }));
            let bytes = match self.reach(from, FaultKind::Read) {
                Ok(bytes) => bytes,
                Err(error) => return stop(Side::From, error),
            };
            let room = match self.reach(to, FaultKind::Write) {
                Ok(room) => room.len(),
                Err(error) => return stop(Side::To, error),
            };
            let part = room.min(bytes.len()).min((len - moved) as usize);
            self.put(to, &bytes[..part]);
            moved += part as u64;
        }
        (moved, None)
    }

    pub(super) fn snapshot(&self, id: Id<Memory>) -> Result<ModelMemory, MemoryError> {
        let (origin, offset) = self.origin(id, 0)?;
        let size = self.size(id);
        match &self.memories[&origin] {
            ModelMemory::Pages { pages, kind: Kind::Anonymous | Kind::Physical, .. } => {
                let mut copy: Vec<_> = pages.iter().skip(offset as usize).cloned().collect();
                copy.resize(size.div_ceil(PAGE_SIZE) as usize, zeros());
                Ok(ModelMemory::Pages { size, pages: copy, kind: Kind::Anonymous })
            }
            ModelMemory::Pages { kind: Kind::Contiguous, .. } | ModelMemory::Window { .. } => {
                Err(MemoryError::BadState)
            }
        }
    }

    pub(super) fn resize(&mut self, id: Id<Memory>, new: u64) -> Result<(), MemoryError> {
        let Some(ModelMemory::Pages { size, pages, kind: Kind::Anonymous }) = self.memories.get_mut(&id) else {
            return Err(MemoryError::BadState);
        };
        let cut = new.div_ceil(PAGE_SIZE)..pages.len() as u64;
        clear(pages, new.min(*size), new.min(*size).next_multiple_of(PAGE_SIZE));
        pages.resize(new.div_ceil(PAGE_SIZE) as usize, zeros());
        *size = new;
        self.forget_copies(id, &cut);
        Ok(())
    }

    /// Private copies of pages that a memory lost go with them.
    fn forget_copies(&mut self, id: Id<Memory>, cut: &core::ops::Range<u64>) {
        let mut spaces = core::mem::take(&mut self.spaces);
        for page in spaces.values_mut().flat_map(BTreeMap::values_mut) {
            let origin = page.backing.and_then(|(memory, at)| self.origin(memory, at).ok());
            if origin.is_some_and(|(memory, at)| memory == id && cut.contains(&at)) {
                page.copy = None;
            }
        }
        self.spaces = spaces;
    }

    pub(super) fn discard(&mut self, id: Id<Memory>, offset: u64, len: u64) -> Result<(), MemoryError> {
        if offset + len > self.size(id) {
            return Err(MemoryError::OutOfRange);
        }
        let Some(ModelMemory::Pages { size, pages, kind: Kind::Anonymous }) = self.memories.get_mut(&id) else {
            return Err(MemoryError::BadState);
        };
        // What follows the end in the last page goes with a discard that reaches the end and takes the page whole.
        let end = offset + len;
        let last_start = size.saturating_sub(1) / PAGE_SIZE * PAGE_SIZE;
        let whole = end == *size && offset <= last_start;
        clear(pages, offset, if whole { end.next_multiple_of(PAGE_SIZE) } else { end });
        Ok(())
    }

    pub(super) fn revoke(&mut self, window: Id<Memory>) {
        let below: Vec<_> = self.memories.keys().copied().filter(|id| self.is_cut_from(*id, window)).collect();
        for id in below {
            if let Some(ModelMemory::Window { revoked, .. }) = self.memories.get_mut(&id) {
                *revoked = true;
            }
        }
    }

    fn is_cut_from(&self, id: Id<Memory>, top: Id<Memory>) -> bool {
        match &self.memories[&id] {
            _ if id == top => true,
            ModelMemory::Window { parent, .. } => self.is_cut_from(*parent, top),
            ModelMemory::Pages { .. } => false,
        }
    }

    /// The space after an operation.
    pub(super) fn apply(&self, id: Id<Space>, space: &mut ModelSpace, op: &SpaceOp) -> Result<(), MemoryError> {
        match *op {
            SpaceOp::Map { addr, len, source, sharing, access, max_access, inherit, replace } => {
                let (start, end) = (addr / PAGE_SIZE, (addr + len) / PAGE_SIZE);
                let backing = match source {
                    MapSource::Anonymous if sharing == Sharing::Shared => return Err(MemoryError::BadArgument),
                    MapSource::Anonymous => None,
                    MapSource::Memory { id, offset } => {
                        self.origin(id, 0)?;
                        Some((id, offset / PAGE_SIZE))
                    }
                };
                if replace == Replace::Nothing && space.range(start..end).next().is_some() {
                    return Err(MemoryError::Overlap);
                }
                for page in start..end {
                    let backing = backing.map(|(id, first)| (id, first + page - start));
                    let page_of = ModelPage { backing, sharing, access, max_access, inherit, copy: None };
                    space.insert(page, page_of);
                }
            }
            SpaceOp::Unmap { addr, len } => {
                space.retain(|page, _| *page < addr / PAGE_SIZE || *page >= (addr + len) / PAGE_SIZE);
            }
            SpaceOp::Protect { addr, len, access } => {
                let range = addr / PAGE_SIZE..(addr + len) / PAGE_SIZE;
                check_mapped(space, range.clone())?;
                if space.range(range.clone()).any(|(_, page)| !page.max_access.contains(access)) {
                    return Err(FaultError::AccessDenied.into());
                }
                space.range_mut(range).for_each(|(_, page)| page.access = access);
            }
            SpaceOp::Discard { addr, len } => {
                let range = addr / PAGE_SIZE..(addr + len) / PAGE_SIZE;
                space.range_mut(range).for_each(|(_, page)| page.copy = None);
            }
            SpaceOp::Move { from, len, to } => {
                let (from, to, pages) = (from / PAGE_SIZE, to / PAGE_SIZE, len / PAGE_SIZE);
                if from < to + pages && to < from + pages {
                    return Err(MemoryError::Overlap);
                }
                check_mapped(space, from..from + pages)?;
                if space.range(to..to + pages).next().is_some() {
                    return Err(MemoryError::Overlap);
                }
                for page in 0..pages {
                    let moved = space.remove(&(from + page)).unwrap();
                    space.insert(to + page, moved);
                }
            }
            SpaceOp::Clone { source } => {
                if source == id || !space.is_empty() {
                    return Err(MemoryError::BadState);
                }
                let inherited = self.spaces[&source].iter().filter(|(_, page)| page.inherit == Inherit::Clone);
                space.extend(inherited.map(|(number, page)| (*number, page.clone())));
            }
        }
        Ok(())
    }

    /// The highest free range below `high`, by looking at every gap.
    pub(super) fn highest_gap(&self, space: Id<Space>, high: u64, len: u64) -> Option<u64> {
        let mut end = high;
        for page in self.spaces[&space].keys().rev() {
            let (start, after) = (page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
            if after <= end && end - after >= len {
                return Some(end - len);
            }
            end = end.min(start);
        }
        (end >= USER_START && end - USER_START >= len).then(|| end - len)
    }
}

fn check_mapped(space: &ModelSpace, range: core::ops::Range<u64>) -> Result<(), MemoryError> {
    let holes = space.range(range.clone()).count() as u64 != range.end - range.start;
    if holes { Err(FaultError::NotMapped.into()) } else { Ok(()) }
}

fn clear(pages: &mut [Bytes], from: u64, to: u64) {
    for at in from..to {
        if let Some(page) = pages.get_mut((at / PAGE_SIZE) as usize) {
            page[(at % PAGE_SIZE) as usize] = 0;
        }
    }
}

fn advanced(place: Place, by: u64) -> Place {
    match place {
        Place::Space(id, addr) => Place::Space(id, addr + by),
        Place::Memory(id, offset) => Place::Memory(id, offset + by),
    }
}
