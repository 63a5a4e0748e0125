//! Calls on clocks, sleeping and used time.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::{now_ns, realtime_ns};
use crate::process::thread::Restart;
use crate::process::{Phase, Process, Thread};
use crate::signal::deliver::send;
use crate::signal::{Signal, SignalInfo};
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::select;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_clock_gettime, |t, a| clock_gettime(t, a).into()),
    SystemCall::new(linux::__NR_clock_getres, |t, a| clock_getres(t, a).into()),
    SystemCall::new(linux::__NR_clock_settime, |t, a| clock_settime(t, a).into()),
    SystemCall::new(linux::__NR_clock_nanosleep, clock_nanosleep),
    SystemCall::new(linux::__NR_nanosleep, nanosleep),
    SystemCall::new(linux::__NR_restart_syscall, |t, _| restart(t)),
    SystemCall::new(linux::__NR_gettimeofday, |t, a| gettimeofday(t, a).into()),
    SystemCall::new(linux::__NR_settimeofday, |t, _| settimeofday(t).into()),
    SystemCall::new(linux::__NR_time, |t, a| time(t, a[0]).into()),
    SystemCall::new(linux::__NR_alarm, |t, a| Outcome::Return(Ok(alarm(t, a[0])))),
    SystemCall::new(linux::__NR_setitimer, |t, a| setitimer(t, a).into()),
    SystemCall::new(linux::__NR_getitimer, |t, a| getitimer(t, a).into()),
];

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1000;
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// Seconds and nanoseconds.
fn split(ns: u64) -> [u64; 2] {
    [ns / NS_PER_SECOND, ns % NS_PER_SECOND]
}

/// Seconds and microseconds.
fn split_micro(ns: u64) -> [u64; 2] {
    [ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_MICROSECOND]
}

/// Reads a `timespec` as nanoseconds. `EFAULT`; `EINVAL` if it is negative or its nanoseconds are not below a second.
pub(super) fn read_timespec(thread: &Rc<Thread>, address: u64) -> Result<u64> {
    let [seconds, nanoseconds]: [i64; 2] = pointer(thread, address).read()?;
    if seconds < 0 || !(0..NS_PER_SECOND as i64).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64).saturating_mul(NS_PER_SECOND).saturating_add(nanoseconds as u64))
}

/// The clocks that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Realtime,
    Monotonic,
    Process,
    Thread,
}

fn clock(id: u64) -> Result<Clock> {
    match id as u32 {
        linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_COARSE | linux::CLOCK_TAI | linux::CLOCK_REALTIME_ALARM => {
            Ok(Clock::Realtime)
        }
        linux::CLOCK_MONOTONIC
        | linux::CLOCK_MONOTONIC_RAW
        | linux::CLOCK_MONOTONIC_COARSE
        | linux::CLOCK_BOOTTIME
        | linux::CLOCK_BOOTTIME_ALARM => Ok(Clock::Monotonic),
        linux::CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::Process),
        linux::CLOCK_THREAD_CPUTIME_ID => Ok(Clock::Thread),
        _ => Err(Errno::EINVAL),
    }
}

fn clock_ns(thread: &Thread, clock: Clock) -> u64 {
    match clock {
        Clock::Realtime => realtime_ns(),
        Clock::Monotonic => now_ns(),
        Clock::Process => thread.process.run_time_ns(),
        Clock::Thread => thread.usage().total_ns(),
    }
}

fn clock_gettime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [id, address, ..] = *arguments;
    let clock = clock(id)?;
    pointer(thread, address).write(&split(clock_ns(thread, clock)))
}

fn clock_getres(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [id, address, ..] = *arguments;
    clock(id)?;
    let coarse = matches!(id as u32, linux::CLOCK_REALTIME_COARSE | linux::CLOCK_MONOTONIC_COARSE);
    let resolution: [u64; 2] = if coarse { [0, 4_000_000] } else { [0, 1] };
    pointer(thread, address).write_if_given(&resolution)
}

/// The clock is the machine's, and nobody sets it.
fn clock_settime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [id, address, ..] = *arguments;
    if clock(id)? != Clock::Realtime {
        return Err(Errno::EINVAL);
    }
    read_timespec(thread, address)?;
    Err(Errno::EPERM)
}

