//! Interrupts that a test raises, and loses.

use crate::{DeviceError, InterruptSource};
use core::task::Poll;
use std::cell::Cell;
use std::rc::Rc;

#[derive(Debug, Default)]
struct Line {
    pending: Cell<bool>,
    masked: Cell<bool>,
    raised: Cell<usize>,
    to_lose: Cell<usize>,
}

/// An edge-triggered interrupt. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SimulatedInterrupt(Rc<Line>);

impl SimulatedInterrupt {
    /// The device raises it.
    pub fn raise(&self) {
        let line = &self.0;
        line.raised.set(line.raised.get() + 1);
        match line.to_lose.get().checked_sub(1) {
            Some(left) => line.to_lose.set(left),
            None => line.pending.set(true),
        }
    }

    /// The next so many get lost.
    pub fn lose(&self, count: usize) {
        self.0.to_lose.set(count);
    }

    /// How often it was raised.
    pub fn raised(&self) -> usize {
        self.0.raised.get()
    }

    /// Takes it, if it came in and is not masked.
    pub fn take(&self) -> bool {
        if self.0.masked.get() || !self.0.pending.take() {
            return false;
        }
        self.0.masked.set(true);
        true
    }
}

impl InterruptSource for SimulatedInterrupt {
    async fn wait(&mut self) {
        core::future::poll_fn(|_| if self.take() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn acknowledge(&self) -> Result<(), DeviceError> {
        self.0.masked.set(false);
        Ok(())
    }
}
