//! The split virtqueue (virtio 1.2, 2.7), the driver's side.
//!
//! Three rings in memory: descriptors and *available* are written by the driver, *used* by the device. A request is a chain of
//! descriptors, or one that points at a table of them. The driver chooses the descriptors, so it knows without looking at shared memory
//! what the device has, what it may write, and which request is meant when the device says that a descriptor is used.

use crate::Error;
use alloc::vec;
use alloc::vec::Vec;
use driver_runtime::dma::{PAGE_BYTES, fence};
use driver_runtime::{Dma, DmaMemory};

/// How many descriptors a queue has at most: as many as lie together in a page.
pub const MAX_SIZE: u16 = 256;
/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

/// Where the rings lie in the queue's memory: each in one page, and the elements of *used* at multiples of their size.
const AVAILABLE: usize = PAGE_BYTES;
const USED: usize = PAGE_BYTES + 1028;
/// How much memory a queue takes, in bytes.
pub const MEMORY_BYTES: usize = 2 * PAGE_BYTES;

/// Flags of a descriptor.
const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;
/// A flag of the available ring: no interrupt, please; and of the used ring: no notification.
const NOT_NOW: u16 = 1;

/// Bytes that lie together for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The device's address of the first.
    pub address: u64,
    /// How many.
    pub len_bytes: u32,
    /// Whether the device writes them; if not, it reads them.
    pub is_writable: bool,
}

impl Segment {
    /// Bytes that the device reads.
    pub const fn readable(address: u64, len_bytes: u32) -> Self {
        Self { address, len_bytes, is_writable: false }
    }

    /// Bytes that the device writes.
    pub const fn writable(address: u64, len_bytes: u32) -> Self {
        Self { address, len_bytes, is_writable: true }
    }
}

/// A place for the descriptors of a request outside of the queue.
#[derive(Debug)]
pub struct Table<'a, M> {
    /// The memory that it lies in.
    pub memory: &'a M,
    /// Where in it: at a multiple of [`DESCRIPTOR_BYTES`], with all its entries in one page.
    pub offset: usize,
    /// How many descriptors it has room for.
    pub entries: usize,
}

/// A request was not taken: the queue has no descriptors for it, or its table no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A request that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What the driver calls it.
    pub cookie: u16,
    /// How many bytes the device says that it wrote, not more than it could.
    pub written_bytes: u32,
}

/// What the driver knows about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// The first of a request that the device has.
    Head {
        cookie: u16,
        writable_bytes: u32,
        /// The descriptor after it.
        next: Option<u16>,
    },
    /// A later one.
    Chained {
        next: Option<u16>,
    },
}

/// A queue.
#[derive(Debug)]
pub struct Queue<M> {
    memory: M,
    size: u16,
    has_event_index: bool,
    states: Vec<State>,
    free: Vec<u16>,
    /// How many requests were added in all; those up to `published` the device may see. Both wrap.
    added: u16,
    published: u16,
    /// How many requests were taken out in all, and how many the device has said were used, when last looked. Both wrap.
    taken: u16,
    known_used: u16,
}

impl<M: DmaMemory> Queue<M> {
    /// Makes an empty queue of `size` descriptors, a power of two up to [`MAX_SIZE`].
    pub fn new(dma: &impl Dma<Memory = M>, size: u16, has_event_index: bool) -> Result<Self, Error> {
        Self::over(dma.allocate(MEMORY_BYTES)?, size, has_event_index)
    }

    /// Makes an empty queue in a memory of [`MEMORY_BYTES`], whatever was there before.
    pub fn over(memory: M, size: u16, has_event_index: bool) -> Result<Self, Error> {
        if !size.is_power_of_two() || size > MAX_SIZE {
            return Err(Error::NoQueue);
        }
        let mut queue = Self {
            memory,
            size,
            has_event_index,
            states: vec![State::Free; usize::from(size)],
            free: (0..size).rev().collect(),
            added: 0,
            published: 0,
            taken: 0,
            known_used: 0,
        };
        queue.clear(has_event_index)?;
        Ok(queue)
    }

