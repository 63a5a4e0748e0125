//! Calls on the system, the processor and limits.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::{self, PAGE_SIZE, Registers, now_ns};
use crate::process::limits::Limit;
use crate::process::{MAX_NAME, Pid, Process, Thread, Whereabouts};
use crate::signal::Signal;
use crate::signal::deliver::with_context;
use crate::user::UserBuffer;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::{general as linux, prctl};
use posix_protocol::shim::Context;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_arch_prctl, arch_prctl),
    SystemCall::new(linux::__NR_prctl, |t, a| prctl(t, a).into()),
    SystemCall::new(linux::__NR_uname, |t, a| uname(t, a[0]).into()),
    SystemCall::new(linux::__NR_sethostname, |t, a| sethostname(t, a).into()),
    SystemCall::new(linux::__NR_sysinfo, |t, a| sysinfo(t, a[0]).into()),
    SystemCall::new(linux::__NR_getrandom, |t, a| getrandom(t, a).into()),
    SystemCall::new(linux::__NR_getrlimit, |t, a| prlimit(t, [0, a[0], 0, a[1]]).into()),
    SystemCall::new(linux::__NR_setrlimit, |t, a| prlimit(t, [0, a[0], a[1], 0]).into()),
    SystemCall::new(linux::__NR_prlimit64, |t, a| prlimit(t, [a[0], a[1], a[2], a[3]]).into()),
    SystemCall::new(linux::__NR_getcpu, |t, a| getcpu(t, a).into()),
    SystemCall::new(linux::__NR_sched_yield, |t, _| sched_yield(t)),
    SystemCall::new(linux::__NR_sched_getaffinity, |t, a| sched_getaffinity(t, a).into()),
    SystemCall::new(linux::__NR_sched_setaffinity, |t, a| sched_setaffinity(t, a).into()),
    SystemCall::new(linux::__NR_sched_getscheduler, |t, a| check_process(t, a[0]).into()),
    SystemCall::new(linux::__NR_sched_getparam, |t, a| sched_getparam(t, a).into()),
    SystemCall::new(linux::__NR_sched_get_priority_max, |_, a| Outcome::Return(priority_bound(a[0], 99))),
    SystemCall::new(linux::__NR_sched_get_priority_min, |_, a| Outcome::Return(priority_bound(a[0], 1))),
    SystemCall::new(linux::__NR_getpriority, |t, a| getpriority(t, a).into()),
    SystemCall::new(linux::__NR_setpriority, |t, a| setpriority(t, a).into()),
    SystemCall::new(linux::__NR_personality, |_, a| personality(a[0]).into()),
    SystemCall::new(linux::__NR_membarrier, |_, a| membarrier(a[0]).into()),
];

/// `ARCH_GET_FS` (`asm/prctl.h`).
const ARCH_GET_FS: u32 = 0x1003;

// ---- the processor -----------------------------------------------------------------------------------------------

fn arch_prctl(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [code, address, ..] = *arguments;
    let Ok(registers) = thread.machine.registers() else { return Errno::ESRCH.into() };
    match code as u32 {
        ARCH_GET_FS => pointer(thread, address).write(&registers.fs_base).into(),
        linux::ARCH_SET_FS => {
            if address >= crate::user::USER_END {
                return Errno::EPERM.into();
            }
            set_fs(thread, &registers, address)
        }
        // `gs` is the shim's.
        _ => Errno::EINVAL.into(),
    }
}

/// Sets the `fs` base. The registers of a thread in a call can't change under the call, so it is redirected: it goes on in the shim, which
/// loads the registers from the block.
fn set_fs(thread: &Rc<Thread>, registers: &Registers, address: u64) -> Outcome {
    let Some(context) = thread.context() else { return Errno::EFAULT.into() };
    if !thread.set_context(&Context { rax: 0, ..context }) {
        return Errno::EFAULT.into();
    }
    let shim =
        Context { rip: thread.server().shim.restore(), rsp: thread.block.get() + PAGE_SIZE, ..Context::default() };
    let redirected = Registers { fs_base: address, rflags: 0x202, ..with_context(registers, &shim) };
    let redirected = Registers { rflags: 0x202, ..redirected };
    if thread.machine.set_registers(&redirected).is_err() {
        return Errno::ESRCH.into();
    }
    let reply = thread.reply.borrow_mut().take();
    drop(reply);
    thread.whereabouts.set(Whereabouts::Outside);
    if thread.is_interrupted() {
        crate::signal::deliver::attend(thread);
    }
    Outcome::Gone
}

