//! Who is told of a file's readiness by signal (`fcntl(2)`, `F_SETOWN`).

use crate::cred::Uid;
use crate::process::Pid;
use core::cell::Cell;

/// Somebody who can be told; 0 for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncOwner {
    /// A process.
    Process(Pid),
    /// All processes of a group.
    Group(Pid),
    /// One thread.
    Thread(Pid),
}

impl AsyncOwner {
    /// Nobody.
    pub const NOBODY: Self = Self::Process(0);
}

/// What an open file keeps of it.
#[derive(Debug)]
pub struct Owner {
    /// Who.
    pub who: Cell<AsyncOwner>,
    /// By which signal; 0 for `SIGIO` without more.
    pub signal: Cell<u8>,
    /// The real and effective user who set it: whom they may not send signals to is not told.
    pub users: Cell<(Uid, Uid)>,
}

impl Default for Owner {
    fn default() -> Self {
        Self { who: Cell::new(AsyncOwner::NOBODY), signal: Cell::new(0), users: Cell::new((0, 0)) }
    }
}