    /// Forgets all requests. The device must have been reset.
    pub fn clear(&mut self, has_event_index: bool) -> Result<(), Error> {
        for offset in (0..MEMORY_BYTES).step_by(size_of::<u64>()) {
            self.memory.store64(offset, 0)?;
        }
        self.has_event_index = has_event_index;
        self.states.fill(State::Free);
        self.free.clear();
        self.free.extend((0..self.size).rev());
        (self.added, self.published, self.taken, self.known_used) = (0, 0, 0, 0);
        Ok(())
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many requests the device has, or has not been told of yet.
    pub fn in_flight(&self) -> u16 {
        self.added.wrapping_sub(self.taken)
    }

    /// Where the device finds the descriptors, the available and the used ring.
    pub(crate) fn device_addresses(&self) -> Result<[u64; 3], Error> {
        Ok([self.memory.device_address(0)?, self.memory.device_address(AVAILABLE)?, self.memory.device_address(USED)?])
    }

    /// Adds a request: first what the device reads, then what it writes. With a `table` it takes one descriptor of the queue, without
    /// one as many as there are segments. The device sees it after [`publish`](Self::publish).
    #[inline]
    pub fn add(
        &mut self,
        cookie: u16,
        segments: impl Iterator<Item = Segment> + Clone,
        table: Option<Table<'_, M>>,
    ) -> Result<Result<(), Full>, Error> {
        let head = match table {
            Some(table) => self.add_indirect(cookie, segments, &table)?,
            None => self.add_chain(cookie, segments)?,
        };
        let Ok(head) = head else { return Ok(Err(Full)) };
        let slot = usize::from(self.added & (self.size - 1));
        self.memory.store16(AVAILABLE + 4 + 2 * slot, head)?;
        self.added = self.added.wrapping_add(1);
        Ok(Ok(()))
    }

    fn add_indirect(
        &mut self,
        cookie: u16,
        segments: impl Iterator<Item = Segment>,
        table: &Table<'_, M>,
    ) -> Result<Result<u16, Full>, Error> {
        let mut writable_bytes = 0_u32;
        let mut count = 0;
        let mut segments = segments.peekable();
        while let Some(segment) = segments.next() {
            if count == table.entries {
                return Ok(Err(Full));
            }
            let next = segments.peek().map(|_| count as u16 + 1);
            write_descriptor(table.memory, table.offset + count * DESCRIPTOR_BYTES, segment, next)?;
            writable_bytes = writable_bytes.saturating_add(written_by_device(segment));
            count += 1;
        }
        let Some(head) = self.free.pop() else { return Ok(Err(Full)) };
        let address = table.memory.device_address(table.offset)?;
        let len_bytes = count * DESCRIPTOR_BYTES;
        let at = usize::from(head) * DESCRIPTOR_BYTES;
        self.memory.store64(at, address)?;
        self.memory.store64(at + 8, len_bytes as u64 | INDIRECT << 32)?;
        self.set(head, State::Head { cookie, writable_bytes, next: None });
        Ok(Ok(head))
    }

    fn add_chain(
        &mut self,
        cookie: u16,
        segments: impl Iterator<Item = Segment> + Clone,
    ) -> Result<Result<u16, Full>, Error> {
        let count = segments.clone().count();
        let Some(head) = self.free.last().copied().filter(|_| (1..=self.free.len()).contains(&count)) else {
            return Ok(Err(Full));
        };
        let mut writable_bytes = 0_u32;
        for (segment, left) in segments.zip((0..count).rev()) {
            let Some(index) = self.free.pop() else { return Ok(Err(Full)) };
            let next = self.free.last().copied().filter(|_| left > 0);
            write_descriptor(&self.memory, usize::from(index) * DESCRIPTOR_BYTES, segment, next)?;
            writable_bytes = writable_bytes.saturating_add(written_by_device(segment));
            self.set(index, State::Chained { next });
        }
        let next = self.next_of(head);
        self.set(head, State::Head { cookie, writable_bytes, next });
        Ok(Ok(head))
    }

    fn set(&mut self, index: u16, state: State) {
        if let Some(slot) = self.states.get_mut(usize::from(index)) {
            *slot = state;
        }
    }

    fn next_of(&self, index: u16) -> Option<u16> {
        match self.states.get(usize::from(index)) {
            Some(State::Head { cookie: _, writable_bytes: _, next } | State::Chained { next }) => *next,
            Some(State::Free) | None => None,
        }
    }

    /// Frees a chain of descriptors. What comes next is known from the driver's own memory, in which there are no circles.
    fn give_back(&mut self, head: Option<u16>) {
        let mut at = head;
        while let Some(index) = at {
            at = self.next_of(index);
            self.set(index, State::Free);
            self.free.push(index);
        }
    }

    /// Shows the device all that was added; whether it wants to be notified.
    pub fn publish(&mut self) -> Result<bool, Error> {
        let before = self.published;
        if before == self.added {
            return Ok(false);
        }
        self.memory.store16(AVAILABLE + 2, self.added)?;
        self.published = self.added;
        // The device may look for more just now, and say that it stops.
        fence();
        if !self.has_event_index {
            return Ok(self.memory.load16(USED)? & NOT_NOW == 0);
        }
        let event = self.memory.load16(USED + 4 + 8 * usize::from(self.size))?;
        let is_passed = self.added.wrapping_sub(event).wrapping_sub(1) < self.added.wrapping_sub(before);
        Ok(is_passed)
    }

    /// Takes a request out that the device is done with, if there is one.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Used>, Error> {
        if self.known_used == self.taken {
            self.known_used = self.memory.load16(USED + 2)?;
            if self.known_used == self.taken {
                return Ok(None);
            }
            let claimed = self.known_used.wrapping_sub(self.taken);
            if claimed > self.published.wrapping_sub(self.taken) {
                return Err(Error::UsedTooMuch);
            }
        }
        let slot = usize::from(self.taken & (self.size - 1));
        let element = self.memory.load64(USED + 4 + 8 * slot)?;
        self.taken = self.taken.wrapping_add(1);
        let (id, written_bytes) = (element as u32, (element >> u32::BITS) as u32);
        let state = self.states.get(id as usize).copied();
        let Some(State::Head { cookie, writable_bytes, next: _ }) = state else { return Err(Error::UsedUnknown) };
        if written_bytes > writable_bytes {
            return Err(Error::WroteTooMuch);
        }
        self.give_back(Some(id as u16));
        Ok(Some(Used { cookie, written_bytes }))
    }

