//! Receiving.

use super::message::{Message, Sender};
use super::{PeerCredentials, State, UnixSocket};
use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, OpenFile};
use crate::net::common::{Shutdown, Style, Switches};
use crate::net::rights::Rights;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// How something is to be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// It stays in the queue (`MSG_PEEK`).
    pub peeks: bool,
    /// The answer is the message's length, also of the part that did not fit (`MSG_TRUNC`).
    pub tells_full_length: bool,
    /// An error that came back is wanted, with what it is about (`MSG_ERRQUEUE`).
    pub wants_error: bool,
    /// A stream waits for all that was asked for (`MSG_WAITALL`).
    pub waits_for_all: bool,
    /// The call does not wait: it makes a difference to who reads from a shut connection.
    pub is_nonblocking: bool,
}

/// What was received.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes that were put.
    pub count: usize,
    /// The call's result, which may be more.
    pub result: usize,
    /// A part of the message did not fit.
    pub is_truncated: bool,
    /// Who sent it.
    pub sender: Option<Rc<Sender>>,
    /// The same, of another family.
    pub from: Option<core::net::SocketAddr>,
    /// Whom it was sent to, if that is of another family.
    pub to: Option<core::net::SocketAddr>,
    /// What its packet said besides.
    pub traffic: crate::net::inet::Traffic,
    /// When it arrived, in ns of Unix time, if the socket wants to know (`SO_TIMESTAMP`).
    pub time_ns: Option<u64>,
    /// How many datagrams were lost before it, if the socket wants to know (`SO_RXQ_OVFL`).
    pub lost: Option<u32>,
    /// The error that it brought back, and who said so.
    pub error: Option<(Errno, core::net::SocketAddr)>,
    /// Who wrote it, if the socket wants to know.
    pub credentials: Option<PeerCredentials>,
    /// Descriptors that came with it: their message's, which holds them until they are taken over.
    pub rights: Option<Rights>,
    /// The same, if the message stays in the queue.
    pub copied_files: Vec<Rc<OpenFile>>,
}

impl Received {
    /// The descriptors that came with it.
    pub fn files(&self) -> &[Rc<OpenFile>] {
        self.rights.as_ref().map_or(&self.copied_files, Rights::files)
    }

    fn has_files(&self) -> bool {
        !self.files().is_empty()
    }
}

impl UnixSocket {
    /// Receives from a stream, adding to what there is already. `EAGAIN`: that is not enough yet.
    pub fn receive_stream(&self, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        match self.state.get() {
            State::Connected => {}
            State::Unconnected | State::Listening | State::Closed => return Err(Errno::EINVAL),
        }
        let target = self.common.low_water(got.count + to.remaining(), request.waits_for_all);
        let taken = if request.peeks { self.peek_pieces(to, got) } else { self.take_pieces(to, got) };
        got.result = got.count;
        if taken? == Boundary::Reached || got.count >= target {
            return Ok(());
        }
        if got.count == 0 {
            self.common.check_error()?;
        }
        if self.common.is_shut(Shutdown::RECEIVE) || (got.count > 0 && self.common.has_error()) {
            return Ok(());
        }
        Err(Errno::EAGAIN)
    }

    /// Whether a piece may follow what was received: from the same writer, if that is asked for.
    fn belongs(&self, piece: &Message, got: &mut Received) -> bool {
        if !self.common.is_on(Switches::PASS_CREDENTIALS) {
            return true;
        }
        let writer = piece.shown_credentials();
        *got.credentials.get_or_insert(writer) == writer
    }

    fn take_pieces(&self, to: &mut dyn Destination, got: &mut Received) -> Result<Boundary> {
        loop {
            let mut inbox = self.inbox.borrow_mut();
            let Some(piece) = inbox.front_mut() else { return Ok(Boundary::Open) };
            if !self.belongs(piece, got) {
                return Ok(Boundary::Reached);
            }
            let offered = piece.unread().len().min(to.remaining());
            let taken = to.put(piece.unread().get(..offered).unwrap_or_default());
            if taken < offered && taken == 0 {
                return moved_or_fault(got.count).map(|_| Boundary::Reached);
            }
            got.count += taken;
            got.sender.get_or_insert_with(|| piece.sender.clone());
            piece.consume(taken);
            self.common.retreat_peek(taken);
            got.rights = piece.rights.take();
            let is_used_up = piece.unread().is_empty();
            let piece = if is_used_up { inbox.pop() } else { None };
            drop(inbox);
            // Outside of the borrow: it tells the sender that there is room.
            drop(piece);
            if got.has_files() || !is_used_up || to.remaining() == 0 {
                return Ok(Boundary::Reached);
            }
        }
    }

