//! `ioctl` of sockets: their queues, and the one network interface (`netdevice(7)`).

use super::socket_of;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::net::Family;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use core::net::Ipv4Addr;
use linux_raw_sys::{ioctl as request, net};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const NAME_BYTES: usize = 16;
/// The name of the only interface.
const LOOPBACK: &[u8] = b"lo";
const LOOPBACK_INDEX: u32 = 1;
const LOOPBACK_MTU: u32 = 65_536;
/// `IFF_UP`, `IFF_LOOPBACK`, `IFF_RUNNING`.
const LOOPBACK_FLAGS: u32 = 1 | 1 << 3 | 1 << 6;
/// `ARPHRD_LOOPBACK`.
const LOOPBACK_HARDWARE: u16 = 772;

/// `struct ifreq`: a name, and what is asked for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    value: [u8; 24],
}

impl InterfaceRequest {
    fn loopback() -> Self {
        let mut name = [0; NAME_BYTES];
        for (to, from) in name.iter_mut().zip(LOOPBACK) {
            *to = *from;
        }
        Self { name, value: [0; 24] }
    }

    /// `ENODEV` unless it names the interface.
    fn check_name(&self) -> Result<()> {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        if self.name.get(..end) == Some(LOOPBACK) { Ok(()) } else { Err(Errno::ENODEV) }
    }

    fn with(mut self, bytes: &[u8]) -> Self {
        for (to, from) in self.value.iter_mut().zip(bytes) {
            *to = *from;
        }
        self
    }

    fn with_address(self, ip: Ipv4Addr) -> Self {
        let mut address = [0; 8];
        for (to, from) in
            address.iter_mut().zip((net::AF_INET as u16).to_le_bytes().into_iter().chain([0; 2]).chain(ip.octets()))
        {
            *to = from;
        }
        self.with(&address)
    }
}

/// `struct ifconf`: how many bytes there is room for, and where.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct InterfaceList {
    bytes: i32,
    padding: u32,
    records: u64,
}

/// An `ioctl` on a socket that other files don't have. `ENOTTY`.
pub(in super::super) fn ioctl(thread: &Rc<Thread>, file: &OpenFile, number: u32, pointer: &UserPtr) -> Result<u64> {
    match number {
        request::TIOCOUTQ => pointer.write(&unsent_bytes(file)?)?,
        request::SIOCATMARK => pointer.write(&0i32)?,
        request::SIOCGIFCONF => list(thread, pointer)?,
        request::SIOCGIFNAME => {
            let asked: InterfaceRequest = pointer.read()?;
            let index = asked.value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if index != LOOPBACK_INDEX {
                return Err(Errno::ENODEV);
            }
            pointer.write(&InterfaceRequest::loopback().with(&index.to_le_bytes()))?;
        }
        request::SIOCGIFINDEX
        | request::SIOCGIFFLAGS
        | request::SIOCGIFADDR
        | request::SIOCGIFDSTADDR
        | request::SIOCGIFBRDADDR
        | request::SIOCGIFNETMASK
        | request::SIOCGIFMTU
        | request::SIOCGIFMETRIC
        | request::SIOCGIFTXQLEN
        | request::SIOCGIFHWADDR => {
            let asked: InterfaceRequest = pointer.read()?;
            asked.check_name()?;
            pointer.write(&answer(asked, number))?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn unsent_bytes(file: &OpenFile) -> Result<i32> {
    let bytes = match socket_of(file)?.family() {
        Family::Unix(unix) => unix.unsent_bytes()?,
        // What is sent has arrived.
        Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) => 0,
    };
    Ok(i32::try_from(bytes).unwrap_or(i32::MAX))
}

fn answer(asked: InterfaceRequest, number: u32) -> InterfaceRequest {
    match number {
        request::SIOCGIFINDEX => asked.with(&LOOPBACK_INDEX.to_le_bytes()),
        request::SIOCGIFFLAGS => asked.with(&(LOOPBACK_FLAGS as u16).to_le_bytes()),
        request::SIOCGIFMTU => asked.with(&LOOPBACK_MTU.to_le_bytes()),
        request::SIOCGIFTXQLEN => asked.with(&1000u32.to_le_bytes()),
        request::SIOCGIFADDR | request::SIOCGIFDSTADDR => asked.with_address(Ipv4Addr::LOCALHOST),
        request::SIOCGIFBRDADDR => asked.with_address(Ipv4Addr::UNSPECIFIED),
        request::SIOCGIFNETMASK => asked.with_address(Ipv4Addr::new(255, 0, 0, 0)),
        request::SIOCGIFHWADDR => InterfaceRequest { value: [0; 24], ..asked }.with(&LOOPBACK_HARDWARE.to_le_bytes()),
        _ => asked.with(&0u32.to_le_bytes()),
    }
}

/// `SIOCGIFCONF`: all interfaces that have an address.
fn list(thread: &Rc<Thread>, pointer: &UserPtr) -> Result<()> {
    let asked: InterfaceList = pointer.read()?;
    let record = InterfaceRequest::loopback().with_address(Ipv4Addr::LOCALHOST);
    let size = size_of::<InterfaceRequest>() as i32;
    let fits = asked.records == 0 || asked.bytes >= size;
    if asked.records != 0 && fits {
        UserPtr::new(&thread.space(), asked.records).write(&record)?;
    }
    pointer.write(&InterfaceList { bytes: if fits { size } else { 0 }, ..asked })
}
