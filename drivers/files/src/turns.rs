//! Turns at something that many may use together, or one alone; in the order of asking.

use crate::signal::Signal;
use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};

/// How somebody uses what the turns are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Together with others who share.
    Shared,
    /// Alone.
    Exclusive,
}

/// Who has a turn, and who waits for one.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    /// How many share it.
    shared: Cell<u64>,
    is_taken: Cell<bool>,
    changed: Signal,
}

impl Turns {
    /// Waits for a turn. Nobody who asks later has one before, unless both share.
    pub async fn take(&self, how: Use) -> Turn<'_> {
        let place = Place::at_the_end(self);
        self.changed.until(|| (place.is_first() && self.is_free_for(how)).then_some(())).await;
        match how {
            Use::Shared => self.shared.set(self.shared.get() + 1),
            Use::Exclusive => self.is_taken.set(true),
        }
        // The next one may share it.
        drop(place);
        Turn { turns: self, how }
    }

    fn is_free_for(&self, how: Use) -> bool {
        !self.is_taken.get() && (how == Use::Shared || self.shared.get() == 0)
    }
}

/// A place in the line.
struct Place<'a> {
    turns: &'a Turns,
    number: u64,
}

impl<'a> Place<'a> {
    fn at_the_end(turns: &'a Turns) -> Self {
        let number = turns.next.get();
        turns.next.set(number.wrapping_add(1));
        turns.waiting.borrow_mut().push_back(number);
        Self { turns, number }
    }

    fn is_first(&self) -> bool {
        self.turns.waiting.borrow().front() == Some(&self.number)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.waiting.borrow_mut().retain(|number| *number != self.number);
        self.turns.changed.raise();
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    how: Use,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match self.how {
            Use::Shared => self.turns.shared.set(self.turns.shared.get().saturating_sub(1)),
            Use::Exclusive => self.turns.is_taken.set(false),
        }
        self.turns.changed.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll};

    fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(core::task::Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_shares_waits_for_an_exclusive_turn_that_was_asked_for_before() {
        let turns = Turns::default();
        let first = poll(pin!(turns.take(Use::Shared))).unwrap();
        let second = poll(pin!(turns.take(Use::Shared))).unwrap();
        let mut alone = pin!(turns.take(Use::Exclusive));
        assert!(poll(alone.as_mut()).is_none());
        let mut late = pin!(turns.take(Use::Shared));
        assert!(poll(late.as_mut()).is_none());
        drop(first);
        assert!(poll(alone.as_mut()).is_none());
        drop(second);
        let alone = poll(alone.as_mut()).unwrap();
        assert!(poll(late.as_mut()).is_none());
        drop(alone);
        assert!(poll(late.as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_waiting_is_in_nobodys_way() {
        let turns = Turns::default();
        let first = poll(pin!(turns.take(Use::Shared))).unwrap();
        {
            let mut alone = pin!(turns.take(Use::Exclusive));
            assert!(poll(alone.as_mut()).is_none());
        }
        assert!(poll(pin!(turns.take(Use::Shared))).is_some());
        drop(first);
    }
}
