//! Pipes and FIFOs.
//!
//! As in Linux, a pipe is a ring of slots of one page each, and a small write goes into the last slot if it fits there as a
//! whole, else into a new one. That one rule gives all that programs see: 65536 bytes of room, writes of up to `PIPE_BUF`
//! bytes that are never torn apart, and a pipe that is full when its slots are used up.
//!
//! A slot takes memory when it is first written, so that an idle pipe costs next to nothing.
//!
//! A process that has both ends, and uses them often, is [lent](lending) the first slot, and moves bytes itself until somebody else
//! looks at the pipe in whatever way.

mod buffers;
mod lending;
mod ring;

pub use lending::LentSlot;
pub use ring::SlotKind;

use crate::budget::{Charge, Kind as Budget};
use crate::errno::Errno;
use crate::file::{AccessMode, Destination, FileOps, PollEvents, Positioning, Source, StatusFlags};
use crate::shared::Habit;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, RefMut};
use ring::Ring;

/// The size of a slot, which is `PIPE_BUF`.
pub const SLOT_BYTES: usize = linux_raw_sys::general::PIPE_BUF as usize;

/// How large a pipe can be made: `/proc/sys/fs/pipe-max-size` of Linux.
const MAX_CAPACITY_BYTES: usize = 1 << 20;
/// How large the superuser can make it.
const LARGEST_CAPACITY_BYTES: usize = 1 << 31;

/// Who changes the size of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Somebody who must keep the limit.
    Ordinary,
    /// The superuser.
    Superuser,
}

/// A pipe, or what is inside a FIFO while somebody has it open.
#[derive(Debug)]
pub struct Pipe {
    /// Without its first slot, and empty, while that is lent.
    ring: RefCell<Ring>,
    /// The first slot, while a process moves the bytes in it itself.
    lent: RefCell<Option<LentSlot>>,
    habit: Habit,
    /// Whether packets were ever written: then it is never lent.
    has_packets: Cell<bool>,
    readers: Cell<usize>,
    writers: Cell<usize>,
    /// How many writers there ever were: a FIFO's reader that was opened before the first sees no hang-up, and a blocking
    /// `open` waits for the number to change.
    writers_ever: Cell<u64>,
    readers_ever: Cell<u64>,
    changed: WaitQueue,
    /// Pays for the pipe with its first slot.
    _charge: Charge,
    _alive: crate::census::counted::Pipe,
}

impl Default for Pipe {
    fn default() -> Self {
        Self {
            _alive: Default::default(),
            ring: RefCell::new(Ring::new()),
            lent: RefCell::new(None),
            habit: Habit::default(),
            has_packets: Cell::new(false),
            readers: Cell::new(0),
            writers: Cell::new(0),
            writers_ever: Cell::new(0),
            readers_ever: Cell::new(0),
            changed: WaitQueue::new(),
            _charge: Charge::none(Budget::Open),
        }
    }
}

impl Pipe {
    /// A pipe that nobody has open. `ENOMEM` if the server keeps too much already.
    pub fn new() -> Result<Rc<Self>, Errno> {
        let charge = Charge::new(Budget::Open, SLOT_BYTES as u64)?;
        Ok(Rc::new(Self { _charge: charge, ..Self::default() }))
    }

    /// What is woken when a reader or writer comes or goes, or when it stops being empty or full. While somebody waits there, the
    /// server sees every read and write.
    pub fn changed(&self) -> &WaitQueue {
        self.take_back();
        &self.changed
    }

