//! `seccomp`: which calls a thread may make from now on; and what becomes of those that it may not.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::Thread;
use crate::process::end::{end_process, end_thread};
use crate::process::seccomp::program::{Instruction, MAX_INSTRUCTIONS};
use crate::process::seccomp::{ARCHITECTURE, Filter, Mode, Verdict, action};
use crate::process::tree::ExitStatus;
use crate::ptrace::stops::{Point, halt, set_message, wants};
use crate::ptrace::{Event, Stop};
use crate::signal::deliver::force;
use crate::signal::leave::Leaving;
use crate::signal::{Details, Signal, SignalInfo};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use zerocopy::IntoBytes;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[SystemCall::new(linux::__NR_seccomp, |t, a| seccomp(t, a).into())
    .with_flags(
        "SECCOMP_SET_MODE_STRICT SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL SECCOMP_FILTER_FLAG_TSYNC \
         SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_TSYNC_ESRCH",
    )
    .partly(
        "nobody can be asked (SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_GET_NOTIF_SIZES: EINVAL); what is to be noted is not",
    )];

/// Operations (`linux/seccomp.h`).
const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAILABLE: u32 = 2;

/// Flags of [`SET_MODE_FILTER`].
const SYNCHRONIZE: u32 = 1 << 0;
const LOG: u32 = 1 << 1;
const SPECULATE: u32 = 1 << 2;
const SYNCHRONIZE_OR_FAIL: u32 = 1 << 4;

/// `SYS_SECCOMP`.
const CODE_SECCOMP: i32 = linux::SYS_SECCOMP as i32;

fn seccomp(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [operation, flags, address, ..] = *arguments;
    match operation as u32 {
        SET_MODE_STRICT if flags as u32 == 0 && address == 0 => set_strict(thread),
        SET_MODE_FILTER => set_filter(thread, flags as u32, address),
        GET_ACTION_AVAILABLE if flags as u32 == 0 => {
            let asked: u32 = pointer(thread, address).read()?;
            if action::KNOWN.contains(&asked) { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_SECCOMP`.
pub(super) fn set_mode(thread: &Rc<Thread>, mode: u64, address: u64) -> Result<u64> {
    match mode {
        1 => set_strict(thread),
        2 => set_filter(thread, 0, address),
        _ => Err(Errno::EINVAL),
    }
}

fn set_strict(thread: &Rc<Thread>) -> Result<u64> {
    if let Mode::Filter(_) = &*thread.seccomp.borrow() {
        return Err(Errno::EINVAL);
    }
    thread.restrict(Mode::Strict);
    Ok(0)
}

fn set_filter(thread: &Rc<Thread>, flags: u32, address: u64) -> Result<u64> {
    if flags & !(SYNCHRONIZE | LOG | SPECULATE | SYNCHRONIZE_OR_FAIL) != 0 {
        return Err(Errno::EINVAL);
    }
    let instructions = read_program(thread, address)?;
    let mode = Filter::add(&thread.seccomp.borrow(), &instructions)?;
    if flags & SYNCHRONIZE == 0 {
        thread.restrict(mode);
        return Ok(0);
    }
    let threads = thread.process.threads();
    let current = thread.seccomp.borrow().clone();
    let stubborn = threads.iter().find(|other| other.tid != thread.tid && !other.seccomp.borrow().can_become(&current));
    if let Some(stubborn) = stubborn {
        return if flags & SYNCHRONIZE_OR_FAIL == 0 { Ok(stubborn.tid as u64) } else { Err(Errno::ESRCH) };
    }
    threads.iter().for_each(|other| other.restrict(mode.clone()));
    Ok(0)
}

/// Reads `struct sock_fprog` and what it points at. `EFAULT`, `EINVAL` for a length that can't be; `EACCES` if the program could
/// harm others by it: it may still gain privileges.
fn read_program(thread: &Rc<Thread>, address: u64) -> Result<Vec<Instruction>> {
    let [length, instructions]: [u64; 2] = pointer(thread, address).read()?;
    let length = usize::from(length as u16);
    if length == 0 || length > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let process = &thread.process;
    if !process.attributes.get().no_new_privileges && !process.credentials().is_privileged() {
        return Err(Errno::EACCES);
    }
    let mut program = vec![Instruction::default(); length];
    pointer(thread, instructions).read_bytes(program.as_mut_bytes())?;
    Ok(program)
}

/// What becomes of a call that a thread may not make, or at least not now; `None`: it runs.
pub(super) fn forbidden(thread: &Rc<Thread>, verdict: Verdict, number: u32, instruction: u64) -> Option<Outcome> {
    Some(match verdict {
        Verdict::Run => return None,
        Verdict::Fail(0) => Outcome::Return(Ok(0)),
        Verdict::Fail(error) => Outcome::Return(Ok(i64::from(error).wrapping_neg() as u64)),
        Verdict::Ask(data) if wants(thread, Event::Seccomp) => {
            set_message(thread, data.into());
            halt(thread, Leaving::in_call(thread), Stop::Event(Event::Seccomp), Point::Judged);
            Outcome::Gone
        }
        Verdict::Ask(_) => Outcome::Return(Err(Errno::ENOSYS)),
        Verdict::Trap(data) => {
            let details =
                Details::Call { address: instruction, number, architecture: ARCHITECTURE, errno: data.into() };
            force(thread, SignalInfo { signal: Signal::SYS, code: CODE_SECCOMP, details });
            // The registers are those of the call.
            Outcome::Context
        }
        Verdict::KillThread if thread.process.threads().len() > 1 => {
            end_thread(thread, Signal::SYS.number());
            Outcome::Gone
        }
        Verdict::KillThread | Verdict::KillProcess => kill(thread, Signal::SYS),
        Verdict::Strict if thread.process.threads().len() > 1 => {
            end_thread(thread, Signal::KILL.number());
            Outcome::Gone
        }
        Verdict::Strict => kill(thread, Signal::KILL),
    })
}

fn kill(thread: &Thread, signal: Signal) -> Outcome {
    end_process(&thread.process, ExitStatus::Killed { signal, dumped: signal == Signal::SYS });
    Outcome::Gone
}
