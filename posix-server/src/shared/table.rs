//! The table of the files that a process serves itself.

use super::stores::StoreNotes;
use super::{RingPage, SharedPosition, Sharing};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::file::{AccessMode, OpenFile};
use crate::pipe::Pipe;
use crate::platform::{self, Backing, Change, Inherit, Memory, PAGE_SIZE, Protection};
use crate::process::Pid;
use crate::vm::{FILE_TABLE, FILE_WINDOWS, RING_PAGES, Vm};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use posix_protocol::files::{
    DESCRIPTORS, FILES, FileTable, NOTES_READS, POSITIONS_OFFSET, READABLE, STORABLE, SharedFile, TABLE_BYTES,
    WINDOW_BYTES, WINDOWS, WRITABLE, kind,
};
use zerocopy::IntoBytes;

/// What a table takes of the server's memory, about, in bytes.
const SHARED_FILES_BYTES: u64 = 3072;

/// An entry that is in use.
struct Entry {
    state: u64,
    file: Weak<OpenFile>,
    file_id: u64,
    /// Bytes of its window on its content.
    mapped: u64,
    /// Its page, if it is an end of a pipe.
    page: Option<Rc<RingPage>>,
    /// What the process tells of it, if it can write it over.
    stores: Option<StoreNotes>,
    size: u64,
}

/// The longest read of a file on a disk that is served in the process, in bytes. Page after page would be waited for; a call has all of
/// them brought in together, and costs little beside so much.
const LONGEST_SLOW_READ: u64 = 64 << 10;

/// How many pages for pipes there are: as many as bits in the number that knows which are used.
const MAX_RING_PAGES: u32 = u64::BITS;

struct Entries {
    descriptors: [u8; DESCRIPTORS],
    files: [Option<Entry>; FILES],
}

/// The files that one process serves itself.
pub struct SharedFiles {
    table: Memory,
    vm: Weak<Vm>,
    entries: RefCell<Entries>,
    /// Which pages for pipes are in use, or spoiled.
    ring_pages: Cell<u64>,
    /// Which places have had windows that could be stored to.
    were_stored: Cell<u64>,
    /// The next state, and epoch. Even; the odd one after it ends an epoch.
    next: Cell<u64>,
    _charge: Charge,
}

impl SharedFiles {
    /// Makes a table and maps it. `ENOMEM`; `EBUSY` if another process has the zone of the space.
    pub(crate) fn new(vm: &Rc<Vm>, owner: Pid) -> Result<Rc<Self>> {
        if !vm.take_shared_zone(owner) {
            return Err(Errno::EBUSY);
        }
        let charge = Charge::new(Budget::Open, SHARED_FILES_BYTES)?;
        let table = Memory::create_for(vm.account(), TABLE_BYTES)?;
        let page = |offset, protection| Change::Map {
            address: FILE_TABLE + offset,
            length: PAGE_SIZE,
            backing: Backing::Memory(&table, offset),
            sharing: platform::Sharing::Shared,
            protection,
            inherit: Inherit::Nothing,
        };
        let writable = Protection::READ | Protection::WRITE;
        vm.space().commit(&[page(0, Protection::READ), page(POSITIONS_OFFSET, writable)])?;
        let entries = Entries { descriptors: [0; DESCRIPTORS], files: [const { None }; FILES] };
        Ok(Rc::new(Self {
            table,
            vm: Rc::downgrade(vm),
            entries: RefCell::new(entries),
            ring_pages: Cell::new(0),
            were_stored: Cell::new(0),
            next: Cell::new(2),
            _charge: charge,
        }))
    }

    /// Whether it belongs to a space.
    pub(crate) fn is_of(&self, vm: &Rc<Vm>) -> bool {
        core::ptr::eq(self.vm.as_ptr(), Rc::as_ptr(vm))
    }

    /// Whether its space is still there.
    pub(crate) fn has_space(&self) -> bool {
        self.vm.strong_count() > 0
    }

