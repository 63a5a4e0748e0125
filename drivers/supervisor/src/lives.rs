//! How often a program that ends is started again, and when that has no use any more; and how long one may be silent.

/// How long it takes until a successor starts, in ns: at first, and at most, of programs that do not live long.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;
/// After so long, in ns, a life was a good one.
pub const GOOD_LIFE_NS: u64 = 10_000_000_000;
/// How many bad lives there are one after the other until it is given up: with the pauses, they take 10 s at least.
const MOST_BAD_LIVES: u32 = 20;

/// How often a program that runs is asked whether it does, in ns.
pub const PULSE_NS: u64 = 1_000_000_000;
/// How often it is looked whether it has answered, before it counts as one that hangs: at its start, and later. A machine that stood still
/// for long takes that for one look only, so nobody is accused of it.
const LOOKS_AT_START: u32 = 30;
const LOOKS: u32 = 8;

/// What is to be done after a program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start another after so many ns.
    After(u64),
    /// Start none: it would end as all before.
    GiveUp,
}

/// The lives of a program and its successors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// Bad ones, one after the other.
    bad: u32,
}

impl Lives {
    /// The program has ended by itself, or because it did wrong, after so long.
    pub fn ended(&mut self, lived_ns: u64) -> Next {
        if lived_ns >= GOOD_LIFE_NS {
            *self = Self::default();
        }
        self.bad += 1;
        if self.bad > MOST_BAD_LIVES {
            return Next::GiveUp;
        }
        Next::After((FIRST_PAUSE_NS << (self.bad - 1).min(16)).min(LONGEST_PAUSE_NS))
    }
}

/// The silence of a program that was asked whether it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    looks: u32,
    has_answered_before: bool,
}

impl Silence {
    /// The program has answered.
    pub fn answered(&mut self) {
        *self = Self { looks: 0, has_answered_before: true };
    }

    /// Another [`PULSE_NS`] without an answer. Whether the program hangs.
    pub fn is_too_long(&mut self) -> bool {
        self.looks += 1;
        self.looks >= if self.has_answered_before { LOOKS } else { LOOKS_AT_START }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_then_it_is_given_up() {
        let mut lives = Lives::default();
        let mut pauses = 0;
        for _ in 0..MOST_BAD_LIVES {
            let Next::After(ns) = lives.ended(0) else { panic!("too early") };
            assert!((FIRST_PAUSE_NS..=LONGEST_PAUSE_NS).contains(&ns));
            pauses += ns;
        }
        assert!(pauses >= GOOD_LIFE_NS);
        assert_eq!(lives.ended(GOOD_LIFE_NS - 1), Next::GiveUp);
    }

    #[test]
    fn who_lives_long_is_started_again_for_ever() {
        let mut lives = Lives::default();
        for _ in 0..10 * MOST_BAD_LIVES {
            assert_eq!(lives.ended(GOOD_LIFE_NS), Next::After(FIRST_PAUSE_NS));
            assert!(matches!(lives.ended(0), Next::After(_)));
        }
    }

    #[test]
    fn a_start_may_take_longer_than_a_pause() {
        let looks = |mut silence: Silence| (1..).find(|_| silence.is_too_long());
        let mut silence = Silence::default();
        assert_eq!(looks(silence), Some(LOOKS_AT_START));
        assert!(!silence.is_too_long());
        silence.answered();
        assert_eq!(looks(silence), Some(LOOKS));
    }
}
