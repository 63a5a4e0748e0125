//! TCP within one machine (`tcp(7)`).

mod connect;
mod transfer;

use super::options::Numbers;
use super::ports::{Claim, FIRST_FREE_PORT};
use super::{Domain, Version, check_local};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::PollEvents;
use crate::net::common::{Common, Shutdown, Style, Switches};
use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use linux_raw_sys::net as linux;
use transfer::Bytes;

/// What a socket takes of the server's memory, about, in bytes.
const SOCKET_BYTES: u64 = 768;
/// `SO_SNDBUF` of a new socket.
const SEND_BUFFER: u32 = 16_384;
/// `SO_RCVBUF` of a new socket.
const RECEIVE_BUFFER: u32 = 131_072;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection yet.
    Idle,
    /// It waits for connections.
    Listening,
    /// It waits until a listener has room.
    Connecting,
    /// There is a connection, or half of one.
    Connected,
    /// There was one.
    Over,
}

/// Who binds a socket.
#[derive(Clone, Copy, Debug)]
pub struct Binder {
    /// The user.
    pub user: u32,
    /// Whether it may have any port.
    pub is_privileged: bool,
}

/// A TCP socket.
pub struct TcpSocket {
    /// What all sockets have.
    pub common: Common,
    /// Its address family.
    pub version: Version,
    /// Options that are numbers.
    pub numbers: Numbers,
    domain: Rc<Domain>,
    phase: Cell<Phase>,
    local: Cell<Option<SocketAddr>>,
    remote: Cell<Option<SocketAddr>>,
    /// The port that it holds.
    port: Cell<Option<u16>>,
    peer: RefCell<Weak<Self>>,
    inbox: RefCell<Bytes>,
    /// Connections that nobody has accepted yet.
    arrivals: RefCell<VecDeque<Rc<Self>>>,
    /// Connections for which there is no room among those.
    pending: RefCell<VecDeque<Weak<Self>>>,
    /// The listener where it is one of those.
    waits_at: RefCell<Weak<Self>>,
    max_backlog: Cell<u32>,
    /// A `connect` that did not wait has not been told how it went.
    is_unreported: Cell<bool>,
    is_closed: Cell<bool>,
    _charge: Charge,
    _alive: crate::census::counted::Socket,
}

