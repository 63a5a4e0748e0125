//! What the server stands on, so that it runs on the host over simulated devices and kernels.

use alloc::rc::Rc;
use core::future::Future;
use futures_util::future::LocalBoxFuture;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;

/// The disk, or the kernel, could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Sectors of the disk, and where in the staging memory they go or come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The first sector.
    pub sector: u64,
    /// How many bytes; whole sectors, at most [`MAX_PIECE_PAGES`](crate::staging::MAX_PIECE_PAGES) pages.
    pub len_bytes: u64,
    /// Where in the staging memory, in bytes.
    pub staging: u64,
}

/// A disk, its staging memory, and what runs tasks.
pub trait Platform: 'static {
    /// The kernel's side of a file.
    type Pages: Pages + 'static;
    /// A client's notes.
    type Notes: Notes + 'static;

    /// Runs a task along with all others.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Time since some moment, in ns.
    fn now_ns(&self) -> u64;

    /// Unix time, in ns.
    fn unix_ns(&self) -> i64;

    /// Waits until [`now_ns`](Self::now_ns) has come so far.
    fn sleep_until(&self, deadline_ns: u64) -> impl Future<Output = ()>;

    /// The size of the disk in sectors.
    fn sectors(&self) -> u64;

    /// Reads sectors into the staging memory.
    fn read(&self, transfer: Transfer) -> impl Future<Output = Result<(), Failed>>;

    /// Writes sectors from the staging memory; they are durable after the next flush.
    fn write(&self, transfer: Transfer) -> impl Future<Output = Result<(), Failed>>;

    /// Makes durable what was written.
    fn flush(&self) -> impl Future<Output = Result<(), Failed>>;

    /// Copies bytes out of the staging memory.
    fn load(&self, staging: u64, bytes: &mut [u8]) -> Result<(), Failed>;

    /// Copies bytes into the staging memory.
    fn store(&self, staging: u64, bytes: &[u8]) -> Result<(), Failed>;
}

/// Who is told what the kernel asks for.
pub trait Listener {
    /// It needs pages, and thinks that more after them will be needed soon.
    fn fill(&self, offset: u64, len_bytes: u64, ahead_bytes: u64);

    /// Pages are to be written back.
    fn write_back(&self, offset: u64, len_bytes: u64);

    /// Waits until more may be asked for.
    fn room(&self) -> LocalBoxFuture<'_, ()>;
}

/// The kernel's side of a file's pages. Offsets and lengths are whole pages.
pub trait Pages {
    /// Begins to tell what the kernel asks for.
    fn listen(&self, listener: Rc<dyn Listener>) -> Result<(), Failed>;

    /// Takes nothing more. What was asked for and not answered is asked of whoever listens next.
    fn end(&self);

    /// Moves pages of the staging memory into the cache. Pages that are there stay.
    fn supply(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<(), Failed>;

    /// The same with zeros.
    fn supply_zeros(&self, offset: u64, len_bytes: u64) -> Result<(), Failed>;

    /// Copies pages of the cache into the staging memory; returns how many bytes there were.
    fn copy(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<u64, Failed>;

    /// Says that pages have been written back.
    fn written(&self, offset: u64, len_bytes: u64);

    /// Says that what was asked for a range can't be done.
    fn fail(&self, offset: u64, len_bytes: u64);
}

/// A memory of the client's that outlives the server.
pub trait Notes {
    /// How long it is, in bytes.
    fn len_bytes(&self) -> u64;

    /// Fills the buffer from an offset; zeros where the memory can't be read.
    fn read(&self, offset: u64, bytes: &mut [u8]);

    /// Writes at an offset.
    fn write(&self, offset: u64, bytes: &[u8]);
}
