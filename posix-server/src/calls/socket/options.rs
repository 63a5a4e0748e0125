//! `getsockopt` and `setsockopt` of the level that all sockets have (`socket(7)`).

use super::{inet_options as inet, peer_address, socket_file, socket_of};
use crate::errno::{Errno, Result};
use crate::net::common::{Common, MAX_BUFFER, Switches};
use crate::net::{Family, Socket};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::net;
use zerocopy::IntoBytes;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1_000;
const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
/// Flags of `SO_TIMESTAMPING` lie below this.
const TIME_STAMPING_END: u32 = 1 << 17;
/// The highest priority that needs no privilege.
const MAX_FREE_PRIORITY: u32 = 6;

/// The switch that an option is, if it is one that anybody may set.
fn switch(option: u32) -> Option<Switches> {
    Some(match option {
        net::SO_DEBUG => Switches::DEBUG,
        net::SO_REUSEADDR => Switches::REUSE_ADDRESS,
        net::SO_REUSEPORT => Switches::REUSE_PORT,
        net::SO_DONTROUTE => Switches::DO_NOT_ROUTE,
        net::SO_BROADCAST => Switches::BROADCAST,
        net::SO_KEEPALIVE => Switches::KEEP_ALIVE,
        net::SO_OOBINLINE => Switches::OUT_OF_BAND_INLINE,
        net::SO_NO_CHECK => Switches::NO_CHECK,
        net::SO_PASSCRED => Switches::PASS_CREDENTIALS,
        net::SO_PASSSEC => Switches::PASS_SECURITY,
        net::SO_RXQ_OVFL => Switches::OVERFLOW_COUNT,
        net::SO_TIMESTAMP | net::SO_TIMESTAMP_NEW => Switches::TIME_STAMP,
        net::SO_TIMESTAMPNS | net::SO_TIMESTAMPNS_NEW => Switches::TIME_STAMP_NS,
        net::SO_LOCK_FILTER => Switches::LOCK_FILTER,
        net::SO_SELECT_ERR_QUEUE => Switches::SELECT_ERROR_QUEUE,
        net::SO_WIFI_STATUS => Switches::WIFI_STATUS,
        net::SO_NOFCS => Switches::NO_CHECKSUM_AT_END,
        _ => return None,
    })
}

/// The arguments of `setsockopt`: where the value is, and how long.
pub(super) struct Value {
    pub(super) pointer: UserPtr,
    pub(super) length: usize,
}

impl Value {
    /// The value as a number. `EINVAL` if it is too short for one.
    pub(super) fn number(&self) -> Result<i32> {
        if self.length < size_of::<i32>() { Err(Errno::EINVAL) } else { self.pointer.read() }
    }

    /// The value as a `struct timeval`, in ns; `None` for no limit. `EDOM` if it is none.
    fn timeout_ns(&self) -> Result<Option<u64>> {
        if self.length < size_of::<[i64; 2]>() {
            return Err(Errno::EINVAL);
        }
        let [seconds, microseconds]: [i64; 2] = self.pointer.read()?;
        if !(0..MICROSECONDS_PER_SECOND).contains(&microseconds) {
            return Err(Errno::EDOM);
        }
        let Ok(seconds) = u64::try_from(seconds) else { return Ok(Some(0)) };
        let ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(microseconds as u64 * NS_PER_MICROSECOND);
        Ok(Some(ns).filter(|ns| *ns > 0))
    }
}

/// `setsockopt(socket, level, option, value, length)`.
pub(super) fn set(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let length = usize::try_from(args[4] as i32).map_err(|_| Errno::EINVAL)?;
    let file = socket_file(thread, args[0])?;
    let value = Value { pointer: UserPtr::new(&thread.space(), args[3]), length };
    let socket = socket_of(&file)?;
    match (args[1] as u32, socket.family()) {
        (net::SOL_SOCKET, _) => set_common(thread, socket, args[2] as u32, &value)?,
        (_, Family::Unix(_)) => return Err(Errno::EOPNOTSUPP),
        (_, Family::Netlink(_)) => {}
        (level, Family::Tcp(_) | Family::Udp(_)) => inet::set(socket, level, args[2] as u32, &value)?,
    }
    Ok(0)
}

