//! Calls on inotify instances.

use super::blocking::usable_file;
use super::epoll::anonymous_inode;
use super::files::install;
use super::{Arguments, SystemCall, names};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::inotify::{Inotify, InotifyFile};
use crate::file::OpenFile;
use crate::fs::walk::LastLink;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_inotify_init, |t, _| init(t, 0).into()),
    SystemCall::new(linux::__NR_inotify_init1, |t, a| init(t, a[0] as u32).into()),
    SystemCall::new(linux::__NR_inotify_add_watch, |t, a| add_watch(t, a).into()),
    SystemCall::new(linux::__NR_inotify_rm_watch, |t, a| remove_watch(t, a).into()),
];

/// Flags with the numbers of those of `open`.
const IN_CLOEXEC: u32 = linux::O_CLOEXEC;
const IN_NONBLOCK: u32 = linux::O_NONBLOCK;

/// All bits that `inotify_add_watch` knows.
const KNOWN: u32 = linux::IN_ALL_EVENTS
    | linux::IN_UNMOUNT
    | linux::IN_Q_OVERFLOW
    | linux::IN_IGNORED
    | linux::IN_ONLYDIR
    | linux::IN_DONT_FOLLOW
    | linux::IN_EXCL_UNLINK
    | linux::IN_MASK_CREATE
    | linux::IN_MASK_ADD
    | linux::IN_ISDIR
    | linux::IN_ONESHOT;

/// A limit that the superuser can set in `/proc/sys`.
fn setting(thread: &Thread, name: &str, default: i64) -> u64 {
    u64::try_from(thread.server().settings.number(name, default)).unwrap_or_default()
}

fn init(thread: &Rc<Thread>, flags: u32) -> Result<u64> {
    if flags & !(IN_CLOEXEC | IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let ops = Rc::new(InotifyFile(Inotify::new(setting(thread, "fs/inotify/max_user_instances", 128))?));
    let file = OpenFile::new(ops, anonymous_inode(thread)?, None, linux::O_RDONLY | (flags & IN_NONBLOCK))?;
    install(thread, file, flags & IN_CLOEXEC)
}

/// Runs `action` on the instance that a descriptor names. `EBADF`, `EINVAL`.
fn with_instance<T>(file: &OpenFile, action: impl FnOnce(&Inotify) -> Result<T>) -> Result<T> {
    let instance = file.ops().event_file().and_then(EventFile::inotify).ok_or(Errno::EINVAL)?;
    action(instance)
}

fn add_watch(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [fd, path, mask, ..] = *arguments;
    let mask = mask as u32;
    if mask & !KNOWN != 0 || mask == 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(thread, fd)?;
    let both = linux::IN_MASK_ADD | linux::IN_MASK_CREATE;
    if mask & both == both {
        return Err(Errno::EINVAL);
    }
    with_instance(&file, |instance| {
        let path = UserPtr::new(&thread.space(), path).read_path()?;
        let last = if mask & linux::IN_DONT_FOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
        let place = names::place(thread, names::CURRENT_DIRECTORY, &path, last)?;
        if mask & linux::IN_ONLYDIR != 0 && !place.inode().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        place.inode().check_access(&thread.process.credentials(), Access::READ)?;
        let max_watches = setting(thread, "fs/inotify/max_user_watches", 65_536);
        let number = instance.add(place.inode(), mask, max_watches)?;
        if mask & (linux::IN_ACCESS | linux::IN_MODIFY) != 0 {
            crate::shared::watch_added(thread.server(), place.inode());
        }
        Ok(number as u64)
    })
}

fn remove_watch(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, number, ..] = *arguments;
    let file = usable_file(thread, fd)?;
    with_instance(&file, |instance| instance.remove(number as i32))
}
