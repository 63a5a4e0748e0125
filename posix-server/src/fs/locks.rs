//! Advisory locks of one file: record locks (`fcntl(2)`) and whole-file locks (`flock(2)`), which don't see each other.

use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::wait::WaitQueue;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process: its locks go when it closes any descriptor of the file.
    Process(Pid),
    /// An open file, by its number: its locks go with it.
    File(u64),
}

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may have shared locks too.
    Shared,
    /// Nobody else has a lock.
    Exclusive,
}

/// A lock on the bytes from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it.
    pub owner: Owner,
    /// What it allows others.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// The byte after the last; `u64::MAX` for all that there will be.
    pub end: u64,
}

impl Lock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn conflicts(&self, other: &Self) -> bool {
        let exclusive = self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive;
        self.owner != other.owner && exclusive && self.overlaps(other)
    }
}

/// What a record lock takes of the server's memory, in bytes, with room to grow.
const LOCK_BYTES: u64 = 2 * size_of::<Lock>() as u64;

/// The locks of one file.
#[derive(Debug)]
pub struct Locks {
    records: RefCell<Vec<Lock>>,
    whole: RefCell<Vec<(u64, LockKind)>>,
    changed: WaitQueue,
    /// Pays for the record locks.
    charge: RefCell<Charge>,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            records: RefCell::default(),
            whole: RefCell::default(),
            changed: WaitQueue::new(),
            charge: RefCell::new(Charge::none(Budget::Open)),
        }
    }
}

impl Locks {
    /// What is woken when a lock goes.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// A record lock that is in the way of another.
    pub fn conflict(&self, wanted: &Lock) -> Option<Lock> {
        self.records.borrow().iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// Takes a record lock, in place of what its owner holds in the range. `EAGAIN` if another is in the way; `ENOLCK` if
    /// the server keeps too much already.
    pub fn lock(&self, wanted: Lock) -> Result<()> {
        if self.conflict(&wanted).is_some() {
            return Err(Errno::EAGAIN);
        }
        self.reserve()?;
        self.unlock(wanted.owner, wanted.start, wanted.end);
        let mut records = self.records.borrow_mut();
        // Neighbours of the same kind become one.
        let joins = |held: &Lock| {
            held.owner == wanted.owner
                && held.kind == wanted.kind
                && (held.end == wanted.start || wanted.end == held.start)
        };
        let neighbours: Vec<Lock> = records.extract_if(.., |held| joins(held)).collect();
        let start = neighbours.iter().map(|held| held.start).min().unwrap_or(wanted.start).min(wanted.start);
        let end = neighbours.iter().map(|held| held.end).max().unwrap_or(wanted.end).max(wanted.end);
        let index = records.partition_point(|held| held.start < start);
        records.insert(index, Lock { start, end, ..wanted });
        Ok(())
    }

    /// Pays for the two locks that a change may add.
    fn reserve(&self) -> Result<()> {
        const ADDED: u64 = 2;
        let count = self.records.borrow().len() as u64 + ADDED;
        self.charge.borrow_mut().resize(count * LOCK_BYTES).map_err(|_| Errno::ENOLCK)
    }

    /// Gives back what an owner holds in a range, which may leave one lock more: two ends.
    pub fn unlock(&self, owner: Owner, start: u64, end: u64) {
        let mut records = self.records.borrow_mut();
        let mut rest = Vec::new();
        for held in records.drain(..) {
            if held.owner != owner || held.end <= start || end <= held.start {
                rest.push(held);
                continue;
            }
            let before = Lock { end: start, ..held };
            let after = Lock { start: end, ..held };
            rest.extend([before, after].into_iter().filter(|part| part.start < part.end));
        }
        rest.sort_by_key(|held| held.start);
        *records = rest;
        drop(records);
        self.changed.wake();
    }

    /// Takes a whole-file lock for an open file, in place of the one it has. `false`: somebody is in the way.
    pub fn lock_whole(&self, file: u64, kind: LockKind) -> bool {
        let mut whole = self.whole.borrow_mut();
        let blocks = |(owner, held): &(u64, LockKind)| {
            *owner != file && (*held == LockKind::Exclusive || kind == LockKind::Exclusive)
        };
        if whole.iter().any(blocks) {
            return false;
        }
        whole.retain(|(owner, _)| *owner != file);
        whole.push((file, kind));
        drop(whole);
        self.changed.wake();
        true
    }

    /// Gives an open file's whole-file lock back.
    pub fn unlock_whole(&self, file: u64) {
        self.whole.borrow_mut().retain(|(owner, _)| *owner != file);
        self.changed.wake();
    }

    /// An open file is gone.
    pub fn release_file(&self, file: u64) {
        self.unlock_whole(file);
        self.unlock(Owner::File(file), 0, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(pid: Pid, kind: LockKind, start: u64, end: u64) -> Lock {
        Lock { owner: Owner::Process(pid), kind, start, end }
    }

    #[test]
    fn shared_locks_go_together_and_exclusive_ones_do_not() {
        let locks = Locks::default();
        locks.lock(lock(1, LockKind::Shared, 0, 10)).unwrap();
        locks.lock(lock(2, LockKind::Shared, 5, 15)).unwrap();
        assert_eq!(locks.lock(lock(3, LockKind::Exclusive, 9, 10)), Err(Errno::EAGAIN));
        assert_eq!(locks.conflict(&lock(3, LockKind::Exclusive, 9, 10)).unwrap().owner, Owner::Process(1));
        locks.lock(lock(3, LockKind::Exclusive, 15, 20)).unwrap();
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let locks = Locks::default();
        locks.lock(lock(1, LockKind::Exclusive, 0, 30)).unwrap();
        locks.unlock(Owner::Process(1), 10, 20);
        assert_eq!(locks.conflict(&lock(2, LockKind::Shared, 10, 20)), None);
        assert!(locks.conflict(&lock(2, LockKind::Shared, 0, 11)).is_some());
        assert!(locks.conflict(&lock(2, LockKind::Shared, 19, 21)).is_some());
    }

    #[test]
    fn neighbours_of_the_same_kind_become_one() {
        let locks = Locks::default();
        locks.lock(lock(1, LockKind::Exclusive, 0, 10)).unwrap();
        locks.lock(lock(1, LockKind::Exclusive, 20, 30)).unwrap();
        locks.lock(lock(1, LockKind::Exclusive, 10, 20)).unwrap();
        let held = locks.conflict(&lock(2, LockKind::Shared, 25, 26)).unwrap();
        assert_eq!((held.start, held.end), (0, 30));
        assert_eq!(locks.records.borrow().len(), 1);
    }

    #[test]
    fn an_owner_converts_its_own_lock() {
        let locks = Locks::default();
        locks.lock(lock(1, LockKind::Shared, 0, 10)).unwrap();
        locks.lock(lock(1, LockKind::Exclusive, 0, 10)).unwrap();
        assert!(locks.conflict(&lock(2, LockKind::Shared, 0, 1)).is_some());
    }

    #[test]
    fn whole_file_locks_belong_to_open_files() {
        let locks = Locks::default();
        assert!(locks.lock_whole(1, LockKind::Shared) && locks.lock_whole(2, LockKind::Shared));
        assert!(!locks.lock_whole(1, LockKind::Exclusive));
        locks.release_file(2);
        assert!(locks.lock_whole(1, LockKind::Exclusive));
    }
}
