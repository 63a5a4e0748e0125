//! Calls on processes that are files.

use super::blocking::usable_file;
use super::epoll::anonymous_inode;
use super::files::install;
use super::signal::{check_permission, optional_signal};
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::process_file::ProcessFile;
use crate::file::OpenFile;
use crate::fs::body::Directory;
use crate::process::tree::Tree;
use crate::process::{Pid, Process, Thread};
use crate::signal::deliver::send;
use crate::signal::{SI_TKILL, SI_USER, SignalInfo};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_pidfd_open, |t, a| pidfd_open(t, a).into()),
    SystemCall::new(linux::__NR_pidfd_send_signal, |t, a| pidfd_send_signal(t, a).into()),
    SystemCall::new(linux::__NR_pidfd_getfd, |t, a| pidfd_getfd(t, a).into()),
    SystemCall::new(linux::__NR_process_mrelease, |t, a| process_mrelease(t, a).into()),
];

/// `PIDFD_NONBLOCK` has the number of the flag of `open`.
const PIDFD_NONBLOCK: u32 = linux::O_NONBLOCK;

fn open(thread: &Rc<Thread>, ops: ProcessFile, flags: u32) -> Result<u64> {
    let file = OpenFile::new(Rc::new(ops), anonymous_inode(thread)?, None, linux::O_RDWR | flags)?;
    install(thread, file, linux::O_CLOEXEC)
}

/// Gives a thread a descriptor of a process that it has made (`CLONE_PIDFD`), and writes its number.
pub fn give(thread: &Rc<Thread>, process: &Rc<Process>, address: u64) -> Result<u64> {
    let fd = open(thread, ProcessFile::new(process), 0)?;
    match pointer(thread, address).write(&(fd as i32)) {
        Ok(()) => Ok(fd),
        Err(errno) => {
            take_back(thread, fd);
            Err(errno)
        }
    }
}

/// Takes that descriptor away again.
pub fn take_back(thread: &Rc<Thread>, fd: u64) {
    let removed = thread.process.files.borrow().slots_mut().remove(fd as i32);
    drop(removed);
}

/// The process that a descriptor is a file of, by its number, and whether nothing is to be waited for. `EBADF`.
pub(super) fn named(thread: &Rc<Thread>, fd: u64) -> Result<(Pid, bool)> {
    let file = usable_file(thread, fd)?;
    let process = file.ops().event_file().and_then(EventFile::process).ok_or(Errno::EBADF)?;
    Ok((process.pid(), file.is_nonblocking()))
}

fn pidfd_open(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let (pid, flags) = (arguments[0] as Pid, arguments[1] as u32);
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let server = thread.server();
    let ops = match server.process(pid) {
        Some(process) => ProcessFile::new(&process),
        None if server.tree.look(Tree::is_zombie, pid) => ProcessFile::ended(pid),
        // A thread that is not the first of its process.
        None if server.thread(pid).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    open(thread, ops, flags)
}

/// Of whom a file is: the number, and the process unless it has ended. A directory of `/proc` will do (proc(5)). `EBADF`.
fn addressee(thread: &Thread, file: &OpenFile) -> Result<(Pid, Option<Rc<Process>>)> {
    if let Some(named) = file.ops().event_file().and_then(EventFile::process) {
        return Ok((named.pid(), named.process()));
    }
    let pid = file.inode().directory().ok().and_then(Directory::process).ok_or(Errno::EBADF)?;
    Ok((pid, thread.server().process(pid)))
}

fn pidfd_send_signal(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, number, info, flags, ..] = *arguments;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(thread, fd)?;
    let (pid, process) = addressee(thread, &file)?;
    let own = &thread.process;
    let given = if info == 0 {
        None
    } else {
        let mut bytes = [0; 128];
        pointer(thread, info).read_bytes(&mut bytes)?;
        let told = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if told != number as u32 {
            return Err(Errno::EINVAL);
        }
        Some(bytes)
    };
    let signal = optional_signal(number)?;
    let info = signal.map(|signal| match given {
        Some(bytes) => SignalInfo::from_bytes(signal, &bytes),
        None => SignalInfo::from_process(signal, SI_USER, own.pid, own.credentials().uid),
    });
    let pretends = given.is_some() && info.is_some_and(|info| info.code >= 0 || info.code == SI_TKILL);
    if pretends && pid != own.pid {
        return Err(Errno::EPERM);
    }
    let Some(process) = process else {
        // What nobody has waited for can be sent signals, to no effect.
        return if is_zombie(thread, pid) { Ok(()) } else { Err(Errno::ESRCH) };
    };
    check_permission(thread, &process, signal)?;
    info.map_or(Ok(()), |info| send(&process, info))
}

/// Whether a process that has ended still has its number.
fn is_zombie(thread: &Thread, pid: Pid) -> bool {
    thread.server().process(pid).is_none() && thread.server().tree.look(Tree::is_zombie, pid)
}

fn pidfd_getfd(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [pidfd, fd, flags, ..] = *arguments;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(thread, pidfd)?;
    let named = file.ops().event_file().and_then(EventFile::process).ok_or(Errno::EBADF)?;
    let process = named.process().ok_or(Errno::ESRCH)?;
    let (own, theirs) = (thread.process.credentials(), process.credentials());
    let may_trace = own.is_privileged()
        || [theirs.uid, theirs.euid, theirs.suid] == [own.uid; 3]
            && [theirs.gid, theirs.egid, theirs.sgid] == [own.gid; 3];
    if process.pid != thread.process.pid && !may_trace {
        return Err(Errno::EPERM);
    }
    let target = process.files.borrow().slots().get(fd as i32)?;
    install(thread, target, linux::O_CLOEXEC)
}

/// Memory goes at the moment when its process ends: what is there belongs to a process that goes on (`EINVAL`), and of others
/// there is nothing to release (`ESRCH`).
fn process_mrelease(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, flags, ..] = *arguments;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let (pid, _) = named(thread, fd)?;
    if thread.server().process(pid).is_some() { Err(Errno::EINVAL) } else { Err(Errno::ESRCH) }
}
