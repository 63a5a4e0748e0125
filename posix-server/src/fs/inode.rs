//! Inodes: files themselves, whatever their names.
//!
//! An [`Inode`] holds the attributes that all files have, and a [`Body`] that says what it is.

use super::attributes::Attributes;
use super::content::Content;
use super::locks::Locks;

use super::body::{Body, DeviceNumber, Directory, Link};
use super::{FileSystem, MountFlags};
use crate::budget::{Charge, Kind as Budget};
use crate::cred::{Access, Credentials, Gid, Uid};
use crate::errno::{Errno, Result};
use crate::event::inotify::Watches;
use crate::pipe::Pipe;
use crate::platform;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, OnceCell};
use driver_protocol::files::operation::Set;
use linux_raw_sys::general as linux;

/// The bits of a mode that `chmod` changes.
pub const PERMISSION_BITS: u32 = 0o7777;

/// What an inode takes of the server's memory, about, in bytes.
const INODE_BYTES: u64 = 512;

/// A point of Unix time in ns.
pub type TimeNs = i64;

/// The times of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Last read.
    pub accessed: TimeNs,
    /// Last change of the content.
    pub modified: TimeNs,
    /// Last change of anything.
    pub changed: TimeNs,
    /// When it was made.
    pub born: TimeNs,
}

/// Now, for a time stamp.
pub fn now() -> TimeNs {
    i64::try_from(platform::realtime_ns()).unwrap_or(i64::MAX)
}

/// Access times older than this are renewed also if nothing changed (`relatime`): a day.
const ACCESS_TIME_MAX_AGE_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Whether a file that has no name may get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstName {
    /// It may.
    Allowed,
    /// It may not, or it had one.
    Refused,
}

/// What is known of an inode that was there before.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its number.
    pub number: u64,
    /// Its permissions.
    pub permissions: u32,
    /// The owner.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
    /// How many names it has.
    pub links: u32,
    /// Its times.
    pub times: Times,
}

/// A file.
pub struct Inode {
    filesystem: Rc<FileSystem>,
    number: u64,
    permissions: Cell<u32>,
    uid: Cell<Uid>,
    gid: Cell<Gid>,
    links: Cell<u32>,
    times: Cell<Times>,
    locks: OnceCell<Box<Locks>>,
    attributes: OnceCell<Box<Attributes>>,
    watches: OnceCell<Box<Watches>>,
    /// Whether it has extended attributes on a disk that are not in memory.
    has_stored_attributes: Cell<bool>,
    /// Whether it may get a name though it has none (`O_TMPFILE`).
    may_get_first_name: Cell<bool>,
    write_hint: Cell<u64>,
    /// Pays for the inode itself.
    charge: Cell<Charge>,
    body: Body,
    _alive: crate::census::counted::Inode,
}

impl core::fmt::Debug for Inode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Inode({}:{}, mode {:o})", self.filesystem.name(), self.number, self.mode())
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        super::notify::gone(self);
        self.filesystem.forget_inode();
        if let Some(volume) = self.filesystem.volume() {
            volume.gone(self);
        }
    }
}

impl Inode {
    /// A new inode with one link, made now. `ENOSPC` if the file system has no more.
    pub fn new(filesystem: &Rc<FileSystem>, permissions: u32, uid: Uid, gid: Gid, body: Body) -> Result<Rc<Self>> {
        // A pipe's inode has no name.
        let kind = if filesystem.is_stored() { Budget::Names } else { Budget::Open };
        let charge = Charge::new(kind, INODE_BYTES + body.own_bytes()).map_err(|_| Errno::ENOSPC)?;
        let number = filesystem.take_inode_number()?;
        let inode = Self::with_number(filesystem, number, permissions, uid, gid, body);
        inode.charge.set(charge);
        Ok(inode)
    }

