//! `prctl`, `arch_prctl`'s neighbours that only keep a value, `personality`, `membarrier`.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::schedule::Schedule;
use crate::process::tree::Tree;
use crate::process::{Attributes, MAX_NAME, Thread};
use crate::signal::Signal;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::{general as linux, prctl};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_prctl, |t, a| control(t, a).into())
        .with_flags(
            "PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_GET_KEEPCAPS PR_SET_KEEPCAPS PR_GET_TIMING \
             PR_SET_TIMING PR_SET_NAME PR_GET_NAME PR_CAPBSET_READ PR_CAPBSET_DROP PR_GET_TSC PR_SET_TSC PR_GET_SECUREBITS \
             PR_SET_SECUREBITS PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_MCE_KILL PR_MCE_KILL_GET PR_SET_CHILD_SUBREAPER \
             PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_GET_TID_ADDRESS PR_SET_THP_DISABLE \
             PR_GET_THP_DISABLE PR_CAP_AMBIENT PR_SET_IO_FLUSHER PR_GET_IO_FLUSHER PR_SET_SYSCALL_USER_DISPATCH \
             PR_SET_SECCOMP PR_GET_SECCOMP",
        )
        .partly(
            "PR_SET_MM, PR_SCHED_CORE, PR_SET_VMA, PR_TSC_SIGSEGV and dispatch to the program get EINVAL; capability sets \
             follow the user",
        ),
    SystemCall::new(linux::__NR_personality, |t, a| Outcome::Return(Ok(personality(t, a[0]))))
        .partly("the value is kept; no system but Linux's is imitated, and addresses stay random"),
    SystemCall::new(linux::__NR_membarrier, |t, a| membarrier(t, a).into())
        .partly("the commands for restartable sequences get EINVAL: there are none"),
];

/// The highest capability (`CAP_CHECKPOINT_RESTORE`).
const LAST_CAPABILITY: u64 = 40;

fn change(thread: &Thread, with: impl FnOnce(&mut Attributes)) {
    let mut attributes = thread.process.attributes.get();
    with(&mut attributes);
    thread.process.attributes.set(attributes);
}

