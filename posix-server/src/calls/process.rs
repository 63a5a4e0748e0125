//! Calls that make and end processes and threads.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::PAGE_SIZE;
use crate::process::end::{end_process, end_thread};
use crate::process::tree::ExitStatus;
use crate::process::{CloneRequest, Pid, Process, Thread, Whereabouts, check_name_spaces, clone};
use crate::ptrace::Event;
use crate::ptrace::stops::{report, wants};
use crate::signal::Signal;
use crate::user::USER_END;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const CLONE_FLAGS: &str = "CLONE_VM CLONE_FS CLONE_FILES CLONE_NEWNS CLONE_SIGHAND CLONE_PIDFD CLONE_VFORK CLONE_PARENT CLONE_THREAD \
     CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_CHILD_SETTID";
const CLONE3_FLAGS: &str = "CLONE_VM CLONE_FS CLONE_FILES CLONE_NEWNS CLONE_SIGHAND CLONE_PIDFD CLONE_VFORK CLONE_PARENT CLONE_THREAD \
     CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_CHILD_SETTID CLONE_CLEAR_SIGHAND \
     CLONE_INTO_CGROUP";
const NAME_SPACES: &str = "new name spaces but those of mounts get EINVAL, or EPERM without privilege; threads always share descriptors and directories";

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_fork, |t, _| clone(t, &plain(0))),
    SystemCall::new(linux::__NR_vfork, |t, _| clone(t, &plain(linux::CLONE_VFORK | linux::CLONE_VM))),
    SystemCall::new(linux::__NR_clone, clone_by_registers).with_flags(CLONE_FLAGS).partly(NAME_SPACES),
    SystemCall::new(linux::__NR_clone3, clone_by_record).with_flags(CLONE3_FLAGS).partly(NAME_SPACES),
    SystemCall::new(linux::__NR_unshare, |t, a| unshare(t, a[0]).into())
        .with_flags("CLONE_FILES CLONE_FS CLONE_NEWNS CLONE_SIGHAND CLONE_SYSVSEM CLONE_THREAD CLONE_VM")
        .partly("new name spaces but those of mounts get EINVAL, or EPERM without privilege; one of several threads gets EINVAL for CLONE_FS and CLONE_FILES"),
    SystemCall::new(linux::__NR_setns, |t, a| setns(t, a[0]).into()).partly("no descriptor is one of a name space: EINVAL"),
    SystemCall::new(linux::__NR_exit, exit),
    SystemCall::new(linux::__NR_exit_group, exit_group),
    SystemCall::new(linux::__NR_set_tid_address, set_tid_address),
];

fn plain(flags: u32) -> CloneRequest {
    CloneRequest { flags: u64::from(flags), exit_signal: Some(Signal::CHLD), ..CloneRequest::default() }
}

fn clone_by_registers(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [flags, stack, parent_tid, child_tid, tls, _] = *arguments;
    // A number that is no signal is as good as none here (`clone(2)`).
    let exit_signal = Signal::from_number(flags & u64::from(linux::CSIGNAL)).ok();
    // Only the low half counts.
    let flags = flags & u64::from(u32::MAX) & !u64::from(linux::CSIGNAL);
    let both = u64::from(linux::CLONE_PIDFD | linux::CLONE_PARENT_SETTID);
    if flags & both == both {
        return Errno::EINVAL.into();
    }
    let pidfd = parent_tid;
    clone(thread, &CloneRequest { flags, stack, parent_tid, child_tid, pidfd, tls, exit_signal, chosen_id: None })
}

/// `struct clone_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The sizes of its versions, in bytes.
const FIRST_SIZE: u64 = 64;
const THIRD_SIZE: u64 = 88;

fn clone_by_record(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    match clone3_request(thread, arguments) {
        Ok(request) => clone(thread, &request),
        Err(error) => error.into(),
    }
}

