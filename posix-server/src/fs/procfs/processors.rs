//! How many processors programs see, and how fast they are.

use crate::platform;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How many there are.
pub(in crate::fs) fn count() -> u32 {
    platform::processors()
}

/// A set of processors as a list of ranges: `0-2,5`.
pub(in crate::fs) fn list(set: u64) -> String {
    let mut ranges: Vec<String> = Vec::new();
    let mut left = set;
    while left != 0 {
        let first = left.trailing_zeros();
        let length = (left >> first).trailing_ones();
        let last = first + length - 1;
        ranges.push(if length == 1 { format!("{first}") } else { format!("{first}-{last}") });
        left &= if last + 1 == u64::BITS { 0 } else { u64::MAX << (last + 1) };
    }
    ranges.join(",")
}

const NS_PER_SECOND: u128 = 1_000_000_000;

/// The frequency of the time-stamp counter, in MHz: thousandths, and whole.
pub(super) fn frequency() -> (u64, u64) {
    let (_, multiplier, shift, _) = platform::clock_parameters();
    // ns = ticks * multiplier >> shift.
    let hertz = (NS_PER_SECOND << shift.min(64)).checked_div(u128::from(multiplier)).unwrap_or_default();
    let kilohertz = (hertz / 1000) as u64;
    (kilohertz % 1000, kilohertz / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_listed_as_ranges() {
        for (set, text) in
            [(0, ""), (1, "0"), (0b10_0111, "0-2,5"), (u64::MAX, "0-63"), (1 << 63, "63"), (0b101, "0,2")]
        {
            assert_eq!(list(set), text);
        }
    }
}
