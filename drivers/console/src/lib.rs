//! What the drivers of all consoles share (serial lines, virtio consoles, the text console): the service of the `console` protocol over
//! any [`Device`].
//!
//! - [`line`]: the service: a stream of bytes both ways.
//! - [`state`]: what outlives the driver, so that no byte is lost or doubled when it dies.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod line;
pub mod state;

pub use line::{Device, Line, Received, Window};
pub use state::{Beginning, State};
