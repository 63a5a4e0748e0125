//! Calls on scheduling (`sched(7)`), nice values and I/O priorities.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::platform::PAGE_SIZE;
use crate::process::schedule::{NICE, Policy, Schedule, all_processors};
use crate::process::tree::Tree;
use crate::process::{Pid, Process, Thread};
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const DEADLINE: &str =
    "SCHED_DEADLINE gets EINVAL; nice values and the policies without priorities are kept, and scheduled alike";

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_sched_yield, |t, _| sched_yield(t)),
    SystemCall::new(linux::__NR_sched_getaffinity, |t, a| sched_getaffinity(t, a).into()),
    SystemCall::new(linux::__NR_sched_setaffinity, |t, a| sched_setaffinity(t, a).into()),
    SystemCall::new(linux::__NR_sched_getscheduler, |t, a| sched_getscheduler(t, a[0]).into()),
    SystemCall::new(linux::__NR_sched_setscheduler, |t, a| sched_setscheduler(t, a).into()).partly(DEADLINE),
    SystemCall::new(linux::__NR_sched_getparam, |t, a| sched_getparam(t, a).into()),
    SystemCall::new(linux::__NR_sched_setparam, |t, a| sched_setparam(t, a).into()),
    SystemCall::new(linux::__NR_sched_getattr, |t, a| sched_getattr(t, a).into()),
    SystemCall::new(linux::__NR_sched_setattr, |t, a| sched_setattr(t, a).into()).partly(DEADLINE),
    SystemCall::new(linux::__NR_sched_rr_get_interval, |t, a| rr_interval(t, a).into()),
    SystemCall::new(linux::__NR_sched_get_priority_max, |_, a| Outcome::Return(priority_bound(a[0], 99))),
    SystemCall::new(linux::__NR_sched_get_priority_min, |_, a| Outcome::Return(priority_bound(a[0], 1))),
    SystemCall::new(linux::__NR_getpriority, |t, a| getpriority(t, a).into()),
    SystemCall::new(linux::__NR_setpriority, |t, a| setpriority(t, a).into())
        .partly("nice values are kept, and scheduled alike"),
    SystemCall::new(linux::__NR_ioprio_get, |t, a| ioprio_get(t, a).into()),
    SystemCall::new(linux::__NR_ioprio_set, |t, a| ioprio_set(t, a).into())
        .partly("priorities are kept; I/O is done in the order in which it comes"),
];

/// The thread that a number names, the caller for 0. `EINVAL` for a negative one, `ESRCH`.
fn named(thread: &Rc<Thread>, pid: u64) -> Result<Rc<Thread>> {
    match pid as Pid {
        pid if pid < 0 => Err(Errno::EINVAL),
        0 => Ok(thread.clone()),
        pid => thread.server().thread(pid).ok_or(Errno::ESRCH),
    }
}

/// Whether one user's process may change how another's is scheduled.
fn is_owner(own: &Credentials, target: &Thread) -> bool {
    let theirs = target.process.credentials();
    own.is_privileged() || own.euid == theirs.euid || own.euid == theirs.uid
}

// ---- processors --------------------------------------------------------------------------------------------------

fn sched_yield(thread: &Rc<Thread>) -> Outcome {
    // The answer goes through the executor once, so that all other threads with requests come first.
    let executor = thread.server().executor.clone();
    Outcome::block(async move {
        executor.sleep_until(0).await;
        Ok(0)
    })
}

/// The size of a set of processors as the kernel keeps it, in bytes.
const SET_BYTES: u64 = 8;

fn sched_getaffinity(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [pid, size, mask, ..] = *arguments;
    let size = u64::from(size as u32);
    // Linux counts the bits in 32 bits.
    let bits = (size as u32).wrapping_mul(u8::BITS);
    if bits == 0 || !size.is_multiple_of(SET_BYTES) {
        return Err(Errno::EINVAL);
    }
    let target = if pid as Pid >= 0 { named(thread, pid)? } else { return Err(Errno::ESRCH) };
    pointer(thread, mask).write(&target.schedule.get().processors)?;
    Ok(SET_BYTES)
}

