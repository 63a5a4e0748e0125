//! `fcntl`: descriptors, flags, owners, pipes, seals; locks and leases are in modules of their own.

use super::blocking::file;
use super::files::descriptor_limit;
use super::{Arguments, Outcome, SystemCall, locks, pointer};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, AsyncOwner, OnExec, OpenFile, StatusFlags, asynchronous};
use crate::fs::Body;
use crate::fs::content::{Content, Seals};
use crate::pipe::Privilege;
use crate::process::{Pid, Thread};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] =
    &[SystemCall::new(linux::__NR_fcntl, fcntl).partly("F_NOTIFY and F_SETLEASE: EINVAL")];

/// `F_GETOWNER_UIDS`, for checkpoints only.
const GET_OWNER_UIDS: u32 = 17;
/// `F_SET_RW_HINT`.
const SET_RW_HINT: u32 = linux::F_GET_RW_HINT + 1;

fn fcntl(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let file = match file(thread, args[0]) {
        Ok(file) => file,
        Err(errno) => return errno.into(),
    };
    let (command, argument) = (args[1] as u32, args[2]);
    match descriptor_command(thread, &file, args) {
        Some(result) => return result.into(),
        None if file.access() == AccessMode::Path => return Errno::EBADF.into(),
        None => {}
    }
    match command {
        linux::F_GETLK
        | linux::F_SETLK
        | linux::F_SETLKW
        | linux::F_OFD_GETLK
        | linux::F_OFD_SETLK
        | linux::F_OFD_SETLKW => locks::fcntl(thread, file, command, argument),
        linux::F_SETFL => set_status(thread, &file, args[0] as i32, argument as u32).into(),
        linux::F_GETPIPE_SZ => Outcome::from(file.ops().pipe().map(|pipe| pipe.capacity() as u64).ok_or(Errno::EBADF)),
        linux::F_SETPIPE_SZ => set_pipe_size(thread, &file, argument).into(),
        linux::F_GET_SEALS => Outcome::from(sealable(&file).map(|content| u64::from(content.seals().bits()))),
        linux::F_ADD_SEALS => add_seals(&file, argument).into(),
        linux::F_GETOWN
        | linux::F_SETOWN
        | linux::F_GETOWN_EX
        | linux::F_SETOWN_EX
        | linux::F_GETSIG
        | linux::F_SETSIG
        | GET_OWNER_UIDS => owner_command(thread, &file, command, argument).into(),
        linux::F_GET_RW_HINT | SET_RW_HINT => hint_command(thread, &file, command, argument).into(),
        _ => Errno::EINVAL.into(),
    }
}

/// The commands that concern the descriptor, and work also if it is only a path.
fn descriptor_command(thread: &Rc<Thread>, file: &Rc<OpenFile>, args: &Arguments) -> Option<Result<u64>> {
    let (fd, argument) = (args[0] as i32, args[2]);
    let files = &thread.process.files;
    let close_on_exec = u64::from(linux::FD_CLOEXEC);
    Some(match args[1] as u32 {
        linux::F_DUPFD => duplicate_above(thread, file.clone(), argument, OnExec::Keep),
        linux::F_DUPFD_CLOEXEC => duplicate_above(thread, file.clone(), argument, OnExec::Close),
        linux::F_DUPFD_QUERY => {
            let other = files.borrow().slots().get(argument as i32);
            other.map(|other| u64::from(Rc::ptr_eq(&other, file)))
        }
        linux::F_CREATED_QUERY => Ok(u64::from(file.was_created())),
        linux::F_GETFD => {
            let on_exec = files.borrow().slots().on_exec(fd);
            on_exec.map(|on_exec| if on_exec == OnExec::Close { close_on_exec } else { 0 })
        }
        linux::F_SETFD => {
            let on_exec = if argument & close_on_exec != 0 { OnExec::Close } else { OnExec::Keep };
            files.borrow().slots_mut().set_on_exec(fd, on_exec).map(|()| 0)
        }
        linux::F_GETFL => Ok(u64::from(file.flags())),
        _ => return None,
    })
}

fn duplicate_above(thread: &Rc<Thread>, file: Rc<OpenFile>, minimum: u64, on_exec: OnExec) -> Result<u64> {
    let limit = descriptor_limit(thread);
    let minimum = Some(minimum as u32).filter(|minimum| u64::from(*minimum) < limit).ok_or(Errno::EINVAL)?;
    thread.process.files.borrow().slots_mut().insert(file, minimum, on_exec, limit).map(|fd| fd as u64)
}

pub(super) fn set_status(thread: &Rc<Thread>, file: &Rc<OpenFile>, fd: i32, flags: u32) -> Result<u64> {
    let status = StatusFlags::from_bits_truncate(flags);
    let gains = status.difference(file.status());
    let owns = thread.process.credentials().is_owner_or_privileged(file.inode().uid());
    if gains.contains(StatusFlags::NO_ACCESS_TIME) && !owns {
        return Err(Errno::EPERM);
    }
    if gains.contains(StatusFlags::DIRECT) && file.inode().content().is_none() && !is_fifo(file) {
        return Err(Errno::EINVAL);
    }
    let lost = file.status().difference(status);
    file.set_status(status);
    if gains.contains(StatusFlags::ASYNC) {
        file.set_signals(asynchronous::begin(file, thread.server(), fd));
    } else if lost.contains(StatusFlags::ASYNC) {
        file.set_signals(None);
    }
    Ok(0)
}

