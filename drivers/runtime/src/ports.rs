//! Registers in the I/O port space.

use crate::DeviceError;
use quire_api::IoPorts;
use quire_api::hardware::MAX_PORT_BYTES;

/// A device's registers of one byte each, in the I/O port space. Offsets count from the first port of the device.
pub trait Ports {
    /// Reads a register.
    fn read(&self, offset: u16) -> Result<u8, DeviceError>;

    /// Writes a register.
    fn write(&self, offset: u16, value: u8) -> Result<(), DeviceError>;

    /// Writes all bytes to the same register, one after the other.
    fn write_bytes(&self, offset: u16, bytes: &[u8]) -> Result<(), DeviceError> {
        bytes.iter().try_for_each(|byte| self.write(offset, *byte))
    }

    /// How many bytes were written so ever, also by programs that drove the device before.
    fn written(&self) -> Result<u64, DeviceError>;

    /// Fills the buffer from the same register, one byte after the other.
    fn read_bytes(&self, offset: u16, buffer: &mut [u8]) -> Result<(), DeviceError> {
        buffer.iter_mut().try_for_each(|byte| self.read(offset).map(|value| *byte = value))
    }
}

impl Ports for IoPorts {
    fn read(&self, offset: u16) -> Result<u8, DeviceError> {
        Self::read(self, offset, 1).map(|value| value as u8).map_err(|_| DeviceError)
    }

    fn write(&self, offset: u16, value: u8) -> Result<(), DeviceError> {
        Self::write(self, offset, 1, value.into()).map_err(|_| DeviceError)
    }

    fn write_bytes(&self, offset: u16, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut parts = bytes.chunks(MAX_PORT_BYTES);
        parts.try_for_each(|part| Self::write_bytes(self, offset, part).map(|_| ())).map_err(|_| DeviceError)
    }

    fn written(&self) -> Result<u64, DeviceError> {
        Self::write_bytes(self, 0, &[]).map_err(|_| DeviceError)
    }

    fn read_bytes(&self, offset: u16, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let mut parts = buffer.chunks_mut(MAX_PORT_BYTES);
        parts.try_for_each(|part| Self::read_bytes(self, offset, part)).map_err(|_| DeviceError)
    }
}
