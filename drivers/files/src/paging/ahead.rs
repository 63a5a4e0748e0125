//! How much more to read than is asked for.

/// Pages read ahead at first.
const FIRST_PAGES: u64 = 8;
/// Pages read ahead at most: 1 MiB.
const MAX_PAGES: u64 = 256;

/// Notices that a file is read in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// The page after the last that was read.
    next: u64,
    window: u64,
}

impl Ahead {
    /// How many pages to read after the range from `start` to `end`, which is asked for; the kernel thinks of `hint`.
    pub(super) fn advance(&mut self, start: u64, end: u64, hint: u64) -> u64 {
        let is_next = start == self.next && start != 0 || start < self.next && end > self.next;
        self.window = if is_next { (self.window * 2).clamp(FIRST_PAGES, MAX_PAGES) } else { 0 };
        let pages = self.window.max(hint.min(MAX_PAGES));
        self.next = end + pages;
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_the_reading_goes_on_in_order() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.advance(0, 1, 0), 0);
        assert_eq!(ahead.advance(1, 2, 0), 8);
        assert_eq!(ahead.advance(10, 11, 0), 16);
        assert_eq!(ahead.advance(100, 101, 0), 0);
        assert_eq!(ahead.advance(101, 102, 4), 8);
        assert_eq!(ahead.advance(110, 111, 64), 64);
        assert_eq!(ahead.advance(9, 10, 2), 2);
    }
}
