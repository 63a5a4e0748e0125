//! Threads: registers, what they wait for, and what belongs to them.
//!
//! # States
//! *New* → (start) → *Ready* ⇄ *Running* → *Waiting* → *Ready* …, and from everywhere → *Dead*. A thread that could run but is
//! suspended is *Stopped*. Suspension does not end a wait: the call goes on, and when it is over the thread is
//! stopped instead of ready. An exception is a call that the kernel makes in the thread's name, so a faulted thread is
//! *Waiting* in a call of the form [`CallForm::Exception`].

use crate::channel::{Buffer, Endpoint};
use crate::event::Event;
use crate::handles::HandleTable;
use crate::list::Links;
use crate::machine::Frame;
use crate::memory::{Absent, Space};
use crate::object::{Capability, Header, Node};
use crate::pager::PageFailure;
use crate::pool::Id;
use crate::queue::{Binding, Queue};
use crate::route::Route;
use crate::timer::AlarmId;
use alloc::vec::Vec;
use quire_abi::message::{HANDLES, WORDS};
use quire_abi::thread::{ExceptionKind, Reflection, Registers, ThreadState};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The priority of a new thread.
pub const DEFAULT_PRIORITY: u8 = 16;
/// The longest name in bytes.
pub const NAME_BYTES: usize = 32;

/// What the entry code reads and writes without the help of the core; a record with a fixed layout.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Context {
    /// The registers, while the thread is not on a processor.
    pub registers: Registers,
    /// Where foreign system calls go; all 0 without reflection.
    pub reflection: Reflection,
}

/// 64 aligned bytes of an XSAVE image (Intel SDM vol. 1, 13.4: the area is aligned to 64 bytes).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
pub struct VectorBlock(pub [u8; 64]);

/// What an exception tells; see [`quire_abi::thread::EXCEPTION_LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What happened.
    pub kind: ExceptionKind,
    /// The address concerned, or 0.
    pub address: u64,
    /// The processor's error code, or 0.
    pub code: u64,
}

/// How a parked caller's message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// In the caller's registers, where it stays until somebody receives it.
    Registers,
    /// In a `CallFrame` at this address of the caller's space.
    Frame {
        /// Where the answer goes.
        address: u64,
    },
    /// The kernel calls in the thread's name.
    Exception(Exception),
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// It waits on this endpoint to be received.
    Queued(Id<Endpoint>),
    /// Somebody holds the reply.
    Received,
}

/// The call that a thread waits in.
#[derive(Debug)]
pub struct CallRecord {
    /// Changes with every call, so that a reply to an earlier one is stale.
    pub serial: u32,
    /// How the message travels.
    pub form: CallForm,
    /// How far it is.
    pub stage: CallStage,
    /// Label of a message that is not in the registers.
    pub label: u64,
    /// Words of a message that is not in the registers.
    pub words: [u64; WORDS],
    /// Handles under way.
    pub handles: [Option<Capability>; HANDLES],
    /// What the receiver may read.
    pub send: Buffer,
    /// What the receiver may write.
    pub receive: Buffer,
}

/// Where a received message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveForm {
    /// Into registers (`channel_reply_receive`).
    Registers,
    /// Into a `Received` record at this address.
    Record {
        /// Address in the receiver's space.
        address: u64,
    },
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The answer to its call; see [`Thread::call`].
    Call,
    /// A message.
    Receive {
        /// Where.
        endpoint: Id<Endpoint>,
        /// How it is delivered.
        form: ReceiveForm,
    },
    /// A completion.
    Queue(Id<Queue>),
    /// Bits of an event.
    Event {
        /// Which event.
        event: Id<Event>,
        /// Any of these bits.
        mask: u64,
    },
    /// A page that a pager supplies. Its registers are such that it tries again when it goes on.
    Page(Absent),
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    New,
    /// In the run queue of its processor.
    Ready,
    /// On its processor.
    Running,
    /// Could run, but is suspended.
    Stopped,
    /// In a call that waits.
    Waiting(Wait),
    /// Ended. Only the record is left, for those who still have a handle to it.
    Dead,
}

