//! Listening, connecting and accepting.

use super::{Binder, Phase, TcpSocket};
use crate::errno::{Errno, Result};
use crate::net::inet::address::unspecified;
use crate::net::inet::{Version, destination, source};
use crate::net::unix::message::shrink;
use alloc::rc::Rc;
use core::net::SocketAddr;
use linux_raw_sys::net as linux;

/// The longest queue of a listener (`net.core.somaxconn`).
const MAX_BACKLOG: u32 = 4096;

impl TcpSocket {
    /// Waits for connections from now on. `EINVAL` if it is connected; `EADDRINUSE`.
    pub fn listen(self: &Rc<Self>, backlog: u32, binder: Binder) -> Result<()> {
        match self.phase.get() {
            Phase::Idle => {}
            Phase::Listening => {
                self.max_backlog.set(backlog.min(MAX_BACKLOG));
                self.admit_pending();
                return Ok(());
            }
            Phase::Connecting | Phase::Connected | Phase::Over => return Err(Errno::EINVAL),
        }
        if self.port.get().is_none() {
            self.bind(unspecified(self.version), binder)?;
        }
        self.domain.tcp.set_listening(self, self.port.get().unwrap_or_default(), true)?;
        self.max_backlog.set(backlog.min(MAX_BACKLOG));
        self.phase.set(Phase::Listening);
        self.common.reopen();
        self.common.changed.wake();
        Ok(())
    }

    /// Ends that: who has not been accepted is reset, who waits is refused.
    pub(super) fn stop_listening(self: &Rc<Self>) {
        if self.phase.get() != Phase::Listening {
            return;
        }
        // Ending never fails.
        let _ = self.domain.tcp.set_listening(self, self.port.get().unwrap_or_default(), false);
        for arrival in self.arrivals.take() {
            if let Some(peer) = arrival.live_peer() {
                peer.reset(Errno::ECONNRESET);
            }
            arrival.close();
        }
        for waiting in self.pending.take().iter().filter_map(alloc::rc::Weak::upgrade) {
            if waiting.phase.get() == Phase::Connecting {
                waiting.refuse();
            }
        }
    }

    /// Takes the next connection from the queue. `EAGAIN`: there is none; `EINVAL` if it does not listen.
    pub fn accept(self: &Rc<Self>) -> Result<Rc<Self>> {
        if self.phase.get() != Phase::Listening {
            return Err(Errno::EINVAL);
        }
        let arrival = self.arrivals.borrow_mut().pop_front().ok_or(Errno::EAGAIN)?;
        shrink(&mut self.arrivals.borrow_mut());
        self.admit_pending();
        Ok(arrival)
    }

    fn is_queue_full(&self) -> bool {
        self.arrivals.borrow().len() > self.max_backlog.get() as usize
    }

    /// There may be room for who waits.
    fn admit_pending(self: &Rc<Self>) {
        while !self.is_queue_full() {
            let Some(next) = self.pending.borrow_mut().pop_front() else { return };
            if let Some(waiting) = next.upgrade().filter(|waiting| waiting.phase.get() == Phase::Connecting) {
                self.admit(&waiting);
            }
        }
    }

    /// Begins to connect. Whether it has come to something is told by [`connected`](Self::connected). `EISCONN`, `EALREADY`,
    /// `ENETUNREACH`; `EADDRNOTAVAIL` if there is no port left.
    pub fn connect(self: &Rc<Self>, to: SocketAddr, binder: Binder) -> Result<()> {
        match self.phase.get() {
            Phase::Connecting => return Err(Errno::EALREADY),
            Phase::Connected | Phase::Idle | Phase::Over if self.is_unreported.get() => return Ok(()),
            Phase::Connected | Phase::Listening => return Err(Errno::EISCONN),
            Phase::Idle | Phase::Over => {}
        }
        if self.numbers.is_on(linux::SOL_IPV6, linux::IPV6_V6ONLY) && self.version == Version::V6 && to.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        let to = SocketAddr::new(destination(to.ip())?, to.port());
        if self.port.get().is_none() {
            let own = self.local.get().unwrap_or_else(|| unspecified(self.version));
            let any = SocketAddr::new(own.ip(), 0);
            self.phase.set(Phase::Idle);
            self.bind(any, binder).map_err(|_| Errno::EADDRNOTAVAIL)?;
        }
        self.common.reopen();
        let local = self.local.get().unwrap_or_else(|| unspecified(self.version));
        self.local.set(Some(SocketAddr::new(source(local.ip(), to.ip()), local.port())));
        self.remote.set(Some(to));
        self.is_unreported.set(true);
        self.knock(to);
        Ok(())
    }

