//! The clock, timers and events.

use crate::account::{Account, create_from};
use crate::handle::{argument, object};
use crate::raw::{numbers, time_stamp};
use crate::system::system_info;
use quire_abi::{Call, Error};

object! {
    /// A deadline that completes in the queue that it is bound to.
    Timer
}

object! {
    /// Sixty-four bits to raise and wait for.
    Event
}

/// Time since the kernel's start in ns, by a call.
pub fn clock_ns() -> u64 {
    numbers(Call::ClockRead, [0; 3]).value().unwrap_or_default()
}

/// The clock without a call: what the kernel tells about the time-stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    base: u64,
    multiplier: u64,
    shift: u32,
}

impl Clock {
    /// Asks the kernel for the factors.
    pub fn new() -> Result<Self, Error> {
        let info = system_info()?;
        Ok(Self { base: info.tsc_base, multiplier: info.tsc_multiplier, shift: (info.tsc_shift as u32).min(127) })
    }

    /// Time since the kernel's start in ns.
    pub fn now_ns(&self) -> u64 {
        self.at(time_stamp())
    }

    /// The time in ns when the counter had this value.
    pub fn at(&self, counter: u64) -> u64 {
        let ticks = u128::from(counter.saturating_sub(self.base));
        ((ticks * u128::from(self.multiplier)) >> self.shift) as u64
    }
}

impl Timer {
    /// Makes a timer. Needs `USE`.
    pub fn create(account: &Account) -> Result<Self, Error> {
        create_from(Call::TimerCreate, account, 0, 0)
    }

    /// Arms it for `deadline_ns` since the kernel's start; replaces an earlier deadline. Needs `WRITE`.
    pub fn arm(&self, deadline_ns: u64) -> Result<(), Error> {
        numbers(Call::TimerArm, [argument(self), deadline_ns, 0]).unit()
    }

    /// Disarms it. Needs `WRITE`.
    pub fn cancel(&self) -> Result<(), Error> {
        numbers(Call::TimerCancel, [argument(self), 0, 0]).unit()
    }
}

impl Event {
    /// Makes an event with no bit set. Needs `USE`.
    pub fn create(account: &Account) -> Result<Self, Error> {
        create_from(Call::EventCreate, account, 0, 0)
    }

    /// Sets bits, then clears bits; returns the bits after. Wakes those who wait for one that is set between. Needs `SEND`.
    pub fn update(&self, set: u64, clear: u64) -> Result<u64, Error> {
        numbers(Call::EventUpdate, [argument(self), set, clear]).value()
    }

    /// Waits until one of the bits in `mask` is set, or until `deadline_ns`; returns those of the mask that are. Needs
    /// `WAIT`.
    pub fn wait(&self, mask: u64, deadline_ns: u64) -> Result<u64, Error> {
        numbers(Call::EventWait, [argument(self), mask, deadline_ns]).value()
    }
}
