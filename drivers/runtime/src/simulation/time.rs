//! Time that a test moves.

use crate::Time;
use core::task::Poll;
use std::cell::Cell;
use std::rc::Rc;

/// A clock that stands still. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SimulatedTime(Rc<Cell<u64>>);

impl SimulatedTime {
    /// Lets time pass.
    pub fn advance(&self, duration_ns: u64) {
        self.0.set(self.0.get() + duration_ns);
    }
}

impl Time for SimulatedTime {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    async fn sleep_until(&self, deadline_ns: u64) {
        core::future::poll_fn(|_| if self.0.get() >= deadline_ns { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}
