//! Sending.

use super::message::{Message, footprint};
use super::{PeerCredentials, State, UnixSocket};
use crate::errno::{Errno, Result};
use crate::file::{OpenFile, Source};
use crate::net::common::{Shutdown, Style, Switches};
use crate::net::rights::Rights;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// What travels beside the bytes.
#[derive(Debug, Default)]
pub struct Attached {
    /// Descriptors: they go with the first piece.
    pub files: Vec<Rc<OpenFile>>,
    /// The user who sends them, and how many he may have in flight; no limit for the superuser.
    pub user: u32,
    /// See `user`.
    pub in_flight_limit: Option<u64>,
    /// Credentials that the sender has named.
    pub credentials: Option<PeerCredentials>,
    /// The sender's own: process, real user, real group.
    pub own_credentials: Option<PeerCredentials>,
    /// How a packet is to be sent, where that is not as the socket's options say.
    pub packet: crate::net::inet::Packet,
}

impl UnixSocket {
    /// Sends from a stream socket as much as there is room for: at least something, else `EAGAIN`. `ENOTCONN`, `EPIPE`.
    pub fn send_stream(self: &Rc<Self>, from: &mut dyn Source, attached: &mut Attached) -> Result<usize> {
        if !self.has_peer() {
            return Err(Errno::ENOTCONN);
        }
        self.check_can_send()?;
        let mut sent = 0;
        while from.remaining() > 0 {
            match self.send_piece(from, attached) {
                Ok(count) => sent += count,
                Err(_) if sent > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(sent)
    }

    fn check_can_send(&self) -> Result<()> {
        if self.common.is_shut(Shutdown::SEND) { Err(Errno::EPIPE) } else { Ok(()) }
    }

    fn send_piece(self: &Rc<Self>, from: &mut dyn Source, attached: &mut Attached) -> Result<usize> {
        self.common.check_error()?;
        self.check_can_send()?;
        if !self.sender.has_room() {
            return Err(Errno::EAGAIN);
        }
        let peer = self.live_peer().filter(|peer| !peer.common.is_shut(Shutdown::RECEIVE)).ok_or(Errno::EPIPE)?;
        let length = footprint::stream_chunk(from.remaining(), self.common.send_buffer.get());
        let message = self.compose(&peer, from, length, footprint::stream(length), attached)?;
        peer.deliver(message);
        Ok(length)
    }

    /// Sends one message whole. `to`: whom to, else the peer. `EAGAIN`: no room here; see [`room`](Self::room) of the receiver
    /// for the case that it is there. `ENOTCONN`, `EMSGSIZE`, `EPERM`, `ECONNREFUSED`, `EPIPE`.
    pub fn send_message(
        self: &Rc<Self>,
        to: Option<&Rc<Self>>,
        from: &mut dyn Source,
        attached: &mut Attached,
    ) -> Result<usize> {
        if to.is_none() && !self.has_peer() {
            return Err(Errno::ENOTCONN);
        }
        self.bind_for_credentials()?;
        let length = from.remaining();
        if length > footprint::longest_datagram(self.common.send_buffer.get()) {
            return Err(Errno::EMSGSIZE);
        }
        self.common.check_error()?;
        self.check_can_send()?;
        if !self.sender.has_room() {
            return Err(Errno::EAGAIN);
        }
        let receiver = self.receiver(to)?;
        if receiver.common.is_shut(Shutdown::RECEIVE) {
            return Err(Errno::EPIPE);
        }
        if !Rc::ptr_eq(&receiver, self) && !receiver.peer_is(self) && receiver.is_queue_full() {
            if to.is_none() {
                self.hold_up_at(&receiver);
            }
            return Err(Errno::EAGAIN);
        }
        let message = self.compose(&receiver, from, length, footprint::datagram(length), attached)?;
        receiver.deliver(message);
        Ok(length)
    }

    /// Who gets a message.
    fn receiver(self: &Rc<Self>, to: Option<&Rc<Self>>) -> Result<Rc<Self>> {
        let Some(receiver) = to.cloned().or_else(|| self.live_peer()) else { return Err(self.lost_peer()) };
        if !self.may_send_to(&receiver) {
            return Err(Errno::EPERM);
        }
        if receiver.state.get() == State::Closed { Err(Errno::ECONNREFUSED) } else { Ok(receiver) }
    }

    /// The peer is gone.
    fn lost_peer(self: &Rc<Self>) -> Errno {
        match self.common.style {
            Style::SeqPacket | Style::Stream => Errno::EPIPE,
            Style::Datagram => {
                let old = self.peer.borrow().upgrade();
                self.forget_peer();
                self.part_from(old.as_ref());
                Errno::ECONNREFUSED
            }
        }
    }

    /// Makes a message of the next bytes. Nothing has changed if it fails. `EFAULT`, `ETOOMANYREFS`, `ENOBUFS`.
    fn compose(
        &self,
        receiver: &Self,
        from: &mut dyn Source,
        length: usize,
        footprint: usize,
        attached: &mut Attached,
    ) -> Result<Message> {
        receiver.inbox.borrow_mut().reserve(length)?;
        let composed = self.compose_reserved(receiver, from, length, footprint, attached);
        if composed.is_err() {
            receiver.inbox.borrow_mut().settle();
        }
        composed
    }

    fn compose_reserved(
        &self,
        receiver: &Self,
        from: &mut dyn Source,
        length: usize,
        footprint: usize,
        attached: &mut Attached,
    ) -> Result<Message> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        if from.get(&mut bytes) < length {
            return Err(Errno::EFAULT);
        }
        let mut message = Message::new(bytes, footprint, &self.sender);
        message.rights = self.send_off(attached)?;
        message.credentials = attached.credentials.or_else(|| self.own_credentials(receiver, attached));
        Ok(message)
    }

    fn send_off(&self, attached: &mut Attached) -> Result<Option<Rights>> {
        if attached.files.is_empty() {
            return Ok(None);
        }
        let files = attached.files.clone();
        let rights = Rights::send(&self.domain.in_flight, files, attached.user, attached.in_flight_limit)?;
        attached.files.clear();
        Ok(Some(rights))
    }

    /// The sender's credentials, if either end wants them, or nobody has accepted the receiver yet, who might.
    fn own_credentials(&self, receiver: &Self, attached: &Attached) -> Option<PeerCredentials> {
        let wants = |socket: &Self| socket.common.is_on(Switches::PASS_CREDENTIALS);
        let is_wanted = wants(self) || wants(receiver) || receiver.is_awaiting_accept.get();
        attached.own_credentials.filter(|_| is_wanted)
    }

    fn deliver(&self, message: Message) {
        self.inbox.borrow_mut().push(message);
        self.common.changed.wake();
    }
}

impl UnixSocket {
    /// The queue that is woken when a receiver that was full has room: whom `to` names, or the peer.
    pub fn receiver_room(&self, to: Option<&Rc<Self>>) -> Option<crate::wait::WaitQueue> {
        to.cloned().or_else(|| self.live_peer()).map(|receiver| receiver.room.clone())
    }
}
