//! The clock: the time-stamp counter, scaled to nanoseconds since the kernel's start.

mod calibrate;
mod real_time;
pub(crate) mod timer;

pub(crate) use calibrate::{CalibrationError, calibrate};

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_core::devices::ClockParameters;

/// Nanoseconds in a second.
pub(crate) const NS_PER_S: u64 = 1_000_000_000;
/// Binary digits behind the point of [`ClockParameters::tsc_multiplier`].
const SHIFT: u32 = 32;

static TSC_BASE: AtomicU64 = AtomicU64::new(0);
static TSC_MULTIPLIER: AtomicU64 = AtomicU64::new(0);
static BOOT_UNIX_NS: AtomicU64 = AtomicU64::new(0);

fn tsc() -> u64 {
    // SAFETY: every 64-bit processor has the counter, and kernel mode may read it.
    unsafe { _rdtsc() }
}

/// Starts the clock. It stands at 0 until it is calibrated.
pub(crate) fn start() {
    TSC_BASE.store(tsc(), Ordering::Relaxed);
}

/// Sets the counter's rate and reads the real-time clock.
fn set_rate(tsc_hz: u64) {
    let multiplier = (u128::from(NS_PER_S) << SHIFT) / u128::from(tsc_hz.max(1));
    TSC_MULTIPLIER.store(multiplier as u64, Ordering::Relaxed);
    let unix_ns = real_time::read_unix_seconds().saturating_mul(NS_PER_S);
    BOOT_UNIX_NS.store(unix_ns.saturating_sub(now_ns()), Ordering::Relaxed);
}

/// Time since the kernel's start in ns.
#[inline]
pub(crate) fn now_ns() -> u64 {
    let elapsed = tsc().wrapping_sub(TSC_BASE.load(Ordering::Relaxed));
    ((u128::from(elapsed) * u128::from(TSC_MULTIPLIER.load(Ordering::Relaxed))) >> SHIFT) as u64
}

/// How others compute [`now_ns`].
pub(crate) fn parameters() -> ClockParameters {
    ClockParameters {
        tsc_base: TSC_BASE.load(Ordering::Relaxed),
        tsc_multiplier: TSC_MULTIPLIER.load(Ordering::Relaxed),
        tsc_shift: SHIFT.into(),
        boot_unix_ns: BOOT_UNIX_NS.load(Ordering::Relaxed),
    }
}
