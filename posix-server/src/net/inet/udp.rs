//! UDP and UDP-Lite within one machine (`udp(7)`, `udplite(7)`).

use super::address::unspecified;
use super::options::Numbers;
use super::ports::{Claim, FIRST_FREE_PORT, Ports};
use super::tcp::Binder;
use super::{Domain, Packet, Traffic, Version, check_local, destination, source};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{Destination, PollEvents, Source};
use crate::net::common::{Common, Shutdown, Style, Switches};
use crate::net::unix::message::{footprint, shrink};
use crate::net::unix::{Received, Request};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use linux_raw_sys::net as linux;

/// What a socket takes of the server's memory, about, in bytes.
const SOCKET_BYTES: u64 = 640;
/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_507;
/// The same over IPv6, whose length does not count the address.
const MAX_DATAGRAM_V6: usize = 65_527;
/// What a datagram takes of the server's memory besides its bytes, about.
const DATAGRAM_OVERHEAD: usize = 192;

/// How many routers a packet may pass.
const DEFAULT_HOPS: u8 = 64;
/// How many datagrams that came back are kept.
const MAX_RETURNED: usize = 16;

#[derive(Debug)]
struct Datagram {
    bytes: Vec<u8>,
    from: SocketAddr,
    to: SocketAddr,
    traffic: Traffic,
    /// When it arrived, in ns of Unix time.
    time_ns: u64,
    /// How many were lost before it.
    lost: u32,
    _charge: Charge,
}

/// Which parts of an address a program named when it bound a socket.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen {
    ip: bool,
    port: bool,
}

/// Which of the two protocols: they differ in their ports, and in what a checksum covers, which nobody computes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `IPPROTO_UDP`.
    Udp,
    /// `IPPROTO_UDPLITE`.
    Lite,
}

impl Protocol {
    /// Its number.
    pub const fn number(self) -> u32 {
        match self {
            Self::Udp => linux::SOL_UDP,
            Self::Lite => linux::SOL_UDPLITE,
        }
    }
}

/// A UDP socket.
pub struct UdpSocket {
    /// What all sockets have.
    pub common: Common,
    /// Its address family.
    pub version: Version,
    /// Its protocol.
    pub protocol: Protocol,
    /// Options that are numbers.
    pub numbers: Numbers,
    domain: Rc<Domain>,
    local: Cell<Option<SocketAddr>>,
    /// What of its address the program chose, and so outlasts the peer.
    chosen: Cell<Chosen>,
    remote: Cell<Option<SocketAddr>>,
    inbox: RefCell<VecDeque<Datagram>>,
    /// What is in there, as a receive buffer counts.
    received: Cell<usize>,
    /// How many were lost for want of room.
    lost: Cell<u32>,
    /// Datagrams that came back, with whom they were for.
    returned: RefCell<VecDeque<Datagram>>,
    _charge: Charge,
    _alive: crate::census::counted::Socket,
}

