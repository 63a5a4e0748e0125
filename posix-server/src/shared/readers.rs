//! In which tables a file is.
//!
//! Any number of processes can read it themselves, or one through one open file can read it and write it over: of what that does, the
//! others would not know when a read is to be noted in the access time.

use super::{SharedFiles, Sharing};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// An entry of a table, as long as its state is this.
struct Reader {
    table: Weak<SharedFiles>,
    index: usize,
    state: u64,
}

/// The entries of all tables that show one file.
#[derive(Default)]
pub struct Readers {
    entries: RefCell<Vec<Reader>>,
    /// There is one entry, and the file is written through it.
    is_stored: Cell<bool>,
}

impl Readers {
    /// Notes an entry; those that are gone are forgotten when there is no room. Each is paid for with its table.
    pub(super) fn add(&self, table: &Rc<SharedFiles>, index: usize, state: u64, sharing: Sharing) {
        self.is_stored.set(sharing == Sharing::Stored);
        let mut readers = self.entries.borrow_mut();
        if readers.len() == readers.capacity() {
            readers.retain(|reader| {
                reader.table.upgrade().is_some_and(|table| table.is_state(reader.index, reader.state))
            });
        }
        readers.push(Reader { table: Rc::downgrade(table), index, state });
    }

    /// Ends all of them, before the file changes.
    pub fn revoke(&self) {
        self.is_stored.set(false);
        if self.entries.borrow().is_empty() {
            return;
        }
        let readers = self.entries.take();
        for Reader { table, index, state } in readers {
            if let Some(table) = table.upgrade() {
                table.revoke(index, state);
            }
        }
    }

    /// Ends what can't be beside another entry: who is to write the file has it alone.
    pub(super) fn make_way(&self, sharing: Sharing) {
        if self.is_stored.get() || sharing == Sharing::Stored {
            self.revoke();
        }
    }

    /// The entry through which the file is written.
    fn stored(&self) -> Option<(Rc<SharedFiles>, usize)> {
        if !self.is_stored.get() {
            return None;
        }
        let entries = self.entries.borrow();
        let found = entries.iter().find_map(|reader| {
            let table = reader.table.upgrade().filter(|table| table.is_state(reader.index, reader.state))?;
            Some((table, reader.index))
        });
        if found.is_none() {
            self.is_stored.set(false);
        }
        found
    }

    /// Has the inode know what times the process tells that writes the file itself, if one does.
    pub fn take_over_times(&self) {
        if let Some((table, index)) = self.stored() {
            table.with_stores(index, |notes| notes.take_over());
        }
    }

    /// The server has written to the file, which has this size now.
    pub fn note_written(&self, time: i64, size: u64) {
        match self.stored() {
            Some((table, index)) if table.shows_size(index, size) => {
                table.with_stores(index, |notes| {
                    notes.note_written(time);
                });
            }
            Some(_) | None => self.revoke(),
        }
    }

    /// The server has noted a read of the file.
    pub fn note_read(&self, time: i64) {
        if let Some((table, index)) = self.stored() {
            table.with_stores(index, |notes| {
                notes.note_read(time);
            });
        }
    }
}