fn clone3_request(thread: &Rc<Thread>, arguments: &Arguments) -> Result<CloneRequest> {
    let [address, size, ..] = *arguments;
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    let record = read_record(thread, address, size)?;
    let chosen_id = chosen_id(thread, &record)?;
    let signal_bits = u64::from(linux::CSIGNAL);
    let exit_signal = match record.exit_signal {
        0 => None,
        number if number & !signal_bits != 0 => return Err(Errno::EINVAL),
        number => Some(Signal::from_number(number)?),
    };
    if record.flags & linux::CLONE_INTO_CGROUP != 0 && (record.cgroup > i32::MAX as u64 || size < THIRD_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = record.stack.checked_add(record.stack_size).filter(|end| *end <= USER_END).ok_or(Errno::EINVAL)?;
    let request = CloneRequest {
        flags: record.flags,
        stack: end,
        parent_tid: record.parent_tid,
        child_tid: record.child_tid,
        pidfd: record.pidfd,
        tls: record.tls,
        exit_signal,
        chosen_id,
    };
    request.check_record()?;
    if (record.stack == 0) != (record.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    if request.is_into_cgroup() {
        // No descriptor is one of a control group.
        return Err(Errno::EBADF);
    }
    Ok(request)
}

/// Reads a record of any version. `E2BIG` if it has more than is known, `EFAULT`.
fn read_record(thread: &Thread, address: u64, size: u64) -> Result<CloneArguments> {
    let mut bytes = [0; PAGE_SIZE as usize];
    let given = bytes.get_mut(..size as usize).ok_or(Errno::E2BIG)?;
    pointer(thread, address).read_bytes(given)?;
    if given.iter().skip(size_of::<CloneArguments>()).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let known = bytes.get(..size_of::<CloneArguments>()).unwrap_or_default();
    CloneArguments::read_from_bytes(known).map_err(|_| Errno::EINVAL)
}

/// The id that the caller has chosen: there is one space of process ids, so one at most. `EINVAL`, `EPERM`, `EFAULT`.
fn chosen_id(thread: &Rc<Thread>, record: &CloneArguments) -> Result<Option<Pid>> {
    match (record.set_tid, record.set_tid_size) {
        (0, 0) => Ok(None),
        (0, _) | (_, 0) => Err(Errno::EINVAL),
        (address, 1) => {
            let pid: i32 = pointer(thread, address).read()?;
            if pid < 1 {
                return Err(Errno::EINVAL);
            }
            if !thread.process.credentials().is_privileged() {
                return Err(Errno::EPERM);
            }
            Ok(Some(pid))
        }
        (_, _) => Err(Errno::EINVAL),
    }
}

/// The flags of `unshare`.
const UNSHARED: u32 = linux::CLONE_THREAD
    | linux::CLONE_FS
    | linux::CLONE_NEWNS
    | linux::CLONE_SIGHAND
    | linux::CLONE_VM
    | linux::CLONE_FILES
    | linux::CLONE_SYSVSEM
    | linux::CLONE_NEWUTS
    | linux::CLONE_NEWIPC
    | linux::CLONE_NEWNET
    | linux::CLONE_NEWUSER
    | linux::CLONE_NEWPID
    | linux::CLONE_NEWCGROUP
    | linux::CLONE_NEWTIME;

fn unshare(thread: &Rc<Thread>, flags: u64) -> Result<()> {
    let process = &thread.process;
    let has = |flag: u32| flags & u64::from(flag) != 0;
    if flags & !u64::from(UNSHARED) != 0 {
        return Err(Errno::EINVAL);
    }
    let is_alone = process.threads().len() == 1;
    // Threads have directories, descriptors and handlers in common, always.
    let of_threads =
        linux::CLONE_THREAD | linux::CLONE_SIGHAND | linux::CLONE_VM | linux::CLONE_FS | linux::CLONE_FILES;
    let shares_handlers = process.signals.borrow().is_shared();
    if has(of_threads) && !is_alone
        || has(linux::CLONE_SIGHAND | linux::CLONE_VM) && shares_handlers
        || has(linux::CLONE_VM) && process.is_borrowing.get()
    {
        return Err(Errno::EINVAL);
    }
    check_name_spaces(flags, &process.credentials())?;
    if has(linux::CLONE_FILES) {
        unshare_files(process)?;
    }
    if has(linux::CLONE_FS | linux::CLONE_NEWNS) {
        process.unshare_directories();
    }
    if has(linux::CLONE_NEWNS) {
        super::mounts::unshare_mounts(thread)?;
    }
    Ok(())
}

/// A process has descriptors of its own from now on. What it has served itself belongs to those with whom it shared. `ENOMEM`.
pub(super) fn unshare_files(process: &Process) -> Result<()> {
    process.files.borrow_mut().unshare()?;
    process.update_local_answers();
    Ok(())
}

/// No descriptor is one of a name space. `EBADF`, `EINVAL`.
fn setns(thread: &Rc<Thread>, fd: u64) -> Result<()> {
    thread.process.files.borrow().slots().get(fd as i32)?;
    Err(Errno::EINVAL)
}

/// Ends something, after a tracer was told that wants to hear of it before.
fn end(thread: &Rc<Thread>, status: u8, end: impl FnOnce(&Rc<Thread>) + 'static) -> Outcome {
    if !wants(thread, Event::Exit) {
        end(thread);
        return Outcome::Gone;
    }
    let thread = thread.clone();
    Outcome::block(async move {
        report(&thread, Event::Exit, u64::from(status) << 8).await;
        if thread.whereabouts.get() != Whereabouts::Gone {
            end(&thread);
        }
        // Nobody is there to hear this.
        Ok(0)
    })
}

fn exit(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let status = arguments[0] as u8;
    end(thread, status, move |thread| end_thread(thread, status))
}

fn exit_group(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let status = arguments[0] as u8;
    end(thread, status, move |thread| end_process(&thread.process, ExitStatus::Exited(status)))
}

fn set_tid_address(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    thread.clear_tid.set(arguments[0]);
    Outcome::Return(Ok(thread.tid as u64))
}
