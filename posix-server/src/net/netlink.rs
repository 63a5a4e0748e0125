//! `AF_NETLINK`, as far as C libraries and language run-times need it to list interfaces (`rtnetlink(7)`).
//!
//! There is one protocol, `NETLINK_ROUTE`, and one interface, the loopback. A request is answered at once: the answer waits in
//! the socket's own queue.

use super::common::{Common, Style};
use super::unix::message::shrink;
use super::unix::{Received, Request};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{Destination, PollEvents, Source};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{Ipv4Addr, Ipv6Addr};
use linux_raw_sys::net as linux;

/// The family of these sockets.
pub const AF_NETLINK: u32 = 16;
/// The size of `struct sockaddr_nl`, in bytes.
const ADDRESS_BYTES: usize = 12;
/// The size of `struct nlmsghdr`, in bytes.
const HEADER_BYTES: usize = 16;
/// The longest request, in bytes.
const MAX_REQUEST: usize = 8192;
/// How many answers wait at most: who does not read them gets no more.
const MAX_QUEUED: usize = 64;
/// What a socket, or an answer besides its bytes, takes of the server's memory, about, in bytes.
const SOCKET_BYTES: u64 = 512;
const ANSWER_BYTES: u64 = 64;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

const LOOPBACK_INDEX: u32 = 1;
/// `ARPHRD_LOOPBACK`.
const LOOPBACK_HARDWARE: u16 = 772;
/// `IFF_UP`, `IFF_LOOPBACK`, `IFF_RUNNING`, `IFF_LOWER_UP`.
const LOOPBACK_FLAGS: u32 = 1 | 1 << 3 | 1 << 6 | 1 << 16;
const LOOPBACK_MTU: u32 = 65_536;
/// `RT_SCOPE_HOST`, and `IFA_F_PERMANENT`.
const SCOPE_HOST: u8 = 254;
const PERMANENT: u8 = 0x80;

/// What a request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    length: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Self {
            length: u32_at(bytes, 0)? as usize,
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
        };
        let is_whole = bytes.len() >= HEADER_BYTES && (HEADER_BYTES..=bytes.len()).contains(&header.length);
        is_whole.then_some(header)
    }

    /// A message in answer to it.
    fn answer(&self, port: u32, kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = HEADER_BYTES + body.len();
        let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&port.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }
}

fn add_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The interface, as `RTM_NEWLINK` tells of it.
fn link() -> Vec<u8> {
    let [address, broadcast, name, mtu, queue_length]: [u16; 5] = [1, 2, 3, 4, 13];
    let mut body = vec![linux::AF_UNSPEC as u8, 0];
    body.extend_from_slice(&LOOPBACK_HARDWARE.to_ne_bytes());
    for word in [LOOPBACK_INDEX, LOOPBACK_FLAGS, 0] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    add_attribute(&mut body, name, b"lo\0");
    add_attribute(&mut body, queue_length, &1000u32.to_ne_bytes());
    add_attribute(&mut body, mtu, &LOOPBACK_MTU.to_ne_bytes());
    add_attribute(&mut body, address, &[0; 6]);
    add_attribute(&mut body, broadcast, &[0; 6]);
    body
}

/// An address of the interface, as `RTM_NEWADDR` tells of it.
fn address(family: u32, prefix: u8, ip: &[u8]) -> Vec<u8> {
    let [address, local, label]: [u16; 3] = [1, 2, 3];
    let mut body = vec![family as u8, prefix, PERMANENT, SCOPE_HOST];
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    add_attribute(&mut body, address, ip);
    if family == linux::AF_INET {
        add_attribute(&mut body, local, ip);
        add_attribute(&mut body, label, b"lo\0");
    }
    body
}

fn addresses(family: u32) -> Vec<Vec<u8>> {
    let all = [
        (linux::AF_INET, address(linux::AF_INET, 8, &Ipv4Addr::LOCALHOST.octets())),
        (linux::AF_INET6, address(linux::AF_INET6, 128, &Ipv6Addr::LOCALHOST.octets())),
    ];
    let wanted = all.into_iter().filter(|(own, _)| family == linux::AF_UNSPEC || family == *own);
    wanted.map(|(_, body)| body).collect()
}

/// The answers to one request, each a datagram.
fn answers(header: Header, body: &[u8], port: u32) -> Vec<Vec<u8>> {
    let dumps = header.flags & NLM_F_DUMP != 0;
    let family = u32::from(body.first().copied().unwrap_or(0));
    let (kind, bodies) = match header.kind {
        RTM_GETLINK if dumps => (RTM_NEWLINK, vec![link()]),
        RTM_GETADDR if dumps => (RTM_NEWADDR, addresses(family)),
        RTM_GETROUTE if dumps => (0, vec![]),
        RTM_GETLINK => {
            let index = u32_at(body, 4).unwrap_or(0);
            let result = if index <= LOOPBACK_INDEX { Ok(link()) } else { Err(Errno::ENODEV) };
            return vec![match result {
                Ok(link) => header.answer(port, RTM_NEWLINK, 0, &link),
                Err(errno) => failure(header, port, Some(errno)),
            }];
        }
        // Messages below are for the protocol itself; they ask for nothing.
        0..RTM_NEWLINK if header.flags & NLM_F_ACK == 0 => return vec![],
        0..RTM_NEWLINK => return vec![failure(header, port, None)],
        _ => return vec![failure(header, port, Some(Errno::EOPNOTSUPP))],
    };
    let parts: Vec<Vec<u8>> = bodies.iter().map(|body| header.answer(port, kind, NLM_F_MULTI, body)).collect();
    let end = header.answer(port, NLMSG_DONE, NLM_F_MULTI, &0i32.to_ne_bytes());
    let mut datagrams = if parts.is_empty() { vec![] } else { vec![parts.concat()] };
    datagrams.push(end);
    datagrams
}

