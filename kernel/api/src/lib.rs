//! The object API as people use it: owned typed handles, a run-time for native programs, and an async executor over a
//! [`Queue`](queue::Queue).
//!
//! A native program looks like this:
//!
//! ```no_run
//! // In a program also: #![cfg_attr(target_os = "none", no_std, no_main)]
//! use quire_api::abi::startup::Purpose;
//! use quire_api::rt::{self, Startup};
//! use quire_api::{ChannelEndpoint, Error, Executor, Message};
//!
//! quire_api::entry!(run);
//!
//! fn run(startup: &'static Startup) -> Result<(), Error> {
//!     let executor = Executor::new(rt::account()?)?;
//!     let mut requests = executor.bind(startup.take::<ChannelEndpoint>(Purpose(102))?)?;
//!     let server = executor.clone();
//!     executor.block_on(async move {
//!         while let Some(request) = requests.receive().await {
//!             let Some(reply) = request.reply else { continue };
//!             server.answer(reply, Message::new(0, request.message.words))?;
//!         }
//!         Ok(())
//!     })?
//! }
//! ```
//!
//! Errors that the kernel returns are [`Error`]; rights that a method needs are named in its documentation and, with the
//! errors that each call can return, in [`quire_abi::call`].
#![no_std]

extern crate alloc;

pub mod account;
pub mod channel;
pub mod dma;
pub mod executor;
pub mod handle;
pub mod hardware;
pub mod memory;
pub mod pager;
pub mod queue;
pub mod raw;
pub mod registers;
mod ring;
pub mod rt;
pub mod shared;
pub mod space;
pub mod system;
pub mod table;
pub mod thread;
pub mod time;

pub use account::Account;
pub use channel::{ChannelEndpoint, FOREVER, IMMEDIATELY, Message, Reply, Request};
pub use dma::{DmaBuffer, DmaMapping, DmaSpace};
pub use executor::Executor;
pub use handle::{HandleInfo, Object, OwnedHandle};
pub use hardware::{Hardware, Interrupt, IoPorts};
pub use memory::{CopySide, Memory, copy};
pub use pager::Pager;
pub use queue::Queue;
pub use quire_abi as abi;
pub use quire_abi::dma::{DmaFlags, MAX_DMA_PAGES};
pub use quire_abi::space::{MapFlags, MemoryFlags, Protection};
pub use quire_abi::{Error, Handle, ObjectKind, Rights};
pub use registers::RegisterWindow;
pub use shared::SharedMapping;
pub use space::{AddressSpace, Commit, CommitError, Committed};
pub use system::Log;
pub use table::HandleTable;
pub use thread::Thread;
pub use time::{Clock, Event, Timer};