fn require_none(arguments: &[u64]) -> Result<()> {
    if arguments.iter().all(|argument| *argument == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn require_privilege(thread: &Thread) -> Result<()> {
    if thread.process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// A switch: 0 or 1.
fn switch(argument: u64) -> Result<bool> {
    match argument {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

fn control(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [option, argument, third, ..] = *arguments;
    let attributes = thread.process.attributes.get();
    let rest = arguments.get(2..5).unwrap_or_default();
    match option as u32 {
        prctl::PR_SET_NAME | prctl::PR_GET_NAME => name(thread, option as u32, argument)?,
        prctl::PR_SET_PDEATHSIG => {
            let signal = if argument == 0 { 0 } else { Signal::from_number(argument)?.number() };
            thread.process.parent_death_signal.set(signal);
        }
        prctl::PR_GET_PDEATHSIG => {
            pointer(thread, argument).write(&u32::from(thread.process.parent_death_signal.get()))?;
        }
        prctl::PR_GET_DUMPABLE => return Ok(u64::from(thread.process.is_dumpable.get())),
        prctl::PR_SET_DUMPABLE => {
            thread.process.is_dumpable.set(switch(argument)?);
        }
        prctl::PR_SET_CHILD_SUBREAPER => {
            thread
                .server()
                .tree
                .change(|tree, (pid, inherits)| tree.set_subreaper(pid, inherits), (thread.process.pid, argument != 0));
        }
        prctl::PR_GET_CHILD_SUBREAPER => {
            let is_one = thread.server().tree.look(Tree::is_subreaper, thread.process.pid);
            pointer(thread, argument).write(&u32::from(is_one))?;
        }
        prctl::PR_SET_NO_NEW_PRIVS => {
            require_none(rest)?;
            if argument != 1 {
                return Err(Errno::EINVAL);
            }
            change(thread, |attributes| attributes.no_new_privileges = true);
        }
        prctl::PR_GET_NO_NEW_PRIVS => {
            require_none(arguments.get(1..5).unwrap_or_default())?;
            return Ok(u64::from(attributes.no_new_privileges));
        }
        prctl::PR_GET_TID_ADDRESS => pointer(thread, argument).write(&thread.clear_tid.get())?,
        prctl::PR_SET_TIMERSLACK => set_timer_slack(thread, argument),
        prctl::PR_GET_TIMERSLACK => return Ok(thread.schedule.get().timer_slack_ns),
        prctl::PR_CAP_AMBIENT => return ambient(argument, third, arguments.get(3..5).unwrap_or_default()),
        option => return lesser(thread, option, arguments, attributes),
    }
    Ok(0)
}

/// The options that few programs use.
fn lesser(thread: &Rc<Thread>, option: u32, arguments: &Arguments, attributes: Attributes) -> Result<u64> {
    let [_, argument, third, ..] = *arguments;
    let rest = arguments.get(2..5).unwrap_or_default();
    match option {
        prctl::PR_GET_TIMING => {}
        prctl::PR_GET_SECCOMP => return Ok(thread.seccomp.borrow().number()),
        prctl::PR_SET_SECCOMP => return super::seccomp::set_mode(thread, argument, third),
        prctl::PR_SET_TIMING if argument == u64::from(prctl::PR_TIMING_STATISTICAL) => {}
        prctl::PR_TASK_PERF_EVENTS_DISABLE | prctl::PR_TASK_PERF_EVENTS_ENABLE => {}
        prctl::PR_GET_KEEPCAPS => return Ok(u64::from(attributes.secure_bits & KEEP_CAPABILITIES != 0)),
        prctl::PR_SET_KEEPCAPS => {
            let keep = if switch(argument)? { KEEP_CAPABILITIES } else { 0 };
            change(thread, |attributes| attributes.secure_bits = attributes.secure_bits & !KEEP_CAPABILITIES | keep);
        }
        prctl::PR_GET_SECUREBITS => return Ok(u64::from(attributes.secure_bits)),
        prctl::PR_SET_SECUREBITS => {
            require_privilege(thread)?;
            if argument & !ALL_SECURE_BITS != 0 {
                return Err(Errno::EPERM);
            }
            change(thread, |attributes| attributes.secure_bits = argument as u8);
        }
        prctl::PR_CAPBSET_READ if argument <= LAST_CAPABILITY => return Ok(attributes.bounding(argument)),
        prctl::PR_CAPBSET_DROP if argument <= LAST_CAPABILITY => {
            require_privilege(thread)?;
            change(thread, |attributes| attributes.dropped_bounds |= 1 << argument);
        }
        prctl::PR_GET_TSC => pointer(thread, argument).write(&prctl::PR_TSC_ENABLE)?,
        prctl::PR_SET_TSC if argument == u64::from(prctl::PR_TSC_ENABLE) => {}
        prctl::PR_MCE_KILL => machine_check(thread, argument, third, arguments.get(3..5).unwrap_or_default())?,
        prctl::PR_MCE_KILL_GET => {
            require_none(arguments.get(1..5).unwrap_or_default())?;
            return Ok(u64::from(attributes.machine_check.unwrap_or(prctl::PR_MCE_KILL_DEFAULT as u8)));
        }
        prctl::PR_SET_THP_DISABLE => {
            require_none(rest)?;
            change(thread, |attributes| attributes.no_huge_pages = argument != 0);
        }
        prctl::PR_GET_THP_DISABLE => {
            require_none(arguments.get(1..5).unwrap_or_default())?;
            return Ok(u64::from(attributes.no_huge_pages));
        }
        prctl::PR_SET_IO_FLUSHER => {
            require_privilege(thread)?;
            require_none(rest)?;
            let is_one = switch(argument)?;
            change(thread, |attributes| attributes.is_io_flusher = is_one);
        }
        prctl::PR_GET_IO_FLUSHER => {
            require_privilege(thread)?;
            require_none(arguments.get(1..5).unwrap_or_default())?;
            return Ok(u64::from(attributes.is_io_flusher));
        }
        prctl::PR_SET_SYSCALL_USER_DISPATCH if argument == 0 => require_none(arguments.get(2..5).unwrap_or_default())?,
        prctl::PR_SET_MM => {
            require_privilege(thread)?;
            return Err(Errno::EINVAL);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `SECBIT_KEEP_CAPS`, and all bits.
const KEEP_CAPABILITIES: u8 = 1 << 4;
const ALL_SECURE_BITS: u64 = 0xff;

fn set_timer_slack(thread: &Thread, slack_ns: u64) {
    let schedule = thread.schedule.get();
    let timer_slack_ns = if slack_ns == 0 || slack_ns > i64::MAX as u64 { schedule.default_slack_ns } else { slack_ns };
    thread.set_schedule(Schedule { timer_slack_ns, ..schedule });
}

fn machine_check(thread: &Thread, what: u64, when: u64, rest: &[u64]) -> Result<()> {
    require_none(rest)?;
    let value = match (what as u32, when as u32) {
        (prctl::PR_MCE_KILL_CLEAR, 0) => None,
        (prctl::PR_MCE_KILL_SET, when) if when <= prctl::PR_MCE_KILL_DEFAULT => Some(when as u8),
        _ => return Err(Errno::EINVAL),
    };
    change(thread, |attributes| attributes.machine_check = value);
    Ok(())
}

/// No capability is ever inherited, so none can be ambient.
fn ambient(what: u64, capability: u64, rest: &[u64]) -> Result<u64> {
    require_none(rest)?;
    match what as u32 {
        prctl::PR_CAP_AMBIENT_CLEAR_ALL if capability == 0 => Ok(0),
        prctl::PR_CAP_AMBIENT_IS_SET | prctl::PR_CAP_AMBIENT_LOWER if capability <= LAST_CAPABILITY => Ok(0),
        prctl::PR_CAP_AMBIENT_RAISE if capability <= LAST_CAPABILITY => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// The name is the thread's; that of the first thread is the process's.
fn name(thread: &Rc<Thread>, option: u32, address: u64) -> Result<()> {
    if option == prctl::PR_GET_NAME {
        let mut bytes = [0; MAX_NAME + 1];
        for (to, from) in bytes.iter_mut().zip(thread.name.borrow().iter()) {
            *to = *from;
        }
        return pointer(thread, address).write_bytes(&bytes);
    }
    let name: Vec<u8> = pointer(thread, address).read_prefix(MAX_NAME)?;
    thread.machine.set_name(&name);
    if thread.tid == thread.process.pid {
        thread.process.program.borrow_mut().name = name.clone();
    }
    thread.name.replace(name);
    Ok(())
}

fn personality(thread: &Thread, wanted: u64) -> u64 {
    const ASK: u32 = u32::MAX;
    let old = thread.process.attributes.get().personality;
    if wanted as u32 != ASK {
        change(thread, |attributes| attributes.personality = wanted as u32);
    }
    u64::from(old)
}

// ---- barriers ----------------------------------------------------------------------------------------------------

/// The commands of `membarrier`.
mod barrier {
    use linux_raw_sys::general::membarrier_cmd as command;
    pub(super) const GLOBAL: u32 = command::MEMBARRIER_CMD_GLOBAL as u32;
    pub(super) const GLOBAL_EXPEDITED: u32 = command::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
    pub(super) const REGISTER_GLOBAL: u32 = command::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
    pub(super) const PRIVATE: u32 = command::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
    pub(super) const REGISTER_PRIVATE: u32 = command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
    pub(super) const PRIVATE_SYNC: u32 = command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32;
    pub(super) const REGISTER_SYNC: u32 = command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32;
    pub(super) const ALL: u32 =
        GLOBAL | GLOBAL_EXPEDITED | REGISTER_GLOBAL | PRIVATE | REGISTER_PRIVATE | PRIVATE_SYNC | REGISTER_SYNC;
}

fn membarrier(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [command, flags, ..] = *arguments;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let registered = thread.process.attributes.get().barriers;
    match command as u32 {
        0 => return Ok(u64::from(barrier::ALL)),
        barrier::GLOBAL => thread.server().processes().iter().for_each(|process| halt_all(&process.threads())),
        barrier::GLOBAL_EXPEDITED => {
            let is_registered = |process: &&Rc<crate::process::Process>| {
                process.attributes.get().barriers & barrier::REGISTER_GLOBAL != 0
            };
            thread.server().processes().iter().filter(is_registered).for_each(|process| halt_all(&process.threads()));
        }
        barrier::PRIVATE if registered & barrier::REGISTER_PRIVATE == 0 => return Err(Errno::EPERM),
        barrier::PRIVATE_SYNC if registered & barrier::REGISTER_SYNC == 0 => return Err(Errno::EPERM),
        barrier::PRIVATE | barrier::PRIVATE_SYNC => halt_all(&thread.process.threads()),
        register @ (barrier::REGISTER_GLOBAL | barrier::REGISTER_PRIVATE | barrier::REGISTER_SYNC) => {
            change(thread, |attributes| attributes.barriers |= register);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// A thread that was stopped and goes on has seen all that was stored before, wherever it runs.
fn halt_all(threads: &[Rc<Thread>]) {
    for thread in threads {
        thread.machine.suspend();
        thread.machine.resume();
    }
}
