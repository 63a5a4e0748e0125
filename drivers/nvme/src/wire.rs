//! The numbers of NVMe controllers (NVM Express 1.4, 3.1, 4, 5 and 6).

use driver_runtime::Register;

/// What the controller can do: see [`Capabilities`].
pub const CAPABILITIES: Register<u32> = Register::at(0x00);
/// Configuration: see the constants with `CONFIGURATION_` in their names.
pub const CONFIGURATION: Register<u32> = Register::at(0x14);
/// Status: [`STATUS_READY`], [`STATUS_FATAL`].
pub const STATUS: Register<u32> = Register::at(0x1c);
/// Sizes of the admin queues.
pub const ADMIN_SIZES: Register<u32> = Register::at(0x24);
/// Address of the admin submission queue; the high half follows.
pub const ADMIN_SUBMISSIONS: Register<u32> = Register::at(0x28);
/// Address of the admin completion queue; the high half follows.
pub const ADMIN_COMPLETIONS: Register<u32> = Register::at(0x30);
/// Where the doorbells begin.
pub const DOORBELLS: usize = 0x1000;

/// Configuration: enabled, entries of 64 and 16 bytes, pages of 4 KiB, the NVM command set.
pub const CONFIGURATION_ENABLED: u32 = 1 | 6 << 16 | 4 << 20;
/// Configuration: disabled.
pub const CONFIGURATION_DISABLED: u32 = 0;
/// Status: it takes commands.
pub const STATUS_READY: u32 = 1 << 0;
/// Status: it can't go on.
pub const STATUS_FATAL: u32 = 1 << 1;
/// What registers read as where no device answers.
pub const NO_DEVICE: u32 = u32::MAX;

/// Admin: make a submission queue.
pub const CREATE_SUBMISSIONS: u8 = 0x01;
/// Admin: make a completion queue.
pub const CREATE_COMPLETIONS: u8 = 0x05;
/// Admin: tell what something is.
pub const IDENTIFY: u8 = 0x06;
/// Admin: set a feature.
pub const SET_FEATURES: u8 = 0x09;
/// What [`IDENTIFY`] is about: a namespace.
pub const OF_NAMESPACE: u32 = 0;
/// What [`IDENTIFY`] is about: the controller.
pub const OF_CONTROLLER: u32 = 1;
/// Feature: the number of queues.
pub const QUEUE_COUNT: u32 = 7;
/// Of a queue: its pages are adjacent, as it has one.
pub const CONTIGUOUS: u32 = 1 << 0;
/// Of a completion queue: it raises interrupts.
pub const INTERRUPTS: u32 = 1 << 1;

/// Make durable what was written.
pub const FLUSH: u8 = 0x00;
/// Write.
pub const WRITE: u8 = 0x01;
/// Read.
pub const READ: u8 = 0x02;
/// Make blocks read as zeroes.
pub const WRITE_ZEROES: u8 = 0x08;
/// Something about ranges of blocks; with [`DEALLOCATE`], that nobody needs them.
pub const DATASET_MANAGEMENT: u8 = 0x09;
/// See [`DATASET_MANAGEMENT`].
pub const DEALLOCATE: u32 = 1 << 2;
/// Of a write: it is durable when it is done.
pub const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// The only namespace that is used.
pub const NAMESPACE: u32 = 1;

/// What a controller can do, by its first register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Entries that a queue may have.
    pub queue_entries: u32,
    /// How long it may take to become ready, or to end, in ms.
    pub patience_ms: u64,
    /// Bytes from one doorbell to the next.
    pub doorbell_bytes: usize,
    /// Whether it takes pages of 4 KiB.
    pub has_small_pages: bool,
}

impl Capabilities {
    /// Reads both halves of the register.
    pub const fn decode(low: u32, high: u32) -> Self {
        Self {
            queue_entries: (low & 0xffff) + 1,
            patience_ms: (low >> 24) as u64 * 500,
            doorbell_bytes: 4 << (high & 0xf),
            has_small_pages: high >> 16 & 0xf == 0,
        }
    }
}
