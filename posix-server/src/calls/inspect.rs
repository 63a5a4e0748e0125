//! Calls by which one process looks into another: `process_vm_readv` and its counterpart, `kcmp`.

use super::access::may_inspect;
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::{Pid, Process, Thread};
use crate::user::UserBuffer;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use linux_raw_sys::general as linux;

const AT_ONCE: &str = "one call moves 1 MiB at most, and says so by its result";

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_process_vm_readv, |t, a| transfer(t, a, Direction::Read).into()).partly(AT_ONCE),
    SystemCall::new(linux::__NR_process_vm_writev, |t, a| transfer(t, a, Direction::Write).into()).partly(AT_ONCE),
    SystemCall::new(linux::__NR_process_madvise, |t, a| process_madvise(t, a).into())
        .with_flags("MADV_COLD MADV_PAGEOUT MADV_WILLNEED"),
    SystemCall::new(linux::__NR_kcmp, |t, a| kcmp(t, a).into())
        .with_flags("KCMP_FILE KCMP_VM KCMP_FILES KCMP_FS KCMP_SIGHAND KCMP_IO KCMP_SYSVSEM")
        .partly("KCMP_EPOLL_TFD gets EINVAL"),
];

/// Which way bytes go, as the caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The most that one call moves.
const MAX_BYTES: u64 = 1 << 20;

/// The process that a number means, if the caller may look into it. `ESRCH`, `EPERM`.
fn inspected(thread: &Thread, pid: u64) -> Result<Rc<Process>> {
    let target = thread.server().thread(pid as Pid).ok_or(Errno::ESRCH)?.process.clone();
    if may_inspect(thread, &target) { Ok(target) } else { Err(Errno::EPERM) }
}

fn transfer(thread: &Rc<Thread>, arguments: &Arguments, direction: Direction) -> Result<u64> {
    let [pid, local, local_count, remote, remote_count, flags] = *arguments;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = thread.space();
    let local = UserBuffer::from_io_vectors(&own, local, local_count)?;
    if local.is_empty() {
        return Ok(0);
    }
    let remote = UserBuffer::from_io_vectors(&own, remote, remote_count)?;
    if remote.is_empty() {
        return Ok(0);
    }
    let remote = remote.in_space(&inspected(thread, pid)?.space());
    match direction {
        Direction::Read => copy(remote, local),
        Direction::Write => copy(local, remote),
    }
}

/// Copies as far as both sides go. `EFAULT` if that is nothing.
fn copy(mut from: UserBuffer, mut to: UserBuffer) -> Result<u64> {
    let mut chunk = [0; 4096];
    let mut done = 0;
    while !from.is_empty() && !to.is_empty() && done < MAX_BYTES {
        let count = from.remaining().min(to.remaining()).min(chunk.len() as u64) as usize;
        let part = chunk.get_mut(..count).unwrap_or_default();
        let moved = from.read(part).and_then(|read| to.write(part.get(..read).unwrap_or_default()));
        match moved {
            Ok(0) => break,
            Ok(moved) => done += moved as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// What `kcmp` says of two things: the same, or which comes first.
fn order(first: usize, second: usize) -> u64 {
    match first.cmp(&second) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    }
}

fn same(is_same: bool, first: &Process, second: &Process) -> u64 {
    if is_same { 0 } else { order(first.pid as usize, second.pid as usize) }
}

fn kcmp(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [first, second, kind, first_index, second_index, _] = *arguments;
    let (one, other) = (inspected(thread, first)?, inspected(thread, second)?);
    let is_same_process = one.pid == other.pid;
    Ok(match kind {
        0 => {
            let file = |process: &Process, fd: u64| process.files.borrow().slots().get(fd as i32);
            let (one, other) = (file(&one, first_index)?, file(&other, second_index)?);
            order(Rc::as_ptr(&one).addr(), Rc::as_ptr(&other).addr())
        }
        1 => same(Rc::ptr_eq(&one.vm(), &other.vm()), &one, &other),
        2 => same(is_same_process || one.files.borrow().is_same(&other.files.borrow()), &one, &other),
        3 => same(is_same_process || one.shares_directories_with(&other), &one, &other),
        4 => same(is_same_process || one.signals.borrow().is_same(&other.signals.borrow()), &one, &other),
        // Nobody has any.
        5 | 6 => 0,
        _ => return Err(Errno::EINVAL),
    })
}

/// `struct iovec`: where a range begins, and its length.
type Range = [u64; 2];

/// Advice for another process; nothing is ever paged out, so all that is left is to check. Tells how many bytes it was about.
fn process_madvise(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [file, vectors, count, advice, flags, _] = *arguments;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    if count > u64::from(linux::UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let ranges: Vec<Range> = pointer(thread, vectors).read_array(usize::try_from(count).map_err(|_| Errno::EINVAL)?)?;
    let (pid, _) = super::pidfd::named(thread, file)?;
    let target = thread.server().process(pid).ok_or(Errno::ESRCH)?;
    if !matches!(advice as u32, linux::MADV_COLD | linux::MADV_PAGEOUT | linux::MADV_WILLNEED) {
        return Err(Errno::EINVAL);
    }
    if !may_inspect(thread, &target) {
        return Err(Errno::EACCES);
    }
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let vm = target.vm();
    let mut done = 0;
    for [start, length] in ranges {
        match vm.check_covered(start, length) {
            Ok(_) => done += length,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
