//! The POSIX server: Linux processes made, from outside, of the kernel's objects.
//!
//! One thread, one executor. A process's system call arrives as a message whose key names the thread; [`calls`] runs it.
//! Calls that can finish do so at once; those that can't become futures, raced against the thread's signals. Everything a
//! program hands over is untrusted, and its memory is only reached through [`user`].
//!
//! State machines here are pure: what touches the object API is [`platform`], and the host tests run on a model of it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, not(target_os = "none")))]
extern crate std;

pub mod budget;
pub mod calls;
pub mod census;
pub mod cred;
pub mod dev;
pub mod errno;
pub mod event;
pub mod exec;
pub mod file;
pub mod fs;
pub mod host_link;
pub mod mqueue;
pub mod net;
pub mod pipe;
pub mod platform;
pub mod process;
pub mod ptrace;
pub mod random;
pub mod shared;
pub mod signal;
pub mod sysv;
pub mod ticket;
pub mod trace;
pub mod tty;
pub mod user;
pub mod vm;
pub mod wait;
