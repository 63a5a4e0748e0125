//! What travels between Unix sockets: bytes, with descriptors and credentials beside them.
//!
//! As in Linux, what a socket has sent counts against *its* send buffer until the receiver has taken it, and each message
//! counts for more than its bytes: programs see it in how much fits before a send waits. [`Footprint`] is that arithmetic.

use super::super::rights::Rights;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::wait::WaitQueue;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The name that a socket is bound to: what follows the family in its address; a path with its terminating zero.
pub type Name = Rc<[u8]>;

/// `struct ucred`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PeerCredentials {
    /// The process.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl PeerCredentials {
    /// What a message without credentials shows: nobody.
    pub const UNKNOWN: Self = Self { pid: 0, uid: 65_534, gid: 65_534 };
}

/// How much of a send buffer a message takes: Linux's arithmetic of buffers and pages (`sock_alloc_send_pskb`).
pub mod footprint {
    const PAGE: usize = 4096;
    /// What describes a buffer.
    const DESCRIPTION: usize = 256;
    /// What follows the bytes in a buffer's own memory.
    const TRAILER: usize = 320;
    /// The most bytes that a stream keeps in a buffer's own memory; more go to pages.
    const STREAM_HEAD: usize = PAGE - TRAILER;
    /// The most bytes of one message of a stream that are in pages.
    const STREAM_PAGES: usize = 32_768;
    /// The most bytes of a datagram in a buffer's own memory.
    const DATAGRAM_HEAD: usize = 4 * PAGE - TRAILER;
    /// What a datagram must leave of the send buffer.
    const DATAGRAM_RESERVE: usize = 32;

    fn head(bytes: usize) -> usize {
        (bytes.next_multiple_of(64) + TRAILER).next_power_of_two().max(512) + DESCRIPTION
    }

    /// What a stream puts into one message, in bytes.
    pub fn stream_chunk(wanted: usize, send_buffer: u32) -> usize {
        wanted.min((send_buffer as usize / 2).saturating_sub(64)).clamp(1, STREAM_HEAD + STREAM_PAGES)
    }

    /// What such a message takes.
    pub fn stream(bytes: usize) -> usize {
        let in_pages = bytes.saturating_sub(STREAM_HEAD).next_multiple_of(PAGE).min(bytes);
        if bytes <= STREAM_HEAD { head(bytes) } else { head(bytes - in_pages) + in_pages.next_multiple_of(PAGE) }
    }

    /// What a datagram takes.
    pub fn datagram(bytes: usize) -> usize {
        let in_pages = bytes.saturating_sub(DATAGRAM_HEAD).next_multiple_of(PAGE).min(bytes);
        if bytes <= DATAGRAM_HEAD { head(bytes) } else { head(bytes - in_pages) + in_pages }
    }

    /// The longest datagram that a send buffer allows.
    pub fn longest_datagram(send_buffer: u32) -> usize {
        (send_buffer as usize).saturating_sub(DATAGRAM_RESERVE)
    }
}

/// The part of a socket that its messages keep: its name, and how much it has under way.
#[derive(Debug, Default)]
pub struct Sender {
    /// The name it is bound to.
    pub name: RefCell<Option<Name>>,
    /// What it has sent and nobody has taken, as [`footprint`] counts.
    under_way: Cell<usize>,
    /// The size of its send buffer.
    limit: Cell<u32>,
    /// The socket's queue, woken when it becomes writable.
    changed: WaitQueue,
}

impl Sender {
    /// That of a new socket with this queue.
    pub fn new(changed: &WaitQueue) -> Rc<Self> {
        Rc::new(Self { changed: changed.clone(), ..Self::default() })
    }

    /// Takes note of the size of the send buffer.
    pub fn set_limit(&self, bytes: u32) {
        self.limit.set(bytes);
    }

    /// What is under way, as [`footprint`] counts.
    pub fn under_way(&self) -> usize {
        self.under_way.get()
    }

    /// Whether one more message can be sent.
    pub fn has_room(&self) -> bool {
        self.under_way.get() < self.limit.get() as usize
    }

    /// Whether `poll` says that it can be written: when three quarters of the buffer are free.
    pub fn is_writable(&self) -> bool {
        self.under_way.get().saturating_mul(4) <= self.limit.get() as usize
    }

    fn add(&self, footprint: usize) {
        self.under_way.set(self.under_way.get().saturating_add(footprint));
    }

    fn remove(&self, footprint: usize) {
        self.under_way.set(self.under_way.get().saturating_sub(footprint));
        if self.is_writable() {
            self.changed.wake();
        }
    }
}

/// One message, or a piece of a stream.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    /// How many of them have been taken.
    start: usize,
    footprint: usize,
    /// Who sent it.
    pub sender: Rc<Sender>,
    /// Who wrote it, if the sender or the receiver wants that to be known.
    pub credentials: Option<PeerCredentials>,
    /// Descriptors that travel with it.
    pub rights: Option<Rights>,
}

