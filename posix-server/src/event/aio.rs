//! Contexts of asynchronous I/O (`io_setup(2)`): what has been done, and how much is under way.

use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, VecDeque};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{Immutable, IntoBytes};

/// What an operation takes of the server's memory, about, in bytes: while it is under way, and when it is done.
const OPERATION_BYTES: u64 = 512;

static TOTAL: AtomicU64 = AtomicU64::new(0);

/// How many operations all contexts have room for.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

/// `struct io_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Done {
    /// What the program calls the operation.
    pub data: u64,
    /// Where it described it.
    pub request: u64,
    /// The result, or a negative errno.
    pub result: i64,
    /// Always 0.
    pub more: i64,
}

/// A context.
pub struct Context {
    /// How many operations it has room for.
    room: u64,
    /// Those under way.
    under_way: Cell<u64>,
    done: RefCell<VecDeque<Done>>,
    /// Woken when one is done, or the context ends.
    pub changed: WaitQueue,
    is_over: Cell<bool>,
    /// The requests to poll that are under way, and whether each was taken back.
    polls: RefCell<BTreeMap<u64, bool>>,
    _charge: Charge,
}

impl Context {
    /// A context for so many operations, if all together have not more than `most`. `EAGAIN`, also if the server keeps too much
    /// already.
    pub fn new(room: u64, most: u64) -> Result<Self> {
        if total().saturating_add(room) > most {
            return Err(Errno::EAGAIN);
        }
        let charge = Charge::new(Budget::Open, room.saturating_mul(OPERATION_BYTES)).map_err(|_| Errno::EAGAIN)?;
        TOTAL.fetch_add(room, Ordering::Relaxed);
        Ok(Self {
            room,
            under_way: Cell::new(0),
            done: RefCell::default(),
            changed: WaitQueue::new(),
            is_over: Cell::new(false),
            polls: RefCell::default(),
            _charge: charge,
        })
    }

    /// How many operations it has room for.
    pub fn room(&self) -> u64 {
        self.room
    }

    /// An operation begins. `EAGAIN` if there is no room, `EINVAL` if the context is over.
    pub fn begin(&self) -> Result<()> {
        if self.is_over() {
            return Err(Errno::EINVAL);
        }
        if self.under_way.get() + self.done.borrow().len() as u64 >= self.room {
            return Err(Errno::EAGAIN);
        }
        self.under_way.set(self.under_way.get() + 1);
        Ok(())
    }

    /// It was none after all.
    pub fn abandon(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.changed.wake();
    }

    /// An operation that has begun is done.
    pub fn finish(&self, done: Done) {
        self.done.borrow_mut().push_back(done);
        self.abandon();
    }

    /// What has been done longest ago.
    pub fn take(&self) -> Option<Done> {
        self.done.borrow_mut().pop_front()
    }

    /// How many operations are done and not taken.
    pub fn finished(&self) -> usize {
        self.done.borrow().len()
    }

    /// Whether any are under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.get() > 0
    }

    /// A request to poll is under way.
    pub fn begin_poll(&self, request: u64) {
        self.polls.borrow_mut().insert(request, false);
    }

    /// It is over.
    pub fn end_poll(&self, request: u64) {
        self.polls.borrow_mut().remove(&request);
    }

    /// Takes a request to poll back. False: it is not under way.
    pub fn cancel_poll(&self, request: u64) -> bool {
        let found = self.polls.borrow_mut().get_mut(&request).map(|is_cancelled| *is_cancelled = true).is_some();
        self.changed.wake();
        found
    }

    /// Whether a request to poll was taken back, or its context has ended.
    pub fn is_cancelled(&self, request: u64) -> bool {
        self.is_over() || self.polls.borrow().get(&request).copied().unwrap_or(true)
    }

    /// Ends it.
    pub fn end(&self) {
        self.is_over.set(true);
        self.changed.wake();
    }

    /// Whether it has been ended.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.room, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_takes_room_until_it_is_taken() {
        let context = Context::new(2, 100).unwrap();
        let done = |result| Done { data: 1, request: 2, result, more: 0 };
        context.begin().unwrap();
        context.begin().unwrap();
        assert_eq!(context.begin(), Err(Errno::EAGAIN));
        context.finish(done(7));
        assert_eq!(context.begin(), Err(Errno::EAGAIN));
        assert_eq!(context.take(), Some(done(7)));
        context.begin().unwrap();
        context.end();
        assert!(context.is_busy());
        context.abandon();
        context.abandon();
        assert_eq!((context.is_busy(), context.begin()), (false, Err(Errno::EINVAL)));
    }
}
