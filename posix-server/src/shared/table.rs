//! The table of the files that a process serves itself.

use super::{SharedPosition, Sharing};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::platform::{self, Backing, Change, Inherit, Memory, PAGE_SIZE, Protection};
use crate::process::Pid;
use crate::vm::{FILE_TABLE, FILE_WINDOWS, Vm};
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use posix_protocol::files::{
    DESCRIPTORS, FILES, FileTable, POSITIONS_OFFSET, READABLE, SharedFile, TABLE_BYTES, WINDOW_BYTES, WRITABLE, kind,
};
use zerocopy::IntoBytes;

/// What a table takes of the server's memory, about, in bytes.
const SHARED_FILES_BYTES: u64 = 1024;

/// An entry that is in use.
struct Entry {
    state: u64,
    file: Weak<OpenFile>,
    file_id: u64,
    /// Bytes of its window.
    mapped: u64,
}

struct Entries {
    descriptors: [u8; DESCRIPTORS],
    files: [Option<Entry>; FILES],
}

/// The files that one process serves itself.
pub struct SharedFiles {
    table: Memory,
    vm: Weak<Vm>,
    entries: RefCell<Entries>,
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
            Some(index) => index,
            None => self.add(file, kind)?,
        };
        if kind == Sharing::Regular {
            self.give_position(index, file);
        }
        let mark = index as u8 + 1;
        if let Some(descriptor) = self.entries.borrow_mut().descriptors.get_mut(fd) {
            *descriptor = mark;
        }
        self.table.write(fd as u64, &[mark]);
        Ok(())
    }

    fn place_of(&self, file_id: u64) -> Option<usize> {
        let entries = self.entries.borrow();
        entries.files.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.file_id == file_id))
    }

    fn add(self: &Rc<Self>, file: &Rc<OpenFile>, sharing: Sharing) -> Result<usize> {
        let free = self.entries.borrow().files.iter().position(Option::is_none);
        let index = free.ok_or(Errno::EMFILE)?;
        let window = FILE_WINDOWS + index as u64 * WINDOW_BYTES;
        let mapped = if sharing == Sharing::Regular { self.map(file, window)? } else { 0 };
        let size = file.inode().size();
        let access = file.access();
        let state = self.next_number();
        let shown = SharedFile {
            state,
            kind: match sharing {
                Sharing::Regular => kind::REGULAR,
                Sharing::Null => kind::NULL,
                Sharing::Zero => kind::ZERO,
            },
            access: if access.can_read() { READABLE } else { 0 } | if access.can_write() { WRITABLE } else { 0 },
            window,
            mapped: mapped.min(size),
            size,
            ..SharedFile::default()
        };
        let entry = Entry { state, file: Rc::downgrade(file), file_id: file.id(), mapped };
        if let Some(place) = self.entries.borrow_mut().files.get_mut(index) {
            *place = Some(entry);
        }
        // The state last: until then the entry is not in use.
        self.table
            .write(offset_of_file(index) + size_of::<u64>() as u64, shown.as_bytes().get(8..).unwrap_or_default());
        self.write_state(index, state);
        if let Some(content) = file.inode().content() {
            content.readers().add(self, index, state);
        }
        Ok(index)
    }

    /// Maps the beginning of a file; returns how many bytes.
    fn map(&self, file: &OpenFile, window: u64) -> Result<u64> {
        let content = file.inode().content().ok_or(Errno::EINVAL)?;
        let memory = content.memory()?;
        let length = memory.len_bytes().min(WINDOW_BYTES);
        let change = Change::Map {
            address: window,
            length,
            backing: Backing::Memory(&memory, 0),
            sharing: platform::Sharing::Shared,
            protection: Protection::READ,
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
            let field = offset_of_file(index) + offset_of!(SharedFile, epoch) as u64;
            self.table.write(field, epoch.as_bytes());
        }
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
        if let Some(file) = entry.file.upgrade() {
            file.habit().note_taken();
            file.take_position();
        }
        if let Some(vm) = self.vm.upgrade().filter(|_| entry.mapped > 0) {
            let address = FILE_WINDOWS + index as u64 * WINDOW_BYTES;
            // A window that stays shows what the process could have read before.
            let _ = vm.space().commit(&[Change::Unmap { address, length: entry.mapped }]);
        }
    }
}

fn offset_of_file(index: usize) -> u64 {
    (offset_of!(FileTable, files) + index * size_of::<SharedFile>()) as u64
}
