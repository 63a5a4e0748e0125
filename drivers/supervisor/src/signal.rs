//! Tasks that wait for something to change.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Poll, Waker};

/// Those who wait.
#[derive(Default)]
pub(crate) struct Signal {
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Something has changed: all look again.
    pub(crate) fn changed(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `look` finds something.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        core::future::poll_fn(|context| match look() {
            Some(found) => Poll::Ready(found),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}
