//! What outlives a console's driver: how much was received, taken and sent, and what was received and not taken.
//!
//! It lies in a memory that the supervisor keeps and gives to every driver of the device. All streams of bytes are counted from the start
//! of the machine. A client says up to where it has taken what came in, and where in its output a write begins; so a driver
//! that takes another's place goes on at the very byte.
//!
//! A count and what the device says of itself at that count (its *mark*, such as how many buffers it has used) lie in one word, so there
//! is no moment at which the one is known and the other not. Bytes are stored before the word that says that they are there.

use driver_protocol::console::WINDOW_BYTES;
use driver_runtime::{DeviceError, Kept};

/// The words. A position has 48 bits, for as many bytes as nobody types; its mark the lowest 16.
const MAGIC: usize = 0;
const TAKEN: usize = 8;
const RECEIVED: usize = 16;
const SENT: usize = 24;
const LOST: usize = 32;
/// Bytes that were received, at their position modulo the size.
const RING: usize = 4096;
/// From where on the memory is the device's own affair; it is zero at first.
pub const DEVICE_AREA: usize = RING + WINDOW_BYTES;

const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"CONSOLE1");
const MARK_BITS: u32 = 16;

/// What a driver begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is the first since the machine began.
    First,
    /// It takes the place of one that left the device with these marks.
    Successor {
        /// When something was received last.
        received: u16,
        /// When something was sent last.
        sent: u16,
    },
}

/// The state.
#[derive(Debug)]
pub struct State<K> {
    memory: K,
    taken: u64,
    received: u64,
    sent: u64,
    sent_mark: u16,
    lost: u64,
}

impl<K: Kept> State<K> {
    /// What the memory says. If it makes no sense, it says nothing.
    pub fn open(memory: K) -> Result<(Self, Beginning), DeviceError> {
        let (taken, lost) = (memory.load64(TAKEN)?, memory.load64(LOST)?);
        let [(received, received_mark), (sent, sent_mark)] =
            [split(memory.load64(RECEIVED)?), split(memory.load64(SENT)?)];
        let is_sane = received.checked_sub(taken).is_some_and(|waiting| waiting <= WINDOW_BYTES as u64);
        if memory.load64(MAGIC)? == MAGIC_VALUE && is_sane {
            let beginning = Beginning::Successor { received: received_mark, sent: sent_mark };
            return Ok((Self { memory, taken, received, sent, sent_mark, lost }, beginning));
        }
        for word in [TAKEN, RECEIVED, SENT, LOST] {
            memory.store64(word, 0)?;
        }
        memory.store64(MAGIC, MAGIC_VALUE)?;
        Ok((Self { memory, taken: 0, received: 0, sent: 0, sent_mark: 0, lost: 0 }, Beginning::First))
    }

    /// How many bytes wait for a reader.
    pub fn waiting_bytes(&self) -> usize {
        (self.received - self.taken) as usize
    }

    /// Up to where readers have taken what came in.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many bytes were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes in what was received, and says that the device has this mark now. What there is no room for is lost and counted.
    pub fn receive(&mut self, bytes: &[u8], lost: u64, mark: u16) -> Result<(), DeviceError> {
        let fitting = bytes.len().min(WINDOW_BYTES - self.waiting_bytes());
        let mut rest = bytes.get(..fitting).unwrap_or_default();
        let mut position = self.received;
        while !rest.is_empty() {
            let (at, room) = place(position);
            let (part, after) = rest.split_at(rest.len().min(room));
            self.memory.write(at, part)?;
            (position, rest) = (position + part.len() as u64, after);
        }
        self.received = position;
        self.memory.store64(RECEIVED, join(position, mark))?;
        self.count_lost(lost.saturating_add((bytes.len() - fitting) as u64))
    }

    fn count_lost(&mut self, lost: u64) -> Result<(), DeviceError> {
        if lost == 0 {
            return Ok(());
        }
        self.lost = self.lost.saturating_add(lost);
        self.memory.store64(LOST, self.lost)
    }

    /// How many bytes were lost since the last call.
    pub fn take_lost(&mut self) -> Result<u64, DeviceError> {
        if self.lost > 0 {
            self.memory.store64(LOST, 0)?;
        }
        Ok(core::mem::take(&mut self.lost))
    }

