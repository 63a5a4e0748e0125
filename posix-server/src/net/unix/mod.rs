//! `AF_UNIX`: sockets of one machine (`unix(7)`).
//!
//! One connection is two sockets that know each other. Each has an inbox, and sends by putting a message into the other's.
//! They hold each other weakly: a socket lives as long as its open file (or, before `accept`, as the listener's queue holds
//! it), and [`close`](UnixSocket::close) tells the other end.

mod connect;
pub mod message;
pub mod names;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use message::{Name, PeerCredentials};
pub use receive::{Received, Request};
pub use send::Attached;

use super::common::{Common, Shutdown, Style, Switches};
use super::rights::InFlight;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{OpenFile, PollEvents};
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use message::{Inbox, Sender};
use names::{Binding, Names};

/// How many messages wait at a datagram socket for each that does not expect them (`net.unix.max_dgram_qlen`).
const MAX_QUEUED_DATAGRAMS: u32 = 10;
/// What a socket takes of the server's memory, about, in bytes.
const SOCKET_BYTES: u64 = 640;

/// What all Unix sockets share.
#[derive(Default)]
pub struct Domain {
    /// Their names.
    pub names: Names,
    /// Descriptors in their messages.
    pub in_flight: Rc<InFlight>,
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither of the others.
    Unconnected,
    /// It waits for connections.
    Listening,
    /// It has, or had, a peer.
    Connected,
    /// Its last descriptor is closed.
    Closed,
}

/// A Unix socket.
pub struct UnixSocket {
    /// What all sockets have.
    pub common: Common,
    domain: Rc<Domain>,
    state: Cell<State>,
    /// What its messages keep of it.
    pub sender: Rc<Sender>,
    binding: RefCell<Option<Binding>>,
    peer: RefCell<Weak<Self>>,
    /// The peer's name and messages under way, which outlive it.
    peer_sender: RefCell<Option<Rc<Sender>>>,
    inbox: RefCell<Inbox>,
    /// Connections that nobody has accepted yet.
    arrivals: RefCell<VecDeque<Rc<Self>>>,
    /// How many messages or connections wait at most, less one.
    max_backlog: Cell<u32>,
    /// Woken when a queue that was full has room.
    room: WaitQueue,
    /// Sockets that want to send here, and are not writable as long as there is no room; by their cookies.
    held_up: RefCell<BTreeMap<u64, Weak<Self>>>,
    /// The peer where it is one of those.
    held_up_at: RefCell<Weak<Self>>,
    /// Whether it stands in a listener's queue.
    is_awaiting_accept: Cell<bool>,
    credentials: Cell<Option<PeerCredentials>>,
    peer_credentials: Cell<Option<PeerCredentials>>,
    peer_groups: RefCell<Option<Rc<[u32]>>>,
    _charge: Charge,
    _alive: crate::census::counted::Socket,
}

impl core::fmt::Debug for UnixSocket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UnixSocket").field("common", &self.common).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.domain.names.forget(self.common.cookie);
    }
}

impl UnixSocket {
    /// A new one. `ENFILE` if the server keeps too much already.
    pub fn new(domain: &Rc<Domain>, style: Style) -> Result<Rc<Self>> {
        let charge = Charge::new(Budget::Open, SOCKET_BYTES).map_err(|_| Errno::ENFILE)?;
        let common = Common::new(style);
        let sender = Sender::new(&common.changed);
        sender.set_limit(common.send_buffer.get());
        let socket = Rc::new(Self {
            _alive: Default::default(),
            common,
            domain: domain.clone(),
            state: Cell::new(State::Unconnected),
            sender,
            binding: RefCell::new(None),
            peer: RefCell::new(Weak::new()),
            peer_sender: RefCell::new(None),
            inbox: RefCell::new(Inbox::default()),
            arrivals: RefCell::new(VecDeque::new()),
            max_backlog: Cell::new(MAX_QUEUED_DATAGRAMS),
            room: WaitQueue::new(),
            held_up: RefCell::default(),
            held_up_at: RefCell::default(),
            is_awaiting_accept: Cell::new(false),
            credentials: Cell::new(None),
            peer_credentials: Cell::new(None),
            peer_groups: RefCell::new(None),
            _charge: charge,
        });
        domain.names.enter(&socket);
        Ok(socket)
    }

    /// Two that are connected with each other (`socketpair`).
    pub fn pair(domain: &Rc<Domain>, style: Style, maker: &Identity) -> Result<(Rc<Self>, Rc<Self>)> {
        let (one, other) = (Self::new(domain, style)?, Self::new(domain, style)?);
        for (socket, peer) in [(&one, &other), (&other, &one)] {
            socket.set_peer(peer);
            socket.state.set(State::Connected);
            socket.set_peer_identity(maker);
        }
        Ok((one, other))
    }

