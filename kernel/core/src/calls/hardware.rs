//! Interrupts and I/O ports.

use super::{CallResult, Caller, Outcome};
use crate::devices::{Hardware, PortWidth};
use crate::interrupt::Interrupt;
use crate::object::ObjectRef;
use crate::pool::Id;
use quire_abi::{Error, Rights};

/// How many bytes one `io_ports_write_bytes` or `io_ports_read_bytes` moves at most.
const MAX_PORT_BYTES: usize = 64;

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn interrupt_create(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let account = self.object(1, Rights::USE)?;
        let gsi = u32::try_from(self.value(2)).map_err(|_| Error::OutOfRange)?;
        self.reserve(1)?;
        let interrupt = self.kernel.create_interrupt(self.m, account, gsi)?;
        self.give(ObjectRef::Interrupt(interrupt))
    }

    pub(super) fn hardware_info(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let info = self.m.hardware_info();
        self.write(1, &info)
    }

    pub(super) fn interrupt_create_message(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let account = self.object(1, Rights::USE)?;
        let requester = self.requester(2)?;
        self.reserve(1)?;
        let interrupt = self.kernel.create_message_interrupt(self.m, account, requester)?;
        self.give(ObjectRef::Interrupt(interrupt))
    }

    pub(super) fn interrupt_message(&mut self) -> CallResult {
        let interrupt: Id<Interrupt> = self.object(0, Rights::MANAGE)?;
        let message = self.kernel.interrupts[interrupt].message.ok_or(Error::BadState)?;
        Ok(Outcome::Values(message.address, message.data.into()))
    }

    /// Argument `index` as the bus, device and function of a device.
    pub(super) fn requester(&self, index: usize) -> Result<u16, Error> {
        u16::try_from(self.value(index)).map_err(|_| Error::OutOfRange)
    }

    pub(super) fn interrupt_acknowledge(&mut self) -> CallResult {
        let interrupt = self.object(0, Rights::WRITE)?;
        self.kernel.acknowledge_interrupt(self.m, interrupt)?;
        Ok(Outcome::Done)
    }

    pub(super) fn io_ports_create(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let account = self.object(1, Rights::USE)?;
        let (first, count) = (self.value(2), self.value(3));
        self.reserve(1)?;
        let ports = self.kernel.create_io_ports(account, first, count)?;
        self.give(ObjectRef::IoPorts(ports))
    }

    pub(super) fn io_ports_read(&mut self) -> CallResult {
        let ports = self.object(0, Rights::READ)?;
        let width = PortWidth::from_bytes(self.value(2)).ok_or(Error::BadArgument)?;
        let offset = self.value(1);
        let value = self.kernel.read_port(self.m, ports, offset, width)?;
        Ok(Outcome::Value(value.into()))
    }

    pub(super) fn io_ports_write(&mut self) -> CallResult {
        let ports = self.object(0, Rights::WRITE)?;
        let width = PortWidth::from_bytes(self.value(2)).ok_or(Error::BadArgument)?;
        let (offset, value) = (self.value(1), self.value(3));
        // A narrow access takes the low bits.
        self.kernel.write_port(self.m, ports, offset, width, value as u32)?;
        Ok(Outcome::Done)
    }

    pub(super) fn io_ports_write_bytes(&mut self) -> CallResult {
        let ports = self.object(0, Rights::WRITE)?;
        let (offset, address) = (self.value(1), self.value(2));
        let len = usize::try_from(self.value(3)).map_err(|_| Error::BadArgument)?;
        let mut bytes = [0; MAX_PORT_BYTES];
        let bytes = bytes.get_mut(..len).ok_or(Error::BadArgument)?;
        self.read_bytes(address, bytes)?;
        self.kernel.write_port_bytes(self.m, ports, offset, bytes).map(Outcome::Value)
    }

    pub(super) fn io_ports_read_bytes(&mut self) -> CallResult {
        let ports = self.object(0, Rights::READ)?;
        let (offset, address) = (self.value(1), self.value(2));
        let len = usize::try_from(self.value(3)).map_err(|_| Error::BadArgument)?;
        let mut bytes = [0; MAX_PORT_BYTES];
        let bytes = bytes.get_mut(..len).ok_or(Error::BadArgument)?;
        // Reading a port changes the device, so that the buffer must be known to be good before.
        self.write_bytes(address, bytes)?;
        for byte in bytes.iter_mut() {
            *byte = self.kernel.read_port(self.m, ports, offset, PortWidth::Byte)? as u8;
        }
        self.write_bytes(address, bytes)?;
        Ok(Outcome::Done)
    }
}