    /// A reader has taken all up to a position.
    pub fn take(&mut self, position: u64) -> Result<(), DeviceError> {
        let position = position.clamp(self.taken, self.received);
        if position != self.taken {
            self.taken = position;
            self.memory.store64(TAKEN, position)?;
        }
        Ok(())
    }

    /// Reads what waits, as far as it lies together and fits; returns how many bytes.
    pub fn peek(&self, offset: usize, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let (at, room) = place(self.taken + offset as u64);
        let count = self.waiting_bytes().saturating_sub(offset).min(room).min(buffer.len());
        self.memory.read(at, buffer.get_mut(..count).unwrap_or_default())?;
        Ok(count)
    }

    /// All up to a position was sent, and the device has this mark now.
    pub fn set_sent(&mut self, position: u64, mark: u16) -> Result<(), DeviceError> {
        (self.sent, self.sent_mark) = (position, mark);
        self.memory.store64(SENT, join(position, mark))
    }

    /// Of what was noted as sent, the last bytes were not: the driver before died in between. The device's mark is that of what was.
    pub fn take_back(&mut self, unsent: u16) -> Result<(), DeviceError> {
        self.set_sent(self.sent.saturating_sub(unsent.into()), self.sent_mark.wrapping_sub(unsent))
    }

    /// All up to a position counts as sent, and nothing is said of the device.
    pub fn skip_to(&mut self, position: u64) -> Result<(), DeviceError> {
        self.set_sent(position, self.sent_mark)
    }
}

fn place(position: u64) -> (usize, usize) {
    let at = (position % WINDOW_BYTES as u64) as usize;
    (RING + at, WINDOW_BYTES - at)
}

fn split(word: u64) -> (u64, u16) {
    (word >> MARK_BITS, word as u16)
}

fn join(position: u64, mark: u16) -> u64 {
    position << MARK_BITS | u64::from(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver_runtime::simulation::SimulatedMemory;

    fn memory() -> SimulatedMemory {
        SimulatedMemory::new(DEVICE_AREA)
    }

    #[test]
    fn a_successor_goes_on_where_the_dead_one_was() {
        let memory = memory();
        let (mut state, beginning) = State::open(memory.clone()).unwrap();
        assert_eq!(beginning, Beginning::First);
        state.receive(b"typed", 2, 7).unwrap();
        state.take(3).unwrap();
        state.set_sent(1000, 9).unwrap();
        let (mut state, beginning) = State::open(memory).unwrap();
        assert_eq!(beginning, Beginning::Successor { received: 7, sent: 9 });
        let mut buffer = [0; 10];
        assert_eq!(state.peek(0, &mut buffer), Ok(2));
        assert_eq!((&buffer[..2], state.sent(), state.taken()), (&b"ed"[..], 1000, 3));
        assert_eq!(state.take_lost(), Ok(2));
        assert_eq!(state.take_lost(), Ok(0));
    }

    #[test]
    fn the_ring_goes_round_and_what_does_not_fit_is_lost() {
        let (mut state, _) = State::open(memory()).unwrap();
        let mut position = 0;
        for round in 0..300_u32 {
            let bytes = [round as u8; 1000];
            state.receive(&bytes, 0, 0).unwrap();
            let (mut buffer, mut read) = ([0; 1000], 0);
            while read < 1000 {
                read += state.peek(read, &mut buffer[read..]).unwrap();
            }
            assert_eq!(buffer, bytes);
            position += 1000;
            state.take(position).unwrap();
        }
        state.receive(&[1; WINDOW_BYTES + 5], 0, 0).unwrap();
        assert_eq!((state.waiting_bytes(), state.take_lost()), (WINDOW_BYTES, Ok(5)));
        state.take(u64::MAX).unwrap();
        assert_eq!(state.waiting_bytes(), 0);
    }

    #[test]
    fn a_memory_that_makes_no_sense_says_nothing() {
        let memory = memory();
        for word in [MAGIC, TAKEN, RECEIVED, SENT] {
            memory.store64(word, u64::MAX).unwrap();
        }
        memory.store64(MAGIC, MAGIC_VALUE).unwrap();
        let (state, beginning) = State::open(memory.clone()).unwrap();
        assert_eq!((beginning, state.sent()), (Beginning::First, 0));
    }
}
