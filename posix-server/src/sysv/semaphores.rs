//! Sets of semaphores (`semget(2)`, `semop(2)`).

use super::table::now_s;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::wait::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How many semaphores a set can have (`SEMMSL`).
pub const MAX_IN_SET: u64 = 32000;
/// How many operations one call can have (`SEMOPM`).
pub const MAX_OPERATIONS: u64 = 500;
/// How many sets there can be (`SEMMNI`).
pub const MAX_SETS: usize = 32000;
/// The largest value (`SEMVMX`).
pub const MAX_VALUE: i32 = 32767;

/// What a set takes of the server's memory besides its semaphores, about, and each of these.
const SET_BYTES: u64 = 512;
const SEMAPHORE_BYTES: u64 = 32;
/// What is noted of a process that may have to be undone, here and in the list of all sets.
const UNDO_BYTES: u64 = 128;

/// One operation of `semop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore.
    pub index: usize,
    /// What is added; 0: wait until the value is 0.
    pub change: i32,
    /// Whether it may not wait (`IPC_NOWAIT`).
    pub is_impatient: bool,
    /// Whether the end of the process takes it back (`SEM_UNDO`).
    pub is_undone: bool,
}

/// Why operations can't be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The operation that stands in the way.
    pub operation: Operation,
}

#[derive(Clone, Copy, Debug, Default)]
struct Semaphore {
    value: i32,
    /// Who changed it last.
    pid: Pid,
    /// How many calls wait for it to grow, and to become 0.
    waiting_for_more: u32,
    waiting_for_zero: u32,
}

/// What is taken back when a process ends.
struct Undo {
    changes: Vec<i32>,
    _charge: Charge,
}

impl Undo {
    /// Adds to what is taken back of a semaphore; tells whether that is not too much (`SEMAEM`), and otherwise does nothing.
    fn adjust(&mut self, index: usize, by: i32) -> bool {
        let Some(change) = self.changes.get_mut(index) else { return false };
        let adjusted = *change + by;
        let is_possible = (-MAX_VALUE - 1..=MAX_VALUE).contains(&adjusted);
        if is_possible {
            *change = adjusted;
        }
        is_possible
    }
}

/// A set.
pub struct Semaphores {
    semaphores: RefCell<Vec<Semaphore>>,
    undo: RefCell<BTreeMap<Pid, Undo>>,
    /// When operations were done last, in seconds since 1970 began; 0: never.
    pub operated_s: Cell<i64>,
    /// Woken when values change.
    pub changed: WaitQueue,
    _charge: Charge,
}