fn sched_setaffinity(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, size, mask, ..] = *arguments;
    let mut bytes = [0; SET_BYTES as usize];
    let given = u64::from(size as u32).min(SET_BYTES) as usize;
    pointer(thread, mask).read_bytes(bytes.get_mut(..given).unwrap_or_default())?;
    let target = if pid as Pid >= 0 { named(thread, pid)? } else { return Err(Errno::ESRCH) };
    if !is_owner(&thread.process.credentials(), &target) {
        return Err(Errno::EPERM);
    }
    let processors = u64::from_le_bytes(bytes) & all_processors();
    if processors == 0 {
        return Err(Errno::EINVAL);
    }
    target.set_schedule(Schedule { processors, ..target.schedule.get() });
    Ok(())
}

// ---- policies ----------------------------------------------------------------------------------------------------

/// Whether the caller may change a thread's schedule. `EPERM`.
fn check_change(thread: &Thread, target: &Thread, wanted: &Schedule) -> Result<()> {
    let own = thread.process.credentials();
    if own.is_privileged() {
        return Ok(());
    }
    let old = target.schedule.get();
    let limits = target.process.limits.get();
    let most = limits.soft(linux::RLIMIT_RTPRIO);
    let (before, after) = (old.policy.priority(), wanted.policy.priority());
    let becomes_urgent = after > 0 && old.policy.number() != wanted.policy.number() && most == 0;
    let rises = after > before && u64::from(after) > most;
    let leaves_idle = old.policy == Policy::Idle && wanted.policy != Policy::Idle && !may_be_nice(target, old.nice);
    let is_nicer = wanted.nice < old.nice && !may_be_nice(target, wanted.nice);
    let forgets_reset = old.resets_on_fork && !wanted.resets_on_fork;
    let refused = becomes_urgent || rises || leaves_idle || is_nicer || forgets_reset || !is_owner(&own, target);
    if refused { Err(Errno::EPERM) } else { Ok(()) }
}

/// Whether `RLIMIT_NICE` lets a thread have a nice value.
fn may_be_nice(target: &Thread, nice: i8) -> bool {
    (20 - i64::from(nice)) as u64 <= target.process.limit(linux::RLIMIT_NICE)
}

/// Checks and makes a change.
fn change(thread: &Thread, target: &Thread, wanted: Schedule) -> Result<()> {
    check_change(thread, target, &wanted)?;
    target.set_schedule(wanted);
    Ok(())
}

fn sched_getscheduler(thread: &Rc<Thread>, pid: u64) -> Result<u64> {
    let schedule = named(thread, pid)?.schedule.get();
    let reset = if schedule.resets_on_fork { linux::SCHED_RESET_ON_FORK } else { 0 };
    Ok(u64::from(schedule.policy.number() | reset))
}

fn sched_setscheduler(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, policy, parameter, ..] = *arguments;
    if parameter == 0 || (pid as Pid) < 0 || (policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = pointer(thread, parameter).read()?;
    let target = named(thread, pid)?;
    let policy = policy as u32;
    let resets_on_fork = policy & linux::SCHED_RESET_ON_FORK != 0;
    let policy = Policy::new(policy & !linux::SCHED_RESET_ON_FORK, priority)?;
    change(thread, &target, Schedule { policy, resets_on_fork, ..target.schedule.get() })
}

fn sched_getparam(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, parameter, ..] = *arguments;
    if parameter == 0 {
        return Err(Errno::EINVAL);
    }
    let priority = u32::from(named(thread, pid)?.schedule.get().policy.priority());
    pointer(thread, parameter).write(&priority)
}

fn sched_setparam(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, parameter, ..] = *arguments;
    if parameter == 0 || (pid as Pid) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = pointer(thread, parameter).read()?;
    let target = named(thread, pid)?;
    let old = target.schedule.get();
    let policy = Policy::new(old.policy.number(), priority)?;
    change(thread, &target, Schedule { policy, ..old })
}

/// `struct sched_attr`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    least_utilization: u32,
    most_utilization: u32,
}

