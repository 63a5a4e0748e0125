//! When a timer expires: once, or again and again.

use crate::platform;

/// The expirations of a timer, on whatever clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The next one; 0 for none.
    next_ns: u64,
    /// From one to the next; 0 if there is but one.
    interval_ns: u64,
    /// If the expirations are times of the real-time clock: the Unix time of the machine's start that they were told by, in ns.
    boot_unix_ns: Option<u64>,
}

/// The Unix time of the machine's start, in ns, as the real-time clock has it now.
fn boot_unix_ns() -> u64 {
    let (.., boot_unix_ns) = platform::clock_parameters();
    boot_unix_ns
}

impl Schedule {
    /// A timer that expires at `first_ns` (never, if that is 0), then every `interval_ns` unless that is 0.
    pub fn new(first_ns: u64, interval_ns: u64) -> Self {
        Self { next_ns: first_ns, interval_ns, boot_unix_ns: None }
    }

    /// The same for times of the real-time clock, told on the monotonic clock: they move when that clock is set.
    pub fn of_realtime(self) -> Self {
        Self { boot_unix_ns: Some(boot_unix_ns()), ..self }
    }

    /// Moves the expirations as far as the real-time clock has been set since, if they are times of it. Whether they were.
    pub fn follow_clock(&mut self) -> bool {
        let (Some(before), now) = (self.boot_unix_ns, boot_unix_ns()) else { return false };
        if before == now {
            return false;
        }
        self.boot_unix_ns = Some(now);
        if self.next_ns != 0 {
            self.next_ns = self.next_ns.saturating_add(before).saturating_sub(now).max(1);
        }
        true
    }

    /// The next expiration, if there is one; it may have passed.
    pub fn next_ns(self) -> Option<u64> {
        (self.next_ns != 0).then_some(self.next_ns)
    }

    /// The time between expirations, 0 for a single one.
    pub fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// Whether it has expired and not been advanced.
    pub fn is_due(self, now_ns: u64) -> bool {
        self.next_ns != 0 && self.next_ns <= now_ns
    }

    /// Passes over the expirations up to now, and counts them.
    pub fn advance(&mut self, now_ns: u64) -> u64 {
        if !self.is_due(now_ns) {
            return 0;
        }
        if self.interval_ns == 0 {
            self.next_ns = 0;
            return 1;
        }
        let passed = (now_ns - self.next_ns) / self.interval_ns + 1;
        self.next_ns = self.next_ns.saturating_add(passed.saturating_mul(self.interval_ns));
        passed
    }

    /// The time until the next expiration that has not passed, and the interval, as programs are told: 0 if there is none.
    pub fn left_ns(mut self, now_ns: u64) -> (u64, u64) {
        self.advance(now_ns);
        (self.next_ns.saturating_sub(now_ns), self.interval_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_expiration_passes_once() {
        let mut schedule = Schedule::new(100, 0);
        assert_eq!((schedule.advance(99), schedule.left_ns(99)), (0, (1, 0)));
        assert_eq!((schedule.advance(100), schedule.advance(200)), (1, 0));
        assert_eq!((schedule.next_ns(), schedule.left_ns(300)), (None, (0, 0)));
    }

    #[test]
    fn a_stopped_timer_keeps_its_interval_and_never_expires() {
        let mut schedule = Schedule::new(0, 7);
        assert_eq!((schedule.advance(u64::MAX), schedule.left_ns(5)), (0, (0, 7)));
    }

    #[test]
    fn times_of_the_real_time_clock_move_when_it_is_set() {
        let (mut other, mut schedule) = (Schedule::new(100, 0), Schedule::new(100, 0).of_realtime());
        platform::set_boot_unix_ns(boot_unix_ns() + 30);
        assert_eq!((schedule.follow_clock(), schedule.next_ns()), (true, Some(70)));
        assert_eq!((schedule.follow_clock(), other.follow_clock()), (false, false));
        platform::set_boot_unix_ns(boot_unix_ns() - 50);
        assert_eq!((schedule.follow_clock(), schedule.next_ns()), (true, Some(120)));
        assert_eq!((other.follow_clock(), other.next_ns()), (false, Some(100)));
    }

    proptest! {
        #[test]
        fn expirations_are_counted_once_each(first in 1u64..1000, interval in 1u64..50, steps in proptest::collection::vec(0u64..300, 1..20)) {
            let (mut schedule, mut now, mut counted) = (Schedule::new(first, interval), 0, 0);
            for step in steps {
                now += step;
                counted += schedule.advance(now);
                prop_assert_eq!(counted, if now < first { 0 } else { (now - first) / interval + 1 });
                let (left, _) = schedule.left_ns(now);
                prop_assert!(left > 0 && schedule.next_ns() == Some(now + left));
            }
        }

        #[test]
        fn no_numbers_overflow(first: u64, interval: u64, now: u64) {
            let mut schedule = Schedule::new(first, interval);
            schedule.advance(now);
            schedule.left_ns(now);
        }
    }
}
