//! Listening, connecting and accepting.

use super::message::shrink;
use super::{Identity, State, UnixSocket};
use crate::errno::{Errno, Result};
use crate::net::common::{Shutdown, Switches};
use alloc::rc::Rc;

/// The longest queue of a listener (`net.core.somaxconn`).
const MAX_BACKLOG: u32 = 4096;

impl UnixSocket {
    /// Waits for connections from now on, or changes how many may queue. `EOPNOTSUPP` for datagrams; `EINVAL` if it has no
    /// name, or is connected.
    pub fn listen(&self, backlog: u32, identity: &Identity) -> Result<()> {
        if !self.common.style.is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.name().is_none() || !matches!(self.state.get(), State::Unconnected | State::Listening) {
            return Err(Errno::EINVAL);
        }
        let backlog = backlog.min(MAX_BACKLOG);
        let grows = backlog > self.max_backlog.replace(backlog);
        self.state.set(State::Listening);
        self.set_peer_identity(identity);
        self.credentials.set(Some(identity.credentials));
        if grows {
            self.room.wake();
        }
        self.common.changed.wake();
        Ok(())
    }

    /// Whether a connection to this socket would have to wait. `ECONNREFUSED` if it does not listen.
    fn check_listener(&self) -> Result<()> {
        let listens = self.state.get() == State::Listening && !self.common.is_shut(Shutdown::RECEIVE);
        match (listens, self.is_queue_full()) {
            (false, _) => Err(Errno::ECONNREFUSED),
            (true, true) => Err(Errno::EAGAIN),
            (true, false) => Ok(()),
        }
    }

    /// Connects to a listener, whose queue then has one more. `ECONNREFUSED`; `EAGAIN`: the queue is full; `EISCONN`;
    /// `EINVAL` if this one listens itself.
    pub fn connect(self: &Rc<Self>, listener: &Rc<Self>, identity: &Identity) -> Result<()> {
        self.bind_for_credentials()?;
        let arrival = Self::new(&self.domain, self.common.style)?;
        listener.check_listener()?;
        match self.state.get() {
            State::Unconnected => {}
            State::Connected => return Err(Errno::EISCONN),
            State::Listening | State::Closed => return Err(Errno::EINVAL),
        }
        listener.arrivals.borrow_mut().try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        arrival.set_peer(self);
        arrival.state.set(State::Connected);
        arrival.sender.name.replace(listener.name());
        arrival.set_peer_identity(identity);
        arrival.is_awaiting_accept.set(true);
        self.set_peer(&arrival);
        self.state.set(State::Connected);
        self.peer_credentials.set(listener.credentials.get());
        let groups = listener.peer_groups();
        self.peer_groups.replace(groups);
        listener.arrivals.borrow_mut().push_back(arrival);
        self.common.changed.wake();
        listener.common.changed.wake();
        Ok(())
    }

    /// Takes the next connection from the queue. `EAGAIN`: there is none; `EINVAL` if it does not listen, or no longer;
    /// `EOPNOTSUPP` for datagrams.
    pub fn accept(&self) -> Result<Rc<Self>> {
        if !self.common.style.is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.state.get() != State::Listening {
            return Err(Errno::EINVAL);
        }
        let was_full = self.is_queue_full();
        let arrival = self.arrivals.borrow_mut().pop_front();
        shrink(&mut self.arrivals.borrow_mut());
        match arrival {
            Some(arrival) => {
                if was_full {
                    self.tell_of_room();
                }
                let passes = Switches::PASS_CREDENTIALS | Switches::PASS_SECURITY;
                arrival.common.switches.set(self.common.switches.get() & passes);
                arrival.is_awaiting_accept.set(false);
                Ok(arrival)
            }
            None if self.common.is_shut(Shutdown::RECEIVE) => Err(Errno::EINVAL),
            None => Err(Errno::EAGAIN),
        }
    }

    /// Gives a datagram socket the peer that it sends to by default, or none. `EPERM` if that one talks to somebody else.
    pub fn associate(self: &Rc<Self>, peer: Option<&Rc<Self>>) -> Result<()> {
        if let Some(peer) = peer {
            self.bind_for_credentials()?;
            if !self.may_send_to(peer) {
                return Err(Errno::EPERM);
            }
        }
        let old = self.peer.borrow().upgrade();
        let had_other = self.has_peer() && !peer.is_some_and(|peer| self.peer_is(peer));
        match peer {
            Some(peer) => {
                self.set_peer(peer);
                self.state.set(State::Connected);
            }
            None => self.forget_peer(),
        }
        if had_other {
            self.part_from(old.as_ref());
        }
        self.go_on();
        self.common.changed.wake();
        Ok(())
    }

    pub(super) fn forget_peer(&self) {
        self.peer.replace(alloc::rc::Weak::new());
        self.peer_sender.replace(None);
        if self.state.get() == State::Connected {
            self.state.set(State::Unconnected);
        }
    }

    /// A datagram socket has left its peer: what it got from it is lost, and a peer that was connected to it is told.
    pub(super) fn part_from(self: &Rc<Self>, old: Option<&Rc<Self>>) {
        let lost = self.inbox.borrow_mut().take_all();
        if lost.is_empty() {
            return;
        }
        drop(lost);
        self.tell_of_room();
        if let Some(old) = old.filter(|old| old.state.get() != State::Closed && old.peer_is(self)) {
            old.common.set_error(Errno::ECONNRESET);
        }
    }

    /// Whether another socket takes what this one sends: it has no peer, or this is its peer.
    pub(super) fn may_send_to(self: &Rc<Self>, other: &Rc<Self>) -> bool {
        !other.has_peer() || other.peer_is(self)
    }
}
