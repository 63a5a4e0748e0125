//! Random lives of spaces and memories, compared byte by byte with a reference that shares nothing.
//!
//! After every step everything that must always hold is checked, processors' caches included; at the end everything is
//! dropped, and the accounts and frames must be what they were at the start. Accounts get limits and RAM runs out on the
//! way: an operation that fails for want of memory must have changed nothing.

use std::vec::Vec;

use super::super::*;

use super::model::{Kind, ModelMemory, ModelSpace, World, zeros};
use super::{IMAGE, IMAGE_FRAMES, RAM_FRAMES, Rig};
use crate::account::{Account, Usage};
use crate::machine::{Caching, PAGE_SIZE};
use quire_abi::space::{Protection, USER_END};

/// Steps of one life. A debug build is an order of magnitude slower.
const STEPS: usize = if cfg!(debug_assertions) { 200 } else { 4000 };

/// First pages of the places where things are mapped: the lowest, around a border between two leaf tables, around one
/// between two directories, around one between two tables above, and the highest.
const PLACES: [u64; 6] = [1, 505, 1024, (1 << 18) - 6, (1 << 27) - 6, USER_END / PAGE_SIZE - 16];

/// Pages of one place.
const PLACE_PAGES: u64 = 16;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }
}

/// The real thing and the reference, side by side.
struct Life {
    rig: Rig,
    world: World,
    random: Random,
    memories: Vec<Id<Memory>>,
    spaces: Vec<Id<Space>>,
    accounts: Vec<Id<Account>>,
    /// What the accounts used at the start.
    used: Vec<Usage>,
    limited: bool,
}

impl Life {
    fn new(seed: u64, ram: u32) -> Self {
        let mut rig = Rig::with_ram(ram);
        let root = rig.memory.root_account();
        let child = rig.memory.accounts.create(Some(root), Usage::UNLIMITED).unwrap();
        let grandchild = rig.memory.accounts.create(Some(child), Usage::UNLIMITED).unwrap();
        let accounts = std::vec![root, child, grandchild];
        let used = accounts.iter().map(|id| rig.memory.accounts.get(*id).unwrap().used()).collect();
        let mut life = Self {
            rig,
            world: World::default(),
            random: Random(seed),
            memories: Vec::new(),
            spaces: Vec::new(),
            accounts,
            used,
            limited: false,
        };
        life.add_image();
        life
    }