impl core::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UdpSocket").field("local", &self.local).field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl UdpSocket {
    /// A new one. `ENFILE` if the server keeps too much already.
    pub fn new(domain: &Rc<Domain>, version: Version, protocol: Protocol) -> Result<Rc<Self>> {
        let charge = Charge::new(Budget::Open, SOCKET_BYTES).map_err(|_| Errno::ENFILE)?;
        Ok(Rc::new(Self {
            _alive: Default::default(),
            common: Common::new(Style::Datagram),
            version,
            protocol,
            numbers: Numbers::default(),
            domain: domain.clone(),
            local: Cell::new(None),
            chosen: Cell::default(),
            remote: Cell::new(None),
            inbox: RefCell::default(),
            received: Cell::new(0),
            lost: Cell::new(0),
            returned: RefCell::default(),
            _charge: charge,
        }))
    }

    fn ports(&self) -> &Ports<Self> {
        match self.protocol {
            Protocol::Udp => &self.domain.udp,
            Protocol::Lite => &self.domain.udp_lite,
        }
    }

    /// Its address, if it has one.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get()
    }

    /// The peer's. `ENOTCONN`.
    pub fn remote(&self) -> Result<SocketAddr> {
        self.remote.get().ok_or(Errno::ENOTCONN)
    }

    fn is_v6_only(&self) -> bool {
        self.version == Version::V6 && self.numbers.is_on(linux::SOL_IPV6, linux::IPV6_V6ONLY)
    }

    /// Binds it. `EINVAL` if it is bound already, `EADDRNOTAVAIL`, `EACCES`, `EADDRINUSE`.
    pub fn bind(self: &Rc<Self>, address: SocketAddr, binder: Binder) -> Result<()> {
        if self.is_v6_only() && address.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        check_local(address.ip())?;
        if address.port() != 0 && address.port() < FIRST_FREE_PORT && !binder.is_privileged {
            return Err(Errno::EACCES);
        }
        if self.local.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let claim = Claim {
            ip: address.ip(),
            is_dual: address.is_ipv6() && address.ip().is_unspecified() && !self.is_v6_only(),
            shares_address: self.common.is_on(Switches::REUSE_ADDRESS),
            shares_port: self.common.is_on(Switches::REUSE_PORT),
            user: binder.user,
            is_listening: false,
        };
        let port = self.ports().bind(self, claim, address.port())?;
        self.local.set(Some(SocketAddr::new(address.ip(), port)));
        self.chosen.set(Chosen { ip: !address.ip().is_unspecified(), port: address.port() != 0 });
        Ok(())
    }

    fn bind_if_unbound(self: &Rc<Self>, binder: Binder) -> Result<()> {
        if self.local.get().is_some() {
            Ok(())
        } else {
            self.bind(unspecified(self.version), binder).map_err(|_| Errno::EAGAIN)
        }
    }

    /// Gives it the peer that it sends to by default and alone hears; or none. `ENETUNREACH`.
    pub fn connect(self: &Rc<Self>, to: Option<SocketAddr>, binder: Binder) -> Result<()> {
        let Some(to) = to else {
            self.disconnect();
            return Ok(());
        };
        let to = self.reachable(to)?;
        self.bind_if_unbound(binder)?;
        if let Some(local) = self.local.get().filter(|local| local.ip().is_unspecified()) {
            self.local.set(Some(SocketAddr::new(source(local.ip(), to.ip()), local.port())));
        }
        self.remote.set(Some(to));
        self.common.changed.wake();
        Ok(())
    }

    /// Takes the peer away, and of the socket's own address what the system chose for it.
    fn disconnect(self: &Rc<Self>) {
        let chosen = self.chosen.get();
        self.remote.set(None);
        let Some(local) = self.local.get() else { return };
        // With an address of the program's choice, a port of ours stays, too; Linux would choose another one next time.
        if chosen.ip {
            return;
        }
        if chosen.port {
            self.local.set(Some(SocketAddr::new(unspecified(self.version).ip(), local.port())));
        } else {
            self.local.set(None);
            self.ports().release(self, local.port());
        }
    }

    fn reachable(&self, to: SocketAddr) -> Result<SocketAddr> {
        if self.is_v6_only() && to.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        let is_broadcast = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        if is_broadcast && !self.common.is_on(Switches::BROADCAST) {
            return Err(Errno::EACCES);
        }
        Ok(SocketAddr::new(destination(to.ip())?, to.port()))
    }

    /// What a packet to an address says, unless the message says otherwise.
    fn traffic(&self, to: SocketAddr, packet: Packet) -> Traffic {
        let option = |level, option| self.numbers.get(level, option).ok().and_then(|value| u8::try_from(value).ok());
        let (hops, class) = match to {
            SocketAddr::V4(_) => (option(linux::SOL_IP, linux::IP_TTL), option(linux::SOL_IP, linux::IP_TOS)),
            SocketAddr::V6(_) => {
                (option(linux::SOL_IPV6, linux::IPV6_UNICAST_HOPS), option(linux::SOL_IPV6, linux::IPV6_TCLASS))
            }
        };
        Traffic {
            hops: packet.hops.or(hops).unwrap_or(DEFAULT_HOPS),
            class: packet.class.or(class).unwrap_or_default(),
        }
    }

    /// Sends a datagram, to the peer if `to` names nobody. `EDESTADDRREQ`, `EMSGSIZE`, `ENETUNREACH`, `EPIPE`, `ENOBUFS`, `EINVAL`
    /// if it is to come from an address that is not the machine's.
    pub fn send(
        self: &Rc<Self>,
        to: Option<SocketAddr>,
        from: &mut dyn Source,
        binder: Binder,
        packet: Packet,
    ) -> Result<usize> {
        let length = from.remaining();
        if length > if self.version == Version::V4 { MAX_DATAGRAM } else { MAX_DATAGRAM_V6 } {
            return Err(Errno::EMSGSIZE);
        }
        if self.common.is_shut(Shutdown::SEND) {
            return Err(Errno::EPIPE);
        }
        let to = to.or(self.remote.get()).ok_or(Errno::EDESTADDRREQ)?;
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let to = self.reachable(to)?;
        self.common.check_error()?;
        self.bind_if_unbound(binder)?;
        let charge = Charge::new(Budget::Contents, (length + DATAGRAM_OVERHEAD) as u64).map_err(|_| Errno::ENOBUFS)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        if from.get(&mut bytes) < length {
            return Err(Errno::EFAULT);
        }
        let own = self.local.get().unwrap_or_else(|| unspecified(self.version));
        let own_ip = packet.source.filter(|ip| !ip.is_unspecified()).unwrap_or(own.ip());
        if !own_ip.is_unspecified() && !own_ip.is_loopback() && !own_ip.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let own = SocketAddr::new(source(own_ip, to.ip()), own.port());
        let traffic = self.traffic(to, packet);
        match self.ports().find(to, |other| other.rank(own)) {
            Some(receiver) => {
                let time_ns = crate::platform::realtime_ns();
                receiver.take_in(Datagram { bytes, from: own, to, traffic, time_ns, lost: 0, _charge: charge });
            }
            None => self.take_back(Datagram { bytes, from: to, to, traffic, time_ns: 0, lost: 0, _charge: charge }),
        }
        Ok(length)
    }

    /// Nobody has the port that a datagram was for: a connected socket is told, and one that wants to know more.
    fn take_back(&self, datagram: Datagram) {
        let (level, option) = match datagram.from {
            SocketAddr::V4(_) => (linux::SOL_IP, linux::IP_RECVERR),
            SocketAddr::V6(_) => (linux::SOL_IPV6, linux::IPV6_RECVERR),
        };
        let wants_more = self.numbers.is_on(level, option);
        if !wants_more && self.remote.get() != Some(datagram.from) {
            return;
        }
        if wants_more && self.returned.borrow().len() < MAX_RETURNED {
            self.returned.borrow_mut().push_back(datagram);
        }
        self.common.set_error(Errno::ECONNREFUSED);
    }

    /// Receives a datagram that came back. `EAGAIN`: there is none.
    fn receive_returned(&self, to: &mut dyn Destination, got: &mut Received) -> Result<()> {
        let returned = self.returned.borrow_mut().pop_front().ok_or(Errno::EAGAIN)?;
        if self.returned.borrow().is_empty() {
            self.common.take_error();
        }
        let part = returned.bytes.get(..returned.bytes.len().min(to.remaining())).unwrap_or_default();
        if !part.is_empty() && to.put(part) < part.len() {
            return Err(Errno::EFAULT);
        }
        got.count = part.len();
        got.result = part.len();
        got.is_truncated = part.len() < returned.bytes.len();
        got.from = Some(returned.from);
        got.error = Some((Errno::ECONNREFUSED, SocketAddr::new(returned.from.ip(), 0)));
        Ok(())
    }

    /// How well it suits a datagram from this address: a peer's better than a stranger's. `None`: not at all.
    fn rank(&self, from: SocketAddr) -> Option<u32> {
        match self.remote.get() {
            None => Some(0),
            Some(remote) if remote == from => Some(1),
            Some(_) => None,
        }
    }

    /// A datagram has come; it is lost if there is no room.
    fn take_in(&self, datagram: Datagram) {
        let size = footprint::datagram(datagram.bytes.len());
        let datagram = Datagram { lost: self.lost.get(), ..datagram };
        if self.received.get() > self.common.receive_buffer.get() as usize
            || self.inbox.borrow_mut().try_reserve(1).is_err()
        {
            self.lost.set(self.lost.get().saturating_add(1));
            return;
        }
        self.received.set(self.received.get() + size);
        self.inbox.borrow_mut().push_back(datagram);
        self.common.changed.wake();
    }

    /// Receives one datagram. `EAGAIN`: there is none.
    pub fn receive(&self, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        if request.wants_error {
            return self.receive_returned(to, got);
        }
        self.common.check_error()?;
        let inbox = self.inbox.borrow();
        let Some(datagram) = inbox.front() else {
            let is_over = self.common.is_shut(Shutdown::RECEIVE) && !request.is_nonblocking;
            return if is_over { Ok(()) } else { Err(Errno::EAGAIN) };
        };
        let length = datagram.bytes.len();
        let part = datagram.bytes.get(..length.min(to.remaining())).unwrap_or_default();
        let is_fault = !part.is_empty() && to.put(part) < part.len();
        got.count = part.len();
        got.is_truncated = part.len() < length;
        got.result = if request.tells_full_length { length } else { part.len() };
        got.from = Some(datagram.from);
        got.to = Some(datagram.to);
        got.traffic = datagram.traffic;
        got.time_ns = self.common.stamp(datagram.time_ns);
        got.lost = Some(datagram.lost).filter(|lost| *lost > 0 && self.common.is_on(Switches::OVERFLOW_COUNT));
        drop(inbox);
        if !request.peeks {
            let taken = self.inbox.borrow_mut().pop_front();
            shrink(&mut self.inbox.borrow_mut());
            self.received.set(self.received.get().saturating_sub(footprint::datagram(length)));
            drop(taken);
        }
        if is_fault { Err(Errno::EFAULT) } else { Ok(()) }
    }

    /// Bytes of the next datagram (`FIONREAD`).
    pub fn readable_bytes(&self) -> usize {
        self.inbox.borrow().front().map_or(0, |datagram| datagram.bytes.len())
    }

    /// Shuts directions down. `ENOTCONN` without a peer, although it is done.
    pub fn shut_down(&self, directions: Shutdown) -> Result<()> {
        self.common.shut(directions);
        self.remote().map(|_| ())
    }

    /// Its last descriptor is closed.
    pub fn close(self: &Rc<Self>) {
        if let Some(local) = self.local.take() {
            self.ports().release(self, local.port());
        }
        self.inbox.take();
        self.returned.take();
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let shut = self.common.shutdown();
        let mut events = PollEvents::WRITABLE | PollEvents::WRITE_BAND;
        events.set(PollEvents::ERROR, self.common.has_error() || !self.returned.borrow().is_empty());
        events.set(PollEvents::HANG_UP, shut == Shutdown::all());
        if shut.contains(Shutdown::RECEIVE) {
            events |= PollEvents::READ_HANG_UP | PollEvents::READABLE;
        }
        if !self.inbox.borrow().is_empty() {
            events |= PollEvents::READABLE;
        }
        events
    }
}