    /// Whether an entry is still what it was.
    pub(super) fn is_state(&self, index: usize, state: u64) -> bool {
        let entries = self.entries.borrow();
        entries.files.get(index).and_then(Option::as_ref).is_some_and(|entry| entry.state == state)
    }

    fn next_number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 2);
        number
    }

    /// Shares a file through a descriptor. `EBADF` if the table does not know such descriptors, `EMFILE` if it is full; `ENOMEM`.
    pub(crate) fn share(self: &Rc<Self>, fd: usize, file: &Rc<OpenFile>, kind: Sharing) -> Result<()> {
        if fd >= DESCRIPTORS {
            return Err(Errno::EBADF);
        }
        let index = match self.place_of(file.id()) {
            Some(index) if kind == Sharing::Stored && !self.is_stored(index) => {
                self.end(index);
                self.add(file, kind, None)?
            }
            Some(index) => index,
            None => self.add(file, kind, None)?,
        };
        match kind {
            Sharing::Regular | Sharing::Stored => self.give_position(index, file),
            Sharing::Counter | Sharing::Semaphore => self.lend_count(index, file),
            Sharing::Null | Sharing::Zero | Sharing::Pipe => {}
        }
        self.mark(fd, index);
        Ok(())
    }

    fn mark(&self, fd: usize, index: usize) {
        let mark = index as u8 + 1;
        if let Some(descriptor) = self.entries.borrow_mut().descriptors.get_mut(fd) {
            *descriptor = mark;
        }
        self.table.write(fd as u64, &[mark]);
    }

    /// Lends a pipe's first slot through all these descriptors of its ends. `EBADF` unless both ends are among them; `EMFILE` if
    /// the table is full; `ENOMEM`.
    pub(crate) fn share_pipe(self: &Rc<Self>, pipe: &Pipe, ends: &[(usize, Rc<OpenFile>)]) -> Result<()> {
        let has = |allows: fn(AccessMode) -> bool| ends.iter().any(|(_, file)| allows(file.access()));
        if !has(AccessMode::can_read) || !has(AccessMode::can_write) {
            return Err(Errno::EBADF);
        }
        let page = self.page_for(ends)?;
        let indices = self.show_ends(ends, &page).inspect_err(|_| self.free_page(&page))?;
        let Some(place) = indices.first().copied() else { return Ok(()) };
        let epoch = self.next_number();
        if pipe.lend(&page, |word| SharedPosition::put(&self.table, place, word, epoch)) {
            indices.iter().for_each(|index| self.write_epoch(*index, place, epoch));
        }
        Ok(())
    }

    /// Gives the ends of a pipe entries, and says in which places they are.
    fn show_ends(self: &Rc<Self>, ends: &[(usize, Rc<OpenFile>)], page: &Rc<RingPage>) -> Result<Vec<usize>> {
        let mut indices = Vec::new();
        for (fd, file) in ends {
            let index = match self.place_of(file.id()) {
                Some(index) => index,
                None => self.add(file, Sharing::Pipe, Some(page.clone()))?,
            };
            self.mark(*fd, index);
            indices.push(index);
        }
        Ok(indices)
    }

    /// The page that a pipe has already, or a new one.
    fn page_for(&self, ends: &[(usize, Rc<OpenFile>)]) -> Result<Rc<RingPage>> {
        let indices = || ends.iter().filter_map(|(_, file)| self.place_of(file.id()));
        let page_at = |index: usize| self.entries.borrow().files.get(index)?.as_ref()?.page.clone();
        match indices().find_map(page_at) {
            Some(page) if !page.is_spoiled() => return Ok(page),
            Some(_) => indices().for_each(|index| self.end(index)),
            None => {}
        }
        self.new_page()
    }

    fn new_page(&self) -> Result<Rc<RingPage>> {
        let vm = self.vm.upgrade().ok_or(Errno::ESRCH)?;
        let number = self.ring_pages.get().trailing_ones();
        if number >= MAX_RING_PAGES {
            return Err(Errno::EMFILE);
        }
        let memory = Memory::create_for(vm.account(), PAGE_SIZE)?;
        let address = RING_PAGES + u64::from(number) * PAGE_SIZE;
        vm.space().commit(&[Change::Map {
            address,
            length: PAGE_SIZE,
            backing: Backing::Memory(&memory, 0),
            sharing: platform::Sharing::Shared,
            protection: Protection::READ | Protection::WRITE,
            inherit: Inherit::Nothing,
        }])?;
        self.ring_pages.set(self.ring_pages.get() | 1 << number);
        Ok(Rc::new(RingPage::new(memory, address)))
    }

    /// Unmaps a page that no entry has any more. One that is spoiled is never used again.
    fn free_page(&self, page: &Rc<RingPage>) {
        let is_used = |entry: &Entry| entry.page.as_ref().is_some_and(|other| Rc::ptr_eq(other, page));
        if self.entries.borrow().files.iter().flatten().any(is_used) {
            return;
        }
        let address = page.address();
        let unmap = Change::Unmap { address, length: PAGE_SIZE };
        let is_gone = self.vm.upgrade().is_none_or(|vm| vm.space().commit(&[unmap]).is_ok());
        if is_gone && !page.is_spoiled() {
            let number = (address - RING_PAGES) / PAGE_SIZE;
            self.ring_pages.set(self.ring_pages.get() & !(1 << number));
        }
    }

    fn place_of(&self, file_id: u64) -> Option<usize> {
        let entries = self.entries.borrow();
        entries.files.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.file_id == file_id))
    }

    /// A place that is not used. Those that can have a window are for files that need one. One through whose last window some thread may
    /// still be storing is used.
    fn free_place(&self, sharing: Sharing) -> Option<usize> {
        let places = if sharing.has_window() { 0..WINDOWS } else { WINDOWS..FILES };
        let entries = self.entries.borrow();
        let is_quiet = |index: usize| {
            self.were_stored.get() & 1 << index == 0 || !StoreNotes::are_stores_under_way(&self.table, index)
        };
        places.into_iter().find(|index| entries.files.get(*index).is_some_and(Option::is_none) && is_quiet(*index))
    }

    /// Whether the process can write a file over.
    fn is_stored(&self, index: usize) -> bool {
        let entries = self.entries.borrow();
        entries.files.get(index).and_then(Option::as_ref).is_some_and(|entry| entry.stores.is_some())
    }

    /// Whether an entry says this of its file's size.
    pub(super) fn shows_size(&self, index: usize, size: u64) -> bool {
        let entries = self.entries.borrow();
        entries.files.get(index).and_then(Option::as_ref).is_some_and(|entry| entry.size == size)
    }

    /// Does something with what the process tells of a file that it writes over.
    pub(super) fn with_stores(&self, index: usize, act: impl FnOnce(&StoreNotes)) {
        let entries = self.entries.borrow();
        if let Some(notes) = entries.files.get(index).and_then(Option::as_ref).and_then(|entry| entry.stores.as_ref()) {
            act(notes);
        }
    }

    fn add(self: &Rc<Self>, file: &Rc<OpenFile>, sharing: Sharing, page: Option<Rc<RingPage>>) -> Result<usize> {
        let index = self.free_place(sharing).ok_or(Errno::EMFILE)?;
        let window = page.as_ref().map_or(FILE_WINDOWS + index as u64 * WINDOW_BYTES, |page| page.address());
        if let Some(content) = file.inode().content() {
            content.readers().make_way(sharing);
        }
        let stores = self.begin_stores(file, sharing, index)?;
        let mapped = if sharing.has_window() { self.map(file, window, sharing)? } else { 0 };
        let size = file.inode().size();
        let is_slow = file.inode().content().is_some_and(|content| content.paged_file().is_some());
        let state = self.next_number();
        let shown = SharedFile {
            state,
            kind: match sharing {
                Sharing::Regular | Sharing::Stored => kind::REGULAR,
                Sharing::Null => kind::NULL,
                Sharing::Zero => kind::ZERO,
                Sharing::Counter => kind::COUNTER,
                Sharing::Semaphore => kind::SEMAPHORE,
                Sharing::Pipe => kind::PIPE,
            },
            access: shown_access(file, stores.is_some()),
            window,
            mapped: mapped.min(size),
            size,
            place: index as u64,
            longest: if is_slow { LONGEST_SLOW_READ } else { u64::MAX },
            ..SharedFile::default()
        };
        let entry = Entry { state, file: Rc::downgrade(file), file_id: file.id(), mapped, page, stores, size };
        if let Some(place) = self.entries.borrow_mut().files.get_mut(index) {
            *place = Some(entry);
        }
        // The state last: until then the entry is not in use.
        self.table
            .write(offset_of_file(index) + size_of::<u64>() as u64, shown.as_bytes().get(8..).unwrap_or_default());
        self.write_state(index, state);
        if let Some(content) = file.inode().content() {
            content.readers().add(self, index, state, sharing);
        }
        Ok(index)
    }

    /// Has the process tell of a file, if it is to write it over. `ENOMEM`.
    fn begin_stores(&self, file: &OpenFile, sharing: Sharing, index: usize) -> Result<Option<StoreNotes>> {
        if sharing != Sharing::Stored {
            return Ok(None);
        }
        self.were_stored.set(self.were_stored.get() | 1 << index);
        StoreNotes::begin(&self.table, index, file.inode()).ok_or(Errno::ENOMEM).map(Some)
    }

    /// Maps the beginning of a file; returns how many bytes.
    fn map(&self, file: &OpenFile, window: u64, sharing: Sharing) -> Result<u64> {
        let content = file.inode().content().ok_or(Errno::EINVAL)?;
        let memory = content.memory()?;
        let length = memory.len_bytes().min(WINDOW_BYTES);
        let change = Change::Map {
            address: window,
            length,
            backing: Backing::Memory(&memory, 0),
            sharing: platform::Sharing::Shared,
            protection: if sharing == Sharing::Stored {
                Protection::READ | Protection::WRITE
            } else {
                Protection::READ
            },
            inherit: Inherit::Nothing,
        };
        self.vm.upgrade().ok_or(Errno::ESRCH)?.space().commit(&[change])?;
        Ok(length)
    }

    /// Lets the shim move the file's position, if that is where the window is.
    fn give_position(&self, index: usize, file: &OpenFile) {
        let epoch = self.next_number();
        let position = file.position();
        if let Some(shared) = SharedPosition::put(&self.table, index, position, epoch) {
            file.share_position(shared);
            self.write_epoch(index, index, epoch);
        }
    }

    /// Lets the shim change a counter.
    fn lend_count(&self, index: usize, file: &OpenFile) {
        let epoch = self.next_number();
        let counter = file.ops().event_file().and_then(EventFile::counter);
        if counter.is_some_and(|counter| counter.lend(|count| SharedPosition::put(&self.table, index, count, epoch))) {
            self.write_epoch(index, index, epoch);
        }
    }

    /// Shows the epoch of a position, and where that is. The shim can't change the position with one that is not its own.
    fn write_epoch(&self, index: usize, place: usize, epoch: u64) {
        let at = offset_of_file(index);
        self.table.write(at + offset_of!(SharedFile, epoch) as u64, &[0; size_of::<u64>()]);
        self.table.write(at + offset_of!(SharedFile, place) as u64, (place as u64).as_bytes());
        self.table.write(at + offset_of!(SharedFile, epoch) as u64, epoch.as_bytes());
    }

    fn write_state(&self, index: usize, state: u64) {
        self.table.write(offset_of_file(index) + offset_of!(SharedFile, state) as u64, state.as_bytes());
    }

    /// A descriptor names something else from now on, or nothing. The last one of a file ends its sharing.
    pub(crate) fn forget(&self, fd: usize) {
        let ended = {
            let mut entries = self.entries.borrow_mut();
            let Some(mark) = entries.descriptors.get_mut(fd).map(core::mem::take).filter(|mark| *mark != 0) else {
                return;
            };
            self.table.write(fd as u64, &[0]);
            (!entries.descriptors.contains(&mark)).then_some(usize::from(mark) - 1)
        };
        if let Some(index) = ended {
            self.end(index);
        }
    }

    /// Ends an entry, if it is still in this state.
    pub(super) fn revoke(&self, index: usize, state: u64) {
        if self.is_state(index, state) {
            self.end(index);
        }
    }

    /// Ends the entries of files of which something is true.
    pub(super) fn end_those(&self, is_meant: impl Fn(&OpenFile) -> bool) {
        for index in 0..FILES {
            let file = {
                let entries = self.entries.borrow();
                entries.files.get(index).and_then(Option::as_ref).and_then(|entry| entry.file.upgrade())
            };
            if file.is_some_and(|file| is_meant(&file)) {
                self.end(index);
            }
        }
    }

    /// Ends an entry: the shim sees that first; then the position goes back, and the window away.
    fn end(&self, index: usize) {
        self.write_state(index, 0);
        let entry = {
            let mut entries = self.entries.borrow_mut();
            let mark = index as u8 + 1;
            for (fd, descriptor) in entries.descriptors.iter_mut().enumerate() {
                if *descriptor == mark {
                    *descriptor = 0;
                    self.table.write(fd as u64, &[0]);
                }
            }
            entries.files.get_mut(index).and_then(Option::take)
        };
        let Some(entry) = entry else { return };
        let file = entry.file.upgrade();
        if let Some(file) = &file {
            file.habit().note_taken();
            file.take_position();
            file.ops().take_back();
        }
        if let Some(page) = &entry.page {
            if file.is_none() {
                // Nobody can tell whether it is being written.
                page.spoil();
            }
            self.free_page(page);
        }
        let is_gone = self.unmap(index, entry.mapped);
        if let Some(stores) = &entry.stores {
            // Nothing can be stored any more, so this is the last time that there is to tell.
            stores.take_over();
        }
        if !is_gone {
            self.keep(index, entry);
        }
    }

    /// Takes a window away. False: it is still there.
    fn unmap(&self, index: usize, mapped: u64) -> bool {
        let Some(vm) = self.vm.upgrade().filter(|_| mapped > 0) else { return true };
        let address = FILE_WINDOWS + index as u64 * WINDOW_BYTES;
        vm.space().commit(&[Change::Unmap { address, length: mapped }]).is_ok()
    }

    /// Keeps the place of a window that can't be taken away: it shows what the process could have mapped, and nothing else ever.
    fn keep(&self, index: usize, entry: Entry) {
        if let Some(place) = self.entries.borrow_mut().files.get_mut(index) {
            *place = Some(Entry { state: 0, file_id: 0, file: Weak::new(), ..entry });
        }
    }
}

impl Drop for SharedFiles {
    /// The space has gone, and every thread in it.
    fn drop(&mut self) {
        for entry in self.entries.get_mut().files.iter().flatten() {
            if let Some(stores) = &entry.stores {
                stores.take_over();
            }
        }
    }
}

/// What an entry says of what can be done with a file.
fn shown_access(file: &OpenFile, is_stored: bool) -> u32 {
    let access = file.access();
    let when = |is_so: bool, flag: u32| if is_so { flag } else { 0 };
    when(access.can_read(), READABLE)
        | when(access.can_write(), WRITABLE)
        | when(is_stored, STORABLE)
        | when(is_stored && super::notes_access(file), NOTES_READS)
}

fn offset_of_file(index: usize) -> u64 {
    (offset_of!(FileTable, files) + index * size_of::<SharedFile>()) as u64
}
