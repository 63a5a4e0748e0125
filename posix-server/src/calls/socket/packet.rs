//! Control messages of IP that say how a datagram is to be sent (`ip(7)`, RFC 3542).

use crate::errno::{Errno, Result};
use crate::net::inet::{Packet, Version};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linux_raw_sys::net;

/// The size of `struct in6_pktinfo`, in bytes.
const V6_INFO_BYTES: usize = 20;

fn number(data: &[u8]) -> Result<i32> {
    data.try_into().map(i32::from_le_bytes).map_err(|_| Errno::EINVAL)
}

/// A number of one byte; -1, where it is allowed, leaves the choice to IP.
fn byte(number: i32) -> Result<Option<u8>> {
    if number == -1 { Ok(None) } else { u8::try_from(number).map(Some).map_err(|_| Errno::EINVAL) }
}

/// Takes in one message; those of other levels than the socket's are ignored. `EINVAL`.
pub(super) fn parse(version: Version, kind: (u32, u32), data: &[u8], packet: &mut Packet) -> Result<()> {
    match (version, kind.0) {
        (Version::V4, net::SOL_IP) => parse_v4(kind.1, data, packet),
        (Version::V6, net::SOL_IPV6) => parse_v6(kind.1, data, packet),
        (Version::V4 | Version::V6, _) => Ok(()),
    }
}

fn parse_v4(kind: u32, data: &[u8], packet: &mut Packet) -> Result<()> {
    match kind {
        net::IP_PKTINFO => {
            let words: &[u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
            let [_, _, _, _, source @ .., _, _, _, _] = words;
            packet.source = Some(IpAddr::V4(Ipv4Addr::from(*source)));
        }
        net::IP_TTL => {
            packet.hops = Some(u8::try_from(number(data)?).ok().filter(|hops| *hops > 0).ok_or(Errno::EINVAL)?);
        }
        net::IP_TOS => {
            packet.class = Some(match data {
                [class] => *class,
                _ => u8::try_from(number(data)?).map_err(|_| Errno::EINVAL)?,
            });
        }
        // Without routers on the way, there is nothing that options could ask of them.
        net::IP_RETOPTS => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn parse_v6(kind: u32, data: &[u8], packet: &mut Packet) -> Result<()> {
    match kind {
        net::IPV6_PKTINFO | net::IPV6_2292PKTINFO => {
            let info = data.get(..V6_INFO_BYTES).ok_or(Errno::EINVAL)?;
            let address: [u8; 16] = *info.first_chunk().ok_or(Errno::EINVAL)?;
            packet.source = Some(IpAddr::V6(Ipv6Addr::from(address)).to_canonical());
        }
        net::IPV6_HOPLIMIT | net::IPV6_2292HOPLIMIT => packet.hops = byte(number(data)?)?,
        net::IPV6_TCLASS => packet.class = byte(number(data)?)?,
        net::IPV6_DONTFRAG => {
            if !(0..=1).contains(&number(data)?) {
                return Err(Errno::EINVAL);
            }
        }
        net::IPV6_FLOWINFO if data.len() >= size_of::<u32>() => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_one_byte() {
        let mut packet = Packet::default();
        let mut try_v6 = |kind, number: i32| parse_v6(kind, &number.to_le_bytes(), &mut packet).map(|()| packet);
        assert_eq!(try_v6(net::IPV6_HOPLIMIT, 9).unwrap().hops, Some(9));
        assert_eq!(try_v6(net::IPV6_HOPLIMIT, -1).unwrap().hops, None);
        assert_eq!(try_v6(net::IPV6_HOPLIMIT, 256), Err(Errno::EINVAL));
        assert_eq!(try_v6(net::IPV6_TCLASS, -2), Err(Errno::EINVAL));
        assert_eq!(parse_v4(net::IP_TTL, &0i32.to_le_bytes(), &mut packet), Err(Errno::EINVAL));
        assert_eq!(parse_v4(net::IP_TOS, &[7], &mut packet).map(|()| packet.class), Ok(Some(7)));
    }

    #[test]
    fn a_source_has_a_place_in_its_record() {
        let mut packet = Packet::default();
        parse_v4(net::IP_PKTINFO, &[0, 0, 0, 0, 127, 0, 0, 9, 1, 1, 1, 1], &mut packet).unwrap();
        assert_eq!(packet.source, Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))));
        assert_eq!(parse_v6(net::IPV6_PKTINFO, &[0; 19], &mut packet), Err(Errno::EINVAL));
    }
}
