//! The map of physical memory that the loader hands over.

use core::fmt;

/// How many ranges are kept. Firmware with more loses the last ones, which costs memory but is safe.
const MAX_RANGES: usize = 192;
const PAGE: u64 = quire_core::machine::PAGE_SIZE;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    /// First address.
    pub(crate) start: u64,
    /// First address beyond.
    pub(crate) end: u64,
}

impl Range {
    /// The range of `size` bytes from `start`, cut off where addresses end.
    pub(crate) const fn new(start: u64, size: u64) -> Self {
        Self { start, end: start.saturating_add(size) }
    }

    /// Its size in bytes.
    pub(crate) const fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds nothing.
    pub(crate) const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The whole pages inside.
    pub(crate) const fn shrink_to_pages(self) -> Self {
        let start = match self.start.checked_next_multiple_of(PAGE) {
            Some(start) => start,
            None => return Self { start: 0, end: 0 },
        };
        Self { start, end: self.end & !(PAGE - 1) }
    }

    /// The pages that it touches.
    pub(crate) const fn grow_to_pages(self) -> Self {
        let end = match self.end.checked_next_multiple_of(PAGE) {
            Some(end) => end,
            None => !(PAGE - 1),
        };
        Self { start: self.start & !(PAGE - 1), end }
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#012x}..{:#012x}", self.start, self.end)
    }
}

/// What a range holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RangeKind {
    /// RAM, free to use.
    Usable,
    /// RAM with firmware tables or data in it.
    Firmware,
    /// Not to be touched.
    #[default]
    Reserved,
}

impl RangeKind {
    /// From the type numbers that PVH shares with E820 (ACPI 6.5, table 15.3).
    pub(crate) const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => Self::Usable,
            3 | 4 => Self::Firmware,
            _ => Self::Reserved,
        }
    }
}

/// The ranges that the loader told of.
pub(crate) struct MemoryMap {
    entries: [(Range, RangeKind); MAX_RANGES],
    len: usize,
}

impl MemoryMap {
    /// A map of nothing.
    pub(crate) const fn new() -> Self {
        Self { entries: [(Range { start: 0, end: 0 }, RangeKind::Reserved); MAX_RANGES], len: 0 }
    }

    /// Adds a range.
    pub(crate) fn add(&mut self, range: Range, kind: RangeKind) {
        if let Some(entry) = self.entries.get_mut(self.len).filter(|_| !range.is_empty()) {
            *entry = (range, kind);
            self.len += 1;
        }
    }

    /// All ranges.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range, RangeKind)> + '_ {
        self.entries[..self.len].iter().copied()
    }

    /// The ranges that are RAM, usable or not.
    pub(crate) fn ram(&self) -> impl Iterator<Item = Range> + '_ {
        self.iter().filter(|(_, kind)| matches!(kind, RangeKind::Usable | RangeKind::Firmware)).map(|(range, _)| range)
    }

    /// Calls `each` with every piece of usable memory, in whole pages, that none of the `reserved` ranges touches
    /// and no other entry of the map contradicts.
    pub(crate) fn for_each_free(&self, reserved: &[Range], each: &mut dyn FnMut(Range)) {
        for (range, kind) in self.iter() {
            if kind == RangeKind::Usable {
                self.free_pieces(range.shrink_to_pages(), reserved, each);
            }
        }
    }

    fn free_pieces(&self, range: Range, reserved: &[Range], each: &mut dyn FnMut(Range)) {
        let mut start = range.start;
        while start < range.end {
            let rest = Range { start, end: range.end };
            match self.first_obstacle(rest, reserved) {
                None => {
                    each(rest);
                    return;
                }
                Some(obstacle) => {
                    let piece = Range { start, end: obstacle.start.max(start) };
                    if !piece.is_empty() {
                        each(piece);
                    }
                    start = obstacle.end;
                }
            }
        }
    }

    /// The lowest page range inside `range` that is reserved, by the caller or by an entry that is not usable.
    fn first_obstacle(&self, range: Range, reserved: &[Range]) -> Option<Range> {
        let contradicting = self.iter().filter(|(_, kind)| *kind != RangeKind::Usable).map(|(range, _)| range);
        contradicting
            .chain(reserved.iter().copied())
            .filter(|obstacle| !obstacle.is_empty())
            .map(Range::grow_to_pages)
            .filter(|obstacle| obstacle.overlaps(range))
            .min_by_key(|obstacle| obstacle.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn free(entries: &[(u64, u64, RangeKind)], reserved: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut map = MemoryMap::new();
        entries.iter().for_each(|(start, end, kind)| map.add(Range { start: *start, end: *end }, *kind));
        let reserved: Vec<_> = reserved.iter().map(|(start, end)| Range { start: *start, end: *end }).collect();
        let mut pieces = Vec::new();
        map.for_each_free(&reserved, &mut |range| pieces.push((range.start, range.end)));
        pieces
    }

    #[test]
    fn only_whole_pages_are_free() {
        assert_eq!(free(&[(0x800, 0x3800, RangeKind::Usable)], &[]), [(0x1000, 0x3000)]);
        assert_eq!(free(&[(0x800, 0x1800, RangeKind::Usable)], &[]), []);
    }

    #[test]
    fn a_page_that_is_reserved_in_part_is_not_free() {
        let ram = [(0x0, 0x10000, RangeKind::Usable)];
        assert_eq!(free(&ram, &[(0x2800, 0x2900)]), [(0x0, 0x2000), (0x3000, 0x10000)]);
        assert_eq!(free(&ram, &[(0x0, 0x10000)]), []);
    }

    #[test]
    fn overlapping_and_adjacent_reservations_are_all_left_out() {
        let ram = [(0x0, 0x10000, RangeKind::Usable)];
        let reserved = [(0x4000, 0x6000), (0x1000, 0x2000), (0x5000, 0x8000), (0x2000, 0x3000)];
        assert_eq!(free(&ram, &reserved), [(0x0, 0x1000), (0x3000, 0x4000), (0x8000, 0x10000)]);
    }

    #[test]
    fn where_the_map_contradicts_itself_memory_is_not_free() {
        let entries = [(0x0, 0x8000, RangeKind::Usable), (0x4000, 0x9000, RangeKind::Firmware)];
        assert_eq!(free(&entries, &[]), [(0x0, 0x4000)]);
    }

    #[test]
    fn ranges_at_the_end_of_all_addresses_do_not_wrap() {
        let range = Range::new(u64::MAX - 0x10, 0x1000);
        assert_eq!(range.end, u64::MAX);
        assert!(range.shrink_to_pages().is_empty());
        assert_eq!(free(&[(0x1000, 0x3000, RangeKind::Usable)], &[(u64::MAX - 1, u64::MAX)]), [(0x1000, 0x3000)]);
    }

    #[test]
    fn too_many_ranges_are_dropped_not_written_beyond_the_map() {
        let mut map = MemoryMap::new();
        (0..1000).for_each(|page| map.add(Range::new(page * PAGE, PAGE), RangeKind::Usable));
        assert_eq!(map.iter().count(), MAX_RANGES);
    }
}
