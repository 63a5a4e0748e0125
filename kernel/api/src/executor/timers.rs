//! Deadlines of sleeping futures. No kernel object: the executor's own wait ends at the earliest one.

use crate::channel::FOREVER;
use alloc::collections::BTreeMap;
use core::task::Waker;

/// A deadline that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId {
    deadline_ns: u64,
    sequence: u64,
}

/// All deadlines, in order.
#[derive(Debug)]
pub(super) struct Timers {
    waiting: BTreeMap<TimerId, Waker>,
    next_sequence: u64,
    /// The deadline of the first, or [`FOREVER`]: asked for with every request.
    earliest_ns: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next_sequence: 0, earliest_ns: FOREVER }
    }
}

impl Timers {
    /// Adds a deadline.
    pub(super) fn add(&mut self, deadline_ns: u64, waker: &Waker) -> TimerId {
        let id = TimerId { deadline_ns, sequence: self.next_sequence };
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.waiting.insert(id, waker.clone());
        self.earliest_ns = self.earliest_ns.min(deadline_ns);
        id
    }

    /// Changes who waits, if the deadline has not passed yet.
    pub(super) fn update(&mut self, id: TimerId, waker: &Waker) {
        if let Some(known) = self.waiting.get_mut(&id)
            && !known.will_wake(waker)
        {
            known.clone_from(waker);
        }
    }

    /// Removes a deadline.
    pub(super) fn remove(&mut self, id: TimerId) {
        self.waiting.remove(&id);
        self.note_earliest();
    }

    /// The earliest deadline; [`FOREVER`] if there is none.
    #[inline]
    pub(super) fn earliest_ns(&self) -> u64 {
        self.earliest_ns
    }

    fn note_earliest(&mut self) {
        self.earliest_ns = self.waiting.first_key_value().map_or(FOREVER, |(id, _)| id.deadline_ns);
    }

    /// Removes one deadline that has passed at `now_ns`, and returns who waits for it.
    pub(super) fn expire(&mut self, now_ns: u64) -> Option<Waker> {
        if self.waiting.is_empty() || self.earliest_ns > now_ns {
            return None;
        }
        let first = self.waiting.pop_first();
        self.note_earliest();
        first.map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_expire_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.add(30, Waker::noop());
        let removed = timers.add(10, Waker::noop());
        timers.add(20, Waker::noop());
        timers.add(20, Waker::noop());
        timers.remove(removed);
        assert_eq!(timers.earliest_ns(), 20);
        assert!(timers.expire(19).is_none());
        assert!(timers.expire(20).is_some());
        assert!(timers.expire(20).is_some());
        assert!(timers.expire(20).is_none());
        assert_eq!(timers.earliest_ns(), 30);
        assert!(timers.expire(30).is_some());
        assert_eq!(timers.earliest_ns(), FOREVER);
    }
}
