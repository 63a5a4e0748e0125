//! What processes and threads have used (`getrusage(2)`, `times(2)`).

use super::{Process, Thread};
use crate::platform::{PAGE_SIZE, ticks_to_ns};

/// The words of `struct rusage`.
pub const RUSAGE_WORDS: usize = 18;
const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1000;

/// Time, memory and events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time in the program, in ns.
    pub user_ns: u64,
    /// Time in the server on its behalf, in ns.
    pub system_ns: u64,
    /// The most memory that was in use at once, in KiB.
    pub resident_kib: u64,
    /// How often it gave the processor up to wait (`ru_nvcsw`).
    pub waits: u64,
}

impl Usage {
    /// All time, in ns.
    pub fn total_ns(&self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }

    /// Both together; memory is not used by both at once, so the larger figure counts.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_add(other.user_ns),
            system_ns: self.system_ns.saturating_add(other.system_ns),
            resident_kib: self.resident_kib.max(other.resident_kib),
            waits: self.waits.saturating_add(other.waits),
        }
    }

    /// `struct rusage`. What is not counted is 0, as most of it is on Linux.
    pub fn to_rusage(&self) -> [u64; RUSAGE_WORDS] {
        let mut record = [0; RUSAGE_WORDS];
        let time = |ns: u64| [ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_MICROSECOND];
        let [user, system] = [time(self.user_ns), time(self.system_ns)];
        let [user_s, user_us, system_s, system_us, resident, _, _, _, _, _, _, _, _, _, _, _, waits, _] = &mut record;
        [*user_s, *user_us] = user;
        [*system_s, *system_us] = system;
        (*resident, *waits) = (self.resident_kib, self.waits);
        record
    }
}

impl Thread {
    /// What it has used.
    pub fn usage(&self) -> Usage {
        Usage {
            user_ns: self.machine.run_time_ns(),
            system_ns: ticks_to_ns(self.system_ticks.get()),
            resident_kib: self.process.note_resident(),
            waits: self.waits.get(),
        }
    }
}

impl Process {
    /// What its threads have used, those that have ended included.
    pub fn usage(&self) -> Usage {
        let peak = Usage { resident_kib: self.note_resident(), ..Usage::default() };
        let ended = self.ended_usage.get().with(&peak);
        self.threads().iter().fold(ended, |sum, thread| sum.with(&thread.usage()))
    }

    /// Notes how much memory is in use; returns the most that ever was, in KiB.
    pub fn note_resident(&self) -> u64 {
        let now_kib = self.account.used_frames().saturating_mul(PAGE_SIZE / 1024);
        let ended = self.ended_usage.get();
        if now_kib > ended.resident_kib {
            self.ended_usage.set(Usage { resident_kib: now_kib, ..ended });
        }
        now_kib.max(ended.resident_kib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_memory_does_not() {
        let one = Usage { user_ns: 1_500_002_000, system_ns: 3_000, resident_kib: 10, waits: 1 };
        let other = Usage { user_ns: 1, system_ns: 2_000_000_000, resident_kib: 7, waits: 2 };
        let sum = one.with(&other);
        assert_eq!((sum.total_ns(), sum.resident_kib, sum.waits), (3_500_005_001, 10, 3));
        let record = sum.to_rusage();
        assert_eq!(record[..5], [1, 500_002, 2, 3, 10]);
        assert_eq!(record[16], 3);
    }
}
