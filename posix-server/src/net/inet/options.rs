//! Options of IP, TCP and UDP. Most say how packets look; there are none, so such options are kept and shown.

use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use core::cell::RefCell;
use linux_raw_sys::net as linux;

/// An option whose value is a number.
struct Known {
    level: u32,
    option: u32,
    initial: i32,
    range: core::ops::RangeInclusive<i32>,
}

const fn known(level: u32, option: u32, initial: i32, range: core::ops::RangeInclusive<i32>) -> Known {
    Known { level, option, initial, range }
}

const fn switch(level: u32, option: u32) -> Known {
    known(level, option, 0, i32::MIN..=i32::MAX)
}

static KNOWN: [Known; 65] = [
    known(linux::SOL_IP, linux::IP_TOS, 0, 0..=255),
    known(linux::SOL_IP, linux::IP_TTL, 64, -1..=255),
    known(linux::SOL_IP, linux::IP_LOCAL_PORT_RANGE, 0, 0..=i32::MAX),
    switch(linux::SOL_IP, linux::IP_HDRINCL),
    switch(linux::SOL_IP, linux::IP_RECVOPTS),
    switch(linux::SOL_IP, linux::IP_RETOPTS),
    switch(linux::SOL_IP, linux::IP_PASSSEC),
    switch(linux::SOL_IP, linux::IP_TRANSPARENT),
    switch(linux::SOL_IP, linux::IP_NODEFRAG),
    switch(linux::SOL_IP, linux::IP_CHECKSUM),
    switch(linux::SOL_IP, linux::IP_RECVFRAGSIZE),
    switch(linux::SOL_IP, linux::IP_MULTICAST_ALL),
    known(linux::SOL_IP, linux::IP_MTU_DISCOVER, 1, 0..=5),
    known(linux::SOL_IP, linux::IP_MULTICAST_TTL, 1, -1..=255),
    known(linux::SOL_IP, linux::IP_MULTICAST_LOOP, 1, 0..=255),
    known(linux::SOL_IP, linux::IP_MINTTL, 0, 0..=255),
    switch(linux::SOL_IP, linux::IP_PKTINFO),
    switch(linux::SOL_IP, linux::IP_RECVTTL),
    switch(linux::SOL_IP, linux::IP_RECVTOS),
    switch(linux::SOL_IP, linux::IP_RECVERR),
    switch(linux::SOL_IP, linux::IP_FREEBIND),
    switch(linux::SOL_IP, linux::IP_RECVORIGDSTADDR),
    switch(linux::SOL_IP, linux::IP_BIND_ADDRESS_NO_PORT),
    switch(linux::SOL_IPV6, linux::IPV6_V6ONLY),
    known(linux::SOL_IPV6, linux::IPV6_UNICAST_HOPS, 64, -1..=255),
    known(linux::SOL_IPV6, linux::IPV6_MULTICAST_HOPS, 1, -1..=255),
    known(linux::SOL_IPV6, linux::IPV6_MULTICAST_LOOP, 1, 0..=1),
    known(linux::SOL_IPV6, linux::IPV6_TCLASS, 0, -1..=255),
    known(linux::SOL_IPV6, linux::IPV6_MTU_DISCOVER, 1, 0..=5),
    switch(linux::SOL_IPV6, linux::IPV6_RECVPKTINFO),
    switch(linux::SOL_IPV6, linux::IPV6_RECVHOPLIMIT),
    switch(linux::SOL_IPV6, linux::IPV6_RECVTCLASS),
    switch(linux::SOL_IPV6, linux::IPV6_RECVERR),
    switch(linux::SOL_IPV6, linux::IPV6_RECVORIGDSTADDR),
    switch(linux::SOL_IPV6, linux::IPV6_DONTFRAG),
    switch(linux::SOL_IPV6, linux::IPV6_2292PKTINFO),
    switch(linux::SOL_IPV6, linux::IPV6_2292HOPLIMIT),
    switch(linux::SOL_IPV6, linux::IPV6_2292HOPOPTS),
    switch(linux::SOL_IPV6, linux::IPV6_2292DSTOPTS),
    switch(linux::SOL_IPV6, linux::IPV6_2292RTHDR),
    switch(linux::SOL_IPV6, linux::IPV6_RECVHOPOPTS),
    switch(linux::SOL_IPV6, linux::IPV6_RECVDSTOPTS),
    switch(linux::SOL_IPV6, linux::IPV6_RECVRTHDR),
    switch(linux::SOL_IPV6, linux::IPV6_RECVPATHMTU),
    switch(linux::SOL_IPV6, linux::IPV6_RECVFRAGSIZE),
    switch(linux::SOL_IPV6, linux::IPV6_TRANSPARENT),
    switch(linux::SOL_IPV6, linux::IPV6_FREEBIND),
    switch(linux::SOL_TCP, linux::TCP_FASTOPEN_CONNECT),
    switch(linux::SOL_TCP, linux::TCP_NODELAY),
    switch(linux::SOL_TCP, linux::TCP_CORK),
    known(linux::SOL_TCP, linux::TCP_MAXSEG, 536, 0..=32_767),
    known(linux::SOL_TCP, linux::TCP_KEEPIDLE, 7200, 1..=32_767),
    known(linux::SOL_TCP, linux::TCP_KEEPINTVL, 75, 1..=32_767),
    known(linux::SOL_TCP, linux::TCP_KEEPCNT, 9, 1..=127),
    known(linux::SOL_TCP, linux::TCP_SYNCNT, 6, 1..=127),
    known(linux::SOL_TCP, linux::TCP_LINGER2, 60, -1..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_DEFER_ACCEPT, 0, 0..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_WINDOW_CLAMP, 0, 0..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_QUICKACK, 1, i32::MIN..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_USER_TIMEOUT, 0, 0..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_NOTSENT_LOWAT, 0, -1..=i32::MAX),
    known(linux::SOL_TCP, linux::TCP_FASTOPEN, 0, 0..=i32::MAX),
    switch(linux::SOL_UDP, UDP_CORK),
    known(linux::SOL_UDP, UDPLITE_SEND_CSCOV, 0, 0..=65_535),
    known(linux::SOL_UDP, UDPLITE_RECV_CSCOV, 0, 0..=65_535),
];