/// The size of its first version, in bytes.
const FIRST_SIZE: u64 = 48;
const KEEP_POLICY: u64 = linux::SCHED_FLAG_KEEP_POLICY as u64;
const KEEP_PARAMETERS: u64 = linux::SCHED_FLAG_KEEP_PARAMS as u64;
const UTILIZATION: u64 = 0x60;
const KNOWN_FLAGS: u64 = 0x7f;

/// Reads a record of any version. `E2BIG` if it has more than is known, or too little; `EFAULT`.
fn read_attributes(thread: &Thread, address: u64) -> Result<Attributes> {
    let own = size_of::<Attributes>();
    let at = pointer(thread, address);
    let size = match at.read::<u32>()? {
        0 => FIRST_SIZE,
        size => u64::from(size),
    };
    let mut bytes = [0; PAGE_SIZE as usize];
    let given = bytes.get_mut(..size as usize).filter(|_| size >= FIRST_SIZE);
    let is_understood = match given {
        Some(given) => {
            at.read_bytes(given)?;
            given.iter().skip(own).all(|byte| *byte == 0)
        }
        None => false,
    };
    if !is_understood {
        at.write(&(own as u32))?;
        return Err(Errno::E2BIG);
    }
    let known = bytes.get(..own).unwrap_or_default();
    Attributes::read_from_bytes(known).map_err(|_| Errno::EINVAL)
}

fn sched_setattr(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, address, flags, ..] = *arguments;
    if address == 0 || (pid as Pid) < 0 || flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let record = read_attributes(thread, address)?;
    if (record.policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let target = named(thread, pid)?;
    if record.flags & !KNOWN_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if record.flags & UTILIZATION != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let old = target.schedule.get();
    let number = if record.flags & KEEP_POLICY != 0 { old.policy.number() } else { record.policy };
    let keeps = record.flags & KEEP_PARAMETERS != 0;
    let priority = if keeps { u32::from(old.policy.priority()) } else { record.priority };
    let policy = Policy::new(number, priority)?;
    let nice = if keeps || policy.priority() != 0 { old.nice } else { clamp_nice(record.nice) };
    let resets_on_fork = record.flags & u64::from(linux::SCHED_FLAG_RESET_ON_FORK) != 0;
    change(thread, &target, Schedule { policy, nice, resets_on_fork, ..old })
}

fn sched_getattr(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, address, size, flags, ..] = *arguments;
    let size = u64::from(size as u32);
    let is_bad_size = !(FIRST_SIZE..=PAGE_SIZE).contains(&size);
    if address == 0 || (pid as Pid) < 0 || is_bad_size || flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let schedule = named(thread, pid)?.schedule.get();
    let priority = u32::from(schedule.policy.priority());
    let own = size.min(size_of::<Attributes>() as u64);
    let record = Attributes {
        size: own as u32,
        policy: schedule.policy.number(),
        flags: u64::from(schedule.resets_on_fork),
        nice: if priority == 0 { i32::from(schedule.nice) } else { 0 },
        priority,
        most_utilization: 1024,
        ..Attributes::default()
    };
    pointer(thread, address).write_bytes(record.as_bytes().get(..own as usize).unwrap_or_default())
}

/// How long a thread runs before another of its priority does, in ns.
fn rr_interval(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, address, ..] = *arguments;
    const ROUND_ROBIN_NS: u64 = 100_000_000;
    const ORDINARY_NS: u64 = 4_000_000;
    let slice_ns = match named(thread, pid)?.schedule.get().policy {
        Policy::Fifo(_) => 0,
        Policy::RoundRobin(_) => ROUND_ROBIN_NS,
        Policy::Normal | Policy::Batch | Policy::Idle => ORDINARY_NS,
    };
    pointer(thread, address).write(&[0, slice_ns])
}

fn priority_bound(policy: u64, bound: u64) -> Result<u64> {
    match policy as u32 {
        linux::SCHED_NORMAL | linux::SCHED_BATCH | linux::SCHED_IDLE | linux::SCHED_DEADLINE => Ok(0),
        linux::SCHED_FIFO | linux::SCHED_RR => Ok(bound),
        _ => Err(Errno::EINVAL),
    }
}

