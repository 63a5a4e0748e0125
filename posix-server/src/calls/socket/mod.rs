//! Calls that make, name, connect and end sockets.

mod address;
mod control;
mod inet_options;
mod interfaces;
mod message;
mod options;
mod packet;
mod wait;

pub(super) use interfaces::ioctl;
pub(super) use message::{read, write};

use super::blocking::usable_file;
use super::files::install;
use super::names::with_actor;
use super::{Outcome, SystemCall};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::change::{self, New};
use crate::fs::walk::{LastLink, Walk};
use crate::fs::{Body, Inode};
use crate::net::address::{UnixAddress, path_name};
use crate::net::common::{Shutdown, Style};
use crate::net::inet::Version;
use crate::net::inet::address::{self as inet, Purpose};
use crate::net::inet::tcp::{Binder, Phase, TcpSocket};
use crate::net::inet::udp::{Protocol, UdpSocket};
use crate::net::netlink::{AF_NETLINK, NetlinkSocket};
use crate::net::unix::names::Binding;
use crate::net::unix::{Identity, PeerCredentials, UnixSocket};
use crate::net::{Family, Socket};
use crate::process::Thread;
use crate::user::UserPtr;
use crate::wait::Listener;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use linux_raw_sys::general as linux;
use linux_raw_sys::net;
use wait::{Attempt, Patience};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_socket, |t, a| Outcome::Return(socket(t, a))).partly(
        "AF_UNIX, TCP, UDP and UDP-Lite, NETLINK_ROUTE; other families are EAFNOSUPPORT, other protocols EPROTONOSUPPORT",
    ),
    SystemCall::new(linux::__NR_socketpair, |t, a| Outcome::Return(socketpair(t, a))),
    SystemCall::new(linux::__NR_bind, |t, a| Outcome::Return(bind(t, a))),
    SystemCall::new(linux::__NR_listen, |t, a| Outcome::Return(listen(t, a))),
    SystemCall::new(linux::__NR_accept, |t, a| accept(t, &[a[0], a[1], a[2], 0, 0, 0])),
    SystemCall::new(linux::__NR_accept4, accept),
    SystemCall::new(linux::__NR_connect, connect),
    SystemCall::new(linux::__NR_getsockname, |t, a| Outcome::Return(getsockname(t, a))),
    SystemCall::new(linux::__NR_getpeername, |t, a| Outcome::Return(getpeername(t, a))),
    SystemCall::new(linux::__NR_shutdown, |t, a| Outcome::Return(shutdown(t, a))),
    SystemCall::new(linux::__NR_setsockopt, |t, a| Outcome::Return(options::set(t, a))).partly(OPTIONS),
    SystemCall::new(linux::__NR_getsockopt, |t, a| Outcome::Return(options::get(t, a))).partly(OPTIONS),
    SystemCall::new(linux::__NR_sendto, message::sendto).partly(OUT_OF_BAND),
    SystemCall::new(linux::__NR_recvfrom, message::recvfrom).partly(OUT_OF_BAND),
    SystemCall::new(linux::__NR_sendmsg, message::sendmsg).partly(OUT_OF_BAND),
    SystemCall::new(linux::__NR_recvmsg, message::recvmsg).partly(OUT_OF_BAND),
    SystemCall::new(linux::__NR_sendmmsg, message::sendmmsg).partly(OUT_OF_BAND),
    SystemCall::new(linux::__NR_recvmmsg, message::recvmmsg).partly(OUT_OF_BAND),
];

const OPTIONS: &str = "no packet filters, multicast groups or packet-level options of IP: ENOPROTOOPT, for groups ENODEV; a congestion \
     control other than reno is ENOENT";
const OUT_OF_BAND: &str = "MSG_OOB is EOPNOTSUPP; IPv6 headers that a message would bring along: EINVAL";

