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

use crate::file::PollEvents;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Whether a waiter did something with a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It did: somebody will look.
    Yes,
    /// It was of no use to it.
    No,
}

/// What a queue calls when it is woken. An implementation must not attach to or leave the queue that calls it.
pub trait Notify {
    /// Something may have changed, so that the file may be ready for some of `events`.
    fn notify(&self, events: PollEvents) -> Heard;
}

/// Whether a waiter shares its wake-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It hears of every change.
    Ordinary,
    /// Of several such waiters, one that heard of a change is enough.
    Exclusive,
}

/// A place in a queue; without a waiter once that has left.
struct Slot {
    number: u64,
    waiter: Option<(Rc<dyn Notify>, Kind)>,
}

/// Slots without a waiter are removed together when they are more than half, and more than this.
const MAX_EMPTY_SLOTS: usize = 16;

/// The slots in ascending order of their numbers, which is the order of arrival.
#[derive(Default)]
struct Slots {
    list: Vec<Slot>,
    empty: usize,
    next_number: u64,
}

impl Slots {
    /// Empties a slot. What was in it is to be dropped when the slots are no longer borrowed.
    fn leave(&mut self, number: u64) -> Option<(Rc<dyn Notify>, Kind)> {
        let index = self.list.binary_search_by_key(&number, |slot| slot.number).ok()?;
        let left = self.list.get_mut(index)?.waiter.take();
        self.empty += 1;
        while self.list.pop_if(|slot| slot.waiter.is_none()).is_some() {
            self.empty -= 1;
        }
        if self.empty > MAX_EMPTY_SLOTS && self.empty > self.list.len() / 2 {
            self.list.retain(|slot| slot.waiter.is_some());
            self.empty = 0;
        }
        left
    }
}

type Entries = RefCell<Slots>;

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

    /// Tells everybody, in order of arrival, of a change that may have to do with anything.
    pub fn wake(&self) {
        self.wake_for(PollEvents::all());
    }

    /// Tells everybody, in order of arrival, that the file may be ready for some of `events`.
    pub fn wake_for(&self, events: PollEvents) {
        let mut index = 0;
        let mut is_taken = false;
        loop {
            // The borrow ends before the call, so that a waiter may look at the queue.
            let waiter = match self.entries.borrow().list.get(index) {
                Some(slot) => slot.waiter.clone(),
                None => return,
            };
            match waiter {
                Some((waiter, Kind::Ordinary)) => {
                    waiter.notify(events);
                }
                Some((waiter, Kind::Exclusive)) if !is_taken => is_taken = waiter.notify(events) == Heard::Yes,
                Some((_, Kind::Exclusive)) | None => {}
            }
            index += 1;
        }
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        let slots = self.entries.borrow();
        slots.list.len() - slots.empty
    }

    fn add(&self, waiter: Rc<dyn Notify>, kind: Kind) -> Attachment {
        let mut slots = self.entries.borrow_mut();
        let number = slots.next_number;
        slots.next_number = number.wrapping_add(1);
        slots.list.push(Slot { number, waiter: Some((waiter, kind)) });
        Attachment { entries: self.entries.clone(), number }
    }

    /// Adds a waiter, until the result is dropped.
    pub fn attach(&self, waiter: Rc<dyn Notify>) -> Attachment {
        self.add(waiter, Kind::Ordinary)
    }

    /// The same for one of several who do the same with a wake-up, so that not all need hear of it.
    pub fn attach_exclusive(&self, waiter: Rc<dyn Notify>) -> Attachment {
        self.add(waiter, Kind::Exclusive)
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
        let left = self.entries.borrow_mut().leave(self.number);
        // The waiter may be the last owner of something that wakes queues when it goes: not under the borrow.
        drop(left);
    }
}

#[derive(Default)]
struct Wakeup {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify for Wakeup {
    fn notify(&self, _events: PollEvents) -> Heard {
        self.fired.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        Heard::Yes
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
    #[test]
    fn many_may_come_and_go_in_any_order() {
        let queue = WaitQueue::new();
        let mut listeners: Vec<_> = (0..1000).map(|_| Some(queue.listen())).collect();
        for step in [7, 3, 2] {
            listeners.iter_mut().step_by(step).for_each(|listener| *listener = None);
            assert_eq!(queue.waiters(), listeners.iter().flatten().count());
        }
        queue.wake();
        assert!(listeners.iter_mut().flatten().all(is_ready));
        drop(listeners);
        assert_eq!(queue.waiters(), 0);
    }

    #[derive(Default)]
    struct Counter {
        heard: Cell<u32>,
        is_deaf: Cell<bool>,
    }

    impl Notify for Counter {
        fn notify(&self, _events: PollEvents) -> Heard {
            self.heard.set(self.heard.get() + 1);
            if self.is_deaf.get() { Heard::No } else { Heard::Yes }
        }
    }

    #[test]
    fn of_exclusive_waiters_one_that_heard_is_enough() {
        let queue = WaitQueue::new();
        let counters = [const { Counter { heard: Cell::new(0), is_deaf: Cell::new(false) } }; 3].map(Rc::new);
        counters[0].is_deaf.set(true);
        let attachments: Vec<_> = counters.iter().map(|counter| queue.attach_exclusive(counter.clone())).collect();
        let ordinary = queue.listen();
        queue.wake_for(PollEvents::IN);
        assert_eq!(counters.each_ref().map(|counter| counter.heard.get()), [1, 1, 0]);
        assert!(ordinary.is_notified());
        drop(attachments);
        assert_eq!(queue.waiters(), 1);
    }
}
