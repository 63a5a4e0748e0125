//! When to look at a timer that counts used time.
//!
//! Nothing tells the server that a program has used so much time. But a program can't use time faster than it passes, on as
//! many processors as it has threads: so the timer is looked at when it could be due at the earliest, and again after that,
//! less and less often as long as the program does nothing.

use super::alarms::{Alarm, Alarms, Ring};
use super::clock::Clock;
use crate::platform::now_ns;
use alloc::rc::{Rc, Weak};

/// Looks are not closer than this: how exact such timers are. Linux's tick is as long.
const MIN_PAUSE_NS: u64 = 1_000_000;
/// Nor, while the program does nothing, farther than so many times that.
const MAX_IDLE_DOUBLINGS: u32 = 5;
/// How many threads at most are thought to run at once.
const MAX_THREADS: u64 = 8;

/// How a timer's deadline is watched.
#[derive(Default)]
pub(super) struct Watch {
    alarm: Option<Alarm>,
    /// The clock at the last look.
    seen_ns: u64,
    /// How many looks it has stood still for.
    idle_looks: u32,
}

impl Watch {
    /// Has `who` told when the clock may have reached the deadline; nobody, if there is none.
    pub(super) fn set(&mut self, clock: &Clock, deadline_ns: Option<u64>, alarms: &Rc<Alarms>, who: Weak<dyn Ring>) {
        let at_ns = deadline_ns.and_then(|deadline_ns| self.look_at_ns(clock, deadline_ns));
        self.alarm = at_ns.map(|at_ns| alarms.set(at_ns, who));
    }

    /// The time to look. `None`: there will be nothing to see.
    fn look_at_ns(&mut self, clock: &Clock, deadline_ns: u64) -> Option<u64> {
        let Clock::Used(worker) = clock else { return Some(deadline_ns) };
        let used_ns = worker.used_ns()?;
        self.idle_looks = if used_ns == self.seen_ns { (self.idle_looks + 1).min(MAX_IDLE_DOUBLINGS) } else { 0 };
        self.seen_ns = used_ns;
        let earliest_ns = deadline_ns.saturating_sub(used_ns) / worker.threads().clamp(1, MAX_THREADS);
        Some(now_ns().saturating_add(earliest_ns.max(MIN_PAUSE_NS << self.idle_looks)))
    }
}