/// `NLMSG_ERROR`: an error, or 0, and the header of what it is about.
fn failure(header: Header, port: u32, error: Option<Errno>) -> Vec<u8> {
    let number = error.map_or(0, |errno| -i32::from(errno.number()));
    let mut body = number.to_ne_bytes().to_vec();
    body.extend_from_slice(&(header.length as u32).to_ne_bytes());
    body.extend_from_slice(&header.kind.to_ne_bytes());
    body.extend_from_slice(&header.flags.to_ne_bytes());
    body.extend_from_slice(&header.sequence.to_ne_bytes());
    body.extend_from_slice(&port.to_ne_bytes());
    header.answer(port, NLMSG_ERROR, 0, &body)
}

/// A netlink socket.
pub struct NetlinkSocket {
    /// What all sockets have.
    pub common: Common,
    /// Its port, which is its address; 0 before it is bound.
    ports: Rc<Ports>,
    port: Cell<u32>,
    groups: Cell<u32>,
    inbox: RefCell<VecDeque<(Vec<u8>, Charge)>>,
    _charge: Charge,
    _alive: crate::census::counted::Socket,
}

/// The ports that sockets have.
#[derive(Debug, Default)]
pub struct Ports(RefCell<BTreeSet<u32>>);

impl Ports {
    /// Takes a port: this one if it is free, else the highest below the negative numbers near 0, which are no process's.
    fn choose(&self, wanted: u32) -> u32 {
        const FIRST_OTHER: u32 = -4096i32 as u32;
        let mut ports = self.0.borrow_mut();
        if wanted != 0 && ports.insert(wanted) {
            return wanted;
        }
        // The lowest that is taken of those makes room below it; sockets are far fewer than numbers.
        let lowest = ports.range(u32::MAX / 2..=FIRST_OTHER).next().copied();
        let free = lowest.map_or(FIRST_OTHER, |lowest| lowest - 1);
        ports.insert(free);
        free
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        self.ports.0.borrow_mut().remove(&self.port.get());
    }
}

impl core::fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NetlinkSocket").field("port", &self.port).finish_non_exhaustive()
    }
}

impl NetlinkSocket {
    /// A new one. `ENFILE` if the server keeps too much already.
    pub fn new(ports: &Rc<Ports>) -> Result<Rc<Self>> {
        let charge = Charge::new(Budget::Open, SOCKET_BYTES).map_err(|_| Errno::ENFILE)?;
        Ok(Rc::new(Self {
            _alive: Default::default(),
            common: Common::new(Style::Datagram),
            ports: ports.clone(),
            port: Cell::new(0),
            groups: Cell::new(0),
            inbox: RefCell::default(),
            _charge: charge,
        }))
    }

    /// Its address.
    pub fn own_address(&self) -> Vec<u8> {
        Self::encode(self.port.get(), self.groups.get())
    }

    /// The address of the system itself, which answers.
    pub fn system_address() -> Vec<u8> {
        Self::encode(0, 0)
    }

    fn encode(port: u32, groups: u32) -> Vec<u8> {
        let mut bytes = (AF_NETLINK as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&port.to_ne_bytes());
        bytes.extend_from_slice(&groups.to_ne_bytes());
        bytes
    }

    /// Binds it; port 0 is one of the system's choice. `EINVAL`, `EADDRINUSE`.
    pub fn bind(&self, address: &[u8], pid: u32) -> Result<()> {
        if address.len() < ADDRESS_BYTES || super::address::family(address)? != AF_NETLINK {
            return Err(Errno::EINVAL);
        }
        let wanted = u32_at(address, 4).unwrap_or(0);
        if self.port.get() != 0 && wanted != self.port.get() {
            return Err(Errno::EINVAL);
        }
        if self.port.get() == 0 && wanted != 0 {
            if !self.ports.0.borrow_mut().insert(wanted) {
                return Err(Errno::EADDRINUSE);
            }
            self.port.set(wanted);
        }
        self.groups.set(u32_at(address, 8).unwrap_or(0));
        self.bind_if_unbound(pid);
        Ok(())
    }

    /// Gives it the port that has the number of its process, unless it has one; if another socket has that, a free one.
    pub fn bind_if_unbound(&self, pid: u32) {
        if self.port.get() == 0 {
            self.port.set(self.ports.choose(pid));
        }
    }

