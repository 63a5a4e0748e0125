//! One message queue: its messages, and who wants to be told of the next.

use super::Usage;
use crate::budget::{Charge, Kind as Budget};
use crate::cred::Uid;
use crate::errno::{Errno, Result};
use crate::file::PollEvents;
use crate::process::Pid;
use crate::signal::Signal;
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Priorities are below this (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;

/// What a message takes of the server's memory besides its bytes, about.
const MESSAGE_BYTES: u64 = 96;

/// How large a queue can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many messages it holds.
    pub messages: u64,
    /// How long each can be, in bytes.
    pub message_bytes: u64,
}

/// What `mq_notify` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing but the registration itself (`SIGEV_NONE`).
    Nothing,
    /// This signal, with this value; `None` is signal 0.
    Signal(Option<Signal>, u64),
}

/// Who is told when a message comes to an empty queue for which nobody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The process.
    pub owner: Pid,
    /// How.
    pub notice: Notice,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// The higher, the sooner it is received.
    pub priority: u32,
    /// Its content.
    pub bytes: Vec<u8>,
    _charge: Charge,
}

impl Message {
    /// A message; it is charged. `ENOMEM`.
    pub fn new(priority: u32, bytes: Vec<u8>) -> Result<Self> {
        let charge = Charge::new(Budget::Contents, MESSAGE_BYTES + bytes.len() as u64)?;
        Ok(Self { priority, bytes, _charge: charge })
    }
}

/// A queue.
pub struct Queue {
    size: Size,
    messages: RefCell<BTreeMap<u32, VecDeque<Message>>>,
    count: Cell<u64>,
    bytes: Cell<u64>,
    registration: Cell<Option<Registration>>,
    /// How many calls wait for a message.
    receivers: Cell<usize>,
    changed: WaitQueue,
    /// Where it is counted, whose it is, and how many bytes it counts for.
    usage: Rc<Usage>,
    maker: Uid,
    _alive: crate::census::counted::Queue,
}

impl core::fmt::Debug for Queue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Queue").field("size", &self.size).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.usage.give_back(self.maker, self.size);
    }
}

impl Queue {
    /// An empty queue that has been counted in `usage`.
    pub(super) fn new(size: Size, usage: &Rc<Usage>, maker: Uid) -> Rc<Self> {
        Rc::new(Self {
            _alive: Default::default(),
            size,
            messages: RefCell::default(),
            count: Cell::new(0),
            bytes: Cell::new(0),
            registration: Cell::new(None),
            receivers: Cell::new(0),
            changed: WaitQueue::new(),
            usage: usage.clone(),
            maker,
        })
    }

    /// How large it can become.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// What is woken when messages come or go.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, self.count.get() > 0);
        events.set(PollEvents::WRITABLE, self.count.get() < self.size.messages);
        events
    }

    /// Puts a message in, and gives who is to be told of it. `EAGAIN`, with the message: it is full.
    pub fn send(&self, message: Message) -> core::result::Result<Option<Registration>, Message> {
        if self.count.get() >= self.size.messages {
            return Err(message);
        }
        let was_empty = self.count.get() == 0;
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + message.bytes.len() as u64);
        self.messages.borrow_mut().entry(message.priority).or_default().push_back(message);
        self.changed.wake();
        // Who waits for a message gets it, and then nothing has come to the queue itself.
        Ok(if was_empty && self.receivers.get() == 0 { self.registration.take() } else { None })
    }

    /// Takes the oldest of the messages with the highest priority. `None`: there is none.
    pub fn receive(&self) -> Option<Message> {
        let mut messages = self.messages.borrow_mut();
        let mut highest = messages.last_entry()?;
        let message = highest.get_mut().pop_front();
        if highest.get().is_empty() {
            highest.remove();
        }
        let message = message?;
        self.count.set(self.count.get().saturating_sub(1));
        self.bytes.set(self.bytes.get().saturating_sub(message.bytes.len() as u64));
        drop(messages);
        self.changed.wake();
        Some(message)
    }

    /// Somebody waits for a message, as long as the result lives.
    pub fn expect_message(self: &Rc<Self>) -> Receiver {
        self.receivers.set(self.receivers.get() + 1);
        Receiver(self.clone())
    }

    /// Who is told of the next message.
    pub fn registration(&self) -> Option<Registration> {
        self.registration.get()
    }

    /// Registers somebody. `EBUSY` if somebody is.
    pub fn register(&self, registration: Registration) -> Result<()> {
        if self.registration.get().is_some() {
            return Err(Errno::EBUSY);
        }
        self.registration.set(Some(registration));
        Ok(())
    }

    /// Takes the registration of a process back, if it has one.
    pub fn unregister(&self, owner: Pid) {
        if self.registration.get().is_some_and(|registration| registration.owner == owner) {
            self.registration.set(None);
        }
    }
}

/// Counts as one who waits for a message.
pub struct Receiver(Rc<Queue>);

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.receivers.set(self.0.receivers.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: u64) -> Rc<Queue> {
        let usage = Rc::new(Usage::default());
        let size = Size { messages, message_bytes: 16 };
        usage.take(0, size, u64::MAX).unwrap();
        Queue::new(size, &usage, 0)
    }

    fn message(priority: u32, text: &str) -> Message {
        Message::new(priority, text.as_bytes().to_vec()).unwrap()
    }

    fn received(queue: &Queue) -> Vec<u8> {
        queue.receive().map(|message| message.bytes).unwrap_or_default()
    }

    #[test]
    fn the_oldest_of_the_most_urgent_comes_first() {
        let queue = queue(10);
        for (priority, text) in [(1, "a"), (5, "b"), (1, "c"), (5, "d")] {
            queue.send(message(priority, text)).unwrap();
        }
        let order = [b"b", b"d", b"a", b"c"];
        assert!(order.iter().all(|text| received(&queue) == *text));
        assert!(queue.receive().is_none());
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let queue = queue(1);
        queue.send(message(0, "a")).unwrap();
        assert_eq!(queue.send(message(0, "b")).unwrap_err().bytes, b"b");
        assert_eq!(queue.readiness(), PollEvents::READABLE);
    }

    #[test]
    fn only_the_first_message_of_an_empty_queue_is_told_and_only_once() {
        let queue = queue(4);
        let registration = Registration { owner: 7, notice: Notice::Nothing };
        queue.send(message(0, "before")).unwrap();
        queue.register(registration).unwrap();
        assert_eq!(queue.register(registration), Err(Errno::EBUSY));
        assert_eq!(queue.send(message(0, "not empty")).unwrap(), None);
        received(&queue);
        received(&queue);
        let waiting = queue.expect_message();
        assert_eq!(queue.send(message(0, "awaited")).unwrap(), None);
        drop(waiting);
        received(&queue);
        assert_eq!(queue.send(message(0, "told")).unwrap(), Some(registration));
        assert_eq!(queue.registration(), None);
    }

    #[test]
    fn only_the_owner_takes_a_registration_back() {
        let queue = queue(1);
        queue.register(Registration { owner: 7, notice: Notice::Nothing }).unwrap();
        queue.unregister(8);
        assert!(queue.registration().is_some());
        queue.unregister(7);
        assert!(queue.registration().is_none());
    }
}