    /// Asks for an interrupt when the device is done with the next request; whether it has done one already, so that there will be none.
    pub fn arm_interrupt(&mut self) -> Result<bool, Error> {
        if self.has_event_index {
            self.memory.store16(AVAILABLE + 4 + 2 * usize::from(self.size), self.taken)?;
        } else {
            self.memory.store16(AVAILABLE, 0)?;
        }
        fence();
        Ok(self.memory.load16(USED + 2)? != self.taken)
    }

    /// Wants no interrupts until the next [`arm_interrupt`](Self::arm_interrupt). They may come all the same.
    pub fn disarm_interrupt(&mut self) -> Result<(), Error> {
        if !self.has_event_index {
            self.memory.store16(AVAILABLE, NOT_NOW)?;
        }
        Ok(())
    }
}

/// What a device that was stopped had used of a queue of `size` descriptors after the requests that its driver took out, of which there
/// were `taken`: the first descriptor of each, and how many bytes the device says that it wrote. Neither is checked. Nothing, if it claims
/// to have used more than it can have had.
pub fn left_behind(memory: &impl DmaMemory, size: u16, taken: u16) -> Result<Vec<(u16, u32)>, Error> {
    let count = memory.load16(USED + 2)?.wrapping_sub(taken);
    if count > size {
        return Ok(Vec::new());
    }
    let element = |index: u16| {
        let slot = usize::from(taken.wrapping_add(index) & (size - 1));
        let element = memory.load64(USED + 4 + 8 * slot)?;
        Ok((element as u16, (element >> u32::BITS) as u32))
    };
    (0..count).map(element).collect()
}

/// How many bytes a descriptor is about; 0 if there is none of that number.
pub fn descriptor_bytes(memory: &impl DmaMemory, descriptor: u16) -> Result<u32, Error> {
    if descriptor >= MAX_SIZE {
        return Ok(0);
    }
    Ok(memory.load32(usize::from(descriptor) * DESCRIPTOR_BYTES + 8)?)
}

fn written_by_device(segment: Segment) -> u32 {
    if segment.is_writable { segment.len_bytes } else { 0 }
}

#[inline]
fn write_descriptor(memory: &impl DmaMemory, offset: usize, segment: Segment, next: Option<u16>) -> Result<(), Error> {
    let mut flags = if segment.is_writable { WRITE } else { 0 };
    if next.is_some() {
        flags |= NEXT;
    }
    memory.store64(offset, segment.address)?;
    let next = u64::from(next.unwrap_or_default());
    memory.store64(offset + 8, u64::from(segment.len_bytes) | flags << 32 | next << 48)?;
    Ok(())
}

#[cfg(test)]
mod tests;
