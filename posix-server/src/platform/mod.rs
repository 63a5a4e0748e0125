//! What the server needs of the machine, under one name for the two that there are: the object API (in the guest) and a model
//! of it (in host tests). Both offer the same types with the same methods; nothing else in the server knows which it runs on.
//!
//! * [`Memory`]: a sized range of pages; files and shared anonymous mappings are made of them. A clone is the same memory.
//! * [`SharedPages`]: pages that programs have mapped and the server reads and writes without a call.
//! * [`Space`]: an address space, always remote. A clone is the same space.
//! * [`Account`]: a budget for what a process makes.
//! * [`UserThread`], [`Table`]: a thread of a program, and the handles that its shim can use.
//! * [`Pager`], [`Needs`]: memories whose pages somebody else has, and what to do when they, or something else, are not there.
//! * [`Executor`]: tasks and deadlines.
//! * [`memory_is_used_up`], [`take_has_lent`], [`settle_loans`]: the end of what programs may have together.
//! * [`now_ns`], [`realtime_ns`], [`random`]: time and chance.

#[cfg(not(target_os = "none"))]
mod model;
#[cfg(target_os = "none")]
mod native;

#[cfg(not(target_os = "none"))]
pub use model::*;
#[cfg(target_os = "none")]
pub use native::*;

pub use quire_abi::space::Protection;
pub use quire_abi::thread::{ExceptionKind, Registers};

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;

/// A boxed future of the server's one thread.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a thread of a program does that concerns the server.
pub enum ThreadEvent {
    /// Its shim makes a request.
    Call {
        /// The number of a system call, or a label of the shim's protocol.
        label: u64,
        /// The arguments.
        arguments: [u64; 6],
        /// What it carries along (`posix_protocol::carried::Carried`).
        carried: u64,
        /// The right to answer.
        reply: Reply,
    },
    /// It did something that the processor refuses.
    Exception {
        /// What.
        kind: ExceptionKind,
        /// The address concerned.
        address: u64,
        /// The processor's error code.
        code: u64,
        /// The right to let it go on.
        reply: Reply,
    },
    /// It has ended.
    Ended,
}

/// The size of a page in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// The largest number of changes in one [`Space::commit`].
pub const MAX_CHANGES: usize = quire_abi::space::MAX_COMMIT_OPS;

/// Where the pages of a mapping come from.
#[derive(Clone, Copy)]
pub enum Backing<'a> {
    /// Zeroes.
    Zero,
    /// A memory, from this offset (page-aligned).
    Memory(&'a Memory, u64),
}

/// Where stores to a mapping go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// To the memory.
    Shared,
    /// To a copy of the page that belongs to the space.
    Private,
}

/// Whether a clone of the space gets a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherit {
    /// It does.
    Clone,
    /// It does not.
    Nothing,
}

/// What is done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is written.
    Write,
}

impl Access {
    /// What the other side of a copy does.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }

    /// Whether the page is written.
    pub fn stores(self) -> bool {
        self == Self::Write
    }
}

/// What becomes of those who need a page while nobody fills the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// They wait for a successor.
    Awaited,
    /// They are refused.
    Unexpected,
}

/// One change to an address space. Addresses and lengths are page-aligned, lengths not 0.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// Maps; what was mapped in the range is replaced.
    Map {
        /// Where.
        address: u64,
        /// How much, in bytes.
        length: u64,
        /// Of what.
        backing: Backing<'a>,
        /// Shared or private; zeroes are always private.
        sharing: Sharing,
        /// How it can be used.
        protection: Protection,
        /// What a clone gets.
        inherit: Inherit,
    },
    /// Unmaps what is in the range, if anything.
    Unmap {
        /// Where.
        address: u64,
        /// How much, in bytes.
        length: u64,
    },
    /// Changes the protection of a range without holes.
    Protect {
        /// Where.
        address: u64,
        /// How much, in bytes.
        length: u64,
        /// How it can be used from now on.
        protection: Protection,
    },
    /// Forgets the private pages of the range.
    Discard {
        /// Where.
        address: u64,
        /// How much, in bytes.
        length: u64,
    },
    /// Moves regions and private pages to a free range.
    Move {
        /// From where.
        from: u64,
        /// How much, in bytes.
        length: u64,
        /// To where.
        to: u64,
    },
    /// Makes this space, which must be empty, a copy of another.
    Clone(&'a Space),
}

/// Memory of the machine, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineMemory {
    /// All there is.
    pub total: u64,
    /// Nobody's.
    pub free: u64,
    /// Cached pages that a pager could supply again.
    pub cached: u64,
    /// Of them, those with stores that their pager does not have yet.
    pub unwritten: u64,
    /// Of those, the ones that are being written back.
    pub writing: u64,
    /// Pages that fit the swap memory.
    pub swap_total: u64,
    /// Pages that are there.
    pub swap_used: u64,
    /// Pages that came back from there and have not changed.
    pub swap_kept: u64,
    /// How many pages went there since the start, and how many came back.
    pub swapped_out: u64,
    /// See `swapped_out`.
    pub swapped_in: u64,
}

/// What an account has used and may use: the server's own, or what programs have of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Frames in use.
    pub frames_used: u64,
    /// Frames at most.
    pub frames_limit: u64,
    /// Bytes of kernel memory in use.
    pub kernel_bytes_used: u64,
    /// Of the frames, those of processes.
    pub process_frames: u64,
    /// Of the frames, those of files and of what processes share.
    pub file_frames: u64,
    /// Of the bytes of kernel memory, those of processes.
    pub process_kernel_bytes: u64,
    /// Of the bytes of kernel memory, those of files and of what processes share.
    pub file_kernel_bytes: u64,
    /// Bytes of the server's heap that are mapped: it never shrinks.
    pub heap_mapped_bytes: u64,
    /// Of them, those in blocks that are in use.
    pub heap_used_bytes: u64,
}

/// How a thread stands to others that want the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Like all others.
    Ordinary,
    /// Before all ordinary ones; 1 to 99, larger numbers first.
    RealTime(u8),
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The first process ended with status 0.
    Success,
    /// It did not, or the server could not go on.
    Failure,
}
