//! Waiting until something is so.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Wakes all who wait whenever something may have changed.
#[derive(Debug, Default)]
pub struct Signal {
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Something has changed.
    pub fn raise(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `read` gives something, which is asked now and whenever the signal is raised.
    pub async fn until<T>(&self, mut read: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match read() {
            Some(value) => Poll::Ready(value),
            None => {
                self.note(context.waker());
                Poll::Pending
            }
        })
        .await
    }

    fn note(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}
