//! Calls on descriptors: opening, closing, duplicating, positions, flags, pipes, listing directories.

use super::blocking::{file, usable_file};
use super::process::unshare_files;
use super::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, OnExec, OpenFile, Positioning, StatusFlags};
use crate::fs::body::{Directory, Entry, FIRST_ENTRY, Listing};
use crate::fs::content::{Content, Sought};
use crate::fs::diskfs::DiskFile;
use crate::fs::{Inode, Location, notify};
use crate::pipe::{Pipe, PipeEnd};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_close, |thread, args| Outcome::Return(close(thread, args))),
    SystemCall::new(linux::__NR_close_range, |thread, args| Outcome::Return(close_range(thread, args)))
        .with_flags("CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC")
        .partly("CLOSE_RANGE_UNSHARE gives descriptors of its own to the process, not to one of its threads"),
    SystemCall::new(linux::__NR_dup, |thread, args| Outcome::Return(dup(thread, args))),
    SystemCall::new(linux::__NR_dup2, |thread, args| Outcome::Return(dup2(thread, args))),
    SystemCall::new(linux::__NR_dup3, |thread, args| Outcome::Return(dup3(thread, args))),
    SystemCall::new(linux::__NR_lseek, lseek),
    SystemCall::new(linux::__NR_pipe, |thread, args| Outcome::Return(pipe(thread, args[0], 0))),
    SystemCall::new(linux::__NR_pipe2, |thread, args| Outcome::Return(pipe(thread, args[0], args[1] as u32))),
    SystemCall::new(linux::__NR_getdents64, |thread, args| {
        Outcome::Return(getdents(thread, args, Layout::TypeBeforeName))
    }),
    SystemCall::new(linux::__NR_getdents, |thread, args| Outcome::Return(getdents(thread, args, Layout::TypeAtEnd))),
];

/// `close_range`: first give the process a table of its own.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
/// `close_range`: don't close, but mark to be closed by `execve`.
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

/// The largest number of descriptors that a process can have open now.
pub(super) fn descriptor_limit(thread: &Rc<Thread>) -> u64 {
    thread.process.limit(linux::RLIMIT_NOFILE)
}

fn on_exec(flags: u32) -> OnExec {
    if flags & linux::O_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep }
}

/// Gives a file the lowest free descriptor.
pub(super) fn install(thread: &Rc<Thread>, file: Rc<OpenFile>, flags: u32) -> Result<u64> {
    let limit = descriptor_limit(thread);
    let fd = thread.process.files.borrow().slots_mut().insert(file, 0, on_exec(flags), limit)?;
    Ok(fd as u64)
}

/// Closes a file that has left a table: record locks of the process on it go.
fn release(process: &crate::process::Process, file: Rc<OpenFile>) {
    file.release_record_locks(process.pid);
    drop(file);
}

fn close(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = thread.process.files.borrow().slots_mut().remove(args[0] as i32)?;
    release(&thread.process, file);
    Ok(0)
}

fn close_range(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let (first, last, flags) = (args[0] as u32, args[1] as u32, args[2] as u32);
    if first > last || flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        unshare_files(&thread.process)?;
    }
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        let files = thread.process.files.borrow();
        let mut slots = files.slots_mut();
        let open: Vec<i32> = slots.range(first, last).collect();
        return open.into_iter().try_for_each(|fd| slots.set_on_exec(fd, OnExec::Close)).map(|()| 0);
    }
    let closed = thread.process.files.borrow().slots_mut().remove_range(first, last);
    closed.into_iter().for_each(|file| release(&thread.process, file));
    Ok(0)
}

fn dup(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let file = file(thread, args[0])?;
    install(thread, file, 0)
}

fn dup2(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    if args[0] as i32 == args[1] as i32 {
        file(thread, args[0])?;
        return Ok(args[1]);
    }
    replace(thread, args[0], args[1], OnExec::Keep)
}

fn dup3(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let flags = args[2] as u32;
    if flags & !linux::O_CLOEXEC != 0 || args[0] as i32 == args[1] as i32 {
        return Err(Errno::EINVAL);
    }
    replace(thread, args[0], args[1], on_exec(flags))
}

