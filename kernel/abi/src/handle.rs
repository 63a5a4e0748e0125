//! Handles, object kinds and rights.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names an object in the handle table of the thread that uses it.
///
/// Bits 0–19 are the index in the table, bits 20–31 the generation of that slot. 0 is never a handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// Names nothing.
    pub const NONE: Self = Self(0);
    /// Bits of the index.
    pub const INDEX_BITS: u32 = 20;
    /// The largest number of handles in one table.
    pub const MAX_INDEX: u32 = (1 << Self::INDEX_BITS) - 1;

    /// Puts a handle together; bits that don't fit are dropped.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self(index & Self::MAX_INDEX | generation << Self::INDEX_BITS)
    }

    /// The slot in the table.
    pub const fn index(self) -> u32 {
        self.0 & Self::MAX_INDEX
    }

    /// The generation of the slot, modulo 4096.
    pub const fn generation(self) -> u32 {
        self.0 >> Self::INDEX_BITS
    }
}

/// What a handle can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ObjectKind {
    /// A budget.
    Account = 1,
    /// A sized range of pages.
    Memory = 2,
    /// What a thread sees.
    AddressSpace = 3,
    /// An execution context.
    Thread = 4,
    /// A capability space.
    HandleTable = 5,
    /// One end of a channel.
    Channel = 6,
    /// The one-shot right to answer one call.
    Reply = 7,
    /// A submission and completion ring.
    Queue = 8,
    /// One interrupt of one device.
    Interrupt = 9,
    /// A range of I/O ports.
    IoPorts = 10,
    /// A deadline.
    Timer = 11,
    /// Sixty-four bits to raise and wait for.
    Event = 12,
    /// The kernel's log.
    Log = 13,
    /// Authority over hardware: from it, interrupts, ports, DMA spaces and physical memory are made.
    Hardware = 14,
    /// The filling end of a managed memory.
    Pager = 15,
    /// What one device can reach of memory by itself.
    DmaSpace = 16,
}

impl ObjectKind {
    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Account,
            2 => Self::Memory,
            3 => Self::AddressSpace,
            4 => Self::Thread,
            5 => Self::HandleTable,
            6 => Self::Channel,
            7 => Self::Reply,
            8 => Self::Queue,
            9 => Self::Interrupt,
            10 => Self::IoPorts,
            11 => Self::Timer,
            12 => Self::Event,
            13 => Self::Log,
            14 => Self::Hardware,
            15 => Self::Pager,
            16 => Self::DmaSpace,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// What a handle lets its holder do. Duplicating, installing or sending a handle can only take rights away.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u32 {
        /// Make another handle to the same object.
        const DUPLICATE = 1 << 0;
        /// Send the handle in a message or install it in another table.
        const TRANSFER = 1 << 1;
        /// Look at the contents: bytes of a memory or space, registers of a thread, usage of an account, ports.
        const READ = 1 << 2;
        /// Change the contents.
        const WRITE = 1 << 3;
        /// Map a memory executable.
        const EXECUTE = 1 << 4;
        /// Map a memory; change the regions of a space.
        const MAP = 1 << 5;
        /// Change what the object is: resize, revoke, limit, start, suspend, kill.
        const MANAGE = 1 << 6;
        /// Wait for it, or bind it to a queue.
        const WAIT = 1 << 7;
        /// Send or call on a channel; raise an event; post to a queue.
        const SEND = 1 << 8;
        /// Receive from a channel.
        const RECEIVE = 1 << 9;
        /// Charge an account; run threads in a space or with a table.
        const USE = 1 << 10;
    }
}
