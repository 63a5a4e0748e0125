//! Turns at something that many may use together, or one alone; in the order of asking.

use crate::signal::Signal;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::future::Future;

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
    /// Waits for a turn; the place in the line counts from this call on. Nobody who asks later has a turn before, unless both share.
    pub fn take(self: &Rc<Self>, how: Use) -> impl Future<Output = Turn> + use<> {
        let place = Place::at_the_end(self);
        async move {
            let turns = &place.turns;
            turns.changed.until(|| (place.is_first() && turns.is_free_for(how)).then_some(())).await;
            match how {
                Use::Shared => turns.shared.set(turns.shared.get() + 1),
                Use::Exclusive => turns.is_taken.set(true),
            }
            // The place ends here: the next one may share the turn.
            Turn { turns: turns.clone(), how }
        }
    }

    fn is_free_for(&self, how: Use) -> bool {
        !self.is_taken.get() && (how == Use::Shared || self.shared.get() == 0)
    }
}

/// A place in the line.
struct Place {
    turns: Rc<Turns>,
    number: u64,
}

impl Place {
    fn at_the_end(turns: &Rc<Turns>) -> Self {
        let number = turns.next.get();
        turns.next.set(number.wrapping_add(1));
        turns.waiting.borrow_mut().push_back(number);
        Self { turns: turns.clone(), number }
    }

    fn is_first(&self) -> bool {
        self.turns.waiting.borrow().front() == Some(&self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.waiting.borrow_mut().retain(|number| *number != self.number);
        self.turns.changed.raise();
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    how: Use,
}

impl Drop for Turn {
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
        let turns = Rc::new(Turns::default());
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
        let turns = Rc::new(Turns::default());
        let first = poll(pin!(turns.take(Use::Shared))).unwrap();
        {
            let mut alone = pin!(turns.take(Use::Exclusive));
            assert!(poll(alone.as_mut()).is_none());
        }
        assert!(poll(pin!(turns.take(Use::Shared))).is_some());
        drop(first);
    }
}
