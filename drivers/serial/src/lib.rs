//! The driver for a 16550 serial line, generic over the device and the clients, so that the whole of it runs on the host.
//!
//! - [`uart`]: the chip: registers, FIFOs, line errors.
//! - [`line`]: the service: a stream of bytes both ways for the clients of the `console` protocol.
//!
//! Source for the chip: Texas Instruments, PC16550D data sheet (SNLS378C), sections 8 and 9.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod line;
pub mod uart;

#[cfg(test)]
mod simulation;
