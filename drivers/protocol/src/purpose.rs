//! What the handles are for that the supervisor gives to the programs it starts, besides the [`Purpose`]s of the ABI.

use quire_abi::startup::Purpose;

/// A channel to the console's driver ([`console`](crate::console) protocol).
pub const CONSOLE: Purpose = Purpose(100);
/// A channel to the driver of the serial line to the host ([`console`](crate::console) protocol). Absent if there is none.
pub const HOST_LINK: Purpose = Purpose(101);
/// The channel endpoint that a driver serves.
pub const SERVE: Purpose = Purpose(102);
/// A driver's I/O ports.
pub const PORTS: Purpose = Purpose(103);
/// A driver's interrupt.
pub const INTERRUPT: Purpose = Purpose(104);
/// A channel to the server of a store of pages ([`pages`](crate::pages) protocol).
pub const PAGES: Purpose = Purpose(105);
/// The memory that a store keeps its files in: its disk, which outlives its server.
pub const DISK: Purpose = Purpose(106);
/// A channel to a disk, or to a part of one ([`block`](crate::block) protocol).
pub const BLOCK: Purpose = Purpose(110);
/// A channel to a source of random bytes ([`entropy`](crate::entropy) protocol). Absent if there is none.
pub const ENTROPY: Purpose = Purpose(107);
/// Memory that the supervisor keeps for all drivers of a device, one after the other: zero for the first.
pub const KEPT: Purpose = Purpose(108);
/// A channel to the driver of a virtio console ([`console`](crate::console) protocol). Absent if there is none.
pub const VIRTIO_CONSOLE: Purpose = Purpose(109);
/// The pager of a memory.
pub const PAGER: Purpose = Purpose(111);
/// The memory of that pager.
pub const PAGED: Purpose = Purpose(112);
/// The configuration space of a driver's PCI function, as it was when the driver was started: a memory to read.
pub const CONFIGURATION: Purpose = Purpose(120);
/// What a driver's device may reach of memory: a DMA space.
pub const DMA: Purpose = Purpose(121);

/// How many windows a PCI function has at most.
pub const MAX_WINDOWS: u8 = 6;
/// How many interrupts by messages a driver is given at most.
pub const MAX_MESSAGES: u16 = 8;

/// The window of registers of a driver's device that has this base address register (below [`MAX_WINDOWS`]): a memory.
pub const fn window(bar: u8) -> Purpose {
    Purpose(130 + bar as u32)
}

/// The interrupt of a driver's device by the message with this number (below [`MAX_MESSAGES`]). It is enabled; the numbers have no gaps.
pub const fn message(number: u16) -> Purpose {
    Purpose(140 + number as u32)
}

/// A channel to the driver that a native test is about.
pub const DRIVER: Purpose = Purpose(150);
