//! What a process has been told: its name, limits, mounts, adjustments.

use super::subject::Subject;
use crate::errno::{Errno, Result};
use crate::fs::FsContext;
use crate::fs::procfs::{add, sysctl};
use crate::process::limits::{Limit, UNLIMITED};
use crate::process::{MAX_NAME, Pid};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// `comm`.
pub(super) fn comm(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = subject.name();
    text.push(b'\n');
    Ok(text)
}

/// Changes it: a process may do that to itself.
pub(super) fn set_comm(subject: &Subject, writer: Pid, bytes: &[u8]) -> Result<()> {
    let process = subject.process().ok_or(Errno::ESRCH)?;
    if writer != subject.pid {
        return Err(Errno::EINVAL);
    }
    let name: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).take(MAX_NAME).collect();
    if let Some(thread) = subject.thread() {
        thread.machine.set_name(&name);
        thread.name.replace(name.clone());
    }
    if subject.tid == subject.pid {
        process.program.borrow_mut().name = name;
    }
    Ok(())
}

/// What a table of mounts says to the process.
fn mount_table(subject: &Subject, table: fn(&FsContext) -> Vec<u8>) -> Result<Vec<u8>> {
    let process = subject.process().ok_or(Errno::EINVAL)?;
    let context = process.fs.borrow().clone();
    Ok(table(&context))
}

/// `mounts`.
pub(super) fn mounts(subject: &Subject) -> Result<Vec<u8>> {
    mount_table(subject, crate::fs::mount_table::mounts)
}

/// `mountinfo`.
pub(super) fn mount_info(subject: &Subject) -> Result<Vec<u8>> {
    mount_table(subject, crate::fs::mount_table::mount_info)
}

/// `mountstats`.
pub(super) fn mount_statistics(subject: &Subject) -> Result<Vec<u8>> {
    mount_table(subject, crate::fs::mount_table::mount_statistics)
}

/// The limits as they are shown: name, number, unit.
const LIMITS: [(&str, u32, &str); 16] = [
    ("Max cpu time", linux::RLIMIT_CPU, "seconds"),
    ("Max file size", linux::RLIMIT_FSIZE, "bytes"),
    ("Max data size", linux::RLIMIT_DATA, "bytes"),
    ("Max stack size", linux::RLIMIT_STACK, "bytes"),
    ("Max core file size", linux::RLIMIT_CORE, "bytes"),
    ("Max resident set", linux::RLIMIT_RSS, "bytes"),
    ("Max processes", linux::RLIMIT_NPROC, "processes"),
    ("Max open files", linux::RLIMIT_NOFILE, "files"),
    ("Max locked memory", linux::RLIMIT_MEMLOCK, "bytes"),
    ("Max address space", linux::RLIMIT_AS, "bytes"),
    ("Max file locks", linux::RLIMIT_LOCKS, "locks"),
    ("Max pending signals", linux::RLIMIT_SIGPENDING, "signals"),
    ("Max msgqueue size", linux::RLIMIT_MSGQUEUE, "bytes"),
    ("Max nice priority", linux::RLIMIT_NICE, ""),
    ("Max realtime priority", linux::RLIMIT_RTPRIO, ""),
    ("Max realtime timeout", linux::RLIMIT_RTTIME, "us"),
];

/// `limits`.
pub(super) fn limits(subject: &Subject) -> Result<Vec<u8>> {
    let Some(process) = subject.process() else { return Ok(Vec::new()) };
    let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let shown = |limit: u64| if limit == UNLIMITED { String::from("unlimited") } else { format!("{limit}") };
    for (name, resource, unit) in LIMITS {
        let Limit { soft, hard } = process.limits.get().get(resource)?;
        add!(text, "{name:<25} {:<20} {:<20} {unit:<10}\n", shown(soft), shown(hard));
    }
    Ok(text.into_bytes())
}

/// `uid_map`, `gid_map`: all numbers are what they are.
pub(super) fn identity_map(_subject: &Subject) -> Result<Vec<u8>> {
    Ok(format!("{0:>10} {0:>10} {1:>10}\n", 0, u32::MAX).into_bytes())
}

/// `io`: nothing is counted, and nothing has come from a disk.
pub(super) fn transfers(_subject: &Subject) -> Result<Vec<u8>> {
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    let mut text = String::new();
    for name in names {
        add!(text, "{name}: 0\n");
    }
    Ok(text.into_bytes())
}

/// `oom_score_adj`.
pub(super) fn badness_adjustment(subject: &Subject) -> Result<Vec<u8>> {
    let value = subject.process().map_or(0, |process| process.badness_adjustment.get());
    Ok(format!("{value}\n").into_bytes())
}

/// The largest `oom_score_adj`, and the smallest negated.
const MAX_ADJUSTMENT: i16 = 1000;
/// The largest `oom_adj`, the older form of it, and what there means never.
const MAX_OLD_ADJUSTMENT: i16 = 15;
const OLD_NEVER: i16 = -17;

/// Changes it: from -1000 to 1000, without privilege down to what privilege has set.
pub(super) fn set_badness_adjustment(subject: &Subject, writer: Pid, bytes: &[u8]) -> Result<()> {
    let process = subject.process().ok_or(Errno::ESRCH)?;
    let value = adjustment(bytes, -MAX_ADJUSTMENT..=MAX_ADJUSTMENT)?;
    let is_privileged = is_privileged(subject, writer)?;
    if value < process.least_badness_adjustment.get() && !is_privileged {
        return Err(Errno::EACCES);
    }
    if is_privileged {
        process.least_badness_adjustment.set(value);
    }
    process.badness_adjustment.set(value);
    Ok(())
}

/// `oom_adj`: the same on a coarser scale.
pub(super) fn old_badness_adjustment(subject: &Subject) -> Result<Vec<u8>> {
    let value = subject.process().map_or(0, |process| process.badness_adjustment.get());
    let old = match value {
        MAX_ADJUSTMENT => MAX_OLD_ADJUSTMENT,
        value => (value * -OLD_NEVER / MAX_ADJUSTMENT).min(MAX_OLD_ADJUSTMENT),
    };
    Ok(format!("{old}\n").into_bytes())
}

/// Changes that: without privilege only upwards.
pub(super) fn set_old_badness_adjustment(subject: &Subject, writer: Pid, bytes: &[u8]) -> Result<()> {
    let process = subject.process().ok_or(Errno::ESRCH)?;
    let value = match adjustment(bytes, OLD_NEVER..=MAX_OLD_ADJUSTMENT)? {
        MAX_OLD_ADJUSTMENT => MAX_ADJUSTMENT,
        old => (i32::from(old) * i32::from(MAX_ADJUSTMENT) / i32::from(-OLD_NEVER)) as i16,
    };
    if value < process.badness_adjustment.get() && !is_privileged(subject, writer)? {
        return Err(Errno::EACCES);
    }
    process.badness_adjustment.set(value);
    Ok(())
}

/// A number in a range. `EINVAL`.
fn adjustment(bytes: &[u8], range: core::ops::RangeInclusive<i16>) -> Result<i16> {
    let number = sysctl::parse_number(bytes).and_then(|value| i16::try_from(value).ok());
    number.filter(|value| range.contains(value)).ok_or(Errno::EINVAL)
}

fn is_privileged(subject: &Subject, writer: Pid) -> Result<bool> {
    let writer = subject.server.process(writer).ok_or(Errno::ESRCH)?;
    Ok(writer.credentials().is_privileged())
}
