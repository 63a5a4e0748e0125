//! Calls on timers that send signals.

use super::timerfd::{Setting, setting_record, timer_clock};
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::clock;
use crate::event::interval_timers::Which;
use crate::event::posix_timers::Notice;
use crate::process::{Pid, Thread};
use crate::signal::Signal;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_timer_create, |t, a| timer_create(t, a).into()),
    SystemCall::new(linux::__NR_timer_settime, |t, a| timer_settime(t, a).into()),
    SystemCall::new(linux::__NR_timer_gettime, |t, a| timer_gettime(t, a).into()),
    SystemCall::new(linux::__NR_timer_getoverrun, |t, a| timer_getoverrun(t, a).into()),
    SystemCall::new(linux::__NR_timer_delete, |t, a| t.process.timers.posix.delete(a[0] as i32).into()),
    SystemCall::new(linux::__NR_alarm, |t, a| Ok(alarm(t, a[0])).into()),
    SystemCall::new(linux::__NR_setitimer, |t, a| setitimer(t, a).into()),
    SystemCall::new(linux::__NR_getitimer, |t, a| getitimer(t, a).into()),
];

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1000;
const MICROSECONDS_PER_SECOND: i64 = 1_000_000;

/// `struct sigevent`, as far as the system looks at it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SignalEvent {
    value: u64,
    signal: u32,
    notify: u32,
    thread: i32,
    rest: [u32; 11],
}

/// Who a `sigevent` wants told. `EINVAL`.
fn notice(thread: &Rc<Thread>, event: SignalEvent) -> Result<Notice> {
    let signal = || Signal::from_number(u64::from(event.signal));
    match event.notify {
        linux::SIGEV_NONE => Ok(Notice::None),
        // The C library makes the thread.
        linux::SIGEV_SIGNAL | linux::SIGEV_THREAD => {
            Ok(Notice::Signal { signal: signal()?, value: event.value, thread: None })
        }
        linux::SIGEV_THREAD_ID => {
            let target = thread.server().thread(event.thread as Pid);
            let target = target.filter(|target| Rc::ptr_eq(&target.process, &thread.process)).ok_or(Errno::EINVAL)?;
            Ok(Notice::Signal { signal: signal()?, value: event.value, thread: Some(Rc::downgrade(&target)) })
        }
        _ => Err(Errno::EINVAL),
    }
}

fn timer_create(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [clock, event, id_address, ..] = *arguments;
    let event: Option<SignalEvent> = if event == 0 { None } else { Some(pointer(thread, event).read()?) };
    let is_used_time = (clock as i32) < 0 && !clock::is_file(clock);
    let clock = timer_clock(thread, clock);
    if !is_used_time {
        clock.as_ref().map_err(|errno| *errno)?;
    }
    let asked = event.map(|event| notice(thread, event)).transpose()?;
    // Whether there is such a clock of used time is seen last, when the number is written already.
    let clock = clock.or_else(|errno| pointer(thread, id_address).write(&0i32).and(Err(errno)))?;
    let process = &thread.process;
    // Each keeps a place for its signal among those that wait.
    let waiting = process.signals.borrow().pending.count();
    let limit = process.limit(linux::RLIMIT_SIGPENDING).saturating_sub(waiting);
    let default = |id: i32| Notice::Signal { signal: Signal::ALRM, value: id as u64, thread: None };
    let id = process.timers.posix.create(process, clock, limit, |id| asked.unwrap_or_else(|| default(id)))?;
    pointer(thread, id_address).write(&id).inspect_err(|_| {
        // It was made a moment ago.
        let _ = process.timers.posix.delete(id);
    })
}

fn timer_settime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [id, flags, new, old, ..] = *arguments;
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let setting = Setting::new(Setting::read(thread, new)?)?;
    let timer = thread.process.timers.posix.get(id as i32)?;
    let before = timer.set(setting.schedule(timer.clock(), flags as u32));
    pointer(thread, old).write_if_given(&setting_record(before))
}

fn timer_gettime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [id, address, ..] = *arguments;
    let timer = thread.process.timers.posix.get(id as i32)?;
    pointer(thread, address).write(&setting_record(timer.left_ns()))
}

fn timer_getoverrun(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    thread.process.timers.posix.get(arguments[0] as i32).map(|timer| timer.overrun())
}

// ---- interval timers ---------------------------------------------------------------------------------------------

fn alarm(thread: &Rc<Thread>, seconds: u64) -> u64 {
    let seconds = seconds & u64::from(u32::MAX);
    let process = &thread.process;
    let (left, _) = process.timers.set(process, Which::Real, seconds * NS_PER_SECOND, 0);
    // Rounded, but never to 0 while it is set.
    if left == 0 { 0 } else { ((left + NS_PER_SECOND / 2) / NS_PER_SECOND).max(1) }
}

fn which(number: u64) -> Result<Which> {
    match number as u32 {
        linux::ITIMER_REAL => Ok(Which::Real),
        linux::ITIMER_VIRTUAL => Ok(Which::Virtual),
        linux::ITIMER_PROF => Ok(Which::Profile),
        _ => Err(Errno::EINVAL),
    }
}

fn micro_ns([seconds, microseconds]: [i64; 2]) -> Result<u64> {
    if seconds < 0 || !(0..MICROSECONDS_PER_SECOND).contains(&microseconds) {
        return Err(Errno::EINVAL);
    }
    let ns = (seconds as u64).saturating_mul(NS_PER_SECOND);
    Ok(ns.saturating_add(microseconds as u64 * NS_PER_MICROSECOND))
}

/// `struct itimerval`. What is left is not told as nothing.
fn interval_record((left_ns, interval_ns): (u64, u64)) -> [[u64; 2]; 2] {
    let left_ns = if left_ns == 0 { 0 } else { left_ns.max(NS_PER_MICROSECOND) };
    [interval_ns, left_ns].map(|ns| [ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_MICROSECOND])
}

fn setitimer(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [number, new, old, ..] = *arguments;
    let [interval, value]: [[i64; 2]; 2] = if new == 0 { [[0; 2]; 2] } else { pointer(thread, new).read()? };
    let (interval_ns, value_ns) = (micro_ns(interval)?, micro_ns(value)?);
    let process = &thread.process;
    let before = process.timers.set(process, which(number)?, value_ns, interval_ns);
    pointer(thread, old).write_if_given(&interval_record(before))
}

fn getitimer(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [number, address, ..] = *arguments;
    let left = thread.process.timers.left_ns(which(number)?);
    pointer(thread, address).write(&interval_record(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_what_is_left_is_not_nothing() {
        assert_eq!(micro_ns([0, 1_000_000]), Err(Errno::EINVAL));
        assert_eq!(micro_ns([-1, 0]), Err(Errno::EINVAL));
        assert_eq!(micro_ns([i64::MAX, 0]), Ok(u64::MAX));
        assert_eq!(interval_record((1, 2_500_000_000)), [[2, 500_000], [0, 1]]);
        assert_eq!(interval_record((0, 0)), [[0; 2]; 2]);
    }
}
