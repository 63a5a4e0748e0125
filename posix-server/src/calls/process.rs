//! Calls that make, end and wait for processes and threads.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::end::{end_process, end_thread};
use crate::process::tree::{ChildEvent, ExitStatus, Take, WaitEvents, WaitFor, Want};
use crate::process::{CloneRequest, Pid, Process, Thread, clone};
use crate::signal::{Details, Signal, SignalInfo};
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::select;
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
    SystemCall::new(linux::__NR_wait4, wait4),
    SystemCall::new(linux::__NR_waitid, waitid),
    SystemCall::new(linux::__NR_set_tid_address, set_tid_address),
    SystemCall::new(linux::__NR_set_robust_list, set_robust_list),
    SystemCall::new(linux::__NR_get_robust_list, |t, a| get_robust_list(t, a).into()),
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

/// What a `wait` was asked for, and what it found.
#[derive(Clone, Copy)]
struct Wait {
    which: WaitFor,
    events: WaitEvents,
    take: Take,
    hang: bool,
}

/// Waits, and hands what was found (or that nothing was) to `report`.
fn wait(
    thread: &Rc<Thread>,
    wait: Wait,
    report: impl Fn(&Rc<Thread>, Option<(Found, ChildEvent)>) -> Result<u64> + 'static,
) -> Outcome {
    match attempt(thread, wait) {
        Err(error) => error.into(),
        Ok(Some(found)) => report(thread, Some(found)).into(),
        Ok(None) if !wait.hang => report(thread, None).into(),
        Ok(None) => {
            let thread = thread.clone();
            Outcome::block(async move {
                loop {
                    let listener = thread.process.child_news.listen();
                    if let Some(found) = attempt(&thread, wait)? {
                        return report(&thread, Some(found));
                    }
                    if thread.is_interrupted() {
                        return Err(Errno::RESTART);
                    }
                    select(listener, Box::pin(thread.clone().interrupted())).await;
                }
            })
        }
    }
}

/// A child that was found.
#[derive(Clone, Copy)]
struct Found {
    pid: Pid,
}

fn attempt(thread: &Rc<Thread>, wait: Wait) -> Result<Option<(Found, ChildEvent)>> {
    let parent = thread.process.pid;
    let found = thread.server().tree.borrow_mut().wait(parent, wait.which, wait.events, wait.take)?;
    Ok(found.map(|(pid, event)| (Found { pid }, event)))
}

fn wait4(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [pid, status, options, usage, ..] = *arguments;
    let (pid, options) = (pid as Pid, options as u32);
    let known = linux::WNOHANG | linux::WUNTRACED | linux::WCONTINUED;
    let ignored = linux::__WNOTHREAD | linux::__WCLONE | linux::__WALL;
    if options & !(known | ignored) != 0 {
        return Errno::EINVAL.into();
    }
    let which = match pid {
        -1 => WaitFor::Any,
        0 => WaitFor::Group(thread.process.group()),
        Pid::MIN => return Errno::ESRCH.into(),
        pid if pid < 0 => WaitFor::Group(-pid),
        pid => WaitFor::Process(pid),
    };
    let events = WaitEvents {
        ended: Want::Yes,
        stopped: Want::if_set(options, linux::WUNTRACED),
        continued: Want::if_set(options, linux::WCONTINUED),
    };
    let asked = Wait { which, events, take: Take::Yes, hang: options & linux::WNOHANG == 0 };
    wait(thread, asked, move |thread, found| {
        let Some((found, event)) = found else { return Ok(0) };
        let encoded = match event {
            ChildEvent::Ended(status) => status.to_wait_status(),
            ChildEvent::Stopped(signal) => i32::from(signal.number()) << 8 | 0x7f,
            ChildEvent::Continued => 0xffff,
        };
        pointer(thread, status).write_if_given(&encoded)?;
        pointer(thread, usage).write_if_given(&children_usage(&thread.process))?;
        Ok(found.pid as u64)
    })
}

/// `struct rusage` of the children: their time; the rest is not counted.
fn children_usage(process: &Process) -> [u64; 18] {
    super::time::usage(process.times.get().children_ns)
}

fn waitid(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [kind, id, address, options, usage, _] = *arguments;
    let (id, options) = (id as Pid, options as u32);
    let events = linux::WEXITED | linux::WSTOPPED | linux::WCONTINUED;
    let ignored = linux::__WNOTHREAD | linux::__WCLONE | linux::__WALL;
    if options & !(events | ignored | linux::WNOHANG | linux::WNOWAIT) != 0 || options & events == 0 {
        return Errno::EINVAL.into();
    }
    let which = match kind as u32 {
        linux::P_ALL => WaitFor::Any,
        linux::P_PID if id > 0 => WaitFor::Process(id),
        linux::P_PGID if id > 0 => WaitFor::Group(id),
        linux::P_PGID if id == 0 => WaitFor::Group(thread.process.group()),
        _ => return Errno::EINVAL.into(),
    };
    let wanted = WaitEvents {
        ended: Want::if_set(options, linux::WEXITED),
        stopped: Want::if_set(options, linux::WSTOPPED),
        continued: Want::if_set(options, linux::WCONTINUED),
    };
    let take = if options & linux::WNOWAIT != 0 { Take::Peek } else { Take::Yes };
    let asked = Wait { which, events: wanted, take, hang: options & linux::WNOHANG == 0 };
    wait(thread, asked, move |thread, found| {
        let bytes = found.map_or([0; 128], |(found, event)| child_info(thread, found.pid, event).to_bytes());
        pointer(thread, usage).write_if_given(&children_usage(&thread.process))?;
        if address != 0 {
            pointer(thread, address).write_bytes(&bytes)?;
        }
        Ok(0)
    })
}

fn child_info(thread: &Thread, pid: Pid, event: ChildEvent) -> SignalInfo {
    let (code, status) = match event {
        ChildEvent::Ended(ExitStatus::Exited(status)) => (linux::CLD_EXITED, i32::from(status)),
        ChildEvent::Ended(ExitStatus::Killed { signal, .. }) => (linux::CLD_KILLED, i32::from(signal.number())),
        ChildEvent::Stopped(signal) => (linux::CLD_STOPPED, i32::from(signal.number())),
        ChildEvent::Continued => (linux::CLD_CONTINUED, i32::from(Signal::CONT.number())),
    };
    let uid =
        thread.server().process(pid).map_or_else(|| thread.process.credentials().uid, |child| child.credentials().uid);
    SignalInfo { signal: Signal::CHLD, code: code as i32, details: Details::Child { pid, uid, status } }
}

fn set_tid_address(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    thread.clear_tid.set(arguments[0]);
    Outcome::Return(Ok(thread.tid as u64))
}

/// The size of `struct robust_list_head`.
const ROBUST_LIST_BYTES: u64 = 24;

fn set_robust_list(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [head, size, ..] = *arguments;
    if size != ROBUST_LIST_BYTES {
        return Errno::EINVAL.into();
    }
    thread.robust_list.set((head, size));
    Outcome::Return(Ok(0))
}

fn get_robust_list(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [tid, head, size, ..] = *arguments;
    let tid = tid as Pid;
    let target = if tid == 0 { Some(thread.clone()) } else { thread.server().thread(tid) };
    let (address, length) = target.ok_or(Errno::ESRCH)?.robust_list.get();
    pointer(thread, head).write(&address)?;
    pointer(thread, size).write(&length.max(ROBUST_LIST_BYTES))
}