impl core::fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TcpSocket").field("local", &self.local).field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl TcpSocket {
    /// A new one. `ENFILE` if the server keeps too much already.
    pub fn new(domain: &Rc<Domain>, version: Version) -> Result<Rc<Self>> {
        let charge = Charge::new(Budget::Open, SOCKET_BYTES).map_err(|_| Errno::ENFILE)?;
        let common = Common::new(Style::Stream);
        common.send_buffer.set(SEND_BUFFER);
        common.receive_buffer.set(RECEIVE_BUFFER);
        Ok(Rc::new(Self {
            _alive: Default::default(),
            common,
            version,
            numbers: Numbers::default(),
            domain: domain.clone(),
            phase: Cell::new(Phase::Idle),
            local: Cell::new(None),
            remote: Cell::new(None),
            port: Cell::new(None),
            peer: RefCell::default(),
            inbox: RefCell::default(),
            arrivals: RefCell::default(),
            pending: RefCell::default(),
            waits_at: RefCell::default(),
            max_backlog: Cell::new(0),
            is_unreported: Cell::new(false),
            is_closed: Cell::new(false),
            _charge: charge,
        }))
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Its address, if it has one.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get()
    }

    /// The peer's. `ENOTCONN`.
    pub fn remote(&self) -> Result<SocketAddr> {
        let remote = self.remote.get().filter(|_| self.phase.get() == Phase::Connected);
        remote.ok_or(Errno::ENOTCONN)
    }

    /// The peer's address at the time of the connection, which may be over.
    pub fn peer_of_arrival(&self) -> SocketAddr {
        self.remote.get().unwrap_or_else(|| super::address::unspecified(self.version))
    }

    /// Whether a `connect` that did not wait has not been told how it went.
    pub fn is_unreported(&self) -> bool {
        self.is_unreported.get()
    }

    fn live_peer(&self) -> Option<Rc<Self>> {
        self.peer.borrow().upgrade().filter(|peer| !peer.is_closed.get())
    }

    /// Binds it. `EINVAL` if it is bound already, `EADDRNOTAVAIL`, `EACCES`, `EADDRINUSE`.
    pub fn bind(self: &Rc<Self>, address: SocketAddr, binder: Binder) -> Result<()> {
        let is_v6_only = self.numbers.is_on(linux::SOL_IPV6, linux::IPV6_V6ONLY);
        if self.version == Version::V6 && is_v6_only && address.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        check_local(address.ip())?;
        if address.port() != 0 && address.port() < FIRST_FREE_PORT && !binder.is_privileged {
            return Err(Errno::EACCES);
        }
        if self.port.get().is_some() || self.phase.get() != Phase::Idle {
            return Err(Errno::EINVAL);
        }
        let claim = Claim {
            ip: address.ip(),
            is_dual: address.is_ipv6() && address.ip().is_unspecified() && !is_v6_only,
            shares_address: self.common.is_on(Switches::REUSE_ADDRESS),
            shares_port: self.common.is_on(Switches::REUSE_PORT),
            user: binder.user,
            is_listening: false,
        };
        let port = self.domain.tcp.bind(self, claim, address.port())?;
        self.port.set(Some(port));
        self.local.set(Some(SocketAddr::new(address.ip(), port)));
        Ok(())
    }

    fn release_port(self: &Rc<Self>) {
        if let Some(port) = self.port.take() {
            self.domain.tcp.release(self, port);
        }
    }

    /// Bytes that can be read now (`FIONREAD`). `EINVAL` for a listener.
    pub fn readable_bytes(&self) -> Result<usize> {
        if self.phase.get() == Phase::Listening { Err(Errno::EINVAL) } else { Ok(self.inbox.borrow().len()) }
    }

    /// Shuts directions down. `ENOTCONN` without a connection.
    pub fn shut_down(self: &Rc<Self>, directions: Shutdown) -> Result<()> {
        match self.phase.get() {
            Phase::Connected => {}
            Phase::Listening if directions.contains(Shutdown::RECEIVE) => {
                self.stop_listening();
                self.phase.set(Phase::Idle);
                self.common.changed.wake();
                return Ok(());
            }
            Phase::Connecting => {
                self.stop_waiting();
                self.phase.set(Phase::Over);
                self.common.shut(Shutdown::all());
                return Ok(());
            }
            Phase::Idle | Phase::Listening | Phase::Over => return Err(Errno::ENOTCONN),
        }
        self.common.shut(directions);
        if directions.contains(Shutdown::SEND)
            && let Some(peer) = self.live_peer()
        {
            peer.common.shut(Shutdown::RECEIVE);
        }
        Ok(())
    }

    /// The connection is broken: what comes next is this error, then the end.
    fn reset(&self, error: Errno) {
        self.phase.set(Phase::Over);
        self.common.set_error(error);
        self.common.shut(Shutdown::all());
    }

    /// Its last descriptor is closed.
    pub fn close(self: &Rc<Self>) {
        if self.is_closed.replace(true) {
            return;
        }
        self.stop_listening();
        self.stop_waiting();
        self.release_port();
        let is_unread = !self.inbox.borrow().is_empty();
        self.inbox.take();
        let aborts = self.common.is_on(Switches::LINGER) && self.common.linger_seconds.get() == 0;
        if self.phase.replace(Phase::Over) == Phase::Connected
            && let Some(peer) = self.live_peer()
        {
            if is_unread || aborts {
                peer.reset(Errno::ECONNRESET);
            } else {
                peer.common.shut(Shutdown::RECEIVE);
            }
        }
        self.common.shut(Shutdown::all());
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let shut = self.common.shutdown();
        let phase = self.phase.get();
        let mut events = PollEvents::empty();
        events.set(PollEvents::ERROR, self.common.has_error());
        if phase == Phase::Listening {
            events.set(PollEvents::READABLE, !self.arrivals.borrow().is_empty());
            return events;
        }
        events.set(PollEvents::HANG_UP, shut == Shutdown::all() || matches!(phase, Phase::Idle | Phase::Over));
        if shut.contains(Shutdown::RECEIVE) {
            events |= PollEvents::READ_HANG_UP | PollEvents::READABLE;
        }
        if phase == Phase::Connecting {
            return events;
        }
        let is_enough = self.inbox.borrow().len() >= self.common.receive_low_water.get() as usize;
        if is_enough {
            events |= PollEvents::READABLE;
        }
        if shut.contains(Shutdown::SEND) || self.is_writable() {
            events |= PollEvents::WRITABLE;
        }
        events
    }
}
