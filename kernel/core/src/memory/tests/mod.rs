//! Tests of the memory system as a whole. The parts that stand alone have their tests beside them.

mod behaviour;
mod machine;
mod managed;
mod model;
mod random;
mod swap;

use std::collections::BTreeMap;
use std::vec::Vec;

pub(super) use self::machine::MockMachine;
use super::{
    Absent, FaultError, FaultKind, FrameTable, Inherit, MapSource, Memory, MemoryError, MemoryKind, MemorySystem,
    PagerRequest, Presence, Replace, Sharing, Space, SpaceOp,
};
use crate::machine::{Frame, Machine, PAGE_SIZE};
use crate::pool::Id;
use quire_abi::space::Protection;

/// Frames of RAM in the mock; the frames behind it are a device and the boot archive.
const RAM_FRAMES: u32 = 1200;
/// First frame of what the loader left.
const IMAGE: Frame = Frame(RAM_FRAMES);
/// Its length.
const IMAGE_FRAMES: u32 = 24;

const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// A memory system on a mock machine.
struct Rig {
    m: MockMachine,
    memory: MemorySystem,
    swapper: Option<Swapper>,
}

/// The pager of a swap memory.
struct Swapper {
    id: Id<Memory>,
    store: BTreeMap<u64, [u8; PAGE_SIZE as usize]>,
}

impl Rig {
    fn new() -> Self {
        Self::with_ram(RAM_FRAMES)
    }

    /// A machine with less RAM than there could be.
    fn with_ram(available: u32) -> Self {
        let mut m = MockMachine::new(RAM_FRAMES + IMAGE_FRAMES);
        for number in 0..IMAGE_FRAMES {
            m.fill(Frame(IMAGE.0 + number), 0x40 + number as u8);
        }
        let mut frames = FrameTable::new(Frame(RAM_FRAMES)).unwrap();
        frames.add(Frame(0), available);
        let memory = MemorySystem::new(&mut m, frames).unwrap();
        Self { m, memory, swapper: None }
    }

    /// Gives the system a swap memory, whose pager this is.
    fn add_swap(&mut self, pages: u64) {
        let root = self.memory.root_account();
        let id = self.memory.create_managed(root, pages * PAGE_SIZE, Presence::Present).unwrap();
        self.memory.set_swap(id, root).unwrap();
        self.swapper = Some(Swapper { id, store: BTreeMap::new() });
    }

    /// Does all that the swap memory's pager is asked for. Tells whether that was anything.
    fn serve_swap(&mut self) -> bool {
        let mut served = false;
        let Some(Swapper { id, store }) = &mut self.swapper else { return false };
        let Self { m, memory, .. } = self;
        while let Some(request) = memory.take_request(m, *id) {
            served = true;
            match request {
                PagerRequest::Fill { start, end, .. } => {
                    for page in start..end {
                        let root = memory.root_account();
                        let source = memory.create_memory(m, root, PAGE_SIZE, MemoryKind::Anonymous);
                        let Ok(source) = source else {
                            memory.fail_pages(*id, page, end);
                            break;
                        };
                        let supplied = memory.page_to_write(m, source, 0).map_err(MemoryError::from).and_then(|view| {
                            m.write_frame(view.frame, 0, &store[&page]);
                            memory.supply(m, *id, (page, 1), Some((source, 0)))
                        });
                        if supplied.is_err() {
                            memory.fail_pages(*id, page, page + 1);
                        }
                        memory.release_memory(source);
                    }
                }
                PagerRequest::Writeback { start, end } => {
                    for page in start..end {
                        let mut bytes = [0; PAGE_SIZE as usize];
                        memory.read_memory(m, *id, page * PAGE_SIZE, &mut bytes).unwrap();
                        store.insert(page, bytes);
                    }
                    memory.written(*id, start, end);
                }
            }
        }
        served
    }

    /// Whether an error is a page that the swapper brings, and it brought it.
    fn brings(&mut self, error: FaultError) -> bool {
        let FaultError::NotPresent(Absent { memory, page }) = error else { return false };
        assert_eq!(Some(memory), self.swapper.as_ref().map(|swapper| swapper.id));
        self.memory.want(memory, page).is_ok()
            && self.serve_swap()
            && self.memory.cached(memory, page).frame().is_some()
    }

    fn space(&mut self) -> Id<Space> {
        let root = self.memory.root_account();
        self.memory.create_space(&mut self.m, root).unwrap()
    }

    fn commit(&mut self, space: Id<Space>, ops: &[SpaceOp]) {
        self.memory.commit(&mut self.m, space, ops).unwrap();
    }

    /// Does what a processor does for a program: translates, asks the kernel on a fault, repeats.
    fn touch(&mut self, space: Id<Space>, addr: u64, kind: FaultKind) -> Result<(Frame, usize), FaultError> {
        let root = self.memory.space_root(space);
        for _ in 0..5 {
            if let Some(frame) = self.m.translate(root, addr / PAGE_SIZE, kind) {
                return Ok((frame, (addr % PAGE_SIZE) as usize));
            }
            match self.memory.fault(&mut self.m, space, addr, kind) {
                Ok(()) => {}
                Err(error @ FaultError::NotPresent(_)) if self.swapper.is_some() => {
                    if !self.brings(error) {
                        return Err(FaultError::NoMemory);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        panic!("the fault at {addr:#x} was resolved three times and still is one");
    }

    fn load(&mut self, space: Id<Space>, addr: u64) -> Result<u8, FaultError> {
        let (frame, offset) = self.touch(space, addr, FaultKind::Read)?;
        Ok(self.m.byte(frame, offset))
    }

    fn store(&mut self, space: Id<Space>, addr: u64, value: u8) -> Result<(), FaultError> {
        let (frame, offset) = self.touch(space, addr, FaultKind::Write)?;
        self.m.set_byte(frame, offset, value);
        Ok(())
    }

    /// Everything that must hold, including that no processor has cached what it must not use.
    fn check(&self, spaces: &[Id<Space>]) {
        self.memory.check_invariants(&self.m);
        let roots: Vec<_> = spaces.iter().map(|space| (self.memory.space_root(*space), *space)).collect();
        self.m.check_caches(&roots, &self.memory);
    }
}

fn anonymous(addr: u64, len: u64) -> SpaceOp {
    SpaceOp::Map {
        addr,
        len,
        source: MapSource::Anonymous,
        sharing: Sharing::Private,
        access: READ_WRITE,
        max_access: Protection::all(),
        inherit: Inherit::Clone,
        replace: Replace::Nothing,
    }
}

fn of_memory(addr: u64, len: u64, id: Id<super::Memory>, sharing: Sharing) -> SpaceOp {
    SpaceOp::Map {
        addr,
        len,
        source: MapSource::Memory { id, offset: 0 },
        sharing,
        access: READ_WRITE,
        max_access: Protection::all(),
        inherit: Inherit::Clone,
        replace: Replace::Nothing,
    }
}
