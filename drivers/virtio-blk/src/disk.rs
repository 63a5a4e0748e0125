//! The disk.
//!
//! The life of a read: its header, its status and the table of its descriptors have a page that belongs to its tag, pinned from the
//! start; so beginning a request is some stores to that page, one descriptor and one index. The device is notified once for all that
//! came together, and only if it asked for it. It raises one interrupt, and no other before the driver has looked.
//!
//! Whatever the device says that can't be so is an error that has the service restart it ([`block::service`]).

use crate::wire;
use alloc::vec::Vec;
use block::service::{Command, Direction, Disk, DiskFailed, Done, Limits, Outcome, Restart, Segments};
use core::iter::once;
use driver_protocol::block::{Abilities, Description, PAGE_BYTES, SECTOR_BYTES, SERIAL_BYTES};
use driver_runtime::{Dma, DmaMemory, Registers};
use log::warn;
use virtio::device::NO_VECTOR;
use virtio::queue::{DESCRIPTOR_BYTES, MAX_SIZE, Table};
use virtio::{Device, Doorbell, Error, Features, Queue, Segment};

/// How many requests are in flight at most.
const MAX_IN_FLIGHT: u16 = 256;
/// How many queues are used at most: one thread feeds them all.
const MAX_QUEUES: u16 = 4;
/// How many descriptors a request has at most where it has no table of its own.
const DIRECT_DESCRIPTORS: u16 = 16;

/// A request's page: header, status, range or serial number, table.
const HEADER: usize = 0;
const STATUS: usize = 16;
const RANGE: usize = 32;
const TABLE: usize = 64;
const SLOT_BYTES: usize = PAGE_BYTES as usize;
const TABLE_ENTRIES: usize = (SLOT_BYTES - TABLE) / DESCRIPTOR_BYTES;
/// Pages that are made together.
const SLOTS_TOGETHER: usize = 32;
/// What the status is until the device has written it.
const NO_STATUS: u16 = 0xffff;

/// Between two looks at a device that is being reset, in ns, and how many looks it gets.
const RESET_LOOK_NS: u64 = 1_000_000;
const RESET_LOOKS: u32 = 2000;

/// A queue in use.
struct InUse<M> {
    queue: Queue<M>,
    doorbell: Doorbell,
}

/// How a device is used: what it offers and what the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    queues: u16,
    queue_size: u16,
    is_indirect: bool,
    limits: Limits,
}

/// A virtio disk.
pub struct VirtioDisk<R, D: Dma> {
    device: Device<R>,
    dma: D,
    /// How many interrupts there are, and how many queues make sense.
    vectors: u16,
    wanted_queues: u16,
    queues: Vec<InUse<D::Memory>>,
    slots: Vec<D::Memory>,
    /// Of the first start: it does not change.
    shape: Option<Shape>,
    description: Description,
    reset_looks: u32,
    /// The queue that is looked at next.
    turn: usize,
}

impl<R: Registers, D: Dma> VirtioDisk<R, D> {
    /// Takes a device that has `vectors` interrupts (0: none, it will be looked at from time to time), of which up to `wanted_queues`
    /// queues are used. It must be [restarted](Disk::restart) before anything else.
    pub fn new(device: Device<R>, dma: D, vectors: u16, wanted_queues: u16) -> Self {
        Self {
            device,
            dma,
            vectors,
            wanted_queues,
            queues: Vec::new(),
            slots: Vec::new(),
            shape: None,
            description: Description::default(),
            reset_looks: 0,
            turn: 0,
        }
    }

    /// Whether the device goes on; to be asked when an interrupt came for no visible reason.
    pub fn check(&self) -> Result<(), DiskFailed> {
        self.device.check().map_err(failed)
    }

    /// Asks the disk for its serial number, before any other request; the answer comes as [`identity`](Self::identity).
    pub fn ask_identity(&mut self) -> Result<(), DiskFailed> {
        self.begin_identity().map_err(failed)
    }

