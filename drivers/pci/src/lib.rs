//! PCI Express as a device manager sees it, pure: it reads and writes configuration spaces through a trait, so that all of it runs on
//! the host. Source: PCI Local Bus Specification 3.0 and PCI Express Base Specification 3.0, by section.
//!
//! - [`scan`]: which functions there are, behind which bridges.
//! - [`header`]: what a function is, and its command register.
//! - [`windows`]: where its registers are, and how large.
//! - [`capability`]: what else it can do.
//! - [`message`]: interrupts by messages (MSI and MSI-X).
//!
//! **No function is trusted**: lists that go in circles end, sizes that are none are refused, and what does not answer is not there.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod capability;
pub mod header;
pub mod message;
pub mod scan;
pub mod windows;

#[cfg(test)]
mod simulation;

pub use header::{Command, Header};
pub use scan::scan;

use core::fmt;

/// Bytes of a configuration space that every function has.
pub const CONFIGURATION_BYTES: u16 = 256;
/// Bytes of a configuration space of PCI Express.
pub const EXTENDED_BYTES: u16 = 4096;

/// A function of a device: bus (8 bits), device (5), function (3). These 16 bits are also what it requests with ("requester id").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Function(pub u16);

impl Function {
    /// The function with these numbers, which are cut to their bits.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | (device as u16 & 0x1f) << 3 | (function as u16 & 7))
    }

    /// Its bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Its device.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 0x1f
    }

    /// Its number in the device.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Where its configuration space lies in a window by which those of all buses from 0 on are accessed (PCI Express 3.0, 7.2.2).
    pub const fn ecam_offset(self) -> u64 {
        (self.0 as u64) << 12
    }
}

impl fmt::Display for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}

/// The configuration spaces. An offset is in bytes, a multiple of four, below [`EXTENDED_BYTES`].
pub trait ConfigurationSpaces {
    /// Reads 32 bits; ones where nothing answers.
    fn read(&self, function: Function, offset: u16) -> u32;

    /// Writes 32 bits.
    fn write(&self, function: Function, offset: u16, value: u32);
}

/// Reads 16 bits at an even offset.
fn read16(spaces: &impl ConfigurationSpaces, function: Function, offset: u16) -> u16 {
    (spaces.read(function, offset & !3) >> (8 * (offset & 2))) as u16
}

/// Reads 8 bits.
fn read8(spaces: &impl ConfigurationSpaces, function: Function, offset: u16) -> u8 {
    (spaces.read(function, offset & !3) >> (8 * (offset & 3))) as u8
}

/// Writes 16 bits at an even offset. Not for registers whose other half changes when it is written.
fn write16(spaces: &impl ConfigurationSpaces, function: Function, offset: u16, value: u16) {
    let shift = 8 * (offset & 2);
    let kept = spaces.read(function, offset & !3) & !(0xffff << shift);
    spaces.write(function, offset & !3, kept | u32::from(value) << shift);
}