fn getcpu(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [cpu, node, ..] = *arguments;
    pointer(thread, cpu).write_if_given(&0u32)?;
    pointer(thread, node).write_if_given(&0u32)
}

fn check_process(thread: &Thread, pid: u64) -> Result<()> {
    let pid = pid as Pid;
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    if pid == 0 || thread.server().thread(pid).is_some() { Ok(()) } else { Err(Errno::ESRCH) }
}

fn sched_getaffinity(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [pid, size, mask, ..] = *arguments;
    check_process(thread, pid)?;
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    pointer(thread, mask).write(&1u64)?;
    Ok(8)
}

fn sched_setaffinity(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, size, mask, ..] = *arguments;
    check_process(thread, pid)?;
    let mut first = [0; 1];
    if size > 0 {
        pointer(thread, mask).read_bytes(&mut first)?;
    }
    if first[0] & 1 == 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn sched_getparam(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, parameter, ..] = *arguments;
    check_process(thread, pid)?;
    pointer(thread, parameter).write(&0u32)
}

fn priority_bound(policy: u64, bound: u64) -> Result<u64> {
    match policy as u32 {
        linux::SCHED_NORMAL | linux::SCHED_BATCH | linux::SCHED_IDLE => Ok(0),
        linux::SCHED_FIFO | linux::SCHED_RR => Ok(bound),
        _ => Err(Errno::EINVAL),
    }
}

fn sched_yield(thread: &Rc<Thread>) -> Outcome {
    // The answer goes through the executor once, so that all other threads with requests come first.
    let executor = thread.server().executor.clone();
    Outcome::block(async move {
        executor.sleep_until(0).await;
        Ok(0)
    })
}