    /// What is in it, all of it here.
    fn ring(&self) -> RefMut<'_, Ring> {
        self.take_back();
        self.ring.borrow_mut()
    }

    /// Whether anybody has it open for reading.
    pub fn has_readers(&self) -> bool {
        self.readers.get() > 0
    }

    /// Whether anybody has it open for writing.
    pub fn has_writers(&self) -> bool {
        self.writers.get() > 0
    }

    /// How many times it has been opened for reading and for writing.
    pub fn openings(&self) -> (u64, u64) {
        (self.readers_ever.get(), self.writers_ever.get())
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.ring().capacity()
    }

    /// Changes that (`F_SETPIPE_SZ`), rounded up to a power of two of pages. `EPERM` above the limit, `EBUSY` if more is in it.
    pub fn set_capacity(&self, bytes: usize, who: Privilege) -> Result<usize, Errno> {
        let limit = match who {
            Privilege::Ordinary => MAX_CAPACITY_BYTES.max(self.capacity()),
            Privilege::Superuser => LARGEST_CAPACITY_BYTES,
        };
        if bytes > limit {
            return Err(Errno::EPERM);
        }
        let capacity = self.ring().resize(bytes)?;
        self.changed.wake();
        Ok(capacity)
    }

    /// A copy of the first bytes in it, at most `most`, which stay (`tee`, `splice`). `EAGAIN` if there are none yet; none if
    /// there will be none.
    pub fn peek(&self, most: usize) -> Result<Vec<u8>, Errno> {
        let bytes = self.ring().peek(most)?;
        if bytes.is_empty() && self.has_writers() { Err(Errno::EAGAIN) } else { Ok(bytes) }
    }

    /// Takes the first bytes away, which somebody has peeked at.
    pub fn consume(&self, count: usize) {
        let became_writable = {
            let mut ring = self.ring();
            let was_full = ring.is_full();
            ring.consume(count);
            was_full && !ring.is_full()
        };
        if became_writable {
            self.changed.wake_for(PollEvents::WRITABLE);
        }
    }

    /// How many bytes fit in whole slots now. `EPIPE` if nobody would read them; `EAGAIN` if none fit.
    pub fn room(&self) -> Result<usize, Errno> {
        if !self.has_readers() {
            return Err(Errno::EPIPE);
        }
        let free = self.ring().free_slots();
        if free == 0 { Err(Errno::EAGAIN) } else { Ok(free * SLOT_BYTES) }
    }

    /// Bytes written and not yet read.
    pub fn readable_bytes(&self) -> usize {
        self.ring().len()
    }

    fn read(&self, to: &mut dyn Destination) -> Result<usize, Errno> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let (count, was_full) = {
            let mut ring = self.ring();
            if ring.is_empty() {
                return if self.has_writers() { Err(Errno::EAGAIN) } else { Ok(0) };
            }
            let was_full = ring.is_full();
            (ring.read(to), was_full && !ring.is_full())
        };
        if was_full {
            self.changed.wake_for(PollEvents::WRITABLE);
        }
        count
    }

    fn write(&self, from: &mut dyn Source, kind: SlotKind) -> Result<usize, Errno> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        if !self.has_readers() {
            return Err(Errno::EPIPE);
        }
        let count = self.ring().write(from, kind);
        if matches!(count, Ok(1..)) {
            // Also if it was not empty: who watches edges hears of every write, as on Linux.
            self.changed.wake_for(PollEvents::READABLE);
        }
        match count {
            Ok(0) => Err(Errno::EAGAIN),
            Ok(_) | Err(_) => count,
        }
    }
}

/// One open end of a pipe (or both, for a FIFO opened for reading and writing).
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Rc<Pipe>,
    access: AccessMode,
    /// How many writers there had been when this end was opened.
    writers_before: u64,
    /// Whether what is written through it are packets.
    writes: Cell<SlotKind>,
}