// ---- nice values and I/O priorities ------------------------------------------------------------------------------

fn clamp_nice(nice: i32) -> i8 {
    nice.clamp(*NICE.start(), *NICE.end()) as i8
}

/// What a number names together with `PRIO_*`, or with `IOPRIO_WHO_*` less 1.
fn named_threads(thread: &Rc<Thread>, which: u32, who: u64) -> Result<Vec<Rc<Thread>>> {
    let own = &thread.process;
    let id = who as u32;
    let server = thread.server();
    let processes: Vec<Rc<Process>> = match which {
        linux::PRIO_PROCESS => {
            return named(thread, u64::from(id)).map(|thread| [thread].into()).map_err(|_| Errno::ESRCH);
        }
        linux::PRIO_PGRP => {
            let group = if id == 0 { own.group() } else { id as Pid };
            let members = server.tree.look(Tree::group_members, group);
            members.into_iter().filter_map(|pid| server.process(pid)).collect()
        }
        linux::PRIO_USER => {
            let uid = if id == 0 { own.credentials().uid } else { id };
            server.processes().into_iter().filter(|process| process.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    let threads: Vec<_> = processes.iter().flat_map(|process| process.threads()).collect();
    if threads.is_empty() { Err(Errno::ESRCH) } else { Ok(threads) }
}

/// The call returns 20 less the value, so that it is never negative.
fn getpriority(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let named = named_threads(thread, arguments[0] as u32, arguments[1])?;
    let first = named.iter().map(|thread| thread.schedule.get().nice).min().unwrap_or_default();
    Ok((20 - i64::from(first)) as u64)
}

fn setpriority(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [which, who, nice, ..] = *arguments;
    let nice = clamp_nice(nice as i32);
    let own = thread.process.credentials();
    let mut result = Ok(());
    for target in named_threads(thread, which as u32, who)? {
        let old = target.schedule.get();
        if !is_owner(&own, &target) {
            result = Err(Errno::EPERM);
        } else if nice < old.nice && !own.is_privileged() && !may_be_nice(&target, nice) {
            result = Err(Errno::EACCES);
        } else {
            target.set_schedule(Schedule { nice, ..old });
        }
    }
    result
}

/// Where the class is in an I/O priority, and how many levels a class has.
const CLASS_SHIFT: u32 = 13;
const CLASS_MASK: u32 = 7;
const LEVELS: u32 = 8;

/// `EINVAL`, `EPERM` for the real-time class without privilege.
fn check_io_priority(priority: u32, credentials: &Credentials) -> Result<()> {
    let (class, level) = (priority >> CLASS_SHIFT & CLASS_MASK, priority & ((1 << CLASS_SHIFT) - 1));
    match class {
        0 if level == 0 => Ok(()),
        1 if !credentials.is_privileged() => Err(Errno::EPERM),
        1 | 2 if level < LEVELS => Ok(()),
        3 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn ioprio_set(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [which, who, priority, ..] = *arguments;
    let own = thread.process.credentials();
    check_io_priority(priority as u32, &own)?;
    let which = (which as u32).checked_sub(1).ok_or(Errno::EINVAL)?;
    for target in named_threads(thread, which, who)? {
        if !is_owner(&own, &target) {
            return Err(Errno::EPERM);
        }
        target.set_schedule(Schedule { io_priority: priority as u16, ..target.schedule.get() });
    }
    Ok(())
}

/// Of several, the one that comes first.
fn ioprio_get(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let which = (arguments[0] as u32).checked_sub(1).ok_or(Errno::EINVAL)?;
    let named = named_threads(thread, which, arguments[1])?;
    let effective = |schedule: Schedule| match schedule.io_priority {
        // As the nice value has it, in the class of best effort.
        0 => 2 << CLASS_SHIFT | ((i32::from(schedule.nice) + 20) / 5) as u32,
        priority => u32::from(priority),
    };
    Ok(named.iter().map(|thread| u64::from(effective(thread.schedule.get()))).min().unwrap_or_default())
}