fn replace(thread: &Rc<Thread>, old: u64, new: u64, on_exec: OnExec) -> Result<u64> {
    let new = new as i32;
    let limit = descriptor_limit(thread);
    if new < 0 || new as u64 >= limit {
        return Err(Errno::EBADF);
    }
    let file = file(thread, old)?;
    let closed = thread.process.files.borrow().slots_mut().replace(new, file, on_exec, limit)?;
    if let Some(closed) = closed {
        release(&thread.process, closed);
    }
    Ok(new as u64)
}

/// `lseek(fd, offset, whence)`.
fn lseek(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let sought = match args[2] as u32 {
        linux::SEEK_DATA => Some(Sought::Data),
        linux::SEEK_HOLE => Some(Sought::Hole),
        _ => None,
    };
    match (sought, usable_file(thread, args[0])) {
        (Some(sought), Ok(file)) if is_on_disk(&file) => {
            let offset = args[1] as i64;
            Outcome::block(async move { seek_on_disk(&file, offset, sought).await })
        }
        (Some(_) | None, _) => seek(thread, args).into(),
    }
}

/// Whether it is a regular file on a disk.
fn is_on_disk(file: &OpenFile) -> bool {
    file.inode().content().and_then(Content::paged_file).is_some_and(|paged| paged.on_disk().is_some())
}

async fn seek_on_disk(file: &OpenFile, offset: i64, sought: Sought) -> Result<u64> {
    let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    let found = DiskFile::seek(file.inode(), offset, sought).await?;
    move_position(file, found, 0)
}

fn seek(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    let (offset, whence) = (args[1] as i64, args[2] as u32);
    if whence > linux::SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    match file.ops().positioning() {
        Positioning::Stream => Err(Errno::ESPIPE),
        Positioning::Ignored | Positioning::Nowhere => Ok(0),
        Positioning::Entries => {
            let base = match whence {
                linux::SEEK_SET => 0,
                linux::SEEK_CUR => file.position(),
                _ => return Err(Errno::EINVAL),
            };
            move_position(&file, base, offset)
        }
        Positioning::Bytes => {
            let size = file.inode().size();
            let base = match whence {
                linux::SEEK_SET => 0,
                linux::SEEK_CUR => file.position(),
                linux::SEEK_END => size,
                _ => return seek_data(&file, offset, whence),
            };
            move_position(&file, base, offset)
        }
    }
}

/// `SEEK_DATA` and `SEEK_HOLE`. Where nothing is known of holes, all is data up to the end.
fn seek_data(file: &OpenFile, offset: i64, whence: u32) -> Result<u64> {
    let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    let size = file.inode().size();
    let found = match file.inode().content() {
        Some(content) if whence == linux::SEEK_DATA => content.seek(offset, Sought::Data)?,
        Some(content) => content.seek(offset, Sought::Hole)?,
        None if offset >= size => return Err(Errno::ENXIO),
        None if whence == linux::SEEK_DATA => offset,
        None => size,
    };
    move_position(file, found, 0)
}

fn move_position(file: &OpenFile, base: u64, offset: i64) -> Result<u64> {
    let position = base.checked_add_signed(offset).filter(|position| *position <= i64::MAX as u64);
    let position = position.ok_or(Errno::EINVAL)?;
    file.set_position(position);
    Ok(position)
}

fn pipe(thread: &Rc<Thread>, pointer: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK | linux::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let pipe = Pipe::new().map_err(|_| Errno::ENFILE)?;
    let namespace = thread.process.fs.borrow().namespace.clone();
    let credentials = thread.process.credentials();
    let inode = Inode::anonymous_pipe(namespace.pipes(), &credentials, pipe.clone()).map_err(|_| Errno::ENFILE)?;
    let end = |access: AccessMode| {
        let flags = (flags & !linux::O_CLOEXEC) | access.flags();
        OpenFile::new(Rc::new(PipeEnd::open(&pipe, access)), inode.clone(), None, flags)
    };
    let limit = descriptor_limit(thread);
    let insert = |file| thread.process.files.borrow().slots_mut().insert(file, 0, on_exec(flags), limit);
    let (read_end, write_end) = (end(AccessMode::Read)?, end(AccessMode::Write)?);
    let reader = insert(read_end)?;
    let writer = insert(write_end);
    let written = writer.and_then(|writer| UserPtr::of_call(thread, pointer).write(&[reader, writer]));
    if let Err(errno) = written {
        let failed = [Some(reader), writer.ok()];
        let closed: Vec<_> = {
            let files = thread.process.files.borrow();
            failed.into_iter().flatten().filter_map(|fd| files.slots_mut().remove(fd).ok()).collect()
        };
        drop(closed);
        return Err(errno);
    }
    Ok(0)
}

