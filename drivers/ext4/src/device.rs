//! What a file system is stored on.

use crate::buffers::TransactionId;
use core::future::Future;
use core::time::Duration;

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

    /// A transaction closes: all operations that were finished before are in it or in earlier ones, those that finish later are
    /// not. It is made durable after this call, and after everything before it.
    fn closing(&self, _transaction: TransactionId) {}

    /// The file system is about to be used: what the transactions up to and including `last` did is there, and nothing of later
    /// ones. Called at every mount before anything is changed, above all before a journal that was replayed is marked empty,
    /// so that the answer is the same if the mount is repeated.
    fn recovered(&self, _last: TransactionId) {}

    /// The time since the epoch.
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}
