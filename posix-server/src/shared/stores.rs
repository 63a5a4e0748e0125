//! Files that a process writes over itself, and what it tells of that.

use crate::fs::Inode;
use crate::fs::content::WritableMapping;
use crate::platform::Memory;
use alloc::rc::Rc;
use core::mem::offset_of;
use posix_protocol::files::{STORES_OFFSET, Stores};
use zerocopy::{FromZeros, IntoBytes};

/// The notes of a process on a file that it has a writable window on.
pub(super) struct StoreNotes {
    table: Memory,
    offset: u64,
    inode: Rc<Inode>,
    /// As long as it lives, somebody can store without a call.
    _mapping: WritableMapping,
}

fn offset_of_place(place: usize) -> u64 {
    STORES_OFFSET + (place * size_of::<Stores>()) as u64
}

fn read(table: &Memory, offset: u64) -> Stores {
    let mut stores = Stores::new_zeroed();
    table.read(offset, stores.as_mut_bytes());
    stores
}

fn unix_ns(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}

impl StoreNotes {
    /// Begins them, with the times that the file has. `None` if they can't be written, or if it has no content.
    pub(super) fn begin(table: &Memory, place: usize, inode: &Rc<Inode>) -> Option<Self> {
        let mapping = inode.content()?.begin_writable_mapping();
        let notes =
            Self { table: table.clone(), offset: offset_of_place(place), inode: inode.clone(), _mapping: mapping };
        let times = inode.times();
        let is_written = notes.note_written(times.modified.max(times.changed)) && notes.note_read(times.accessed);
        is_written.then_some(notes)
    }

    /// Whether threads may still be storing through the window that a place had.
    pub(super) fn are_stores_under_way(table: &Memory, place: usize) -> bool {
        read(table, offset_of_place(place)).under_way != 0
    }

    /// The file has the times that the process tells.
    pub(super) fn take_over(&self) {
        let Stores { written_ns, read_ns, .. } = read(&self.table, self.offset);
        self.inode.note_own_use(written_ns, read_ns);
    }

    /// The server has changed the file: what is read next in the process is to be noted.
    pub(super) fn note_written(&self, time: i64) -> bool {
        self.write(offset_of!(Stores, written_ns), unix_ns(time))
    }

    /// The server has noted a read.
    pub(super) fn note_read(&self, time: i64) -> bool {
        self.write(offset_of!(Stores, read_ns), unix_ns(time))
    }

    fn write(&self, field: usize, word: u64) -> bool {
        self.table.write(self.offset + field as u64, word.as_bytes()) == size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::content::Content;
    use crate::fs::{Body, FileSystem, TMPFS};
    use crate::platform;
    use posix_protocol::files::TABLE_BYTES;

    fn file() -> Rc<Inode> {
        platform::advance_ns(1000);
        Inode::new(&FileSystem::new(&TMPFS), 0o600, 0, 0, Body::Regular(Content::empty())).unwrap()
    }

    fn tell(table: &Memory, place: usize, field: usize, word: u64) {
        table.write(offset_of_place(place) + field as u64, &word.to_le_bytes());
    }

    #[test]
    fn a_process_tells_when_it_wrote_and_read_but_nothing_of_the_future() {
        let (table, inode) = (Memory::create(TABLE_BYTES).unwrap(), file());
        let before = inode.times();
        let notes = StoreNotes::begin(&table, 3, &inode).unwrap();
        notes.take_over();
        assert_eq!(inode.times(), before, "nothing was told yet");
        platform::advance_ns(1000);
        tell(&table, 3, offset_of!(Stores, written_ns), unix_ns(before.modified + 10));
        notes.take_over();
        let written = inode.times();
        assert_eq!((written.modified, written.changed), (before.modified + 10, before.modified + 10));
        assert_eq!(written.accessed, before.accessed);
        tell(&table, 3, offset_of!(Stores, read_ns), u64::MAX);
        tell(&table, 3, offset_of!(Stores, written_ns), 0);
        notes.take_over();
        let read = inode.times();
        assert_eq!((read.accessed, read.modified), (crate::fs::inode::now(), written.modified));
    }

    #[test]
    fn a_place_is_busy_as_long_as_somebody_says_that_he_stores() {
        let table = Memory::create(TABLE_BYTES).unwrap();
        assert!(!StoreNotes::are_stores_under_way(&table, 11));
        tell(&table, 11, offset_of!(Stores, under_way), 1);
        assert!(StoreNotes::are_stores_under_way(&table, 11) && !StoreNotes::are_stores_under_way(&table, 10));
    }
}
