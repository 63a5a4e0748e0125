//! The Gregorian calendar.

/// Days from 1970-01-01 to this date of the Gregorian calendar, counted in years that begin in March, so that the
/// leap day is the last.
pub(crate) fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_TO_1970_FROM_MARCH_0: u64 = 719_469;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    (year * 365 + leap_days + days_before_month + day).saturating_sub(DAYS_TO_1970_FROM_MARCH_0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970_on() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(1970, 12, 31), 364);
        assert_eq!(days_since_1970(2000, 1, 1), 10_957);
    }

    #[test]
    fn a_leap_day_is_a_day() {
        assert_eq!(days_since_1970(2024, 2, 29) + 1, days_since_1970(2024, 3, 1));
        assert_eq!(days_since_1970(2023, 2, 28) + 1, days_since_1970(2023, 3, 1));
        assert_eq!(days_since_1970(2100, 2, 28) + 1, days_since_1970(2100, 3, 1));
    }
}