    /// The same with a number that the file system chose, and which counts as taken.
    pub fn with_number(
        filesystem: &Rc<FileSystem>,
        number: u64,
        permissions: u32,
        uid: Uid,
        gid: Gid,
        body: Body,
    ) -> Rc<Self> {
        let now = now();
        let links = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        let times = Times { accessed: now, modified: now, changed: now, born: now };
        Self::restored(filesystem, Restored { number, permissions, uid, gid, links, times }, body, Charge::default())
    }

    /// An inode that was there before, with what is known of it.
    pub fn restored(filesystem: &Rc<FileSystem>, known: Restored, body: Body, charge: Charge) -> Rc<Self> {
        let Restored { number, permissions, uid, gid, links, times } = known;
        filesystem.note_inode();
        if let (Body::Regular(content), Some(payer)) = (&body, filesystem.payer()) {
            content.set_payer(payer.clone());
        }
        Rc::new(Self {
            _alive: Default::default(),
            filesystem: filesystem.clone(),
            number,
            permissions: Cell::new(permissions & PERMISSION_BITS),
            uid: Cell::new(uid),
            gid: Cell::new(gid),
            links: Cell::new(links),
            times: Cell::new(times),
            locks: OnceCell::new(),
            attributes: OnceCell::new(),
            watches: OnceCell::new(),
            has_stored_attributes: Cell::new(false),
            may_get_first_name: Cell::new(false),
            write_hint: Cell::new(0),
            charge: Cell::new(charge),
            body,
        })
    }

    /// The file system that it belongs to.
    pub fn filesystem(&self) -> &Rc<FileSystem> {
        &self.filesystem
    }

    /// Its number there.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it is.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The advisory locks on it.
    pub fn locks(&self) -> &Locks {
        self.locks.get_or_init(Box::default)
    }

    /// The same, if there ever was one.
    pub fn locks_if_any(&self) -> Option<&Locks> {
        self.locks.get().map(Box::as_ref)
    }

    /// The extended attributes of it.
    pub fn attributes(&self) -> &Attributes {
        self.attributes.get_or_init(Box::default)
    }

    /// The same, once they are in memory. An error: they are not, and the call that is being made has to be made again.
    pub fn loaded_attributes(&self) -> Result<&Attributes> {
        match self.filesystem.volume() {
            Some(volume) if self.has_stored_attributes.get() => Err(volume.want_attributes(self.number)),
            Some(_) | None => Ok(self.attributes()),
        }
    }

    /// Notes whether it has extended attributes on a disk that are not in memory; says whether it had.
    pub fn set_has_stored_attributes(&self, has: bool) -> bool {
        self.has_stored_attributes.replace(has)
    }

    /// Whether something is kept in it that would be lost if it were loaded again.
    pub fn is_watched_or_locked(&self) -> bool {
        self.watches.get().is_some() || self.locks.get().is_some()
    }

    /// How long what is written will live, as programs say (`F_GET_RW_HINT`).
    pub fn write_hint(&self) -> u64 {
        self.write_hint.get()
    }

    /// Sets that.
    pub fn set_write_hint(&self, hint: u64) {
        self.write_hint.set(hint);
    }

    /// Whether it may get a name though it has none (`O_TMPFILE` without `O_EXCL`).
    pub fn may_get_first_name(&self) -> bool {
        self.may_get_first_name.get()
    }

    /// Says whether it may get a name though it has none.
    pub fn allow_first_name(&self, first: FirstName) {
        self.may_get_first_name.set(first == FirstName::Allowed);
    }

    /// Who watches it.
    pub fn watches(&self) -> &Watches {
        self.watches.get_or_init(Box::default)
    }

    /// The same, if anybody ever did.
    pub fn watches_if_any(&self) -> Option<&Watches> {
        self.watches.get().map(Box::as_ref)
    }

    /// Type and permissions.
    pub fn mode(&self) -> u32 {
        self.body.file_type() | self.permissions.get()
    }

    /// The owner.
    pub fn uid(&self) -> Uid {
        self.uid.get()
    }

    /// The group.
    pub fn gid(&self) -> Gid {
        self.gid.get()
    }

    /// How many names it has.
    pub fn links(&self) -> u32 {
        self.links.get()
    }

