//! How a thread is to be scheduled (`sched(7)`): policy, priority, nice value, processors.
//!
//! Policies and values are kept and told as Linux does. Of them, what the kernel's scheduler knows is its priority: threads of
//! a real-time policy run before all others of programs, and below the server.

use super::Thread;
use crate::errno::{Errno, Result};
use crate::platform::{self, Urgency};
use linux_raw_sys::general as linux;

/// The processors that there are, as bits.
pub fn all_processors() -> u64 {
    u64::MAX >> (u64::BITS - platform::processors().clamp(1, u64::BITS))
}

/// The highest priority of a real-time policy.
pub const MAX_PRIORITY: u32 = 99;
/// The nice values: -20 comes first, 19 last.
pub const NICE: core::ops::RangeInclusive<i32> = -20..=19;

/// A scheduling policy (`SCHED_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_OTHER`.
    #[default]
    Normal,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_FIFO`, with its priority.
    Fifo(u8),
    /// `SCHED_RR`, with its priority.
    RoundRobin(u8),
}

impl Policy {
    /// The policy with this number, at this priority. `EINVAL` for unknown ones (`SCHED_DEADLINE` too), or if the priority is not in the
    /// policy's range.
    pub fn new(number: u32, priority: u32) -> Result<Self> {
        let is_real_time = (1..=MAX_PRIORITY).contains(&priority);
        match number {
            linux::SCHED_NORMAL if priority == 0 => Ok(Self::Normal),
            linux::SCHED_BATCH if priority == 0 => Ok(Self::Batch),
            linux::SCHED_IDLE if priority == 0 => Ok(Self::Idle),
            linux::SCHED_FIFO if is_real_time => Ok(Self::Fifo(priority as u8)),
            linux::SCHED_RR if is_real_time => Ok(Self::RoundRobin(priority as u8)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Self::Normal => linux::SCHED_NORMAL,
            Self::Batch => linux::SCHED_BATCH,
            Self::Idle => linux::SCHED_IDLE,
            Self::Fifo(_) => linux::SCHED_FIFO,
            Self::RoundRobin(_) => linux::SCHED_RR,
        }
    }

    /// Its priority; 0 for those without.
    pub fn priority(self) -> u8 {
        match self {
            Self::Normal | Self::Batch | Self::Idle => 0,
            Self::Fifo(priority) | Self::RoundRobin(priority) => priority,
        }
    }
}

/// How a thread is to be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The policy.
    pub policy: Policy,
    /// The nice value.
    pub nice: i8,
    /// `SCHED_RESET_ON_FORK`: children begin anew.
    pub resets_on_fork: bool,
    /// Where it may run.
    pub processors: u64,
    /// `ioprio_set`: class and level; 0 for what follows from the nice value.
    pub io_priority: u16,
    /// `PR_SET_TIMERSLACK`, in ns.
    pub timer_slack_ns: u64,
    /// What `PR_SET_TIMERSLACK` with 0 goes back to, in ns.
    pub default_slack_ns: u64,
}

/// The timer slack of the first process.
const TIMER_SLACK_NS: u64 = 50_000;

impl Default for Schedule {
    fn default() -> Self {
        Self {
            policy: Policy::Normal,
            nice: 0,
            resets_on_fork: false,
            processors: all_processors(),
            io_priority: 0,
            timer_slack_ns: TIMER_SLACK_NS,
            default_slack_ns: TIMER_SLACK_NS,
        }
    }
}

impl Schedule {
    /// What a child or new thread begins with.
    #[must_use]
    pub fn for_child(&self) -> Self {
        let slack = Self { default_slack_ns: self.timer_slack_ns, ..*self };
        if !self.resets_on_fork {
            return slack;
        }
        let (policy, nice) = (Policy::Normal, if self.policy.priority() == 0 { self.nice.max(0) } else { 0 });
        Self { policy, nice, resets_on_fork: false, ..slack }
    }
}

impl Thread {
    /// Its place in the lines for locks: a real-time priority, or 0.
    pub fn rank(&self) -> u8 {
        self.schedule.get().policy.priority()
    }

    /// Changes how it is scheduled.
    pub fn set_schedule(&self, schedule: Schedule) {
        let before = self.schedule.replace(schedule);
        // A thread that is new may run anywhere, whatever its parent may.
        if schedule.processors != before.processors || schedule.processors != all_processors() {
            self.machine.set_processors(schedule.processors);
        }
        let priority = schedule.policy.priority();
        if before.policy.priority() != priority {
            let urgency = if priority == 0 { Urgency::Ordinary } else { Urgency::RealTime(priority) };
            self.machine.set_urgency(urgency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_go_with_policies() {
        assert_eq!(Policy::new(linux::SCHED_FIFO, 5), Ok(Policy::Fifo(5)));
        assert_eq!(Policy::new(linux::SCHED_FIFO, 0), Err(Errno::EINVAL));
        assert_eq!(Policy::new(linux::SCHED_RR, 100), Err(Errno::EINVAL));
        assert_eq!(Policy::new(linux::SCHED_NORMAL, 1), Err(Errno::EINVAL));
        assert_eq!(Policy::new(linux::SCHED_DEADLINE, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_child_of_one_that_resets_begins_anew() {
        let urgent = Schedule { policy: Policy::Fifo(7), nice: -5, resets_on_fork: true, ..Schedule::default() };
        let child = urgent.for_child();
        assert_eq!((child.policy, child.nice, child.resets_on_fork), (Policy::Normal, 0, false));
        let slow = Schedule { nice: 7, resets_on_fork: true, ..Schedule::default() };
        assert_eq!(slow.for_child().nice, 7);
        assert_eq!(Schedule { resets_on_fork: false, ..urgent }.for_child().policy, Policy::Fifo(7));
    }
}
