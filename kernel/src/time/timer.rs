//! The one-shot timer of this processor: interrupts no later than the next deadline.
//!
//! The timer is only ever re-armed for something *earlier*. A deadline that vanished costs one interrupt too many,
//! which is cheaper than touching the APIC whenever a deadline moves.

use crate::cpu::percpu;
use crate::interrupts::local_apic;
use crate::time::{NS_PER_S, now_ns};
use core::sync::atomic::{AtomicU64, Ordering};

static APIC_HZ: AtomicU64 = AtomicU64::new(0);

/// Nothing is armed.
const NEVER: u64 = u64::MAX;

/// Sets the rate of the local APIC's timer.
pub(crate) fn set_rate(hz: u64) {
    APIC_HZ.store(hz, Ordering::Relaxed);
}

/// When this processor will be interrupted.
#[inline]
pub(crate) fn armed_ns() -> u64 {
    percpu::current().guarded.timer_armed_ns.get()
}

/// Whether another processor will be interrupted at `deadline_ns` or before.
pub(crate) fn is_armed_elsewhere(deadline_ns: u64) -> bool {
    percpu::others().any(|cpu| cpu.guarded.timer_armed_ns.get() <= deadline_ns)
}

/// Makes sure that this processor is interrupted at `deadline_ns` or before.
#[inline]
pub(crate) fn at_latest(deadline_ns: u64) {
    if deadline_ns < armed_ns() {
        arm(deadline_ns);
    }
}

fn arm(deadline_ns: u64) {
    let now = now_ns();
    let ticks = u128::from(deadline_ns.saturating_sub(now)) * u128::from(APIC_HZ.load(Ordering::Relaxed));
    // One tick more, because a timer that fires just before the deadline would have to be armed again.
    let ticks = ticks / u128::from(NS_PER_S) + 1;
    // A deadline beyond the counter's range is approached in steps.
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
    percpu::current().guarded.timer_armed_ns.set(deadline_ns);
    local_apic::arm(ticks);
}

/// The timer has interrupted: nothing is armed any more.
pub(crate) fn expired() {
    percpu::current().guarded.timer_armed_ns.set(NEVER);
}
