//! Positions that a process moves itself.

use crate::fs::content::MAX_SIZE_BYTES;
use crate::platform::Memory;
use core::cell::Cell;
use core::mem::offset_of;
use posix_protocol::files::{POSITIONS_OFFSET, Position};
use zerocopy::{FromZeros, IntoBytes};

/// A position that lies in a process's table, with the epoch that lets its shim move it.
pub struct SharedPosition {
    table: Memory,
    offset: u64,
    epoch: u64,
}

impl SharedPosition {
    /// Puts a position into a table, from where the shim takes it once it knows the epoch too. `None` if it can't be written.
    pub(crate) fn put(table: &Memory, index: usize, position: u64, epoch: u64) -> Option<Self> {
        let offset = POSITIONS_OFFSET + (index * size_of::<Position>()) as u64;
        let bytes = Position { offset: position, epoch };
        let written = table.write(offset, bytes.as_bytes());
        (written == size_of::<Position>()).then(|| Self { table: table.clone(), offset, epoch })
    }

    /// Takes the position of a file back. What is there the program may have made up; it is a position of its own file, if not beyond
    /// all files.
    pub fn take(self) -> u64 {
        self.take_word().min(MAX_SIZE_BYTES)
    }

    /// Takes back what is there, whatever it means: first nobody can change it any more, and only then is it read, so that every
    /// change counts.
    pub(crate) fn take_word(self) -> u64 {
        let ended = self.epoch + 1;
        self.table.write(self.offset + offset_of!(Position, epoch) as u64, ended.as_bytes());
        let mut position = Position::new_zeroed();
        self.table.read(self.offset, position.as_mut_bytes());
        position.offset
    }
}

/// How often a file is used through the server: what is used often is worth sharing, and what had to be taken back is worth it
/// only if it is then used more often still.
#[derive(Debug, Default)]
pub struct Habit {
    uses: Cell<u16>,
    taken: Cell<u8>,
    writes: Cell<bool>,
}

/// Uses before a file is shared for the first time.
const FIRST_USES: u16 = 4;
/// How many times that can double.
const MAX_DOUBLINGS: u8 = 10;

impl Habit {
    /// Counts a use; whether it is time to share.
    pub fn is_due(&self) -> bool {
        let uses = self.uses.get().saturating_add(1);
        self.uses.set(uses);
        if uses < FIRST_USES << self.taken.get() {
            return false;
        }
        self.uses.set(0);
        true
    }

    /// Notes a write at a place of its own.
    pub fn note_write(&self) {
        self.writes.set(true);
    }

    /// Whether there were any.
    pub fn has_writes(&self) -> bool {
        self.writes.get()
    }

    /// Notes that it had to be taken back.
    pub fn note_taken(&self) {
        self.taken.set((self.taken.get() + 1).min(MAX_DOUBLINGS));
        self.uses.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::PAGE_SIZE;

    #[test]
    fn a_position_is_taken_back_and_can_not_be_moved_then() {
        let table = Memory::create(2 * PAGE_SIZE).unwrap();
        let shared = SharedPosition::put(&table, 3, 70, 5).unwrap();
        let at = POSITIONS_OFFSET + 3 * 16;
        table.write(at, &u64::MAX.to_le_bytes());
        assert_eq!(shared.take(), MAX_SIZE_BYTES);
        let mut epoch = [0; 8];
        table.read(at + 8, &mut epoch);
        assert_eq!(u64::from_le_bytes(epoch), 6);
    }

    #[test]
    fn what_is_taken_back_often_is_shared_less() {
        let habit = Habit::default();
        let until_due = || (1..).find(|_| habit.is_due()).unwrap();
        assert_eq!((until_due(), until_due()), (4, 4));
        habit.note_taken();
        assert_eq!(until_due(), 8);
        (0..100).for_each(|_| habit.note_taken());
        assert_eq!(until_due(), 4096);
    }
}