    /// Asks the system something. `EMSGSIZE`, `EFAULT`, `ENOBUFS`.
    pub fn send(&self, from: &mut dyn Source, pid: u32) -> Result<usize> {
        let length = from.remaining();
        if length > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let mut request = vec![0; length];
        if from.get(&mut request) < length {
            return Err(Errno::EFAULT);
        }
        self.bind_if_unbound(pid);
        let mut rest = request.as_slice();
        while let Some(header) = Header::parse(rest) {
            let body = rest.get(HEADER_BYTES..header.length).unwrap_or_default();
            for answer in answers(header, body, self.port.get()) {
                self.queue(answer)?;
            }
            rest = rest.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        }
        self.common.changed.wake();
        Ok(length)
    }

    fn queue(&self, answer: Vec<u8>) -> Result<()> {
        if self.inbox.borrow().len() >= MAX_QUEUED {
            return Err(Errno::ENOBUFS);
        }
        let bytes = answer.len() as u64 + ANSWER_BYTES;
        let charge = Charge::new(Budget::Contents, bytes).map_err(|_| Errno::ENOBUFS)?;
        self.inbox.borrow_mut().push_back((answer, charge));
        Ok(())
    }

    /// Receives one answer. `EAGAIN`: there is none.
    pub fn receive(&self, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        let inbox = self.inbox.borrow();
        let (answer, _) = inbox.front().ok_or(Errno::EAGAIN)?;
        let part = answer.get(..answer.len().min(to.remaining())).unwrap_or_default();
        let is_fault = !part.is_empty() && to.put(part) < part.len();
        got.count = part.len();
        got.is_truncated = part.len() < answer.len();
        got.result = if request.tells_full_length { answer.len() } else { part.len() };
        drop(inbox);
        if !request.peeks {
            let taken = self.inbox.borrow_mut().pop_front();
            shrink(&mut self.inbox.borrow_mut());
            drop(taken);
        }
        if is_fault { Err(Errno::EFAULT) } else { Ok(()) }
    }

    /// Bytes of the next answer (`FIONREAD`).
    pub fn readable_bytes(&self) -> usize {
        self.inbox.borrow().front().map_or(0, |(answer, _)| answer.len())
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let readable = if self.inbox.borrow().is_empty() { PollEvents::empty() } else { PollEvents::READABLE };
        PollEvents::WRITABLE | PollEvents::WRITE_BAND | readable
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};

    fn ask(kind: u16, flags: u16, body: &[u8]) -> Vec<Vec<u8>> {
        let socket = NetlinkSocket::new(&Rc::default()).unwrap();
        let request = Header { length: 0, kind, flags, sequence: 5 }.answer(0, kind, flags, body);
        socket.send(&mut SliceSource::new(&request), 77).unwrap();
        let mut answers = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            let mut got = Received::default();
            let mut to = SliceDestination::new(&mut buffer);
            if socket.receive(&mut to, Request::default(), &mut got).is_err() {
                return answers;
            }
            answers.push(to.filled().to_vec());
        }
    }

    #[test]
    fn the_loopback_is_listed() {
        let links = ask(RTM_GETLINK, NLM_F_DUMP, &[0; 4]);
        assert_eq!(links.len(), 2);
        assert!(links[0].windows(3).any(|part| part == b"lo\0"));
        assert_eq!(Header::parse(&links[1]).map(|header| (header.kind, header.sequence)), Some((NLMSG_DONE, 5)));
        let v4 = ask(RTM_GETADDR, NLM_F_DUMP, &[linux::AF_INET as u8]);
        assert!(v4[0].windows(4).any(|part| part == [127, 0, 0, 1]));
    }

    #[test]
    fn sockets_of_one_process_have_ports_of_their_own() {
        let ports = Rc::new(Ports::default());
        let sockets: Vec<_> = (0..3).map(|_| NetlinkSocket::new(&ports).unwrap()).collect();
        sockets.iter().for_each(|socket| socket.bind_if_unbound(77));
        assert_eq!(sockets[0].port.get(), 77);
        assert!(sockets[1].port.get() > u32::MAX / 2 && sockets[2].port.get() > u32::MAX / 2);
        assert_ne!(sockets[1].port.get(), sockets[2].port.get());
        let address = sockets[0].own_address();
        assert_eq!(NetlinkSocket::new(&ports).unwrap().bind(&address, 77), Err(Errno::EADDRINUSE));
        drop(sockets);
        assert!(ports.0.borrow().is_empty());
    }

    #[test]
    fn what_is_not_known_is_an_error_and_nonsense_is_ignored() {
        let failed = ask(999, 0, &[]);
        assert_eq!(Header::parse(&failed[0]).map(|header| header.kind), Some(NLMSG_ERROR));
        assert_eq!(u32_at(&failed[0], HEADER_BYTES), Some((-i32::from(Errno::EOPNOTSUPP.number())) as u32));
        let socket = NetlinkSocket::new(&Rc::default()).unwrap();
        for nonsense in [&b""[..], b"abc", &[255; 40], &[0; 40]] {
            assert_eq!(socket.send(&mut SliceSource::new(nonsense), 1), Ok(nonsense.len()));
        }
        assert_eq!(socket.readable_bytes(), 0);
    }
}