    fn set_peer(&self, peer: &Rc<Self>) {
        self.peer.replace(Rc::downgrade(peer));
        self.peer_sender.replace(Some(peer.sender.clone()));
    }

    fn set_peer_identity(&self, identity: &Identity) {
        self.peer_credentials.set(Some(identity.credentials));
        self.peer_groups.replace(Some(identity.groups.clone()));
    }

    /// The peer, unless it is closed.
    fn live_peer(&self) -> Option<Rc<Self>> {
        self.peer.borrow().upgrade().filter(|peer| peer.state.get() != State::Closed)
    }

    /// Whether it ever had a peer that it has not been disconnected from.
    pub fn has_peer(&self) -> bool {
        self.peer_sender.borrow().is_some()
    }

    fn peer_is(&self, other: &Rc<Self>) -> bool {
        core::ptr::eq(self.peer.borrow().as_ptr(), Rc::as_ptr(other))
    }

    /// How far it has come.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Its name.
    pub fn name(&self) -> Option<Name> {
        self.sender.name.borrow().clone()
    }

    /// The peer's name, also if it is closed. `ENOTCONN`.
    pub fn peer_name(&self) -> Result<Option<Name>> {
        let peer = self.peer_sender.borrow();
        peer.as_ref().map(|peer| peer.name.borrow().clone()).ok_or(Errno::ENOTCONN)
    }

    /// Who connected, or listened (`SO_PEERCRED`).
    pub fn peer_credentials(&self) -> Option<PeerCredentials> {
        self.peer_credentials.get()
    }

    /// The groups of the same (`SO_PEERGROUPS`).
    pub fn peer_groups(&self) -> Option<Rc<[u32]>> {
        self.peer_groups.borrow().clone()
    }

    /// Sets the size of the send buffer.
    pub fn set_send_buffer(&self, asked: u32) {
        self.common.set_send_buffer(asked);
        self.sender.set_limit(self.common.send_buffer.get());
    }

    /// Bytes that can be read now (`FIONREAD`): of all messages of a stream, else of the next. `EINVAL` for a listener.
    pub fn readable_bytes(&self) -> Result<usize> {
        if self.state.get() == State::Listening {
            return Err(Errno::EINVAL);
        }
        let inbox = self.inbox.borrow();
        Ok(match self.common.style {
            Style::Stream | Style::SeqPacket => inbox.unread_bytes(),
            Style::Datagram => inbox.front().map_or(0, |message| message.unread().len()),
        })
    }

    /// Bytes that are under way (`SIOCOUTQ`). `EINVAL` for a listener.
    pub fn unsent_bytes(&self) -> Result<usize> {
        if self.state.get() == State::Listening { Err(Errno::EINVAL) } else { Ok(self.sender.under_way()) }
    }

    /// Shuts directions down, of the peer's too if they are connected for good.
    pub fn shut_down(&self, directions: Shutdown) {
        self.common.shut(directions);
        if self.common.style.is_connected()
            && let Some(peer) = self.live_peer()
        {
            peer.common.shut(directions.mirrored());
        }
        self.room.wake();
    }

    fn is_queue_full(&self) -> bool {
        let waiting = match self.state.get() {
            State::Listening => self.arrivals.borrow().len(),
            State::Unconnected | State::Connected | State::Closed => self.inbox.borrow().len(),
        };
        waiting > self.max_backlog.get() as usize
    }

    /// The queue that was full has room: tells those who wait for it.
    fn tell_of_room(&self) {
        self.room.wake();
        let held_up = core::mem::take(&mut *self.held_up.borrow_mut());
        for socket in held_up.values().filter_map(Weak::upgrade) {
            socket.common.changed.wake();
        }
    }

    /// Waits to be told when this peer has room.
    fn hold_up_at(self: &Rc<Self>, peer: &Rc<Self>) {
        if !core::ptr::eq(self.held_up_at.borrow().as_ptr(), Rc::as_ptr(peer)) {
            self.go_on();
            self.held_up_at.replace(Rc::downgrade(peer));
        }
        peer.held_up.borrow_mut().insert(self.common.cookie, Rc::downgrade(self));
    }

    /// Waits no longer for that.
    fn go_on(&self) {
        if let Some(peer) = self.held_up_at.take().upgrade() {
            peer.held_up.borrow_mut().remove(&self.common.cookie);
        }
    }

    /// Whether a datagram peer that does not talk back has no room.
    fn is_peer_full(self: &Rc<Self>) -> bool {
        let Some(peer) = self.live_peer() else { return false };
        if peer.peer_is(self) || Rc::ptr_eq(&peer, self) || !peer.is_queue_full() {
            return false;
        }
        self.hold_up_at(&peer);
        true
    }

