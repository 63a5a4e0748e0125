//! Cutting and growing files.

use super::Arguments;
use crate::calls::blocking::usable_file;
use crate::calls::names::{CURRENT_DIRECTORY, place};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::fs::content::MAX_SIZE_BYTES;
use crate::fs::walk::LastLink;
use crate::fs::{Inode, Location, notify};
use crate::process::Thread;
use crate::signal::{Signal, SignalInfo, deliver};
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// Checks a size against `RLIMIT_FSIZE` where a file is to grow.
fn respect_size_limit(thread: &Rc<Thread>, inode: &Inode, size: u64) -> Result<()> {
    if size > inode.size() && size > thread.process.limit(linux::RLIMIT_FSIZE) {
        // It is the caller itself that is told; if its queue is full, the error has to do.
        let _ = deliver::send_to_thread(thread, SignalInfo::from_kernel(Signal::XFSZ));
        return Err(Errno::EFBIG);
    }
    Ok(())
}

pub(in crate::calls) fn set_size(thread: &Rc<Thread>, inode: &Inode, size: u64) -> Result<u64> {
    respect_size_limit(thread, inode, size)?;
    inode.content().ok_or(Errno::EINVAL)?.set_size(size)?;
    inode.touch_modified();
    if !thread.process.credentials().is_privileged() {
        inode.clear_set_id();
    }
    Ok(0)
}

fn checked_size(size: u64) -> Result<u64> {
    if size > MAX_SIZE_BYTES { Err(Errno::EINVAL) } else { Ok(size) }
}

pub(super) fn truncate(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let size = checked_size(args[1])?;
    let path = UserPtr::of_call(thread, args[0]).read_path()?;
    let place: Location = place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)?;
    let inode = place.inode();
    if inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    let content = inode.content().ok_or(Errno::EINVAL)?;
    place.check_writable()?;
    inode.check_access(&thread.process.credentials(), Access::WRITE)?;
    content.begin_write()?;
    let result = set_size(thread, inode, size);
    content.end_write();
    result.inspect(|_| notify::place(&place, notify::MODIFY))
}

pub(super) fn ftruncate(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let size = checked_size(args[1])?;
    let file = usable_file(thread, args[0])?;
    if file.inode().content().is_none() || !file.access().can_write() {
        return Err(Errno::EINVAL);
    }
    set_size(thread, file.inode(), size).inspect(|_| notify::file(&file, notify::MODIFY))
}
