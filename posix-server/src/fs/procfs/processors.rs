//! How many processors programs see, and how fast they are.

use crate::platform;

/// Programs run on one (`sched_getaffinity` says so too).
pub(in crate::fs) const COUNT: u32 = 1;

const NS_PER_SECOND: u128 = 1_000_000_000;

/// The frequency of the time-stamp counter, in MHz: thousandths, and whole.
pub(super) fn frequency() -> (u64, u64) {
    let (_, multiplier, shift, _) = platform::clock_parameters();
    // ns = ticks * multiplier >> shift.
    let hertz = (NS_PER_SECOND << shift.min(64)).checked_div(u128::from(multiplier)).unwrap_or_default();
    let kilohertz = (hertz / 1000) as u64;
    (kilohertz % 1000, kilohertz / 1000)
}