    /// What it is ready for.
    pub fn readiness(self: &Rc<Self>) -> PollEvents {
        let shut = self.common.shutdown();
        let state = self.state.get();
        let style = self.common.style;
        let mut events = PollEvents::empty();
        events.set(PollEvents::ERROR, self.common.has_error());
        if shut.contains(Shutdown::RECEIVE) {
            events |= PollEvents::READ_HANG_UP | PollEvents::READABLE;
        }
        let is_waiting = !self.inbox.borrow().is_empty() || !self.arrivals.borrow().is_empty();
        if is_waiting {
            events |= PollEvents::READABLE;
        }
        let is_unconnected = style.is_connected() && matches!(state, State::Unconnected | State::Closed);
        events.set(PollEvents::HANG_UP, shut == Shutdown::all() || is_unconnected);
        let is_writable = state != State::Listening && self.sender.is_writable();
        if is_writable && (style == Style::Stream || !self.is_peer_full()) {
            events |= PollEvents::WRITABLE | PollEvents::WRITE_BAND;
        }
        events
    }

    /// Gives it a name. `EINVAL` if it has one; `EADDRINUSE`.
    pub fn bind(self: &Rc<Self>, binding: Binding, name: Name) -> Result<()> {
        self.check_unbound()?;
        self.domain.names.bind(self, &binding)?;
        self.binding.replace(Some(binding));
        self.sender.name.replace(Some(name));
        Ok(())
    }

    /// `EINVAL` if it has a name.
    pub fn check_unbound(&self) -> Result<()> {
        if self.sender.name.borrow().is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Gives it an abstract name of the system's choice, unless it has a name. `ENOSPC`.
    pub fn bind_automatically(self: &Rc<Self>) -> Result<()> {
        if self.check_unbound().is_err() {
            return Ok(());
        }
        let name = self.domain.names.automatic(self.common.style)?;
        self.bind(Binding::Abstract(name.clone()), name)
    }

    /// The same, if it wants credentials, which need an address.
    fn bind_for_credentials(self: &Rc<Self>) -> Result<()> {
        if self.common.is_on(Switches::PASS_CREDENTIALS) { self.bind_automatically() } else { Ok(()) }
    }

    /// Its last descriptor is closed: the peer is told, what was not received is lost.
    pub fn close(self: &Rc<Self>) {
        let was = self.state.replace(State::Closed);
        if was == State::Closed {
            return;
        }
        if let Some(binding) = self.binding.take() {
            self.domain.names.unbind(self.common.style, &binding);
        }
        self.go_on();
        let lost = self.inbox.borrow_mut().take_all();
        self.tell_peer_of_close(was, !lost.is_empty());
        drop(lost);
        self.common.shut(Shutdown::all());
        let arrivals = core::mem::take(&mut *self.arrivals.borrow_mut());
        for arrival in arrivals {
            if let Some(peer) = arrival.live_peer() {
                peer.common.set_error(Errno::ECONNRESET);
            }
            arrival.close();
        }
        self.tell_of_room();
    }

    fn tell_peer_of_close(&self, was: State, has_lost: bool) {
        if !self.common.style.is_connected() || was != State::Connected {
            return;
        }
        if let Some(peer) = self.live_peer() {
            if has_lost {
                peer.common.set_error(Errno::ECONNRESET);
            }
            peer.common.shut(Shutdown::all());
        }
    }

    /// Throws away what it has received, and what its connections that nobody has accepted have.
    pub fn discard_messages(&self) {
        let lost = self.inbox.borrow_mut().take_all();
        drop(lost);
        let arrivals: Vec<_> = self.arrivals.borrow().iter().cloned().collect();
        for arrival in arrivals {
            let lost = arrival.inbox.borrow_mut().take_all();
            drop(lost);
        }
    }

    /// Calls `each` with every file that its messages hold, and those of connections that nobody has accepted.
    pub fn visit_files(&self, each: &mut dyn FnMut(&OpenFile)) {
        let mut visit = |socket: &Self| {
            for rights in socket.inbox.borrow().iter().filter_map(|message| message.rights.as_ref()) {
                rights.files().iter().for_each(|file| each(file));
            }
        };
        visit(self);
        self.arrivals.borrow().iter().for_each(|arrival| visit(arrival));
    }

    /// Woken when a full queue has room.
    pub fn room(&self) -> &WaitQueue {
        &self.room
    }
}

/// Who makes or connects a socket.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The process, and its effective user and group.
    pub credentials: PeerCredentials,
    /// Its other groups.
    pub groups: Rc<[u32]>,
}
