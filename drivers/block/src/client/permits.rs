//! How many may do something at once; the others wait in line.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};

/// So many permits, given out in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Permits {
    free: Cell<usize>,
    next_ticket: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Cell::new(count), next_ticket: Cell::new(0), waiting: RefCell::default() }
    }

    /// Waits for a permit; it goes back when it is dropped.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        let mut place = Place { permits: self, ticket: None };
        core::future::poll_fn(|context| place.poll(context)).await
    }
}

/// A place in the line.
struct Place<'a> {
    permits: &'a Permits,
    ticket: Option<u64>,
}

impl<'a> Place<'a> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Permit<'a>> {
        let permits = self.permits;
        let mut waiting = permits.waiting.borrow_mut();
        let is_first = match (self.ticket, waiting.front()) {
            (_, None) => true,
            (Some(ticket), Some((first, _))) => ticket == *first,
            (None, Some(_)) => false,
        };
        if is_first && permits.free.get() > 0 {
            if self.ticket.take().is_some() {
                waiting.pop_front();
            }
            permits.free.set(permits.free.get() - 1);
            wake_first(permits.free.get(), &waiting);
            return Poll::Ready(Permit(permits));
        }
        match self.ticket {
            Some(ticket) => {
                let place = waiting.iter_mut().find(|(waiter, _)| *waiter == ticket);
                if let Some((_, waker)) = place {
                    waker.clone_from(context.waker());
                }
            }
            None => {
                let ticket = permits.next_ticket.replace(permits.next_ticket.get() + 1);
                self.ticket = Some(ticket);
                waiting.push_back((ticket, context.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut waiting = self.permits.waiting.borrow_mut();
            waiting.retain(|(waiter, _)| *waiter != ticket);
            // It may have been this one's turn.
            wake_first(self.permits.free.get(), &waiting);
        }
    }
}

fn wake_first(free: usize, waiting: &VecDeque<(u64, Waker)>) {
    if free > 0
        && let Some((_, waker)) = waiting.front()
    {
        waker.wake_by_ref();
    }
}

/// A permit.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        wake_first(self.0.free.get(), &self.0.waiting.borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use futures_util::FutureExt as _;

    #[test]
    fn permits_go_to_those_who_asked_first() {
        let permits = Permits::new(1);
        let held = permits.acquire().now_or_never().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(permits.acquire());
        let mut second = pin!(permits.acquire());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(second.as_mut().poll(&mut context).is_pending(), "not its turn");
        assert!(permits.acquire().now_or_never().is_none(), "nor that of who comes later");
        assert!(first.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn who_leaves_the_line_does_not_hold_it_up() {
        let permits = Permits::new(1);
        let held = permits.acquire().now_or_never().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut second = pin!(permits.acquire());
        {
            let mut first = pin!(permits.acquire());
            assert!(first.as_mut().poll(&mut context).is_pending());
            assert!(second.as_mut().poll(&mut context).is_pending());
        }
        drop(held);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
