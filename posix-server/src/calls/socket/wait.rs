//! Waiting in calls on sockets: try, and if that is in vain and the call may wait, wait and try again.

use super::super::Outcome;
use super::super::blocking::{self, Woken};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::process::Thread;
use crate::wait::Listener;
use alloc::boxed::Box;
use alloc::rc::Rc;

/// Something that can be tried again and again.
pub(super) trait Attempt: 'static {
    /// Tries. `EAGAIN`: not now.
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64>;

    /// Watches what may let it succeed.
    fn watch(&self, listener: &mut Listener);

    /// Ends it before it has succeeded, because of an error: what it has done so far may count all the same.
    fn give_up(&mut self, thread: &Rc<Thread>, error: Errno) -> Result<u64> {
        let _ = thread;
        Err(error)
    }
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// Until a time of `platform::now_ns`; a signal then is `EINTR` in any case.
    Until(u64),
    /// For ever, and again after a signal whose handler allows it.
    Forever,
}

impl Patience {
    /// That of a call on this file, with a deadline from the socket's options.
    pub(super) fn of(file: &OpenFile, deadline_ns: Option<u64>) -> Self {
        match deadline_ns {
            _ if file.is_nonblocking() => Self::None,
            Some(deadline_ns) => Self::Until(deadline_ns),
            None => Self::Forever,
        }
    }

    fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Until(deadline_ns) => Some(deadline_ns),
            Self::Forever => None,
        }
    }

    fn interruption(self) -> Errno {
        match self {
            Self::None | Self::Until(_) => Errno::EINTR,
            Self::Forever => Errno::RESTART,
        }
    }
}

/// Watches a file's queue.
pub(super) fn watch_file(file: &OpenFile, listener: &mut Listener) {
    if let Some(queue) = file.ops().wait_queue() {
        listener.watch(queue);
    }
}

/// Runs a call, if it could be prepared.
pub(super) fn start<A: Attempt>(thread: &Rc<Thread>, prepared: Result<(A, Patience)>) -> Outcome {
    let (mut attempt, patience) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    match (attempt.attempt(thread), patience) {
        (Err(Errno::EAGAIN), Patience::None) => Outcome::Return(attempt.give_up(thread, Errno::EAGAIN)),
        (Err(Errno::EAGAIN), Patience::Until(_) | Patience::Forever) => {
            let (thread, listener) = (thread.clone(), watching(&attempt));
            Outcome::Block(Box::pin(async move { persist(&thread, &mut attempt, patience, listener).await }))
        }
        (result, _) => Outcome::Return(result),
    }
}

/// Tries until it succeeds or the patience is over.
pub(super) async fn finish<A: Attempt>(thread: &Rc<Thread>, attempt: &mut A, patience: Patience) -> Result<u64> {
    match (attempt.attempt(thread), patience) {
        (Err(Errno::EAGAIN), Patience::None) => attempt.give_up(thread, Errno::EAGAIN),
        (Err(Errno::EAGAIN), Patience::Until(_) | Patience::Forever) => {
            let listener = watching(attempt);
            persist(thread, attempt, patience, listener).await
        }
        (result, _) => result,
    }
}

fn watching(attempt: &impl Attempt) -> Listener {
    let mut listener = Listener::new();
    attempt.watch(&mut listener);
    listener
}

/// Tries again after each change. `listener` was made right after an attempt in vain: nobody ran in between, so that nothing
/// can have been missed.
async fn persist<A: Attempt>(
    thread: &Rc<Thread>,
    attempt: &mut A,
    patience: Patience,
    listener: Listener,
) -> Result<u64> {
    let mut listener = listener;
    loop {
        match blocking::wait(thread, listener, patience.deadline_ns()).await {
            Woken::Changed => {}
            Woken::Interrupted => return attempt.give_up(thread, patience.interruption()),
            Woken::TimedOut => return attempt.give_up(thread, Errno::EAGAIN),
        }
        match attempt.attempt(thread) {
            Err(Errno::EAGAIN) => listener = watching(attempt),
            result => return result,
        }
    }
}
