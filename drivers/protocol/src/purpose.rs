//! What the handles are for that the supervisor gives to the programs it starts, besides the [`Purpose`]s of the ABI.

use quire_abi::startup::Purpose;

/// The first of these purposes.
const FIRST: u32 = 100;
/// The purposes of the windows, and those of the messages, begin after all others.
const FIRST_WINDOW: u32 = 200;
const FIRST_MESSAGE: u32 = FIRST_WINDOW + MAX_WINDOWS as u32;

/// Defines purposes, each with the next number: no two can be the same.
macro_rules! purposes {
    ($($(#[$about:meta])* $name:ident;)*) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "they are named as the constants that they number")]
        enum Number { $($name,)* }
        $($(#[$about])* pub const $name: Purpose = Purpose(FIRST + Number::$name as u32);)*
    };
}

purposes! {
    /// A channel to the console's driver ([`console`](crate::console) protocol).
    CONSOLE;
    /// A channel to the driver of the serial line to the host ([`console`](crate::console) protocol). Absent if there is none.
    HOST_LINK;
    /// The channel endpoint that a driver serves.
    SERVE;
    /// A driver's I/O ports.
    PORTS;
    /// A driver's interrupt.
    INTERRUPT;
    /// A channel to the server of a store of pages ([`pages`](crate::pages) protocol).
    PAGES;
    /// The memory that a store keeps its files in: its disk, which outlives its server.
    DISK;
    /// An account for pages that the kernel can take back whenever it needs frames: it has no limit.
    CACHE;
    /// A channel to a disk, or to a part of one ([`block`](crate::block) protocol).
    BLOCK;
    /// A channel to a source of random bytes ([`entropy`](crate::entropy) protocol). Absent if there is none.
    ENTROPY;
    /// Memory that the supervisor keeps for all drivers of a device, one after the other: zero for the first.
    KEPT;
    /// A channel to the driver of a virtio console ([`console`](crate::console) protocol). Absent if there is none.
    VIRTIO_CONSOLE;
    /// The pager of a memory.
    PAGER;
    /// The memory of that pager.
    PAGED;
    /// The configuration space of a driver's PCI function, as it was when the driver was started: a memory to read.
    CONFIGURATION;
    /// What a driver's device may reach of memory: a DMA space.
    DMA;
    /// A channel to the driver that a native test is about.
    DRIVER;
}

/// How many windows a PCI function has at most.
pub const MAX_WINDOWS: u8 = 6;
/// How many interrupts by messages a driver is given at most.
pub const MAX_MESSAGES: u16 = 8;

/// The window of registers of a driver's device that has this base address register (below [`MAX_WINDOWS`]): a memory.
pub const fn window(bar: u8) -> Purpose {
    Purpose(FIRST_WINDOW + bar as u32)
}

/// The interrupt of a driver's device by the message with this number (below [`MAX_MESSAGES`]). It is enabled; the numbers have no gaps.
pub const fn message(number: u16) -> Purpose {
    Purpose(FIRST_MESSAGE + number as u32)
}
