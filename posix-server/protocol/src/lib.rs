//! Messages between the shim, the POSIX server and the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod carried;
pub mod files;
pub mod host_link;
pub mod rings;
pub mod shim;
