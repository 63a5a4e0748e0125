//! The disk.
//!
//! A controller is brought up in steps that take time: it is disabled, given its admin queues and enabled; it tells what it and its namespace
//! are; and it is given queues for reads and writes. Each command has a page of its own, for the list of the pages that it moves. Whatever
//! the controller says that can't be so is an error that has the service restart it ([`block::service`]).

use crate::queue::{ENTRIES, Entry, QueueError, QueuePair};
use crate::wire::{self, Capabilities};
use alloc::vec::Vec;
use block::service::{Command, Direction, Disk, DiskFailed, Done, Limits, Outcome, Restart, Segments};
use driver_protocol::block::{Abilities, Description, PAGE_BYTES, SECTOR_BYTES, SERIAL_BYTES};
use driver_runtime::{Dma, DmaMemory, NoMemory, Registers};
use log::warn;

/// How many queue pairs are used, beside that for administration.
const QUEUES: u16 = 2;
/// How many commands are in flight: each queue keeps one entry free.
const IN_FLIGHT: u16 = QUEUES * (ENTRIES - 1);
/// Where the list of pages is in a command's page, and where a range to discard.
const LIST: usize = 0;
const RANGE: usize = 2048;
const SLOT_BYTES: usize = PAGE_BYTES as usize;
/// Pages that are made together.
const SLOTS_TOGETHER: usize = 32;
/// The size of what identifies something, in bytes.
const IDENTITY_BYTES: usize = 4096;
/// Between two looks at a controller that is being brought up, in ns.
const LOOK_NS: u64 = 200_000;
/// How long an admin command may take, in ns.
const ADMIN_NS: u64 = 5_000_000_000;
/// Blocks of one command at most, for those that move no bytes.
const MAX_BLOCKS: u64 = 1 << 16;
/// Status codes that say that there is no such command, or no such field.
const NO_SUCH_COMMAND: [u16; 2] = [1, 2];

/// How far the controller is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Disabling,
    Enabling,
    IdentifyController,
    IdentifyNamespace,
    SetQueueCount,
    CreateCompletions(u16),
    CreateSubmissions(u16),
    Running,
}

/// An NVMe disk: the first namespace of a controller.
pub struct NvmeDisk<R, D: Dma> {
    registers: R,
    dma: D,
    /// How many interrupts there are.
    vectors: u16,
    capabilities: Capabilities,
    admin: Option<QueuePair<D::Memory>>,
    queues: Vec<QueuePair<D::Memory>>,
    slots: Vec<D::Memory>,
    identity: Option<D::Memory>,
    step: Step,
    /// How many looks the present step gets.
    looks_left: u64,
    description: Description,
    limits: Limits,
    /// What clients were told does not change.
    known: Option<Description>,
    turn: usize,
}

/// Why the controller has to be restarted.
enum Trouble {
    Queue(QueueError),
    NoMemory,
    TakesTooLong,
    Refuses,
    Unusable,
    Gone,
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<driver_runtime::DeviceError> for Trouble {
    fn from(error: driver_runtime::DeviceError) -> Self {
        Self::Queue(error.into())
    }
}

impl From<NoMemory> for Trouble {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

fn failed(trouble: Trouble) -> DiskFailed {
    match trouble {
        Trouble::Queue(error) => warn!("a queue: {error:?}"),
        Trouble::NoMemory => warn!("there is no memory for the controller"),
        Trouble::TakesTooLong => warn!("the controller takes too long"),
        Trouble::Refuses => warn!("the controller refuses to be set up"),
        Trouble::Unusable => warn!("the controller, or its namespace, is not one that can be used"),
        Trouble::Gone => warn!("the controller does not answer, or can't go on"),
    }
    DiskFailed
}

impl<R: Registers, D: Dma> NvmeDisk<R, D> {
    /// Takes a controller with `vectors` interrupts. It must be [restarted](Disk::restart) before anything else.
    pub fn new(registers: R, dma: D, vectors: u16) -> Self {
        Self {
            registers,
            dma,
            vectors,
            capabilities: Capabilities::decode(0, 0),
            admin: None,
            queues: Vec::new(),
            slots: Vec::new(),
            identity: None,
            step: Step::Disabling,
            looks_left: 0,
            description: Description::default(),
            limits: Limits { in_flight: IN_FLIGHT, ..Limits::default() },
            known: None,
            turn: 0,
        }
    }