impl Message {
    /// A message that counts for so much with its sender.
    pub fn new(bytes: Vec<u8>, footprint: usize, sender: &Rc<Sender>) -> Self {
        sender.add(footprint);
        Self { bytes, start: 0, footprint, sender: sender.clone(), credentials: None, rights: None }
    }

    /// The bytes that have not been taken.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Takes so many of them.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
    }

    /// Who wrote it, as a receiver is told.
    pub fn shown_credentials(&self) -> PeerCredentials {
        self.credentials.unwrap_or(PeerCredentials::UNKNOWN)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.sender.remove(self.footprint);
    }
}

/// What a message takes of the server's memory besides its bytes, about.
const MESSAGE_BYTES: u64 = 192;

/// Gives back the memory of a queue that was longer once: nobody pays for it.
pub fn shrink<T>(queue: &mut VecDeque<T>) {
    /// So much may stay.
    const SPARE: usize = 16;
    if queue.capacity() > SPARE && queue.len() <= queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

/// The messages that a socket has received.
#[derive(Debug)]
pub struct Inbox {
    messages: VecDeque<Message>,
    /// What is kept, in bytes of the server's memory.
    kept: u64,
    /// Pays for it.
    charge: Charge,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { messages: VecDeque::new(), kept: 0, charge: Charge::none(Budget::Contents) }
    }
}

/// What is kept of a message of so many bytes.
fn kept_bytes(length: usize) -> u64 {
    MESSAGE_BYTES + length as u64
}

impl Inbox {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next one.
    pub fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// The next one, to take bytes from.
    pub fn front_mut(&mut self) -> Option<&mut Message> {
        self.messages.front_mut()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// Bytes not taken, of all messages.
    pub fn unread_bytes(&self) -> usize {
        self.messages.iter().map(|message| message.unread().len()).sum()
    }

    /// Pays for a message of so many bytes that will be pushed next. `ENOBUFS`.
    pub fn reserve(&mut self, length: usize) -> Result<()> {
        self.charge.resize(self.kept + kept_bytes(length)).map_err(|_| Errno::ENOBUFS)?;
        self.messages.try_reserve(1).map_err(|_| Errno::ENOBUFS)
    }

    /// Gives back what was paid for a message that did not come.
    pub fn settle(&mut self) {
        // Giving back never fails.
        let _ = self.charge.resize(self.kept);
    }

    /// Adds a message that has been paid for.
    pub fn push(&mut self, message: Message) {
        self.kept += kept_bytes(message.bytes.len());
        self.messages.push_back(message);
    }

    /// Removes the next message. The caller drops it when the inbox is no longer borrowed.
    #[must_use = "to be dropped outside of the borrow"]
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.kept = self.kept.saturating_sub(kept_bytes(message.bytes.len()));
        self.settle();
        shrink(&mut self.messages);
        Some(message)
    }

    /// Removes all. The caller drops them when the inbox is no longer borrowed.
    #[must_use = "to be dropped outside of the borrow"]
    pub fn take_all(&mut self) -> VecDeque<Message> {
        self.kept = 0;
        self.settle();
        core::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_for_as_much_as_on_linux() {
        assert_eq!(footprint::stream(1), 768);
        assert_eq!(footprint::datagram(1), 768);
        assert_eq!(footprint::stream(footprint::stream_chunk(1 << 20, 212_992)), 37_120);
        assert_eq!(footprint::stream(5000), 6400);
        assert_eq!(footprint::longest_datagram(212_992), 212_960);
    }

    #[test]
    fn what_is_under_way_counts_until_it_is_dropped() {
        let sender = Sender::new(&WaitQueue::new());
        sender.set_limit(1600);
        let first = Message::new(Vec::new(), 768, &sender);
        assert!(sender.has_room() && !sender.is_writable());
        let second = Message::new(Vec::new(), 900, &sender);
        assert!(!sender.has_room());
        drop((first, second));
        assert!(sender.is_writable() && sender.under_way() == 0);
    }

    #[test]
    fn an_inbox_gives_back_what_it_was_charged() {
        let sender = Sender::new(&WaitQueue::new());
        let mut inbox = Inbox::default();
        inbox.reserve(3).unwrap();
        inbox.push(Message::new(Vec::from(*b"abc"), 768, &sender));
        assert_eq!((inbox.len(), inbox.unread_bytes(), inbox.kept), (1, 3, kept_bytes(3)));
        inbox.front_mut().unwrap().consume(2);
        assert_eq!(inbox.front().unwrap().unread(), b"c");
        drop(inbox.pop());
        assert_eq!((inbox.kept, sender.under_way()), (0, 0));
    }
}
