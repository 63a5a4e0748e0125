//! Jobs of one file, which wait for each other where they overlap.

use crate::signal::Signal;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brings pages in.
    Fill,
    /// Writes pages back.
    Writeback,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    kind: Kind,
    pages: Range<u64>,
}

/// The jobs of a file, in the order in which they came.
#[derive(Debug, Default)]
pub struct Lines {
    jobs: RefCell<VecDeque<Entry>>,
    next: Cell<u64>,
    changed: Signal,
}

impl Lines {
    /// Adds a job.
    pub fn enter(&self, kind: Kind, pages: Range<u64>) -> u64 {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.jobs.borrow_mut().push_back(Entry { number, kind, pages });
        number
    }

    /// Waits until no earlier job is about pages of this one.
    pub async fn turn(&self, number: u64) {
        self.changed.until(|| self.is_first(number).then_some(())).await;
    }

    fn is_first(&self, number: u64) -> bool {
        let jobs = self.jobs.borrow();
        let Some(own) = jobs.iter().find(|job| job.number == number) else { return true };
        !jobs.iter().take_while(|job| job.number != number).any(|job| overlap(&job.pages, &own.pages))
    }

    /// A job is over. Tells its pages, without those that a later writeback is about.
    pub fn leave(&self, number: u64) -> Vec<Range<u64>> {
        let mut jobs = self.jobs.borrow_mut();
        let Some(index) = jobs.iter().position(|job| job.number == number) else { return Vec::new() };
        let own = jobs.remove(index);
        let mut left = Vec::from_iter(own.map(|job| job.pages));
        for later in jobs.iter().skip(index).filter(|job| job.kind == Kind::Writeback) {
            left = left.into_iter().flat_map(|range| without(range, &later.pages)).collect();
        }
        drop(jobs);
        self.changed.raise();
        left
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.jobs.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.jobs.borrow().is_empty()
    }

    /// Waits until there are fewer jobs than this.
    pub async fn fewer_than(&self, limit: usize) {
        self.changed.until(|| (self.len() < limit).then_some(())).await;
    }

    /// The parts of a range that no fill is about that nothing else comes after.
    pub fn not_being_filled(&self, pages: Range<u64>) -> Vec<Range<u64>> {
        let mut left = Vec::from([pages]);
        let jobs = self.jobs.borrow();
        for job in jobs.iter() {
            left = match job.kind {
                Kind::Fill => left.into_iter().flat_map(|range| without(range, &job.pages)).collect(),
                Kind::Writeback => left,
            };
        }
        left
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// What is left of a range without another.
fn without(range: Range<u64>, taken: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let before = range.start..range.end.min(taken.start);
    let after = range.start.max(taken.end)..range.end;
    let is_apart = !overlap(&range, taken);
    let parts = if is_apart { [range, 0..0] } else { [before, after] };
    parts.into_iter().filter(|part| part.start < part.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_for_earlier_ones_that_overlap() {
        let lines = Lines::default();
        let one = lines.enter(Kind::Fill, 0..4);
        let other = lines.enter(Kind::Writeback, 4..8);
        let third = lines.enter(Kind::Writeback, 3..5);
        assert!(lines.is_first(one) && lines.is_first(other) && !lines.is_first(third));
        lines.leave(one);
        assert!(!lines.is_first(third));
        lines.leave(other);
        assert!(lines.is_first(third));
    }

    #[test]
    fn what_is_being_filled_is_not_filled_again() {
        let lines = Lines::default();
        lines.enter(Kind::Fill, 2..4);
        lines.enter(Kind::Fill, 6..8);
        lines.enter(Kind::Writeback, 0..9);
        assert_eq!(lines.not_being_filled(0..9), [0..2, 4..6, 8..9]);
        assert_eq!(lines.not_being_filled(2..4), []);
        assert_eq!(lines.not_being_filled(10..11).first(), Some(&(10..11)));
    }
}