    /// Counts a name more. `EMLINK`.
    pub fn add_link(&self) -> Result<()> {
        let links = self.links.get();
        if self.filesystem.volume().is_some_and(|volume| volume.is_link_too_many(links, self.is_directory())) {
            return Err(Errno::EMLINK);
        }
        self.links.set(links.checked_add(1).ok_or(Errno::EMLINK)?);
        Ok(())
    }

    /// Counts a name less.
    pub fn remove_link(&self) {
        self.links.set(self.links.get().saturating_sub(1));
    }

    /// The times.
    pub fn times(&self) -> Times {
        self.take_over_times();
        self.times.get()
    }

    /// The same, without what processes have to tell that write the file themselves: what was recorded of them.
    pub fn recorded_times(&self) -> Times {
        self.times.get()
    }

    /// Records the times that a process has to tell which writes the file itself, if one does.
    pub fn take_over_times(&self) {
        if let Some(content) = self.content() {
            content.readers().take_over_times();
        }
    }

    /// A process says when it last wrote and read the file itself. It is believed as far as nothing lies in the future.
    pub(crate) fn note_own_use(&self, written_ns: u64, read_ns: u64) {
        let now = now();
        let past = |time_ns: u64| i64::try_from(time_ns).unwrap_or(i64::MAX).min(now);
        let (mut times, mut set) = (self.times.get(), Set::empty());
        // That it begins with the later of two times must not make both of them that.
        if past(written_ns) > times.modified.max(times.changed) {
            times = Times { modified: past(written_ns), changed: past(written_ns), ..times };
            set |= Set::MODIFIED | Set::CHANGED;
        }
        if past(read_ns) > times.accessed {
            times.accessed = past(read_ns);
            set |= Set::ACCESSED;
        }
        if !set.is_empty() {
            self.times.set(times);
            self.note(set);
        }
    }

    /// Sets them.
    pub fn set_times(&self, times: Times) {
        self.revoke_readers();
        self.times.set(times);
        self.note(Set::ACCESSED | Set::MODIFIED | Set::CHANGED);
    }

    /// Tells the disk that it is on, if it is on one, that attributes have changed.
    fn note(&self, set: Set) {
        if let Some(volume) = self.filesystem.volume() {
            volume.attributes_changed(self.number, set);
        }
    }

    /// Notes that a name of it was made, removed or changed. A disk hears of that, with the time, by what was done to the name.
    pub fn touch_name(&self, time: TimeNs) {
        self.revoke_readers();
        self.times.set(Times { changed: time, ..self.times.get() });
    }

    /// Notes that names in it were made, removed or changed, as above.
    pub fn touch_names(&self, time: TimeNs) {
        self.times.set(Times { modified: time, changed: time, ..self.times.get() });
    }

    /// Notes when a new file was made.
    pub fn touch_born(&self, time: TimeNs) {
        self.times.set(Times { accessed: time, modified: time, changed: time, born: time });
    }

    /// Has the next read of everybody seen by the server: something about the file is about to be different.
    fn revoke_readers(&self) {
        if let Some(content) = self.content() {
            content.readers().revoke();
        }
    }

    /// Notes that attributes changed.
    pub fn touch_changed(&self) {
        self.revoke_readers();
        self.times.set(Times { changed: now(), ..self.times.get() });
        self.note(Set::CHANGED);
    }

    /// Notes that the content changed.
    pub fn touch_modified(&self) {
        let now = now();
        if let Some(content) = self.content() {
            content.readers().note_written(now, content.size());
        }
        self.times.set(Times { modified: now, changed: now, ..self.times.get() });
        self.note(Set::MODIFIED | Set::CHANGED);
    }

    /// Notes that it was read: as `relatime` of Linux, only if the last access is older than the last change, or than a day.
    pub fn touch_accessed(&self) {
        self.touch_accessed_in(MountFlags::RELATIVE_ACCESS_TIME);
    }

