//! A row of the table of system calls: what runs a call, and how much of it there is.

use super::{Arguments, Outcome};
use crate::process::Thread;
use alloc::rc::Rc;

/// What runs a system call.
pub type Handler = fn(&Rc<Thread>, &Arguments) -> Outcome;

/// How much of a call there is, for `docs/posix.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All that Linux documents.
    Done,
    /// The text says what is missing, and with which error it is answered.
    Partly(&'static str),
}

/// A system call that is there.
#[derive(Clone, Copy, Debug)]
pub struct SystemCall {
    /// Its number on x86_64.
    pub number: u32,
    /// What runs it.
    pub handler: Handler,
    /// How much of it there is.
    pub state: State,
    /// The flags that it looks at, for `docs/posix.md`: names between blanks.
    pub flags: &'static str,
}

impl SystemCall {
    /// A call that does all that Linux documents.
    pub const fn new(number: u32, handler: Handler) -> Self {
        Self { number, handler, state: State::Done, flags: "" }
    }

    /// The same, but for what `missing` tells.
    #[must_use]
    pub const fn partly(self, missing: &'static str) -> Self {
        Self { state: State::Partly(missing), ..self }
    }

    /// Names the flags that the call looks at.
    #[must_use]
    pub const fn with_flags(self, flags: &'static str) -> Self {
        Self { flags, ..self }
    }
}
