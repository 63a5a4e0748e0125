//! Calls on what processes and threads have used.

use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::exec::stack::TICKS_PER_SECOND;
use crate::platform::now_ns;
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_getrusage, |t, a| getrusage(t, a).into())
        .with_flags("RUSAGE_SELF RUSAGE_CHILDREN RUSAGE_THREAD")
        .partly("faults and involuntary switches are told as 0; the most memory is that of the moments when it was looked at"),
    SystemCall::new(linux::__NR_times, |t, a| times(t, a[0]).into()),
];

const NS_PER_SECOND: u64 = 1_000_000_000;

fn getrusage(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [who, address, ..] = *arguments;
    let usage = match who as i32 {
        0 => thread.process.usage(),
        -1 => thread.process.children_usage.get(),
        1 => thread.usage(),
        _ => return Err(Errno::EINVAL),
    };
    pointer(thread, address).write(&usage.to_rusage())
}

fn times(thread: &Rc<Thread>, address: u64) -> Result<u64> {
    let ticks = |ns: u64| ns / (NS_PER_SECOND / TICKS_PER_SECOND);
    let (own, children) = (thread.process.usage(), thread.process.children_usage.get());
    let record = [own.user_ns, own.system_ns, children.user_ns, children.system_ns].map(ticks);
    pointer(thread, address).write_if_given(&record)?;
    Ok(ticks(now_ns()))
}
