//! Something that is being done, for which others wait: they are all told how it ended.
//!
//! Whoever begins it keeps the [`Ticket`] and finishes it; whoever needs it waits on a clone. It is no part of the server's one thread:
//! so it can be noted where the platform notes what a call needs.

use crate::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use spin::Mutex;

#[derive(Default)]
struct State {
    result: Option<Result<()>>,
    waiters: Vec<Waker>,
}

/// What others wait for; a clone is the same.
#[derive(Clone, Default)]
pub struct Ticket(Arc<Mutex<State>>);

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.lock().result).finish()
    }
}

impl Ticket {
    /// Something that has begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has ended so. The first end counts.
    pub fn finish(&self, result: Result<()>) {
        let mut state = self.0.lock();
        state.result.get_or_insert(result);
        let waiters = core::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Result<()> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.0.lock();
        match state.result {
            Some(result) => Poll::Ready(result),
            None => {
                if !state.waiters.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.waiters.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use core::pin::pin;

    #[test]
    fn all_who_wait_hear_the_first_end() {
        let ticket = Ticket::new();
        let mut context = Context::from_waker(Waker::noop());
        let (mut one, mut other) = (pin!(ticket.ended()), pin!(ticket.ended()));
        assert!(one.as_mut().poll(&mut context).is_pending() && other.as_mut().poll(&mut context).is_pending());
        ticket.finish(Err(Errno::EIO));
        ticket.finish(Ok(()));
        assert_eq!(one.as_mut().poll(&mut context), Poll::Ready(Err(Errno::EIO)));
        assert_eq!(other.as_mut().poll(&mut context), Poll::Ready(Err(Errno::EIO)));
    }
}
