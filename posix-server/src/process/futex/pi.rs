//! Locks with an owner (`FUTEX_LOCK_PI` and its kin): the word in memory has the owner's thread id, so that taking a free lock
//! and letting go one that nobody waits for needs no system. The system knows a lock only while somebody waits for it.
//!
//! 1. Who finds a lock taken sets [`WAITERS`] and stands in [`Locks`], in the order of priorities and then of arrival.
//! 2. Who lets it go hands it to the first in line: the word gets that thread's id before the thread is woken.
//! 3. If the owner ends, the first in line gets the lock, with [`OWNER_DIED`] in the word.

use super::word::{self, OWNER_DIED, TID_MASK, WAITERS, update};
use super::{Futexes, Word};
use crate::errno::{Errno, Result};
use crate::process::{Pid, Thread};
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::cmp::Reverse;

/// How many owners are followed when one waits for the other, in search of a circle (`max_lock_depth`).
const MAX_DEPTH: usize = 1024;

/// How far somebody is who wants a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not in line.
    Apart,
    /// In line.
    Waiting,
    /// It has the lock.
    Owner,
    /// It can't have it.
    Failed(Errno),
}

/// Somebody who wants a lock.
pub struct Candidate {
    thread: Rc<Thread>,
    /// Where it has the word.
    address: u64,
    progress: Cell<Progress>,
    place: Cell<Option<(Word, Place)>>,
    /// Woken when its progress changes.
    pub queue: WaitQueue,
}