    fn begin_identity(&mut self) -> Result<(), Error> {
        let (slot, at) = slot(&self.slots, 0)?;
        slot.store64(at + HEADER, wire::GET_ID.into())?;
        slot.store16(at + STATUS, NO_STATUS)?;
        let address = |offset| slot.device_address(at + offset);
        let segments = [
            Segment::readable(address(HEADER)?, wire::HEADER_BYTES),
            Segment::writable(address(RANGE)?, wire::ID_BYTES),
            Segment::writable(address(STATUS)?, 1),
        ];
        let Some(InUse { queue, doorbell }) = self.queues.first_mut() else { return Err(Error::NoQueue) };
        let added = queue.add(0, segments.into_iter(), None)?;
        added.map_err(|_| Error::NoQueue)?;
        queue.publish()?;
        self.device.notify(*doorbell)
    }

    /// Whether the disk has said its serial number, or that it has none.
    pub fn identity(&mut self) -> Result<bool, DiskFailed> {
        let Some(Done { tag: _, outcome }) = self.complete()? else { return Ok(false) };
        if outcome == Outcome::Done {
            let (slot, at) = slot(&self.slots, 0).map_err(failed)?;
            let mut serial = [0; SERIAL_BYTES];
            let known = serial.get_mut(..wire::ID_BYTES as usize).unwrap_or_default();
            slot.read(at + RANGE, known).map_err(|error| failed(error.into()))?;
            self.description.serial = serial;
        }
        Ok(true)
    }

    /// Sets the device up, which was reset.
    fn bring_up(&mut self) -> Result<(), Error> {
        let wanted = Features::INDIRECT_DESCRIPTORS
            | Features::EVENT_INDEX
            | wire::HAS_SEGMENT_BYTES_MAX
            | wire::HAS_SEGMENTS_MAX
            | wire::READ_ONLY
            | wire::HAS_BLOCK_BYTES
            | wire::FLUSH
            | wire::MULTI_QUEUE
            | wire::DISCARD
            | wire::WRITE_ZEROES;
        let features = self.device.negotiate(Features::empty(), wanted)?;
        let (shape, description) = self.look(features)?;
        match self.shape {
            None => {
                self.make_room(&shape, features)?;
                (self.shape, self.description) = (Some(shape), description);
            }
            // What clients were told must stay so.
            Some(known) => {
                let description = Description { serial: self.description.serial, ..description };
                if known != shape || self.description != description {
                    return Err(Error::NotVirtio);
                }
            }
        }
        for (index, InUse { queue, doorbell }) in (0..).zip(&mut self.queues) {
            queue.clear(features.contains(Features::EVENT_INDEX))?;
            let vector = index_of(index, self.vectors);
            *doorbell = self.device.set_up_queue(index, queue, vector)?;
        }
        self.device.set_config_vector(index_of(0, self.vectors))?;
        self.device.start()
    }

    /// Makes queues and slots, once.
    fn make_room(&mut self, shape: &Shape, features: Features) -> Result<(), Error> {
        self.queues.clear();
        self.slots.clear();
        for _ in 0..shape.queues {
            let queue = Queue::new(&self.dma, shape.queue_size, features.contains(Features::EVENT_INDEX))?;
            self.queues.push(InUse { queue, doorbell: Doorbell::default() });
        }
        for first in (0..usize::from(shape.limits.in_flight)).step_by(SLOTS_TOGETHER) {
            let count = SLOTS_TOGETHER.min(usize::from(shape.limits.in_flight) - first);
            self.slots.push(self.dma.allocate(count * SLOT_BYTES)?);
        }
        Ok(())
    }

