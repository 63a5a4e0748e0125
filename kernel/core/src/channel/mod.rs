//! Channels: pairs of endpoints that carry messages.
//!
//! # The life of a call
//! 1. The caller parks. It *is* the entry in the receiving endpoint's line; its message stays in its registers (or, with
//!    handles or buffers, in its [`CallRecord`](crate::thread::CallRecord)).
//! 2. If a thread waits to receive there, or on the queue that the endpoint is bound to, it gets the message now and the
//!    processor with it. Otherwise the caller stands in line.
//! 3. Whoever receives gets a reply handle: a [`ReplyRef`](crate::object::ReplyRef) that names the caller and the serial number of its call. While it
//!    lives, the caller's buffers can be read and written through it.
//! 4. Using it up delivers the answer and wakes the caller; closing it ends the call with `PeerClosed`. If the
//!    caller ends first, its serial number has moved on and the reply is stale.
//!
//! A message that no parked thread stands for (sent, or called through a queue) is a [`Letter`].
//!
//! This file has the objects and their lines; `send`, `receive` and `answer` follow a message on its way, `handles` the
//! handles that it carries.

mod answer;
mod handles;
mod receive;
mod send;

use crate::account::Account;
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::list::{Links, List};
use crate::memory::Space;
use crate::object::{Capability, Header, Node, cost};
use crate::pool::Id;
use crate::queue::Binding;
use crate::thread::{CallStage, Exception, Thread};
use quire_abi::Error;
use quire_abi::error::Status;
use quire_abi::message::{HANDLES, WORDS};
use quire_abi::thread::Registers;

/// How many sent messages wait on one endpoint at most.
pub const MAX_SENT: u32 = 64;

/// Bytes in the space of whoever called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    /// First address; an allegation.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// One end of a channel.
#[derive(Debug)]
pub struct Endpoint {
    /// References and account.
    pub header: Header,
    /// The other end, while it is open.
    pub peer: Option<Id<Endpoint>>,
    /// Callers and letters that wait to be received here.
    pub incoming: List<Node>,
    /// How many of them were sent, not called.
    pub sent: u32,
    /// Threads that wait to receive here. If there are any, nothing is incoming.
    pub receivers: List<Node>,
    /// Where messages complete instead.
    pub binding: Option<Binding>,
    /// Its place in the line of that queue.
    pub links: Links<Node>,
    /// It stands in that line.
    pub pending: bool,
    /// The queue was told that the peer closed.
    pub closed_told: bool,
}

/// A message that no parked thread stands for.
#[derive(Debug)]
pub struct Letter {
    /// Who pays.
    pub account: Id<Account>,
    /// Its place among an endpoint's incoming, or, answered, in the line of its queue.
    pub links: Links<Node>,
    /// Label of the message, later of the answer.
    pub label: u64,
    /// Words of the message, later of the answer.
    pub words: [u64; WORDS],
    /// Handles under way.
    pub handles: [Option<Capability>; HANDLES],
    /// What kind of message it is.
    pub kind: LetterKind,
}

/// What a [`Letter`] is.
#[derive(Debug)]
pub enum LetterKind {
    /// Sent, without an answer. It waits on this endpoint.
    Sent(Id<Endpoint>),
    /// Called through a queue.
    Call {
        /// Where the answer goes.
        binding: Binding,
        /// The caller's space, which the letter keeps alive.
        space: Id<Space>,
        /// What the receiver may read.
        send: Buffer,
        /// What the receiver may write.
        receive: Buffer,
        /// How far the call is.
        stage: LetterStage,
    },
}

/// How far a call through a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterStage {
    /// It waits on this endpoint.
    Queued(Id<Endpoint>),
    /// Somebody holds the reply.
    Received,
    /// It is over with this status; the queue had no room to say so yet.
    Answered(Status),
}

/// A message inside the kernel.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) label: u64,
    pub(crate) words: [u64; WORDS],
    pub(crate) handles: [Option<Capability>; HANDLES],
}

/// The label and words of a message in registers.
#[inline]
pub(crate) fn words_of(registers: &Registers) -> [u64; WORDS] {
    let r = registers;
    [r.rdx, r.r10, r.r8, r.r9, r.r12, r.r13, r.r14, r.r15]
}

/// Puts a message into registers.
#[inline]
pub(crate) fn set_message(registers: &mut Registers, label: u64, words: &[u64; WORDS]) {
    let r = registers;
    r.rsi = label;
    [r.rdx, r.r10, r.r8, r.r9, r.r12, r.r13, r.r14, r.r15] = *words;
}

fn exception_words(exception: Exception, rip: u64) -> [u64; WORDS] {
    [exception.kind as u64, exception.address, exception.code, rip, 0, 0, 0, 0]
}