/// Bytes of an entry that are neither its name nor padding: inode, position, length, type, and the end of the name.
const ENTRY_FIXED_BYTES: usize = 8 + 8 + 2 + 1 + 1;
/// How many bytes of entries one call gives at most.
const MAX_LISTING_BYTES: usize = 64 << 10;

/// Where an entry has the type of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent64`.
    TypeBeforeName,
    /// `struct linux_dirent`: in the last byte.
    TypeAtEnd,
}

/// Appends entries as programs see them, until there is no room.
struct Records {
    layout: Layout,
    bytes: Vec<u8>,
    room: usize,
    next: u64,
}

impl Records {
    fn push(&mut self, entry: Entry<'_>) -> Listing {
        let length = (ENTRY_FIXED_BYTES + entry.name.len()).next_multiple_of(8);
        if self.bytes.len() + length > self.room {
            return Listing::Stop;
        }
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(&entry.inode.to_le_bytes());
        self.bytes.extend_from_slice(&entry.next.to_le_bytes());
        self.bytes.extend_from_slice(&(length as u16).to_le_bytes());
        let file_type = directory_type(entry.file_type);
        match self.layout {
            Layout::TypeBeforeName => {
                self.bytes.push(file_type);
                self.bytes.extend_from_slice(entry.name);
                self.bytes.resize(end, 0);
            }
            Layout::TypeAtEnd => {
                self.bytes.extend_from_slice(entry.name);
                self.bytes.resize(end - 1, 0);
                self.bytes.push(file_type);
            }
        }
        self.next = entry.next;
        Listing::Continue
    }
}

/// The type in a directory entry: that of the mode, shifted (`IFTODT` of C libraries).
fn directory_type(file_type: u32) -> u8 {
    const SHIFT: u32 = 12;
    (file_type >> SHIFT) as u8
}

fn getdents(thread: &Rc<Thread>, args: &[u64; 6], layout: Layout) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    let directory = file.inode().directory()?;
    let location = file.location().ok_or(Errno::ENOTDIR)?;
    if location.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    directory.load(&location.dentry)?;
    let room = (args[2] as u32 as usize).min(MAX_LISTING_BYTES);
    let mut records = Records { layout, bytes: Vec::new(), room, next: file.position() };
    let fits = list(location, directory, &mut records)?;
    if records.bytes.is_empty() && fits == Listing::Stop {
        return Err(Errno::EINVAL);
    }
    UserPtr::of_call(thread, args[1]).write_bytes(&records.bytes)?;
    file.set_position(records.next);
    if !file.status().contains(StatusFlags::NO_ACCESS_TIME) {
        location.touch_accessed();
    }
    notify::file(&file, notify::ACCESS);
    Ok(records.bytes.len() as u64)
}

/// Lists a directory from `records.next` on. `Stop`: there was more than room.
fn list(location: &Location, directory: &dyn Directory, records: &mut Records) -> Result<Listing> {
    let above = location.parent();
    let dots: [(&[u8], &Rc<Inode>); FIRST_ENTRY as usize] = [(b".", location.inode()), (b"..", above.inode())];
    for (position, (name, inode)) in (0..).zip(dots) {
        if records.next != position {
            continue;
        }
        let file_type = inode.body().file_type();
        let entry = Entry { name, inode: inode.number(), file_type, next: position + 1 };
        if records.push(entry) == Listing::Stop {
            return Ok(Listing::Stop);
        }
    }
    let mut last = Listing::Continue;
    directory.list(records.next, &mut |entry| {
        last = records.push(entry);
        last
    })?;
    Ok(last)
}
