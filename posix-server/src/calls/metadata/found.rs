//! Finding the file that a call is about.

use crate::calls::blocking::file;
use crate::calls::names::place;
use crate::errno::Result;
use crate::file::OpenFile;
use crate::fs::walk::LastLink;
use crate::fs::{Inode, Location, notify};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// A file, and the place that it was found at, if it has one.
pub(super) struct Found {
    /// The file.
    pub inode: Rc<Inode>,
    /// The place.
    pub place: Option<Location>,
}

impl Found {
    pub(super) fn at(place: Location) -> Self {
        Self { inode: place.inode().clone(), place: Some(place) }
    }

    /// Tells who watches it.
    pub(super) fn notify(&self, mask: u32) {
        match &self.place {
            Some(place) => notify::place(place, mask),
            None => notify::inode(&self.inode, mask),
        }
    }

    pub(super) fn of(file: &OpenFile) -> Self {
        Self { inode: file.inode().clone(), place: file.location().cloned() }
    }

    /// `EROFS` if its mount lets nothing change.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.place.as_ref().map_or(Ok(()), Location::check_writable)
    }
}

/// The place that a descriptor, or a path from it, names; with `AT_EMPTY_PATH` in `flags`, an empty path is the descriptor.
pub(super) fn find(thread: &Rc<Thread>, directory: u64, pointer: u64, flags: u32) -> Result<Found> {
    let allows_empty = flags & linux::AT_EMPTY_PATH != 0;
    let path = if pointer == 0 && allows_empty {
        alloc::vec::Vec::new()
    } else {
        UserPtr::of_call(thread, pointer).read_path()?
    };
    if path.is_empty() && allows_empty {
        return find_descriptor(thread, directory);
    }
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    place(thread, directory, &path, last).map(Found::at)
}

pub(super) fn find_descriptor(thread: &Rc<Thread>, fd: u64) -> Result<Found> {
    if fd as i32 == linux::AT_FDCWD {
        return Ok(Found::at(thread.process.fs.borrow().cwd.clone()));
    }
    Ok(Found::of(&*file(thread, fd)?))
}
