//! `struct sockaddr_in` and `struct sockaddr_in6`.
//!
//! Inside, an IPv4 address is one also where an IPv6 socket has it; it is mapped only where programs see it.

use super::Version;
use crate::errno::{Errno, Result};
use crate::net::address::family;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use linux_raw_sys::net as linux;

/// The size of an IPv4 address, in bytes.
const V4_BYTES: usize = 16;
/// The size of an IPv6 address, in bytes, and the least that is taken for one: without the scope.
const V6_BYTES: usize = 28;
const MIN_V6_BYTES: usize = 24;

/// What is done with an address, which decides about odd families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `bind`.
    Bind,
    /// `connect`, or sending.
    Send,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)
}

/// Reads an address for a socket of this version. `EINVAL` if it is too short, `EAFNOSUPPORT` for another family.
pub fn parse(version: Version, address: &[u8], purpose: Purpose) -> Result<SocketAddr> {
    let family = family(address)?;
    match (version, family) {
        (Version::V4, _) if address.len() < V4_BYTES => Err(Errno::EINVAL),
        (Version::V4, linux::AF_INET) => parse_v4(address),
        (Version::V4, linux::AF_UNSPEC) => {
            let parsed = parse_v4(address)?;
            if purpose == Purpose::Send || parsed.ip().is_unspecified() { Ok(parsed) } else { Err(Errno::EAFNOSUPPORT) }
        }
        (Version::V6, linux::AF_INET) if purpose == Purpose::Send && address.len() >= V4_BYTES => parse_v4(address),
        (Version::V6, _) if address.len() < MIN_V6_BYTES => Err(Errno::EINVAL),
        (Version::V6, linux::AF_INET6) => {
            let port = u16::from_be_bytes(array(address, 2)?);
            let ip = Ipv6Addr::from(array::<16>(address, 8)?).to_canonical();
            Ok(SocketAddr::new(ip, port))
        }
        (Version::V4 | Version::V6, _) => Err(Errno::EAFNOSUPPORT),
    }
}

fn parse_v4(address: &[u8]) -> Result<SocketAddr> {
    let port = u16::from_be_bytes(array(address, 2)?);
    Ok(SocketAddr::new(Ipv4Addr::from(array::<4>(address, 4)?).into(), port))
}

/// Writes an address as a socket of this version shows it.
pub fn encode(version: Version, address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match (version, address.ip()) {
        (Version::V4, IpAddr::V4(ip)) => record(linux::AF_INET, port, &ip.octets(), V4_BYTES),
        (_, ip) => {
            let ip = match ip {
                IpAddr::V4(v4) if v4.is_unspecified() => Ipv6Addr::UNSPECIFIED,
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let flow_and_ip: Vec<u8> = [0; 4].into_iter().chain(ip.octets()).collect();
            record(linux::AF_INET6, port, &flow_and_ip, V6_BYTES)
        }
    }
}

fn record(family: u32, port: [u8; 2], rest: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&(family as u16).to_le_bytes());
    bytes.extend_from_slice(&port);
    bytes.extend_from_slice(rest);
    bytes.resize(length, 0);
    bytes
}

/// The unspecified address of a version, without a port.
pub fn unspecified(version: Version) -> SocketAddr {
    match version {
        Version::V4 => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        Version::V6 => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for (version, text) in
            [(Version::V4, "127.0.0.1:80"), (Version::V6, "[::1]:1"), (Version::V6, "127.0.0.1:65535")]
        {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(parse(version, &encode(version, address), Purpose::Bind), Ok(address));
        }
        assert_eq!(encode(Version::V6, "1.2.3.4:5".parse().unwrap()).get(18..24), Some(&[255, 255, 1, 2, 3, 4][..]));
    }

    #[test]
    fn short_addresses_and_other_families_are_refused() {
        assert_eq!(parse(Version::V4, &[2, 0, 0], Purpose::Bind), Err(Errno::EINVAL));
        assert_eq!(parse(Version::V6, &[10; 23], Purpose::Send), Err(Errno::EINVAL));
        assert_eq!(parse(Version::V4, &[10; 28], Purpose::Send), Err(Errno::EAFNOSUPPORT));
        let mut unspecified = [0; 16];
        assert!(parse(Version::V4, &unspecified, Purpose::Bind).is_ok());
        unspecified[4] = 127;
        assert_eq!(parse(Version::V4, &unspecified, Purpose::Bind), Err(Errno::EAFNOSUPPORT));
    }
}
