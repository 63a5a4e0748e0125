//! Wait queues: how a future learns that something it tried without success may work now.
//!
//! Whatever can become ready (a pipe, a terminal, a child that may end) owns a [`WaitQueue`] and wakes it after each change
//! that somebody may wait for. Whoever waits follows one order, which loses no wake-up because the server has one thread:
//!
//! 1. make a [`Listener`] and let it watch the queues,
//! 2. try the operation; if it succeeds, drop the listener and be done,
//! 3. await the listener, [reset](Listener::reset) it, and go back to 2.
//!
//! Wake-ups are hints: they wake everybody, and everybody tries again. A listener that is dropped leaves its queues, so a
//! future may be cancelled at any point.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// What a queue calls when it is woken. An implementation must not attach to or leave the queue that calls it.
pub trait Notify {
    /// Something may have changed.
    fn notify(&self);
}

#[derive(Default)]
struct Entries {
    /// In ascending order of the numbers, which is the order of arrival.
    list: RefCell<Vec<(u64, Rc<dyn Notify>)>>,
    next_number: Cell<u64>,
}

/// Everybody who waits for one thing. A clone is the same queue.
#[derive(Clone, Default)]
pub struct WaitQueue {
    entries: Rc<Entries>,
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WaitQueue").field("waiters", &self.waiters()).finish()
    }
}

impl WaitQueue {
    /// A queue with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody, in order of arrival.
    pub fn wake(&self) {
        let mut index = 0;
        loop {
            // The borrow ends before the call, so that a waiter may look at the queue.
            let Some(waiter) = self.entries.list.borrow().get(index).map(|(_, waiter)| waiter.clone()) else { return };
            waiter.notify();
            index += 1;
        }
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.entries.list.borrow().len()
    }

    /// Adds a waiter, until the result is dropped.
    pub fn attach(&self, waiter: Rc<dyn Notify>) -> Attachment {
        let number = self.entries.next_number.get();
        self.entries.next_number.set(number.wrapping_add(1));
        self.entries.list.borrow_mut().push((number, waiter));
        Attachment { entries: self.entries.clone(), number }
    }

    /// A listener that watches this queue only.
    pub fn listen(&self) -> Listener {
        let mut listener = Listener::new();
        listener.watch(self);
        listener
    }
}

/// A waiter's place in a queue; dropping it leaves the queue.
pub struct Attachment {
    entries: Rc<Entries>,
    number: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let removed = {
            let mut list = self.entries.list.borrow_mut();
            list.binary_search_by_key(&self.number, |(number, _)| *number).ok().map(|index| list.remove(index))
        };
        // The waiter may be the last owner of something that wakes queues when it goes: not under the borrow.
        drop(removed);
    }
}

#[derive(Default)]
struct Wakeup {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify for Wakeup {
    fn notify(&self) {
        self.fired.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A future that is ready once any of the queues that it watches has been woken since it began to watch (or was reset).
#[derive(Default)]
pub struct Listener {
    wakeup: Rc<Wakeup>,
    attachments: Vec<Attachment>,
}

impl Listener {
    /// A listener that watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches one more queue.
    pub fn watch(&mut self, queue: &WaitQueue) {
        self.attachments.push(queue.attach(self.wakeup.clone()));
    }

    /// Forgets wake-ups so far.
    pub fn reset(&self) {
        self.wakeup.fired.set(false);
    }

    /// Whether a wake-up has come.
    pub fn is_notified(&self) -> bool {
        self.wakeup.fired.get()
    }
}

impl Future for Listener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.wakeup.fired.get() {
            return Poll::Ready(());
        }
        *self.wakeup.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;

    fn is_ready(listener: &mut Listener) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(listener).poll(&mut context).is_ready()
    }

    #[test]
    fn a_wake_up_reaches_everybody_who_waits() {
        let queue = WaitQueue::new();
        let (mut first, mut second) = (queue.listen(), queue.listen());
        assert!(!is_ready(&mut first) && !is_ready(&mut second));
        queue.wake();
        assert!(is_ready(&mut first) && is_ready(&mut second));
    }

    #[test]
    fn a_wake_up_before_the_first_poll_is_not_lost() {
        let queue = WaitQueue::new();
        let mut listener = queue.listen();
        queue.wake();
        assert!(is_ready(&mut listener));
        listener.reset();
        assert!(!is_ready(&mut listener));
    }

    #[test]
    fn one_listener_watches_several_queues() {
        let queues = [WaitQueue::new(), WaitQueue::new()];
        let mut listener = Listener::new();
        queues.iter().for_each(|queue| listener.watch(queue));
        queues[1].wake();
        assert!(is_ready(&mut listener));
    }

    #[test]
    fn a_dropped_listener_leaves_its_queues() {
        let queue = WaitQueue::new();
        let (first, second) = (queue.listen(), queue.listen());
        drop(first);
        assert_eq!(queue.waiters(), 1);
        drop(second);
        assert_eq!(queue.waiters(), 0);
        queue.wake();
    }
}