fn set_common(thread: &Rc<Thread>, socket: &Socket, option: u32, value: &Value) -> Result<()> {
    let common = socket.common();
    let is_privileged = thread.process.credentials().is_privileged();
    if option == net::SO_BINDTODEVICE {
        return bind_to_device(value, is_privileged);
    }
    let number = value.number()?;
    if option == net::SO_DEBUG && number != 0 && !is_privileged {
        return Err(Errno::EACCES);
    }
    if let Some(switch) = switch(option) {
        set_switch(common, switch, number != 0);
        return Ok(());
    }
    let unsigned = number as u32;
    match option {
        net::SO_SNDBUF => set_send_buffer(socket, unsigned.min(MAX_BUFFER)),
        net::SO_RCVBUF => common.set_receive_buffer(unsigned.min(MAX_BUFFER)),
        net::SO_SNDBUFFORCE | net::SO_RCVBUFFORCE if !is_privileged => return Err(Errno::EPERM),
        net::SO_SNDBUFFORCE => set_send_buffer(socket, number.max(0) as u32),
        net::SO_RCVBUFFORCE => common.set_receive_buffer(number.max(0) as u32),
        net::SO_PRIORITY if unsigned > MAX_FREE_PRIORITY && !is_privileged => return Err(Errno::EPERM),
        net::SO_PRIORITY => common.priority.set(unsigned),
        net::SO_MARK if !is_privileged => return Err(Errno::EPERM),
        net::SO_MARK => common.mark.set(unsigned),
        net::SO_LINGER => set_linger(common, value)?,
        net::SO_RCVLOWAT => common.receive_low_water.set(if number < 0 { i32::MAX as u32 } else { unsigned.max(1) }),
        net::SO_RCVTIMEO | net::SO_RCVTIMEO_NEW => common.receive_timeout_ns.set(value.timeout_ns()?),
        net::SO_SNDTIMEO | net::SO_SNDTIMEO_NEW => common.send_timeout_ns.set(value.timeout_ns()?),
        net::SO_TIMESTAMPING | net::SO_TIMESTAMPING_NEW if unsigned >= TIME_STAMPING_END => return Err(Errno::EINVAL),
        net::SO_TIMESTAMPING | net::SO_TIMESTAMPING_NEW => common.time_stamping.set(unsigned),
        net::SO_PEEK_OFF => common.peek_offset.set(number),
        net::SO_DETACH_FILTER => return Err(Errno::ENOENT),
        net::SO_BSDCOMPAT | net::SO_MAX_PACING_RATE | net::SO_INCOMING_CPU => {}
        net::SO_BUSY_POLL if number < 0 => return Err(Errno::EINVAL),
        net::SO_BUSY_POLL if number > 0 && !is_privileged => return Err(Errno::EPERM),
        net::SO_BUSY_POLL => {}
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// There is one device, and what is bound to it is as before.
fn bind_to_device(value: &Value, is_privileged: bool) -> Result<()> {
    let mut name = [0; 16];
    let length = value.length.min(name.len() - 1);
    value.pointer.read_bytes(name.get_mut(..length).unwrap_or_default())?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    match name.get(..end).unwrap_or_default() {
        b"" => Ok(()),
        _ if !is_privileged => Err(Errno::EPERM),
        b"lo" => Ok(()),
        _ => Err(Errno::ENODEV),
    }
}

fn set_switch(common: &Common, switch: Switches, is_on: bool) {
    let mut switches = common.switches.get();
    let stamps = Switches::TIME_STAMP | Switches::TIME_STAMP_NS;
    if stamps.contains(switch) {
        // Only one of the two.
        switches.remove(stamps);
    }
    switches.set(switch, is_on);
    common.switches.set(switches);
}

fn set_send_buffer(socket: &Socket, bytes: u32) {
    match socket.family() {
        Family::Unix(unix) => unix.set_send_buffer(bytes),
        Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) => socket.common().set_send_buffer(bytes),
    }
}

fn set_linger(common: &Common, value: &Value) -> Result<()> {
    if value.length < size_of::<[i32; 2]>() {
        return Err(Errno::EINVAL);
    }
    let [is_on, seconds]: [i32; 2] = value.pointer.read()?;
    set_switch(common, Switches::LINGER, is_on != 0);
    if is_on != 0 {
        common.linger_seconds.set(seconds.max(0) as u32);
    }
    Ok(())
}

/// `getsockopt(socket, level, option, value, length)`.
pub(super) fn get(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = socket_file(thread, args[0])?;
    let socket = socket_of(&file)?;
    let room = UserPtr::new(&thread.space(), args[4]);
    let level = args[1] as u32;
    if level != net::SOL_SOCKET && socket.unix().is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let length = usize::try_from(room.read::<i32>()?).map_err(|_| Errno::EINVAL)?;
    let value = match level {
        net::SOL_SOCKET => get_common(socket, args[2] as u32, length)?,
        level => inet::get(socket, level, args[2] as u32, length)?,
    };
    let part = value.get(..length.min(value.len())).unwrap_or_default();
    UserPtr::new(&thread.space(), args[3]).write_bytes(part)?;
    room.write(&(part.len() as i32))?;
    Ok(0)
}

fn get_common(socket: &Socket, option: u32, room: usize) -> Result<Vec<u8>> {
    let common = socket.common();
    if let Some(switch) = switch(option) {
        return Ok(number(u32::from(common.is_on(switch))));
    }
    Ok(match option {
        net::SO_TYPE => number(common.style.number()),
        net::SO_DOMAIN => number(socket.domain()),
        net::SO_PROTOCOL => number(socket.protocol()),
        net::SO_ERROR => number(common.take_error().map_or(0, |errno| u32::from(errno.number()))),
        net::SO_ACCEPTCONN => number(u32::from(socket.is_listening())),
        net::SO_SNDBUF => number(common.send_buffer.get()),
        net::SO_RCVBUF => number(common.receive_buffer.get()),
        net::SO_RCVLOWAT => number(common.receive_low_water.get()),
        net::SO_SNDLOWAT => number(1),
        net::SO_PRIORITY => number(common.priority.get()),
        net::SO_MARK => number(common.mark.get()),
        net::SO_TIMESTAMPING | net::SO_TIMESTAMPING_NEW => number(common.time_stamping.get()),
        net::SO_PEEK_OFF => number(common.peek_offset.get() as u32),
        net::SO_LINGER => linger(common),
        net::SO_RCVTIMEO | net::SO_RCVTIMEO_NEW => timeout(common.receive_timeout_ns.get()),
        net::SO_SNDTIMEO | net::SO_SNDTIMEO_NEW => timeout(common.send_timeout_ns.get()),
        net::SO_COOKIE if room < size_of::<u64>() => return Err(Errno::EINVAL),
        net::SO_COOKIE => common.cookie.to_le_bytes().to_vec(),
        net::SO_PEERNAME => peer_name(socket, room)?,
        net::SO_PEERCRED => peer_credentials(socket),
        net::SO_PEERGROUPS => peer_groups(socket, room)?,
        net::SO_BSDCOMPAT | net::SO_BUSY_POLL => number(0),
        net::SO_INCOMING_CPU | net::SO_MAX_PACING_RATE => number(u32::MAX),
        net::SO_BINDTODEVICE => Vec::new(),
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn linger(common: &Common) -> Vec<u8> {
    let is_on = u32::from(common.is_on(Switches::LINGER));
    [is_on, common.linger_seconds.get()].as_bytes().to_vec()
}

fn timeout(ns: Option<u64>) -> Vec<u8> {
    let ns = ns.unwrap_or(0);
    [ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_MICROSECOND].as_bytes().to_vec()
}

fn peer_name(socket: &Socket, room: usize) -> Result<Vec<u8>> {
    let address = peer_address(socket)?;
    if address.len() < room { Err(Errno::EINVAL) } else { Ok(address) }
}

/// Process, user and group of the peer; of nobody if there is none.
fn peer_credentials(socket: &Socket) -> Vec<u8> {
    let credentials = match socket.family() {
        Family::Unix(unix) => unix.peer_credentials(),
        Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) => None,
    };
    credentials.map_or_else(|| [0, u32::MAX, u32::MAX].as_bytes().to_vec(), |peer| peer.as_bytes().to_vec())
}

fn peer_groups(socket: &Socket, room: usize) -> Result<Vec<u8>> {
    let groups = match socket.family() {
        Family::Unix(unix) => unix.peer_groups().ok_or(Errno::ENODATA)?,
        Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) => return Err(Errno::ENODATA),
    };
    if room < size_of_val(&*groups) { Err(Errno::ERANGE) } else { Ok(groups.as_bytes().to_vec()) }
}