impl Semaphores {
    /// A set of so many semaphores, all 0. `ENOSPC` if the server keeps too much already.
    pub fn new(count: usize) -> Result<Self> {
        let bytes = SET_BYTES + count as u64 * SEMAPHORE_BYTES;
        let charge = Charge::new(Budget::Names, bytes).map_err(|_| Errno::ENOSPC)?;
        Ok(Self {
            semaphores: RefCell::new(vec![Semaphore::default(); count]),
            undo: RefCell::default(),
            operated_s: Cell::new(0),
            changed: WaitQueue::new(),
            _charge: charge,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.semaphores.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values.
    pub fn values(&self) -> Vec<u16> {
        self.semaphores.borrow().iter().map(|semaphore| u16::try_from(semaphore.value).unwrap_or_default()).collect()
    }

    /// Value, last process, and how many wait for more and for zero. `EINVAL`.
    pub fn look(&self, index: usize) -> Result<(i32, Pid, u32, u32)> {
        let semaphores = self.semaphores.borrow();
        let found = semaphores.get(index).ok_or(Errno::EINVAL)?;
        Ok((found.value, found.pid, found.waiting_for_more, found.waiting_for_zero))
    }

    /// Sets one value. `EINVAL`, `ERANGE`.
    pub fn set(&self, index: usize, value: i32, setter: Pid) -> Result<()> {
        if !(0..=MAX_VALUE).contains(&value) {
            return Err(Errno::ERANGE);
        }
        let mut semaphores = self.semaphores.borrow_mut();
        let semaphore = semaphores.get_mut(index).ok_or(Errno::EINVAL)?;
        (semaphore.value, semaphore.pid) = (value, setter);
        drop(semaphores);
        // What is set is no business of who would have undone something.
        self.undo
            .borrow_mut()
            .values_mut()
            .filter_map(|undo| undo.changes.get_mut(index))
            .for_each(|change| *change = 0);
        self.changed.wake();
        Ok(())
    }

    /// Sets all values. `ERANGE`, and then none.
    pub fn set_all(&self, values: &[u16], setter: Pid) -> Result<()> {
        if values.iter().any(|value| i32::from(*value) > MAX_VALUE) {
            return Err(Errno::ERANGE);
        }
        for (semaphore, value) in self.semaphores.borrow_mut().iter_mut().zip(values) {
            (semaphore.value, semaphore.pid) = (i32::from(*value), setter);
        }
        self.undo.borrow_mut().values_mut().for_each(|undo| undo.changes.fill(0));
        self.changed.wake();
        Ok(())
    }

    /// Does all operations, or none: then it tells which one has to wait. `ERANGE`, `ENOMEM`.
    pub fn operate(&self, operations: &[Operation], pid: Pid) -> Result<core::result::Result<(), Obstacle>> {
        // The values of those that are named, as the operations so far would leave them.
        let mut values: BTreeMap<usize, i32> = BTreeMap::new();
        for operation in operations {
            let now = self.semaphores.borrow().get(operation.index).ok_or(Errno::EFBIG)?.value;
            let value = values.entry(operation.index).or_insert(now);
            let after = *value + operation.change;
            if (operation.change == 0 && *value != 0) || after < 0 {
                return Ok(Err(Obstacle { operation: *operation }));
            }
            if after > MAX_VALUE {
                return Err(Errno::ERANGE);
            }
            *value = after;
        }
        self.note_undo(operations, pid)?;
        for (index, value) in values {
            if let Some(semaphore) = self.semaphores.borrow_mut().get_mut(index) {
                (semaphore.value, semaphore.pid) = (value, pid);
            }
        }
        self.operated_s.set(now_s());
        if operations.iter().any(|operation| operation.change != 0) {
            self.changed.wake();
        }
        Ok(Ok(()))
    }

    fn note_undo(&self, operations: &[Operation], pid: Pid) -> Result<()> {
        if !operations.iter().any(|operation| operation.is_undone && operation.change != 0) {
            return Ok(());
        }
        let mut undo = self.undo.borrow_mut();
        let noted = match undo.entry(pid) {
            Entry::Occupied(noted) => noted.into_mut(),
            Entry::Vacant(place) => {
                let count = self.len();
                let charge = Charge::new(Budget::Names, UNDO_BYTES + 4 * count as u64)?;
                place.insert(Undo { changes: vec![0; count], _charge: charge })
            }
        };
        let undone = || operations.iter().filter(|operation| operation.is_undone);
        for (done, operation) in undone().enumerate() {
            if !noted.adjust(operation.index, -operation.change) {
                undone().take(done).for_each(|operation| {
                    noted.adjust(operation.index, operation.change);
                });
                return Err(Errno::ERANGE);
            }
        }
        Ok(())
    }

    /// Whether something may have to be taken back when a process ends.
    pub fn has_undo_of(&self, pid: Pid) -> bool {
        self.undo.borrow().contains_key(&pid)
    }

    /// The processes of which something may have to be taken back.
    pub fn undo_pids(&self) -> Vec<Pid> {
        self.undo.borrow().keys().copied().collect()
    }

    /// A process has ended: what it did with `SEM_UNDO` is taken back, as far as values allow.
    pub fn undo(&self, pid: Pid) {
        let Some(undo) = self.undo.borrow_mut().remove(&pid) else { return };
        for (semaphore, change) in self.semaphores.borrow_mut().iter_mut().zip(undo.changes) {
            if change != 0 {
                semaphore.value = (semaphore.value + change).clamp(0, MAX_VALUE);
                semaphore.pid = pid;
            }
        }
        self.changed.wake();
    }

    /// Counts a call that waits for an operation (`GETNCNT`, `GETZCNT`), or no longer does.
    pub fn count_waiting(&self, obstacle: Obstacle, waits: Waits) {
        let mut semaphores = self.semaphores.borrow_mut();
        let Some(semaphore) = semaphores.get_mut(obstacle.operation.index) else { return };
        let counter = if obstacle.operation.change == 0 {
            &mut semaphore.waiting_for_zero
        } else {
            &mut semaphore.waiting_for_more
        };
        *counter = match waits {
            Waits::Begin => counter.saturating_add(1),
            Waits::End => counter.saturating_sub(1),
        };
    }
}

/// Whether a call begins to wait or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It begins.
    Begin,
    /// It stops.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(index: usize, change: i32) -> Operation {
        Operation { index, change, is_impatient: false, is_undone: false }
    }

    #[test]
    fn operations_are_done_together_or_not_at_all() {
        let set = Semaphores::new(2).unwrap();
        let both = [operation(0, 1), operation(1, -1)];
        assert_eq!(set.operate(&both, 1), Ok(Err(Obstacle { operation: both[1] })));
        assert_eq!(set.values(), [0, 0]);
        set.set(1, 1, 1).unwrap();
        assert_eq!(set.operate(&both, 7), Ok(Ok(())));
        assert_eq!((set.values(), set.look(0).unwrap().1), (vec![1, 0], 7));
        assert_eq!(set.operate(&[operation(0, 0)], 1).unwrap().unwrap_err().operation.change, 0);
        assert_eq!(set.operate(&[operation(0, MAX_VALUE)], 1), Err(Errno::ERANGE));
        assert_eq!(set.operate(&[operation(2, 1)], 1), Err(Errno::EFBIG));
    }

    #[test]
    fn the_end_of_a_process_takes_back_what_it_did() {
        let set = Semaphores::new(1).unwrap();
        set.set(0, 3, 1).unwrap();
        let take = Operation { is_undone: true, ..operation(0, -2) };
        set.operate(&[take], 9).unwrap().unwrap();
        set.undo(8);
        assert_eq!(set.values(), [1]);
        set.undo(9);
        set.undo(9);
        assert_eq!(set.values(), [3]);
    }

    #[test]
    fn setting_a_value_forgets_what_would_be_undone() {
        let set = Semaphores::new(1).unwrap();
        set.operate(&[Operation { is_undone: true, ..operation(0, 5) }], 9).unwrap().unwrap();
        set.set(0, 2, 1).unwrap();
        set.undo(9);
        assert_eq!(set.values(), [2]);
    }

    #[test]
    fn what_is_taken_back_has_a_limit() {
        let set = Semaphores::new(2).unwrap();
        let undone = |index, change| Operation { is_undone: true, ..operation(index, change) };
        set.operate(&[undone(0, MAX_VALUE)], 9).unwrap().unwrap();
        set.operate(&[operation(0, -MAX_VALUE)], 9).unwrap().unwrap();
        assert_eq!(set.operate(&[undone(1, 1), undone(0, 2)], 9), Err(Errno::ERANGE));
        assert_eq!(set.values(), [0, 0]);
        set.set_all(&[5, 5], 1).unwrap();
        set.undo(9);
        assert_eq!(set.values(), [5, 5]);
    }
}
