//! Which operations have been applied, and which of them are durable.
//!
//! Operations are applied one after the other, each within a transaction of the journal. When a transaction closes, all that was applied
//! before is in it or in an earlier one; that is written to the client's notes *before* anything of it is durable. A successor
//! learns from the journal which transaction was the last, and from the notes what that means.

use crate::platform::Notes;
use crate::signal::Signal;
use alloc::collections::VecDeque;
use core::cell::{Cell, OnceCell, RefCell};
use driver_protocol::files::notes::{RECORD_BYTES, RECORDS, Record};

/// Where the notes say that they are in use.
const IN_USE_OFFSET: u64 = 0;
/// What they say then.
const IN_USE: [u8; 8] = *b"in use\0\0";

/// What the notes say when a file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nobody has used them.
    Fresh,
    /// A server that has died.
    Left,
}

/// The count of operations.
#[derive(Debug)]
pub struct Ledger<N> {
    notes: N,
    before: Before,
    applied: Cell<u64>,
    durable: Cell<u64>,
    /// Transactions that are closed and not known to be durable, and the last operation in each.
    closed: RefCell<VecDeque<Record>>,
    /// The last transaction when the file system was mounted.
    first: OnceCell<u64>,
    /// The notes say nothing about the last transaction though they are in use.
    is_lost: Cell<bool>,
    /// Raised when more has been applied, or has become durable.
    pub changed: Signal,
}

impl<N: Notes> Ledger<N> {
    /// The count that these notes keep.
    pub fn new(notes: N) -> Self {
        let mut mark = [0; IN_USE.len()];
        notes.read(IN_USE_OFFSET, &mut mark);
        let before = if mark == IN_USE { Before::Left } else { Before::Fresh };
        Self {
            notes,
            before,
            applied: Cell::new(0),
            durable: Cell::new(0),
            closed: RefCell::default(),
            first: OnceCell::new(),
            is_lost: Cell::new(false),
            changed: Signal::default(),
        }
    }

    /// Whether the file system was in use before.
    pub fn before(&self) -> Before {
        self.before
    }

    /// The notes.
    pub fn notes(&self) -> &N {
        &self.notes
    }

    /// The file system is as this transaction left it.
    pub fn recovered(&self, transaction: u64) {
        let sequence = match self.before {
            Before::Fresh => 0,
            Before::Left => self.recorded(transaction).unwrap_or_else(|| {
                self.is_lost.set(true);
                0
            }),
        };
        self.applied.set(sequence);
        self.durable.set(sequence);
        // A second mount finds the same, also if nothing happens until then.
        self.record(Record { transaction, sequence });
        self.notes.write(IN_USE_OFFSET, &IN_USE);
        let _ = self.first.set(transaction);
    }

    /// Whether nobody can say any more which operations are durable.
    pub fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// The last operation in a transaction, or in the last one before it: some numbers are not used. What is noted of later ones never
    /// came to be, and is forgotten.
    fn recorded(&self, transaction: u64) -> Option<u64> {
        let mut last: Option<Record> = None;
        for slot in 0..RECORDS {
            let mut bytes = [0; RECORD_BYTES];
            self.notes.read(Record::offset_bytes(slot), &mut bytes);
            match Record::decode(&bytes) {
                Some(record) if record.transaction > transaction => {
                    self.notes.write(Record::offset_bytes(slot), &[0; RECORD_BYTES]);
                }
                Some(record) if last.is_none_or(|last| last.transaction < record.transaction) => last = Some(record),
                Some(_) | None => {}
            }
        }
        last.map(|record| record.sequence)
    }

    fn record(&self, record: Record) {
        self.notes.write(Record::offset_bytes(record.transaction), &record.encode());
    }

    /// A transaction closes: all that has been applied is in it or in an earlier one.
    pub fn closing(&self, transaction: u64) {
        let record = Record { transaction, sequence: self.applied.get() };
        self.record(record);
        self.closed.borrow_mut().push_back(record);
    }

    /// A transaction is durable, with all before it.
    pub fn committed(&self, transaction: u64) {
        let mut closed = self.closed.borrow_mut();
        while let Some(record) = closed.pop_front_if(|record| record.transaction <= transaction) {
            self.durable.set(self.durable.get().max(record.sequence));
        }
        drop(closed);
        self.changed.raise();
    }

    /// All that had been applied at some moment is durable, whatever transaction it was in.
    pub fn settled(&self, sequence: u64) {
        self.durable.set(self.durable.get().max(sequence));
        self.changed.raise();
    }

    /// An operation has been applied.
    pub fn apply(&self, sequence: u64) {
        self.applied.set(sequence);
        self.changed.raise();
    }

    /// The last operation that has been applied.
    pub fn applied(&self) -> u64 {
        self.applied.get()
    }

    /// The last operation that is durable.
    pub fn durable(&self) -> u64 {
        self.durable.get()
    }

    /// Nobody needs the notes any more.
    pub fn finish(&self) {
        self.notes.write(IN_USE_OFFSET, &[0; IN_USE.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::SimulatedNotes;

    #[test]
    fn a_successor_learns_what_the_last_transaction_had() {
        let notes = SimulatedNotes::new(0);
        let ledger = Ledger::new(notes.clone());
        ledger.recovered(10);
        ledger.apply(1);
        ledger.apply(2);
        ledger.closing(11);
        ledger.apply(3);
        ledger.closing(12);
        ledger.committed(11);
        assert_eq!((ledger.applied(), ledger.durable()), (3, 2));
        // 13 is a number that nobody used.
        for (last, sequence) in [(13, 3), (12, 3), (11, 2), (10, 0), (12, 0)] {
            let successor = Ledger::new(notes.clone());
            assert_eq!(successor.before(), Before::Left);
            successor.recovered(last);
            assert_eq!((successor.durable(), successor.is_lost()), (sequence, false));
        }
        let successor = Ledger::new(notes.clone());
        successor.recovered(9);
        assert!(successor.is_lost());
        ledger.finish();
        assert_eq!(Ledger::new(notes).before(), Before::Fresh);
    }
}