/// The bits of a type that say what it is; the others are flags.
const TYPE_BITS: u32 = 0xf;
/// The flags in a type, which have the numbers of those of `open`.
const TYPE_FLAGS: u32 = linux::O_CLOEXEC | linux::O_NONBLOCK;
/// Types from this number on are none (`SOCK_MAX`).
const TYPES: u32 = 11;
/// Families from this number on are none (`NPROTO`).
const FAMILIES: u32 = net::AF_MAX;

/// A file that is a socket. `EBADF`, `ENOTSOCK`.
fn socket_file(thread: &Rc<Thread>, fd: u64) -> Result<Rc<OpenFile>> {
    let file = usable_file(thread, fd)?;
    if file.ops().socket().is_some() { Ok(file) } else { Err(Errno::ENOTSOCK) }
}

/// The socket of such a file.
fn socket_of(file: &OpenFile) -> Result<&Socket> {
    file.ops().socket().ok_or(Errno::ENOTSOCK)
}

/// Who the caller is, to a peer that asks.
fn identity(thread: &Rc<Thread>) -> Identity {
    let credentials = thread.process.credentials();
    let pid = thread.process.pid;
    Identity {
        credentials: PeerCredentials { pid, uid: credentials.euid, gid: credentials.egid },
        groups: credentials.groups.clone(),
    }
}

/// Who the caller is, to the owner of a port.
fn binder(thread: &Rc<Thread>) -> Binder {
    let credentials = thread.process.credentials();
    Binder { user: credentials.euid, is_privileged: credentials.is_privileged() }
}

/// An open file for a socket.
fn open(thread: &Rc<Thread>, family: Family, flags: u32) -> Result<Rc<OpenFile>> {
    let socket = Socket::new(family);
    let namespace = thread.process.fs.borrow().namespace.clone();
    let credentials = thread.process.credentials();
    let inode = Inode::new(namespace.anonymous(), 0o777, credentials.fsuid, credentials.fsgid, Body::Socket)
        .map_err(|_| Errno::ENFILE)?;
    socket.common().inode.set(inode.number());
    OpenFile::new(socket, inode, None, linux::O_RDWR | (flags & linux::O_NONBLOCK))
}

/// The flags and the rest of a type argument. `EINVAL`.
fn split_type(argument: u64) -> Result<(u32, u32)> {
    let (kind, flags) = (argument as u32 & TYPE_BITS, argument as u32 & !TYPE_BITS);
    if flags & !TYPE_FLAGS != 0 { Err(Errno::EINVAL) } else { Ok((kind, flags)) }
}

/// What `socket` is asked to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Unix(Style),
    Tcp(Version),
    Udp(Version, Protocol),
    Netlink,
}

