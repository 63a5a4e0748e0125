//! Calls on extended attributes (`xattr(7)`).
//!
//! Files in memory keep attributes of three kinds: `user.`, which whoever may write the file may set, and only on regular
//! files and directories; `trusted.` and `security.`, which only the superuser sets. There are no access control lists.

use super::blocking::usable_file;
use super::names::{CURRENT_DIRECTORY, place};
use super::open::read_extensible;
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::fs::attributes::{Before, NAME_MAX, VALUE_MAX};
use crate::fs::inode::now;
use crate::fs::walk::LastLink;
use crate::fs::{Body, Inode, Location, notify};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::files::operation::Operation;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_getxattr, |t, a| get(t, &by_path(a, LastLink::Follow), a).into()),
    SystemCall::new(linux::__NR_lgetxattr, |t, a| get(t, &by_path(a, LastLink::Keep), a).into()),
    SystemCall::new(linux::__NR_fgetxattr, |t, a| get(t, &Named::File(a[0]), a).into()),
    SystemCall::new(linux::__NR_getxattrat, |t, a| get_at(t, a).into()),
    SystemCall::new(linux::__NR_setxattr, |t, a| set(t, &by_path(a, LastLink::Follow), a).into()),
    SystemCall::new(linux::__NR_lsetxattr, |t, a| set(t, &by_path(a, LastLink::Keep), a).into()),
    SystemCall::new(linux::__NR_fsetxattr, |t, a| set(t, &Named::File(a[0]), a).into()),
    SystemCall::new(linux::__NR_setxattrat, |t, a| set_at(t, a).into()),
    SystemCall::new(linux::__NR_removexattr, |t, a| remove(t, &by_path(a, LastLink::Follow), a[1]).into()),
    SystemCall::new(linux::__NR_lremovexattr, |t, a| remove(t, &by_path(a, LastLink::Keep), a[1]).into()),
    SystemCall::new(linux::__NR_fremovexattr, |t, a| remove(t, &Named::File(a[0]), a[1]).into()),
    SystemCall::new(linux::__NR_removexattrat, |t, a| {
        Outcome::from(named_at(a[0], a[1], a[2]).and_then(|named| remove(t, &named, a[3])))
    }),
    SystemCall::new(linux::__NR_listxattr, |t, a| list(t, &by_path(a, LastLink::Follow), a[1], a[2]).into()),
    SystemCall::new(linux::__NR_llistxattr, |t, a| list(t, &by_path(a, LastLink::Keep), a[1], a[2]).into()),
    SystemCall::new(linux::__NR_flistxattr, |t, a| list(t, &Named::File(a[0]), a[1], a[2]).into()),
    SystemCall::new(linux::__NR_listxattrat, |t, a| {
        Outcome::from(named_at(a[0], a[1], a[2]).and_then(|named| list(t, &named, a[3], a[4])))
    }),
];

/// How a call names its file.
enum Named {
    /// By a path, from a directory.
    Path { directory: u64, path: u64, last: LastLink },
    /// By a descriptor.
    File(u64),
    /// By a descriptor, if the path is empty.
    Either { directory: u64, path: u64, last: LastLink },
}

fn by_path(args: &Arguments, last: LastLink) -> Named {
    Named::Path { directory: CURRENT_DIRECTORY, path: args[0], last }
}

/// The file of one of the calls with `at` in their names. `EINVAL` for unknown flags.
fn named_at(directory: u64, path: u64, flags: u64) -> Result<Named> {
    let flags = flags as u32;
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    if flags & linux::AT_EMPTY_PATH != 0 {
        Ok(Named::Either { directory, path, last })
    } else {
        Ok(Named::Path { directory, path, last })
    }
}

/// A file, and the place that it was found at.
struct Found {
    inode: Rc<Inode>,
    place: Option<Location>,
}

