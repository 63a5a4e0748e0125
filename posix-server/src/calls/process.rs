//! Calls that make and end processes and threads.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::end::{end_process, end_thread};
use crate::process::tree::ExitStatus;
use crate::process::{CloneRequest, Thread, clone};
use crate::signal::Signal;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_fork, |t, _| clone(t, &plain(0))),
    SystemCall::new(linux::__NR_vfork, |t, _| clone(t, &plain(linux::CLONE_VFORK | linux::CLONE_VM))),
    SystemCall::new(linux::__NR_clone, clone_by_registers),
    SystemCall::new(linux::__NR_clone3, clone_by_record),
    SystemCall::new(linux::__NR_exit, exit),
    SystemCall::new(linux::__NR_exit_group, exit_group),
    SystemCall::new(linux::__NR_set_tid_address, set_tid_address),
];

fn plain(flags: u32) -> CloneRequest {
    CloneRequest {
        flags: u64::from(flags),
        stack: 0,
        parent_tid: 0,
        child_tid: 0,
        tls: 0,
        exit_signal: Some(Signal::CHLD),
    }
}

/// The signal of a child's end: none for 0.
fn exit_signal(number: u64) -> Result<Option<Signal>> {
    if number == 0 { Ok(None) } else { Signal::from_number(number).map(Some) }
}

fn clone_by_registers(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [flags, stack, parent_tid, child_tid, tls, _] = *arguments;
    match exit_signal(flags & u64::from(linux::CSIGNAL)) {
        Ok(exit_signal) => {
            // Only the low half counts here (`clone(2)`).
            let flags = flags & u64::from(u32::MAX) & !u64::from(linux::CSIGNAL);
            clone(thread, &CloneRequest { flags, stack, parent_tid, child_tid, tls, exit_signal })
        }
        Err(error) => error.into(),
    }
}

/// `struct clone_args`, first version.
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
}

fn clone_by_record(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    match clone3_request(thread, arguments) {
        Ok(request) => clone(thread, &request),
        Err(error) => error.into(),
    }
}

fn clone3_request(thread: &Rc<Thread>, arguments: &Arguments) -> Result<CloneRequest> {
    let [address, size, ..] = *arguments;
    if size > crate::platform::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < size_of::<CloneArguments>() as u64 {
        return Err(Errno::EINVAL);
    }
    let record: CloneArguments = pointer(thread, address).read()?;
    let low = u64::from(linux::CSIGNAL);
    let stack_is_bad = (record.stack == 0) != (record.stack_size == 0);
    if record.flags & low != 0 || record.exit_signal & !low != 0 || stack_is_bad {
        return Err(Errno::EINVAL);
    }
    Ok(CloneRequest {
        flags: record.flags,
        stack: record.stack.checked_add(record.stack_size).ok_or(Errno::EINVAL)?,
        parent_tid: record.parent_tid,
        child_tid: record.child_tid,
        tls: record.tls,
        exit_signal: exit_signal(record.exit_signal)?,
    })
}

fn exit(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    end_thread(thread, arguments[0] as u8);
    Outcome::Gone
}

fn exit_group(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    end_process(&thread.process, ExitStatus::Exited(arguments[0] as u8));
    Outcome::Gone
}

fn set_tid_address(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    thread.clear_tid.set(arguments[0]);
    Outcome::Return(Ok(thread.tid as u64))
}
