//! The object API as data: the call table, rights, errors and records that both sides of the kernel boundary share.
//!
//! No behaviour and no `unsafe`. Everything a user hands to the kernel in memory is one of the records here; they are
//! plain bytes ([`zerocopy`]), so the kernel can decode any bit pattern into a value it then checks.
//!
//! # Calling convention
//!
//! `syscall` with the call's number in `rax` and up to six arguments in `rdi, rsi, rdx, r10, r8, r9`. The kernel returns
//! a [`Status`](error::Status) in `rax` (0 is success) and, on success, up to two values in `rdx` and `r8`. `rcx` and
//! `r11` are clobbered (the instruction itself does that); every other register is preserved, except where a call says
//! otherwise ([`channel_call`](call::Call::ChannelCall) and its kin carry messages in registers).
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod dma;
pub mod error;
pub mod handle;
pub mod message;
pub mod pager;
pub mod queue;
pub mod space;
pub mod startup;
pub mod system;
pub mod thread;

pub use call::Call;
pub use error::Error;
pub use handle::{Handle, ObjectKind, Rights};
