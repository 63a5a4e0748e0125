//! In which tables a file is.

use super::SharedFiles;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;

/// An entry of a table, as long as its state is this.
struct Reader {
    table: Weak<SharedFiles>,
    index: usize,
    state: u64,
}

/// The entries of all tables that show one file.
#[derive(Default)]
pub struct Readers(RefCell<Vec<Reader>>);

impl Readers {
    /// Notes an entry; those that are gone are forgotten when there is no room. Each is paid for with its table.
    pub(super) fn add(&self, table: &Rc<SharedFiles>, index: usize, state: u64) {
        let mut readers = self.0.borrow_mut();
        if readers.len() == readers.capacity() {
            readers.retain(|reader| {
                reader.table.upgrade().is_some_and(|table| table.is_state(reader.index, reader.state))
            });
        }
        readers.push(Reader { table: Rc::downgrade(table), index, state });
    }

    /// Ends all of them, before the file changes.
    pub fn revoke(&self) {
        if self.0.borrow().is_empty() {
            return;
        }
        let readers = self.0.take();
        for Reader { table, index, state } in readers {
            if let Some(table) = table.upgrade() {
                table.revoke(index, state);
            }
        }
    }
}
