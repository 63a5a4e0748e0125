//! What the kernel *is*, without a machine.
//!
//! Pure logic, host-tested, no `unsafe`. The hardware is behind [`machine::Machine`] and [`devices::Devices`]; every object
//! lives in a typed [`pool::Pool`] and is named by an [`pool::Id`]. [`kernel::Kernel`] holds them all.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod account;
mod balance;
mod calls;
pub mod channel;
#[cfg(test)]
mod check;
pub mod devices;
pub mod dma;
mod dump;
pub mod errand;
pub mod event;
mod fast_path;
pub mod handles;
pub mod interrupt;
pub mod kernel;
mod lifetime;
pub mod list;
pub mod machine;
pub mod memory;
#[cfg(test)]
mod mock;
pub mod object;
pub mod pager;
pub mod pool;
pub mod ports;
pub mod queue;
pub mod route;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod thread;
mod threads;
pub mod timer;
