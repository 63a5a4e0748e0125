//! Futexes (`futex(2)`): who waits at which word.
//!
//! * [`Futexes`] has the [lines] of those who wait for a wake-up.
//! * [`parking`] is how a thread waits that needs nothing but a wake-up.
//! * [`pi`] has the locks with an owner, `FUTEX_LOCK_PI` and its kin.
//! * [`word`] changes words in programs' memory.
//! * [`robust`] lets go what a dying thread holds.
//!
//! # Who looks at the word
//! A wait must not begin if the word has changed before a wake-up that has been already. The server looks at the word with a call
//! into the kernel; the shim can look for less, but what it saw may be old when the request comes. It is not too old as long as
//! nobody was woken at any word since the thread went back to its program the last time ([`Futexes::wakes`]): the shim looked after
//! that, and whoever changes the word from then on asks for the wake-up later, and finds the thread waiting. So the server
//! looks itself only if there were wakes meanwhile. A shim that lies about what it saw makes its own thread wait.

mod lines;
pub mod parking;
pub mod pi;
pub mod robust;
pub mod word;

use crate::platform::{Memory, PAGE_SIZE, random};
use crate::process::Thread;
use crate::vm::Vm;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use lines::{Choice, Lines, Place};

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
    place: Cell<(Word, Place)>,
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
pub struct Futexes {
    lines: RefCell<Lines<Rc<Waiter>>>,
    wakes: Cell<u64>,
    /// The locks that somebody waits for.
    pub locks: pi::Locks,
}

impl Default for Futexes {
    fn default() -> Self {
        let mut seed = [0; size_of::<u64>()];
        random(&mut seed);
        Self {
            lines: RefCell::new(Lines::new(u64::from_ne_bytes(seed))),
            wakes: Cell::new(0),
            locks: pi::Locks::default(),
        }
    }
}

/// Waiters that were taken out of a line: most often one.
#[derive(Default)]
struct Taken {
    first: Option<Rc<Waiter>>,
    rest: Vec<Rc<Waiter>>,
}

impl Taken {
    fn push(&mut self, waiter: Rc<Waiter>) {
        match &self.first {
            None => self.first = Some(waiter),
            Some(_) => self.rest.push(waiter),
        }
    }
}

impl IntoIterator for Taken {
    type Item = Rc<Waiter>;
    type IntoIter = core::iter::Chain<core::option::IntoIter<Rc<Waiter>>, alloc::vec::IntoIter<Rc<Waiter>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
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
        let place = Cell::new((word, Place::NOWHERE));
        let waiter =
            Rc::new(Waiter { _alive: Default::default(), bits, place, is_woken: Cell::new(false), claim, told });
        self.line_up(&waiter, word);
        waiter
    }

    fn line_up(&self, waiter: &Rc<Waiter>, word: Word) {
        let place = self.lines.borrow_mut().push(word, waiter.clone());
        waiter.place.set((word, place));
    }

    /// Ceases to wait, wherever the waiter was moved to.
    pub fn leave(&self, waiter: &Waiter) {
        let (_, place) = waiter.place.get();
        let left = self.lines.borrow_mut().leave(place);
        drop(left);
    }

    /// How often somebody was to be woken or moved, whether anybody waited there or not.
    pub fn wakes(&self) -> u64 {
        self.wakes.get()
    }

    /// Takes up to `count` of those at a word whose bits meet `bits` out of the line, and calls `each` with them; returns how many.
    /// `None` if one of them waits to be moved to a lock: it stays, and those behind it.
    fn take(&self, word: Word, count: u32, bits: u32, each: impl Fn(Rc<Waiter>)) -> Option<u32> {
        self.wakes.set(self.wakes.get().wrapping_add(1));
        let (mut taken, mut number, mut is_claimed) = (Taken::default(), 0, false);
        let choose = |waiter: &Rc<Waiter>| {
            if number == count {
                return Choice::Stop;
            }
            if waiter.bits & bits == 0 {
                return Choice::Pass;
            }
            is_claimed = waiter.claim.is_some();
            if is_claimed {
                return Choice::Stop;
            }
            number += 1;
            Choice::Take
        };
        self.lines.borrow_mut().take(word, choose, |waiter| taken.push(waiter));
        taken.into_iter().for_each(each);
        (!is_claimed).then_some(number)
    }

    /// Wakes up to `count` of those at a word whose bits meet `bits`; returns how many. Who waits to be moved to a lock can't
    /// be woken (`None`).
    pub fn wake(&self, word: Word, count: u32, bits: u32) -> Option<u32> {
        self.take(word, count, bits, |waiter| waiter.wake())
    }

    /// Moves up to `count` of those at a word to another; returns how many. `None` if one waits to be moved to a lock.
    pub fn requeue(&self, from: Word, to: Word, count: u32) -> Option<u32> {
        self.take(from, count, u32::MAX, |waiter| self.line_up(&waiter, to))
    }

    /// The first of those who wait to be moved to a lock, with its claim.
    fn first_claim(&self, word: Word) -> Option<(Rc<Waiter>, Option<pi::Claim>)> {
        self.lines.borrow().first(word).map(|waiter| (waiter.clone(), waiter.claim.clone()))
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
    fn a_wake_counts_also_if_nobody_waits() {
        let futexes = Futexes::default();
        let before = futexes.wakes();
        assert_eq!((futexes.wake(ONE, 1, u32::MAX), futexes.requeue(ONE, TWO, 1)), (Some(0), Some(0)));
        assert_eq!(futexes.wakes(), before + 2);
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
