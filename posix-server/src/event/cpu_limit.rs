//! `RLIMIT_CPU`: how much processor time a process may use (`getrlimit(2)`).
//!
//! At the soft limit, and each second after that, comes `SIGXCPU`; at the hard limit, `SIGKILL`. As on Linux, the soft limit that is told grows
//! by that second. Both are seen when [used time](super::used_time) is looked at, so some ticks late.

use super::alarms::Ring;
use super::clock::{Clock, Worker};
use super::used_time::Watch;
use crate::process::limits::{Limit, UNLIMITED};
use crate::process::{Phase, Process};
use crate::signal::deliver::send;
use crate::signal::{Signal, SignalInfo};
use alloc::rc::{Rc, Weak};
use core::cell::RefCell;
use linux_raw_sys::general::RLIMIT_CPU;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// What is to be done about a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Warn,
    Kill,
}

/// What a use of so many ns means for a limit, which is in s.
fn due(limit: Limit, used_ns: u64) -> Due {
    let is_reached = |seconds: u64| seconds != UNLIMITED && used_ns >= seconds.saturating_mul(NS_PER_SECOND);
    if is_reached(limit.hard) {
        Due::Kill
    } else if is_reached(limit.soft) {
        Due::Warn
    } else {
        Due::Nothing
    }
}

/// Watches over a process's limit.
pub struct CpuLimit {
    this: Weak<Self>,
    process: Weak<Process>,
    clock: Clock,
    watch: RefCell<Watch>,
}

impl CpuLimit {
    /// Begins to watch.
    pub fn new(process: &Rc<Process>) -> Rc<Self> {
        let process = Rc::downgrade(process);
        let clock = Clock::Used(Worker::Process(process.clone()));
        Rc::new_cyclic(|this| Self { this: this.clone(), process, clock, watch: RefCell::default() })
    }

    /// Goes by the limit that the process has now.
    pub fn follow(&self) {
        let Some(process) = self.process.upgrade() else { return };
        let Ok(limit) = process.limits.get().get(RLIMIT_CPU) else { return };
        let first = limit.soft.min(limit.hard);
        let deadline_ns = (first != UNLIMITED).then(|| first.saturating_mul(NS_PER_SECOND));
        let who: Weak<dyn Ring> = self.this.clone();
        self.watch.borrow_mut().set(&self.clock, deadline_ns, &process.server.alarms, who);
    }
}

impl Ring for CpuLimit {
    fn ring(&self) {
        let (Some(process), Some(used_ns)) = (self.process.upgrade(), self.clock.timer_now_ns()) else { return };
        if process.phase.get() == Phase::Ended {
            return;
        }
        let mut limits = process.limits.get();
        let Ok(limit) = limits.get(RLIMIT_CPU) else { return };
        let signal = match due(limit, used_ns) {
            Due::Nothing => None,
            Due::Kill => Some(Signal::KILL),
            Due::Warn => {
                limits.raise_soft(RLIMIT_CPU, used_ns / NS_PER_SECOND + 1);
                process.limits.set(limits);
                Some(Signal::XCPU)
            }
        };
        self.follow();
        if let Some(signal) = signal {
            // A standard signal always fits.
            let _ = send(&process, SignalInfo::from_kernel(signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_warns_and_the_hard_limit_kills() {
        let limit = Limit { soft: 1, hard: 3 };
        assert_eq!(due(limit, NS_PER_SECOND - 1), Due::Nothing);
        assert_eq!(due(limit, NS_PER_SECOND), Due::Warn);
        assert_eq!(due(limit, 3 * NS_PER_SECOND), Due::Kill);
        assert_eq!(due(Limit { soft: UNLIMITED, hard: UNLIMITED }, u64::MAX), Due::Nothing);
    }
}
