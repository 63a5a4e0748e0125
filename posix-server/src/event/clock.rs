//! The clocks of programs (`clock_gettime(2)`).

use crate::errno::{Errno, Result};
use crate::platform::{self, now_ns, realtime_ns};
use crate::process::{Pid, Process, Server, Thread};
use alloc::rc::{Rc, Weak};
use linux_raw_sys::general as linux;

/// Whose used time a clock tells.
#[derive(Clone)]
pub enum Worker {
    /// That of all threads of a process.
    Process(Weak<Process>),
    /// That of a thread.
    Thread(Weak<Thread>),
}

impl Worker {
    /// Time used so far, in ns. `None`: it has ended.
    pub fn used_ns(&self) -> Option<u64> {
        match self {
            Self::Process(process) => process.upgrade().map(|process| process.run_time_ns()),
            Self::Thread(thread) => thread.upgrade().map(|thread| thread.machine.run_time_ns()),
        }
    }

    /// How many threads may use time at once.
    pub fn threads(&self) -> u64 {
        match self {
            Self::Process(process) => process.upgrade().map_or(1, |process| process.threads().len() as u64),
            Self::Thread(_) => 1,
        }
    }
}

/// Sets the real-time clock, and moves what waits for a time of it. `EINVAL`: it would start before 1970.
pub fn set_realtime(server: &Server, unix_ns: u64) -> Result<()> {
    let boot_unix_ns = unix_ns.checked_sub(now_ns()).ok_or(Errno::EINVAL)?;
    platform::set_boot_unix_ns(boot_unix_ns);
    server.shim.update_clock();
    for process in server.processes() {
        process.update_local_answers();
    }
    server.alarms.ring_all();
    server.clock_set.wake();
    Ok(())
}

/// What a clock tells.
#[derive(Clone)]
pub enum Clock {
    /// Unix time.
    Realtime,
    /// Time since the machine's start.
    Monotonic,
    /// Used time.
    Used(Worker),
}

/// What can be done with a clock besides reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It can be slept on, and has timers.
    Timers,
    /// The same, and it would wake a machine that sleeps, which not everybody may (`CAP_WAKE_ALARM`).
    Alarms,
    /// Nothing.
    Reading,
    /// Nothing, and it is only as exact as Linux's tick.
    CoarseReading,
}

/// The bits of a negative number of a clock: whose time, by complement; whether one thread's; which time.
const THREAD_BIT: u32 = 4;
const WHICH_MASK: u32 = 3;
const WHICH_END: u32 = 3;
const ID_SHIFT: u32 = 3;

/// Whether a number means the clock of an open device; there is none.
pub fn is_file(number: u64) -> bool {
    let number = number as i32;
    number < 0 && number as u32 & (THREAD_BIT | WHICH_MASK) == WHICH_END
}

/// The clock with a number, and what can be done with it. `EINVAL`.
pub fn by_number(thread: &Rc<Thread>, number: u64) -> Result<(Clock, Use)> {
    let number = number as i32;
    if number < 0 {
        return used_time(thread, number as u32).map(|clock| (clock, Use::Timers));
    }
    Ok(match number as u32 {
        linux::CLOCK_REALTIME | linux::CLOCK_TAI => (Clock::Realtime, Use::Timers),
        linux::CLOCK_REALTIME_ALARM => (Clock::Realtime, Use::Alarms),
        linux::CLOCK_REALTIME_COARSE => (Clock::Realtime, Use::CoarseReading),
        linux::CLOCK_MONOTONIC | linux::CLOCK_BOOTTIME => (Clock::Monotonic, Use::Timers),
        linux::CLOCK_BOOTTIME_ALARM => (Clock::Monotonic, Use::Alarms),
        linux::CLOCK_MONOTONIC_RAW => (Clock::Monotonic, Use::Reading),
        linux::CLOCK_MONOTONIC_COARSE => (Clock::Monotonic, Use::CoarseReading),
        linux::CLOCK_PROCESS_CPUTIME_ID => (Clock::Used(Worker::Process(Rc::downgrade(&thread.process))), Use::Timers),
        linux::CLOCK_THREAD_CPUTIME_ID => (Clock::Used(Worker::Thread(Rc::downgrade(thread))), Use::Timers),
        _ => return Err(Errno::EINVAL),
    })
}

/// A clock that `clock_getcpuclockid` and `pthread_getcpuclockid` make.
fn used_time(thread: &Rc<Thread>, number: u32) -> Result<Clock> {
    if number & WHICH_MASK >= WHICH_END {
        return Err(Errno::EINVAL);
    }
    let id = !((number as i32) >> ID_SHIFT) as Pid;
    if number & THREAD_BIT != 0 {
        let named = if id == 0 { Some(thread.clone()) } else { thread.server().thread(id) };
        let named = named.filter(|named| Rc::ptr_eq(&named.process, &thread.process)).ok_or(Errno::EINVAL)?;
        return Ok(Clock::Used(Worker::Thread(Rc::downgrade(&named))));
    }
    let named = if id == 0 { Some(thread.process.clone()) } else { thread.server().process(id) };
    named.map(|process| Clock::Used(Worker::Process(Rc::downgrade(&process)))).ok_or(Errno::EINVAL)
}

impl Clock {
    /// What it shows, in ns. `None`: whose time it told has ended.
    pub fn now_ns(&self) -> Option<u64> {
        match self {
            Self::Realtime => Some(realtime_ns()),
            Self::Monotonic => Some(now_ns()),
            Self::Used(worker) => worker.used_ns(),
        }
    }

    /// A point in time of this clock from a program's number: 0 and what lies before the start become 1, as never is 0.
    pub fn deadline_ns(&self, time_ns: u64) -> u64 {
        match self {
            // Timers count on the clock that nobody sets, and follow when the other one is set.
            Self::Realtime => time_ns.saturating_sub(realtime_ns().saturating_sub(now_ns())).max(1),
            Self::Monotonic | Self::Used(_) => time_ns.max(1),
        }
    }

    /// What timers of this clock count on: the monotonic clock for all but used time.
    pub fn timer_now_ns(&self) -> Option<u64> {
        match self {
            Self::Realtime | Self::Monotonic => Some(now_ns()),
            Self::Used(worker) => worker.used_ns(),
        }
    }
}
