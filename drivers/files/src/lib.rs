//! The file server: it applies what its client did to names and attributes to a file system on a disk, and is the pager of the
//! files that are in use.
//!
//! - [`platform`]: what it stands on: a disk, a staging memory, the kernel's side of each file, time and tasks.
//! - [`turns`], [`signal`], [`staging`]: what tasks wait for.
//! - [`paging`]: filling and writing back the pages of files.
//! - [`volume`]: a mounted file system: operations in their order, commits, where blocks are; [`ledger`]: which operations are durable.
//! - [`service`]: what the client asks for.
//! - `machine`: the server on its objects.
//!
//! # The way of a page
//! A fill finds out where the blocks are, has the disk put them into pieces of the staging memory, and *moves* those frames into the
//! cache of the file's memory: no byte is copied. A writeback copies the pages into a piece of the staging memory (whoever stores to them
//! meanwhile has them dirty again), finds or allots blocks, and writes; only when a server that died now would lose nothing does it say
//! that the pages are written.
//!
//! # What is bounded
//! Staging memory is made once; who needs a piece waits for it in the order of asking, and never waits for anything but the disk while it
//! has one and others could need it to go on. Reads, writes and metadata have a region of the memory each, so that neither waits for
//! another; the frames for writes are there from the start, because making memory free must not need any.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod ledger;
pub mod paging;
pub mod platform;
pub mod service;
pub mod signal;
pub mod staging;
pub mod turns;
pub mod volume;

#[cfg(test)]
mod simulation;
