//! Bitmaps in which a set bit is something taken.

use core::ops::Range;

/// Whether bit `at` is set; beyond the end all are.
pub(crate) fn is_set(bytes: &[u8], at: u32) -> bool {
    bytes.get((at / 8) as usize).is_none_or(|byte| byte >> (at % 8) & 1 == 1)
}

/// The 64 bits from `at`, a multiple of 64; beyond the end all are set.
fn word(bytes: &[u8], at: u32) -> u64 {
    let from = (at / 8) as usize;
    match bytes.get(from..from + 8).and_then(|word| word.try_into().ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => (0..64).map(|bit| u64::from(is_set(bytes, at + bit)) << bit).sum(),
    }
}

/// The first bit that is `set` from `from`, below `limit`.
fn first(bytes: &[u8], from: u32, limit: u32, set: bool) -> Option<u32> {
    let mut at = from;
    while at < limit {
        let base = at & !63;
        let bits = if set { word(bytes, base) } else { !word(bytes, base) } & (u64::MAX << (at - base));
        if bits != 0 {
            return Some(base + bits.trailing_zeros()).filter(|found| *found < limit);
        }
        at = base + 64;
    }
    None
}

/// The first clear bit from `from`, below `limit`.
pub(crate) fn first_clear(bytes: &[u8], from: u32, limit: u32) -> Option<u32> {
    first(bytes, from, limit, false)
}

/// The first set bit from `from`, below `limit`.
pub(crate) fn first_set(bytes: &[u8], from: u32, limit: u32) -> Option<u32> {
    first(bytes, from, limit, true)
}

/// The first run of clear bits from `from`, below `limit`.
pub(crate) fn clear_run(bytes: &[u8], from: u32, limit: u32) -> Option<Range<u32>> {
    let start = first_clear(bytes, from, limit)?;
    Some(start..first_set(bytes, start, limit).unwrap_or(limit))
}

/// Sets or clears bits; the range must lie in the bitmap.
pub(crate) fn fill(bytes: &mut [u8], range: Range<u32>, set: bool) {
    let mut at = range.start;
    while at < range.end {
        let whole = at.is_multiple_of(8) && range.end - at >= 8;
        let Some(byte) = bytes.get_mut((at / 8) as usize) else { return };
        let mask = if whole { 0xFF } else { 1 << (at % 8) };
        *byte = if set { *byte | mask } else { *byte & !mask };
        at += if whole { 8 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_words() {
        let mut bytes = [0xFF; 24];
        fill(&mut bytes, 60..130, false);
        assert_eq!(clear_run(&bytes, 0, 192), Some(60..130));
        assert_eq!(clear_run(&bytes, 100, 192), Some(100..130));
        assert_eq!(clear_run(&bytes, 0, 100), Some(60..100));
        assert_eq!(clear_run(&bytes, 130, 192), None);
        assert_eq!(first_set(&bytes, 60, 130), None);
        fill(&mut bytes, 64..65, true);
        assert_eq!(clear_run(&bytes, 0, 192), Some(60..64));
        assert_eq!(clear_run(&bytes, 64, 192), Some(65..130));
    }

    #[test]
    fn what_lies_beyond_the_end_is_taken() {
        let bytes = [0; 3];
        assert_eq!(clear_run(&bytes, 0, 100), Some(0..24));
        assert!(is_set(&bytes, 24));
    }
}
