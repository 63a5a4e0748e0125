//! What blocking calls on files have in common: try, and if that is in vain, wait and try again.

use crate::errno::{Errno, Result};
use crate::event::clock::Clock;
use crate::file::OpenFile;
use crate::process::Thread;
use crate::wait::Listener;
use alloc::rc::Rc;
use core::pin::pin;
use futures_util::future::{Either, select};

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something changed: try again.
    Changed,
    /// A signal will have an effect, or the thread has ended.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

/// Waits until the listener is woken, the thread is interrupted, or the clock reaches `deadline_ns`.
pub async fn wait(thread: &Rc<Thread>, listener: impl Future<Output = ()> + Unpin, deadline_ns: Option<u64>) -> Woken {
    let interrupted = pin!(thread.clone().interrupted());
    let Some(deadline_ns) = deadline_ns else {
        return match select(listener, interrupted).await {
            Either::Left(_) => Woken::Changed,
            Either::Right(_) => Woken::Interrupted,
        };
    };
    let sleep = thread.server().executor.sleep_until(deadline_ns);
    match select(select(listener, interrupted), pin!(sleep)).await {
        Either::Left((Either::Left(_), _)) => Woken::Changed,
        Either::Left((Either::Right(_), _)) => Woken::Interrupted,
        Either::Right(_) => Woken::TimedOut,
    }
}

/// Until when a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// For ever.
    Never,
    /// Until the clock that nobody sets shows this, in ns.
    Monotonic(u64),
    /// Until the real-time clock shows this, in ns, also if it is set meanwhile.
    Realtime(u64),
}

impl Deadline {
    /// When that is on the clock that nobody sets, as things are.
    fn monotonic_ns(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Monotonic(time_ns) => Some(time_ns),
            Self::Realtime(time_ns) => Some(Clock::Realtime.deadline_ns(time_ns)),
        }
    }
}

/// Waits like [`wait`]. The setting of the clock that a deadline counts on is a change, after which the deadline is another.
pub async fn wait_until(thread: &Rc<Thread>, mut listener: Listener, deadline: Deadline) -> Woken {
    if let Deadline::Realtime(_) = deadline {
        listener.watch(&thread.server().clock_set);
    }
    wait(thread, listener, deadline.monotonic_ns()).await
}

/// A listener on a file's queue; on nothing for a file that never changes.
pub fn listen(file: &OpenFile) -> Listener {
    file.ops().wait_queue().map(crate::wait::WaitQueue::listen).unwrap_or_default()
}

/// The same for a thread, where the queue depends on that.
pub fn listen_for(thread: &Thread, file: &OpenFile) -> Listener {
    file.ops().wait_queue_for(thread).map(crate::wait::WaitQueue::listen).unwrap_or_default()
}

/// The file that a descriptor names, or `EBADF`.
pub fn file(thread: &Rc<Thread>, fd: u64) -> Result<Rc<OpenFile>> {
    thread.process.files.borrow().slots().get(fd as i32)
}

/// The same, not if it is only a path.
pub fn usable_file(thread: &Rc<Thread>, fd: u64) -> Result<Rc<OpenFile>> {
    let file = file(thread, fd)?;
    file.check_not_path()?;
    Ok(file)
}

/// What an interrupted call says: what it has done, or that it is to be done again.
pub fn interrupted(done: u64) -> Result<u64> {
    if done > 0 { Ok(done) } else { Err(Errno::RESTART) }
}
