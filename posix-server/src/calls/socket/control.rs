//! What travels beside the bytes of a message, as programs write and read it (`cmsg(3)`).

use super::super::blocking::file;
use super::super::files::descriptor_limit;
use super::packet;
use crate::errno::{Errno, Result};
use crate::file::{OnExec, OpenFile};
use crate::net::common::{Common, Switches};
use crate::net::inet::address::encode;
use crate::net::inet::udp::UdpSocket;
use crate::net::inet::{Traffic, Version};
use crate::net::rights::MAX_PER_MESSAGE;
use crate::net::unix::{Attached, PeerCredentials, Received};
use crate::net::{Family, Socket};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use core::net::SocketAddr;
use linux_raw_sys::general::RLIMIT_NOFILE;
use linux_raw_sys::net;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct cmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    /// With this header, in bytes.
    length: u64,
    level: u32,
    kind: u32,
}

const HEADER_BYTES: usize = size_of::<Header>();
/// Each header begins at a multiple of this.
const ALIGNMENT: usize = 8;
const DESCRIPTOR_BYTES: usize = size_of::<i32>();

/// What a call sends beside its bytes if it says nothing of it.
pub(super) fn nothing(thread: &Rc<Thread>) -> Attached {
    let process = &thread.process;
    let credentials = process.credentials();
    let own = PeerCredentials { pid: process.pid, uid: credentials.uid, gid: credentials.gid };
    let limit = if credentials.is_privileged() { None } else { Some(process.limit(RLIMIT_NOFILE)) };
    Attached { user: credentials.uid, in_flight_limit: limit, own_credentials: Some(own), ..Attached::default() }
}

