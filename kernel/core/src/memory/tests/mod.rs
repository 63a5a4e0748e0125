//! Tests of the memory system as a whole. The parts that stand alone have their tests beside them.

mod behaviour;
mod machine;
mod managed;
mod model;
mod random;

use std::vec::Vec;

pub(super) use self::machine::MockMachine;
use super::{FaultError, FaultKind, FrameTable, Inherit, MapSource, MemorySystem, Replace, Sharing, Space, SpaceOp};
use crate::machine::{Frame, PAGE_SIZE};
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
        Self { m, memory }
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
        for _ in 0..3 {
            if let Some(frame) = self.m.translate(root, addr / PAGE_SIZE, kind) {
                return Ok((frame, (addr % PAGE_SIZE) as usize));
            }
            self.memory.fault(&mut self.m, space, addr, kind)?;
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
