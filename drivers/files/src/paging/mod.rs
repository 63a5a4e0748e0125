//! Filling and writing back the pages of files.
//!
//! # What must hold
//! 1. Jobs for overlapping pages of a file are done one after the other, in the order in which they came ([`lines`]). A fill of pages that are being
//!    filled already adds nothing.
//! 2. Blocks are not given to anybody else while a write to them is under way: who cuts a file off waits for its writebacks
//!    ([`File::cut`]).
//! 3. A job begins when all operations have been applied that the file's slot asks for. A fill counts only if nothing was cut off meanwhile;
//!    otherwise it is done anew. A writeback counts for those pages that no later writeback is about: others have been cut off and are
//!    new. So nothing that was cut off comes back, and nothing that was stored after the cut is lost with it.
//! 4. Blocks become a file's when the data are on the disk, and the file longer with them ([`Blocks::attach`]): nobody ever reads what they
//!    held before, and no length is there without its bytes. Writes that make a file longer end in the order of their places ([`order`]). A
//!    writeback that needed a transaction is not over before that is durable.
//! 5. Whoever has a piece of the staging memory waits for the file system only where that waits for nobody's piece: blocks are asked for
//!    with the piece in hand; it is given back before a write waits for another's end.

mod ahead;
mod file;
mod fill;
mod known;
pub mod lines;
mod order;
mod writeback;

#[cfg(test)]
mod tests;

pub use file::File;

use crate::platform::{Notes, Platform};
use crate::staging::Region;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use driver_protocol::files::Refused;
use driver_protocol::files::notes::{self, slot_offset};

/// Where blocks of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: they read as zeros.
    Hole,
    /// There, from this block of the disk on, and they read as zeros.
    Unwritten(u64),
    /// There, from this block of the disk on.
    Written(u64),
    /// Nowhere yet: they can be from this block of the disk on.
    Promised(u64),
}

/// Blocks of a file that are in the same place, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first block of the file.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where they are.
    pub place: Place,
}

/// Where the blocks of files are: a file system, as far as contents go.
pub trait Blocks: 'static {
    /// The size of a block in bytes: a power of two, at most a page.
    fn block_bytes(&self) -> u64;

    /// Where blocks are; the runs cover the range without gaps.
    fn map(&self, inode: u64, first: u64, count: u64) -> impl Future<Output = Result<Vec<Run>, Refused>>;

    /// Promises blocks where there are holes, for data that will be written now. May stop early. They are to be attached or given back.
    fn promise(&self, inode: u64, first: u64, count: u64) -> impl Future<Output = Result<Vec<Run>, Refused>>;

    /// Gives blocks back that were promised and not attached.
    fn give_back(&self, runs: &[Run]);

    /// Notes that data were written to blocks that were promised, or unwritten: they are the file's now. It has `size` bytes if it had
    /// fewer. Tells in which transaction.
    fn attach(&self, inode: u64, runs: &[Run], size: u64) -> impl Future<Output = Result<u64, Refused>>;

    /// Waits until a transaction is durable, which is seen to.
    fn durable(&self, transaction: u64) -> impl Future<Output = Result<(), Refused>>;

    /// Waits until operations up to this one have been applied.
    fn applied(&self, sequence: u64) -> impl Future<Output = ()>;

    /// Something was written that is durable only after a flush.
    fn note_write(&self);
}

/// How many pages the regions for reading and for writing have.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Pages for reading.
    pub read_pages: u64,
    /// Pages for writing, which come after them.
    pub write_pages: u64,
}

/// What all files share.
#[derive(Debug)]
pub struct Shared<P, B> {
    /// The disk and the rest.
    pub platform: Rc<P>,
    /// The file system.
    pub blocks: Rc<B>,
    reads: Rc<Region>,
    writes: Rc<Region>,
    /// What was done, for those who want to know.
    pub counts: Counts,
}

/// What was done since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reads of the disk.
    pub reads: Cell<u64>,
    /// Bytes read.
    pub read_bytes: Cell<u64>,
    /// Writes of the disk.
    pub writes: Cell<u64>,
    /// Bytes written.
    pub written_bytes: Cell<u64>,
    /// Jobs that were done anew because something was cut off meanwhile.
    pub repeated: Cell<u64>,
    /// Fills and writebacks that failed.
    pub failures: Cell<u64>,
}

fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().saturating_add(by));
}

impl<P: Platform, B: Blocks> Shared<P, B> {
    /// The machinery over a disk and a file system; the staging memory's pages from `first_page` on are its own.
    pub fn new(platform: Rc<P>, blocks: Rc<B>, first_page: u64, sizes: Sizes) -> Rc<Self> {
        let reads = Region::new(first_page, sizes.read_pages);
        let writes = Region::new(first_page + sizes.read_pages, sizes.write_pages);
        Rc::new(Self { platform, blocks, reads, writes, counts: Counts::default() })
    }
}

/// A file's slot in the client's notes.
#[derive(Debug)]
pub struct Slot<N> {
    /// The notes.
    pub notes: Rc<N>,
    /// Which slot.
    pub number: u64,
}

impl<N: Notes> Slot<N> {
    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.notes.read(slot_offset(self.number) + at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// The last operation that cuts something off.
    pub fn cut(&self) -> u64 {
        self.word(notes::CUT)
    }

    /// The last operation that makes the file longer.
    pub fn size(&self) -> u64 {
        self.word(notes::SIZE)
    }
}
