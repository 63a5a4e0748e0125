//! What a file system is stored on.

use core::future::Future;

/// Bytes of a sector, the unit in which devices are addressed.
pub const SECTOR_BYTES: usize = 512;

/// The device could not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFailed;

/// A block device, as far as metadata and the journal need it. Requests may overlap; none that was issued after another has
/// completed may be overtaken by it, except that writes stay volatile until a flush.
pub trait Device {
    /// The size, in sectors.
    fn sectors(&self) -> u64;

    /// Reads whole sectors.
    ///
    /// # Errors
    /// The device failed, or the range leaves it.
    fn read(&self, first_sector: u64, bytes: &mut [u8]) -> impl Future<Output = Result<(), DeviceFailed>>;

    /// Writes whole sectors, which are durable after the next [`flush`](Device::flush).
    ///
    /// # Errors
    /// The device failed, is read-only, or the range leaves it.
    fn write(&self, first_sector: u64, bytes: &[u8]) -> impl Future<Output = Result<(), DeviceFailed>>;

    /// Makes durable everything whose write has completed.
    ///
    /// # Errors
    /// The device failed; what was written before may be lost.
    fn flush(&self) -> impl Future<Output = Result<(), DeviceFailed>>;
}
