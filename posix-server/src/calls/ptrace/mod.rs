//! `ptrace`.
//!
//! * [`state`]: registers, signals, and what else is to be seen of a thread that stands still.

mod state;

use super::access::{Ids, may_inspect_as};
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::tree::{ExitStatus, Tree};
use crate::process::{Pid, Thread, end};
use crate::ptrace::stops::{self, go_on, group_signal, nudge};
use crate::ptrace::{Hold, Mode, Options, Tracee, Tracer};
use crate::signal::Signal;
use alloc::rc::Rc;
use linux_raw_sys::general::__NR_ptrace;
use linux_raw_sys::ptrace as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[SystemCall::new(__NR_ptrace, |t, a| ptrace(t, a).into())
    .with_flags(
        "PTRACE_TRACEME PTRACE_ATTACH PTRACE_SEIZE PTRACE_INTERRUPT PTRACE_LISTEN PTRACE_CONT PTRACE_SYSCALL PTRACE_SINGLESTEP \
         PTRACE_DETACH PTRACE_KILL PTRACE_PEEKTEXT PTRACE_PEEKDATA PTRACE_POKETEXT PTRACE_POKEDATA PTRACE_PEEKUSER PTRACE_POKEUSER \
         PTRACE_GETREGS PTRACE_SETREGS PTRACE_GETFPREGS PTRACE_SETFPREGS PTRACE_GETREGSET PTRACE_SETREGSET PTRACE_GETSIGINFO \
         PTRACE_SETSIGINFO PTRACE_PEEKSIGINFO PTRACE_GETSIGMASK PTRACE_SETSIGMASK PTRACE_SETOPTIONS PTRACE_GETEVENTMSG \
         PTRACE_GET_SYSCALL_INFO PTRACE_ARCH_PRCTL",
    )
    .partly(
        "there are no breakpoints of the hardware (PTRACE_POKEUSER of the debug registers: EIO); PTRACE_SYSEMU, PTRACE_SINGLEBLOCK and what \
         looks into filters, rseq and user dispatch get EIO; PTRACE_O_SUSPEND_SECCOMP EINVAL; gs is the shim's",
    )];

/// Requests that `linux_raw_sys` has no name for (`asm/ptrace-abi.h`).
pub(super) mod request {
    pub(in crate::calls) const GETFPREGS: u32 = 14;
    pub(in crate::calls) const SETFPREGS: u32 = 15;
    pub(in crate::calls) const OLDSETOPTIONS: u32 = 21;
    pub(in crate::calls) const ARCH_PRCTL: u32 = 30;
}

/// What a tracer asks of a thread.
#[derive(Clone, Copy)]
struct Request {
    number: u32,
    address: u64,
    data: u64,
}

fn ptrace(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [number, tid, address, data, ..] = *arguments;
    // A number that is too large is none.
    let request = Request { number: u32::try_from(number).unwrap_or(u32::MAX), address, data };
    match request.number {
        linux::PTRACE_TRACEME => trace_me(thread),
        linux::PTRACE_ATTACH => attach(thread, tid as Pid, Hold::Attached, Options::empty()),
        linux::PTRACE_SEIZE => seize(thread, tid as Pid, &request),
        _ => ask(thread, tid as Pid, &request),
    }
}

fn trace_me(thread: &Rc<Thread>) -> Result<u64> {
    if thread.is_traced.get() {
        return Err(Errno::EPERM);
    }
    let process = &thread.process;
    let server = thread.server();
    let parent = process.parent();
    let creator = server.tree.look(Tree::creator, process.pid);
    let Some(parent) = server.process(parent) else { return Ok(0) };
    // Who may not look into what has more privileges can't be asked to.
    if process.credentials().is_privileged() && !parent.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    stops::volunteer(thread, Tracer { tid: creator, pid: parent.pid });
    Ok(0)
}

/// The options that a number stands for. `None` if some of it is none.
fn options(data: u64) -> Option<Options> {
    u32::try_from(data).ok().and_then(Options::from_bits)
}