impl PipeEnd {
    /// Opens an end.
    pub fn open(pipe: &Rc<Pipe>, access: AccessMode) -> Self {
        let writers_before = pipe.writers_ever.get() - u64::from(pipe.has_writers());
        if access.can_read() {
            pipe.readers.set(pipe.readers.get() + 1);
            pipe.readers_ever.set(pipe.readers_ever.get() + 1);
        }
        if access.can_write() {
            pipe.writers.set(pipe.writers.get() + 1);
            pipe.writers_ever.set(pipe.writers_ever.get() + 1);
        }
        pipe.changed.wake();
        Self { pipe: pipe.clone(), access, writers_before, writes: Cell::new(SlotKind::Stream) }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.access.can_read() {
            self.pipe.readers.set(self.pipe.readers.get().saturating_sub(1));
        }
        if self.access.can_write() {
            self.pipe.writers.set(self.pipe.writers.get().saturating_sub(1));
        }
        if !self.pipe.has_readers() && !self.pipe.has_writers() {
            // A FIFO that nobody has open forgets what was in it.
            self.pipe.ring().clear();
        }
        self.pipe.changed.wake();
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize, Errno> {
        self.pipe.read(to)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.pipe.write(from, self.writes.get())
    }

    fn status_changed(&self, status: StatusFlags) {
        let packets = status.contains(StatusFlags::DIRECT);
        self.writes.set(if packets { SlotKind::Packet } else { SlotKind::Stream });
        if packets {
            self.pipe.has_packets.set(true);
            self.pipe.take_back();
        }
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let ring = self.pipe.ring();
        if self.access.can_read() {
            events.set(PollEvents::READABLE, !ring.is_empty());
            let had_writer = self.pipe.writers_ever.get() > self.writers_before;
            events.set(PollEvents::HANG_UP, !self.pipe.has_writers() && had_writer);
        }
        if self.access.can_write() {
            events.set(PollEvents::WRITABLE, !ring.is_full());
            events.set(PollEvents::ERROR, !self.pipe.has_readers());
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.pipe.changed())
    }

    fn readable_bytes(&self) -> Result<usize, Errno> {
        Ok(self.pipe.readable_bytes())
    }

    fn pipe(&self) -> Option<&Pipe> {
        Some(&self.pipe)
    }

    fn habit(&self) -> Option<&Habit> {
        Some(&self.pipe.habit)
    }

    fn take_back(&self) {
        self.pipe.take_back();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec;

    fn ends() -> (PipeEnd, PipeEnd) {
        let pipe = Pipe::new().unwrap();
        let reader = PipeEnd::open(&pipe, AccessMode::Read);
        (reader, PipeEnd::open(&pipe, AccessMode::Write))
    }

    fn write(end: &PipeEnd, bytes: &[u8]) -> Result<usize, Errno> {
        end.write(0, &mut SliceSource::new(bytes))
    }

    fn read(end: &PipeEnd, count: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; count];
        let mut to = SliceDestination::new(&mut buffer);
        end.read(0, &mut to)?;
        Ok(to.filled().to_vec())
    }

    #[test]
    fn bytes_come_out_in_order() {
        let (reader, writer) = ends();
        assert_eq!(read(&reader, 10), Err(Errno::EAGAIN));
        write(&writer, b"hello ").unwrap();
        write(&writer, b"world").unwrap();
        assert_eq!(read(&reader, 8).unwrap(), b"hello wo");
        assert_eq!(read(&reader, 8).unwrap(), b"rld");
    }

    #[test]
    fn a_pipe_without_writers_ends_and_without_readers_breaks() {
        let (reader, writer) = ends();
        write(&writer, b"x").unwrap();
        drop(writer);
        assert_eq!(reader.readiness(), PollEvents::READABLE | PollEvents::HANG_UP);
        assert_eq!(read(&reader, 9).unwrap(), b"x");
        assert_eq!(read(&reader, 9).unwrap(), b"");
        let (reader, writer) = ends();
        drop(reader);
        assert_eq!(write(&writer, b"x"), Err(Errno::EPIPE));
        assert!(writer.readiness().contains(PollEvents::ERROR));
    }

    #[test]
    fn a_small_write_is_whole_or_not_at_all() {
        let (reader, writer) = ends();
        assert_eq!(write(&writer, &vec![1; 65536 - 100]).unwrap(), 65536 - 100);
        assert_eq!(write(&writer, &[2; 101]), Err(Errno::EAGAIN));
        assert_eq!(write(&writer, &[2; 100]).unwrap(), 100);
        assert_eq!(write(&writer, &[3; 1]), Err(Errno::EAGAIN));
        assert_eq!(reader.readable_bytes().unwrap(), 65536);
    }

    #[test]
    fn packets_are_read_one_by_one() {
        let (reader, writer) = ends();
        writer.status_changed(StatusFlags::DIRECT);
        write(&writer, b"first").unwrap();
        write(&writer, b"second").unwrap();
        assert_eq!(read(&reader, 100).unwrap(), b"first");
        assert_eq!(read(&reader, 3).unwrap(), b"sec");
        assert_eq!(read(&reader, 9), Err(Errno::EAGAIN), "the rest of the packet is lost");
    }

    #[test]
    fn what_was_peeked_at_stays_until_it_is_consumed() {
        let (reader, writer) = ends();
        assert_eq!(reader.pipe.peek(9), Err(Errno::EAGAIN));
        write(&writer, &vec![7; 5000]).unwrap();
        write(&writer, b"end").unwrap();
        assert_eq!(reader.pipe.peek(5001).unwrap().len(), 5001);
        reader.pipe.consume(5000);
        assert_eq!(read(&reader, 9).unwrap(), b"end");
        drop(writer);
        assert_eq!(reader.pipe.peek(9).unwrap(), b"");
    }

    #[test]
    fn a_large_write_takes_what_there_is_room_for() {
        let (_reader, writer) = ends();
        assert_eq!(write(&writer, &vec![0; 100_000]).unwrap(), 65536);
    }

    #[test]
    fn a_full_pipe_is_writable_again_when_a_whole_slot_was_read() {
        let (reader, writer) = ends();
        write(&writer, &vec![0; 65536]).unwrap();
        let listener = writer.wait_queue().unwrap().listen();
        read(&reader, SLOT_BYTES - 1).unwrap();
        assert!(!listener.is_notified() && !writer.readiness().contains(PollEvents::OUT));
        read(&reader, 1).unwrap();
        assert!(listener.is_notified() && writer.readiness().contains(PollEvents::OUT));
    }

    #[test]
    fn a_fifo_that_never_had_a_writer_does_not_hang_up() {
        let pipe = Pipe::new().unwrap();
        let reader = PipeEnd::open(&pipe, AccessMode::Read);
        assert!(reader.readiness().is_empty());
        drop(PipeEnd::open(&pipe, AccessMode::Write));
        assert_eq!(reader.readiness(), PollEvents::HANG_UP);
    }

    #[test]
    fn the_capacity_is_rounded_up_and_not_below_the_content() {
        let (_reader, writer) = ends();
        assert_eq!(writer.pipe.set_capacity(5000, Privilege::Ordinary), Ok(8192));
        assert_eq!(writer.pipe.set_capacity(MAX_CAPACITY_BYTES + 1, Privilege::Ordinary), Err(Errno::EPERM));
        assert_eq!(write(&writer, &vec![0; 9000]).unwrap(), 8192);
        assert_eq!(writer.pipe.set_capacity(1, Privilege::Ordinary), Err(Errno::EBUSY));
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(steps in proptest::collection::vec((any::<bool>(), 0usize..9000), 1..120)) {
            let (reader, writer) = ends();
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for (is_write, count) in steps {
                if is_write {
                    let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_mul(5).wrapping_add(1); next }).collect();
                    match write(&writer, &bytes) {
                        Ok(written) => {
                            prop_assert!(written == count || count > SLOT_BYTES);
                            model.extend(&bytes[..written]);
                        }
                        Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
                    }
                } else {
                    let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
                    match read(&reader, count) {
                        Ok(bytes) => prop_assert_eq!(bytes, expected),
                        Err(errno) => prop_assert!(errno == Errno::EAGAIN && expected.is_empty()),
                    }
                }
                prop_assert_eq!(reader.readable_bytes().unwrap(), model.len());
                prop_assert!(model.len() <= writer.pipe.capacity());
            }
        }
    }
}
