//! A pair of queues (NVM Express 1.4, 4): commands go into one ring, and what became of them comes out of the other. Each lies in one page.

use alloc::vec;
use alloc::vec::Vec;
use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::{DeviceError, Dma, DmaMemory, NoMemory, Register, Registers};

/// Entries of each ring: as many commands as lie together in a page.
pub const ENTRIES: u16 = 64;
/// Bytes of a command, and of a completion.
pub const COMMAND_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;
const COMPLETIONS: usize = PAGE_BYTES;
/// In the last word of a completion: it toggles each time the ring begins anew.
const PHASE: u32 = 1 << 16;

/// A command, without its identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub opcode: u8,
    /// On which namespace.
    pub namespace: u32,
    /// Where the bytes are: the first page, and the second or a list of the others.
    pub pages: [u64; 2],
    /// The words that depend on the command, from the tenth on.
    pub words: [u32; 3],
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which: what [`QueuePair::add`] was told.
    pub id: u16,
    /// 0, or what went wrong: code in the low 8 bits, kind above.
    pub status: u16,
    /// What it returns.
    pub result: u32,
}

/// Why a queue can't be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// Registers or memory can't be reached.
    Unreachable,
    /// There are more commands than there should be.
    Full,
    /// The controller says that it is done with what it does not have.
    Unknown,
}

impl From<DeviceError> for QueueError {
    fn from(_: DeviceError) -> Self {
        Self::Unreachable
    }
}

/// The pair.
#[derive(Debug)]
pub struct QueuePair<M> {
    memory: M,
    /// Where the next command goes, and up to where the controller was told.
    tail: u16,
    told: u16,
    /// Where the next completion will be, and what its phase will be.
    head: u16,
    phase: bool,
    /// Up to where the controller was told that completions were taken.
    freed: u16,
    /// The identifiers of commands that it has.
    has: Vec<bool>,
    count: u16,
}

impl<M: DmaMemory> QueuePair<M> {
    /// Makes an empty pair, for identifiers below `ids`.
    pub fn new(dma: &impl Dma<Memory = M>, ids: u16) -> Result<Self, NoMemory> {
        let memory = dma.allocate(2 * PAGE_BYTES)?;
        let has = vec![false; usize::from(ids)];
        Ok(Self { memory, tail: 0, told: 0, head: 0, phase: true, freed: 0, has, count: 0 })
    }

    /// Forgets all commands. The controller must not use it.
    pub fn clear(&mut self) -> Result<(), QueueError> {
        for offset in (0..2 * PAGE_BYTES).step_by(8) {
            self.memory.store64(offset, 0)?;
        }
        (self.tail, self.told, self.head, self.phase, self.freed, self.count) = (0, 0, 0, true, 0, 0);
        self.has.fill(false);
        Ok(())
    }

    /// Where the controller finds commands and completions.
    pub fn device_addresses(&self) -> Result<[u64; 2], QueueError> {
        Ok([self.memory.device_address(0)?, self.memory.device_address(COMPLETIONS)?])
    }

    /// Adds a command under an identifier that no other has.
    #[inline]
    pub fn add(&mut self, id: u16, entry: &Entry) -> Result<(), QueueError> {
        let has = self.has.get_mut(usize::from(id)).ok_or(QueueError::Unknown)?;
        // One entry stays free: a ring whose tail meets its head is empty.
        if *has || self.count >= ENTRIES - 1 {
            return Err(QueueError::Full);
        }
        let at = usize::from(self.tail) * COMMAND_BYTES;
        let first = u64::from(entry.opcode) | u64::from(id) << 16 | u64::from(entry.namespace) << 32;
        self.memory.store64(at, first)?;
        self.memory.store64(at + 24, entry.pages[0])?;
        self.memory.store64(at + 32, entry.pages[1])?;
        self.memory.store64(at + 40, u64::from(entry.words[0]) | u64::from(entry.words[1]) << 32)?;
        self.memory.store64(at + 48, entry.words[2].into())?;
        *has = true;
        self.count += 1;
        self.tail = (self.tail + 1) % ENTRIES;
        Ok(())
    }

    /// Tells the controller of what was added.
    pub fn tell(&mut self, registers: &impl Registers, doorbell: usize) -> Result<(), QueueError> {
        if self.told != self.tail {
            Register::<u32>::at(doorbell).write(registers, self.tail.into())?;
            self.told = self.tail;
        }
        Ok(())
    }

    /// Takes the next completion, if there is one.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Completion>, QueueError> {
        let at = COMPLETIONS + usize::from(self.head) * COMPLETION_BYTES;
        let last = self.memory.load32(at + 12)?;
        if (last & PHASE != 0) != self.phase {
            return Ok(None);
        }
        let (id, status) = (last as u16, (last >> 17) as u16 & 0x7ff);
        let result = self.memory.load32(at)?;
        match self.has.get_mut(usize::from(id)) {
            Some(has) if *has => *has = false,
            Some(_) | None => return Err(QueueError::Unknown),
        }
        self.count = self.count.saturating_sub(1);
        self.head = (self.head + 1) % ENTRIES;
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Ok(Some(Completion { id, status, result }))
    }

    /// Tells the controller which completions were taken.
    pub fn free(&mut self, registers: &impl Registers, doorbell: usize) -> Result<(), QueueError> {
        if self.freed != self.head {
            Register::<u32>::at(doorbell).write(registers, self.head.into())?;
            self.freed = self.head;
        }
        Ok(())
    }
}
