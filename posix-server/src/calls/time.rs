//! Calls on clocks, sleeping and used time.

use super::blocking::{self, Woken};
use super::timerfd::timer_clock;
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::clock::{self, Clock, Use, Worker};
use crate::platform::{now_ns, realtime_ns};
use crate::process::Thread;
use crate::process::thread::Restart;
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::select;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_clock_gettime, |t, a| clock_gettime(t, a).into()),
    SystemCall::new(linux::__NR_clock_getres, |t, a| clock_getres(t, a).into()),
    SystemCall::new(linux::__NR_clock_settime, |t, a| clock_settime(t, a).into()),
    SystemCall::new(linux::__NR_adjtimex, |t, a| clock_adjtime(t, linux::CLOCK_REALTIME.into(), a[0]).into())
        .partly("the pace of the clock is not changed: EPERM"),
    SystemCall::new(linux::__NR_clock_adjtime, |t, a| clock_adjtime(t, a[0], a[1]).into())
        .partly("the pace of the clock is not changed: EPERM"),
    SystemCall::new(linux::__NR_clock_nanosleep, clock_nanosleep),
    SystemCall::new(linux::__NR_nanosleep, nanosleep),
    SystemCall::new(linux::__NR_restart_syscall, |t, _| restart(t)),
    SystemCall::new(linux::__NR_gettimeofday, |t, a| gettimeofday(t, a).into()),
    SystemCall::new(linux::__NR_settimeofday, |t, a| settimeofday(t, a).into())
        .partly("a time zone other than UTC is not set: EPERM"),
    SystemCall::new(linux::__NR_time, |t, a| time(t, a[0]).into()),
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

fn clock_gettime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [number, address, ..] = *arguments;
    let (clock, _) = clock::by_number(thread, number)?;
    pointer(thread, address).write(&split(clock.now_ns().ok_or(Errno::EINVAL)?))
}

fn clock_getres(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [number, address, ..] = *arguments;
    let resolution: [u64; 2] = match clock::by_number(thread, number)? {
        (_, Use::CoarseReading) => [0, COARSE_NS],
        (_, Use::Reading | Use::Timers | Use::Alarms) => [0, 1],
    };
    pointer(thread, address).write_if_given(&resolution)
}

fn clock_settime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [number, address, ..] = *arguments;
    let is_used_time = (number as i32) < 0;
    if !is_used_time && number as u32 != linux::CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    let time: [i64; 2] = pointer(thread, address).read()?;
    clock::by_number(thread, number)?;
    if is_used_time { Err(Errno::EPERM) } else { set_realtime(thread, time) }
}

/// The clock can't be set to this and later, in s: Linux leaves 30 years before its numbers end.
const MAX_SET_SECONDS: i64 = i64::MAX / NS_PER_SECOND as i64 - 30 * 365 * 24 * 3600;

/// Sets the real-time clock. `EINVAL` for a time that it can't have, `EPERM`.
fn set_realtime(thread: &Rc<Thread>, [seconds, nanoseconds]: [i64; 2]) -> Result<()> {
    if !(0..MAX_SET_SECONDS).contains(&seconds) || !(0..NS_PER_SECOND as i64).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    check_may_set(thread)?;
    crate::shared::end_everywhere(thread.server());
    clock::set_realtime(thread.server(), seconds as u64 * NS_PER_SECOND + nanoseconds as u64)
}

/// `EPERM` unless the caller may set the clock.
fn check_may_set(thread: &Thread) -> Result<()> {
    if thread.process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// Nobody changes the pace of the clock: `struct timex` can be read, and tells of a clock that nothing synchronizes.
fn clock_adjtime(thread: &Rc<Thread>, number: u64, address: u64) -> Result<u64> {
    let pointer = pointer(thread, address);
    let mut record: TimeAdjustment = pointer.read()?;
    let number = number as i32;
    if clock::is_file(number as u64) {
        return Err(Errno::EINVAL);
    }
    if number < 0 {
        // The clocks of used time, also where there is none.
        return Err(Errno::EOPNOTSUPP);
    }
    if number as u32 != linux::CLOCK_REALTIME {
        clock::by_number(thread, number as u64)?;
        return Err(Errno::EOPNOTSUPP);
    }
    if record.modes != 0 && record.modes != ADJ_OFFSET_READ {
        // It goes back as it came.
        pointer.write(&record)?;
        return Err(Errno::EPERM);
    }
    let [seconds, microseconds] = split_micro(realtime_ns());
    record = TimeAdjustment { modes: record.modes, ..TimeAdjustment::new_zeroed() };
    record.fields[TIMEX_MAX_ERROR] = UNSYNCHRONIZED_ERROR;
    record.fields[TIMEX_ESTIMATED_ERROR] = UNSYNCHRONIZED_ERROR;
    record.fields[TIMEX_STATUS] = STA_UNSYNC;
    record.fields[TIMEX_CONSTANT] = 2;
    record.fields[TIMEX_PRECISION] = 1;
    record.fields[TIMEX_TOLERANCE] = 500 << 16;
    record.fields[TIMEX_SECONDS] = seconds;
    record.fields[TIMEX_MICROSECONDS] = microseconds;
    record.fields[TIMEX_TICK] = NS_PER_SECOND / NS_PER_MICROSECOND / 100;
    pointer.write(&record)?;
    Ok(TIME_ERROR)
}

/// `struct timex`: words, most of which are but told.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct TimeAdjustment {
    modes: u64,
    fields: [u64; 25],
}