/// Reads the headers of a message that is to be sent. `EINVAL`, `EBADF`, `EPERM`, `ESRCH`.
pub(super) fn parse(thread: &Rc<Thread>, socket: &Socket, control: &[u8]) -> Result<Attached> {
    let mut attached = nothing(thread);
    let mut rest = control;
    while let Ok((header, _)) = Header::read_from_prefix(rest) {
        let length = usize::try_from(header.length).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(HEADER_BYTES..length).ok_or(Errno::EINVAL)?;
        let is_unix = socket.unix().is_some();
        match (header.level, header.kind) {
            (net::SOL_SOCKET, net::SCM_RIGHTS) if is_unix => add_files(thread, data, &mut attached)?,
            (net::SOL_SOCKET, net::SCM_CREDENTIALS) if is_unix => {
                attached.credentials = Some(checked_credentials(thread, data)?);
            }
            // They mean nothing elsewhere.
            (net::SOL_SOCKET, net::SCM_RIGHTS | net::SCM_CREDENTIALS) => {}
            (net::SOL_SOCKET, _) => return Err(Errno::EINVAL),
            (level, kind) => {
                if let Family::Udp(udp) = socket.family() {
                    packet::parse(udp.version, (level, kind), data, &mut attached.packet)?;
                }
            }
        }
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(attached)
}

fn add_files(thread: &Rc<Thread>, data: &[u8], attached: &mut Attached) -> Result<()> {
    let count = data.len() / DESCRIPTOR_BYTES;
    if attached.files.len() + count > MAX_PER_MESSAGE {
        return Err(Errno::EINVAL);
    }
    for bytes in data.chunks_exact(DESCRIPTOR_BYTES) {
        let fd = i32::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
        attached.files.push(file(thread, fd as u64)?);
    }
    Ok(())
}

/// Credentials that a program names: its own, unless it is privileged.
fn checked_credentials(thread: &Rc<Thread>, data: &[u8]) -> Result<PeerCredentials> {
    let named = PeerCredentials::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let own = thread.process.credentials();
    let is_own = named.pid == thread.process.pid
        && [own.uid, own.euid, own.suid].contains(&named.uid)
        && [own.gid, own.egid, own.sgid].contains(&named.gid);
    if !is_own && !own.is_privileged() {
        return Err(Errno::EPERM);
    }
    let is_there = named.pid == thread.process.pid || thread.server().process(named.pid).is_some();
    if is_there { Ok(named) } else { Err(Errno::ESRCH) }
}

/// Where the headers of a received message go.
pub(super) struct Writer {
    pointer: UserPtr,
    room: usize,
    used: usize,
    /// Something did not fit (`MSG_CTRUNC`).
    pub(super) is_truncated: bool,
}

impl Writer {
    /// A place for so many bytes; a null pointer is none.
    pub(super) fn new(pointer: UserPtr, room: u64) -> Self {
        let room = if pointer.is_null() { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) };
        Self { pointer, room, used: 0, is_truncated: false }
    }

    /// How many bytes were written.
    pub(super) fn used(&self) -> u64 {
        self.used as u64
    }

    fn left(&self) -> usize {
        self.room - self.used
    }

    /// Writes one header with its data, or as much as fits.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) -> Result<()> {
        if self.left() < HEADER_BYTES {
            self.is_truncated = true;
            return Ok(());
        }
        let length = HEADER_BYTES + data.len();
        self.is_truncated |= length > self.left();
        let written = length.min(self.left());
        let at = self.pointer.offset(self.used as u64)?;
        at.write(&Header { length: written as u64, level, kind })?;
        let part = data.get(..written - HEADER_BYTES).unwrap_or_default();
        at.offset(HEADER_BYTES as u64)?.write_bytes(part)?;
        self.used += length.next_multiple_of(ALIGNMENT).min(self.left());
        Ok(())
    }

    /// Writes what came with a message, and gives the process its descriptors.
    pub(super) fn put_received(
        &mut self,
        thread: &Rc<Thread>,
        socket: &Socket,
        got: &Received,
        on_exec: OnExec,
    ) -> Result<()> {
        let common = socket.common();
        if let Some(time_ns) = got.time_ns {
            self.put_time(common, time_ns)?;
        }
        if let Some(lost) = got.lost {
            self.put(net::SOL_SOCKET, net::SO_RXQ_OVFL, &lost.to_le_bytes())?;
        }
        if let (Family::Udp(udp), Some(to)) = (socket.family(), got.to) {
            self.put_destination(udp, to)?;
            self.put_traffic(udp, to, got.traffic)?;
            self.put_original_destination(udp, to)?;
        }
        if let Some((errno, offender)) = got.error {
            self.put_error(errno, offender)?;
        }
        if let Some(credentials) = &got.credentials {
            self.put(net::SOL_SOCKET, net::SCM_CREDENTIALS, credentials.as_bytes())?;
        }
        if !got.files().is_empty() {
            self.put_files(thread, got.files(), on_exec)?;
        }
        Ok(())
    }

    /// Where a datagram arrived, as far as the socket wants to know.
    fn put_destination(&mut self, udp: &UdpSocket, to: SocketAddr) -> Result<()> {
        const INTERFACE: [u8; 4] = 1u32.to_le_bytes();
        let is_on = |level, option| udp.numbers.is_on(level, option);
        if let SocketAddr::V4(v4) = to {
            let ip = v4.ip().octets();
            if is_on(net::SOL_IP, net::IP_PKTINFO) {
                self.put(net::SOL_IP, net::IP_PKTINFO, &[INTERFACE, ip, ip].concat())?;
            }
        }
        let long = encode(Version::V6, to);
        let data = [long.get(8..24).unwrap_or_default(), &INTERFACE].concat();
        if is_on(net::SOL_IPV6, net::IPV6_RECVPKTINFO) {
            self.put(net::SOL_IPV6, net::IPV6_PKTINFO, &data)?;
        }
        if is_on(net::SOL_IPV6, net::IPV6_2292PKTINFO) {
            self.put(net::SOL_IPV6, net::IPV6_2292PKTINFO, &data)?;
        }
        Ok(())
    }

    /// What else a datagram's packet said, as far as the socket wants to know.
    fn put_traffic(&mut self, udp: &UdpSocket, to: SocketAddr, traffic: Traffic) -> Result<()> {
        let is_on = |level, option| udp.numbers.is_on(level, option);
        let (hops, class) = (u32::from(traffic.hops).to_le_bytes(), u32::from(traffic.class).to_le_bytes());
        if to.is_ipv4() {
            if is_on(net::SOL_IP, net::IP_RECVTTL) {
                self.put(net::SOL_IP, net::IP_TTL, &hops)?;
            }
            if is_on(net::SOL_IP, net::IP_RECVTOS) {
                self.put(net::SOL_IP, net::IP_TOS, &[traffic.class])?;
            }
            return Ok(());
        }
        if is_on(net::SOL_IPV6, net::IPV6_RECVHOPLIMIT) {
            self.put(net::SOL_IPV6, net::IPV6_HOPLIMIT, &hops)?;
        }
        if is_on(net::SOL_IPV6, net::IPV6_2292HOPLIMIT) {
            self.put(net::SOL_IPV6, net::IPV6_2292HOPLIMIT, &hops)?;
        }
        if is_on(net::SOL_IPV6, net::IPV6_RECVTCLASS) {
            self.put(net::SOL_IPV6, net::IPV6_TCLASS, &class)?;
        }
        Ok(())
    }

    /// Where a datagram was sent to: the same as where it arrived.
    fn put_original_destination(&mut self, udp: &UdpSocket, to: SocketAddr) -> Result<()> {
        if to.is_ipv4() && udp.numbers.is_on(net::SOL_IP, net::IP_RECVORIGDSTADDR) {
            self.put(net::SOL_IP, net::IP_RECVORIGDSTADDR, &encode(Version::V4, to))?;
        }
        if udp.numbers.is_on(net::SOL_IPV6, net::IPV6_RECVORIGDSTADDR) {
            self.put(net::SOL_IPV6, net::IPV6_RECVORIGDSTADDR, &encode(Version::V6, to))?;
        }
        Ok(())
    }

    /// `struct sock_extended_err` of an unreachable port, and who said so.
    fn put_error(&mut self, errno: Errno, offender: SocketAddr) -> Result<()> {
        // Origin, type and code, as ICMP and ICMPv6 have them.
        let (level, kind, version, origin) = match offender {
            SocketAddr::V4(_) => (net::SOL_IP, net::IP_RECVERR, Version::V4, [2, 3, 3, 0]),
            SocketAddr::V6(_) => (net::SOL_IPV6, net::IPV6_RECVERR, Version::V6, [3, 1, 4, 0]),
        };
        let mut data = u32::from(errno.number()).to_le_bytes().to_vec();
        data.extend_from_slice(&origin);
        data.extend_from_slice(&[0; 8]);
        data.extend(encode(version, offender));
        self.put(level, kind, &data)
    }

    fn put_time(&mut self, common: &Common, time_ns: u64) -> Result<()> {
        const NS_PER_SECOND: u64 = 1_000_000_000;
        const NS_PER_MICROSECOND: u64 = 1_000;
        let (seconds, ns) = (time_ns / NS_PER_SECOND, time_ns % NS_PER_SECOND);
        if common.wants_software_stamps() {
            // The last two would be of hardware.
            self.put(net::SOL_SOCKET, net::SCM_TIMESTAMPING, [seconds, ns, 0, 0, 0, 0].as_bytes())?;
        }
        if !common.switches.get().intersects(Switches::TIME_STAMP | Switches::TIME_STAMP_NS) {
            return Ok(());
        }
        if common.is_on(Switches::TIME_STAMP_NS) {
            return self.put(net::SOL_SOCKET, net::SCM_TIMESTAMPNS, [seconds, ns].as_bytes());
        }
        self.put(net::SOL_SOCKET, net::SCM_TIMESTAMP, [seconds, ns / NS_PER_MICROSECOND].as_bytes())
    }

    /// Installs as many files as there is room for, here and in the process's table.
    fn put_files(&mut self, thread: &Rc<Thread>, files: &[Rc<OpenFile>], on_exec: OnExec) -> Result<()> {
        let fitting = self.left().saturating_sub(HEADER_BYTES) / DESCRIPTOR_BYTES;
        let mut installed = 0;
        for file in files.iter().take(fitting) {
            let place = self.used + HEADER_BYTES + installed * DESCRIPTOR_BYTES;
            if install_at(thread, file, on_exec, &self.pointer.offset(place as u64)?).is_err() {
                break;
            }
            installed += 1;
        }
        self.is_truncated |= installed < files.len();
        if installed > 0 {
            let length = HEADER_BYTES + installed * DESCRIPTOR_BYTES;
            let header = Header { length: length as u64, level: net::SOL_SOCKET, kind: net::SCM_RIGHTS };
            self.pointer.offset(self.used as u64)?.write(&header)?;
            self.used += length.next_multiple_of(ALIGNMENT).min(self.left());
        }
        Ok(())
    }
}

/// Gives a file a descriptor and writes its number. `EMFILE`, `EFAULT`, and then nothing has changed.
fn install_at(thread: &Rc<Thread>, file: &Rc<OpenFile>, on_exec: OnExec, pointer: &UserPtr) -> Result<()> {
    let files = &thread.process.files;
    let fd = files.borrow().slots_mut().insert(file.clone(), 0, on_exec, descriptor_limit(thread))?;
    let written = pointer.write(&fd);
    if written.is_err() {
        let closed = files.borrow().slots_mut().remove(fd);
        drop(closed);
    }
    written
}
