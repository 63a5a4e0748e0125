//! `AF_INET` and `AF_INET6` of a machine that has no other network than its own loopback.
//!
//! There are no packets: a TCP connection is two sockets that put bytes into each other's queues, and a UDP datagram goes
//! from one socket's call into another's queue. What programs can tell apart is kept: ports and who may share them, the queue
//! of a listener, resets, the error that a datagram to a closed port brings back. Every address but the machine's own
//! (127.0.0.0/8 and ::1) is unreachable.

pub mod address;
pub mod options;
pub mod ports;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod udp;

use crate::errno::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ports::Ports;
use tcp::TcpSocket;
use udp::UdpSocket;

/// What all sockets of both families share.
#[derive(Default)]
pub struct Domain {
    /// Ports of TCP.
    pub tcp: Ports<TcpSocket>,
    /// Ports of UDP.
    pub udp: Ports<UdpSocket>,
    /// Ports of UDP-Lite.
    pub udp_lite: Ports<UdpSocket>,
}

/// The version of the protocol that a socket speaks: its address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, which speaks the other too unless it is told not to.
    V6,
}

/// What a packet says besides its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many routers it may still pass: the time to live, or hop limit.
    pub hops: u8,
    /// The type of service, or traffic class.
    pub class: u8,
}

/// What a message says about how it is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Instead of the socket's.
    pub hops: Option<u8>,
    /// Instead of the socket's.
    pub class: Option<u8>,
    /// From where.
    pub source: Option<IpAddr>,
}

/// `EADDRNOTAVAIL` unless a socket can be bound to this address.
pub fn check_local(ip: IpAddr) -> Result<()> {
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
}

/// Where something that is sent to this address goes: the unspecified one means this machine. `ENETUNREACH`.
pub fn destination(ip: IpAddr) -> Result<IpAddr> {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ok(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => Ok(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) if ip.is_loopback() => Ok(ip),
        IpAddr::V4(_) | IpAddr::V6(_) => Err(Errno::ENETUNREACH),
    }
}

/// The address that a socket bound to `own` sends from.
pub fn source(own: IpAddr, to: IpAddr) -> IpAddr {
    match (own.is_unspecified() || own.is_multicast(), to) {
        (false, _) => own,
        (true, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
    }
}