    fn add_image(&mut self) {
        let root = self.rig.memory.root_account();
        let pages = u64::from(IMAGE_FRAMES);
        let image = self.rig.memory.create_physical(root, IMAGE, pages, Caching::WriteBack).unwrap();
        let content = (0..IMAGE_FRAMES).map(|number| {
            let mut page = zeros();
            page.fill(0x40 + number as u8);
            page
        });
        let pages = content.collect();
        let size = u64::from(IMAGE_FRAMES) * PAGE_SIZE;
        self.world.memories.insert(image, ModelMemory::Pages { size, pages, kind: Kind::Physical });
        self.memories.push(image);
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0 => self.create_memory(),
            1 => self.snapshot(),
            2 => self.window(),
            3 if self.random.one_in(3) => self.revoke(),
            4 => self.resize(),
            5 => self.discard(),
            6 => self.release_memory(),
            7 => drop(self.create_space()),
            8..=9 => self.fork(),
            10 => self.release_space(),
            11 => self.limit(),
            12 => self.find_range(),
            13..=15 if self.rig.swapper.is_some() => self.reclaim(),
            13..=19 => self.commit(),
            20..=26 => self.transfer(),
            _ => self.access(),
        }
        self.rig.check(&self.spaces);
    }

    /// Whether the operation worked; if it did not, for want of memory only when memory is short.
    fn worked<T>(&self, result: Result<T, MemoryError>, expected: Result<(), MemoryError>) -> Option<T> {
        match (result, expected) {
            (Ok(value), Ok(())) => Some(value),
            (Err(error), expected) if is_exhaustion(error) => {
                let scarce = self.limited || self.rig.memory.frames().free() < 64;
                assert!(scarce, "{error:?} though there is memory, expected {expected:?}");
                None
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, expected);
                None
            }
            (Ok(_), Err(expected)) => panic!("worked, but should have been {expected:?}"),
            (Err(error), Ok(())) => panic!("{error:?}, but should have worked"),
        }
    }

    fn account(&mut self) -> Id<Account> {
        self.random.pick(&self.accounts).unwrap()
    }

    fn create_memory(&mut self) {
        let account = self.account();
        let size = self.random.below(12 * PAGE_SIZE) + 1;
        let (kind, model) = match self.random.one_in(6) {
            true => (MemoryKind::Contiguous, Kind::Contiguous),
            false => (MemoryKind::Anonymous, Kind::Anonymous),
        };
        let made = self.rig.memory.create_memory(&mut self.rig.m, account, size, kind);
        // A run may be missing though there are frames.
        if kind == MemoryKind::Contiguous && made == Err(MemoryError::Fault(FaultError::NoMemory)) {
            return;
        }
        let Some(id) = self.worked(made, Ok(())) else { return };
        let pages = (0..size.div_ceil(PAGE_SIZE)).map(|_| zeros()).collect();
        self.world.memories.insert(id, ModelMemory::Pages { size, pages, kind: model });
        self.memories.push(id);
    }

    fn snapshot(&mut self) {
        let (Some(id), account) = (self.random.pick(&self.memories), self.account()) else { return };
        let model = self.world.snapshot(id);
        let made = self.rig.memory.snapshot(&mut self.rig.m, id, account);
        let expected = model.as_ref().map(|_| ()).map_err(|error| *error);
        let Some(copy) = self.worked(made, expected) else { return };
        self.world.memories.insert(copy, model.unwrap());
        self.memories.push(copy);
    }

    fn window(&mut self) {
        let (Some(parent), account) = (self.random.pick(&self.memories), self.account()) else { return };
        let whole = self.world.size(parent);
        let offset = self.random.below(whole.div_ceil(PAGE_SIZE)) * PAGE_SIZE;
        let size = self.random.below(whole - offset) + 1;
        let expected = self.world.origin(parent, 0).map(|_| ()).map_err(MemoryError::from);
        let made = self.rig.memory.window(parent, account, offset, size.min(whole - offset));
        let Some(id) = self.worked(made, expected) else { return };
        let model =
            ModelMemory::Window { size: size.min(whole - offset), parent, offset: offset / PAGE_SIZE, revoked: false };
        self.world.memories.insert(id, model);
        self.memories.push(id);
    }

    fn revoke(&mut self) {
        let Some(id) = self.random.pick(&self.memories) else { return };
        let result = self.rig.memory.revoke(&mut self.rig.m, id);
        match self.world.memories[&id] {
            ModelMemory::Window { .. } => {
                result.unwrap();
                self.world.revoke(id);
            }
            ModelMemory::Pages { .. } => assert_eq!(result, Err(MemoryError::BadState)),
        }
    }

    fn resize(&mut self) {
        let Some(id) = self.random.pick(&self.memories) else { return };
        let size = self.random.below(14 * PAGE_SIZE);
        let result = self.rig.memory.resize(&mut self.rig.m, id, size);
        let short = result.is_err_and(is_exhaustion);
        let expected = if short { Ok(()) } else { self.world.resize(id, size) };
        self.worked(result, expected);
    }

    fn discard(&mut self) {
        let Some(id) = self.random.pick(&self.memories) else { return };
        let whole = self.world.size(id);
        let offset = self.random.below(whole + 1);
        let len = match self.random.one_in(3) {
            true => whole - offset,
            false => self.random.below(whole - offset + 1),
        };
        // The parts of pages at its ends are copied one after the other, so that a discard for which there is not enough
        // memory may have been done in part. That is seen only by those who share the memory; here, we avoid it.
        if self.limited || self.rig.memory.frames().free() < 64 {
            return;
        }
        let result = self.rig.memory.discard(&mut self.rig.m, id, offset, len);
        let expected = self.world.discard(id, offset, len);
        self.worked(result, expected);
    }

    fn release_memory(&mut self) {
        if self.memories.len() > 6 || self.random.one_in(4) {
            let at = self.random.below(self.memories.len() as u64) as usize;
            if at > 0 {
                self.rig.memory.release_memory(self.memories.swap_remove(at));
            }
        }
    }

    fn create_space(&mut self) -> Option<Id<Space>> {
        if self.spaces.len() >= 6 {
            return None;
        }
        let account = self.account();
        let made = self.rig.memory.create_space(&mut self.rig.m, account).map_err(MemoryError::from);
        let id = self.worked(made, Ok(()))?;
        self.world.spaces.insert(id, ModelSpace::new());
        self.spaces.push(id);
        Some(id)
    }

    fn fork(&mut self) {
        let source = self.random.pick(&self.spaces);
        let (Some(source), Some(space)) = (source, self.create_space()) else { return };
        let mut ops = std::vec![SpaceOp::Clone { source }];
        while self.random.one_in(2) {
            ops.extend(self.random_op(space));
        }
        self.commit_ops(space, &ops);
    }

    fn release_space(&mut self) {
        if self.spaces.len() > 1 {
            let at = self.random.below(self.spaces.len() as u64) as usize;
            let id = self.spaces.swap_remove(at);
            self.rig.memory.release_space(&mut self.rig.m, id);
            self.world.spaces.remove(&id);
        }
    }

    fn limit(&mut self) {
        let (accounts, id) = (&mut self.rig.memory.accounts, self.accounts[1 + self.random.below(2) as usize]);
        let used = accounts.get(id).unwrap().used();
        self.limited = self.random.one_in(3);
        for id in &self.accounts {
            accounts.set_limit(*id, Usage::UNLIMITED);
        }
        if self.limited {
            let frames = used.frames + self.random.below(6);
            let kernel_bytes = used.kernel_bytes + self.random.below(4000);
            accounts.set_limit(id, Usage { frames, kernel_bytes });
        }
    }

    fn find_range(&mut self) {
        let Some(space) = self.random.pick(&self.spaces) else { return };
        let (hint, len) = self.range();
        let pages = hint / PAGE_SIZE..(hint + len) / PAGE_SIZE;
        let free = self.world.spaces[&space].range(pages).next().is_none();
        let expected = match free {
            true => Some(hint),
            false => self.world.highest_gap(space, hint, len),
        };
        let expected = expected.or_else(|| self.world.highest_gap(space, USER_END, len));
        assert_eq!(self.rig.memory.find_range(space, hint, len).ok(), expected);
    }

    /// Some address and length in a place.
    fn range(&mut self) -> (u64, u64) {
        let place = self.random.pick(&PLACES).unwrap();
        let first = self.random.below(PLACE_PAGES - 1);
        let pages = self.random.below(PLACE_PAGES - 1 - first) + 1;
        ((place + first) * PAGE_SIZE, pages * PAGE_SIZE)
    }

    fn protection(&mut self) -> Protection {
        let all = Protection::all().bits();
        match self.random.below(3) {
            0 => Protection::from_bits_truncate(self.random.next() as u32 & all),
            _ => Protection::READ | Protection::WRITE,
        }
    }

    fn random_op(&mut self, space: Id<Space>) -> Option<SpaceOp> {
        let (addr, len) = self.range();
        Some(match self.random.below(16) {
            0..=7 => self.random_map(addr, len)?,
            8..=9 if self.random.one_in(10) => SpaceOp::Unmap { addr: PAGE_SIZE, len: USER_END - 2 * PAGE_SIZE },
            8..=9 => SpaceOp::Unmap { addr, len },
            10..=11 => SpaceOp::Protect { addr, len, access: self.protection() },
            12 => SpaceOp::Discard { addr, len },
            13..=14 => {
                let mapped: Vec<_> = self.world.spaces[&space].keys().copied().collect();
                let from = self.random.pick(&mapped)? * PAGE_SIZE;
                let len = (self.random.below(3) + 1) * PAGE_SIZE;
                let (to, _) = self.range();
                (from + len <= USER_END && to + len <= USER_END).then_some(SpaceOp::Move { from, len, to })?
            }
            _ => SpaceOp::Clone { source: self.random.pick(&self.spaces)? },
        })
    }

    fn random_map(&mut self, addr: u64, len: u64) -> Option<SpaceOp> {
        let id = match self.random.one_in(2) {
            true => Some(self.random.pick(&self.memories)?),
            false => None,
        };
        let sharing = match id.is_some() && self.random.one_in(2) || self.random.one_in(20) {
            true => Sharing::Shared,
            false => Sharing::Private,
        };
        let source = match id {
            Some(id) => MapSource::Memory { id, offset: self.random.below(4) * PAGE_SIZE },
            None => MapSource::Anonymous,
        };
        let mut access = self.protection();
        let mut max_access = Protection::all();
        // Snapshots of an image rely on nobody writing it.
        if sharing == Sharing::Shared && id.and_then(|id| self.world.kind(id)) == Some(Kind::Physical) {
            access.remove(Protection::WRITE);
            max_access.remove(Protection::WRITE);
        } else if self.random.one_in(8) {
            max_access = access;
        }
        let inherit = if self.random.one_in(6) { Inherit::Omit } else { Inherit::Clone };
        let replace = if self.random.one_in(2) { Replace::Existing } else { Replace::Nothing };
        Some(SpaceOp::Map { addr, len, source, sharing, access, max_access, inherit, replace })
    }

    fn commit(&mut self) {
        let Some(space) = self.random.pick(&self.spaces) else { return };
        let count = 1 + self.random.below(2) * self.random.below(4);
        let mut ops: Vec<_> = (0..count).filter_map(|_| self.random_op(space)).collect();
        if self.random.one_in(12) {
            // A space that becomes the clone of another in one go.
            let Some(source) = self.random.pick(&self.spaces) else { return };
            let pages = self.world.spaces[&space].keys();
            let unmap = pages.map(|page| SpaceOp::Unmap { addr: page * PAGE_SIZE, len: PAGE_SIZE });
            let first: Vec<_> = unmap.chain([SpaceOp::Clone { source }]).collect();
            ops.splice(0..0, first);
        }
        self.commit_ops(space, &ops);
    }

    fn commit_ops(&mut self, space: Id<Space>, ops: &[SpaceOp]) {
        let mut model = self.world.spaces[&space].clone();
        let refused = ops.iter().enumerate().find_map(|(index, op)| {
            self.world.apply(space, &mut model, op).err().map(|error| CommitError { index, error })
        });
        let result = self.rig.memory.commit(&mut self.rig.m, space, ops);
        let short = result.err().filter(|refused| is_exhaustion(refused.error));
        if let (Err(at), Some(expected), None) = (result, refused, short) {
            assert_eq!(at, expected);
        }
        let expected = refused.map_or(Ok(()), |refused| Err(refused.error));
        if self.worked(result.map_err(|refused| refused.error), expected).is_some() {
            self.world.spaces.insert(space, model);
        }
        self.compare_regions(space);
    }

    /// Every page must be in a region that says what the reference says.
    fn compare_regions(&self, space: Id<Space>) {
        let model = &self.world.spaces[&space];
        let (mut addr, mut pages, mut copies) = (0, 0, 0);
        while let Some(region) = self.rig.memory.query(space, addr) {
            assert!(region.addr >= addr);
            addr = region.addr + region.len;
            for page in region.addr / PAGE_SIZE..addr / PAGE_SIZE {
                let expected = model.get(&page).expect("a region where nothing is mapped");
                let offset = page * PAGE_SIZE - region.addr;
                let backing = region.memory.map(|(id, start)| (id, (start + offset) / PAGE_SIZE));
                assert_eq!(backing, expected.backing);
                assert_eq!((region.sharing, region.inherit), (expected.sharing, expected.inherit));
                assert_eq!((region.access, region.max_access), (expected.access, expected.max_access));
                copies += u64::from(expected.copy.is_some());
                pages += 1;
            }
            assert!(region.private_pages <= region.len / PAGE_SIZE);
        }
        assert_eq!(pages, model.len(), "something that should be mapped is not");
        assert_eq!(self.rig.memory.private_pages(space), copies);
    }

    /// An address, mostly one that is mapped.
    fn address(&mut self, space: Id<Space>) -> u64 {
        let mapped: Vec<_> = self.world.spaces[&space].keys().copied().collect();
        let page = match self.random.pick(&mapped) {
            Some(page) if !self.random.one_in(10) => page,
            Some(_) | None => self.range().0 / PAGE_SIZE,
        };
        page * PAGE_SIZE + self.random.below(PAGE_SIZE)
    }

    fn access(&mut self) {
        let Some(space) = self.random.pick(&self.spaces) else { return };
        let addr = self.address(space);
        let kind = self
            .random
            .pick(&[FaultKind::Read, FaultKind::Read, FaultKind::Write, FaultKind::Write, FaultKind::Execute])
            .unwrap();
        let expected = self.world.page(space, addr / PAGE_SIZE, kind);
        let result = self.rig.touch(space, addr, kind).map_err(MemoryError::from);
        let found = expected.as_ref().map(|_| ()).map_err(|error| MemoryError::from(*error));
        let Some((frame, offset)) = self.worked(result, found) else { return };
        assert!(self.rig.m.bytes(frame)[..] == expected.unwrap()[..], "what is at {addr:#x} in {space:?} differs");
        if kind == FaultKind::Write {
            let value = self.random.next() as u8;
            self.rig.m.set_byte(frame, offset, value);
            self.world.store(space, addr, &[value]).unwrap();
        }
    }

    fn place(&mut self) -> Option<Place> {
        match self.random.one_in(2) {
            true => {
                let id = self.random.pick(&self.memories)?;
                let offset = self.random.below(self.world.size(id) + 10);
                Some(Place::Memory(id, offset))
            }
            false => {
                let space = self.random.pick(&self.spaces)?;
                Some(Place::Space(space, self.address(space)))
            }
        }
    }

    fn transfer(&mut self) {
        let (Some(to), Some(from)) = (self.place(), self.place()) else { return };
        if let Place::Memory(id, _) = to
            && self.world.kind(id) == Some(Kind::Physical)
        {
            return;
        }
        let len = self.random.below(3 * PAGE_SIZE);
        let Transfer { moved, stopped } = self.real_transfer(to, from, len);
        match stopped {
            Some(Stop { error, .. }) if is_exhaustion(error) => {
                self.worked::<()>(Err(error), Ok(()));
                let expected = self.world.transfer(to, from, moved);
                assert_eq!(expected, (moved, None));
            }
            Some(_) | None => assert_eq!(self.world.transfer(to, from, len), (moved, stopped)),
        }
    }

    /// A transfer that waits for pages that were swapped out.
    fn real_transfer(&mut self, to: Place, from: Place, len: u64) -> Transfer {
        let mut done = 0;
        loop {
            let advance = |place| match place {
                Place::Space(id, at) => Place::Space(id, at + done),
                Place::Memory(id, at) => Place::Memory(id, at + done),
            };
            let Transfer { moved, stopped } =
                self.rig.memory.transfer(&mut self.rig.m, advance(to), advance(from), len - done);
            done += moved;
            match stopped {
                Some(Stop { error: MemoryError::Fault(error @ FaultError::NotPresent(_)), side }) => {
                    if !self.rig.brings(error) {
                        let error = MemoryError::Fault(FaultError::NoMemory);
                        return Transfer { moved: done, stopped: Some(Stop { side, error }) };
                    }
                }
                Some(_) | None => return Transfer { moved: done, stopped },
            }
        }
    }

    /// Takes something back, and perhaps lets the swap memory's pager work.
    fn reclaim(&mut self) {
        let target = self.random.below(20);
        self.rig.memory.reclaim(&mut self.rig.m, target);
        if self.random.one_in(2) {
            self.rig.serve_swap();
        }
        // Somewhere in particular, whether it was used or not.
        if let Some(space) = self.random.pick(&self.spaces) {
            let page = self.address(space) / PAGE_SIZE;
            let _ = self.rig.memory.swap_out(&mut self.rig.m, space, page);
        }
    }

    /// Reads all that is mapped.
    fn compare_all(&mut self) {
        for space in self.spaces.clone() {
            let pages: Vec<_> = self.world.spaces[&space].keys().copied().collect();
            for page in pages {
                let expected = self.world.page(space, page, FaultKind::Read);
                let result = self.rig.touch(space, page * PAGE_SIZE, FaultKind::Read).map_err(MemoryError::from);
                let found = expected.as_ref().map(|_| ()).map_err(|error| MemoryError::from(*error));
                let Some((frame, _)) = self.worked(result, found) else { continue };
                assert!(self.rig.m.bytes(frame)[..] == expected.unwrap()[..], "page {page:#x} of {space:?} differs");
            }
        }
    }

    /// Drops everything.
    fn end(mut self) {
        for id in core::mem::take(&mut self.memories) {
            self.rig.memory.release_memory(id);
        }
        while let Some(space) = self.spaces.pop() {
            self.rig.memory.release_space(&mut self.rig.m, space);
            self.rig.check(&self.spaces);
        }
        self.end_swap();
        let memory = &self.rig.memory;
        assert_eq!(memory.nodes.len(), 0);
        assert!(memory.memories.is_empty() && memory.spaces.is_empty());
        assert_eq!(memory.frames().free() + 1, memory.frames().total(), "all but the frame of zeros is free");
        let used: Vec<_> = self.accounts.iter().map(|id| memory.accounts.get(*id).unwrap().used()).collect();
        assert_eq!(used, self.used);
    }
}