/// What a family and a type name. `EAFNOSUPPORT`, `EINVAL`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
fn wanted(thread: &Rc<Thread>, family: u32, kind: u32, protocol: u32) -> Result<Wanted> {
    if family >= FAMILIES {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind >= TYPES {
        return Err(Errno::EINVAL);
    }
    match family {
        net::AF_UNIX if protocol != 0 && protocol != net::AF_UNIX => Err(Errno::EPROTONOSUPPORT),
        net::AF_UNIX => match kind {
            net::SOCK_STREAM => Ok(Wanted::Unix(Style::Stream)),
            net::SOCK_DGRAM | net::SOCK_RAW => Ok(Wanted::Unix(Style::Datagram)),
            net::SOCK_SEQPACKET => Ok(Wanted::Unix(Style::SeqPacket)),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        },
        net::AF_INET => wanted_inet(thread, Version::V4, kind, protocol),
        net::AF_INET6 => wanted_inet(thread, Version::V6, kind, protocol),
        AF_NETLINK => match (kind, protocol) {
            (net::SOCK_RAW | net::SOCK_DGRAM, 0) => Ok(Wanted::Netlink),
            (net::SOCK_RAW | net::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        },
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Protocols from this number on are none (`IPPROTO_MAX`).
const PROTOCOLS: u32 = 263;

fn wanted_inet(thread: &Rc<Thread>, version: Version, kind: u32, protocol: u32) -> Result<Wanted> {
    if protocol >= PROTOCOLS {
        return Err(Errno::EINVAL);
    }
    match (kind, protocol) {
        (net::SOCK_STREAM, 0 | net::SOL_TCP) => Ok(Wanted::Tcp(version)),
        (net::SOCK_DGRAM, 0 | net::SOL_UDP) => Ok(Wanted::Udp(version, Protocol::Udp)),
        (net::SOCK_DGRAM, net::SOL_UDPLITE) => Ok(Wanted::Udp(version, Protocol::Lite)),
        (net::SOCK_RAW, 1..) if !thread.process.credentials().is_privileged() => Err(Errno::EPERM),
        (net::SOCK_STREAM | net::SOCK_DGRAM | net::SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// `socket(family, type, protocol)`.
fn socket(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let (kind, flags) = split_type(args[1])?;
    let network = &thread.server().net;
    let family = match wanted(thread, args[0] as u32, kind, args[2] as u32)? {
        Wanted::Unix(style) => Family::Unix(UnixSocket::new(&network.unix, style)?),
        Wanted::Tcp(version) => Family::Tcp(TcpSocket::new(&network.inet, version)?),
        Wanted::Udp(version, protocol) => Family::Udp(UdpSocket::new(&network.inet, version, protocol)?),
        Wanted::Netlink => Family::Netlink(NetlinkSocket::new(&network.netlink)?),
    };
    install(thread, open(thread, family, flags)?, flags)
}

/// `socketpair(family, type, protocol, descriptors)`.
fn socketpair(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let (kind, flags) = split_type(args[1])?;
    let pointer = UserPtr::of_call(thread, args[3]);
    pointer.write(&[-1i32; 2])?;
    let Wanted::Unix(style) = wanted(thread, args[0] as u32, kind, args[2] as u32)? else {
        return Err(Errno::EOPNOTSUPP);
    };
    let (one, other) = UnixSocket::pair(&thread.server().net.unix, style, &identity(thread))?;
    let (one, other) = (open(thread, Family::Unix(one), flags)?, open(thread, Family::Unix(other), flags)?);
    let first = install(thread, one, flags)?;
    let second = install(thread, other, flags);
    let written = second.and_then(|second| pointer.write(&[first as i32, second as i32]));
    if let Err(errno) = written {
        for fd in [Some(first), second.ok()].into_iter().flatten() {
            let closed = thread.process.files.borrow().slots_mut().remove(fd as i32);
            drop(closed);
        }
        return Err(errno);
    }
    Ok(0)
}

/// `bind(socket, address, length)`.
fn bind(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    let address = address::read(thread, args[1], args[2])?;
    match socket_of(&file)?.family() {
        Family::Unix(unix) => bind_unix(thread, &file, unix, &address)?,
        Family::Tcp(tcp) => tcp.bind(inet::parse(tcp.version, &address, Purpose::Bind)?, binder(thread))?,
        Family::Netlink(netlink) => netlink.bind(&address, thread.process.pid as u32)?,
        Family::Udp(udp) => udp.bind(inet::parse(udp.version, &address, Purpose::Bind)?, binder(thread))?,
    }
    Ok(0)
}

fn bind_unix(thread: &Rc<Thread>, file: &OpenFile, unix: &Rc<UnixSocket>, address: &[u8]) -> Result<()> {
    if UnixAddress::is_unnamed(address) {
        return unix.bind_automatically();
    }
    match UnixAddress::parse(address)? {
        UnixAddress::Abstract(name) => unix.bind(Binding::Abstract(name.clone()), name),
        UnixAddress::Path(path) => bind_path(thread, file, unix, &path),
    }
}

/// Makes a name in the file system, with the permissions that the socket's file has.
fn bind_path(thread: &Rc<Thread>, file: &OpenFile, unix: &Rc<UnixSocket>, path: &[u8]) -> Result<()> {
    with_actor(thread, |actor| {
        let parent = Walk::new(actor).parent(&actor.context.cwd, path)?;
        let new = New::Node(Body::Socket);
        let made = match change::create(actor, &parent, file.inode().mode(), new) {
            Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE),
            made => made?,
        };
        let bound = unix.bind(Binding::File(made.inode().clone()), path_name(path));
        if bound.is_err() {
            // As on Linux, the name goes again.
            let _ = change::unlink(actor, &parent);
        }
        bound
    })
}

/// The socket that an address leads to.
fn find(thread: &Rc<Thread>, style: Style, address: &UnixAddress) -> Result<Rc<UnixSocket>> {
    let names = &thread.server().net.unix.names;
    match address {
        UnixAddress::Abstract(name) => names.find_abstract(style, name),
        UnixAddress::Path(path) => with_actor(thread, |actor| {
            let place = Walk::new(actor).place(&actor.context.cwd, path, LastLink::Follow)?;
            place.inode().check_access(actor.credentials, Access::WRITE)?;
            names.find_file(style, place.inode())
        }),
    }
}

/// `listen(socket, backlog)`.
fn listen(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    match socket_of(&file)?.family() {
        Family::Unix(unix) => unix.listen(args[1] as u32, &identity(thread))?,
        Family::Tcp(tcp) => tcp.listen(args[1] as u32, binder(thread))?,
        Family::Udp(_) | Family::Netlink(_) => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}

/// An `accept` under way.
struct Accept {
    file: Rc<OpenFile>,
    pointers: [u64; 2],
    flags: u32,
}

impl Attempt for Accept {
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        let (family, peer) = match socket_of(&self.file)?.family() {
            Family::Unix(unix) => {
                let arrival = unix.accept()?;
                let peer = arrival.peer_name()?;
                (Family::Unix(arrival), address::unix(peer))
            }
            Family::Tcp(tcp) => {
                let arrival = tcp.accept()?;
                let peer = inet::encode(arrival.version, arrival.peer_of_arrival());
                (Family::Tcp(arrival), peer)
            }
            Family::Udp(_) | Family::Netlink(_) => return Err(Errno::EOPNOTSUPP),
        };
        let file = open(thread, family, self.flags)?;
        if self.pointers[0] != 0 {
            address::write(thread, &peer, self.pointers)?;
        }
        install(thread, file, self.flags)
    }

    fn watch(&self, listener: &mut Listener) {
        wait::watch_file(&self.file, listener);
    }
}

/// `accept4(socket, address, length, flags)`.
fn accept(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let flags = args[3] as u32;
        let file = usable_file(thread, args[0])?;
        if flags & !TYPE_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        socket_of(&file)?;
        thread.process.files.borrow().slots().check_room(super::files::descriptor_limit(thread))?;
        let patience = Patience::of(&file, socket_of(&file)?.common().receive_deadline_ns());
        Ok((Accept { file, pointers: [args[1], args[2]], flags }, patience))
    })();
    wait::start(thread, prepared)
}

/// A `connect` under way.
struct Connect {
    file: Rc<OpenFile>,
    address: Vec<u8>,
    /// The listener whose queue is full.
    waits_for: Option<Rc<UnixSocket>>,
    /// A TCP connection is under way.
    has_begun: bool,
    is_nonblocking: bool,
}

impl Connect {
    fn connect_unix(&mut self, thread: &Rc<Thread>, unix: &Rc<UnixSocket>) -> Result<()> {
        let style = unix.common.style;
        if style == Style::Datagram && crate::net::address::family(&self.address)? == net::AF_UNSPEC {
            return unix.associate(None);
        }
        let other = find(thread, style, &UnixAddress::parse(&self.address)?)?;
        if style == Style::Datagram {
            return unix.associate(Some(&other));
        }
        let result = unix.connect(&other, &identity(thread));
        self.waits_for = Some(other);
        result
    }

    /// Whether the address is none, which ends a connection.
    fn is_to_nobody(&self) -> Result<bool> {
        Ok(crate::net::address::family(&self.address)? == net::AF_UNSPEC)
    }

    fn connect_tcp(&mut self, thread: &Rc<Thread>, tcp: &Rc<TcpSocket>) -> Result<()> {
        if !self.has_begun {
            if self.is_to_nobody()? {
                tcp.disconnect();
                return Ok(());
            }
            let to = inet::parse(tcp.version, &self.address, Purpose::Send)?;
            let is_new = tcp.phase() != Phase::Connecting && !tcp.is_unreported();
            if is_new || self.is_nonblocking {
                tcp.connect(to, binder(thread))?;
            }
            self.has_begun = true;
            if is_new && self.is_nonblocking {
                return Err(Errno::EINPROGRESS);
            }
        }
        tcp.connected()
    }

    fn connect_udp(&self, thread: &Rc<Thread>, udp: &Rc<UdpSocket>) -> Result<()> {
        if self.is_to_nobody()? {
            return udp.connect(None, binder(thread));
        }
        udp.connect(Some(inet::parse(udp.version, &self.address, Purpose::Send)?), binder(thread))
    }
}

impl Attempt for Connect {
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        let file = self.file.clone();
        match socket_of(&file)?.family() {
            Family::Unix(unix) => self.connect_unix(thread, unix)?,
            Family::Tcp(tcp) => self.connect_tcp(thread, tcp)?,
            Family::Udp(udp) => self.connect_udp(thread, udp)?,
            // All that can be talked to is the system.
            Family::Netlink(netlink) => netlink.bind_if_unbound(thread.process.pid as u32),
        }
        Ok(0)
    }

    fn watch(&self, listener: &mut Listener) {
        wait::watch_file(&self.file, listener);
        if let Some(other) = &self.waits_for {
            listener.watch(other.room());
        }
    }

    fn give_up(&mut self, _thread: &Rc<Thread>, error: Errno) -> Result<u64> {
        // The connection goes on without the caller.
        Err(if self.has_begun && error == Errno::EAGAIN { Errno::EINPROGRESS } else { error })
    }
}

/// `connect(socket, address, length)`.
fn connect(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let file = usable_file(thread, args[0])?;
        let address = address::read(thread, args[1], args[2])?;
        let patience = Patience::of(&file, socket_of(&file)?.common().send_deadline_ns());
        let is_nonblocking = file.is_nonblocking();
        Ok((Connect { file, address, waits_for: None, has_begun: false, is_nonblocking }, patience))
    })();
    wait::start(thread, prepared)
}

/// `getsockname(socket, address, length)`.
fn getsockname(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    let own = match socket_of(&file)?.family() {
        Family::Unix(unix) => address::unix(unix.name()),
        Family::Tcp(tcp) => own_inet(tcp.version, tcp.local()),
        Family::Udp(udp) => own_inet(udp.version, udp.local()),
        Family::Netlink(netlink) => netlink.own_address(),
    };
    address::write(thread, &own, [args[1], args[2]])?;
    Ok(0)
}

/// The address of a socket that may have none yet.
fn own_inet(version: Version, local: Option<SocketAddr>) -> Vec<u8> {
    inet::encode(version, local.unwrap_or_else(|| inet::unspecified(version)))
}

/// The address of a socket's peer. `ENOTCONN`.
fn peer_address(socket: &Socket) -> Result<Vec<u8>> {
    match socket.family() {
        Family::Unix(unix) => Ok(address::unix(unix.peer_name()?)),
        Family::Tcp(tcp) => Ok(inet::encode(tcp.version, tcp.remote()?)),
        Family::Udp(udp) => Ok(inet::encode(udp.version, udp.remote()?)),
        Family::Netlink(_) => Ok(NetlinkSocket::system_address()),
    }
}

/// `getpeername(socket, address, length)`.
fn getpeername(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    address::write(thread, &peer_address(socket_of(&file)?)?, [args[1], args[2]])?;
    Ok(0)
}

/// `shutdown(socket, how)`.
fn shutdown(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    let directions = Shutdown::from_how(args[1] as u32)?;
    match socket_of(&file)?.family() {
        Family::Unix(unix) => unix.shut_down(directions),
        Family::Tcp(tcp) => tcp.shut_down(directions)?,
        Family::Udp(udp) => udp.shut_down(directions)?,
        Family::Netlink(_) => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}
