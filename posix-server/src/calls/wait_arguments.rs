//! What calls that wait are given: for how long, and with which signal mask.

use crate::errno::{Errno, Result};
use crate::platform;
use crate::process::{Attention, Thread};
use crate::signal::SignalSet;
use crate::signal::deliver::recheck;
use crate::user::UserPtr;
use alloc::rc::Rc;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MILLISECOND: u64 = 1_000_000;
const NS_PER_MICROSECOND: u64 = 1_000;
/// The size of a signal set, which callers must name.
const SIGNAL_SET_BYTES: u64 = 8;

/// Until when a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It does not wait.
    Now,
    /// Until this time, in ns since the machine's start.
    Deadline(u64),
    /// For ever.
    Forever,
}

impl Until {
    pub(super) fn after_ns(ns: u64) -> Self {
        if ns == 0 { Self::Now } else { Self::Deadline(platform::now_ns().saturating_add(ns)) }
    }

    /// After so many milliseconds; for ever if that is negative.
    pub(super) fn after_ms(ms: i32) -> Self {
        u64::try_from(ms).map_or(Self::Forever, |ms| Self::after_ns(ms * NS_PER_MILLISECOND))
    }

    pub(super) fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::Now => Some(0),
            Self::Deadline(deadline) => Some(deadline),
            Self::Forever => None,
        }
    }

    fn remaining_ns(self) -> u64 {
        match self {
            Self::Now | Self::Forever => 0,
            Self::Deadline(deadline) => deadline.saturating_sub(platform::now_ns()),
        }
    }
}

/// The units of a pair of numbers that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    /// `struct timespec`.
    Nanoseconds,
    /// `struct timeval`.
    Microseconds,
}

impl TimeUnit {
    fn ns(self) -> u64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => NS_PER_MICROSECOND,
        }
    }
}

/// The time that a program gave, and where to write what is left of it.
pub(super) struct Timeout {
    pub(super) until: Until,
    pointer: UserPtr,
    unit: TimeUnit,
}

impl Timeout {
    pub(super) fn read(thread: &Rc<Thread>, address: u64, unit: TimeUnit) -> Result<Self> {
        let pointer = UserPtr::of_call(thread, address);
        if pointer.is_null() {
            return Ok(Self { until: Until::Forever, pointer, unit });
        }
        let [seconds, fraction]: [i64; 2] = pointer.read()?;
        let (Ok(seconds), Ok(fraction)) = (u64::try_from(seconds), u64::try_from(fraction)) else {
            return Err(Errno::EINVAL);
        };
        // A `timeval` may have more than a second of microseconds; a `timespec` may not.
        let fraction_ns = fraction.saturating_mul(unit.ns());
        if unit == TimeUnit::Nanoseconds && fraction_ns >= NS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(fraction_ns);
        Ok(Self { until: Until::after_ns(ns), pointer, unit })
    }

    /// A time that is not in the program's memory.
    pub(super) fn given(thread: &Rc<Thread>, until: Until) -> Self {
        Self { until, pointer: UserPtr::of_call(thread, 0), unit: TimeUnit::Nanoseconds }
    }

    /// Writes back what is left. That it can't be written is no error, but then the call can't be made again.
    pub(super) fn write_back(&self, result: Result<u64>) -> Result<u64> {
        if self.until == Until::Forever || self.pointer.is_null() {
            return result;
        }
        let left = self.until.remaining_ns();
        let written = self.pointer.write(&[left / NS_PER_SECOND, left % NS_PER_SECOND / self.unit.ns()]);
        if written.is_err() && result.is_err_and(Errno::is_restart) { Err(Errno::EINTR) } else { result }
    }
}

/// A signal mask for the time of one call.
pub(super) struct TemporaryMask {
    is_set: bool,
}

impl TemporaryMask {
    /// The mask stays what it is.
    pub(super) const NONE: Self = Self { is_set: false };

    /// Sets the mask that a program points at, if it does.
    pub(super) fn set(thread: &Rc<Thread>, address: u64, size: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self::NONE);
        }
        if size != SIGNAL_SET_BYTES {
            return Err(Errno::EINVAL);
        }
        let mask = SignalSet(UserPtr::of_call(thread, address).read::<u64>()?);
        let old = thread.signals.borrow_mut().set_mask(mask);
        thread.signals.borrow_mut().saved_mask = Some(old);
        recheck(thread);
        Ok(Self { is_set: true })
    }

    /// Takes it back, unless the call was interrupted: then the delivery of the signal does.
    pub(super) fn restore(&self, thread: &Rc<Thread>, result: &Result<u64>) {
        if !self.is_set {
            return;
        }
        if result.is_err_and(|errno| errno.is_restart() || errno == Errno::EINTR) {
            thread.attention.set(Attention::Needed);
            return;
        }
        let saved = thread.signals.borrow_mut().saved_mask.take();
        if let Some(old) = saved {
            thread.signals.borrow_mut().set_mask(old);
            recheck(thread);
        }
    }
}
