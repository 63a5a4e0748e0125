//! Waiting at a word without a task.
//!
//! A thread that waits for nothing but a wake-up (`FUTEX_WAIT` without a timeout) is *parked*: it stands in the line of its word, the
//! server owes it an answer, and that is all. Whoever ends the wait gives the answer on the spot:
//!
//! 1. [`Futexes::park`] puts it in line, after the word was seen to have the expected value. The server has one thread, so nobody
//!    wakes in between.
//! 2. A wake-up takes it out of the line and answers 0 ([`woken`]); or a signal that has an effect takes it out, and its call
//!    begins anew or ends ([`interrupt`]); or it ends ([`abandon`]). Each of them takes [`Thread::parked`] first, so only one
//!    happens.

use super::{Futexes, Told, Waiter, Word};
use crate::errno::Errno;
use crate::process::Thread;
use crate::signal::leave::leave_wait;
use alloc::rc::Rc;

impl Futexes {
    /// Parks a thread at a word.
    pub fn park(&self, word: Word, bits: u32, thread: &Rc<Thread>) {
        let waiter = self.enter_with(word, bits, Told::Parked(thread.clone()), None);
        let before = thread.parked.replace(Some(waiter));
        debug_assert!(before.is_none(), "a thread waits at one word at a time");
    }
}

/// Takes a thread's place, if it is parked.
fn take(thread: &Thread) -> Option<Rc<Waiter>> {
    thread.parked.take()
}

/// Somebody has woken a thread, and taken it out of the line.
pub(super) fn woken(thread: &Rc<Thread>) {
    if take(thread).is_some() {
        leave_wait(thread, Ok(0));
    }
}

/// A signal has come for a thread.
pub fn interrupt(thread: &Rc<Thread>) {
    if thread.parked.borrow().is_none() || !thread.is_interrupted() {
        return;
    }
    if let Some(waiter) = take(thread) {
        thread.server().futexes.leave(&waiter);
        leave_wait(thread, Err(Errno::RESTART));
    }
}

/// A thread has ended.
pub fn abandon(thread: &Thread) {
    if let Some(waiter) = take(thread) {
        thread.server().futexes.leave(&waiter);
    }
}
