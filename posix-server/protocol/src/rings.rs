//! Pipes and counters that a process serves itself while nobody has to be woken (ADR 13).
//!
//! What a process may do with one is the number in a [`Position`](crate::files::Position): it changes together with the proof that
//! the server still lends it, or not at all. Of a pipe only the first slot is lent, so that the rules of slots, which decide how much
//! fits, stay Linux's; what needs a second one is the server's. Nothing here trusts a number: all are cut to legal ones.

/// The size of a slot: a page.
pub const SLOT_BYTES: u64 = 4096;
/// The largest value of a counter (`eventfd(2)`).
pub const MAX_COUNT: u64 = u64::MAX - 1;

/// Bits of a place in the slot.
const PLACE_BITS: u32 = 13;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
/// Somebody is about to write.
const WRITING: u64 = 1 << (2 * PLACE_BITS);
/// Where the serial number begins.
const SERIAL_SHIFT: u32 = 2 * PLACE_BITS + 1;

/// The only slot of a lent pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeSlot {
    /// How many of its bytes have been read.
    pub start: u64,
    /// How many have been written; not below `start`. Both are 0 when nothing is left.
    pub end: u64,
    /// Somebody copies bytes behind `end`. Until that is over, or the pipe is taken back, nobody else touches it.
    pub is_written: bool,
    /// Different after each change, so that what was looked at long ago is not mistaken for what is there.
    serial: u64,
}

impl PipeSlot {
    /// A slot with so many bytes written and read; nobody writes.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end, is_written: false, serial: 0 }.cut()
    }

    /// What a word says, cut to what is possible.
    pub fn from_word(word: u64) -> Self {
        let place = |shift: u32| word >> shift & PLACE_MASK;
        let is_written = word & WRITING != 0;
        Self { start: place(0), end: place(PLACE_BITS), is_written, serial: word >> SERIAL_SHIFT }.cut()
    }

    /// The word that says this.
    pub fn word(self) -> u64 {
        let writing = if self.is_written { WRITING } else { 0 };
        self.serial << SERIAL_SHIFT | writing | self.end << PLACE_BITS | self.start
    }

    fn cut(self) -> Self {
        let end = self.end.min(SLOT_BYTES);
        Self { end, start: self.start.min(end), ..self }
    }

    fn next(self) -> Self {
        Self { serial: self.serial.wrapping_add(1), ..self }
    }

    /// Takes up to `count` bytes, from `start` on: how many, and what is left. `None`: it is for the server.
    pub fn read(self, count: u64) -> Option<(u64, Self)> {
        let count = count.min(self.end - self.start);
        if count == 0 || self.is_written {
            return None;
        }
        let start = self.start + count;
        let left = if start == self.end { Self { start: 0, end: 0, ..self } } else { Self { start, ..self } };
        Some((count, left.next()))
    }

    /// Begins to write `count` bytes from `end` on. `None`: it is for the server, because they don't fit, or somebody writes.
    pub fn begin_write(self, count: u64) -> Option<Self> {
        let fits = count > 0 && count <= SLOT_BYTES - self.end;
        (fits && !self.is_written).then(|| Self { is_written: true, ..self }.next())
    }

    /// They are written.
    pub fn end_write(self, count: u64) -> Self {
        Self { end: self.end + count, is_written: false, ..self }.cut().next()
    }
}

/// Takes from a counter all, or one: how much, and what is left. `None`: there is nothing.
pub fn take_count(count: u64, takes_one: bool) -> Option<(u64, u64)> {
    let taken = if takes_one { count.min(1) } else { count };
    (taken > 0).then(|| (taken, count - taken))
}

/// Adds to a counter. `None`: it does not fit, or can't be added.
pub fn add_count(count: u64, added: u64) -> Option<u64> {
    let sum = count.checked_add(added).filter(|sum| *sum <= MAX_COUNT)?;
    (added <= MAX_COUNT).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(slot: PipeSlot, count: u64) -> Option<PipeSlot> {
        slot.begin_write(count).map(|begun| PipeSlot::from_word(begun.word()).end_write(count))
    }

    #[test]
    fn what_is_written_is_read_once_and_an_empty_slot_begins_anew() {
        let slot = write(PipeSlot::new(0, 0), 10).and_then(|slot| write(slot, 5)).unwrap();
        assert_eq!((slot.start, slot.end), (0, 15));
        let (count, slot) = slot.read(4).unwrap();
        assert_eq!((count, slot.start, slot.end), (4, 4, 15));
        let (count, slot) = slot.read(100).unwrap();
        assert_eq!((count, slot.start, slot.end), (11, 0, 0));
        assert_eq!(slot.read(1), None);
    }

    #[test]
    fn a_write_fits_behind_the_last_one_as_a_whole_or_is_the_servers() {
        assert!(write(PipeSlot::new(0, 0), SLOT_BYTES).is_some());
        assert!(write(PipeSlot::new(4000, 4090), 6).is_some());
        assert_eq!(write(PipeSlot::new(4000, 4090), 7), None);
        assert_eq!(write(PipeSlot::new(0, 0), SLOT_BYTES + 1), None);
        assert_eq!((write(PipeSlot::new(0, 1), 0), write(PipeSlot::new(0, 1), u64::MAX)), (None, None));
    }

    #[test]
    fn while_one_writes_all_others_ask_the_server() {
        let begun = PipeSlot::new(0, 8).begin_write(1).unwrap();
        assert_eq!((begun.begin_write(1), begun.read(1)), (None, None));
        assert_eq!(begun.end_write(1).end, 9);
    }

    #[test]
    fn every_change_gives_another_word() {
        let empty = PipeSlot::new(0, 0);
        let again = write(empty, 1).unwrap().read(1).unwrap().1;
        assert_eq!((again.start, again.end), (empty.start, empty.end));
        assert_ne!(again.word(), empty.word());
    }

    #[test]
    fn made_up_words_become_possible_ones() {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            let slot = PipeSlot::from_word(word);
            assert!(slot.start <= slot.end && slot.end <= SLOT_BYTES);
            assert_eq!(PipeSlot::from_word(slot.word()), slot);
            for next in [slot.read(word), slot.begin_write(word % 5000).map(|slot| (0, slot.end_write(word % 5000)))] {
                let Some((count, next)) = next else { continue };
                assert!(count <= SLOT_BYTES && next.start <= next.end && next.end <= SLOT_BYTES);
            }
        }
    }

    #[test]
    fn counters_are_taken_and_added_to_as_linux_does() {
        assert_eq!(
            (take_count(7, false), take_count(7, true), take_count(0, true)),
            (Some((7, 0)), Some((1, 6)), None)
        );
        assert_eq!((add_count(1, 2), add_count(1, 0)), (Some(3), Some(1)));
        assert_eq!(
            (add_count(0, u64::MAX), add_count(1, MAX_COUNT), add_count(0, MAX_COUNT)),
            (None, None, Some(MAX_COUNT))
        );
    }
}
