//! Sleeping.

use super::Inner;
use super::timers::TimerId;
use crate::channel::FOREVER;
use alloc::rc::Rc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Waits until a time; until [`FOREVER`], without end. Dropped, it is forgotten.
#[derive(Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Sleep {
    pub(super) inner: Rc<Inner>,
    pub(super) deadline_ns: u64,
    pub(super) timer: Option<TimerId>,
}

impl Sleep {
    /// When it ends, in ns since the kernel's start.
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline_ns == FOREVER {
            return Poll::Pending;
        }
        let inner = Rc::clone(&self.inner);
        let mut timers = inner.timers.borrow_mut();
        if inner.clock.now_ns() >= self.deadline_ns {
            if let Some(timer) = self.timer.take() {
                timers.remove(timer);
            }
            return Poll::Ready(());
        }
        match self.timer {
            Some(timer) => timers.update(timer, context.waker()),
            None => self.timer = Some(timers.add(self.deadline_ns, context.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.inner.timers.borrow_mut().remove(timer);
        }
    }
}
