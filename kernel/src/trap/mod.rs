//! The way into the kernel and out of it.
//!
//! 1. [`entry`] saves the registers of the thread into its record and switches to the processor's stack.
//! 2. [`handle`] takes the kernel lock and does what was asked for.
//! 3. [`resume`] asks the scheduler who goes on, loads what belongs to that thread, and waits for interrupts if
//!    there is nobody.
//! 4. [`entry`] restores the registers and returns to user mode.

pub(crate) mod entry;
pub(crate) mod handle;
pub(crate) mod idt;
pub(crate) mod resume;
