//! Calls on timers that are files.

use super::blocking::usable_file;
use super::epoll::anonymous_inode;
use super::files::install;
use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::clock::{self, Clock, Use};
use crate::event::schedule::Schedule;
use crate::event::timer_file::TimerFile;
use crate::file::OpenFile;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_timerfd_create, |t, a| timerfd_create(t, a).into()),
    SystemCall::new(linux::__NR_timerfd_settime, |t, a| timerfd_settime(t, a).into()),
    SystemCall::new(linux::__NR_timerfd_gettime, |t, a| timerfd_gettime(t, a).into()),
];

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A clock that may have timers for the caller. `EINVAL`, `EPERM`; `EOPNOTSUPP` if it can only be read.
pub(super) fn timer_clock(thread: &Rc<Thread>, number: u64) -> Result<Clock> {
    if clock::is_file(number) {
        return Err(Errno::EOPNOTSUPP);
    }
    let (clock, its_use) = clock::by_number(thread, number)?;
    match its_use {
        Use::Timers => Ok(clock),
        Use::Alarms if thread.process.credentials().is_privileged() => Ok(clock),
        Use::Alarms => Err(Errno::EPERM),
        Use::Reading | Use::CoarseReading => Err(Errno::EOPNOTSUPP),
    }
}

/// `struct itimerspec`, as ns: value and interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    value_ns: u64,
    interval_ns: u64,
}

impl Setting {
    /// Reads it, without a check. `EFAULT`.
    pub(super) fn read(thread: &Rc<Thread>, address: u64) -> Result<[[i64; 2]; 2]> {
        pointer(thread, address).read()
    }

    /// `EINVAL` unless both times are ones that there can be.
    pub(super) fn new([interval, value]: [[i64; 2]; 2]) -> Result<Self> {
        let ns = |[seconds, nanoseconds]: [i64; 2]| {
            if seconds < 0 || !(0..NS_PER_SECOND as i64).contains(&nanoseconds) {
                return Err(Errno::EINVAL);
            }
            Ok((seconds as u64).saturating_mul(NS_PER_SECOND).saturating_add(nanoseconds as u64))
        };
        Ok(Self { interval_ns: ns(interval)?, value_ns: ns(value)? })
    }

    /// The expirations that it asks for, on the clock's timers.
    pub(super) fn schedule(self, clock: &Clock, flags: u32) -> Schedule {
        let is_absolute = flags & linux::TIMER_ABSTIME != 0;
        let first_ns = match self.value_ns {
            0 => 0,
            value if is_absolute => clock.deadline_ns(value),
            value => clock.timer_now_ns().unwrap_or_default().saturating_add(value),
        };
        let schedule = Schedule::new(first_ns, self.interval_ns);
        if is_absolute && matches!(clock, Clock::Realtime) { schedule.of_realtime() } else { schedule }
    }
}

/// What is left of a timer, and its interval, as `struct itimerspec`.
pub(super) fn setting_record((left_ns, interval_ns): (u64, u64)) -> [[u64; 2]; 2] {
    [interval_ns, left_ns].map(|ns| [ns / NS_PER_SECOND, ns % NS_PER_SECOND])
}

fn timerfd_create(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [number, flags, ..] = *arguments;
    let flags = flags as u32;
    let has_files = matches!(
        number as u32,
        linux::CLOCK_REALTIME
            | linux::CLOCK_MONOTONIC
            | linux::CLOCK_BOOTTIME
            | linux::CLOCK_REALTIME_ALARM
            | linux::CLOCK_BOOTTIME_ALARM
    );
    if flags & !(linux::TFD_CLOEXEC | linux::TFD_NONBLOCK) != 0 || !has_files {
        return Err(Errno::EINVAL);
    }
    let clock = timer_clock(thread, number)?;
    let timer = TimerFile::new(clock, &thread.server().alarms);
    let file = OpenFile::new(timer, anonymous_inode(thread)?, None, linux::O_RDWR | (flags & linux::TFD_NONBLOCK))?;
    install(thread, file, flags & linux::TFD_CLOEXEC)
}

/// Runs `action` on the timer that a descriptor names. `EBADF`, `EINVAL`.
fn with_timer<T>(thread: &Rc<Thread>, fd: u64, action: impl FnOnce(&TimerFile) -> T) -> Result<T> {
    let file = usable_file(thread, fd)?;
    file.ops().event_file().and_then(EventFile::timer).map(action).ok_or(Errno::EINVAL)
}

fn timerfd_settime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, flags, new, old, ..] = *arguments;
    let flags = flags as u32;
    let given = Setting::read(thread, new)?;
    if flags & !(linux::TFD_TIMER_ABSTIME | linux::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let setting = Setting::new(given)?;
    let before = with_timer(thread, fd, |timer| timer.set(setting.schedule(timer.clock(), flags), flags))?;
    pointer(thread, old).write_if_given(&setting_record(before))
}

/// `TFD_IOC_SET_TICKS`: the number of expirations to be read, which is not 0. `None`: it is no timer.
pub(super) fn set_ticks(file: &OpenFile, pointer: &UserPtr) -> Option<Result<u64>> {
    let timer = file.ops().event_file().and_then(EventFile::timer)?;
    let set = pointer.read::<u64>().and_then(|count| if count == 0 { Err(Errno::EINVAL) } else { Ok(count) });
    Some(set.map(|count| {
        timer.set_expirations(count);
        0
    }))
}

fn timerfd_gettime(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [fd, address, ..] = *arguments;
    let left = with_timer(thread, fd, TimerFile::left_ns)?;
    pointer(thread, address).write(&setting_record(left))
}
