//! Calls that make files without names: event counters.

use super::epoll::anonymous_inode;
use super::files::install;
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::event::counter::{EventCounter, Taking};
use crate::file::OpenFile;
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_eventfd, |t, a| Outcome::Return(eventfd(t, a[0], 0))),
    SystemCall::new(linux::__NR_eventfd2, |t, a| Outcome::Return(eventfd(t, a[0], a[1] as u32))),
];

fn eventfd(thread: &Rc<Thread>, count: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::EFD_SEMAPHORE | linux::EFD_CLOEXEC | linux::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let taking = if flags & linux::EFD_SEMAPHORE != 0 { Taking::One } else { Taking::All };
    let inode = anonymous_inode(thread)?;
    let ops = Rc::new(EventCounter::new(u64::from(count as u32), taking));
    // The flags have the numbers of those of `open`.
    let file = OpenFile::new(ops, inode, None, linux::O_RDWR | (flags & linux::EFD_NONBLOCK))?;
    install(thread, file, flags & linux::EFD_CLOEXEC)
}
