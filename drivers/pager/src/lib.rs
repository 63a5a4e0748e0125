//! A store of files in memory, whose contents are read and written by paging: the example of a pager, which can be told to be
//! slow, to fail, to hang and to die.
//!
//! - [`service`]: what is asked for, when it is done, and what goes wrong on request; generic over the files, so that it runs
//!   on the host.
//! - `machine`: the files on their objects.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod service;
