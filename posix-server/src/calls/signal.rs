//! Calls on signals.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::posix_timers;
use crate::platform::{now_ns, vector_state_bytes};
use crate::process::tree::Tree;
use crate::process::{Pid, Process, Thread};
use crate::signal::deliver::{recheck, send, send_to_thread};
use crate::signal::frame::{self, RawStack};
use crate::signal::state::AltStack;
use crate::signal::{SI_TKILL, SI_USER, Signal, SignalAction, SignalInfo, SignalSet};
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::select;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_rt_sigaction, |t, a| rt_sigaction(t, a).into()),
    SystemCall::new(linux::__NR_rt_sigprocmask, |t, a| rt_sigprocmask(t, a).into()),
    SystemCall::new(linux::__NR_rt_sigpending, |t, a| rt_sigpending(t, a).into()),
    SystemCall::new(linux::__NR_rt_sigsuspend, rt_sigsuspend),
    SystemCall::new(linux::__NR_rt_sigtimedwait, rt_sigtimedwait),
    SystemCall::new(linux::__NR_rt_sigreturn, |t, _| rt_sigreturn(t)),
    SystemCall::new(linux::__NR_rt_sigqueueinfo, |t, a| rt_sigqueueinfo(t, a).into()),
    SystemCall::new(linux::__NR_rt_tgsigqueueinfo, |t, a| rt_tgsigqueueinfo(t, a).into()),
    SystemCall::new(linux::__NR_sigaltstack, |t, a| sigaltstack(t, a).into()),
    SystemCall::new(linux::__NR_pause, |t, _| wait_for_signal(t)),
    SystemCall::new(linux::__NR_kill, |t, a| kill(t, a).into()),
    SystemCall::new(linux::__NR_tkill, |t, a| tkill(t, 0, a[0] as Pid, a[1]).into()),
    SystemCall::new(linux::__NR_tgkill, |t, a| tgkill(t, a).into()),
];

/// The size of a signal set.
const SET_BYTES: u64 = 8;

