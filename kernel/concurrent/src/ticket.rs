//! A fair lock: who wants it draws a ticket, and the tickets are served in their order.

use crate::word::Counter;
use core::sync::atomic::Ordering;

/// The two counters of a lock. What it guards belongs to whoever's ticket is served.
#[derive(Debug)]
pub struct Tickets<W> {
    /// The next ticket to be drawn.
    next: W,
    /// The ticket whose turn it is: nobody holds the lock if it is the next to be drawn.
    serving: W,
}

impl<W> Tickets<W> {
    /// Two counters that are 0: a free lock.
    pub const fn new(next: W, serving: W) -> Self {
        Self { next, serving }
    }
}

impl<W: Counter> Tickets<W> {
    /// Draws a ticket. It must be waited for, and passed on.
    #[inline(always)]
    pub fn draw(&self) -> u32 {
        self.next.count_up(Ordering::Relaxed)
    }

    /// Whether it is this ticket's turn.
    #[inline(always)]
    pub fn is_served(&self, ticket: u32) -> bool {
        self.serving.load(Ordering::Acquire) == ticket
    }

    /// Takes the lock if it is free.
    pub fn try_take(&self) -> bool {
        // Acquire: or what the last holder did could still be on its way.
        let ticket = self.serving.load(Ordering::Acquire);
        self.next.change(ticket, ticket.wrapping_add(1), Ordering::Relaxed)
    }

    /// Gives the lock to the next ticket. For the holder only, who alone changes who is served.
    #[inline(always)]
    pub fn pass_on(&self) {
        let ticket = self.serving.load(Ordering::Relaxed);
        self.serving.store(ticket.wrapping_add(1), Ordering::Release);
    }
}
