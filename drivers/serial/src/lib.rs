//! The driver for a 16550 serial line, generic over the ports, so that the whole of it runs on the host.
//!
//! - [`uart`]: the chip: registers, FIFOs, line errors. It is a [`console::Device`]; what serves its clients is the same for all consoles.
//!
//! Source for the chip: Texas Instruments, PC16550D data sheet (SNLS378C), sections 8 and 9.
#![no_std]
#![forbid(unsafe_code)]

pub mod uart;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
