//! Futexes (`futex(2)`): who waits at which word.
//!
//! * [`Futexes`] has the lines of those who wait for a wake-up.
//! * [`parking`] is how a thread waits that needs nothing but a wake-up.
//! * [`pi`] has the locks with an owner, `FUTEX_LOCK_PI` and its kin.
//! * [`word`] changes words in programs' memory.
//! * [`robust`] lets go what a dying thread holds.

pub mod parking;
pub mod pi;
pub mod robust;
pub mod word;

use crate::platform::{Memory, PAGE_SIZE};
use crate::process::Thread;
use crate::vm::Vm;
use crate::wait::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// Names a word of memory, whatever it is mapped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// In one space only.
    Private {
        /// The space.
        space: u64,
        /// The address.
        address: u64,
    },
    /// In a memory.
    Shared {
        /// The memory.
        memory: u64,
        /// Where in it.
        offset: u64,
    },
}

/// Which words a wait or wake names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `FUTEX_PRIVATE_FLAG`: those of the space.
    Private,
    /// Those of shared mappings too.
    Any,
}

impl Word {
    /// The word at an address.
    pub fn at(vm: &Vm, address: u64, scope: Scope) -> Self {
        let private = Self::Private { space: vm.space().id(), address };
        if scope == Scope::Private {
            return private;
        }
        let Some(area) = vm.area_at(address).filter(|area| area.sharing == crate::platform::Sharing::Shared) else {
            return private;
        };
        let within = address - area.start;
        let shared = |(memory, offset): (&Memory, u64)| Self::Shared { memory: memory.id(), offset: offset + within };
        area.content.memory().map_or(private, shared)
    }
}

/// Somebody who waits at a word.
pub struct Waiter {
    bits: u32,
    /// Where it waits now (`FUTEX_REQUEUE` moves it), and its place there.
    place: Cell<(Word, u64)>,
    is_woken: Cell<bool>,
    /// `FUTEX_WAIT_REQUEUE_PI`: it is to be made to wait for a lock.
    claim: Option<pi::Claim>,
    told: Told,
    _alive: crate::census::counted::FutexWaiter,
}

/// Who hears of a wake-up.
enum Told {
    /// A task, which goes on by itself.
    Queue(WaitQueue),
    /// A thread that has no task: it is answered.
    Parked(Rc<Thread>),
}

impl Waiter {
    /// Whether it was woken.
    pub fn is_woken(&self) -> bool {
        self.is_woken.get()
    }

    /// Where it waits.
    pub fn word(&self) -> Word {
        self.place.get().0
    }

    fn wake(&self) {
        self.is_woken.set(true);
        match &self.told {
            Told::Queue(queue) => queue.wake(),
            Told::Parked(thread) => parking::woken(thread),
        }
    }
}

/// All words that somebody waits at.
#[derive(Default)]
pub struct Futexes {
    /// Those who wait at a word are neighbours, in the order in which they came.
    lines: RefCell<BTreeMap<(Word, u64), Rc<Waiter>>>,
    next_place: Cell<u64>,
    /// The locks that somebody waits for.
    pub locks: pi::Locks,
}

impl Futexes {
    /// Begins to wait. The queue is woken when that ends, and may be the same for several words.
    pub fn enter(&self, word: Word, bits: u32, queue: &WaitQueue) -> Rc<Waiter> {
        self.enter_with(word, bits, Told::Queue(queue.clone()), None)
    }

    /// The same for who is to be moved to a lock, and hears of that from the claim's candidate.
    pub fn enter_for_lock(&self, word: Word, bits: u32, claim: pi::Claim) -> Rc<Waiter> {
        self.enter_with(word, bits, Told::Queue(WaitQueue::new()), Some(claim))
    }

    fn enter_with(&self, word: Word, bits: u32, told: Told, claim: Option<pi::Claim>) -> Rc<Waiter> {
        let place = Cell::new((word, 0));
        let waiter =
            Rc::new(Waiter { _alive: Default::default(), bits, place, is_woken: Cell::new(false), claim, told });
        self.line_up(&waiter, word);
        waiter
    }