fn check_size(size: u64) -> Result<()> {
    if size == SET_BYTES { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The flags of an action that there are; others are taken out, which tells a program that they are unknown.
const KNOWN_FLAGS: u64 = (linux::SA_NOCLDSTOP
    | linux::SA_NOCLDWAIT
    | linux::SA_SIGINFO
    | linux::SA_ONSTACK
    | linux::SA_RESTART
    | linux::SA_NODEFER
    | linux::SA_RESETHAND
    | linux::SA_EXPOSE_TAGBITS
    | linux::SA_RESTORER) as u64;

fn rt_sigaction(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [signal, new, old, size, ..] = *arguments;
    check_size(size)?;
    let new: Option<SignalAction> = if new == 0 { None } else { Some(pointer(thread, new).read()?) };
    let signal = Signal::from_number(signal & u64::from(u32::MAX))?;
    let before = match new {
        Some(action) => {
            let action = SignalAction { flags: action.flags & KNOWN_FLAGS, ..action };
            let before = thread.process.signals.borrow_mut().set_action(signal, action)?;
            if thread.process.signals.borrow().ignores(signal) {
                for other in thread.process.threads() {
                    other.signals.borrow_mut().pending.discard(SignalSet::of(signal));
                }
            }
            before
        }
        None => thread.process.signals.borrow().action(signal),
    };
    pointer(thread, old).write_if_given(&before)
}

fn rt_sigprocmask(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [how, new, old, size, ..] = *arguments;
    check_size(size)?;
    let before = thread.mask();
    if new != 0 {
        let set: SignalSet = pointer(thread, new).read()?;
        let mask = match how as u32 {
            linux::SIG_BLOCK => before.union(set),
            linux::SIG_UNBLOCK => before.without(set),
            linux::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        thread.signals.borrow_mut().set_mask(mask);
        recheck(thread);
    }
    pointer(thread, old).write_if_given(&before)
}

fn rt_sigpending(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [set, size, ..] = *arguments;
    if size > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let pending = {
        let signals = thread.signals.borrow();
        signals.pending.set().union(thread.process.signals.borrow().pending.set()).intersection(signals.mask)
    };
    let bytes = pending.0.to_le_bytes();
    pointer(thread, set).write_bytes(bytes.get(..size as usize).unwrap_or_default())
}

/// Waits until a signal has an effect.
fn wait_for_signal(thread: &Rc<Thread>) -> Outcome {
    if thread.is_interrupted() {
        return Errno::RESTART_NO_HANDLER.into();
    }
    let thread = thread.clone();
    Outcome::block(async move {
        thread.interrupted().await;
        Err(Errno::RESTART_NO_HANDLER)
    })
}

fn rt_sigsuspend(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [set, size, ..] = *arguments;
    let mask: Result<SignalSet> = check_size(size).and_then(|()| pointer(thread, set).read());
    match mask {
        Ok(mask) => {
            let mut signals = thread.signals.borrow_mut();
            let before = signals.set_mask(mask);
            signals.saved_mask = Some(before);
            drop(signals);
            recheck(thread);
            wait_for_signal(thread)
        }
        Err(error) => error.into(),
    }
}

/// Nanoseconds of a `timespec`. `EINVAL`.
fn read_timeout(thread: &Rc<Thread>, address: u64) -> Result<Option<u64>> {
    if address == 0 { Ok(None) } else { super::time::read_timespec(thread, address).map(Some) }
}

/// Takes one of the signals that wait for a thread.
pub(super) fn take_signal(thread: &Rc<Thread>, wanted: SignalSet) -> Option<SignalInfo> {
    let taken = thread.signals.borrow_mut().take_any(&mut thread.process.signals.borrow_mut(), wanted);
    taken.map(|info| posix_timers::taken(&thread.process, info))
}

fn rt_sigtimedwait(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [set, info, timeout, size, ..] = *arguments;
    let read = (|| {
        check_size(size)?;
        let set: SignalSet = pointer(thread, set).read()?;
        Ok::<_, Errno>((set.without(SignalSet::UNBLOCKABLE), read_timeout(thread, timeout)?))
    })();
    let (wanted, timeout) = match read {
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    let report = move |thread: &Rc<Thread>, found: SignalInfo| {
        if info != 0 {
            pointer(thread, info).write_bytes(&found.to_bytes())?;
        }
        Ok(u64::from(found.signal.number()))
    };
    if let Some(found) = take_signal(thread, wanted) {
        return report(thread, found).into();
    }
    if timeout == Some(0) {
        return Errno::EAGAIN.into();
    }
    let deadline_ns = timeout.map(|timeout| now_ns().saturating_add(timeout));
    let thread = thread.clone();
    // While it waits, the signals it waits for are as if not blocked, so that they wake it and are not dropped as ignored.
    let before = {
        let mut signals = thread.signals.borrow_mut();
        let mask = signals.mask.without(wanted);
        signals.set_mask(mask)
    };
    Outcome::block(async move {
        let result = await_signal(&thread, wanted, deadline_ns).await;
        thread.signals.borrow_mut().set_mask(before);
        recheck(&thread);
        result.and_then(|found| report(&thread, found))
    })
}

async fn await_signal(thread: &Rc<Thread>, wanted: SignalSet, deadline_ns: Option<u64>) -> Result<SignalInfo> {
    loop {
        let listener = thread.signal_arrived.listen();
        if let Some(found) = take_signal(thread, wanted) {
            return Ok(found);
        }
        if thread.is_interrupted() {
            return Err(Errno::EINTR);
        }
        match deadline_ns {
            None => listener.await,
            Some(deadline_ns) => {
                let sleep = Box::pin(thread.server().executor.sleep_until(deadline_ns));
                select(listener, sleep).await;
                if now_ns() >= deadline_ns {
                    return take_signal(thread, wanted).ok_or(Errno::EAGAIN);
                }
            }
        }
    }
}

fn rt_sigreturn(thread: &Rc<Thread>) -> Outcome {
    let restored = (|| {
        let context = thread.context();
        let returned = frame::pop(&thread.space(), context.rsp, vector_state_bytes())?;
        if !returned.vector.is_empty() {
            thread.machine.write_vector_state(&returned.vector)?;
        }
        let mut signals = thread.signals.borrow_mut();
        signals.set_mask(returned.mask);
        signals.alt_stack = AltStack {
            base: returned.stack.base,
            size: if returned.stack.flags & linux::SS_DISABLE != 0 { 0 } else { returned.stack.size },
            flags: returned.stack.flags & linux::SS_AUTODISARM,
        };
        drop(signals);
        recheck(thread);
        thread.set_context(&returned.context);
        Ok::<_, Errno>(())
    })();
    if restored.is_err() {
        crate::signal::deliver::force(thread, SignalInfo::from_kernel(Signal::SEGV));
    }
    Outcome::Context
}

fn sigaltstack(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [new, old, ..] = *arguments;
    let stack_pointer = thread.context().rsp;
    let current = thread.signals.borrow().alt_stack;
    if new != 0 {
        let wanted: RawStack = pointer(thread, new).read()?;
        if current.holds(stack_pointer) {
            return Err(Errno::EPERM);
        }
        let mode = wanted.flags & !linux::SS_AUTODISARM;
        if mode != 0 && mode != linux::SS_DISABLE && mode != linux::SS_ONSTACK {
            return Err(Errno::EINVAL);
        }
        let changed = if mode == linux::SS_DISABLE {
            AltStack::default()
        } else if wanted.size < u64::from(linux::MINSIGSTKSZ) {
            return Err(Errno::ENOMEM);
        } else {
            AltStack { base: wanted.base, size: wanted.size, flags: wanted.flags & linux::SS_AUTODISARM }
        };
        thread.signals.borrow_mut().alt_stack = changed;
    }
    pointer(thread, old).write_if_given(&current.to_raw(stack_pointer))
}

/// Signal 0 only asks whether one could be sent.
pub(super) fn optional_signal(number: u64) -> Result<Option<Signal>> {
    let number = number & u64::from(u32::MAX);
    if number == 0 { Ok(None) } else { Signal::from_number(number).map(Some) }
}

/// `EPERM` unless the caller may send the signal to the process.
pub(super) fn check_permission(thread: &Thread, target: &Process, signal: Option<Signal>) -> Result<()> {
    let own = &thread.process;
    let continues_session = signal == Some(Signal::CONT) && own.session() == target.session();
    if own.pid == target.pid || continues_session || own.credentials().may_signal(&target.credentials()) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn kill(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, signal, ..] = *arguments;
    let pid = pid as Pid;
    let own = &thread.process;
    match pid {
        pid if pid > 0 => {
            let server = thread.server();
            let Some(target) = addressee(thread, pid) else {
                // A zombie can be sent signals, to no effect.
                return if server.tree.look(Tree::is_zombie, pid) {
                    optional_signal(signal).map(drop)
                } else {
                    Err(Errno::ESRCH)
                };
            };
            send_checked(thread, &target, optional_signal(signal)?)
        }
        0 => {
            // Taken first: whom the signal ends leaves the tree at once.
            let members = thread.server().tree.look(Tree::group_members, own.group());
            send_to_many(thread, &members, signal)
        }
        -1 => {
            let others = thread.server().pids();
            let others: alloc::vec::Vec<Pid> = others.into_iter().filter(|pid| *pid > 1 && *pid != own.pid).collect();
            // As on Linux, that none of them may be signalled is no error here.
            match send_to_many(thread, &others, signal) {
                Err(Errno::EPERM) => Ok(()),
                result => result,
            }
        }
        Pid::MIN => Err(Errno::ESRCH),
        pid => {
            let members = thread.server().tree.look(Tree::group_members, -pid);
            send_to_many(thread, &members, signal)
        }
    }
}

fn send_checked(thread: &Thread, target: &Rc<Process>, signal: Option<Signal>) -> Result<()> {
    check_permission(thread, target, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let own = &thread.process;
    send(target, SignalInfo::from_process(signal, SI_USER, own.pid, own.credentials().uid))
}

/// Sends to all that it may; `EPERM` if it may to none, `ESRCH` if there is none.
fn send_to_many(thread: &Thread, pids: &[Pid], signal: u64) -> Result<()> {
    if pids.is_empty() {
        return Err(Errno::ESRCH);
    }
    let signal = optional_signal(signal)?;
    let mut result = Err(Errno::ESRCH);
    for pid in pids {
        let sent = match thread.server().process(*pid) {
            Some(target) => send_checked(thread, &target, signal),
            // A zombie.
            None => Ok(()),
        };
        if result.is_err() {
            result = sent;
        }
    }
    result
}

fn tgkill(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [group, tid, signal, ..] = *arguments;
    let (group, tid) = (group as Pid, tid as Pid);
    if group <= 0 { Err(Errno::EINVAL) } else { tkill(thread, group, tid, signal) }
}

/// Sends to one thread, of the process `group` unless that is 0.
fn tkill(thread: &Rc<Thread>, group: Pid, tid: Pid, signal: u64) -> Result<()> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let server = thread.server();
    let Some(target) = server.thread(tid) else {
        // The first thread of a process may have ended before the others.
        let is_first = server.process(tid).is_some() || server.tree.look(Tree::is_zombie, tid);
        return if is_first && (group == 0 || group == tid) { Ok(()) } else { Err(Errno::ESRCH) };
    };
    if group != 0 && target.process.pid != group {
        return Err(Errno::ESRCH);
    }
    let signal = optional_signal(signal)?;
    check_permission(thread, &target.process, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let own = &thread.process;
    send_to_thread(&target, SignalInfo::from_process(signal, SI_TKILL, own.pid, own.credentials().uid))
}

fn rt_sigqueueinfo(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, signal, info, ..] = *arguments;
    let pid = pid as Pid;
    let bytes = read_info(thread, info)?;
    let info = given(thread, &bytes, pid)?;
    let target = addressee(thread, pid).ok_or(Errno::ESRCH)?;
    let signal = optional_signal(signal)?;
    check_sender(thread, &target, signal, info.code)?;
    match signal {
        None => Ok(()),
        Some(signal) => send(&target, SignalInfo { signal, ..info }),
    }
}

fn rt_tgsigqueueinfo(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [group, tid, signal, info, ..] = *arguments;
    let (group, tid) = (group as Pid, tid as Pid);
    let bytes = read_info(thread, info)?;
    if group <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = given(thread, &bytes, group)?;
    let target = thread.server().thread(tid).filter(|target| target.process.pid == group).ok_or(Errno::ESRCH)?;
    let signal = optional_signal(signal)?;
    check_sender(thread, &target.process, signal, info.code)?;
    match signal {
        None => Ok(()),
        Some(signal) => send_to_thread(&target, SignalInfo { signal, ..info }),
    }
}

fn read_info(thread: &Thread, address: u64) -> Result<[u8; 128]> {
    let mut bytes = [0; 128];
    pointer(thread, address).read_bytes(&mut bytes)?;
    Ok(bytes)
}

/// What a program says of a signal to another. `EPERM`: nobody may pretend to be the kernel, or `kill`, to others.
fn given(thread: &Thread, bytes: &[u8; 128], target: Pid) -> Result<SignalInfo> {
    let info = SignalInfo::from_bytes(Signal::KILL, bytes);
    let pretends = info.code >= 0 || info.code == SI_TKILL;
    if pretends && target != thread.process.pid { Err(Errno::EPERM) } else { Ok(info) }
}

fn check_sender(thread: &Thread, target: &Process, signal: Option<Signal>, code: i32) -> Result<()> {
    if code > 0 { Ok(()) } else { check_permission(thread, target, signal) }
}

/// The process that a number means: its own, or that of one of its threads.
fn addressee(thread: &Thread, pid: Pid) -> Option<Rc<Process>> {
    let server = thread.server();
    server.process(pid).or_else(|| server.thread(pid).map(|thread| thread.process.clone()))
}
