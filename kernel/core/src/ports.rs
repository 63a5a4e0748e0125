//! Ranges of I/O ports.

use crate::account::Account;
use crate::devices::{Devices, PortWidth};
use crate::kernel::Kernel;
use crate::object::{Header, cost};
use crate::pool::Id;
use quire_abi::Error;

/// A range of I/O ports, which no other object covers.
#[derive(Debug)]
pub struct IoPorts {
    /// References and account.
    pub header: Header,
    first: u16,
    count: u32,
    /// How many bytes were written by [`Kernel::write_port_bytes`].
    written: u64,
}

/// One past the last port.
const PORTS_END: u64 = 1 << 16;

impl IoPorts {
    /// The port at `offset`, if an access of this width stays in the range.
    fn port(&self, offset: u64, width: PortWidth) -> Result<u16, Error> {
        let end = offset.checked_add(width.bytes().into()).ok_or(Error::OutOfRange)?;
        if end > u64::from(self.count) {
            return Err(Error::OutOfRange);
        }
        u16::try_from(u64::from(self.first) + offset).map_err(|_| Error::OutOfRange)
    }
}

impl Kernel {
    /// Makes a range of `count` ports from `first`.
    ///
    /// # Errors
    /// `OutOfRange`, `Overlap` with a range that exists, `NoMemory`, `AccountLimit`.
    pub fn create_io_ports(&mut self, account: Id<Account>, first: u64, count: u64) -> Result<Id<IoPorts>, Error> {
        let end = first.checked_add(count).filter(|end| *end <= PORTS_END).ok_or(Error::OutOfRange)?;
        let range = (u16::try_from(first), u32::try_from(count));
        let (Ok(port), Ok(length @ 1..)) = range else { return Err(Error::OutOfRange) };
        let overlaps = |ports: &IoPorts| {
            let start = u64::from(ports.first);
            first < start + u64::from(ports.count) && start < end
        };
        if self.io_ports.iter().any(|(_, ports)| overlaps(ports)) {
            return Err(Error::Overlap);
        }
        self.charge(account, cost::IO_PORTS)?;
        let ports = IoPorts { header: Header::new(account), first: port, count: length, written: 0 };
        self.io_ports.insert(ports).map_err(|_| self.refund(account, cost::IO_PORTS))
    }

    /// Reads a port of the range.
    pub(crate) fn read_port(
        &mut self,
        m: &mut impl Devices,
        id: Id<IoPorts>,
        offset: u64,
        width: PortWidth,
    ) -> Result<u32, Error> {
        let port = self.io_ports[id].port(offset, width)?;
        Ok(m.read_port(port, width))
    }

    /// Writes a port of the range.
    pub(crate) fn write_port(
        &mut self,
        m: &mut impl Devices,
        id: Id<IoPorts>,
        offset: u64,
        width: PortWidth,
        value: u32,
    ) -> Result<(), Error> {
        let port = self.io_ports[id].port(offset, width)?;
        m.write_port(port, width, value);
        Ok(())
    }

    /// Writes bytes to the same port of the range, one after the other. How many were written so ever since: whoever takes over from
    /// a program that ended in between knows by that how far it got.
    pub(crate) fn write_port_bytes(
        &mut self,
        m: &mut impl Devices,
        id: Id<IoPorts>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, Error> {
        let port = self.io_ports[id].port(offset, PortWidth::Byte)?;
        bytes.iter().for_each(|byte| m.write_port(port, PortWidth::Byte, (*byte).into()));
        let ports = &mut self.io_ports[id];
        ports.written = ports.written.wrapping_add(bytes.len() as u64);
        Ok(ports.written)
    }
}
