//! Interrupts, I/O ports and the authority to make them.

use crate::account::Account;
use crate::dma::DmaSpace;
use crate::handle::{argument, create, object};
use crate::raw::{many_numbers, numbers, syscall, syscall3};
use quire_abi::system::{HardwareInfo, Shutdown};
use quire_abi::{Call, Error};

object! {
    /// Authority over hardware.
    Hardware
}

object! {
    /// One interrupt of one device.
    Interrupt
}

object! {
    /// A range of I/O ports.
    IoPorts
}

/// How many bytes [`IoPorts::write_bytes`] and [`IoPorts::read_bytes`] take at most.
pub const MAX_PORT_BYTES: usize = 64;

impl Hardware {
    /// Makes the interrupt with this global system interrupt number (ACPI 6.5, 5.2.12). Needs `MANAGE`.
    pub fn interrupt(&self, account: &Account, gsi: u32) -> Result<Interrupt, Error> {
        create(Call::InterruptCreate, [argument(self), argument(account), u64::from(gsi), 0, 0, 0])
    }

    /// Where devices are found, and whether they are confined. Needs `MANAGE`.
    pub fn info(&self) -> Result<HardwareInfo, Error> {
        let mut info = HardwareInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `HardwareInfo` there.
        unsafe { syscall3(Call::HardwareInfo, [argument(self), pointer, 0]) }.unit()?;
        Ok(info)
    }

    /// Makes an interrupt that the device `requester` (bus, device and function as PCI Express has them in 16 bits) raises by a message.
    /// Needs `MANAGE`.
    pub fn message_interrupt(&self, account: &Account, requester: u16) -> Result<Interrupt, Error> {
        create(Call::InterruptCreateMessage, [argument(self), argument(account), requester.into(), 0, 0, 0])
    }

    /// Makes the space of what the device `requester` reaches of memory; it has one. Needs `MANAGE`.
    pub fn dma_space(&self, account: &Account, requester: u16) -> Result<DmaSpace, Error> {
        create(Call::DmaCreate, [argument(self), argument(account), requester.into(), 0, 0, 0])
    }

    /// Makes a range of `count` ports from `first`. Needs `MANAGE`.
    pub fn io_ports(&self, account: &Account, first: u16, count: u16) -> Result<IoPorts, Error> {
        let arguments = [argument(self), argument(account), u64::from(first), u64::from(count), 0, 0];
        create(Call::IoPortsCreate, arguments)
    }

    /// Ends the machine; returns only if that fails. Needs `MANAGE`.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        numbers(Call::SystemShutdown, [argument(self), u64::from(how as u32), 0]).unit()
    }
}

impl Interrupt {
    /// Lets the next one in. Needs `WRITE`.
    pub fn acknowledge(&self) -> Result<(), Error> {
        numbers(Call::InterruptAcknowledge, [argument(self), 0, 0]).unit()
    }
}

impl Interrupt {
    /// Address and data of the message that raises it, for the device's message table (PCI 3.0, 6.8.2). Needs `MANAGE`.
    pub fn message(&self) -> Result<(u64, u32), Error> {
        let (address, data) = numbers(Call::InterruptMessage, [argument(self), 0, 0]).values()?;
        Ok((address, data as u32))
    }
}

impl IoPorts {
    /// Reads port `offset` of the range, `width_bytes` wide (1, 2 or 4). Needs `READ`.
    pub fn read(&self, offset: u16, width_bytes: u8) -> Result<u32, Error> {
        let arguments = [argument(self), u64::from(offset), u64::from(width_bytes)];
        Ok(numbers(Call::IoPortsRead, arguments).value()? as u32)
    }

    /// Writes port `offset` of the range, `width_bytes` wide (1, 2 or 4). Needs `WRITE`.
    pub fn write(&self, offset: u16, width_bytes: u8, value: u32) -> Result<(), Error> {
        let arguments = [argument(self), u64::from(offset), u64::from(width_bytes), u64::from(value), 0, 0];
        many_numbers(Call::IoPortsWrite, arguments).unit()
    }

    /// Writes up to [`MAX_PORT_BYTES`] bytes, one after the other, to port `offset`; gives how many were written so ever, by whichever
    /// program. Needs `WRITE`.
    pub fn write_bytes(&self, offset: u16, bytes: &[u8]) -> Result<u64, Error> {
        let arguments = [argument(self), u64::from(offset), bytes.as_ptr() as u64, bytes.len() as u64, 0, 0];
        // SAFETY: the call reads `bytes.len()` bytes there.
        unsafe { syscall(Call::IoPortsWriteBytes, arguments) }.value()
    }

    /// Fills a buffer of up to [`MAX_PORT_BYTES`] bytes, one after the other, from port `offset`. Needs `READ`.
    pub fn read_bytes(&self, offset: u16, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len() as u64;
        let arguments = [argument(self), u64::from(offset), buffer.as_mut_ptr() as u64, length, 0, 0];
        // SAFETY: the call writes at most `length` bytes there.
        unsafe { syscall(Call::IoPortsReadBytes, arguments) }.unit()
    }
}
