//! A device as a driver sees it: traits, so that a driver's logic runs on the host against a simulated device, and their
//! implementation on the objects that the supervisor hands a driver.
//!
//! - [`registers`]: registers in memory, each with its width.
//! - [`ports`]: registers of one byte in the I/O port space.
//! - [`dma`]: memory that the driver and its device share.
//! - [`interrupt`], [`time`]: waiting.
//! - `simulation` (with the feature of that name): a machine with simulated devices, for tests.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "simulation")]
extern crate std;

pub mod dma;
pub mod function;
pub mod interrupt;
pub mod kept;
pub mod ports;
pub mod registers;
pub mod service;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod time;

pub use dma::{Dma, DmaMemory, DmaPool, NoMemory, Piece, Pieces};
pub use function::PciFunction;
pub use interrupt::InterruptSource;
pub use kept::Kept;
pub use ports::Ports;
pub use registers::{Part, Register, Registers};
pub use service::{Asked, Client, ClientError, Next, Service};
pub use time::Time;

use core::fmt;

/// The device can't be reached: the register or byte is outside of what the driver was given, or that was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError;

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the device can't be reached")
    }
}

impl core::error::Error for DeviceError {}
