//! Who may look and who may change: many readers or one writer, in the order in which they came.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Shared,
    Exclusive,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Waker,
}

/// Serves readers and writers first come, first served; for the tasks of one thread.
#[derive(Debug, Default)]
pub(crate) struct Lock {
    readers: Cell<usize>,
    writer: Cell<bool>,
    next_ticket: Cell<u64>,
    queue: RefCell<VecDeque<Waiter>>,
}

impl Lock {
    /// Waits until nobody changes anything; nobody will, until the guard is dropped.
    pub(crate) fn shared(&self) -> Acquire<'_> {
        Acquire { lock: self, access: Access::Shared, ticket: None }
    }

    /// Waits until nobody looks or changes; nobody will, until the guard is dropped.
    pub(crate) fn exclusive(&self) -> Acquire<'_> {
        Acquire { lock: self, access: Access::Exclusive, ticket: None }
    }

    fn admits(&self, access: Access) -> bool {
        match access {
            Access::Shared => !self.writer.get(),
            Access::Exclusive => !self.writer.get() && self.readers.get() == 0,
        }
    }

    fn enter(&self, access: Access) -> Guard<'_> {
        match access {
            Access::Shared => self.readers.set(self.readers.get() + 1),
            Access::Exclusive => self.writer.set(true),
        }
        Guard { lock: self, access }
    }

    fn wake_first(&self) {
        if let Some(first) = self.queue.borrow().front() {
            first.waker.wake_by_ref();
        }
    }
}

/// The wait for a [`Guard`].
#[derive(Debug)]
pub(crate) struct Acquire<'a> {
    lock: &'a Lock,
    access: Access,
    ticket: Option<u64>,
}

impl<'a> Acquire<'a> {
    fn wait(&mut self, waker: &Waker) {
        let mut queue = self.lock.queue.borrow_mut();
        let known = self.ticket.and_then(|ticket| queue.iter_mut().find(|waiter| waiter.ticket == ticket));
        if let Some(waiter) = known {
            waiter.waker.clone_from(waker);
            return;
        }
        let ticket = self.lock.next_ticket.get();
        self.lock.next_ticket.set(ticket + 1);
        self.ticket = Some(ticket);
        queue.push_back(Waiter { ticket, waker: waker.clone() });
    }

    fn leave_queue(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.lock.queue.borrow_mut().retain(|waiter| waiter.ticket != ticket);
            self.lock.wake_first();
        }
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Guard<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Guard<'a>> {
        let first = self.lock.queue.borrow().front().map(|waiter| waiter.ticket);
        if first != self.ticket || !self.lock.admits(self.access) {
            self.wait(context.waker());
            return Poll::Pending;
        }
        let guard = self.lock.enter(self.access);
        self.leave_queue();
        Poll::Ready(guard)
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        self.leave_queue();
    }
}

/// Access, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    lock: &'a Lock,
    access: Access,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        match self.access {
            Access::Shared => self.lock.readers.set(self.lock.readers.get() - 1),
            Access::Exclusive => self.lock.writer.set(false),
        }
        self.lock.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let lock = Lock::default();
        let first = poll(pin!(lock.shared())).unwrap();
        let second = poll(pin!(lock.shared())).unwrap();
        let mut writer = pin!(lock.exclusive());
        assert!(poll(writer.as_mut()).is_none());
        drop((first, second));
        let guard = poll(writer.as_mut()).unwrap();
        assert!(poll(pin!(lock.shared())).is_none());
        drop(guard);
        assert!(poll(pin!(lock.shared())).is_some());
    }

    #[test]
    fn readers_do_not_overtake_a_waiting_writer() {
        let lock = Lock::default();
        let reader = poll(pin!(lock.shared())).unwrap();
        let mut writer = pin!(lock.exclusive());
        assert!(poll(writer.as_mut()).is_none());
        let mut late = pin!(lock.shared());
        assert!(poll(late.as_mut()).is_none());
        drop(reader);
        assert!(poll(late.as_mut()).is_none());
        let guard = poll(writer.as_mut()).unwrap();
        drop(guard);
        assert!(poll(late.as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_waiting_lets_the_next_in() {
        let lock = Lock::default();
        let reader = poll(pin!(lock.shared())).unwrap();
        {
            let mut writer = pin!(lock.exclusive());
            assert!(poll(writer.as_mut()).is_none());
        }
        assert!(poll(pin!(lock.shared())).is_some());
        drop(reader);
        assert!(poll(pin!(lock.exclusive())).is_some());
    }
}
