//! Memory that a driver and its device share.
//!
//! The device may write it at any time. So nothing here gives a reference to the bytes: what is read is a copy, made once. Numbers are
//! read and written whole; those that follow in the program a read of a number are read after it, and those that precede a write of a
//! number are written before it (acquire, release): what a ring of descriptors needs. For what is written first and *read* then, see
//! [`fence`].

use crate::DeviceError;
use core::fmt;

/// Bytes of a page: within one, what lies together for the driver lies together for the device.
pub const PAGE_BYTES: usize = 4096;

/// There is no memory for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("there is no memory for the device")
    }
}

impl core::error::Error for NoMemory {}

/// Pages that are pinned for the device as long as the value lives. What is not within them, or a number that is not at a multiple of
/// its size, is a [`DeviceError`].
pub trait DmaMemory {
    /// How many bytes there are.
    fn len_bytes(&self) -> usize;

    /// Where the device finds the byte at `offset`, and those after it to the end of the page.
    fn device_address(&self, offset: usize) -> Result<u64, DeviceError>;

    /// Copies bytes out.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;
    /// Copies bytes in.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads 16 bits.
    fn load16(&self, offset: usize) -> Result<u16, DeviceError>;
    /// Reads 32 bits.
    fn load32(&self, offset: usize) -> Result<u32, DeviceError>;
    /// Reads 64 bits.
    fn load64(&self, offset: usize) -> Result<u64, DeviceError>;

    /// Writes 16 bits.
    fn store16(&self, offset: usize, value: u16) -> Result<(), DeviceError>;
    /// Writes 32 bits.
    fn store32(&self, offset: usize, value: u32) -> Result<(), DeviceError>;
    /// Writes 64 bits.
    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError>;
}

/// Where a driver gets such memory.
pub trait Dma {
    /// What it is.
    type Memory: DmaMemory;

    /// Makes `len_bytes` (a multiple of [`PAGE_BYTES`]) of zeroes.
    fn allocate(&self, len_bytes: usize) -> Result<Self::Memory, NoMemory>;
}

/// What was written before is written before anything is read after: between telling a device something and looking at what it tells.
#[inline]
pub fn fence() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}