    /// Asks the listener, if there is one.
    fn knock(self: &Rc<Self>, to: SocketAddr) {
        let own_cookie = self.common.cookie as u32;
        // Those that share a port take turns.
        let rank = |other: &Self| {
            let is_there = other.phase.get() == Phase::Listening;
            is_there.then(|| (other.common.cookie as u32 ^ own_cookie).wrapping_mul(0x9e37_79b9) >> 16)
        };
        match self.domain.tcp.find(to, rank) {
            None => self.refuse(),
            Some(listener) if listener.is_queue_full() => {
                self.phase.set(Phase::Connecting);
                listener.keep_waiting(self);
            }
            Some(listener) => listener.admit(self),
        }
    }

    /// There is no room: the client waits, unless too many do.
    fn keep_waiting(self: &Rc<Self>, client: &Rc<Self>) {
        let mut pending = self.pending.borrow_mut();
        if pending.len() >= MAX_BACKLOG as usize {
            drop(pending);
            return client.refuse();
        }
        pending.push_back(Rc::downgrade(client));
        client.waits_at.replace(Rc::downgrade(self));
    }

    /// Waits no longer.
    pub(super) fn stop_waiting(self: &Rc<Self>) {
        if let Some(listener) = self.waits_at.take().upgrade() {
            let is_other = |waiting: &alloc::rc::Weak<Self>| !core::ptr::eq(waiting.as_ptr(), Rc::as_ptr(self));
            listener.pending.borrow_mut().retain(is_other);
        }
    }

    fn refuse(self: &Rc<Self>) {
        self.reset(Errno::ECONNREFUSED);
        self.phase.set(Phase::Idle);
        self.release_port();
        self.common.changed.wake();
    }

    /// Puts a connection with this client into the queue.
    fn admit(self: &Rc<Self>, client: &Rc<Self>) {
        let Ok(arrival) = Self::new(&self.domain, self.version) else { return client.refuse() };
        arrival.phase.set(Phase::Connected);
        arrival.local.set(client.remote.get());
        arrival.remote.set(client.local.get());
        arrival.peer.replace(Rc::downgrade(client));
        arrival.numbers.inherit(&self.numbers);
        arrival.common.switches.set(self.common.switches.get());
        arrival.common.linger_seconds.set(self.common.linger_seconds.get());
        arrival.common.send_buffer.set(self.common.send_buffer.get());
        arrival.common.receive_buffer.set(self.common.receive_buffer.get());
        // The listener has said how large segments may be.
        if let Some(bytes) = self.numbers.changed(linux::SOL_TCP, linux::TCP_MAXSEG) {
            // It was checked when it was set there.
            let _ = client.numbers.set(linux::SOL_TCP, linux::TCP_MAXSEG, bytes);
        }
        client.peer.replace(Rc::downgrade(&arrival));
        client.phase.set(Phase::Connected);
        self.arrivals.borrow_mut().push_back(arrival);
        client.common.changed.wake();
        self.common.changed.wake();
    }

    /// Gives up the connection, as if there had never been one (`connect` to no address).
    pub fn disconnect(self: &Rc<Self>) {
        self.stop_listening();
        self.stop_waiting();
        if let Some(peer) = self.live_peer().filter(|_| self.phase.get() == Phase::Connected) {
            peer.reset(Errno::ECONNRESET);
        }
        self.peer.take();
        self.inbox.take();
        self.remote.set(None);
        self.phase.set(Phase::Idle);
        self.is_unreported.set(false);
        self.common.reopen();
        self.common.changed.wake();
    }

    /// How a `connect` went. `EAGAIN`: it is not decided.
    pub fn connected(&self) -> Result<()> {
        match self.phase.get() {
            Phase::Connecting => Err(Errno::EAGAIN),
            Phase::Connected => {
                self.is_unreported.set(false);
                Ok(())
            }
            Phase::Idle | Phase::Listening | Phase::Over => {
                self.is_unreported.set(false);
                let error = self.common.take_error().unwrap_or(Errno::ECONNABORTED);
                self.common.reopen();
                Err(error)
            }
        }
    }
}
