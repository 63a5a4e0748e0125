//! Open files: what a descriptor names.
//!
//! A descriptor ([`FdTable`]) names an [`OpenFile`], Linux's *open file description*: a position and status flags, shared by
//! all descriptors that `dup` and `fork` made of it. What the file can do is behind [`FileOps`]. Its methods never wait: what
//! can't be done now is `EAGAIN`, and the caller decides whether that is the program's answer or a reason to wait for
//! [`FileOps::wait_queue`].

pub mod asynchronous;
mod descriptors;
mod flags;
pub mod io;
mod owner;
mod table;

pub use descriptors::FdTable;
pub use flags::{AccessMode, PollEvents, Positioning, StatusFlags};
pub use io::{Destination, Source};
pub use owner::{AsyncOwner, Owner as AsyncTarget};
pub use table::{OnExec, Slots};

use crate::budget::{Charge, Kind as Budget};
use crate::cred::{Credentials, Uid};
use crate::errno::Errno;
use crate::event::EventFile;
use crate::event::epoll::Watchers;
use crate::fs::locks::Owner;
use crate::fs::{Inode, Location, Mount};
use crate::process::{Pid, Thread};
use crate::shared::{Habit, SharedPosition, Sharing};
use crate::tty::Terminal;
use crate::wait::{Attachment, WaitQueue};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as linux;

/// What makes one kind of file different from another. A value of this trait is made for each open file, and dropped with it.
pub trait FileOps {
    /// Reads from `position` (ignored by streams). Returns how many bytes; 0 is the end. `EAGAIN`: nothing yet.
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize, Errno>;

    /// Reads what there is at once, where [`read`](Self::read) would rather wait for more (a terminal with `VMIN`).
    fn read_now(&self, position: u64, to: &mut dyn Destination) -> Result<usize, Errno> {
        self.read(position, to)
    }

    /// Writes at `position` (ignored by streams). Returns how many bytes, which may be fewer than there are. `EAGAIN`: no room.
    fn write(&self, position: u64, from: &mut dyn Source) -> Result<usize, Errno>;

    /// The file system in the making that it is, if it is one (`fsopen`).
    fn configuration(&self) -> Option<&crate::calls::mount_files::Configuration> {
        None
    }

    /// The flags that can change have, or are those at the beginning.
    fn status_changed(&self, status: StatusFlags) {
        let _ = status;
    }

    /// What the position means.
    fn positioning(&self) -> Positioning;

    /// What it is ready for now.
    fn readiness(&self) -> PollEvents {
        PollEvents::READABLE | PollEvents::WRITABLE
    }

    /// What is woken when that changes. `None`: it never does.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// The terminal that it is, if it is one.
    fn terminal(&self) -> Option<&Rc<Terminal>> {
        None
    }

    /// Whether the terminal that it is has hung up since it was opened.
    fn is_hung_up(&self) -> bool {
        false
    }

    /// The master of a pseudo-terminal that it is, if it is one.
    fn master(&self) -> Option<&crate::tty::pty::Master> {
        None
    }

    /// How many bytes a read would give now (`FIONREAD`). `ENOTTY`: it can't say.
    fn readable_bytes(&self) -> Result<usize, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Whether `epoll` can watch it.
    fn is_pollable(&self) -> bool {
        self.wait_queue().is_some()
    }

    /// The [readiness](Self::readiness), where it depends on who asks.
    fn readiness_for(&self, thread: &Thread) -> PollEvents {
        let _ = thread;
        self.readiness()
    }

    /// The [queue](Self::wait_queue), where it depends on who waits.
    fn wait_queue_for<'a>(&'a self, thread: &'a Thread) -> Option<&'a WaitQueue> {
        let _ = thread;
        self.wait_queue()
    }

    /// Reads, where what there is depends on who does.
    fn read_for(&self, thread: &Thread, position: u64, to: &mut dyn Destination) -> Result<usize, Errno> {
        let _ = thread;
        self.read(position, to)
    }

    /// What it is, if it has calls of its own: an epoll instance, a timer.
    fn event_file(&self) -> Option<EventFile<'_>> {
        None
    }

    /// The pipe that it is an end of, if it is one.
    fn pipe(&self) -> Option<&crate::pipe::Pipe> {
        None
    }

    /// The socket that it is, if it is one.
    fn socket(&self) -> Option<&crate::net::Socket> {
        None
    }

    /// The device that it is, if it is one that a process can serve itself.
    fn shared_device(&self) -> Option<Sharing> {
        None
    }

    /// How often it is used, where that is not counted for each open file: of a pipe, for both ends together.
    fn habit(&self) -> Option<&Habit> {
        None
    }

    /// Takes back what a process was lent to serve it itself.
    fn take_back(&self) {}

    /// The message queue that it is, if it is one.
    fn message_queue(&self) -> Option<&Rc<crate::mqueue::Queue>> {
        None
    }

    /// Whether something that was stored could not be written back since this was last asked of this open file.
    fn has_failed_since(&self) -> bool {
        false
    }

    /// A process has closed a descriptor of it.
    fn closed_by(&self, pid: Pid) {
        let _ = pid;
    }

    /// When a read in vain that has waited since `since_ns` gives up and reads nothing, on the clock of `platform::now_ns`.
    fn read_deadline_ns(&self, since_ns: u64) -> Option<u64> {
        let _ = since_ns;
        None
    }
}