    /// Reads what the device is.
    fn look(&self, features: Features) -> Result<(Shape, Description), Error> {
        let if_offered = |feature, value, otherwise| if features.contains(feature) { value } else { otherwise };
        let config = self.device.config(|config| {
            let sectors =
                u64::from(wire::CAPACITY.read(config)?) | u64::from(wire::CAPACITY.nth(1).read(config)?) << u32::BITS;
            Ok((
                sectors,
                if_offered(wire::HAS_BLOCK_BYTES, wire::BLOCK_BYTES.read(config)?, SECTOR_BYTES as u32),
                if_offered(wire::HAS_SEGMENTS_MAX, wire::SEGMENTS_MAX.read(config)?, 1),
                if_offered(wire::HAS_SEGMENT_BYTES_MAX, wire::SEGMENT_BYTES_MAX.read(config)?, u32::MAX),
                if_offered(wire::MULTI_QUEUE, wire::QUEUES.read(config)?.into(), 1),
                if_offered(wire::DISCARD, wire::DISCARD_SECTORS_MAX.read(config)?, 0),
                if_offered(wire::WRITE_ZEROES, wire::ZEROES_SECTORS_MAX.read(config)?, 0),
            ))
        })?;
        let (sectors, block_bytes, segments, segment_bytes, queues, discard_sectors, zeroes_sectors) = config;
        let mut abilities = Abilities::empty();
        abilities.set(Abilities::READ_ONLY, features.contains(wire::READ_ONLY));
        abilities.set(Abilities::FLUSH, features.contains(wire::FLUSH));
        abilities.set(Abilities::DISCARD, discard_sectors > 0);
        abilities.set(Abilities::WRITE_ZEROES, zeroes_sectors > 0);
        let block_bytes = u64::from(block_bytes);
        let is_block = block_bytes.is_power_of_two() && (SECTOR_BYTES..=PAGE_BYTES).contains(&block_bytes);
        if !is_block || u64::from(segment_bytes) < PAGE_BYTES {
            return Err(Error::NotVirtio);
        }
        let mut shape = self.shape_of(features, queues as u16, segments)?;
        shape.limits.segment_bytes = segment_bytes.into();
        let whole = |sectors: u32| u64::from(sectors) - u64::from(sectors) % (block_bytes / SECTOR_BYTES);
        shape.limits.discard_sectors = whole(discard_sectors);
        shape.limits.zeroes_sectors = whole(zeroes_sectors);
        Ok((shape, Description { sectors, block_bytes, abilities, serial: [0; SERIAL_BYTES] }))
    }

    /// How many queues, requests and segments there are to be.
    fn shape_of(&self, features: Features, queues: u16, segments: u32) -> Result<Shape, Error> {
        let is_indirect = features.contains(Features::INDIRECT_DESCRIPTORS);
        let queues = queues.min(self.wanted_queues).min(MAX_QUEUES).min(self.device.queue_count()?).max(1);
        let mut queue_size = MAX_SIZE.min(power_of_two_up_to(MAX_IN_FLIGHT / queues));
        for index in 0..queues {
            queue_size = queue_size.min(self.device.max_queue_size(index)?);
        }
        let (each, entries) = if is_indirect {
            (1, TABLE_ENTRIES)
        } else {
            let each = DIRECT_DESCRIPTORS.min(queue_size);
            (each, usize::from(each))
        };
        // Header and status take one each.
        let room = entries.checked_sub(2).filter(|room| *room > 0).ok_or(Error::NoQueue)?;
        let limits = Limits {
            in_flight: queues * (queue_size / each),
            segments: u64::from(segments.max(1)).min(room as u64),
            segment_bytes: u64::MAX,
            discard_sectors: 0,
            zeroes_sectors: 0,
            durable_writes: false,
        };
        Ok(Shape { queues, queue_size, is_indirect, limits })
    }

    fn begin(&mut self, tag: u16, command: &Command, data: Segments<'_>) -> Result<(), Error> {
        let (slot, at) = slot(&self.slots, tag)?;
        let range = command.range;
        let (what, sector, has_range) = match command.direction {
            Direction::Read => (wire::IN, range.first, false),
            Direction::Write { durable: _ } => (wire::OUT, range.first, false),
            Direction::Flush => (wire::FLUSH_CACHE, 0, false),
            Direction::Discard => (wire::DISCARD_SECTORS, 0, true),
            Direction::WriteZeroes => (wire::ZERO_SECTORS, 0, true),
        };
        slot.store64(at + HEADER, what.into())?;
        slot.store64(at + HEADER + 8, sector)?;
        slot.store16(at + STATUS, NO_STATUS)?;
        if has_range {
            slot.store64(at + RANGE, range.first)?;
            // Not more than the device's own limits, which have 32 bits. No flags.
            slot.store64(at + RANGE + 8, range.count)?;
        }
        let page = slot.device_address(at)?;
        let is_writable = command.direction == Direction::Read;
        let header = Segment::readable(page + HEADER as u64, wire::HEADER_BYTES);
        let range = has_range.then(|| Segment::readable(page + RANGE as u64, wire::RANGE_BYTES));
        let data = data.map(|part| Segment { address: part.address, len_bytes: part.len_bytes, is_writable });
        let status = Segment::writable(page + STATUS as u64, 1);
        let segments = once(header).chain(range).chain(data).chain(once(status));
        let is_indirect = self.shape.is_some_and(|shape| shape.is_indirect);
        let table = is_indirect.then_some(Table { memory: slot, offset: at + TABLE, entries: TABLE_ENTRIES });
        let index = usize::from(tag) % self.queues.len().max(1);
        let InUse { queue, doorbell: _ } = self.queues.get_mut(index).ok_or(Error::NoQueue)?;
        queue.add(tag, segments, table)?.map_err(|_| Error::NoQueue)
    }