fn seize(thread: &Rc<Thread>, tid: Pid, request: &Request) -> Result<u64> {
    if thread.server().thread(tid).is_none() && !is_zombie(thread, tid) {
        return Err(Errno::ESRCH);
    }
    if request.address != 0 || request.data & !u64::from(linux::PTRACE_O_MASK) != 0 {
        return Err(Errno::EIO);
    }
    let options = options(request.data).ok_or(Errno::EINVAL)?;
    attach(thread, tid, Hold::Seized, options)
}

fn is_zombie(thread: &Thread, tid: Pid) -> bool {
    let server = thread.server();
    server.tree.look(Tree::is_zombie, tid) || server.tracees.borrow().get(tid).is_some()
}

fn attach(thread: &Rc<Thread>, tid: Pid, hold: Hold, options: Options) -> Result<u64> {
    let target = match thread.server().thread(tid) {
        Some(target) => target,
        None if is_zombie(thread, tid) => return Err(Errno::EPERM),
        None => return Err(Errno::ESRCH),
    };
    let is_own = target.process.pid == thread.process.pid;
    if is_own || !may_inspect_as(thread, &target.process, Ids::Real) || target.is_traced.get() {
        return Err(Errno::EPERM);
    }
    let tracer = Tracer { tid: thread.tid, pid: thread.process.pid };
    stops::attach(&target, tracer, hold, options);
    Ok(0)
}

/// Changes what is known of a tracee. `ESRCH` if it is none.
fn with<T>(target: &Thread, change: impl FnOnce(&mut Tracee) -> T) -> Result<T> {
    target.server().tracees.borrow_mut().get_mut(target.tid).map(change).ok_or(Errno::ESRCH)
}

/// What only the tracer may ask for, most of it only while the thread stands still. `ESRCH`.
fn ask(thread: &Rc<Thread>, tid: Pid, request: &Request) -> Result<u64> {
    let target = thread.server().thread(tid).ok_or(Errno::ESRCH)?;
    let (tracer, is_stopped) = with(&target, |tracee| (tracee.tracer.tid, tracee.is_stopped()))?;
    if tracer != thread.tid {
        return Err(Errno::ESRCH);
    }
    match request.number {
        linux::PTRACE_KILL => {
            end::end_process(&target.process, ExitStatus::Killed { signal: Signal::KILL, dumped: false });
            return Ok(0);
        }
        linux::PTRACE_INTERRUPT => {
            let group = group_signal(&target.process);
            let change = with(&target, |tracee| tracee.interrupt(group))??;
            nudge(&target, change);
            return Ok(0);
        }
        _ => {}
    }
    if !is_stopped || !target.is_halted() {
        return Err(Errno::ESRCH);
    }
    match request.number {
        linux::PTRACE_CONT => resume(thread, &target, Mode::Continue, request.data),
        linux::PTRACE_SYSCALL => resume(thread, &target, Mode::Calls, request.data),
        linux::PTRACE_SINGLESTEP => resume(thread, &target, Mode::Step, request.data),
        linux::PTRACE_DETACH => {
            let signal = given_signal(request.data)?;
            stops::detach(&target, signal, thread.process.credentials().uid);
            Ok(0)
        }
        linux::PTRACE_LISTEN => {
            let group = group_signal(&target.process);
            let change = with(&target, |tracee| tracee.listen(group))??;
            nudge(&target, change);
            Ok(0)
        }
        linux::PTRACE_SETOPTIONS | request::OLDSETOPTIONS => {
            let options = options(request.data).ok_or(Errno::EINVAL)?;
            with(&target, |tracee| tracee.options = options)?;
            Ok(0)
        }
        linux::PTRACE_GETEVENTMSG => {
            let message = with(&target, |tracee| tracee.message)?;
            pointer(thread, request.data).write(&message)?;
            Ok(0)
        }
        _ => state::ask(thread, &target, request),
    }
}

/// The signal that a tracer gives; `None` for 0. `EIO`.
fn given_signal(data: u64) -> Result<Option<Signal>> {
    if data == 0 { Ok(None) } else { Signal::from_number(data).map(Some).map_err(|_| Errno::EIO) }
}

fn resume(thread: &Rc<Thread>, target: &Rc<Thread>, mode: Mode, data: u64) -> Result<u64> {
    let signal = given_signal(data)?;
    let uid = thread.process.credentials().uid;
    let resumption = with(target, |tracee| tracee.resume(mode, signal, uid))?;
    go_on(target, resumption);
    Ok(0)
}