/// The number of the next open file.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What an open file takes of the server's memory, about, in bytes.
const OPEN_FILE_BYTES: u64 = 320;

/// What it takes besides if its inode and names are its own, about, in bytes.
const GENERATED_FILE_BYTES: u64 = 2048;

/// An open file description.
pub struct OpenFile {
    /// Pays for it.
    _charge: Charge,
    id: u64,
    /// The epoll instances that watch it. They forget it before it goes.
    watchers: Watchers,
    ops: Rc<dyn FileOps>,
    inode: Rc<Inode>,
    location: Option<Location>,
    access: AccessMode,
    position: Cell<u64>,
    /// Where the position is instead, while a process moves it itself.
    shared_position: RefCell<Option<SharedPosition>>,
    habit: Habit,
    status: Cell<StatusFlags>,
    /// Of the flags it was opened with, those that `F_GETFL` shows besides access mode and status.
    shown_flags: u32,
    /// Who gets `SIGIO`.
    owner: AsyncTarget,
    /// Tells it.
    signals: RefCell<Option<Attachment>>,
    /// Whether the opening made the file.
    was_created: Cell<bool>,
    _alive: crate::census::counted::OpenFile,
}

impl core::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenFile").field("inode", &self.inode).field("access", &self.access).finish_non_exhaustive()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        crate::fs::notify::closed(self);
        if let Some(locks) = self.inode.locks_if_any() {
            locks.release_file(self.id);
        }
        if let Some(mount) = self.written_mount() {
            mount.remove_writer();
        }
    }
}

impl OpenFile {
    /// An open file at position 0. `flags` are those of `open`; `location` is where it was found, if it has a name. `ENFILE`
    /// if the server keeps too much already.
    pub fn new(
        ops: Rc<dyn FileOps>,
        inode: Rc<Inode>,
        location: Option<Location>,
        flags: u32,
    ) -> Result<Rc<Self>, Errno> {
        // The open file alone keeps what a generated file system has made for it.
        let generated = if inode.filesystem().is_stored() { 0 } else { GENERATED_FILE_BYTES };
        let charge = Charge::new(Budget::Open, OPEN_FILE_BYTES + generated).map_err(|_| Errno::ENFILE)?;
        let access = AccessMode::from_flags(flags);
        let kept = linux::O_DIRECTORY | linux::O_NOFOLLOW | linux::O_SYNC | linux::O_DSYNC | linux::O_LARGEFILE;
        let path_only = linux::O_DIRECTORY | linux::O_NOFOLLOW;
        let shown_flags = flags & if access == AccessMode::Path { path_only } else { kept };
        let status =
            if access == AccessMode::Path { StatusFlags::empty() } else { StatusFlags::from_bits_truncate(flags) };
        let file = Rc::new(Self {
            _alive: Default::default(),
            _charge: charge,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            watchers: Watchers::default(),
            ops,
            inode,
            location,
            access,
            position: Cell::new(0),
            shared_position: RefCell::new(None),
            habit: Habit::default(),
            status: Cell::new(status),
            shown_flags,
            owner: AsyncTarget::default(),
            signals: RefCell::default(),
            was_created: Cell::new(false),
        });
        if let Some(mount) = file.written_mount() {
            mount.add_writer();
        }
        file.ops.status_changed(status);
        Ok(file)
    }

    /// The mount that must not become read-only while this is open.
    fn written_mount(&self) -> Option<&Rc<Mount>> {
        let writes = self.access.can_write() && self.inode.content().is_some();
        self.location.as_ref().filter(|_| writes).map(|place| &place.mount)
    }

    /// A number that no other open file has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A process has closed a descriptor of it: as POSIX says, all record locks of the process on the file go.
    pub fn release_record_locks(&self, pid: Pid) {
        self.ops.closed_by(pid);
        if let Some(locks) = self.inode.locks_if_any() {
            locks.unlock(Owner::Process(pid), 0, u64::MAX);
        }
    }

    /// The epoll instances that watch it.
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// What it can do.
    pub fn ops(&self) -> &Rc<dyn FileOps> {
        &self.ops
    }

    /// What it is, for `fstat`.
    pub fn inode(&self) -> &Rc<Inode> {
        &self.inode
    }

    /// Where it was found. `None`: it never had a name, like a pipe.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    /// What it may be used for.
    pub fn access(&self) -> AccessMode {
        self.access
    }