impl Kernel {
    /// Makes a channel.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub fn create_channel(&mut self, account: Id<Account>) -> Result<[Id<Endpoint>; 2], Error> {
        self.endpoints.reserve(2).map_err(|_| Error::NoMemory)?;
        self.charge(account, 2 * cost::ENDPOINT)?;
        let endpoint = |peer| Endpoint {
            header: Header::new(account),
            peer,
            incoming: List::new(),
            sent: 0,
            receivers: List::new(),
            binding: None,
            links: Links::new(),
            pending: false,
            closed_told: false,
        };
        let first = self.endpoints.insert(endpoint(None)).map_err(|_| Error::NoMemory)?;
        let second = self.endpoints.insert(endpoint(Some(first))).map_err(|_| Error::NoMemory)?;
        self.endpoints[first].peer = Some(second);
        Ok([first, second])
    }

    pub(crate) fn destroy_endpoint(&mut self, m: &mut impl Hardware, id: Id<Endpoint>) {
        let endpoint = &self.endpoints[id];
        let (peer, binding, pending) = (endpoint.peer, endpoint.binding, endpoint.pending);
        self.forget_routes();
        if pending {
            self.withdraw(binding, Node::Endpoint(id));
        }
        self.endpoints[id].peer = None;
        self.refuse_incoming(m, id);
        self.dismiss_receivers(id);
        if let Some(peer) = peer {
            self.endpoints[peer].peer = None;
            self.dismiss_receivers(peer);
            self.offer_endpoint(m, peer);
        }
        if let Some(endpoint) = self.endpoints.remove(id) {
            self.credit(endpoint.header.account, cost::ENDPOINT);
        }
    }

    /// Refuses all who wait to be received.
    pub(crate) fn refuse_incoming(&mut self, m: &mut impl Hardware, id: Id<Endpoint>) {
        while let Some(sender) = self.endpoints[id].incoming.front() {
            self.leave_endpoint(id, sender);
            self.refuse_sender(m, sender, Error::PeerClosed);
        }
    }

    fn dismiss_receivers(&mut self, id: Id<Endpoint>) {
        while let Some(receiver) = self.pop_receiver(id) {
            self.finish_wait(receiver, Err(Error::PeerClosed));
        }
    }

    /// Binds an endpoint to a queue, or to none. What waits already completes there.
    pub(crate) fn bind_endpoint(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Endpoint>,
        binding: Option<Binding>,
    ) -> Result<(), Error> {
        let endpoint = &self.endpoints[id];
        if !endpoint.receivers.is_empty() {
            return Err(Error::BadState);
        }
        if endpoint.pending {
            self.withdraw(endpoint.binding, Node::Endpoint(id));
        }
        self.forget_routes();
        let endpoint = &mut self.endpoints[id];
        endpoint.binding = binding;
        endpoint.closed_told = false;
        self.offer_endpoint(m, id);
        Ok(())
    }

    /// Lets a bound endpoint tell its queue whatever it has to tell.
    fn offer_endpoint(&mut self, m: &mut impl Hardware, id: Id<Endpoint>) {
        let endpoint = &self.endpoints[id];
        if endpoint.pending || endpoint.incoming.is_empty() && endpoint.peer.is_some() {
            return;
        }
        if let Some(binding) = endpoint.binding {
            self.offer(m, binding, Node::Endpoint(id));
        }
    }
}

impl Kernel {
    fn push_incoming(&mut self, id: Id<Endpoint>, sender: Node) {
        match sender {
            Node::Thread(thread) => self.threads[thread].call.stage = CallStage::Queued(id),
            Node::Letter(letter) => match &mut self.letters[letter].kind {
                LetterKind::Sent(endpoint) => {
                    *endpoint = id;
                    self.endpoints[id].sent += 1;
                }
                LetterKind::Call { stage, .. } => *stage = LetterStage::Queued(id),
            },
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => {}
        }
        let mut incoming = self.endpoints[id].incoming;
        incoming.push_back(self, sender);
        self.endpoints[id].incoming = incoming;
    }

    /// Takes a sender out of the line.
    pub(crate) fn leave_endpoint(&mut self, id: Id<Endpoint>, sender: Node) {
        let mut incoming = self.endpoints[id].incoming;
        incoming.remove(self, sender);
        self.endpoints[id].incoming = incoming;
        if let Node::Letter(letter) = sender
            && matches!(self.letters[letter].kind, LetterKind::Sent(_))
        {
            self.endpoints[id].sent -= 1;
        }
    }

    /// Takes a receiver out of the line.
    pub(crate) fn leave_receivers(&mut self, id: Id<Endpoint>, thread: Id<Thread>) {
        let mut receivers = self.endpoints[id].receivers;
        receivers.remove(self, Node::Thread(thread));
        self.endpoints[id].receivers = receivers;
    }

    #[inline]
    fn pop_receiver(&mut self, id: Id<Endpoint>) -> Option<Id<Thread>> {
        let Some(Node::Thread(thread)) = self.endpoints[id].receivers.front() else { return None };
        self.leave_receivers(id, thread);
        Some(thread)
    }
}
