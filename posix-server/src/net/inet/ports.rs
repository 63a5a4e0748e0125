//! Who has which port.

use crate::errno::{Errno, Result};
use crate::random;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};

/// The ports that `bind` and `connect` choose from (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32_768..=60_999;
/// The lowest port that anybody may bind.
pub const FIRST_FREE_PORT: u16 = 1024;

/// What a socket claims of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address; the unspecified one for all of its version.
    pub ip: IpAddr,
    /// Whether the unspecified address stands for both versions.
    pub is_dual: bool,
    /// `SO_REUSEADDR`.
    pub shares_address: bool,
    /// `SO_REUSEPORT`.
    pub shares_port: bool,
    /// Whose socket it is: only sockets of one user share a port.
    pub user: u32,
    /// Whether sockets that share an address may both receive.
    pub is_listening: bool,
}

impl Claim {
    fn reaches(&self, ip: IpAddr) -> bool {
        self.ip == ip || (self.ip.is_unspecified() && (self.is_dual || self.ip.is_ipv4() == ip.is_ipv4()))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let is_same_version = self.is_dual || other.is_dual || self.ip.is_ipv4() == other.ip.is_ipv4();
        is_same_version && (self.ip == other.ip || self.ip.is_unspecified() || other.ip.is_unspecified())
    }

    fn conflicts(&self, other: &Self) -> bool {
        let share_address = self.shares_address && other.shares_address && !self.is_listening && !other.is_listening;
        let share_port = self.shares_port && other.shares_port && self.user == other.user;
        self.overlaps(other) && !share_address && !share_port
    }
}

struct Holder<T> {
    claim: Claim,
    socket: Weak<T>,
}

/// The ports of one protocol.
pub struct Ports<T> {
    holders: RefCell<BTreeMap<u16, Vec<Holder<T>>>>,
    next: Cell<u16>,
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Self { holders: RefCell::default(), next: Cell::new(0) }
    }
}

impl<T> Ports<T> {
    fn is_free(&self, port: u16, claim: &Claim) -> bool {
        let holders = self.holders.borrow();
        holders.get(&port).is_none_or(|holders| !holders.iter().any(|holder| claim.conflicts(&holder.claim)))
    }

    /// Gives a socket a port; 0: one that nobody has. `EADDRINUSE`.
    pub fn bind(&self, socket: &Rc<T>, claim: Claim, port: u16) -> Result<u16> {
        let port = match port {
            0 => self.choose(&claim)?,
            _ if self.is_free(port, &claim) => port,
            _ => return Err(Errno::EADDRINUSE),
        };
        let holder = Holder { claim, socket: Rc::downgrade(socket) };
        self.holders.borrow_mut().entry(port).or_default().push(holder);
        Ok(port)
    }

    fn choose(&self, claim: &Claim) -> Result<u16> {
        let first = *EPHEMERAL.start();
        let count = EPHEMERAL.end() - first + 1;
        if self.next.get() == 0 {
            let mut seed = [0; 2];
            random::fill(&mut seed);
            self.next.set(u16::from_le_bytes(seed) % count);
        }
        // Never shared: who does not care which port it is wants one of its own.
        let alone = Claim { shares_address: false, shares_port: false, ..*claim };
        for step in 0..count {
            let offset = (self.next.get() + step) % count;
            if self.is_free(first + offset, &alone) {
                self.next.set((offset + 1) % count);
                return Ok(first + offset);
            }
        }
        Err(Errno::EADDRINUSE)
    }

    /// Takes a port back.
    pub fn release(&self, socket: &Rc<T>, port: u16) {
        let mut holders = self.holders.borrow_mut();
        let Some(list) = holders.get_mut(&port) else { return };
        list.retain(|holder| !core::ptr::eq(holder.socket.as_ptr(), Rc::as_ptr(socket)));
        if list.is_empty() {
            holders.remove(&port);
        }
    }