    /// Makes queues and pages, once.
    fn make_room(&mut self) -> Result<(), Trouble> {
        if self.admin.is_none() {
            self.queues.clear();
            self.slots.clear();
            for _ in 0..QUEUES {
                self.queues.push(QueuePair::new(&self.dma, IN_FLIGHT)?);
            }
            for first in (0..usize::from(IN_FLIGHT)).step_by(SLOTS_TOGETHER) {
                let count = SLOTS_TOGETHER.min(usize::from(IN_FLIGHT) - first);
                self.slots.push(self.dma.allocate(count * SLOT_BYTES)?);
            }
            self.identity = Some(self.dma.allocate(IDENTITY_BYTES)?);
            self.admin = Some(QueuePair::new(&self.dma, 1)?);
        }
        for queue in self.queues.iter_mut().chain(&mut self.admin) {
            queue.clear()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Trouble> {
        let (low, high) = (wire::CAPABILITIES.read(&self.registers)?, wire::CAPABILITIES.nth(1).read(&self.registers)?);
        self.capabilities = Capabilities::decode(low, high);
        if low == wire::NO_DEVICE && high == wire::NO_DEVICE {
            return Err(Trouble::Gone);
        }
        if !self.capabilities.has_small_pages || self.capabilities.queue_entries < ENTRIES.into() {
            return Err(Trouble::Unusable);
        }
        wire::CONFIGURATION.write(&self.registers, wire::CONFIGURATION_DISABLED)?;
        self.enter(Step::Disabling);
        Ok(())
    }

    fn enter(&mut self, step: Step) {
        let patience_ns = match step {
            Step::Disabling | Step::Enabling => (self.capabilities.patience_ms + 500) * 1_000_000,
            Step::IdentifyController
            | Step::IdentifyNamespace
            | Step::SetQueueCount
            | Step::CreateCompletions(_)
            | Step::CreateSubmissions(_)
            | Step::Running => ADMIN_NS,
        };
        self.looks_left = patience_ns / LOOK_NS;
        self.step = step;
    }

    /// Goes on with bringing the controller up, if it has done what it was told before.
    fn go_on(&mut self) -> Result<(), Trouble> {
        let status = wire::STATUS.read(&self.registers)?;
        if status == wire::NO_DEVICE || (status & wire::STATUS_FATAL != 0 && self.step != Step::Disabling) {
            return Err(Trouble::Gone);
        }
        let is_ready = status & wire::STATUS_READY != 0;
        match self.step {
            Step::Disabling if !is_ready => self.enable(),
            Step::Enabling if is_ready => self.identify(Step::IdentifyController, 0, wire::OF_CONTROLLER),
            Step::Disabling | Step::Enabling => self.wait(),
            Step::IdentifyController
            | Step::IdentifyNamespace
            | Step::SetQueueCount
            | Step::CreateCompletions(_)
            | Step::CreateSubmissions(_) => match self.admin_result()? {
                Some(_) => self.next_admin(),
                None => self.wait(),
            },
            Step::Running => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<(), Trouble> {
        self.looks_left = self.looks_left.checked_sub(1).ok_or(Trouble::TakesTooLong)?;
        Ok(())
    }

    fn enable(&mut self) -> Result<(), Trouble> {
        self.make_room()?;
        let admin = self.admin.as_ref().ok_or(Trouble::NoMemory)?;
        let registers = [wire::ADMIN_SUBMISSIONS, wire::ADMIN_COMPLETIONS];
        for (register, address) in registers.into_iter().zip(admin.device_addresses()?) {
            register.write(&self.registers, address as u32)?;
            register.nth(1).write(&self.registers, (address >> u32::BITS) as u32)?;
        }
        let last = u32::from(ENTRIES) - 1;
        wire::ADMIN_SIZES.write(&self.registers, last | last << 16)?;
        wire::CONFIGURATION.write(&self.registers, wire::CONFIGURATION_ENABLED)?;
        self.enter(Step::Enabling);
        Ok(())
    }

    fn identify(&mut self, step: Step, namespace: u32, about: u32) -> Result<(), Trouble> {
        let identity = self.identity.as_ref().ok_or(Trouble::NoMemory)?;
        let pages = [identity.device_address(0)?, 0];
        self.administer(step, &Entry { opcode: wire::IDENTIFY, namespace, pages, words: [about, 0, 0] })
    }

    fn administer(&mut self, step: Step, entry: &Entry) -> Result<(), Trouble> {
        let doorbell = self.doorbell(0, 0);
        let admin = self.admin.as_mut().ok_or(Trouble::NoMemory)?;
        admin.add(0, entry)?;
        admin.tell(&self.registers, doorbell)?;
        self.enter(step);
        Ok(())
    }

    /// The doorbell of a pair's submissions (0) or completions (1); pair 0 is that for administration.
    fn doorbell(&self, pair: u16, which: usize) -> usize {
        wire::DOORBELLS + (2 * usize::from(pair) + which) * self.capabilities.doorbell_bytes
    }

    fn admin_result(&mut self) -> Result<Option<u32>, Trouble> {
        let doorbell = self.doorbell(0, 1);
        let admin = self.admin.as_mut().ok_or(Trouble::NoMemory)?;
        let Some(completion) = admin.take()? else { return Ok(None) };
        admin.free(&self.registers, doorbell)?;
        if completion.status == 0 { Ok(Some(completion.result)) } else { Err(Trouble::Refuses) }
    }

    /// The present admin command is done: the next.
    fn next_admin(&mut self) -> Result<(), Trouble> {
        match self.step {
            Step::IdentifyController => {
                self.note_controller()?;
                self.identify(Step::IdentifyNamespace, wire::NAMESPACE, wire::OF_NAMESPACE)
            }
            Step::IdentifyNamespace => {
                self.note_namespace()?;
                let last = u32::from(QUEUES) - 1;
                let words = [wire::QUEUE_COUNT, last | last << 16, 0];
                self.administer(Step::SetQueueCount, &Entry { opcode: wire::SET_FEATURES, words, ..Entry::default() })
            }
            Step::SetQueueCount => self.create_completions(1),
            Step::CreateCompletions(pair) => self.create_submissions(pair),
            Step::CreateSubmissions(QUEUES) => {
                self.step = Step::Running;
                Ok(())
            }
            Step::CreateSubmissions(pair) => self.create_completions(pair + 1),
            Step::Disabling | Step::Enabling | Step::Running => Ok(()),
        }
    }

    fn addresses_of(&self, pair: u16) -> Result<[u64; 2], Trouble> {
        let queue = self.queues.get(usize::from(pair) - 1).ok_or(Trouble::NoMemory)?;
        Ok(queue.device_addresses()?)
    }

    fn create_completions(&mut self, pair: u16) -> Result<(), Trouble> {
        let [_, completions] = self.addresses_of(pair)?;
        let interrupts = match (pair - 1).checked_rem(self.vectors) {
            Some(vector) => wire::INTERRUPTS | u32::from(vector) << 16,
            None => 0,
        };
        let size_and_number = (u32::from(ENTRIES) - 1) << 16 | u32::from(pair);
        let words = [size_and_number, wire::CONTIGUOUS | interrupts, 0];
        let entry = Entry { opcode: wire::CREATE_COMPLETIONS, namespace: 0, pages: [completions, 0], words };
        self.administer(Step::CreateCompletions(pair), &entry)
    }

    fn create_submissions(&mut self, pair: u16) -> Result<(), Trouble> {
        let [submissions, _] = self.addresses_of(pair)?;
        let size_and_number = (u32::from(ENTRIES) - 1) << 16 | u32::from(pair);
        let words = [size_and_number, wire::CONTIGUOUS | u32::from(pair) << 16, 0];
        let entry = Entry { opcode: wire::CREATE_SUBMISSIONS, namespace: 0, pages: [submissions, 0], words };
        self.administer(Step::CreateSubmissions(pair), &entry)
    }

    /// What the controller says it is (NVM Express 1.4, figure 247).
    fn note_controller(&mut self) -> Result<(), Trouble> {
        let identity = self.identity.as_ref().ok_or(Trouble::NoMemory)?;
        let mut serial = [0; SERIAL_BYTES];
        identity.read(4, serial.get_mut(..20).unwrap_or_default())?;
        let padding = serial.iter().rposition(|byte| *byte != b' ' && *byte != 0).map_or(0, |last| last + 1);
        serial.get_mut(padding..).unwrap_or_default().fill(0);
        let [_, longest, _, _] = identity.load32(76)?.to_le_bytes();
        let optional = identity.load16(520)?;
        let [_, cache] = identity.load16(524)?.to_le_bytes();
        let mut abilities = Abilities::empty();
        abilities.set(Abilities::FLUSH, cache & 1 != 0);
        abilities.set(Abilities::DISCARD, optional & 1 << 2 != 0);
        abilities.set(Abilities::WRITE_ZEROES, optional & 1 << 3 != 0);
        self.description = Description { sectors: 0, block_bytes: SECTOR_BYTES, abilities, serial };
        // A power of two in pages, of which one more may be touched; none: no limit of its own.
        let pages = if (1..16).contains(&longest) { 1 << longest } else { u64::MAX };
        let segments = pages.min(driver_protocol::block::MAX_PAGES);
        self.limits = Limits { in_flight: IN_FLIGHT, segments, segment_bytes: PAGE_BYTES, ..Limits::default() };
        Ok(())
    }

    /// What the namespace is (NVM Express 1.4, figure 245).
    fn note_namespace(&mut self) -> Result<(), Trouble> {
        let identity = self.identity.as_ref().ok_or(Trouble::NoMemory)?;
        let blocks = identity.load64(0)?;
        let [_, _, format, _] = identity.load32(24)?.to_le_bytes();
        let [_, _, shift, _] = identity.load32(128 + 4 * usize::from(format & 0xf))?.to_le_bytes();
        let block_bytes = 1_u64.checked_shl(shift.into()).unwrap_or(0);
        if !(SECTOR_BYTES..=PAGE_BYTES).contains(&block_bytes) || blocks == 0 {
            return Err(Trouble::Unusable);
        }
        let sectors = blocks.checked_mul(block_bytes / SECTOR_BYTES).ok_or(Trouble::Unusable)?;
        self.description = Description { sectors, block_bytes, ..self.description };
        let longest = MAX_BLOCKS * (block_bytes / SECTOR_BYTES);
        (self.limits.discard_sectors, self.limits.zeroes_sectors) = (longest, longest);
        self.limits.durable_writes = true;
        match self.known {
            Some(known) if known != self.description => Err(Trouble::Unusable),
            Some(_) | None => {
                self.known = Some(self.description);
                Ok(())
            }
        }
    }

    fn begin_command(&mut self, tag: u16, command: &Command, data: Segments<'_>) -> Result<(), Trouble> {
        let block = self.description.block_sectors();
        let (first, count) = (command.range.first / block, command.range.count / block);
        let [low, high] = [first as u32, (first >> u32::BITS) as u32];
        let last = (count as u32).wrapping_sub(1) & 0xffff;
        let mut entry = Entry { namespace: wire::NAMESPACE, ..Entry::default() };
        match command.direction {
            Direction::Read => (entry.opcode, entry.words) = (wire::READ, [low, high, last]),
            Direction::Write { durable } => {
                let force = if durable { wire::FORCE_UNIT_ACCESS } else { 0 };
                (entry.opcode, entry.words) = (wire::WRITE, [low, high, last | force]);
            }
            Direction::Flush => entry.opcode = wire::FLUSH,
            Direction::WriteZeroes => (entry.opcode, entry.words) = (wire::WRITE_ZEROES, [low, high, last]),
            Direction::Discard => {
                let (slot, at) = self.slot(tag)?;
                slot.store64(at + RANGE, count << 32)?;
                slot.store64(at + RANGE + 8, first)?;
                entry.pages = [slot.device_address(at + RANGE)?, 0];
                (entry.opcode, entry.words) = (wire::DATASET_MANAGEMENT, [0, wire::DEALLOCATE, 0]);
            }
        }
        if matches!(command.direction, Direction::Read | Direction::Write { .. }) {
            entry.pages = self.list(tag, data)?;
        }
        let queue = self.queues.get_mut(usize::from(tag % QUEUES)).ok_or(Trouble::NoMemory)?;
        Ok(queue.add(tag, &entry)?)
    }

    /// The pages of a transfer, as a command names them: the first; and the second, or where the list of the others is.
    fn list(&self, tag: u16, mut data: Segments<'_>) -> Result<[u64; 2], Trouble> {
        let first = data.next().ok_or(Trouble::Unusable)?.address;
        let Some(second) = data.next() else { return Ok([first, 0]) };
        let Some(third) = data.next() else { return Ok([first, second.address]) };
        let (slot, at) = self.slot(tag)?;
        let rest = [second, third].into_iter().chain(data);
        for (segment, offset) in rest.zip((LIST..RANGE).step_by(8)) {
            slot.store64(at + offset, segment.address)?;
        }
        Ok([first, slot.device_address(at + LIST)?])
    }

    fn slot(&self, tag: u16) -> Result<(&D::Memory, usize), Trouble> {
        let index = usize::from(tag);
        let slot = self.slots.get(index / SLOTS_TOGETHER).ok_or(Trouble::NoMemory)?;
        Ok((slot, index % SLOTS_TOGETHER * SLOT_BYTES))
    }

    fn next_done(&mut self) -> Result<Option<Done>, Trouble> {
        for _ in 0..self.queues.len() {
            let pair = self.turn as u16 + 1;
            let doorbell = self.doorbell(pair, 1);
            let Some(queue) = self.queues.get_mut(self.turn) else { return Err(Trouble::NoMemory) };
            if let Some(completion) = queue.take()? {
                let outcome = match completion.status {
                    0 => Outcome::Done,
                    status if NO_SUCH_COMMAND.contains(&status) => Outcome::Unsupported,
                    _ => Outcome::Failed,
                };
                return Ok(Some(Done { tag: completion.id, outcome }));
            }
            // All that are there were taken: the controller hears of it once.
            queue.free(&self.registers, doorbell)?;
            self.turn = (self.turn + 1) % self.queues.len();
        }
        Ok(None)
    }

    fn tell(&mut self) -> Result<(), Trouble> {
        for pair in 1..=QUEUES {
            let doorbell = self.doorbell(pair, 0);
            if let Some(queue) = self.queues.get_mut(usize::from(pair) - 1) {
                queue.tell(&self.registers, doorbell)?;
            }
        }
        Ok(())
    }
}

impl<R: Registers, D: Dma> Disk for NvmeDisk<R, D> {
    fn description(&self) -> Description {
        self.description
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, tag: u16, command: &Command, segments: Segments<'_>) -> Result<(), DiskFailed> {
        self.begin_command(tag, command, segments).map_err(failed)
    }

    fn notify(&mut self) -> Result<(), DiskFailed> {
        self.tell().map_err(failed)
    }

    fn complete(&mut self) -> Result<Option<Done>, DiskFailed> {
        self.next_done().map_err(failed)
    }

    fn restart(&mut self) -> Result<Restart, DiskFailed> {
        self.begin().map_err(failed)?;
        self.restart_step()
    }

    fn restart_step(&mut self) -> Result<Restart, DiskFailed> {
        self.go_on().map_err(failed)?;
        Ok(if self.step == Step::Running { Restart::Done } else { Restart::AgainIn(LOOK_NS) })
    }
}

#[cfg(test)]
mod tests;
