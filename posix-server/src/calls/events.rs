//! Calls that make files without names: event counters, and memory.

use super::epoll::anonymous_inode;
use super::files::install;
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::event::counter::{EventCounter, Taking};
use crate::file::OpenFile;
use crate::fs::content::Content;
use crate::fs::{Body, Inode, open};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_eventfd, |t, a| Outcome::Return(eventfd(t, a[0], 0))),
    SystemCall::new(linux::__NR_eventfd2, |t, a| Outcome::Return(eventfd(t, a[0], a[1] as u32))),
    SystemCall::new(linux::__NR_memfd_create, |t, a| Outcome::Return(memfd_create(t, a))),
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

/// The longest name that a program may give to memory: what is left of a file name after Linux's own prefix.
const MAX_MEMORY_NAME: usize = linux::NAME_MAX as usize - "memfd:".len();

/// `memfd_create(name, flags)`: a regular file without a name. The name that is given is only for people.
fn memfd_create(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let flags = args[1] as u32;
    if flags & !(linux::MFD_CLOEXEC | linux::MFD_ALLOW_SEALING) != 0 {
        return Err(Errno::EINVAL);
    }
    match UserPtr::new(&thread.space(), args[0]).read_c_string(MAX_MEMORY_NAME + 1) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        name => name?,
    };
    let root = thread.process.fs.borrow().root.clone();
    let credentials = thread.process.credentials();
    let body = Body::Regular(Content::empty());
    let inode = Inode::new(root.inode().filesystem(), 0o777, credentials.fsuid, credentials.fsgid, body)
        .map_err(|_| Errno::ENFILE)?;
    inode.remove_link();
    let file = open::open_unnamed_inode(&inode)?;
    let close = if flags & linux::MFD_CLOEXEC != 0 { linux::O_CLOEXEC } else { 0 };
    install(thread, file, close)
}
