//! Who waits for whose record lock: what a deadlock is found by (`fcntl(2)`, `EDEADLK`).

use super::Inode;
use super::locks::{Lock, Owner};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How far a chain of waiters is followed, as in Linux: longer ones are not looked at.
const MAX_CHAIN: usize = 10;

struct Wait {
    number: u64,
    lock: Lock,
    inode: Rc<Inode>,
}

/// Everybody who waits for a record lock.
#[derive(Default)]
pub struct LockWaits {
    waits: RefCell<Vec<Wait>>,
    next_number: Cell<u64>,
}

/// Somebody who waits, as long as it lives.
pub struct Waiting {
    waits: Rc<LockWaits>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = {
            let mut waits = self.waits.waits.borrow_mut();
            waits.iter().position(|wait| wait.number == self.number).map(|index| waits.swap_remove(index))
        };
        // It may hold the last reference to its file.
        drop(left);
    }
}

impl LockWaits {
    /// Notes that somebody waits for a lock.
    pub fn enter(self: &Rc<Self>, lock: Lock, inode: &Rc<Inode>) -> Waiting {
        let number = self.next_number.get();
        self.next_number.set(number.wrapping_add(1));
        self.waits.borrow_mut().push(Wait { number, lock, inode: inode.clone() });
        Waiting { waits: self.clone(), number }
    }

    /// Whether who wants a lock would wait for somebody who waits, maybe through others, for it. Locks of open files have
    /// no owner who could wait, so that they take no part.
    pub fn is_deadlock(&self, lock: &Lock, inode: &Inode) -> bool {
        let mut blocker = inode.locks().conflict(lock).map(|held| held.owner);
        for _ in 0..MAX_CHAIN {
            match blocker {
                Some(Owner::Process(_)) if blocker == Some(lock.owner) => return true,
                Some(owner @ Owner::Process(_)) => blocker = self.blocker_of(owner),
                Some(Owner::File(_)) | None => return false,
            }
        }
        false
    }

    /// Who has what an owner waits for.
    fn blocker_of(&self, owner: Owner) -> Option<Owner> {
        let waits = self.waits.borrow();
        let wait = waits.iter().find(|wait| wait.lock.owner == owner)?;
        wait.inode.locks().conflict(&wait.lock).map(|held| held.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::locks::LockKind;

    fn lock(pid: i32, byte: u64) -> Lock {
        Lock { owner: Owner::Process(pid), kind: LockKind::Exclusive, start: byte, end: byte + 1 }
    }

    #[test]
    fn a_circle_of_waiters_is_found_and_a_chain_is_none() {
        let (waits, inode) = (Rc::new(LockWaits::default()), Inode::anonymous_for_tests());
        for pid in 1..=3 {
            inode.locks().lock(lock(pid, pid as u64)).unwrap();
        }
        let first = waits.enter(lock(1, 2), &inode);
        let second = waits.enter(lock(2, 3), &inode);
        assert!(waits.is_deadlock(&lock(3, 1), &inode));
        assert!(!waits.is_deadlock(&lock(4, 1), &inode));
        drop(second);
        assert!(!waits.is_deadlock(&lock(3, 1), &inode));
        drop(first);
        assert!(waits.waits.borrow().is_empty());
    }
}
