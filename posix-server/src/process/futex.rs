//! Futexes (`futex(2)`): who waits at which word.

use crate::platform::PAGE_SIZE;
use crate::vm::{Content, Vm};
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, VecDeque};
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
        match &area.content {
            Content::SharedAnonymous(memory, offset) => Self::Shared { memory: memory.id(), offset: offset + within },
            Content::File(file, offset) => Self::Shared { memory: file.memory.id(), offset: offset + within },
            Content::Anonymous | Content::Heap | Content::Stack => private,
        }
    }
}

/// Somebody who waits.
pub struct Waiter {
    bits: u32,
    is_woken: Cell<bool>,
    /// Woken with it.
    pub queue: WaitQueue,
}

impl Waiter {
    /// Whether it was woken.
    pub fn is_woken(&self) -> bool {
        self.is_woken.get()
    }
}

/// All words that somebody waits at.
#[derive(Default)]
pub struct Futexes(RefCell<BTreeMap<Word, VecDeque<Rc<Waiter>>>>);

impl Futexes {
    /// Begins to wait.
    pub fn enter(&self, word: Word, bits: u32) -> Rc<Waiter> {
        let waiter = Rc::new(Waiter { bits, is_woken: Cell::new(false), queue: WaitQueue::new() });
        self.0.borrow_mut().entry(word).or_default().push_back(waiter.clone());
        waiter
    }

    /// Ceases to wait. A waiter that was moved to another word is found there.
    pub fn leave(&self, word: Word, waiter: &Rc<Waiter>) {
        let mut words = self.0.borrow_mut();
        let place = if words.get(&word).is_some_and(|queue| queue.iter().any(|other| Rc::ptr_eq(other, waiter))) {
            Some(word)
        } else {
            words.iter().find(|(_, queue)| queue.iter().any(|other| Rc::ptr_eq(other, waiter))).map(|(word, _)| *word)
        };
        if let Some(place) = place
            && let Some(queue) = words.get_mut(&place)
        {
            queue.retain(|other| !Rc::ptr_eq(other, waiter));
            if queue.is_empty() {
                words.remove(&place);
            }
        }
    }

    /// Wakes up to `count` of those at a word whose bits meet `bits`; returns how many.
    pub fn wake(&self, word: Word, count: u32, bits: u32) -> u32 {
        let mut woken = 0;
        while woken < count {
            let Some(waiter) = self.take(word, bits) else { break };
            waiter.is_woken.set(true);
            waiter.queue.wake();
            woken += 1;
        }
        woken
    }

    fn take(&self, word: Word, bits: u32) -> Option<Rc<Waiter>> {
        let mut words = self.0.borrow_mut();
        let queue = words.get_mut(&word)?;
        let position = queue.iter().position(|waiter| waiter.bits & bits != 0)?;
        let waiter = queue.remove(position);
        if queue.is_empty() {
            words.remove(&word);
        }
        waiter
    }

    /// Moves up to `count` of those at a word to another; returns how many.
    pub fn requeue(&self, from: Word, to: Word, count: u32) -> u32 {
        let mut moved = 0;
        while moved < count {
            let Some(waiter) = self.take(from, u32::MAX) else { break };
            self.0.borrow_mut().entry(to).or_default().push_back(waiter);
            moved += 1;
        }
        moved
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
        let waiters = [1, 2, 1].map(|bits| futexes.enter(ONE, bits));
        assert_eq!(futexes.wake(ONE, 1, u32::MAX), 1);
        assert_eq!(waiters.each_ref().map(|waiter| waiter.is_woken()), [true, false, false]);
        assert_eq!(futexes.wake(ONE, 5, 1), 1, "bits choose");
        assert_eq!(futexes.wake(TWO, 5, u32::MAX), 0);
        futexes.leave(ONE, &waiters[1]);
        assert_eq!(futexes.wake(ONE, 5, u32::MAX), 0);
    }

    #[test]
    fn who_was_moved_is_woken_at_the_new_place() {
        let futexes = Futexes::default();
        let waiter = futexes.enter(ONE, u32::MAX);
        assert_eq!(futexes.requeue(ONE, TWO, 1), 1);
        assert_eq!(futexes.wake(ONE, 1, u32::MAX), 0);
        futexes.leave(ONE, &waiter);
        assert_eq!(futexes.wake(TWO, 1, u32::MAX), 0, "found at its new place");
    }
}
