//! Queues: a submission ring and a completion ring in memory that user space and the kernel share.
//!
//! The memory that [`Call::QueueCreate`](crate::Call::QueueCreate) returns starts with a [`Header`]. The submission ring
//! follows at [`SUBMISSIONS_OFFSET`], the completion ring at `Header::completions_offset`. Positions are free-running
//! 32-bit counters; the slot is the counter modulo the ring's size, a power of two. The producer of a ring writes the
//! entry first and then its tail (release); the consumer reads the tail (acquire), then the entry, then moves its head.
//! What user space writes here is an allegation: the kernel copies before it checks.

use crate::handle::Handle;
use crate::message::WORDS;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of the submission ring in the shared memory, in bytes.
pub const SUBMISSIONS_OFFSET: u64 = 128;
/// The largest ring, in entries.
pub const MAX_ENTRIES: u32 = 4096;
/// How many submissions one `queue_wait` takes at most; the rest stay in the ring.
pub const SUBMISSIONS_PER_WAIT: u32 = 64;

/// The start of the shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Entries in the submission ring (written by the kernel once).
    pub submission_entries: u32,
    /// Entries in the completion ring (written by the kernel once).
    pub completion_entries: u32,
    /// Where the completion ring starts, in bytes (written by the kernel once).
    pub completions_offset: u32,
    /// Always 0.
    pub reserved: u32,
    /// Next submission the kernel takes (kernel writes).
    pub submission_head: u32,
    /// Next free submission slot (user writes).
    pub submission_tail: u32,
    /// Next completion the user takes (user writes).
    pub completion_head: u32,
    /// Next free completion slot (kernel writes).
    pub completion_tail: u32,
}

/// What a [`Completion`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CompletionKind {
    /// A message on a bound channel endpoint: `label`, `words`, `reply`, `handles`, `value` = send length in bytes in the
    /// low and receive length in the high 32 bits (each capped at `u32::MAX`).
    Message = 1,
    /// The other end of a bound channel closed.
    PeerClosed = 2,
    /// The answer to a [`SubmissionKind::Call`]: `status`, and if it is 0 `label`, `words`, `handles`.
    Answer = 3,
    /// A bound timer's deadline passed.
    Timer = 4,
    /// A bound interrupt came in; it stays masked until acknowledged. `value` counts them.
    Interrupt = 5,
    /// Bits of a bound event are set: `value` holds those of the mask.
    Event = 6,
    /// A bound thread ended.
    ThreadEnded = 7,
    /// Posted by a user with `queue_post`: `value`.
    Posted = 8,
    /// A submission was refused: `status` says why; `key` is the submission's.
    Refused = 9,
    /// A bound pager has something to do. Told again only after `pager_receive` has taken all there was.
    PagerRequests = 10,
    /// A [`SubmissionKind::Fetch`] is over: `status`.
    Fetched = 11,
    /// A [`SubmissionKind::Flush`] is over: `status`.
    Flushed = 12,
}

impl CompletionKind {
    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Message,
            2 => Self::PeerClosed,
            3 => Self::Answer,
            4 => Self::Timer,
            5 => Self::Interrupt,
            6 => Self::Event,
            7 => Self::ThreadEnded,
            8 => Self::Posted,
            9 => Self::Refused,
            10 => Self::PagerRequests,
            11 => Self::Fetched,
            12 => Self::Flushed,
            _ => return None,
        })
    }
}

/// Handles that fit a completion.
pub const COMPLETION_HANDLES: usize = 4;

/// One entry of the completion ring; 128 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Completion {
    /// What the user gave when binding or submitting.
    pub key: u64,
    /// A [`CompletionKind`].
    pub kind: u32,
    /// The right to answer a message, or [`Handle::NONE`].
    pub reply: Handle,
    /// 0 or the number of an [`Error`](crate::Error).
    pub status: u64,
    /// Depends on the kind.
    pub value: u64,
    /// A message's label.
    pub label: u64,
    /// A message's words.
    pub words: [u64; WORDS],
    /// A message's handles.
    pub handles: [Handle; COMPLETION_HANDLES],
    /// Always 0.
    pub reserved: u64,
}

/// What a [`Submission`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SubmissionKind {
    /// Answer: `target` is the `Reply`, with `label`, `words`, `handles`.
    Reply = 1,
    /// Call on channel `target` with `label`, `words`, `handles` and the buffers; completes as `Answer` with `key`.
    Call = 2,
    /// Arm timer `target` for the absolute time `label` in ns (it must be bound).
    ArmTimer = 3,
    /// Acknowledge interrupt `target`.
    AcknowledgeInterrupt = 4,
    /// Resume thread `target`.
    ResumeThread = 5,
    /// Bring pages in: those of the memory `target` (needs `READ`) or shown in the address space `target` (needs `READ`), from
    /// `label` (an offset or address) on, `words[0]` bytes, at most [`MAX_TRANSFER`](crate::space::MAX_TRANSFER). If
    /// `words[1]` is 1, so that they can be written (needs `WRITE`). Completes as `Fetched`: when all were there at some time
    /// since, or with `PagerFailed`, `TimedOut`, `PeerClosed` (the pager is gone), `OutOfRange` or `RemoteFault`.
    Fetch = 6,
    /// Have the pager write back what is stored in the memory `target` (needs `WRITE`) from offset `label` on, `words[0]`
    /// bytes. Completes as `Flushed`: when the pager has it all as it was when asked, or with `PagerFailed`, `TimedOut` (nothing
    /// was written back for as long as the memory's deadline) or `PeerClosed`.
    Flush = 7,
}

impl SubmissionKind {
    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Reply,
            2 => Self::Call,
            3 => Self::ArmTimer,
            4 => Self::AcknowledgeInterrupt,
            5 => Self::ResumeThread,
            6 => Self::Fetch,
            7 => Self::Flush,
            _ => return None,
        })
    }
}

/// One entry of the submission ring; 128 bytes. A submission that fails completes as `Refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submission {
    /// Comes back in the completion.
    pub key: u64,
    /// A [`SubmissionKind`].
    pub kind: u32,
    /// What it acts on.
    pub target: Handle,
    /// A message's label, or the deadline.
    pub label: u64,
    /// A message's words.
    pub words: [u64; WORDS],
    /// A message's handles.
    pub handles: [Handle; COMPLETION_HANDLES],
    /// A call's send buffer: address in the submitter's space.
    pub send_buffer: u64,
    /// A call's receive buffer: address in the submitter's space.
    pub receive_buffer: u64,
    /// Length of the send buffer in bytes.
    pub send_len: u32,
    /// Length of the receive buffer in bytes.
    pub receive_len: u32,
}