    fn peek_pieces(&self, to: &mut dyn Destination, got: &mut Received) -> Result<Boundary> {
        // What earlier rounds of this call have looked at is skipped too, unless the offset has moved on with it.
        let moved = if self.common.peek_offset.get() >= 0 { 0 } else { got.count };
        let mut skip = self.common.peek_skip() + moved;
        let inbox = self.inbox.borrow();
        for piece in inbox.iter() {
            let unread = piece.unread();
            if skip > 0 && skip >= unread.len() {
                skip -= unread.len();
                continue;
            }
            if !self.belongs(piece, got) {
                return Ok(Boundary::Reached);
            }
            let rest = unread.get(skip..).unwrap_or_default();
            skip = 0;
            let part = rest.get(..rest.len().min(to.remaining())).unwrap_or_default();
            let taken = to.put(part);
            if taken == 0 && !part.is_empty() {
                return moved_or_fault(got.count).map(|_| Boundary::Reached);
            }
            got.count += taken;
            got.sender.get_or_insert_with(|| piece.sender.clone());
            self.common.advance_peek(taken);
            if let Some(rights) = &piece.rights {
                got.copied_files = rights.files().to_vec();
            }
            if got.has_files() || to.remaining() == 0 {
                return Ok(Boundary::Reached);
            }
        }
        Ok(Boundary::Open)
    }

    /// Receives one message. `EAGAIN`: there is none; `ENOTCONN`.
    pub fn receive_message(&self, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        if self.common.style == Style::SeqPacket && self.state.get() != State::Connected {
            return Err(Errno::ENOTCONN);
        }
        self.common.check_error()?;
        let skip = if request.peeks { self.common.peek_skip() } else { 0 };
        let inbox = self.inbox.borrow();
        let Some(message) = message_at(&inbox, skip) else {
            drop(inbox);
            return self.receive_nothing(request);
        };
        let (message, skip) = message;
        let rest = message.unread().get(skip..).unwrap_or_default();
        let part = rest.get(..rest.len().min(to.remaining())).unwrap_or_default();
        if !part.is_empty() && to.put(part) < part.len() {
            // As on Linux, the message is lost if it was to be taken.
            drop(inbox);
            self.drop_front(request);
            return Err(Errno::EFAULT);
        }
        got.count = part.len();
        got.is_truncated = part.len() < rest.len();
        got.result = if request.tells_full_length { rest.len() } else { part.len() };
        got.sender = Some(message.sender.clone());
        if self.common.is_on(Switches::PASS_CREDENTIALS) {
            got.credentials = Some(message.shown_credentials());
        }
        got.time_ns = self.common.stamp(crate::platform::realtime_ns());
        if request.peeks {
            got.copied_files = message.rights.as_ref().map(|rights| rights.files().to_vec()).unwrap_or_default();
            self.common.advance_peek(got.count);
            return Ok(());
        }
        let length = message.unread().len();
        drop(inbox);
        self.common.retreat_peek(length);
        got.rights = self.drop_front(request);
        Ok(())
    }

    /// Removes the message that was received; gives the descriptors that came with it.
    fn drop_front(&self, request: Request) -> Option<Rights> {
        if request.peeks {
            return None;
        }
        let was_full = self.is_queue_full();
        let mut message = self.inbox.borrow_mut().pop();
        let rights = message.as_mut().and_then(|message| message.rights.take());
        drop(message);
        if was_full || !self.held_up.borrow().is_empty() {
            self.tell_of_room();
        }
        rights
    }

    /// There is no message: whether one will come.
    fn receive_nothing(&self, request: Request) -> Result<()> {
        let is_over = self.common.is_shut(Shutdown::RECEIVE);
        let tells_end = self.common.style == Style::SeqPacket || !request.is_nonblocking;
        if is_over && tells_end { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}

/// The message that a peek with this offset looks at, and the offset in it.
fn message_at(inbox: &super::Inbox, skip: usize) -> Option<(&Message, usize)> {
    let mut skip = skip;
    for message in inbox.iter() {
        let length = message.unread().len();
        if skip == 0 || skip < length {
            return Some((message, skip));
        }
        skip -= length;
    }
    None
}

/// Whether a stream's receive has come to something that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    /// It has.
    Reached,
    /// It could take more.
    Open,
}
