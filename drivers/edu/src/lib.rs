//! The driver of QEMU's `edu` device (QEMU, docs/specs/edu.rst): the worked example of `docs/writing-a-driver.md`.
//!
//! - [`registers`]: the device's own numbers.
//! - [`device`]: what it can do, generic over registers, memory, interrupt and time, so that all of it runs on the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod device;
pub mod registers;

#[cfg(test)]
mod simulation;