    fn next_done(&mut self) -> Result<Option<Done>, Error> {
        for _ in 0..self.queues.len() {
            let Some(InUse { queue, doorbell: _ }) = self.queues.get_mut(self.turn) else { return Err(Error::NoQueue) };
            // What was done before the interrupt was asked for raises none.
            let used = match queue.take()? {
                None if queue.arm_interrupt()? => queue.take()?,
                used => used,
            };
            if let Some(used) = used {
                return Ok(Some(Done { tag: used.cookie, outcome: self.outcome(used.cookie)? }));
            }
            self.turn = (self.turn + 1) % self.queues.len();
        }
        Ok(None)
    }

    fn outcome(&self, tag: u16) -> Result<Outcome, Error> {
        let (slot, at) = slot(&self.slots, tag)?;
        let [status, _] = slot.load16(at + STATUS)?.to_le_bytes();
        match status {
            wire::STATUS_OK => Ok(Outcome::Done),
            wire::STATUS_IO_ERROR => Ok(Outcome::Failed),
            wire::STATUS_UNSUPPORTED => Ok(Outcome::Unsupported),
            _ => Err(Error::UsedUnknown),
        }
    }

    fn tell(&mut self) -> Result<(), Error> {
        for InUse { queue, doorbell } in &mut self.queues {
            if queue.publish()? {
                self.device.notify(*doorbell)?;
            }
        }
        Ok(())
    }
}

/// The memory that a tag's page lies in, and where.
#[inline]
fn slot<M>(slots: &[M], tag: u16) -> Result<(&M, usize), Error> {
    let index = usize::from(tag);
    let slot = slots.get(index / SLOTS_TOGETHER).ok_or(Error::UsedUnknown)?;
    Ok((slot, index % SLOTS_TOGETHER * SLOT_BYTES))
}

/// Which of the interrupts a queue has.
fn index_of(queue: u16, vectors: u16) -> u16 {
    queue.checked_rem(vectors).unwrap_or(NO_VECTOR)
}

fn power_of_two_up_to(number: u16) -> u16 {
    1 << number.max(1).ilog2()
}

fn failed(error: Error) -> DiskFailed {
    warn!("{error}");
    DiskFailed
}

impl<R: Registers, D: Dma> Disk for VirtioDisk<R, D> {
    fn description(&self) -> Description {
        self.description
    }

    fn limits(&self) -> Limits {
        self.shape.map_or(Limits::default(), |shape| shape.limits)
    }

    fn submit(&mut self, tag: u16, command: &Command, segments: Segments<'_>) -> Result<(), DiskFailed> {
        self.begin(tag, command, segments).map_err(failed)
    }

    fn notify(&mut self) -> Result<(), DiskFailed> {
        self.tell().map_err(failed)
    }

    fn complete(&mut self) -> Result<Option<Done>, DiskFailed> {
        self.next_done().map_err(failed)
    }

    fn restart(&mut self) -> Result<Restart, DiskFailed> {
        self.reset_looks = 0;
        self.device.reset().map_err(failed)?;
        self.restart_step()
    }

    fn restart_step(&mut self) -> Result<Restart, DiskFailed> {
        if self.device.is_reset().map_err(failed)? {
            return self.bring_up().map(|()| Restart::Done).map_err(failed);
        }
        self.reset_looks += 1;
        if self.reset_looks > RESET_LOOKS {
            return Err(failed(Error::StuckInReset));
        }
        Ok(Restart::AgainIn(RESET_LOOK_NS))
    }
}

#[cfg(test)]
mod tests;
