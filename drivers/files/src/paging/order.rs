//! The order in which writes of a file end: those nearer to its start first, so that the file is never longer on the disk than what was
//! written of it.
//!
//! Only those wait that make the file longer, and only for such as are under way already: nobody waits for what begins later, nor for
//! who waits for something of theirs.

use crate::signal::Signal;
use alloc::collections::BTreeSet;
use core::cell::{Cell, RefCell};

/// The writes that are under way.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Where each begins, and its number.
    under_way: RefCell<BTreeSet<(u64, u64)>>,
    next: Cell<u64>,
    changed: Signal,
}

/// A write, until it is dropped.
pub(super) struct Write<'a> {
    order: &'a Order,
    key: (u64, u64),
}

impl Order {
    /// A write begins, from this page on.
    pub(super) fn enter(&self, start: u64) -> Write<'_> {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        self.under_way.borrow_mut().insert((start, number));
        Write { order: self, key: (start, number) }
    }
}

impl Write<'_> {
    /// Waits until no write is under way nearer to the start.
    pub(super) async fn first(&self) {
        let is_first = || self.order.under_way.borrow().first().is_none_or(|first| *first >= self.key);
        self.order.changed.until(|| is_first().then_some(())).await;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.order.under_way.borrow_mut().remove(&self.key);
        self.order.changed.raise();
    }
}