/// The resolution of the clocks that are only as exact as Linux's tick, of which there are 250 in a second.
const COARSE_NS: u64 = 4_000_000;
/// Places in [`TimeAdjustment::fields`].
const TIMEX_MAX_ERROR: usize = 2;
const TIMEX_ESTIMATED_ERROR: usize = 3;
const TIMEX_STATUS: usize = 4;
const TIMEX_CONSTANT: usize = 5;
const TIMEX_PRECISION: usize = 6;
const TIMEX_TOLERANCE: usize = 7;
const TIMEX_SECONDS: usize = 8;
const TIMEX_MICROSECONDS: usize = 9;
const TIMEX_TICK: usize = 10;
/// `ADJ_OFFSET_SS_READ`: changes nothing.
const ADJ_OFFSET_READ: u64 = 0xa001;
/// The error of a clock that nothing synchronizes, in us.
const UNSYNCHRONIZED_ERROR: u64 = 16_000_000;
/// Nothing synchronizes it.
const STA_UNSYNC: u64 = 0x40;
/// The state of such a clock.
const TIME_ERROR: u64 = 5;

fn settimeofday(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [time, zone, ..] = *arguments;
    let given: Option<[i64; 2]> = if time == 0 { None } else { Some(pointer(thread, time).read()?) };
    if given.is_some_and(|[_, microseconds]| !(0..=MICROSECONDS_PER_SECOND as i64).contains(&microseconds)) {
        return Err(Errno::EINVAL);
    }
    if zone != 0 && pointer(thread, zone).read::<[i32; 2]>()? != [0; 2] {
        return Err(Errno::EPERM);
    }
    match given {
        Some([seconds, microseconds]) => {
            set_realtime(thread, [seconds, microseconds.saturating_mul(NS_PER_MICROSECOND as i64)])
        }
        None => check_may_set(thread),
    }
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
    let [number, flags, request, remaining, ..] = *arguments;
    let is_absolute = flags as u32 & linux::TIMER_ABSTIME != 0;
    // Whether there is such a clock of used time is seen last.
    let read = if (number as i32) < 0 && !clock::is_file(number) {
        read_timespec(thread, request).and_then(|time| Ok((sleeping_clock(thread, number)?, time)))
    } else {
        sleeping_clock(thread, number).and_then(|clock| Ok((clock, read_timespec(thread, request)?)))
    };
    let (clock, time) = match read {
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    if let Clock::Used(worker) = clock {
        return sleep_while_used(thread, worker, time, is_absolute);
    }
    if !is_absolute {
        return sleep_until(thread, now_ns().saturating_add(time), remaining);
    }
    let thread = thread.clone();
    Outcome::block(async move {
        loop {
            let clock_set = thread.server().clock_set.listen();
            let deadline_ns = clock.deadline_ns(time);
            match blocking::wait(&thread, clock_set, Some(deadline_ns)).await {
                Woken::TimedOut => return Ok(0),
                Woken::Changed => {}
                Woken::Interrupted if now_ns() >= deadline_ns => return Ok(0),
                // An absolute time stays what it is: just do it again.
                Woken::Interrupted => return Err(Errno::RESTART_NO_HANDLER),
            }
        }
    })
}

/// A clock that can be slept on. `EINVAL`, `EPERM`; `EOPNOTSUPP` for those of one thread, and those that only show the time.
fn sleeping_clock(thread: &Rc<Thread>, number: u64) -> Result<Clock> {
    if number as u32 == linux::CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EOPNOTSUPP);
    }
    match timer_clock(thread, number)? {
        Clock::Used(Worker::Thread(used)) if used.ptr_eq(&Rc::downgrade(thread)) => Err(Errno::EINVAL),
        clock @ (Clock::Realtime | Clock::Monotonic | Clock::Used(_)) => Ok(clock),
    }
}

/// How exact a sleep on used time is.
const USED_TIME_STEP_NS: u64 = 4_000_000;

/// Sleeps until others have used so much time.
fn sleep_while_used(thread: &Rc<Thread>, worker: Worker, time: u64, is_absolute: bool) -> Outcome {
    let Some(start_ns) = worker.used_ns() else { return Errno::EINVAL.into() };
    let end_ns = if is_absolute { time } else { start_ns.saturating_add(time) };
    let thread = thread.clone();
    Outcome::block(async move {
        while let Some(left_ns) =
            worker.used_ns().and_then(|used_ns| end_ns.checked_sub(used_ns)).filter(|left| *left > 0)
        {
            let pause_ns = (left_ns / worker.threads().max(1)).max(USED_TIME_STEP_NS);
            if let Slept::Interrupted = sleep(&thread, now_ns().saturating_add(pause_ns)).await {
                return Err(Errno::RESTART_NO_HANDLER);
            }
        }
        Ok(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_split() {
        assert_eq!(split(1_500_000_001), [1, 500_000_001]);
        assert_eq!(split_micro(1_500_001_000), [1, 500_001]);
    }
}