    /// A socket begins to listen, or ends. `EADDRINUSE` if another listens there, and the two don't share the port.
    pub fn set_listening(&self, socket: &Rc<T>, port: u16, is_listening: bool) -> Result<()> {
        let mut holders = self.holders.borrow_mut();
        let Some(list) = holders.get_mut(&port) else { return Ok(()) };
        let is_own = |holder: &Holder<T>| core::ptr::eq(holder.socket.as_ptr(), Rc::as_ptr(socket));
        let Some(own) = list.iter().find(|holder| is_own(holder)) else { return Ok(()) };
        let claim = Claim { is_listening, ..own.claim };
        let is_rival = |other: &Holder<T>| !is_own(other) && other.claim.is_listening && claim.conflicts(&other.claim);
        if is_listening && list.iter().any(is_rival) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(own) = list.iter_mut().find(|holder| is_own(holder)) {
            own.claim = claim;
        }
        Ok(())
    }

    /// The socket that gets what is sent to an address: of those that reach it and for which `rank` gives a number, the one
    /// with the highest. A claim of the very address counts for more than one of all.
    pub fn find(&self, to: SocketAddr, rank: impl Fn(&T) -> Option<u32>) -> Option<Rc<T>> {
        let holders = self.holders.borrow();
        let reaching = holders.get(&to.port())?.iter().filter(|holder| holder.claim.reaches(to.ip()));
        let ranked = reaching.filter_map(|holder| {
            let socket = holder.socket.upgrade()?;
            let is_exact = !holder.claim.ip.is_unspecified();
            Some(((rank(&socket)?, is_exact), socket))
        });
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, socket)| socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(ip: &str) -> Claim {
        let ip: IpAddr = ip.parse().unwrap();
        let is_dual = ip.is_ipv6() && ip.is_unspecified();
        Claim { ip, is_dual, shares_address: false, shares_port: false, user: 0, is_listening: false }
    }

    #[test]
    fn a_port_is_had_once_for_each_address() {
        let ports = Ports::default();
        let socket = Rc::new(1);
        assert_eq!(ports.bind(&socket, claim("127.0.0.1"), 80), Ok(80));
        assert_eq!(ports.bind(&socket, claim("127.0.0.2"), 80), Ok(80));
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            assert_eq!(ports.bind(&socket, claim(ip), 80), Err(Errno::EADDRINUSE));
        }
        assert_eq!(ports.bind(&socket, claim("::1"), 80), Ok(80));
        ports.release(&socket, 80);
        assert_eq!(ports.bind(&socket, claim("::"), 80), Ok(80));
    }

    #[test]
    fn who_shares_an_address_does_not_listen_there_twice() {
        let ports = Ports::default();
        let (one, other) = (Rc::new(1), Rc::new(2));
        let shared = Claim { shares_address: true, ..claim("127.0.0.1") };
        ports.bind(&one, shared, 80).unwrap();
        ports.bind(&other, shared, 80).unwrap();
        ports.set_listening(&one, 80, true).unwrap();
        assert_eq!(ports.set_listening(&other, 80, true), Err(Errno::EADDRINUSE));
        assert_eq!(ports.bind(&Rc::new(3), shared, 80), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn chosen_ports_differ_until_there_are_none() {
        let ports = Ports::default();
        let socket = Rc::new(1);
        let count = EPHEMERAL.len();
        let mut chosen: Vec<u16> = (0..count).map(|_| ports.bind(&socket, claim("127.0.0.1"), 0).unwrap()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), count);
        assert_eq!(ports.bind(&socket, claim("127.0.0.1"), 0), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn the_exact_address_is_found_before_all() {
        let ports = Ports::default();
        let (exact, all) = (Rc::new(1), Rc::new(2));
        let shared = |ip| Claim { shares_address: true, ..claim(ip) };
        ports.bind(&exact, shared("127.0.0.1"), 80).unwrap();
        ports.bind(&all, shared("0.0.0.0"), 80).unwrap();
        let find = |text: &str| ports.find(text.parse().unwrap(), |_| Some(0)).map(|found| *found);
        assert_eq!((find("127.0.0.1:80"), find("127.0.0.9:80"), find("[::1]:80")), (Some(1), Some(2), None));
    }
}