/// The processes that a pair of `PRIO_*` and a number names. `EINVAL`, `ESRCH`.
fn named_processes(thread: &Rc<Thread>, which: u64, who: u64) -> Result<Vec<Rc<Process>>> {
    let own = &thread.process;
    let id = who as u32;
    let server = thread.server();
    let named: Vec<Rc<Process>> = match which as u32 {
        linux::PRIO_PROCESS if id == 0 => [own.clone()].into(),
        linux::PRIO_PROCESS => server.thread(id as Pid).map(|thread| thread.process.clone()).into_iter().collect(),
        linux::PRIO_PGRP => {
            let group = if id == 0 { own.group() } else { id as Pid };
            let members = server.tree.borrow().group_members(group);
            members.into_iter().filter_map(|pid| server.process(pid)).collect()
        }
        linux::PRIO_USER => {
            let uid = if id == 0 { own.credentials().uid } else { id };
            server.processes().into_iter().filter(|process| process.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if named.is_empty() { Err(Errno::ESRCH) } else { Ok(named) }
}

/// The nice values, 19 (last) to -20 (first), are kept and told; scheduling does not know them yet. The call returns 20 less the value.
fn getpriority(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [which, who, ..] = *arguments;
    let named = named_processes(thread, which, who)?;
    let first = named.iter().map(|process| process.nice.get()).min().unwrap_or_default();
    Ok((20 - i64::from(first)) as u64)
}

fn setpriority(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [which, who, nice, ..] = *arguments;
    let nice = (nice as i32).clamp(-20, 19) as i8;
    let own = thread.process.credentials();
    let named = named_processes(thread, which, who)?;
    let mut result = Ok(());
    for process in named {
        let theirs = process.credentials();
        let may_touch = own.is_privileged() || own.euid == theirs.uid || own.euid == theirs.euid;
        if !may_touch {
            result = Err(Errno::EPERM);
        } else if nice < process.nice.get() && !own.is_privileged() {
            result = Err(Errno::EACCES);
        } else {
            process.nice.set(nice);
        }
    }
    result
}

fn membarrier(command: u64) -> Result<u64> {
    // One processor, and every switch is a barrier; nothing is offered.
    if command == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

fn personality(wanted: u64) -> Result<u64> {
    const ASK: u64 = 0xffff_ffff;
    if wanted == ASK || wanted == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

// ---- names and numbers -------------------------------------------------------------------------------------------

/// The length of each field of `struct utsname`.
const NAME_BYTES: usize = 65;

fn uname(thread: &Rc<Thread>, address: u64) -> Result<()> {
    let host = thread.server().host_name.borrow().clone();
    let fields: [&[u8]; 6] = [b"Linux", &host, b"6.1.0-quire", b"#1 Quire", b"x86_64", b"(none)"];
    let mut record = [[0u8; NAME_BYTES]; 6];
    for (field, text) in record.iter_mut().zip(fields) {
        for (to, from) in field.iter_mut().take(NAME_BYTES - 1).zip(text) {
            *to = *from;
        }
    }
    pointer(thread, address).write(&record)
}

fn sethostname(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [address, length, ..] = *arguments;
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if length >= NAME_BYTES as u64 {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; length as usize];
    pointer(thread, address).read_bytes(&mut name)?;
    thread.server().host_name.replace(name);
    Ok(())
}

fn sysinfo(thread: &Rc<Thread>, address: u64) -> Result<()> {
    let (total, free) = platform::frames();
    let processes = thread.server().tree.borrow().len() as u64;
    // uptime, three loads, total, free, shared, buffers, swap, free swap, processes, high memory, free high memory, unit.
    let record: [u64; 14] = [
        now_ns() / 1_000_000_000,
        0,
        0,
        0,
        total * PAGE_SIZE,
        free * PAGE_SIZE,
        0,
        0,
        0,
        0,
        processes & 0xffff,
        0,
        0,
        1,
    ];
    pointer(thread, address).write(&record)
}

fn getrandom(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [address, length, flags, ..] = *arguments;
    let known = linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE;
    let contradicting = linux::GRND_RANDOM | linux::GRND_INSECURE;
    if flags & !u64::from(known) != 0 || flags & u64::from(contradicting) == u64::from(contradicting) {
        return Err(Errno::EINVAL);
    }
    // What may be asked for at once; the program asks again.
    const MAX_AT_ONCE: u64 = 1 << 20;
    let mut buffer = UserBuffer::new(&thread.space(), address, length)?;
    buffer.truncate(MAX_AT_ONCE);
    let mut done = 0;
    let mut chunk = [0; 256];
    while !buffer.is_empty() {
        let count = buffer.remaining().min(chunk.len() as u64) as usize;
        let part = chunk.get_mut(..count).unwrap_or_default();
        platform::random(part);
        match buffer.write(part) {
            Ok(written) => done += written as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

// ---- limits and attributes of processes --------------------------------------------------------------------------

fn prlimit(thread: &Rc<Thread>, [pid, resource, new, old]: [u64; 4]) -> Result<()> {
    let pid = pid as Pid;
    let process = if pid == 0 || pid == thread.process.pid {
        thread.process.clone()
    } else {
        let other = thread.server().process(pid).ok_or(Errno::ESRCH)?;
        let (own, theirs) = (thread.process.credentials(), other.credentials());
        if !own.is_privileged() && own.uid != theirs.uid {
            return Err(Errno::EPERM);
        }
        other
    };
    let resource = u32::try_from(resource).map_err(|_| Errno::EINVAL)?;
    let mut limits = process.limits.get();
    let before = limits.get(resource)?;
    if new != 0 {
        let wanted: Limit = pointer(thread, new).read()?;
        limits.set(resource, wanted, &thread.process.credentials())?;
        process.limits.set(limits);
    }
    pointer(thread, old).write_if_given(&before)
}

fn prctl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [option, argument, ..] = *arguments;
    match option as u32 {
        prctl::PR_SET_NAME => {
            let mut name = pointer(thread, argument)
                .read_c_string(MAX_NAME + 1)
                .or_else(|error| if error == Errno::ENAMETOOLONG { read_name(thread, argument) } else { Err(error) })?;
            name.truncate(MAX_NAME);
            thread.machine.set_name(&name);
            thread.process.program.borrow_mut().name = name;
            Ok(0)
        }
        prctl::PR_GET_NAME => {
            let mut bytes = [0; MAX_NAME + 1];
            for (to, from) in bytes.iter_mut().zip(&thread.process.program.borrow().name) {
                *to = *from;
            }
            pointer(thread, argument).write_bytes(&bytes)?;
            Ok(0)
        }
        prctl::PR_SET_PDEATHSIG => {
            let signal = if argument == 0 { 0 } else { Signal::from_number(argument)?.number() };
            thread.process.parent_death_signal.set(signal);
            Ok(0)
        }
        prctl::PR_GET_PDEATHSIG => {
            let signal = u32::from(thread.process.parent_death_signal.get());
            pointer(thread, argument).write(&signal)?;
            Ok(0)
        }
        prctl::PR_GET_DUMPABLE => Ok(1),
        prctl::PR_SET_DUMPABLE if argument <= 1 => Ok(0),
        prctl::PR_GET_NO_NEW_PRIVS => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn read_name(thread: &Rc<Thread>, address: u64) -> Result<Vec<u8>> {
    let mut name = alloc::vec![0; MAX_NAME];
    pointer(thread, address).read_bytes(&mut name)?;
    Ok(name)
}