fn is_fifo(file: &OpenFile) -> bool {
    matches!(file.inode().body(), Body::Fifo(_))
}

fn set_pipe_size(thread: &Rc<Thread>, file: &OpenFile, bytes: u64) -> Result<u64> {
    let pipe = file.ops().pipe().ok_or(Errno::EBADF)?;
    /// The largest size that means anything.
    const MAX_BYTES: u32 = 1 << 31;
    let bytes = (bytes as u32).max(1);
    if bytes > MAX_BYTES {
        return Err(Errno::EINVAL);
    }
    let privileged = thread.process.credentials().is_privileged();
    let who = if privileged { Privilege::Superuser } else { Privilege::Ordinary };
    pipe.set_capacity(bytes as usize, who).map(|capacity| capacity as u64)
}

/// The content of a file that can be sealed: one in memory. `EINVAL`.
fn sealable(file: &OpenFile) -> Result<&Content> {
    file.inode().content().ok_or(Errno::EINVAL)
}

fn add_seals(file: &OpenFile, argument: u64) -> Result<u64> {
    let content = sealable(file)?;
    if !file.access().can_write() {
        return Err(Errno::EPERM);
    }
    let seals = u32::try_from(argument).ok().and_then(Seals::from_bits).ok_or(Errno::EINVAL)?;
    const ANY_EXECUTE: u32 = 0o111;
    content.add_seals(seals, file.inode().mode() & ANY_EXECUTE != 0)?;
    Ok(0)
}

/// What is told of readiness by signal: to whom, and by which.
fn owner_command(thread: &Rc<Thread>, file: &Rc<OpenFile>, command: u32, argument: u64) -> Result<u64> {
    match command {
        linux::F_GETOWN => {
            let number = match file.owner() {
                AsyncOwner::Process(pid) | AsyncOwner::Thread(pid) => pid,
                AsyncOwner::Group(group) => -group,
            };
            Ok(i64::from(number) as u64)
        }
        linux::F_SETOWN => {
            let number = argument as i32;
            let owner = match number {
                i32::MIN => return Err(Errno::EINVAL),
                -2_147_483_647..0 => AsyncOwner::Group(-number),
                0.. => AsyncOwner::Process(number),
            };
            set_owner(thread, file, owner)
        }
        linux::F_GETOWN_EX => {
            let record = match file.owner() {
                AsyncOwner::Thread(pid) => [linux::F_OWNER_TID as i32, pid],
                AsyncOwner::Process(pid) => [linux::F_OWNER_PID as i32, pid],
                AsyncOwner::Group(group) => [linux::F_OWNER_PGRP as i32, group],
            };
            pointer(thread, argument).write(&record).map(|()| 0)
        }
        linux::F_SETOWN_EX => {
            let [kind, number]: [i32; 2] = pointer(thread, argument).read()?;
            let owner = match kind as u32 {
                linux::F_OWNER_TID => AsyncOwner::Thread(number),
                linux::F_OWNER_PID => AsyncOwner::Process(number),
                linux::F_OWNER_PGRP => AsyncOwner::Group(number),
                _ => return Err(Errno::EINVAL),
            };
            set_owner(thread, file, owner)
        }
        linux::F_GETSIG => Ok(u64::from(file.async_signal())),
        linux::F_SETSIG => {
            /// The largest number of a signal.
            const SIGNAL_MAX: u64 = 64;
            let signal = u8::try_from(argument).ok().filter(|_| argument <= SIGNAL_MAX).ok_or(Errno::EINVAL)?;
            file.set_async_signal(signal);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Sets who is told. `ESRCH` if there is nobody of that number.
fn set_owner(thread: &Rc<Thread>, file: &Rc<OpenFile>, owner: AsyncOwner) -> Result<u64> {
    let server = thread.server();
    let exists = match owner {
        AsyncOwner::Process(0) | AsyncOwner::Group(0) | AsyncOwner::Thread(0) => true,
        AsyncOwner::Process(pid) => server.process(pid).is_some(),
        AsyncOwner::Thread(tid) => server.thread(tid).is_some(),
        AsyncOwner::Group(group) => group_exists(thread, group),
    };
    if !exists {
        return Err(Errno::ESRCH);
    }
    file.set_owner(owner, &thread.process.credentials());
    Ok(0)
}

fn group_exists(thread: &Thread, group: Pid) -> bool {
    thread.server().processes().iter().any(|process| process.group() == group)
}

/// Hints on how long what is written will live: kept with the file, and of no effect.
fn hint_command(thread: &Rc<Thread>, file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
    let pointer = pointer(thread, argument);
    let inode = file.inode();
    match command {
        linux::F_GET_RW_HINT => pointer.write(&inode.write_hint()).map(|()| 0),
        SET_RW_HINT => {
            let hint: u64 = pointer.read()?;
            if hint > u64::from(linux::RWH_WRITE_LIFE_EXTREME) {
                return Err(Errno::EINVAL);
            }
            inode.set_write_hint(hint);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