/// UDP: gather what is sent to one datagram; kept, without effect.
const UDP_CORK: u32 = 1;
/// UDP-Lite: how many bytes of a datagram a checksum covers at least; kept, without effect (`udplite(7)`).
pub const UDPLITE_SEND_CSCOV: u32 = 10;
/// The same for what is received.
pub const UDPLITE_RECV_CSCOV: u32 = 11;

fn find(level: u32, option: u32) -> Result<&'static Known> {
    KNOWN.iter().find(|known| known.level == level && known.option == option).ok_or(Errno::ENOPROTOOPT)
}

/// The options of a socket that are not as they were at first.
#[derive(Debug, Default)]
pub struct Numbers {
    changed: RefCell<BTreeMap<(u32, u32), i32>>,
}

impl Numbers {
    /// Sets an option. `ENOPROTOOPT`, `EINVAL`.
    pub fn set(&self, level: u32, option: u32, value: i32) -> Result<()> {
        let known = find(level, option)?;
        let is_no_time_to_live = (level, option, value) == (linux::SOL_IP, linux::IP_TTL, 0);
        if !known.range.contains(&value) || is_no_time_to_live {
            return Err(Errno::EINVAL);
        }
        let is_switch = known.initial == 0 && *known.range.start() == i32::MIN;
        let value = match value {
            _ if is_switch => i32::from(value != 0),
            // What IP does by itself.
            -1 if matches!(level, linux::SOL_IP | linux::SOL_IPV6) => known.initial,
            _ => value,
        };
        self.changed.borrow_mut().insert((level, option), value);
        Ok(())
    }

    /// An option's value. `ENOPROTOOPT`.
    pub fn get(&self, level: u32, option: u32) -> Result<i32> {
        let known = find(level, option)?;
        Ok(self.changed.borrow().get(&(level, option)).copied().unwrap_or(known.initial))
    }

    /// An option's value, if it was ever set.
    pub fn changed(&self, level: u32, option: u32) -> Option<i32> {
        self.changed.borrow().get(&(level, option)).copied()
    }

    /// Whether an option is on.
    pub fn is_on(&self, level: u32, option: u32) -> bool {
        self.get(level, option).is_ok_and(|value| value != 0)
    }

    /// The same options, for a connection that a listener's options hold for.
    pub fn inherit(&self, from: &Self) {
        let changed = from.changed.borrow().clone();
        self.changed.replace(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_are_kept_and_others_refused() {
        let numbers = Numbers::default();
        assert_eq!(numbers.get(linux::SOL_IP, linux::IP_TTL), Ok(64));
        numbers.set(linux::SOL_TCP, linux::TCP_NODELAY, 7).unwrap();
        assert_eq!(numbers.get(linux::SOL_TCP, linux::TCP_NODELAY), Ok(1));
        assert_eq!(numbers.set(linux::SOL_IP, linux::IP_TTL, 256), Err(Errno::EINVAL));
        assert_eq!(numbers.set(linux::SOL_IP, 9999, 1), Err(Errno::ENOPROTOOPT));
    }
}
