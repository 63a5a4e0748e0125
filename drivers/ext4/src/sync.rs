//! Waiting, for tasks of one executor: a lock that is handed on in the order of asking, and a signal.
//!
//! Nothing here is shared between threads. A future that is dropped leaves its place in the line; a lock that it had been
//! handed already goes on to the next.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// A lock without contents: who holds the [`Guard`] is alone.
#[derive(Default)]
pub struct Lock {
    line: RefCell<Line>,
}

#[derive(Default)]
struct Line {
    held: bool,
    next_ticket: u64,
    /// The ticket that the lock was handed to and that has not noticed yet.
    granted: Option<u64>,
    waiting: VecDeque<(u64, Waker)>,
}

impl Lock {
    /// A free lock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Locking<'_> {
        Locking { lock: self, ticket: None }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_>> {
        let mut line = self.line.borrow_mut();
        (!line.held).then(|| {
            line.held = true;
            Guard { lock: self }
        })
    }

    fn release(&self) {
        let mut line = self.line.borrow_mut();
        let next = line.waiting.pop_front();
        line.held = next.is_some();
        line.granted = next.as_ref().map(|(ticket, _)| *ticket);
        drop(line);
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }
}

/// Alone until dropped.
pub struct Guard<'a> {
    lock: &'a Lock,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.lock.release();
    }
}

/// A place in the line for a [`Lock`].
pub struct Locking<'a> {
    lock: &'a Lock,
    ticket: Option<u64>,
}

impl<'a> Future for Locking<'a> {
    type Output = Guard<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Guard<'a>> {
        let lock = self.lock;
        let mut line = lock.line.borrow_mut();
        let Some(ticket) = self.ticket else {
            if !line.held {
                line.held = true;
                return Poll::Ready(Guard { lock });
            }
            let ticket = line.next_ticket;
            line.next_ticket += 1;
            line.waiting.push_back((ticket, context.waker().clone()));
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        if line.granted == Some(ticket) {
            line.granted = None;
            self.ticket = None;
            return Poll::Ready(Guard { lock });
        }
        if let Some((_, waker)) = line.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
            waker.clone_from(context.waker());
        }
        Poll::Pending
    }
}

impl Drop for Locking<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut line = self.lock.line.borrow_mut();
        line.waiting.retain(|(waiting, _)| *waiting != ticket);
        if line.granted == Some(ticket) {
            drop(line);
            self.lock.release();
        }
    }
}

/// Something that happens: who waits is woken by the next [`raise`](Signal::raise).
#[derive(Default)]
pub struct Signal {
    raised: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes all who wait.
    pub fn raise(&self) {
        self.raised.set(self.raised.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until the signal is raised after this call.
    pub fn wait(&self) -> impl Future<Output = ()> {
        let before = self.raised.get();
        core::future::poll_fn(move |context| {
            if self.raised.get() != before {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_lock_goes_round_in_the_order_of_asking() {
        let lock = Lock::new();
        let guard = poll(&mut lock.lock()).unwrap();
        let (mut second, mut third) = (lock.lock(), lock.lock());
        assert!(poll(&mut second).is_none() && poll(&mut third).is_none());
        drop(guard);
        assert!(lock.try_lock().is_none(), "it was handed on, not freed");
        assert!(poll(&mut third).is_none());
        let guard = poll(&mut second).unwrap();
        drop(guard);
        assert!(poll(&mut third).is_some());
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn who_leaves_the_line_does_not_keep_the_lock() {
        let lock = Lock::new();
        let guard = poll(&mut lock.lock()).unwrap();
        let (mut second, mut third, mut fourth) = (lock.lock(), lock.lock(), lock.lock());
        assert!(poll(&mut second).is_none() && poll(&mut third).is_none() && poll(&mut fourth).is_none());
        drop(third);
        drop(guard);
        drop(second);
        assert!(poll(&mut fourth).is_some());
    }

    #[test]
    fn a_signal_wakes_who_waited_before_it() {
        let signal = Signal::default();
        let mut early = core::pin::pin!(signal.wait());
        assert!(poll(&mut early).is_none());
        signal.raise();
        let mut late = core::pin::pin!(signal.wait());
        assert!(poll(&mut early).is_some());
        assert!(poll(&mut late).is_none());
    }
}
