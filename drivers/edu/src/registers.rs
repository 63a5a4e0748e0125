//! The registers of the device.

use driver_runtime::Register;

/// What it is: see [`is_edu`].
pub const IDENTIFICATION: Register<u32> = Register::at(0x00);
/// What is written here reads inverted.
pub const LIVENESS: Register<u32> = Register::at(0x04);
/// Writing a number begins the computation of its factorial, which is then read.
pub const FACTORIAL: Register<u32> = Register::at(0x08);
/// See [`Status`].
pub const STATUS: Register<u32> = Register::at(0x20);
/// Why it has raised an interrupt: see [`Reasons`].
pub const INTERRUPT_STATUS: Register<u32> = Register::at(0x24);
/// Takes back the reasons that are written.
pub const INTERRUPT_ACKNOWLEDGE: Register<u32> = Register::at(0x64);
/// From where bytes are moved, an address in memory or in the device.
pub const DMA_SOURCE: Register<u64> = Register::at(0x80);
/// To where.
pub const DMA_DESTINATION: Register<u64> = Register::at(0x88);
/// How many.
pub const DMA_COUNT: Register<u64> = Register::at(0x90);
/// Begins: see [`Transfer`].
pub const DMA_COMMAND: Register<u64> = Register::at(0x98);

/// Where the device's own memory is, for its DMA.
pub const DEVICE_MEMORY: u64 = 0x4_0000;
/// How many bytes are moved there at once at most. It has one more, but QEMU takes a transfer that ends with the last for one that goes
/// beyond, and then ends itself.
pub const MAX_TRANSFER_BYTES: usize = 4095;

/// Whether an identification is that of the device: its lowest byte is.
pub const fn is_edu(identification: u32) -> bool {
    identification & 0xff == 0xed && identification != u32::MAX
}

bitflags::bitflags! {
    /// The status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// It computes.
        const COMPUTING = 1 << 0;
        /// It raises an interrupt when it has computed.
        const INTERRUPT_WHEN_COMPUTED = 1 << 7;
    }
}

bitflags::bitflags! {
    /// Reasons for an interrupt.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Reasons: u32 {
        /// A factorial was computed.
        const COMPUTED = 1 << 0;
        /// Bytes were moved.
        const MOVED = 1 << 8;
        /// Others.
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// What is to be moved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Transfer: u64 {
        /// Begin; reads as 1 until it is done.
        const START = 1 << 0;
        /// From the device to memory; without it, the other way.
        const TO_MEMORY = 1 << 1;
        /// Raise an interrupt when done.
        const INTERRUPT = 1 << 2;
    }
}
