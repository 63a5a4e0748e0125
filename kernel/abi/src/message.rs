//! Messages: a label, eight words, up to four handles; and, with a call, two buffers that stay where they are.

use crate::handle::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Words in a message.
pub const WORDS: usize = 8;
/// Handles in a message at most.
pub const HANDLES: usize = 4;

/// A message in memory, both ways.
///
/// In registers (see [`Call::ChannelCall`](crate::Call::ChannelCall)) only `label` and `words` travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Message {
    /// What it is about; the protocol decides.
    pub label: u64,
    /// What it says.
    pub words: [u64; WORDS],
    /// Handles given away; [`Handle::NONE`] where there is none. They leave the sender's table when the message is
    /// accepted, and appear in the receiver's.
    pub handles: [Handle; HANDLES],
}

/// What a call in memory hands over, and where its answer goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallFrame {
    /// In: the request. Out: the answer.
    pub message: Message,
    /// Bytes that the receiver may read through its `Reply`: address in the caller's space.
    pub send_buffer: u64,
    /// Their number.
    pub send_len: u64,
    /// Room that the receiver may write through its `Reply`: address in the caller's space.
    pub receive_buffer: u64,
    /// Its size in bytes.
    pub receive_len: u64,
}

/// What a synchronous receive delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The right to answer; [`Handle::NONE`] for a message that was sent, not called.
    pub reply: Handle,
    /// Always 0.
    pub reserved: u32,
    /// Bytes that can be read through `reply`.
    pub send_len: u64,
    /// Bytes that can be written through `reply`.
    pub receive_len: u64,
}

/// Labels of messages that the kernel itself sends have this bit set; a user's message with it is refused.
pub const KERNEL_LABEL: u64 = 1 << 63;