impl Found {
    /// Notes that attributes were changed; a disk hears of it by an operation, for an inode and a time.
    fn note_change<'a>(&self, operation: impl FnOnce(u64, i64) -> Operation<'a>) {
        let time = now();
        self.inode.touch_name(time);
        if let Some(volume) = self.inode.filesystem().volume() {
            let number = self.inode.number();
            volume.record(&operation(number, time), &[number]);
        }
        match &self.place {
            Some(place) => notify::place(place, notify::ATTRIBUTES),
            None => notify::inode(&self.inode, notify::ATTRIBUTES),
        }
    }
}

impl Named {
    fn find(&self, thread: &Rc<Thread>) -> Result<Found> {
        let (directory, path, last) = match *self {
            Self::File(fd) => return found_file(thread, fd),
            Self::Path { directory, path, last } | Self::Either { directory, path, last } => (directory, path, last),
        };
        let may_be_empty = matches!(self, Self::Either { .. });
        let path = if path == 0 && may_be_empty { Vec::new() } else { pointer(thread, path).read_path()? };
        if path.is_empty() && may_be_empty && directory as i32 != linux::AT_FDCWD {
            return found_file(thread, directory);
        }
        let path = if path.is_empty() && may_be_empty { b".".to_vec() } else { path };
        let place = place(thread, directory, &path, last)?;
        Ok(Found { inode: place.inode().clone(), place: Some(place) })
    }
}

fn found_file(thread: &Rc<Thread>, fd: u64) -> Result<Found> {
    let file = usable_file(thread, fd)?;
    Ok(Found { inode: file.inode().clone(), place: file.location().cloned() })
}

/// What is done with an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Change,
}

impl Found {
    /// Whether an attribute may be used. `EPERM`, `ENODATA`, `EACCES`; `EOPNOTSUPP` if there are none of that name; `EROFS`.
    fn check(&self, thread: &Thread, name: &[u8], what: Use) -> Result<()> {
        if let (Use::Change, Some(place)) = (what, &self.place) {
            place.check_writable()?;
        }
        let credentials = thread.process.credentials();
        let privileged = credentials.is_privileged();
        let refused = if what == Use::Change { Errno::EPERM } else { Errno::ENODATA };
        let rest = if let Some(rest) = name.strip_prefix(b"trusted.") {
            if !privileged {
                return Err(refused);
            }
            rest
        } else if let Some(rest) = name.strip_prefix(b"security.") {
            if what == Use::Change && !privileged {
                return Err(Errno::EPERM);
            }
            rest
        } else if let Some(rest) = name.strip_prefix(b"user.") {
            self.check_user_attribute(thread, what, refused)?;
            rest
        } else {
            if !name.starts_with(b"system.") {
                self.inode.check_access(&credentials, access(what))?;
            }
            return Err(Errno::EOPNOTSUPP);
        };
        if !self.inode.filesystem().is_stored() {
            return Err(Errno::EOPNOTSUPP);
        }
        if rest.is_empty() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn check_user_attribute(&self, thread: &Thread, what: Use, refused: Errno) -> Result<()> {
        let credentials = thread.process.credentials();
        let inode = &self.inode;
        match inode.body() {
            Body::Regular(_) | Body::Generated(_) | Body::Directory(_) => {}
            Body::Link(_)
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_)
            | Body::Fifo(_)
            | Body::Socket
            | Body::Anonymous => return Err(refused),
        }
        let is_sticky = inode.is_directory() && inode.mode() & linux::S_ISVTX != 0;
        if what == Use::Change && is_sticky && !credentials.is_owner_or_privileged(inode.uid()) {
            return Err(Errno::EPERM);
        }
        inode.check_access(&credentials, access(what))
    }
}

fn access(what: Use) -> Access {
    match what {
        Use::Read => Access::READ,
        Use::Change => Access::WRITE,
    }
}

/// Reads the name of an attribute. `ERANGE` for an empty or a too long one.
fn read_name(thread: &Thread, address: u64) -> Result<Vec<u8>> {
    match pointer(thread, address).read_c_string(NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        name => name,
    }
}

/// Writes what was asked for, or only tells its length if there is no room at all. `ERANGE` if there is too little.
fn answer(to: &UserPtr, size: u64, bytes: &[u8]) -> Result<u64> {
    let length = bytes.len() as u64;
    if size != 0 {
        if length > size {
            return Err(Errno::ERANGE);
        }
        to.write_bytes(bytes)?;
    }
    Ok(length)
}