/// A name for dumps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Name {
    /// The first [`NAME_BYTES`] bytes of `name`, as far as they are text.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES];
        let len = name.len().min(NAME_BYTES);
        bytes[..len].copy_from_slice(&name[..len]);
        Self { bytes, len }
    }

    /// The name; "?" if it isn't text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

/// A thread.
#[derive(Debug)]
#[repr(C)]
pub struct Thread {
    /// What the entry code uses.
    pub context: Context,
    /// References and account. A thread that was started and has not ended holds a reference to itself.
    pub header: Header,
    /// What it is doing.
    pub state: State,
    /// How many suspensions are in force.
    pub suspensions: u32,
    /// The space it runs in. Stale once it is dead.
    pub space: Id<Space>,
    /// The page-table root of that space.
    pub root: Frame,
    /// The table it runs with. Stale once it is dead.
    pub table: Id<HandleTable>,
    /// Where one of its handles leads.
    pub route: Route,
    /// The call that it waits in, or the last one.
    pub call: CallRecord,
    /// Its place in the line in which it waits.
    pub links: Links<Node>,
    /// Its place in a run queue.
    pub run_links: Links<Id<Self>>,
    /// For waits with a deadline.
    pub alarm: AlarmId,
    /// `alarm` is armed for the wait that it is in; if this is not set, an alarm that is still armed means nothing.
    pub has_deadline: bool,
    /// Where its exceptions go.
    pub exceptions: Option<Id<Endpoint>>,
    /// Where its end is told.
    pub binding: Option<Binding>,
    /// It has ended, and the queue it is bound to had no room to say so yet.
    pub pending: bool,
    /// 0 to 31.
    pub priority: u8,
    /// The processor that it runs on, is ready on, or ran on last.
    pub cpu: usize,
    /// The processors that it may run on, as bits.
    pub affinity: u64,
    /// Time on a processor, in ns.
    pub run_time_ns: u64,
    /// What a preemption left of its time slice, in ns; 0 if it gets a new one.
    pub slice_left_ns: u64,
    /// Its last wait for a page failed, and it has not been told yet.
    pub page_failure: Option<PageFailure>,
    /// For dumps.
    pub name: Name,
    /// Its XSAVE image, if it was made with one.
    pub vector: Option<Vec<VectorBlock>>,
}

impl Thread {
    /// Whether its registers stand still: it is new, suspended and off the processor, or waits in a call.
    pub fn registers_are_readable(&self) -> bool {
        match self.state {
            State::New | State::Stopped | State::Waiting(_) => true,
            State::Ready | State::Running | State::Dead => false,
        }
    }

    /// Whether its registers may be written: it is new, faulted, or suspended and off the processor.
    pub fn registers_are_writable(&self) -> bool {
        match self.state {
            State::New | State::Stopped => true,
            State::Waiting(_) => self.suspensions != 0 || self.is_faulted(),
            State::Ready | State::Running | State::Dead => false,
        }
    }

    /// Whether its vector registers may be written: it does not run. No call returns anything in them, so a thread that waits
    /// in one need not be suspended.
    pub fn vector_is_writable(&self) -> bool {
        match self.state {
            State::New | State::Stopped | State::Waiting(_) => true,
            State::Ready | State::Running | State::Dead => false,
        }
    }

    /// Whether nothing special has to be done when its wait ends.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.suspensions == 0 && !self.has_deadline
    }

    /// Whether it is stopped by an exception that nobody has answered yet.
    pub fn is_faulted(&self) -> bool {
        self.state == State::Waiting(Wait::Call) && matches!(self.call.form, CallForm::Exception(_))
    }

    /// The state as the object API tells it.
    pub fn public_state(&self) -> ThreadState {
        match self.state {
            State::New => ThreadState::New,
            State::Ready | State::Running | State::Stopped => ThreadState::Runnable,
            State::Waiting(_) if self.is_faulted() => ThreadState::Faulted,
            State::Waiting(_) => ThreadState::Waiting,
            State::Dead => ThreadState::Dead,
        }
    }
}
