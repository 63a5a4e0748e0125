//! Memory that outlives a driver: the supervisor keeps it, and gives it to every successor.

use crate::DeviceError;
use quire_api::SharedMapping;

/// Pages that stay when the driver goes. What is not within them, or a number that is not at a multiple of its size, is a [`DeviceError`].
pub trait Kept {
    /// Copies bytes out.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;
    /// Copies bytes in.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;
    /// Reads 64 bits.
    fn load64(&self, offset: usize) -> Result<u64, DeviceError>;
    /// Writes 64 bits, at once, after all that was written before.
    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError>;
}

impl Kept for SharedMapping {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        Self::read(self, offset, bytes).map_err(|_| DeviceError)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        Self::write(self, offset, bytes).map_err(|_| DeviceError)
    }

    fn load64(&self, offset: usize) -> Result<u64, DeviceError> {
        Self::load64(self, offset).map_err(|_| DeviceError)
    }

    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError> {
        Self::store64(self, offset, value).map_err(|_| DeviceError)
    }
}
