//! Open files that a process serves itself: the server's side of `posix_protocol::files` (ADR 11).
//!
//! A file that has been used often enough through a descriptor is *shared* with the process: the process's table gets an entry,
//! the shim finds the file's bytes in a window of its space, and may move the position. Whatever could make an answer of the shim
//! wrong ends that first: a change of the file's size, content or times by a call, the last descriptor's end, a call on the server
//! that needs the position. So the shim never knows more than the server, only sooner.
//!
//! Pipes of which the process has both ends, and counters, are *lent* to it in the same way, for writing too (ADR 13).
//!
//! * [`SharedFiles`] is the table of one process, kept by its descriptors ([`FdTable`](crate::file::FdTable)).
//! * [`SharedPosition`] is kept by the open file, and gives the position back when anybody asks.
//! * [`Readers`] is kept by a file's content, and knows in which tables it is.

mod position;
mod readers;
mod ring;
mod stores;
mod table;

pub use position::{Habit, SharedPosition};
pub use readers::Readers;
pub(crate) use ring::RingPage;
pub use table::SharedFiles;

use crate::event::EventFile;
use crate::file::{AccessMode, OpenFile, Positioning, StatusFlags};
use crate::fs::content::Content;
use crate::fs::inode::now;
use crate::fs::mount::MountFlags;
use crate::fs::{Inode, notify};
use crate::process::{Process, Server, Thread};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// What kind of file a process could serve itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A regular file, for reading.
    Regular,
    /// A regular file, for reading and for writing over what is there.
    Stored,
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
    /// A counter that a read takes all of.
    Counter,
    /// A counter that a read takes one of.
    Semaphore,
    /// Both ends of a pipe.
    Pipe,
}

impl Sharing {
    /// Whether the process sees the file's bytes.
    fn has_window(self) -> bool {
        match self {
            Self::Regular | Self::Stored => true,
            Self::Null | Self::Zero | Self::Counter | Self::Semaphore | Self::Pipe => false,
        }
    }
}

/// What a file is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// It was read.
    Read,
    /// It was written at a place that the call names.
    WrittenAt,
    /// It was written otherwise.
    Written,
}

/// Notes that a thread has used a descriptor, and shares the file with the process if it does so often.
pub fn note_use(thread: &Rc<Thread>, fd: u64, used: Used) {
    let Ok(fd) = i32::try_from(fd as u32) else { return };
    let process = &thread.process;
    // A process that borrows its space has no zone of its own in it; and what one whose calls are judged reads must be seen.
    if process.is_borrowing.get() || process.is_restricted() {
        return;
    }
    let Ok(file) = process.files.borrow().slots().get(fd) else { return };
    if used == Used::WrittenAt {
        file.habit().note_write();
    }
    if !file.habit().is_due() {
        return;
    }
    let Some(kind) = sharing_of(&file, process) else { return };
    let vm = process.vm();
    let is_new = {
        let files = process.files.borrow();
        let mut slots = files.slots_mut();
        let had = slots.shared_table(&vm) != 0;
        // What can't be shared stays with the server.
        let _ = slots.let_serve(fd, &file, kind, &vm, process.pid);
        !had && slots.shared_table(&vm) != 0
    };
    if is_new {
        process.update_local_answers();
    }
}

/// Somebody has begun to hear of what is read and written: of a file, or of all files in a directory.
pub fn watch_added(server: &Server, inode: &Inode) {
    if let Some(content) = inode.content() {
        content.readers().revoke();
        return;
    }
    // A device has no list of its readers, nor has a directory one of those of its files: all tables are looked through.
    for process in server.processes() {
        let shared = process.files.borrow().slots().shared_files();
        if let Some(shared) = shared {
            shared.end_those(notify::hears_transfers);
        }
    }
}

/// The process may no longer serve any file itself, but ask for all that it reads.
pub fn end_all(process: &Process) {
    let shared = process.files.borrow().slots().shared_files();
    if let Some(shared) = shared {
        shared.end_those(|_| true);
    }
}

/// No process may serve a file itself: what its shim would tell of times is about to mean something else.
pub fn end_everywhere(server: &Server) {
    server.processes().iter().for_each(|process| end_all(process));
}

/// What could be served in the process: nothing whose reads must be seen.
fn sharing_of(file: &Rc<OpenFile>, process: &Process) -> Option<Sharing> {
    if notify::hears_transfers(file) {
        return None;
    }
    if let Some(device) = file.ops().shared_device() {
        return Some(device);
    }
    if let Some(pipe) = file.ops().pipe() {
        // Those who watch a FIFO by its name hear of every use.
        return (file.location().is_none() && pipe.is_lendable()).then_some(Sharing::Pipe);
    }
    if let Some(counter) = file.ops().event_file().and_then(EventFile::counter) {
        return counter.sharing();
    }
    let content = file.inode().content().filter(|_| file.ops().positioning() == Positioning::Bytes)?;
    if file.habit().has_writes() && may_be_stored(file, content, process) {
        return Some(Sharing::Stored);
    }
    let is_there = content.size() > 0 && content.can_be_read_in_place();
    (is_there && file.access().can_read() && !must_note_reads(file)).then_some(Sharing::Regular)
}

/// Whether a process may write a file over without a call, as it may map it (ADR 24): nothing but the bytes and the times changes by that.
fn may_be_stored(file: &OpenFile, content: &Content, process: &Process) -> bool {
    const LOSES_SET_ID: u32 = linux::S_ISUID | linux::S_ISGID;
    let inode = file.inode();
    let is_plain = file.access() == AccessMode::ReadWrite
        && !file.status().intersects(StatusFlags::APPEND | StatusFlags::DIRECT)
        && file.flags() & (linux::O_SYNC | linux::O_DSYNC) == 0;
    let times = inode.times();
    // What is later than now, no store would change.
    let are_past = times.accessed.max(times.modified).max(times.changed) <= now();
    is_plain
        && are_past
        && inode.mode() & LOSES_SET_ID == 0
        && process.limit(linux::RLIMIT_FSIZE) == linux::RLIM64_INFINITY as u64
        && (!notes_access(file) || mount_flags(file).contains(MountFlags::RELATIVE_ACCESS_TIME))
        && !inode.filesystem().is_read_only()
        && content.can_be_stored_in_place()
}

fn mount_flags(file: &OpenFile) -> MountFlags {
    file.location().map_or(MountFlags::RELATIVE_ACCESS_TIME, |location| location.mount.flags())
}

/// Whether reads of an open file can change the access time.
fn notes_access(file: &OpenFile) -> bool {
    let is_frozen = mount_flags(file).intersects(MountFlags::NO_ACCESS_TIME | MountFlags::READ_ONLY)
        || file.inode().filesystem().is_read_only()
        || file.status().contains(StatusFlags::NO_ACCESS_TIME);
    !is_frozen
}

/// Whether one more read could change the access time (`relatime`: the first one after a change).
fn must_note_reads(file: &OpenFile) -> bool {
    let times = file.inode().times();
    let was_noted = times.accessed > times.modified && times.accessed > times.changed;
    let is_relative = mount_flags(file).contains(MountFlags::RELATIVE_ACCESS_TIME);
    notes_access(file) && !(is_relative && was_noted)
}
