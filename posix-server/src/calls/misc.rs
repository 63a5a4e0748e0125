//! Calls on the system, the processor and limits.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::{self, PAGE_SIZE, Registers, now_ns};
use crate::process::limits::Limit;
use crate::process::{Pid, Process, Thread, Whereabouts};
use crate::random;
use crate::shared;
use crate::signal::leave::with_context;
use crate::user::UserBuffer;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_arch_prctl, arch_prctl),
    SystemCall::new(linux::__NR_uname, |t, a| uname(t, a[0]).into()),
    SystemCall::new(linux::__NR_sethostname, |t, a| set_name(t, a, &t.server().host_name).into()),
    SystemCall::new(linux::__NR_setdomainname, |t, a| set_name(t, a, &t.server().domain_name).into()),
    SystemCall::new(linux::__NR_sysinfo, |t, a| sysinfo(t, a[0]).into()),
    SystemCall::new(linux::__NR_getrandom, |t, a| getrandom(t, a).into()),
    SystemCall::new(linux::__NR_getrlimit, |t, a| getrlimit(t, a).into()),
    SystemCall::new(linux::__NR_setrlimit, |t, a| setrlimit(t, a).into()),
    SystemCall::new(linux::__NR_prlimit64, |t, a| prlimit(t, a).into()),
    SystemCall::new(linux::__NR_getcpu, |t, a| getcpu(t, a).into()),
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
            if thread.is_traced.get() {
                // It goes on with all registers set anew.
                thread.new_fs_base.set(Some(address));
                return Outcome::Return(Ok(0));
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
    thread.set_context(&Context { rax: 0, ..thread.context() });
    let shim = Context { rip: thread.server().shim.restore(), rsp: thread.block().end(), ..Context::default() };
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
    pointer(thread, cpu).write_if_given(&thread.machine.processor())?;
    pointer(thread, node).write_if_given(&0u32)
}

// ---- names and numbers -------------------------------------------------------------------------------------------

/// The length of each field of `struct utsname`.
const NAME_BYTES: usize = 65;

fn uname(thread: &Rc<Thread>, address: u64) -> Result<()> {
    let host = thread.server().host_name.borrow().clone();
    let domain = thread.server().domain_name.borrow().clone();
    let fields: [&[u8]; 6] = [b"Linux", &host, b"6.1.0-quire", b"#1 Quire", b"x86_64", &domain];
    let mut record = [[0u8; NAME_BYTES]; 6];
    for (field, text) in record.iter_mut().zip(fields) {
        for (to, from) in field.iter_mut().take(NAME_BYTES - 1).zip(text) {
            *to = *from;
        }
    }
    pointer(thread, address).write(&record)
}

/// Sets a field of `uname` that has a name of the host.
fn set_name(thread: &Rc<Thread>, arguments: &Arguments, field: &RefCell<Vec<u8>>) -> Result<()> {
    let [address, length, ..] = *arguments;
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if length >= NAME_BYTES as u64 {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; length as usize];
    pointer(thread, address).read_bytes(&mut name)?;
    field.replace(name);
    Ok(())
}

fn sysinfo(thread: &Rc<Thread>, address: u64) -> Result<()> {
    let (total, free) = platform::frames();
    let processes = thread.server().tree.look(|tree, ()| tree.len(), ()) as u64;
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
    let flags = flags as u32;
    let known = linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE;
    let contradicting = linux::GRND_RANDOM | linux::GRND_INSECURE;
    if flags & !known != 0 || flags & contradicting == contradicting {
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
        random::fill(part);
        match buffer.write(part) {
            Ok(written) => done += written as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

// ---- limits and attributes of processes --------------------------------------------------------------------------

fn getrlimit(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [resource, address, ..] = *arguments;
    pointer(thread, address).write(&thread.process.limits.get().get(resource as u32)?)
}

fn setrlimit(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [resource, address, ..] = *arguments;
    let wanted: Limit = pointer(thread, address).read()?;
    exchange_limit(thread, &thread.process, resource as u32, Some(wanted)).map(drop)
}

/// Sets a limit of a process, if there is a new one; gives what it was. `EINVAL`, `EPERM`.
fn exchange_limit(thread: &Thread, process: &Rc<Process>, resource: u32, new: Option<Limit>) -> Result<Limit> {
    let mut limits = process.limits.get();
    let before = limits.get(resource)?;
    if let Some(wanted) = new {
        limits.set(resource, wanted, &thread.process.credentials())?;
        process.limits.set(limits);
        if resource == linux::RLIMIT_CPU {
            process.timers.follow_cpu_limit(process);
        }
        if resource == linux::RLIMIT_FSIZE {
            shared::end_all(process);
        }
    }
    Ok(before)
}

fn prlimit(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [pid, resource, new, old, ..] = *arguments;
    let new: Option<Limit> = if new == 0 { None } else { Some(pointer(thread, new).read()?) };
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
    let before = exchange_limit(thread, &process, resource as u32, new)?;
    pointer(thread, old).write_if_given(&before)
}