fn settimeofday(_thread: &Thread) -> Result<()> {
    Err(Errno::EPERM)
}

fn gettimeofday(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [time, zone, ..] = *arguments;
    pointer(thread, time).write_if_given(&split_micro(realtime_ns()))?;
    pointer(thread, zone).write_if_given(&[0u32; 2])
}

fn time(thread: &Rc<Thread>, address: u64) -> Result<u64> {
    let seconds = realtime_ns() / NS_PER_SECOND;
    pointer(thread, address).write_if_given(&seconds)?;
    Ok(seconds)
}

// ---- sleeping ----------------------------------------------------------------------------------------------------

fn nanosleep(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [request, remaining, ..] = *arguments;
    match read_timespec(thread, request) {
        Ok(duration) => sleep_until(thread, now_ns().saturating_add(duration), remaining),
        Err(error) => error.into(),
    }
}

fn clock_nanosleep(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [id, flags, request, remaining, ..] = *arguments;
    let read = clock(id).and_then(|clock| Ok((clock, read_timespec(thread, request)?)));
    let (clock, time) = match read {
        Ok((Clock::Thread | Clock::Process, _)) => return Errno::EOPNOTSUPP.into(),
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    if flags as u32 & linux::TIMER_ABSTIME == 0 {
        return sleep_until(thread, now_ns().saturating_add(time), remaining);
    }
    let deadline_ns =
        if clock == Clock::Realtime { time.saturating_sub(realtime_ns().saturating_sub(now_ns())) } else { time };
    let thread = thread.clone();
    Outcome::block(async move {
        match sleep(&thread, deadline_ns).await {
            Slept::Enough => Ok(0),
            // An absolute time stays what it is: just do it again.
            Slept::Interrupted => Err(Errno::RESTART_NO_HANDLER),
        }
    })
}

enum Slept {
    Enough,
    Interrupted,
}

async fn sleep(thread: &Rc<Thread>, deadline_ns: u64) -> Slept {
    let sleep = Box::pin(thread.server().executor.sleep_until(deadline_ns));
    let interrupted = Box::pin(thread.clone().interrupted());
    select(sleep, interrupted).await;
    if now_ns() >= deadline_ns { Slept::Enough } else { Slept::Interrupted }
}

/// Sleeps; if it is interrupted, the rest goes to `remaining`, and `restart_syscall` goes on if no handler runs.
fn sleep_until(thread: &Rc<Thread>, deadline_ns: u64, remaining: u64) -> Outcome {
    let thread = thread.clone();
    Outcome::block(async move {
        match sleep(&thread, deadline_ns).await {
            Slept::Enough => Ok(0),
            Slept::Interrupted => {
                let rest = deadline_ns.saturating_sub(now_ns());
                pointer(&thread, remaining).write_if_given(&split(rest))?;
                thread.restart.replace(Some(Restart::Sleep { deadline_ns, remaining }));
                Err(Errno::RESTART_BLOCK)
            }
        }
    })
}

fn restart(thread: &Rc<Thread>) -> Outcome {
    match thread.restart.take() {
        Some(Restart::Sleep { deadline_ns, remaining }) => sleep_until(thread, deadline_ns, remaining),
        Some(Restart::Poll { address, count, until }) => super::poll::poll_until(thread, address, count, until),
        Some(Restart::Futex(wait)) => super::futex::resume(thread, &wait),
        None => Errno::EINTR.into(),
    }
}

// ---- the alarm ---------------------------------------------------------------------------------------------------

/// Sets the alarm of a process; returns what was left, and the interval.
fn set_alarm(process: &Rc<Process>, value_ns: u64, interval_ns: u64) -> (u64, u64) {
    let (before, old_interval) = process.alarm.get();
    let left = if before == 0 { 0 } else { before.saturating_sub(now_ns()).max(1) };
    let deadline_ns = if value_ns == 0 { 0 } else { now_ns().saturating_add(value_ns) };
    process.alarm.set((deadline_ns, interval_ns));
    let generation = process.alarm_generation.get() + 1;
    process.alarm_generation.set(generation);
    if deadline_ns != 0 {
        process.server.executor.spawn(ring(process.clone(), generation));
    }
    (left, old_interval)
}

/// Sends `SIGALRM` whenever the alarm is due, until it is set anew.
async fn ring(process: Rc<Process>, generation: u64) {
    loop {
        let (deadline_ns, interval_ns) = process.alarm.get();
        let sleep = Box::pin(process.server.executor.sleep_until(deadline_ns));
        let ended = Box::pin(ended_or_changed(process.clone(), generation));
        select(sleep, ended).await;
        if process.phase.get() == Phase::Ended || process.alarm_generation.get() != generation {
            return;
        }
        let next = if interval_ns == 0 { 0 } else { next_ring(deadline_ns, interval_ns, now_ns()) };
        process.alarm.set((next, interval_ns));
        // A standard signal always fits.
        let _ = send(&process, SignalInfo::from_kernel(Signal::ALRM));
        if next == 0 {
            return;
        }
    }
}

/// The first time of the series after `now`.
fn next_ring(deadline_ns: u64, interval_ns: u64, now: u64) -> u64 {
    let missed = now.saturating_sub(deadline_ns) / interval_ns;
    deadline_ns.saturating_add((missed + 1).saturating_mul(interval_ns))
}

async fn ended_or_changed(process: Rc<Process>, generation: u64) {
    loop {
        // Woken at the end of the process; an alarm that was set anew is noticed at the old deadline at the latest.
        let listener = process.resumed.listen();
        if process.phase.get() == Phase::Ended || process.alarm_generation.get() != generation {
            return;
        }
        listener.await;
    }
}

fn alarm(thread: &Rc<Thread>, seconds: u64) -> u64 {
    let seconds = seconds & u64::from(u32::MAX);
    let (left, _) = set_alarm(&thread.process, seconds * NS_PER_SECOND, 0);
    // Rounded, but never to 0 while it is set.
    if left == 0 { 0 } else { ((left + NS_PER_SECOND / 2) / NS_PER_SECOND).max(1) }
}

fn micro_ns([seconds, microseconds]: [i64; 2]) -> Result<u64> {
    if seconds < 0 || !(0..MICROSECONDS_PER_SECOND as i64).contains(&microseconds) {
        return Err(Errno::EINVAL);
    }
    let ns = (seconds as u64).saturating_mul(NS_PER_SECOND);
    Ok(ns.saturating_add(microseconds as u64 * NS_PER_MICROSECOND))
}

fn check_timer(which: u64) -> Result<()> {
    match which as u32 {
        linux::ITIMER_REAL => Ok(()),
        // Timers on used time are not there.
        _ => Err(Errno::EINVAL),
    }
}

fn timer_record(value_ns: u64, interval_ns: u64) -> [[u64; 2]; 2] {
    [split_micro(interval_ns), split_micro(value_ns)]
}

fn setitimer(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [which, new, old, ..] = *arguments;
    check_timer(which)?;
    let [interval, value]: [[i64; 2]; 2] = if new == 0 { [[0; 2]; 2] } else { pointer(thread, new).read()? };
    let (interval, value) = (micro_ns(interval)?, micro_ns(value)?);
    let (left, old_interval) = set_alarm(&thread.process, value, interval);
    pointer(thread, old).write_if_given(&timer_record(left, old_interval))
}

fn getitimer(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [which, address, ..] = *arguments;
    check_timer(which)?;
    let (deadline, interval) = thread.process.alarm.get();
    let left = if deadline == 0 { 0 } else { deadline.saturating_sub(now_ns()).max(NS_PER_MICROSECOND) };
    pointer(thread, address).write(&timer_record(left, interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_alarm_skips_what_it_has_missed() {
        assert_eq!(next_ring(100, 10, 100), 110);
        assert_eq!(next_ring(100, 10, 135), 140);
    }

    #[test]
    fn times_are_split_and_checked() {
        assert_eq!(split(1_500_000_001), [1, 500_000_001]);
        assert_eq!(split_micro(1_500_001_000), [1, 500_001]);
        assert_eq!(micro_ns([0, 1_000_000]), Err(Errno::EINVAL));
        assert_eq!(micro_ns([-1, 0]), Err(Errno::EINVAL));
        assert_eq!(micro_ns([i64::MAX, 0]), Ok(u64::MAX));
    }
}
