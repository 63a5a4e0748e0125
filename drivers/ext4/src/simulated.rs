//! A disk for tests, and an executor for one future.

use crate::device::{Device, DeviceFailed, SECTOR_BYTES};
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::vec;
use std::vec::Vec;

/// Polls more often than any test needs: a future that waits for nobody.
const MOST_POLLS: u64 = 100_000_000;

/// Runs a future to its end. All wakers are ignored: it is polled again and again.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..MOST_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    panic!("the future never ends");
}

/// A disk in memory, whose requests take a number of polls.
pub(crate) struct Disk {
    bytes: RefCell<Vec<u8>>,
    delay: Cell<u32>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    flushes: Cell<u64>,
    failing: Cell<bool>,
}

impl Disk {
    pub(crate) fn new(sectors: usize) -> Self {
        Self::from_bytes(vec![0; sectors * SECTOR_BYTES])
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            bytes: RefCell::new(bytes),
            delay: Cell::new(0),
            reads: Cell::new(0),
            writes: Cell::new(0),
            flushes: Cell::new(0),
            failing: Cell::new(false),
        }
    }

    /// Polls that each request takes.
    pub(crate) fn set_delay(&self, polls: u32) {
        self.delay.set(polls);
    }

    pub(crate) fn fail_writes(&self, failing: bool) {
        self.failing.set(failing);
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// What the disk has.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.bytes.borrow().clone()
    }

    async fn take_time(&self) {
        let mut left = self.delay.get();
        poll_fn(move |_| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            Poll::Pending
        })
        .await;
    }
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        (self.bytes.borrow().len() / SECTOR_BYTES) as u64
    }

    async fn read(&self, first_sector: u64, bytes: &mut [u8]) -> Result<(), DeviceFailed> {
        self.reads.set(self.reads.get() + 1);
        self.take_time().await;
        let at = first_sector as usize * SECTOR_BYTES;
        bytes.copy_from_slice(self.bytes.borrow().get(at..at + bytes.len()).ok_or(DeviceFailed)?);
        Ok(())
    }

    async fn write(&self, first_sector: u64, bytes: &[u8]) -> Result<(), DeviceFailed> {
        self.writes.set(self.writes.get() + 1);
        self.take_time().await;
        if self.failing.get() {
            return Err(DeviceFailed);
        }
        let at = first_sector as usize * SECTOR_BYTES;
        self.bytes.borrow_mut().get_mut(at..at + bytes.len()).ok_or(DeviceFailed)?.copy_from_slice(bytes);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceFailed> {
        self.flushes.set(self.flushes.get() + 1);
        self.take_time().await;
        Ok(())
    }
}