    fn line_up(&self, waiter: &Rc<Waiter>, word: Word) {
        let number = self.next_place.get();
        self.next_place.set(number.wrapping_add(1));
        waiter.place.set((word, number));
        self.lines.borrow_mut().insert((word, number), waiter.clone());
    }

    /// Ceases to wait, wherever the waiter was moved to.
    pub fn leave(&self, waiter: &Waiter) {
        let left = self.lines.borrow_mut().remove(&waiter.place.get());
        drop(left);
    }

    /// Wakes up to `count` of those at a word whose bits meet `bits`; returns how many. Who waits to be moved to a lock can't
    /// be woken (`None`).
    pub fn wake(&self, word: Word, count: u32, bits: u32) -> Option<u32> {
        let (mut woken, mut from) = (0, 0);
        while woken < count {
            let Some(waiter) = self.first(word, from, bits) else { break };
            if waiter.claim.is_some() {
                return None;
            }
            from = waiter.place.get().1.saturating_add(1);
            self.leave(&waiter);
            waiter.wake();
            woken += 1;
        }
        Some(woken)
    }

    /// The first at a word, from a place on, whose bits meet `bits`.
    fn first(&self, word: Word, from: u64, bits: u32) -> Option<Rc<Waiter>> {
        let lines = self.lines.borrow();
        let mut line = lines.range((word, from)..=(word, u64::MAX));
        line.find(|(_, waiter)| waiter.bits & bits != 0).map(|(_, waiter)| waiter.clone())
    }

    /// Moves up to `count` of those at a word to another; returns how many. `None` if one waits to be moved to a lock.
    pub fn requeue(&self, from: Word, to: Word, count: u32) -> Option<u32> {
        let mut moved = 0;
        // Who is moved to where it was stands last then, and must not be met again.
        let end = self.next_place.get();
        while moved < count {
            let Some(waiter) = self.first(from, 0, u32::MAX).filter(|waiter| waiter.place.get().1 < end) else { break };
            if waiter.claim.is_some() {
                return None;
            }
            self.leave(&waiter);
            self.line_up(&waiter, to);
            moved += 1;
        }
        Some(moved)
    }

    /// The first of those who wait to be moved to a lock, with its claim.
    fn first_claim(&self, word: Word) -> Option<(Rc<Waiter>, Option<pi::Claim>)> {
        self.first(word, 0, u32::MAX).map(|waiter| (waiter.clone(), waiter.claim.clone()))
    }
}

/// Whether a futex can be at an address.
pub fn is_aligned(address: u64) -> bool {
    address.is_multiple_of(4) && address % PAGE_SIZE <= PAGE_SIZE - 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Word = Word::Private { space: 1, address: 4 };
    const TWO: Word = Word::Private { space: 1, address: 8 };

    #[test]
    fn the_first_to_come_is_the_first_to_be_woken() {
        let futexes = Futexes::default();
        let waiters = [1, 2, 1].map(|bits| futexes.enter(ONE, bits, &WaitQueue::new()));
        assert_eq!(futexes.wake(ONE, 1, u32::MAX), Some(1));
        assert_eq!(waiters.each_ref().map(|waiter| waiter.is_woken()), [true, false, false]);
        assert_eq!(futexes.wake(ONE, 5, 1), Some(1), "bits choose");
        assert_eq!(futexes.wake(TWO, 5, u32::MAX), Some(0));
        futexes.leave(&waiters[1]);
        assert_eq!(futexes.wake(ONE, 5, u32::MAX), Some(0));
        assert!(futexes.lines.borrow().is_empty());
    }

    #[test]
    fn who_was_moved_is_woken_at_the_new_place() {
        let futexes = Futexes::default();
        let waiters = [0, 1].map(|_| futexes.enter(ONE, u32::MAX, &WaitQueue::new()));
        assert_eq!(futexes.requeue(ONE, TWO, 1), Some(1));
        assert_eq!(futexes.wake(TWO, 5, u32::MAX), Some(1));
        assert_eq!(waiters.each_ref().map(|waiter| waiter.is_woken()), [true, false]);
        assert_eq!(futexes.requeue(ONE, ONE, 9), Some(1), "to where it was, once");
        futexes.leave(&waiters[1]);
        assert!(futexes.lines.borrow().is_empty());
    }
}
