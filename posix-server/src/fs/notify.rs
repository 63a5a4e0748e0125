//! What happens to files and names, told to those who [watch](crate::event::inotify).
//!
//! The rest of the file system calls these where Linux calls `fsnotify`, and in the same order. While nobody watches anything,
//! each is one look at a number.

use super::change::Kind;
use super::{Dentry, Inode, Location, Name};
use crate::event::inotify::{Watches, is_anything_watched};
use crate::file::{AccessMode, OpenFile};
use alloc::rc::Rc;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as linux;

/// Something was read.
pub const ACCESS: u32 = linux::IN_ACCESS;
/// The content changed.
pub const MODIFY: u32 = linux::IN_MODIFY;
/// Something else about it changed.
pub const ATTRIBUTES: u32 = linux::IN_ATTRIB;
/// It was opened.
pub const OPEN: u32 = linux::IN_OPEN;

/// The number that joins the two events of the next rename.
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

/// What is told of directories is marked, but for what happens to themselves.
fn with_kind(inode: &Inode, mask: u32) -> u32 {
    let is_of_itself = mask & (linux::IN_DELETE_SELF | linux::IN_MOVE_SELF) != 0;
    if inode.is_directory() && !is_of_itself { mask | linux::IN_ISDIR } else { mask }
}

/// Something happened to an inode, not to one of its names.
pub fn inode(inode: &Inode, mask: u32) {
    if is_anything_watched()
        && let Some(watches) = inode.watches_if_any()
    {
        watches.tell(with_kind(inode, mask), 0, None, false);
    }
}

/// Something happened to a file by one of its names: those who watch the directory hear of it first.
fn dentry(dentry: &Rc<Dentry>, mask: u32) {
    let parent = dentry.parent();
    if let Some(watches) = parent.as_ref().and_then(|parent| parent.inode().watches_if_any()) {
        watches.tell(with_kind(dentry.inode(), mask), 0, Some(&dentry.name()), dentry.is_removed());
    }
    inode(dentry.inode(), mask);
}

/// Something happened to the file at a place.
pub fn place(place: &Location, mask: u32) {
    if is_anything_watched() {
        dentry(&place.dentry, mask);
    }
}

/// Whether somebody hears of what is read from an open file and written to it.
pub fn hears_transfers(file: &OpenFile) -> bool {
    let watched = |inode: &Inode| inode.watches_if_any().is_some_and(Watches::want_transfers);
    is_anything_watched() && {
        let parent = file.location().and_then(|location| location.dentry.parent());
        watched(file.inode()) || parent.is_some_and(|parent| watched(parent.inode()))
    }
}

/// Something happened to an open file.
pub fn file(file: &OpenFile, mask: u32) {
    if !is_anything_watched() || file.access() == AccessMode::Path {
        return;
    }
    match file.location() {
        Some(location) => dentry(&location.dentry, mask),
        None => inode(file.inode(), mask),
    }
}

/// An open file is being closed.
pub fn closed(open_file: &OpenFile) {
    let mask = if open_file.access().can_write() { linux::IN_CLOSE_WRITE } else { linux::IN_CLOSE_NOWRITE };
    file(open_file, mask);
}

/// Something happened to a name in a directory.
fn name(directory: &Location, name: &Name, mask: u32, cookie: u32) {
    if let Some(watches) = directory.inode().watches_if_any() {
        watches.tell(mask, cookie, Some(name), false);
    }
}

/// A file got its first name.
pub fn created(directory: &Location, new: &Dentry) {
    if is_anything_watched() {
        name(directory, &new.name(), with_kind(new.inode(), linux::IN_CREATE), 0);
    }
}

/// A file got one more name.
pub fn linked(directory: &Location, new: &Dentry) {
    inode(new.inode(), ATTRIBUTES);
    created(directory, new);
}

/// A name was removed, of a directory or of another file.
pub fn removed(directory: &Location, old_name: &Name, kind: Kind) {
    let mask = match kind {
        Kind::Directory => linux::IN_DELETE | linux::IN_ISDIR,
        Kind::Other => linux::IN_DELETE,
    };
    if is_anything_watched() {
        name(directory, old_name, mask, 0);
    }
}

/// A name was changed from `old_name`, and may have replaced that of `target`.
pub fn renamed(from: &Location, old_name: &[u8], to: &Location, moved: &Dentry, target: Option<&Inode>) {
    if !is_anything_watched() {
        return;
    }
    if let Some(content) = moved.inode().content() {
        // Its new directory may be watched.
        content.readers().revoke();
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    name(from, &Name::from(old_name), with_kind(moved.inode(), linux::IN_MOVED_FROM), cookie);
    name(to, &moved.name(), with_kind(moved.inode(), linux::IN_MOVED_TO), cookie);
    if let Some(target) = target {
        inode(target, ATTRIBUTES);
    }
    inode(moved.inode(), linux::IN_MOVE_SELF);
}

/// An inode is about to go.
pub fn gone(inode: &Inode) {
    if let Some(watches) = inode.watches_if_any() {
        let reason = if inode.links() == 0 { linux::IN_DELETE_SELF } else { linux::IN_UNMOUNT };
        watches.end(with_kind(inode, reason));
    }
}
