//! Virtio devices (OASIS, Virtual I/O Device version 1.2), as far as all drivers need the same: pure, and in a world where no device
//! is trusted.
//!
//! - [`pci`]: where a device's registers are: its PCI capabilities.
//! - [`device`]: the registers: status, features, the set-up of queues, notifications.
//! - [`queue`]: the split virtqueue, with indirect descriptors and event indices.
//! - `simulation` (with the feature of that name): the device's side of all that, for tests.
//!
//! **What a device can do wrong** ends in an [`Error`], after which its driver resets it; never in a panic, an endless loop, or a
//! request that is told to be done twice. What the driver believes about its requests lies in its own memory; of the memory that it
//! shares with the device it reads only what is the device's to write, once, and checks it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "simulation")]
extern crate std;

pub mod device;
pub mod pci;
pub mod queue;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use device::{Device, Doorbell, Features};
pub use queue::{Queue, Segment};

use core::fmt;
use driver_runtime::{DeviceError, NoMemory};

/// Why a device can't be used, or must be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Its registers can't be reached.
    Unreachable,
    /// There is no memory for its rings.
    NoMemory,
    /// It lacks registers that every virtio device has.
    NotVirtio,
    /// It does not offer what the driver can't do without.
    LacksFeatures,
    /// It does not accept what it offered.
    RefusesFeatures,
    /// It has no such queue, or does not accept how the queue is set up.
    NoQueue,
    /// It does not come out of its reset.
    StuckInReset,
    /// It says that it can't go on.
    NeedsReset,
    /// It claims to have used more than it was given.
    UsedTooMuch,
    /// It claims to have used what it does not have.
    UsedUnknown,
    /// It claims to have written more than there was room.
    WroteTooMuch,
    /// It claims to be done, and has written nothing.
    WroteNothing,
}

impl From<DeviceError> for Error {
    fn from(_: DeviceError) -> Self {
        Self::Unreachable
    }
}

impl From<NoMemory> for Error {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unreachable => "the device can't be reached",
            Self::NoMemory => "there is no memory for the device's rings",
            Self::NotVirtio => "this is no virtio device of version 1",
            Self::LacksFeatures => "the device lacks what the driver needs",
            Self::RefusesFeatures => "the device refuses what it offered",
            Self::NoQueue => "the device does not accept a queue",
            Self::StuckInReset => "the device does not come out of its reset",
            Self::NeedsReset => "the device can't go on",
            Self::UsedTooMuch => "the device has used more than it was given",
            Self::UsedUnknown => "the device has used what it was not given",
            Self::WroteTooMuch => "the device has written beyond a request's room",
            Self::WroteNothing => "the device has written nothing",
        })
    }
}

impl core::error::Error for Error {}