/// Where a value is, and what is to be done with it (`struct xattr_args`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ValueArguments {
    value: u64,
    size: u32,
    flags: u32,
}

/// `getxattr(file, name, value, size)`.
fn get(thread: &Rc<Thread>, named: &Named, args: &Arguments) -> Result<u64> {
    let name = read_name(thread, args[1])?;
    get_value(thread, named, &name, args[2], args[3])
}

/// `getxattrat(directory, path, flags, name, arguments, size)`.
fn get_at(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let value: ValueArguments = read_extensible(&pointer(thread, args[4]), args[5])?;
    if value.flags != 0 {
        return Err(Errno::EINVAL);
    }
    let named = named_at(args[0], args[1], args[2])?;
    let name = read_name(thread, args[3])?;
    get_value(thread, &named, &name, value.value, u64::from(value.size))
}

fn get_value(thread: &Rc<Thread>, named: &Named, name: &[u8], to: u64, size: u64) -> Result<u64> {
    let found = named.find(thread)?;
    found.check(thread, name, Use::Read)?;
    let to = pointer(thread, to);
    found.inode.loaded_attributes()?.get(name, |value| answer(&to, size, value))?
}

/// `setxattr(file, name, value, size, flags)`.
fn set(thread: &Rc<Thread>, named: &Named, args: &Arguments) -> Result<u64> {
    set_value(thread, named, args[1], args[2], args[3], args[4] as u32)
}

/// `setxattrat(directory, path, flags, name, arguments, size)`.
fn set_at(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let value: ValueArguments = read_extensible(&pointer(thread, args[4]), args[5])?;
    let named = named_at(args[0], args[1], args[2])?;
    set_value(thread, &named, args[3], value.value, u64::from(value.size), value.flags)
}

fn set_value(thread: &Rc<Thread>, named: &Named, name: u64, from: u64, size: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::XATTR_CREATE | linux::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(thread, name)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= VALUE_MAX).ok_or(Errno::E2BIG)?;
    let mut value = vec![0; size];
    pointer(thread, from).read_bytes(&mut value)?;
    let found = named.find(thread)?;
    found.check(thread, &name, Use::Change)?;
    // Both flags at once: one of the two always refuses.
    let attributes = found.inode.loaded_attributes()?;
    let is_there = attributes.get(&name, |_| ()).is_ok();
    let before = match (flags & linux::XATTR_CREATE != 0, flags & linux::XATTR_REPLACE != 0) {
        (false, false) => Before::Any,
        (true, false) => Before::Absent,
        (false, true) => Before::Present,
        (true, true) if is_there => Before::Absent,
        (true, true) => Before::Present,
    };
    let is_refused = is_there && before == Before::Absent || !is_there && before == Before::Present;
    if let Some(volume) = found.inode.filesystem().volume().filter(|_| !is_refused) {
        volume.check_attribute(attributes, &name, &value)?;
    }
    attributes.set(&name, &value, before)?;
    found.note_change(|inode, time| Operation::SetXattr { inode, name: &name, value: &value, time });
    Ok(0)
}

fn remove(thread: &Rc<Thread>, named: &Named, name: u64) -> Result<u64> {
    let name = read_name(thread, name)?;
    let found = named.find(thread)?;
    found.check(thread, &name, Use::Change)?;
    found.inode.loaded_attributes()?.remove(&name)?;
    found.note_change(|inode, time| Operation::RemoveXattr { inode, name: &name, time });
    Ok(0)
}

/// The names: those of the superuser's kind are shown to the superuser only.
fn list(thread: &Rc<Thread>, named: &Named, to: u64, size: u64) -> Result<u64> {
    let found = named.find(thread)?;
    let privileged = thread.process.credentials().is_privileged();
    let names = found.inode.loaded_attributes()?.names_that(|name| privileged || !name.starts_with(b"trusted."));
    answer(&pointer(thread, to), size, &names)
}
