//! Calls on names: making, linking, renaming, removing; where a process stands.

use super::{Outcome, SystemCall};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::change::{self, New, Rename};
use crate::fs::walk::{Actor, LastLink, Parent, Walk};
use crate::fs::{Body, DeviceNumber, FsContext, Location, Reach};
use crate::process::Thread;
use crate::user::{PATH_MAX, UserPtr};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::OnceCell;
use linux_raw_sys::general as linux;

type Arguments = [u64; 6];

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mkdir, |t, a| Outcome::Return(mkdir(t, CURRENT_DIRECTORY, a[0], a[1]))),
    SystemCall::new(linux::__NR_mkdirat, |t, a| Outcome::Return(mkdir(t, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_mknod, |t, a| Outcome::Return(mknod(t, CURRENT_DIRECTORY, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_mknodat, |t, a| Outcome::Return(mknod(t, a[0], a[1], a[2], a[3]))),
    SystemCall::new(linux::__NR_symlink, |t, a| Outcome::Return(symlink(t, a[0], CURRENT_DIRECTORY, a[1]))),
    SystemCall::new(linux::__NR_symlinkat, |t, a| Outcome::Return(symlink(t, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_link, |t, a| {
        Outcome::Return(link(t, &[CURRENT_DIRECTORY, a[0], CURRENT_DIRECTORY, a[1], 0, 0]))
    }),
    SystemCall::new(linux::__NR_linkat, |t, a| Outcome::Return(link(t, a))),
    SystemCall::new(linux::__NR_unlink, |t, a| Outcome::Return(unlink(t, CURRENT_DIRECTORY, a[0], 0))),
    SystemCall::new(linux::__NR_unlinkat, |t, a| Outcome::Return(unlink(t, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_rmdir, |t, a| {
        Outcome::Return(unlink(t, CURRENT_DIRECTORY, a[0], u64::from(linux::AT_REMOVEDIR)))
    }),
    SystemCall::new(linux::__NR_rename, |t, a| {
        Outcome::Return(rename(t, &[CURRENT_DIRECTORY, a[0], CURRENT_DIRECTORY, a[1], 0, 0]))
    }),
    SystemCall::new(linux::__NR_renameat, |t, a| Outcome::Return(rename(t, &[a[0], a[1], a[2], a[3], 0, 0]))),
    SystemCall::new(linux::__NR_renameat2, |t, a| Outcome::Return(rename(t, a))),
    SystemCall::new(linux::__NR_readlink, |t, a| Outcome::Return(readlink(t, CURRENT_DIRECTORY, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_readlinkat, |t, a| Outcome::Return(readlink(t, a[0], a[1], a[2], a[3]))),
    SystemCall::new(linux::__NR_chdir, |t, a| Outcome::Return(chdir(t, a))),
    SystemCall::new(linux::__NR_fchdir, |t, a| Outcome::Return(fchdir(t, a))),
    SystemCall::new(linux::__NR_getcwd, |t, a| Outcome::Return(getcwd(t, a))),
    SystemCall::new(linux::__NR_chroot, |t, a| Outcome::Return(chroot(t, a))),
    SystemCall::new(linux::__NR_umask, |t, a| Outcome::Return(umask(t, a))),
];

/// The directory argument that means the working directory (`AT_FDCWD`).
pub(super) const CURRENT_DIRECTORY: u64 = linux::AT_FDCWD as i64 as u64;

/// Runs something for the caller's place in the name space and its credentials. It must not change that place.
pub(super) fn with_actor<T>(thread: &Rc<Thread>, run: impl FnOnce(Actor<'_>) -> Result<T>) -> Result<T> {
    let context = thread.process.fs.borrow();
    let credentials = thread.process.credentials();
    run(Actor { context: &context, credentials: &credentials })
}

/// Reads a path argument. `ENOENT` for an empty one.
pub(super) fn path(thread: &Rc<Thread>, pointer: u64) -> Result<Vec<u8>> {
    let path = UserPtr::of_call(thread, pointer).read_path()?;
    if path.is_empty() { Err(Errno::ENOENT) } else { Ok(path) }
}

/// Where a path begins: for a relative one, at the directory that a descriptor names.
pub(super) fn start(thread: &Rc<Thread>, directory: u64, path: &[u8]) -> Result<Location> {
    let context = thread.process.fs.borrow();
    if directory as i32 == linux::AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(context.cwd.clone());
    }
    let file = thread.process.files.borrow().slots().get(directory as i32)?;
    let location = file.location().ok_or(Errno::ENOTDIR)?;
    if path.is_empty() || location.inode().is_directory() { Ok(location.clone()) } else { Err(Errno::ENOTDIR) }
}

/// The place that a directory and a path name.
pub(super) fn place(thread: &Rc<Thread>, directory: u64, path: &[u8], last: LastLink) -> Result<Location> {
    // Before the directory is looked at, as on Linux.
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let start = start(thread, directory, path)?;
    with_actor(thread, |actor| Walk::new(actor).place(&start, path, last))
}

fn parent(thread: &Rc<Thread>, directory: u64, path: &[u8]) -> Result<Parent> {
    let start = start(thread, directory, path)?;
    with_actor(thread, |actor| Walk::new(actor).parent(&start, path))
}

fn mkdir(thread: &Rc<Thread>, directory: u64, pointer: u64, permissions: u64) -> Result<u64> {
    let parent = parent(thread, directory, &path(thread, pointer)?)?;
    with_actor(thread, |actor| change::create(actor, &parent, permissions as u32, New::Directory))?;
    Ok(0)
}

fn mknod(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u64, device: u64) -> Result<u64> {
    let device = DeviceNumber::from_encoded(device);
    let body = match mode as u32 & linux::S_IFMT {
        0 | linux::S_IFREG => return make_regular(thread, directory, pointer, mode as u32),
        linux::S_IFCHR => Body::CharacterDevice(device),
        linux::S_IFBLK => Body::BlockDevice(device),
        linux::S_IFIFO => Body::Fifo(OnceCell::new()),
        linux::S_IFSOCK => Body::Socket,
        linux::S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let parent = parent(thread, directory, &path(thread, pointer)?)?;
    with_actor(thread, |actor| change::create(actor, &parent, mode as u32, New::Node(body)))?;
    Ok(0)
}

/// `mknod` of a regular file: what `open` would make there.
fn make_regular(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u32) -> Result<u64> {
    let parent = parent(thread, directory, &path(thread, pointer)?)?;
    with_actor(thread, |actor| {
        let body = parent.directory.inode().directory()?.new_file(actor.credentials)?;
        change::create(actor, &parent, mode, New::Node(body))
    })?;
    Ok(0)
}

fn symlink(thread: &Rc<Thread>, target: u64, directory: u64, pointer: u64) -> Result<u64> {
    let target = path(thread, target)?;
    let parent = parent(thread, directory, &path(thread, pointer)?)?;
    with_actor(thread, |actor| change::create(actor, &parent, 0o777, New::Link(target)))?;
    Ok(0)
}

/// `linkat(old directory, old path, new directory, new path, flags)`.
fn link(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[4] as u32;
    if flags & !(linux::AT_SYMLINK_FOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let old_path = UserPtr::of_call(thread, args[1]).read_path()?;
    if old_path.is_empty() && flags & linux::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if old_path.is_empty() {
        return link_descriptor(thread, args[0], args[2], &path(thread, args[3])?);
    }
    let follow = if flags & linux::AT_SYMLINK_FOLLOW != 0 { LastLink::Follow } else { LastLink::Keep };
    let old = place(thread, args[0], &old_path, follow)?;
    let parent = parent(thread, args[2], &path(thread, args[3])?)?;
    with_actor(thread, |actor| change::link(actor, &old, &parent))?;
    Ok(0)
}

fn link_descriptor(thread: &Rc<Thread>, fd: u64, directory: u64, new_path: &[u8]) -> Result<u64> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::ENOENT);
    }
    let file: Rc<OpenFile> = thread.process.files.borrow().slots().get(fd as i32)?;
    let parent = parent(thread, directory, new_path)?;
    let old = file.location().ok_or(Errno::EXDEV)?;
    with_actor(thread, |actor| change::link(actor, old, &parent))?;
    Ok(0)
}

fn unlink(thread: &Rc<Thread>, directory: u64, pointer: u64, flags: u64) -> Result<u64> {
    let flags = flags as u32;
    if flags & !linux::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let parent = parent(thread, directory, &path(thread, pointer)?)?;
    with_actor(thread, |actor| {
        if flags == 0 { change::unlink(actor, &parent) } else { change::remove_directory(actor, &parent) }
    })?;
    Ok(0)
}

/// `renameat2(old directory, old path, new directory, new path, flags)`.
fn rename(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let how = match args[4] as u32 {
        0 => Rename::Replace,
        linux::RENAME_NOREPLACE => Rename::Keep,
        linux::RENAME_EXCHANGE => Rename::Exchange,
        linux::RENAME_WHITEOUT => Rename::Whiteout,
        both if both == linux::RENAME_WHITEOUT | linux::RENAME_NOREPLACE => Rename::KeepWhiteout,
        _ => return Err(Errno::EINVAL),
    };
    let old = parent(thread, args[0], &path(thread, args[1])?)?;
    let new = parent(thread, args[2], &path(thread, args[3])?)?;
    with_actor(thread, |actor| change::rename(actor, &old, &new, how))?;
    Ok(0)
}

fn readlink(thread: &Rc<Thread>, directory: u64, pointer: u64, buffer: u64, size: u64) -> Result<u64> {
    let size = usize::try_from(size as i32).ok().filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
    let path = UserPtr::of_call(thread, pointer).read_path()?;
    let place = if path.is_empty() {
        start(thread, directory, &path).map_err(|errno| if errno == Errno::ENOTDIR { Errno::ENOENT } else { errno })?
    } else {
        place(thread, directory, &path, LastLink::Keep)?
    };
    let not_a_link = if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL };
    let context = thread.process.fs.borrow().clone();
    let text = place.inode().link().ok_or(not_a_link)?.text(&context)?;
    place.touch_accessed();
    let shown = text.get(..text.len().min(size)).unwrap_or_default();
    UserPtr::of_call(thread, buffer).write_bytes(shown)?;
    Ok(shown.len() as u64)
}

fn enter(thread: &Rc<Thread>, place: Location) -> Result<u64> {
    place.inode().directory()?;
    place.inode().check_access(&thread.process.credentials(), Access::EXECUTE)?;
    thread.process.fs.borrow_mut().cwd = place;
    thread.process.publish_directories();
    Ok(0)
}

fn chdir(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let place = place(thread, CURRENT_DIRECTORY, &path(thread, args[0])?, LastLink::Follow)?;
    enter(thread, place)
}

fn fchdir(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = thread.process.files.borrow().slots().get(args[0] as i32)?;
    let place = file.location().ok_or(Errno::ENOTDIR)?.clone();
    enter(thread, place)
}

fn getcwd(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let FsContext { root, cwd, .. } = thread.process.fs.borrow().clone();
    if cwd.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    let (mut path, reach) = cwd.path_from(&root);
    if reach == Reach::Outside {
        path.splice(0..0, *b"(unreachable)");
    }
    path.push(0);
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.len() as u64 > args[1] {
        return Err(Errno::ERANGE);
    }
    UserPtr::of_call(thread, args[0]).write_bytes(&path)?;
    Ok(path.len() as u64)
}

fn chroot(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let place = place(thread, CURRENT_DIRECTORY, &path(thread, args[0])?, LastLink::Follow)?;
    place.inode().directory()?;
    let credentials = thread.process.credentials();
    place.inode().check_access(&credentials, Access::EXECUTE)?;
    if !credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    thread.process.fs.borrow_mut().root = place;
    thread.process.publish_directories();
    Ok(0)
}

fn umask(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    const MASK: u64 = 0o777;
    let old = core::mem::replace(&mut thread.process.fs.borrow_mut().umask, (args[0] & MASK) as u32);
    thread.process.publish_directories();
    Ok(u64::from(old))
}