impl Life {
    /// Nobody holds a slot any more; what is cached of them goes, and then the swap memory itself.
    fn end_swap(&mut self) {
        let Some(swapper) = self.rig.swapper.take() else { return };
        let memory = &mut self.rig.memory;
        memory.end_swap();
        assert_eq!(memory.cached_pages(), 0);
        memory.release_memory(swapper.id);
    }
}

fn is_exhaustion(error: MemoryError) -> bool {
    matches!(error, MemoryError::Fault(FaultError::NoMemory | FaultError::AccountLimit))
}

fn live(seed: u64, ram: u32, swap: u64) {
    let mut life = Life::new(seed, ram);
    if swap != 0 {
        life.rig.add_swap(swap);
    }
    for step in 0..STEPS {
        life.step();
        if step % 100 == 0 {
            life.compare_all();
            life.rig.check(&life.spaces);
        }
    }
    life.compare_all();
    life.end();
}

#[test]
fn random_lives_with_enough_memory_agree_with_the_reference() {
    for seed in 0..8 {
        live(seed, RAM_FRAMES, 0);
    }
}

#[test]
fn random_lives_short_of_memory_agree_with_the_reference() {
    for seed in 100..108 {
        live(seed, 180, 0);
    }
}

#[test]
fn random_lives_with_swap_agree_with_the_reference() {
    for seed in 200..208 {
        live(seed, RAM_FRAMES, 400);
        live(seed, 180, 100);
        live(seed, 250, 7);
    }
}
