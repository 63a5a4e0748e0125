//! What the service needs of a disk, of clients' memories and of clients.

use driver_protocol::block::{Description, PAGE_BYTES, SectorRange};
use driver_protocol::{Refusal, Words};

/// The disk does not do what it should: it has to be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFailed;

/// What a disk is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Read sectors.
    Read,
    /// Write sectors; if `durable`, so that they survive a loss of power.
    Write {
        /// Only if the disk [has that](Limits::durable_writes).
        durable: bool,
    },
    /// Make durable what was written.
    Flush,
    /// Forget sectors.
    Discard,
    /// Make sectors read as zeroes.
    WriteZeroes,
}

/// One thing that a disk is given to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What.
    pub direction: Direction,
    /// With which sectors of the disk; none for a flush.
    pub range: SectorRange,
}

/// What a disk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many commands may be under way; tags are below this.
    pub in_flight: u16,
    /// How many segments a transfer may have.
    pub segments: u64,
    /// How long a segment may be, in bytes: a page at least.
    pub segment_bytes: u64,
    /// How many sectors one discard may have.
    pub discard_sectors: u64,
    /// How many sectors one writing of zeroes may have.
    pub zeroes_sectors: u64,
    /// Whether a single write can be made durable; if not, the service flushes after it.
    pub durable_writes: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// The disk could not do it.
    Failed,
    /// The disk does not know such a command.
    Unsupported,
}

/// A command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub tag: u16,
    /// How.
    pub outcome: Outcome,
}

/// How far a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The disk runs, and has no commands.
    Done,
    /// To be continued after so many ns.
    AgainIn(u64),
}

/// Bytes that lie together for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The device's address of the first.
    pub address: u64,
    /// How many.
    pub len_bytes: u32,
}

/// A disk.
pub trait Disk {
    /// What it is.
    fn description(&self) -> Description;

    /// What it takes.
    fn limits(&self) -> Limits;

    /// Takes a command, whose `tag` no other command bears that is under way. The disk need not begin before
    /// [`notify`](Self::notify).
    fn submit(&mut self, tag: u16, command: &Command, segments: Segments<'_>) -> Result<(), DiskFailed>;

    /// Begins with what was submitted.
    fn notify(&mut self) -> Result<(), DiskFailed>;

    /// Tells of a command that has ended, once. After `None` the next that ends raises an interrupt.
    fn complete(&mut self) -> Result<Option<Done>, DiskFailed>;

    /// Stops everything and starts anew. When that is [done](Restart::Done), nothing that was submitted before touches memory any
    /// more, and none of it is told as ended.
    fn restart(&mut self) -> Result<Restart, DiskFailed>;

    /// Goes on with a restart.
    fn restart_step(&mut self) -> Result<Restart, DiskFailed>;
}

/// The way to clients' memories.
pub trait Frames {
    /// What a client attaches.
    type Memory;
    /// Pages that stay where they are until it is given back.
    type Mapping;

    /// Pins as many pages as there are `addresses`, from page `first` of the memory on, and tells where the device finds each.
    fn map(
        &self,
        memory: &Self::Memory,
        first: u64,
        direction: Direction,
        addresses: &mut [u64],
    ) -> Result<Self::Mapping, Refusal>;

    /// Lets pages go. The device must not touch them any more.
    fn unmap(&self, mapping: Self::Mapping);
}

/// A client that waits for the answer to its request.
pub trait Client {
    /// Answers it.
    fn answer(self, label: u64, words: Words);
}

/// The pages of a transfer as segments: neighbours are one.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    /// The page that the next segment begins in, and those after it.
    addresses: &'a [u64],
    /// Where in that page.
    offset: u64,
    left_bytes: u64,
    longest_bytes: u64,
}

impl<'a> Segments<'a> {
    /// None.
    pub const NONE: Segments<'static> = Segments { addresses: &[], offset: 0, left_bytes: 0, longest_bytes: 0 };

    /// `len_bytes` bytes, which begin at byte `offset` of the first of the pages at `addresses`, in segments of up to `longest_bytes`.
    pub fn new(addresses: &'a [u64], offset: u64, len_bytes: u64, longest_bytes: u64) -> Self {
        let pages = (offset / PAGE_BYTES) as usize;
        let addresses = addresses.get(pages..).unwrap_or_default();
        Self { addresses, offset: offset % PAGE_BYTES, left_bytes: len_bytes, longest_bytes }
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        let (first, mut rest) = self.addresses.split_first()?;
        if self.left_bytes == 0 {
            return None;
        }
        let address = first + self.offset;
        let mut len_bytes = (PAGE_BYTES - self.offset).min(self.left_bytes);
        while let Some((next, others)) = rest.split_first()
            && *next == address + len_bytes
            && len_bytes < self.left_bytes
        {
            let more = PAGE_BYTES.min(self.left_bytes - len_bytes);
            if len_bytes + more > self.longest_bytes {
                break;
            }
            len_bytes += more;
            rest = others;
        }
        self.addresses = rest;
        self.offset = 0;
        self.left_bytes -= len_bytes;
        // A request has at most 512 KiB.
        Some(Segment { address, len_bytes: len_bytes as u32 })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn segments(addresses: &[u64], offset: u64, len_bytes: u64) -> Vec<(u64, u32)> {
        Segments::new(addresses, offset, len_bytes, 8192).map(|segment| (segment.address, segment.len_bytes)).collect()
    }

    #[test]
    fn neighbouring_pages_are_one_segment() {
        let pages = [0x5000, 0x6000, 0x9000, 0xa000, 0x1000];
        assert_eq!(segments(&pages, 0, 5 * 4096), [(0x5000, 8192), (0x9000, 8192), (0x1000, 4096)]);
        assert_eq!(segments(&pages, 512, 1024), [(0x5200, 1024)]);
        assert_eq!(segments(&pages, 512, 4096), [(0x5200, 4096)]);
        assert_eq!(segments(&pages, 4608, 4096), [(0x6200, 3584), (0x9000, 512)]);
        assert_eq!(segments(&pages, 0, 0), []);
        assert_eq!(segments(&[], 0, 4096), []);
        assert_eq!(segments(&pages, 0, 4096), [(0x5000, 4096)]);
        assert_eq!(segments(&[0x5000, 0x6000, 0x7000], 0, 3 * 4096), [(0x5000, 8192), (0x7000, 4096)]);
    }
}