    /// The same, as a mount with these flags keeps access times.
    pub fn touch_accessed_in(&self, flags: MountFlags) {
        let directory = flags.contains(MountFlags::NO_DIRECTORY_ACCESS_TIME) && self.is_directory();
        let frozen = flags.intersects(MountFlags::NO_ACCESS_TIME | MountFlags::READ_ONLY);
        if frozen || directory || self.filesystem.is_read_only() {
            return;
        }
        let times = self.times();
        let now = now();
        let stale = now.saturating_sub(times.accessed) >= ACCESS_TIME_MAX_AGE_NS;
        let news = times.accessed <= times.modified || times.accessed <= times.changed || stale;
        if news || !flags.contains(MountFlags::RELATIVE_ACCESS_TIME) {
            self.times.set(Times { accessed: now, ..times });
            if let Some(content) = self.content() {
                content.readers().note_read(now);
            }
            self.note(Set::ACCESSED);
        }
    }

    /// Replaces the permission bits.
    pub fn set_permissions(&self, permissions: u32) {
        self.permissions.set(permissions & PERMISSION_BITS);
        self.note(Set::MODE);
        self.touch_changed();
    }

    /// Replaces owner and group.
    pub fn set_owner(&self, uid: Uid, gid: Gid) {
        self.uid.set(uid);
        self.gid.set(gid);
        self.note(Set::UID | Set::GID);
        self.touch_changed();
    }

    /// Takes the set-id bits away, as a write by somebody unprivileged does.
    pub fn clear_set_id(&self) {
        let permissions = self.permissions.get();
        let mut lost = permissions & linux::S_ISUID;
        if permissions & linux::S_IXGRP != 0 {
            lost |= permissions & linux::S_ISGID;
        }
        if lost != 0 {
            self.set_permissions(permissions & !lost);
        }
    }

    /// The size in bytes, as `stat` shows it.
    pub fn size(&self) -> u64 {
        self.body.size()
    }

    /// The size of what it keeps in memory, in blocks of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.body.blocks()
    }

    /// The device that it names; zero for other files.
    pub fn device(&self) -> DeviceNumber {
        self.body.device()
    }

    /// It as a directory, or `ENOTDIR`.
    pub fn directory(&self) -> Result<&dyn Directory> {
        self.body.directory().ok_or(Errno::ENOTDIR)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.body.directory().is_some()
    }

    /// It as a symbolic link.
    pub fn link(&self) -> Option<&dyn Link> {
        self.body.link()
    }

    /// The content of a regular file in memory.
    pub fn content(&self) -> Option<&Content> {
        self.body.content()
    }

    /// `EACCES` unless the credentials allow `want`.
    pub fn check_access(&self, credentials: &Credentials, want: Access) -> Result<()> {
        if want.is_empty() || credentials.may(self.mode(), self.uid(), self.gid(), want) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether two names lead to the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.number == other.number && Rc::ptr_eq(&self.filesystem, &other.filesystem)
    }

    /// A FIFO of no file system, which `pipe` makes.
    pub fn anonymous_pipe(filesystem: &Rc<FileSystem>, credentials: &Credentials, pipe: Rc<Pipe>) -> Result<Rc<Self>> {
        let cell = OnceCell::from(pipe);
        Self::new(filesystem, 0o600, credentials.fsuid, credentials.fsgid, Body::Fifo(cell))
    }

    /// An inode for tests that need any.
    #[cfg(test)]
    pub(crate) fn anonymous_for_tests() -> Rc<Self> {
        let filesystem = FileSystem::new(&super::TMPFS);
        Self::with_number(&filesystem, 1, 0o600, 0, 0, Body::Socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_access_does_not_change_the_access_time() {
        let inode = Inode::anonymous_for_tests();
        platform::advance_ns(10);
        inode.touch_accessed();
        let first = inode.times().accessed;
        platform::advance_ns(10);
        inode.touch_accessed();
        assert_eq!(inode.times().accessed, first);
        inode.touch_modified();
        inode.touch_accessed();
        assert_eq!(inode.times().accessed, first + 10);
    }
}
