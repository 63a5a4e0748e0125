//! `getsockopt` and `setsockopt` of the levels IP, TCP and UDP.

use super::options::Value;
use crate::errno::{Errno, Result};
use crate::net::inet::Version;
use crate::net::inet::options::{Numbers, UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV};
use crate::net::inet::tcp::Phase;
use crate::net::{Family, Socket};
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::net;

/// The size of `struct tcp_info` up to what all versions of it have, in bytes.
const TCP_INFO_BYTES: usize = 104;
/// The largest packet of the loopback, as IP counts it, in bytes.
const LOOPBACK_MTU: i32 = 65_535;
/// The only congestion control: there is no congestion.
const CONGESTION_CONTROL: &[u8; 16] = b"reno\0\0\0\0\0\0\0\0\0\0\0\0";

/// The options of a socket, if it has those of a level. `ENOPROTOOPT`, `EOPNOTSUPP`.
fn numbers(socket: &Socket, level: u32) -> Result<&Numbers> {
    let (version, numbers, own_level) = match socket.family() {
        Family::Unix(_) => return Err(Errno::EOPNOTSUPP),
        Family::Netlink(_) => return Err(Errno::ENOPROTOOPT),
        Family::Tcp(tcp) => (tcp.version, &tcp.numbers, net::SOL_TCP),
        Family::Udp(udp) => (udp.version, &udp.numbers, net::SOL_UDP),
    };
    match level {
        net::SOL_IP => Ok(numbers),
        net::SOL_IPV6 if version == Version::V6 => Ok(numbers),
        _ if level == own_level => Ok(numbers),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn is_bound(socket: &Socket) -> bool {
    match socket.family() {
        Family::Unix(_) | Family::Netlink(_) => false,
        Family::Tcp(tcp) => tcp.local().is_some(),
        Family::Udp(udp) => udp.local().is_some(),
    }
}

fn is_connected(socket: &Socket) -> bool {
    match socket.family() {
        Family::Unix(_) | Family::Netlink(_) => false,
        Family::Tcp(tcp) => tcp.remote().is_ok(),
        Family::Udp(udp) => udp.remote().is_ok(),
    }
}

/// The levels of both protocols of datagrams are one.
fn canonical(level: u32) -> u32 {
    if level == net::SOL_UDPLITE { net::SOL_UDP } else { level }
}

/// A header is always covered, and nothing is longer than a datagram.
fn coverage(wanted: i32) -> i32 {
    const HEADER_BYTES: i32 = 8;
    if wanted == 0 { 0 } else { wanted.clamp(HEADER_BYTES, i32::from(u16::MAX)) }
}

/// Sets one. `ENOPROTOOPT`, `EINVAL`, `EFAULT`.
pub(super) fn set(socket: &Socket, level: u32, option: u32, value: &Value) -> Result<()> {
    let level = canonical(level);
    let numbers = numbers(socket, level)?;
    match (level, option) {
        (net::SOL_IPV6, net::IPV6_V6ONLY) if is_bound(socket) => return Err(Errno::EINVAL),
        (net::SOL_IP, net::IP_ADD_MEMBERSHIP) | (net::SOL_IPV6, net::IPV6_ADD_MEMBERSHIP) => return Err(Errno::ENODEV),
        (net::SOL_TCP, net::TCP_CONGESTION) => return set_congestion_control(value),
        _ => {}
    }
    // IP's options may be a single byte.
    let is_byte = level == net::SOL_IP && (1..size_of::<i32>()).contains(&value.length);
    let number = if is_byte { i32::from(value.pointer.read::<u8>()?) } else { value.number()? };
    match (level, option) {
        (net::SOL_UDP, UDPLITE_SEND_CSCOV | UDPLITE_RECV_CSCOV) if socket.protocol() == net::SOL_UDPLITE => {
            numbers.set(level, option, coverage(number))
        }
        (net::SOL_UDP, UDPLITE_SEND_CSCOV | UDPLITE_RECV_CSCOV) => Err(Errno::ENOPROTOOPT),
        _ => numbers.set(level, option, number),
    }
}

/// Only what is can be chosen.
fn set_congestion_control(value: &Value) -> Result<()> {
    let mut name = [0; CONGESTION_CONTROL.len()];
    let length = value.length.min(name.len());
    value.pointer.read_bytes(name.get_mut(..length).unwrap_or_default())?;
    match value.length {
        0 => Err(Errno::EINVAL),
        _ if name == *CONGESTION_CONTROL => Ok(()),
        _ => Err(Errno::ENOENT),
    }
}

/// The value of one, as it is written.
pub(super) fn get(socket: &Socket, level: u32, option: u32, room: usize) -> Result<Vec<u8>> {
    let level = canonical(level);
    let numbers = numbers(socket, level)?;
    match (level, option, socket.family()) {
        (net::SOL_TCP, net::TCP_INFO, Family::Tcp(tcp)) => {
            let mut info = vec![0; TCP_INFO_BYTES];
            if let Some(state) = info.first_mut() {
                *state = state_number(tcp.phase());
            }
            Ok(info)
        }
        (net::SOL_IP, net::IP_MTU, _) if !is_connected(socket) => Err(Errno::ENOTCONN),
        (net::SOL_IP, net::IP_MTU, _) => Ok(LOOPBACK_MTU.to_le_bytes().to_vec()),
        (net::SOL_TCP, net::TCP_CONGESTION, _) => Ok(CONGESTION_CONTROL.to_vec()),
        _ => {
            let number = numbers.get(level, option)?;
            let is_byte = level == net::SOL_IP && (1..size_of::<i32>()).contains(&room);
            Ok(match u8::try_from(number) {
                Ok(byte) if is_byte => vec![byte],
                Ok(_) | Err(_) => number.to_le_bytes().to_vec(),
            })
        }
    }
}

/// The numbers of Linux's states (`TCP_ESTABLISHED` and so on).
fn state_number(phase: Phase) -> u8 {
    match phase {
        Phase::Connected => 1,
        Phase::Connecting => 2,
        Phase::Idle | Phase::Over => 7,
        Phase::Listening => 10,
    }
}
