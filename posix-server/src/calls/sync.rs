//! Calls on when bytes are where. There is no disk: what is written is as safe as it will ever be, and what is read is there.

use super::blocking::usable_file;
use super::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::fs::Body;
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_fsync, |t, a| fsync(t, a).into()),
    SystemCall::new(linux::__NR_fdatasync, |t, a| fsync(t, a).into()),
    SystemCall::new(linux::__NR_syncfs, |t, a| usable_file(t, a[0]).map(|_| 0).into()),
    SystemCall::new(linux::__NR_sync, |_, _| Outcome::Return(Ok(0))),
    SystemCall::new(linux::__NR_sync_file_range, |t, a| sync_file_range(t, a).into()),
    SystemCall::new(linux::__NR_fadvise64, |t, a| fadvise(t, a).into()),
    SystemCall::new(linux::__NR_readahead, |t, a| readahead(t, a).into()),
];

/// What can't be synchronized says so.
fn fsync(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    let stored = file.inode().content().is_some() || file.inode().is_directory();
    if stored { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `sync_file_range(fd, offset, length, flags)`.
fn sync_file_range(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let known = linux::SYNC_FILE_RANGE_WAIT_BEFORE | linux::SYNC_FILE_RANGE_WRITE | linux::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = usable_file(thread, args[0])?;
    let (offset, length) = (args[1] as i64, args[2] as i64);
    let end = offset.checked_add(length);
    if args[3] as u32 & !known != 0 || offset < 0 || end.is_none_or(|end| end < offset) {
        return Err(Errno::EINVAL);
    }
    match file.inode().body() {
        Body::Regular(_) | Body::Generated(_) | Body::Directory(_) | Body::Link(_) | Body::BlockDevice(_) => Ok(0),
        Body::CharacterDevice(_) | Body::Fifo(_) | Body::Socket | Body::Anonymous => Err(Errno::ESPIPE),
    }
}

fn fadvise(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    if file.ops().pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if args[3] as u32 > linux::POSIX_FADV_NOREUSE || (args[2] as i64) < 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

fn readahead(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    file.check_readable()?;
    if file.inode().content().is_none() { Err(Errno::EINVAL) } else { Ok(0) }
}
