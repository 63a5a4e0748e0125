//! Calls on advisory locks: record locks of processes and open files (`fcntl`), whole-file locks (`flock`).

use super::blocking::{self, Woken, usable_file};
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::locks::{Lock, LockKind, Owner};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::boxed::Box;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[SystemCall::new(linux::__NR_flock, flock)];

/// `struct flock`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Record {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    length: i64,
    pid: i32,
    padding_at_end: u32,
}

/// The range of bytes that a record names: start, and end or `u64::MAX`.
fn range(file: &OpenFile, record: &Record) -> Result<(u64, u64)> {
    let base = match record.whence as u32 {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => file.position() as i64,
        linux::SEEK_END => file.inode().size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(record.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match record.length {
        0 => (start, None),
        1.. => {
            let last = start.checked_add(record.length - 1).ok_or(Errno::EOVERFLOW)?;
            // What ends with the last byte there can be goes on for ever.
            (start, last.checked_add(1))
        }
        _ => (start.checked_add(record.length).ok_or(Errno::EINVAL)?, Some(start)),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let end = end.map_or(Ok(u64::MAX), u64::try_from).map_err(|_| Errno::EINVAL)?;
    Ok((start, end))
}

/// The locks of `fcntl`.
pub(super) fn fcntl(thread: &Rc<Thread>, file: Rc<OpenFile>, command: u32, argument: u64) -> Outcome {
    let pointer = UserPtr::new(&thread.space(), argument);
    let prepared = (|| {
        let record: Record = pointer.read()?;
        let by_file = matches!(command, linux::F_OFD_GETLK | linux::F_OFD_SETLK | linux::F_OFD_SETLKW);
        if by_file && record.pid != 0 {
            return Err(Errno::EINVAL);
        }
        let owner = if by_file { Owner::File(file.id()) } else { Owner::Process(thread.process.pid) };
        let (start, end) = range(&file, &record)?;
        let kind = match record.kind as u32 {
            linux::F_RDLCK => Some(LockKind::Shared),
            linux::F_WRLCK => Some(LockKind::Exclusive),
            linux::F_UNLCK => None,
            _ => return Err(Errno::EINVAL),
        };
        Ok((record, owner, start, end, kind))
    })();
    let (record, owner, start, end, kind) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    if matches!(command, linux::F_GETLK | linux::F_OFD_GETLK) {
        let Some(kind) = kind else { return Outcome::Return(Err(Errno::EINVAL)) };
        let answer = tell(&file, record, &Lock { owner, kind, start, end });
        return Outcome::Return(pointer.write(&answer).map(|()| 0));
    }
    let Some(kind) = kind else {
        if let Some(locks) = file.inode().locks_if_any() {
            locks.unlock(owner, start, end);
        }
        return Outcome::Return(Ok(0));
    };
    let allowed = match kind {
        LockKind::Shared => file.check_readable(),
        LockKind::Exclusive => file.check_writable(),
    };
    let lock = Lock { owner, kind, start, end };
    match allowed.and_then(|()| file.inode().locks().lock(lock)) {
        Err(Errno::EAGAIN) if matches!(command, linux::F_SETLKW | linux::F_OFD_SETLKW) => {
            Outcome::block(wait_for_record(thread.clone(), file, lock))
        }
        result => Outcome::Return(result.map(|()| 0)),
    }
}

/// What `F_GETLK` answers: the lock that is in the way, or that there is none.
fn tell(file: &OpenFile, record: Record, wanted: &Lock) -> Record {
    let Some(held) = file.inode().locks().conflict(wanted) else {
        return Record { kind: linux::F_UNLCK as i16, ..record };
    };
    let kind = match held.kind {
        LockKind::Shared => linux::F_RDLCK,
        LockKind::Exclusive => linux::F_WRLCK,
    };
    let length = if held.end == u64::MAX { 0 } else { (held.end - held.start) as i64 };
    let pid = match held.owner {
        Owner::Process(pid) => pid,
        Owner::File(_) => -1,
    };
    let whence = linux::SEEK_SET as i16;
    Record { kind: kind as i16, whence, start: held.start as i64, length, pid, ..record }
}

fn flock(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let operation = args[1] as u32;
    // Mandatory locks are gone; Linux takes the flag and does nothing.
    if operation & linux::LOCK_MAND != 0 {
        return Outcome::Return(Ok(0));
    }
    let kind = match operation & !linux::LOCK_NB {
        linux::LOCK_SH => Some(LockKind::Shared),
        linux::LOCK_EX => Some(LockKind::Exclusive),
        linux::LOCK_UN => None,
        _ => return Outcome::Return(Err(Errno::EINVAL)),
    };
    let file = match usable_file(thread, args[0]) {
        Ok(file) => file,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    let Some(kind) = kind else {
        file.inode().locks().unlock_whole(file.id());
        return Outcome::Return(Ok(0));
    };
    if file.inode().locks().lock_whole(file.id(), kind) {
        return Outcome::Return(Ok(0));
    }
    if operation & linux::LOCK_NB != 0 {
        return Outcome::Return(Err(Errno::EAGAIN));
    }
    Outcome::Block(Box::pin(wait(thread.clone(), file, move |file| file.inode().locks().lock_whole(file.id(), kind))))
}

/// Waits for a record lock. `EDEADLK` if whoever has it waits for this one.
async fn wait_for_record(thread: Rc<Thread>, file: Rc<OpenFile>, lock: Lock) -> Result<u64> {
    let waits = thread.process.fs.borrow().namespace.lock_waits().clone();
    loop {
        let listener = file.inode().locks().changed().listen();
        match file.inode().locks().lock(lock) {
            Err(Errno::EAGAIN) => {}
            result => return result.map(|()| 0),
        }
        if waits.is_deadlock(&lock, file.inode()) {
            return Err(Errno::EDEADLK);
        }
        let waiting = waits.enter(lock, file.inode());
        let woken = blocking::wait(&thread, listener, None).await;
        drop(waiting);
        if woken == Woken::Interrupted {
            return Err(Errno::RESTART);
        }
    }
}

async fn wait(thread: Rc<Thread>, file: Rc<OpenFile>, take: impl Fn(&OpenFile) -> bool) -> Result<u64> {
    loop {
        let listener = file.inode().locks().changed().listen();
        if take(&file) {
            return Ok(0);
        }
        if blocking::wait(&thread, listener, None).await == Woken::Interrupted {
            return Err(Errno::RESTART);
        }
    }
}