impl Candidate {
    /// Somebody who wants the lock that it has at an address.
    pub fn new(thread: &Rc<Thread>, address: u64) -> Rc<Self> {
        Rc::new(Self {
            thread: thread.clone(),
            address,
            progress: Cell::new(Progress::Apart),
            place: Cell::new(None),
            queue: WaitQueue::new(),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    fn tell(&self, progress: Progress) {
        self.progress.set(progress);
        self.queue.wake();
    }
}

/// What a waiter of `FUTEX_WAIT_REQUEUE_PI` is to be moved to.
#[derive(Clone)]
pub struct Claim {
    /// The lock.
    pub word: Word,
    /// Who is to have it.
    pub candidate: Rc<Candidate>,
}

/// First those of a high priority, then those who came first.
type Place = (Reverse<u8>, u64);

struct Lock {
    owner: Pid,
    line: BTreeMap<Place, Rc<Candidate>>,
}

/// Locks that somebody waits for.
#[derive(Default)]
pub struct Locks {
    locks: RefCell<BTreeMap<Word, Lock>>,
    owned: RefCell<BTreeMap<Pid, BTreeSet<Word>>>,
    /// What each thread waits for.
    waiting: RefCell<BTreeMap<Pid, Word>>,
    next_place: Cell<u64>,
}

/// Whether somebody who finds a lock taken stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It does.
    Wait,
    /// It gives up: `EAGAIN`.
    GiveUp,
}

impl Locks {
    fn owner(&self, word: Word) -> Option<Pid> {
        self.locks.borrow().get(&word).map(|lock| lock.owner)
    }

    /// Whether a thread waits, over any number of owners, for what another has.
    fn is_circle(&self, owner: Pid, candidate: Pid) -> bool {
        let mut owner = owner;
        for _ in 0..MAX_DEPTH {
            if owner == candidate {
                return true;
            }
            let next = self.waiting.borrow().get(&owner).copied().and_then(|word| self.owner(word));
            match next {
                Some(next) => owner = next,
                None => return false,
            }
        }
        true
    }

    /// Takes the lock for somebody, or puts it in line.
    ///
    /// `EDEADLK` if that would wait for itself, `ESRCH` if the owner is gone, `EINVAL` if word and system disagree, `EFAULT`, `EAGAIN`.
    pub fn acquire(&self, word: Word, candidate: &Rc<Candidate>, if_taken: IfTaken) -> Result<()> {
        let thread = &candidate.thread;
        let known_owner = self.owner(word);
        let taken = |now: u32| now & OWNER_DIED | thread.tid as u32;
        let change = |now: u32| match known_owner {
            None if now & TID_MASK == 0 => taken(now),
            None | Some(_) => now,
        };
        let before = update(thread, candidate.address, change)?;
        let owner = (before & TID_MASK) as Pid;
        if known_owner.is_none() && owner == 0 {
            candidate.tell(Progress::Owner);
            return Ok(());
        }
        if known_owner.is_some_and(|known| known != owner) {
            return Err(Errno::EINVAL);
        }
        if self.is_circle(owner, thread.tid) {
            return Err(Errno::EDEADLK);
        }
        thread.server().thread(owner).ok_or(Errno::ESRCH)?;
        if if_taken == IfTaken::GiveUp {
            return Err(Errno::EAGAIN);
        }
        let still = |now: u32| if now & TID_MASK == owner as u32 { now | WAITERS } else { now };
        if update(thread, candidate.address, still)? & TID_MASK != owner as u32 {
            // It has been let go in the meantime.
            return self.acquire(word, candidate, if_taken);
        }
        self.line_up(word, owner, candidate);
        Ok(())
    }

    fn line_up(&self, word: Word, owner: Pid, candidate: &Rc<Candidate>) {
        let number = self.next_place.get();
        self.next_place.set(number.wrapping_add(1));
        let place = (Reverse(candidate.thread.rank()), number);
        candidate.place.set(Some((word, place)));
        candidate.progress.set(Progress::Waiting);
        self.waiting.borrow_mut().insert(candidate.thread.tid, word);
        let mut locks = self.locks.borrow_mut();
        let lock = locks.entry(word).or_insert_with(|| Lock { owner, line: BTreeMap::new() });
        lock.line.insert(place, candidate.clone());
        self.owned.borrow_mut().entry(owner).or_default().insert(word);
    }

    /// Somebody no longer wants a lock.
    pub fn leave(&self, candidate: &Candidate) {
        let Some((word, place)) = candidate.place.take() else { return };
        self.waiting.borrow_mut().remove(&candidate.thread.tid);
        let removed = self.locks.borrow_mut().get_mut(&word).and_then(|lock| lock.line.remove(&place));
        self.forget_if_free(word);
        drop(removed);
    }

    fn forget_if_free(&self, word: Word) {
        let mut locks = self.locks.borrow_mut();
        if let Some(owner) = locks.get(&word).filter(|lock| lock.line.is_empty()).map(|lock| lock.owner) {
            locks.remove(&word);
            self.disown(owner, word);
        }
    }

    fn disown(&self, owner: Pid, word: Word) {
        let mut owned = self.owned.borrow_mut();
        if let Some(words) = owned.get_mut(&owner) {
            words.remove(&word);
            if words.is_empty() {
                owned.remove(&owner);
            }
        }
    }

    /// Lets a lock go. `EPERM` if the caller does not have it, `EINVAL` if word and system disagree, `EFAULT`, `EAGAIN`.
    pub fn release(&self, word: Word, thread: &Thread, address: u64) -> Result<()> {
        let now = word::read(thread, address)?;
        if now & TID_MASK != thread.tid as u32 {
            return Err(Errno::EPERM);
        }
        match self.owner(word) {
            None => {
                let is_own = |now: u32| now & TID_MASK == thread.tid as u32;
                update(thread, address, |now| if is_own(now) { 0 } else { now }).map(drop)
            }
            Some(owner) if owner != thread.tid => Err(Errno::EINVAL),
            Some(_) => {
                self.hand_over(word, 0);
                Ok(())
            }
        }
    }

    /// Makes the first in line the owner, with these bits in the word; one that has lost the word is passed over.
    fn hand_over(&self, word: Word, bits: u32) {
        while let Some(first) = self.take_first(word) {
            let wanted = first.thread.tid as u32 | WAITERS | bits;
            if update(&first.thread, first.address, |_| wanted).is_ok() {
                self.set_owner(word, first.thread.tid);
                first.tell(Progress::Owner);
                break;
            }
            first.tell(Progress::Failed(Errno::EFAULT));
        }
        self.forget_if_free(word);
    }

    fn take_first(&self, word: Word) -> Option<Rc<Candidate>> {
        let (_, first) = self.locks.borrow_mut().get_mut(&word)?.line.pop_first()?;
        first.place.set(None);
        self.waiting.borrow_mut().remove(&first.thread.tid);
        Some(first)
    }

    fn set_owner(&self, word: Word, owner: Pid) {
        let old = self.locks.borrow_mut().get_mut(&word).map(|lock| core::mem::replace(&mut lock.owner, owner));
        if let Some(old) = old {
            self.disown(old, word);
            self.owned.borrow_mut().entry(owner).or_default().insert(word);
        }
    }

    fn owned_by(&self, owner: Pid) -> BTreeSet<Word> {
        self.owned.borrow().get(&owner).cloned().unwrap_or_default()
    }
}

/// Hands the locks of a thread that ends to those who wait for them.
pub fn owner_ended(thread: &Thread) {
    let locks = &thread.server().futexes.locks;
    for word in locks.owned_by(thread.tid) {
        locks.hand_over(word, OWNER_DIED);
    }
}

impl Futexes {
    /// Makes those who wait at a word to be moved to a lock wait for that lock, or have it; up to `count` beside the first.
    /// Returns how many. `EINVAL` if somebody else waits there, or for another lock.
    pub fn requeue_to_lock(&self, from: Word, to: Word, count: u32) -> Result<u32> {
        let mut moved = 0;
        while moved <= count {
            let Some((waiter, claim)) = self.first_claim(from) else { break };
            let claim = claim.filter(|claim| claim.word == to).ok_or(Errno::EINVAL)?;
            self.locks.acquire(to, &claim.candidate, IfTaken::Wait)?;
            self.leave(&waiter);
            moved += 1;
        }
        Ok(moved)
    }
}
