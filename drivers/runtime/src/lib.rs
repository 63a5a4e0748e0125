//! A device's registers and interrupts as a driver sees them: traits, so that a driver's logic runs on the host against a
//! simulated device, and their implementation on the objects that the supervisor hands a driver.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;
use core::future::Future;
use quire_api::IoPorts;
use quire_api::executor::Interrupts;
use quire_api::hardware::MAX_PORT_BYTES;

/// The device can't be reached: the port is outside of the range that the driver was given, or the range was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError;

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the device can't be reached")
    }
}

impl core::error::Error for DeviceError {}

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
        bytes.chunks(MAX_PORT_BYTES).try_for_each(|part| Self::write_bytes(self, offset, part)).map_err(|_| DeviceError)
    }

    fn read_bytes(&self, offset: u16, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let mut parts = buffer.chunks_mut(MAX_PORT_BYTES);
        parts.try_for_each(|part| Self::read_bytes(self, offset, part)).map_err(|_| DeviceError)
    }
}

/// A device's interrupt.
///
/// An edge-triggered one (ISA) must be acknowledged *before* the device is served: an edge that comes while it is masked is
/// lost, and a device that was not served completely raises no other.
pub trait InterruptSource {
    /// Waits for the next interrupt, which stays masked until it is acknowledged.
    fn wait(&mut self) -> impl Future<Output = ()>;

    /// Lets the next one in, at once.
    fn acknowledge(&self) -> Result<(), DeviceError>;
}

impl InterruptSource for Interrupts {
    async fn wait(&mut self) {
        Self::wait(self).await;
    }

    fn acknowledge(&self) -> Result<(), DeviceError> {
        self.acknowledge_now().map_err(|_| DeviceError)
    }
}
