//! Sockets.
//!
//! A [`Socket`] is what an open file does that `socket` made. What its address family does is in a module of its own:
//! [`unix`], [`inet`] and [`netlink`]. They are state machines without a system call in them: `calls/socket.rs` and its neighbours decode what programs
//! ask for, and wait where these say `EAGAIN`.

pub mod address;
pub mod common;
pub mod inet;
pub mod netlink;
pub mod rights;
pub mod table;
pub mod unix;

use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::platform::{self, Executor};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use common::{Common, Style};
use core::cell::Cell;
use inet::Version;
use inet::tcp::{Binder, Phase, TcpSocket};
use inet::udp::UdpSocket;
use linux_raw_sys::net as linux;
use netlink::{AF_NETLINK, NetlinkSocket};
use unix::{Attached, Received, Request, UnixSocket};

/// All networks.
#[derive(Default)]
pub struct Net {
    /// Unix sockets.
    pub unix: Rc<unix::Domain>,
    /// TCP and UDP.
    pub inet: Rc<inet::Domain>,
    /// Ports of netlink.
    pub netlink: Rc<netlink::Ports>,
    is_collecting: Cell<bool>,
}

/// How long sockets that only messages hold are left alone, in ns.
const COLLECTION_PERIOD_NS: u64 = 100_000_000;

/// Looking for them takes at most one part in so many of the server's time.
const COLLECTION_SHARE: u64 = 50;

impl Net {
    /// A socket is about to be sent in a message: from time to time, as long as any is in flight, those that nobody can receive are
    /// looked for.
    pub fn expect_flight(self: &Rc<Self>, executor: &Executor) {
        if self.is_collecting.replace(true) {
            return;
        }
        let (net, sleeper) = (Rc::downgrade(self), executor.clone());
        executor.spawn(async move {
            let mut pause_ns = COLLECTION_PERIOD_NS;
            loop {
                sleeper.sleep_until(platform::now_ns().saturating_add(pause_ns)).await;
                let Some(net) = net.upgrade() else { return };
                let began_ns = platform::now_ns();
                net.unix.in_flight.collect();
                let took_ns = platform::now_ns().saturating_sub(began_ns);
                pause_ns = COLLECTION_PERIOD_NS.max(took_ns.saturating_mul(COLLECTION_SHARE));
                if !net.unix.in_flight.has_sockets() {
                    net.is_collecting.set(false);
                    return;
                }
            }
        });
    }
}

/// What a socket is, by its address family.
#[derive(Debug)]
pub enum Family {
    /// `AF_UNIX`.
    Unix(Rc<UnixSocket>),
    /// A stream of `AF_INET` or `AF_INET6`.
    Tcp(Rc<TcpSocket>),
    /// Datagrams of the same.
    Udp(Rc<UdpSocket>),
    /// `AF_NETLINK`.
    Netlink(Rc<NetlinkSocket>),
}

fn domain_of(version: Version) -> u32 {
    match version {
        Version::V4 => linux::AF_INET,
        Version::V6 => linux::AF_INET6,
    }
}

/// A socket, as an open file has it: it is closed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    family: Family,
}

impl Drop for Socket {
    fn drop(&mut self) {
        match &self.family {
            Family::Unix(unix) => unix.close(),
            Family::Tcp(tcp) => tcp.close(),
            Family::Udp(udp) => udp.close(),
            Family::Netlink(_) => {}
        }
    }
}

impl Socket {
    /// Makes a file's part of it.
    pub fn new(family: Family) -> Rc<Self> {
        Rc::new(Self { family })
    }

    /// What it is.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// It as a Unix socket.
    pub fn unix(&self) -> Option<&Rc<UnixSocket>> {
        match &self.family {
            Family::Unix(unix) => Some(unix),
            Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) => None,
        }
    }

    /// What all sockets have.
    pub fn common(&self) -> &Common {
        match &self.family {
            Family::Unix(unix) => &unix.common,
            Family::Tcp(tcp) => &tcp.common,
            Family::Udp(udp) => &udp.common,
            Family::Netlink(netlink) => &netlink.common,
        }
    }

    /// The number of its family (`SO_DOMAIN`).
    pub fn domain(&self) -> u32 {
        match &self.family {
            Family::Unix(_) => linux::AF_UNIX,
            Family::Tcp(tcp) => domain_of(tcp.version),
            Family::Udp(udp) => domain_of(udp.version),
            Family::Netlink(_) => AF_NETLINK,
        }
    }

    /// The number of its protocol (`SO_PROTOCOL`).
    pub fn protocol(&self) -> u32 {
        match &self.family {
            Family::Unix(_) | Family::Netlink(_) => 0,
            Family::Tcp(_) => linux::SOL_TCP,
            Family::Udp(udp) => udp.protocol.number(),
        }
    }

    /// Whether it waits for connections (`SO_ACCEPTCONN`).
    pub fn is_listening(&self) -> bool {
        match &self.family {
            Family::Unix(unix) => unix.state() == unix::State::Listening,
            Family::Tcp(tcp) => tcp.phase() == Phase::Listening,
            Family::Udp(_) | Family::Netlink(_) => false,
        }
    }

    /// Whether who sends on a broken connection gets `SIGPIPE`.
    pub fn raises_pipe_signal(&self) -> bool {
        self.common().style == Style::Stream
    }

    /// Sends to the peer.
    pub fn send(&self, from: &mut dyn Source, attached: &mut Attached) -> Result<usize> {
        match (&self.family, self.common().style) {
            (Family::Unix(unix), Style::Stream) => unix.send_stream(from, attached),
            (Family::Unix(unix), Style::Datagram | Style::SeqPacket) => unix.send_message(None, from, attached),
            (Family::Tcp(tcp), _) => tcp.send(from),
            (Family::Netlink(netlink), _) => {
                netlink.send(from, attached.own_credentials.map_or(0, |own| own.pid as u32))
            }
            (Family::Udp(udp), _) => {
                udp.send(None, from, Binder { user: attached.user, is_privileged: false }, attached.packet)
            }
        }
    }

    /// Receives, adding to what there is already.
    pub fn receive(&self, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        match (&self.family, self.common().style) {
            (Family::Unix(unix), Style::Stream) => unix.receive_stream(to, request, got),
            (Family::Unix(unix), Style::Datagram | Style::SeqPacket) => unix.receive_message(to, request, got),
            (Family::Tcp(tcp), _) => tcp.receive(to, request, got),
            (Family::Udp(udp), _) => udp.receive(to, request, got),
            (Family::Netlink(netlink), _) => netlink.receive(to, request, got),
        }
    }
}

impl FileOps for Socket {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        let mut got = Received::default();
        match self.receive(to, Request::default(), &mut got) {
            Err(Errno::EAGAIN) if got.count > 0 => Ok(got.count),
            result => result.map(|()| got.count),
        }
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        self.send(from, &mut Attached::default())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        match &self.family {
            Family::Unix(unix) => unix.readiness(),
            Family::Tcp(tcp) => tcp.readiness(),
            Family::Udp(udp) => udp.readiness(),
            Family::Netlink(netlink) => netlink.readiness(),
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.common().changed)
    }

    fn readable_bytes(&self) -> Result<usize> {
        match &self.family {
            Family::Unix(unix) => unix.readable_bytes(),
            Family::Tcp(tcp) => tcp.readable_bytes(),
            Family::Udp(udp) => Ok(udp.readable_bytes()),
            Family::Netlink(netlink) => Ok(netlink.readable_bytes()),
        }
    }

    fn socket(&self) -> Option<&Socket> {
        Some(self)
    }
}
