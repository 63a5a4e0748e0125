//! Calls on signals that are files.

use super::blocking::usable_file;
use super::epoll::anonymous_inode;
use super::files::install;
use super::{SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::signal_file::SignalFile;
use crate::file::OpenFile;
use crate::process::Thread;
use crate::signal::SignalSet;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_signalfd, |t, a| signalfd(t, a[0] as i32, a[1], a[2], 0).into()),
    SystemCall::new(linux::__NR_signalfd4, |t, a| signalfd(t, a[0] as i32, a[1], a[2], a[3] as u32).into()),
];

/// The size of a signal set, which callers must name.
const SET_BYTES: u64 = 8;
/// Flags with the numbers of those of `open`.
const SFD_CLOEXEC: u32 = linux::O_CLOEXEC;
const SFD_NONBLOCK: u32 = linux::O_NONBLOCK;

fn signalfd(thread: &Rc<Thread>, fd: i32, set: u64, size: u64, flags: u32) -> Result<u64> {
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let wanted: SignalSet = pointer(thread, set).read()?;
    if flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if fd != -1 {
        let file = usable_file(thread, fd as u64)?;
        let signals = file.ops().event_file().and_then(EventFile::signals).ok_or(Errno::EINVAL)?;
        signals.set_wanted(wanted);
        thread.process.signal_sent.wake();
        return Ok(fd as u64);
    }
    let ops = Rc::new(SignalFile::new(wanted));
    let file = OpenFile::new(ops, anonymous_inode(thread)?, None, linux::O_RDWR | (flags & SFD_NONBLOCK))?;
    install(thread, file, flags & SFD_CLOEXEC)
}
