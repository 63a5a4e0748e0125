//! Permissions and owners: `access`, `chmod`, `chown` and their kin.

use super::{Arguments, Found, find, find_descriptor};
use crate::calls::blocking::usable_file;
use crate::calls::names::start;
use crate::cred::{Access, Credentials};
use crate::errno::{Errno, Result};
use crate::fs::inode::PERMISSION_BITS;
use crate::fs::walk::{Actor, LastLink, Walk};
use crate::fs::{MountFlags, notify};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

pub(super) fn access(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u64, flags: u32) -> Result<u64> {
    let allowed = linux::AT_EACCESS | linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH;
    let want = u8::try_from(mode as u32).ok().and_then(Access::from_bits).ok_or(Errno::EINVAL)?;
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPtr::of_call(thread, pointer).read_path()?;
    let effective = thread.process.credentials();
    let credentials: Credentials =
        if flags & linux::AT_EACCESS != 0 { (*effective).clone() } else { effective.with_real_ids() };
    if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        return check_access(&find_descriptor(thread, directory)?, &credentials, want);
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let start = start(thread, directory, &path)?;
    let context = thread.process.fs.borrow().clone();
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let place = Walk::new(Actor { context: &context, credentials: &credentials }).place(&start, &path, last)?;
    check_access(&Found::at(place), &credentials, want)
}

/// What `access` tells of a file: what its mount forbids counts, too. `EACCES`, `EROFS`.
fn check_access(found: &Found, credentials: &Credentials, want: Access) -> Result<u64> {
    let is_plain = found.inode.content().is_some();
    let no_execute = found.place.as_ref().is_some_and(|place| place.mount.flags().contains(MountFlags::NO_EXECUTE));
    if want.contains(Access::EXECUTE) && is_plain && no_execute {
        return Err(Errno::EACCES);
    }
    found.inode.check_access(credentials, want)?;
    let is_stored = is_plain || found.inode.is_directory() || found.inode.link().is_some();
    if want.contains(Access::WRITE) && is_stored {
        found.check_writable()?;
    }
    Ok(0)
}

fn set_mode(thread: &Rc<Thread>, found: &Found, mode: u64) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    if !credentials.is_owner_or_privileged(inode.uid()) {
        return Err(Errno::EPERM);
    }
    if inode.link().is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut permissions = mode as u32 & PERMISSION_BITS;
    if !credentials.is_privileged() && !credentials.is_in_group(inode.gid()) {
        permissions &= !linux::S_ISGID;
    }
    if let Some(content) = inode.content() {
        content.check_permissions(inode.mode(), permissions)?;
    }
    inode.set_permissions(permissions);
    found.notify(notify::ATTRIBUTES);
    Ok(0)
}

pub(super) fn chmod(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, directory, pointer, flags)?;
    set_mode(thread, &found, mode)
}

pub(super) fn fchmod(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    set_mode(thread, &Found::of(&file), args[1])
}

/// The value of a user or group argument that means "as it is".
const UNCHANGED: u32 = u32::MAX;

fn set_owner(thread: &Rc<Thread>, found: &Found, uid: u64, gid: u64) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    let (uid, gid) = (uid as u32, gid as u32);
    let owns = credentials.fsuid == inode.uid();
    if !credentials.is_privileged() {
        if uid != UNCHANGED && !(owns && uid == inode.uid()) {
            return Err(Errno::EPERM);
        }
        if gid != UNCHANGED && !(owns && (credentials.is_in_group(gid) || gid == inode.gid())) {
            return Err(Errno::EPERM);
        }
    }
    let new_uid = if uid == UNCHANGED { inode.uid() } else { uid };
    let new_gid = if gid == UNCHANGED { inode.gid() } else { gid };
    inode.set_owner(new_uid, new_gid);
    if !inode.is_directory() {
        inode.clear_set_id();
    }
    if (uid, gid) != (UNCHANGED, UNCHANGED) {
        found.notify(notify::ATTRIBUTES);
    }
    Ok(0)
}

/// `fchownat(directory, path, user, group, flags)`.
pub(super) fn chown(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[4] as u32;
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    set_owner(thread, &found, args[2], args[3])
}

pub(super) fn fchown(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    set_owner(thread, &Found::of(&file), args[1], args[2])
}