    /// `EBADF` unless it may be read.
    pub fn check_readable(&self) -> Result<(), Errno> {
        if self.access.can_read() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// `EBADF` unless it may be written.
    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.access.can_write() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// `EBADF` if it is only a path.
    pub fn check_not_path(&self) -> Result<(), Errno> {
        if self.access == AccessMode::Path { Err(Errno::EBADF) } else { Ok(()) }
    }

    /// The flags that can change.
    pub fn status(&self) -> StatusFlags {
        self.status.get()
    }

    /// Changes them.
    pub fn set_status(&self, status: StatusFlags) {
        const SERVER_SEES_TO: StatusFlags =
            StatusFlags::APPEND.union(StatusFlags::DIRECT).union(StatusFlags::NO_ACCESS_TIME);
        let changes = self.status.replace(status).symmetric_difference(status);
        if let Some(content) = self.inode.content().filter(|_| changes.intersects(SERVER_SEES_TO)) {
            content.readers().revoke();
        }
        self.ops.status_changed(status);
    }

    /// Whether nothing waits (`O_NONBLOCK`).
    pub fn is_nonblocking(&self) -> bool {
        self.status.get().contains(StatusFlags::NONBLOCK)
    }

    /// All flags, as `F_GETFL` shows them.
    pub fn flags(&self) -> u32 {
        self.access.flags() | self.status.get().bits() | self.shown_flags
    }

    /// Who is told of readiness by signal.
    pub fn owner(&self) -> AsyncOwner {
        self.owner.who.get()
    }

    /// Sets that, for somebody with these credentials.
    pub fn set_owner(&self, owner: AsyncOwner, credentials: &Credentials) {
        self.owner.who.set(owner);
        self.owner.users.set((credentials.uid, credentials.euid));
    }

    /// The real and effective user who set it.
    pub fn owner_users(&self) -> (Uid, Uid) {
        self.owner.users.get()
    }

    /// Has the owner told of readiness, or no more.
    pub fn set_signals(&self, signals: Option<Attachment>) {
        let before = self.signals.replace(signals);
        drop(before);
    }

    /// By which signal; 0 for `SIGIO` without more.
    pub fn async_signal(&self) -> u8 {
        self.owner.signal.get()
    }

    /// Sets that.
    pub fn set_async_signal(&self, signal: u8) {
        self.owner.signal.set(signal);
    }

    /// Whether the opening made the file (`F_CREATED_QUERY`).
    pub fn was_created(&self) -> bool {
        self.was_created.get()
    }

    /// Notes that it did.
    pub fn note_created(&self) {
        self.was_created.set(true);
    }

    /// The position.
    pub fn position(&self) -> u64 {
        self.take_position();
        self.position.get()
    }

    /// Takes the position back from the process that moves it itself, if one does.
    pub(crate) fn take_position(&self) {
        let shared = self.shared_position.take();
        if let Some(shared) = shared {
            self.position.set(shared.take());
            self.habit.note_taken();
        }
    }

    /// Lets a process move the position itself, which it has been given just now.
    pub(crate) fn share_position(&self, shared: SharedPosition) {
        self.shared_position.replace(Some(shared));
    }

    /// How often it is used through the server.
    pub(crate) fn habit(&self) -> &Habit {
        self.ops.habit().unwrap_or(&self.habit)
    }

    /// Sets it.
    pub fn set_position(&self, position: u64) {
        self.take_position();
        self.position.set(position);
    }

    /// Reads at the position, and advances it. Takes what there is if the file is not to wait.
    pub fn read(&self, to: &mut dyn Destination) -> Result<usize, Errno> {
        let position = self.position();
        let count =
            if self.is_nonblocking() { self.ops.read_now(position, to)? } else { self.ops.read(position, to)? };
        self.advance(position, count);
        Ok(count)
    }

    /// Writes at the position, or at the end if it is opened so, and advances the position.
    pub fn write(&self, from: &mut dyn Source) -> Result<usize, Errno> {
        let position = self.write_position(self.position());
        let count = self.ops.write(position, from)?;
        self.advance(position, count);
        Ok(count)
    }

    /// Where a write that asks for `position` goes: with `O_APPEND`, to the end.
    pub fn write_position(&self, position: u64) -> u64 {
        if self.status.get().contains(StatusFlags::APPEND) { self.end_position(position) } else { position }
    }

    /// The end, if the file has one; else `position`.
    pub fn end_position(&self, position: u64) -> u64 {
        if self.ops.positioning() == Positioning::Bytes { self.inode.size() } else { position }
    }

    /// Moves the position on behind what was read or written from `from` on.
    pub fn advance(&self, from: u64, count: usize) {
        if self.ops.positioning() == Positioning::Bytes {
            self.position.set(from.saturating_add(count as u64));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An open file without content, for tests of what holds files.
    pub(crate) fn null_file() -> Rc<OpenFile> {
        OpenFile::new(Rc::new(crate::dev::Null), Inode::anonymous_for_tests(), None, linux::O_RDWR).unwrap()
    }

    #[test]
    fn flags_are_shown_as_they_were_given_without_those_that_only_open_uses() {
        let flags =
            linux::O_WRONLY | linux::O_APPEND | linux::O_CREAT | linux::O_EXCL | linux::O_TRUNC | linux::O_CLOEXEC;
        let file = OpenFile::new(Rc::new(crate::dev::Null), Inode::anonymous_for_tests(), None, flags).unwrap();
        assert_eq!(file.flags(), linux::O_WRONLY | linux::O_APPEND);
        assert!(file.check_readable().is_err() && file.check_writable().is_ok());
    }
}
