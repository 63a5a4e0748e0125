//! The areas of an address space, as the server keeps them: what `/proc/PID/maps` shows and what the rules are checked against.
//! Pure; the kernel's regions are changed by [`Vm`](super::Vm) in step.

use super::gaps::Gaps;
use crate::fs::content::WritableMapping;
use crate::fs::{Inode, Location};
use crate::platform::{Memory, PAGE_SIZE, Protection, Sharing};
use crate::sysv::segments::Attachment;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// What an area shows.
#[derive(Clone)]
pub enum Content {
    /// Zeroes, private.
    Anonymous,
    /// Zeroes at first, private: the area that `brk` moves the end of.
    Heap,
    /// Zeroes at first, private: the first thread's stack.
    Stack,
    /// A memory that belongs to no file, shared, from this offset.
    SharedAnonymous(Memory, u64),
    /// Shared memory of System V, from an offset.
    Segment(Rc<Attachment>, u64),
    /// A file, from an offset.
    File(Rc<MappedFile>, u64),
}

/// A file as it is mapped.
pub struct MappedFile {
    /// Its memory.
    pub memory: Memory,
    /// The file.
    pub inode: Rc<Inode>,
    /// Its place, if it has one.
    pub location: Option<Location>,
    /// Counts it, if it can store to the file.
    pub writable: Option<WritableMapping>,
}

impl Content {
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous, Self::Anonymous) | (Self::Heap, Self::Heap) | (Self::Stack, Self::Stack) => true,
            (Self::SharedAnonymous(one, _), Self::SharedAnonymous(two, _)) => one.id() == two.id(),
            (Self::File(one, _), Self::File(two, _)) => Rc::ptr_eq(one, two) || one.inode.is_same(&two.inode),
            (Self::Segment(one, _), Self::Segment(two, _)) => Rc::ptr_eq(one, two),
            (
                Self::Anonymous
                | Self::Heap
                | Self::Stack
                | Self::SharedAnonymous(..)
                | Self::Segment(..)
                | Self::File(..),
                Self::Anonymous
                | Self::Heap
                | Self::Stack
                | Self::SharedAnonymous(..)
                | Self::Segment(..)
                | Self::File(..),
            ) => false,
        }
    }

    /// Where in its memory it starts, in bytes.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Anonymous | Self::Heap | Self::Stack => 0,
            Self::SharedAnonymous(_, offset) | Self::Segment(_, offset) | Self::File(_, offset) => *offset,
        }
    }

    /// The same, `bytes` further on.
    pub(super) fn advanced(&self, bytes: u64) -> Self {
        self.at(self.offset() + bytes)
    }

    /// The same from another offset, in bytes.
    pub(super) fn at(&self, offset: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Heap => Self::Heap,
            Self::Stack => Self::Stack,
            Self::SharedAnonymous(memory, _) => Self::SharedAnonymous(memory.clone(), offset),
            Self::Segment(attachment, _) => Self::Segment(attachment.clone(), offset),
            Self::File(file, _) => Self::File(file.clone(), offset),
        }
    }

    /// The memory that it shows, and from where, if it is not its space's own.
    pub fn memory(&self) -> Option<(&Memory, u64)> {
        match self {
            Self::Anonymous | Self::Heap | Self::Stack => None,
            Self::SharedAnonymous(memory, offset) => Some((memory, *offset)),
            Self::Segment(attachment, offset) => Some((attachment.memory(), *offset)),
            Self::File(file, offset) => Some((&file.memory, *offset)),
        }
    }

    fn continues(&self, before: &Self, length: u64) -> bool {
        let has_offset = self.memory().is_some();
        before.is_same_file(self) && (!has_offset || before.offset() + length == self.offset())
    }
}

/// Whether an area is to stay in memory (`mlock(2)`). Nothing is ever paged out, so this is only told and counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// It need not.
    #[default]
    None,
    /// It is.
    All,
    /// What has been used of it is.
    Used,
}

/// A range of addresses that is used in one way.
#[derive(Clone)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// How it can be used.
    pub protection: Protection,
    /// How `mprotect` may make it usable.
    pub allowed: Protection,
    /// Whether stores go to the memory or to private pages.
    pub sharing: Sharing,
    /// Whether it is to stay in memory.
    pub lock: Lock,
    /// What it shows.
    pub content: Content,
}

impl Area {
    /// Whether it counts as data (`RLIMIT_DATA`): private and writable, but for the stack.
    pub fn is_data(&self) -> bool {
        let is_stack = matches!(self.content, Content::Stack);
        self.sharing == Sharing::Private && self.protection.contains(Protection::WRITE) && !is_stack
    }

    /// Its size in bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// How much of it is locked, in bytes.
    pub fn locked_bytes(&self) -> u64 {
        match self.lock {
            Lock::None => 0,
            Lock::All | Lock::Used => self.length(),
        }
    }

    /// The part in a range.
    fn cut(&self, start: u64, end: u64) -> Option<Self> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        (start < end).then(|| Self { start, end, content: self.content.advanced(start - self.start), ..self.clone() })
    }

    fn joins(&self, next: &Self) -> bool {
        self.end == next.start
            && self.protection == next.protection
            && self.allowed == next.allowed
            && self.sharing == next.sharing
            && self.lock == next.lock
            && next.content.continues(&self.content, self.length())
    }
}

/// Areas, or parts of them, that were taken out of a range. Mostly it is one, which needs no list.
#[derive(Default)]
pub struct Removed {
    /// The last of the range.
    last: Option<Area>,
    /// Those before it, descending.
    more: Vec<Area>,
}

impl Removed {
    /// Adds one that lies before all others.
    fn push(&mut self, area: Option<Area>) {
        match (&self.last, area) {
            (None, area) => self.last = area,
            (Some(_), area) => self.more.extend(area),
        }
    }

    /// Whether nothing was there.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The areas, ascending.
    pub fn ascending(self) -> impl Iterator<Item = Area> {
        self.more.into_iter().rev().chain(self.last)
    }
}

/// From so many areas on, what is free between them is kept, too: before that, a look at all of them is cheaper than keeping it. (Few in
/// tests, so that they see both.)
const MANY: usize = if cfg!(test) { 6 } else { 64 };

/// The areas, which don't overlap, by their first address.
#[derive(Clone, Default)]
pub struct Areas {
    areas: BTreeMap<u64, Area>,
    /// What is free, where there are many areas.
    gaps: Option<Box<Gaps>>,
    /// Bytes in all of them.
    total_bytes: u64,
    /// Bytes in those that are locked.
    locked_bytes: u64,
}

impl Areas {
    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.areas.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Bytes in all areas.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes in locked areas.
    pub fn locked_bytes(&self) -> u64 {
        self.locked_bytes
    }

    fn add(&mut self, area: Area) {
        self.total_bytes += area.length();
        self.locked_bytes += area.locked_bytes();
        let (start, end) = (area.start, area.end);
        let before = self.areas.insert(start, area);
        debug_assert!(before.is_none(), "two areas at one address");
        match &mut self.gaps {
            Some(gaps) => gaps.occupy(start, end),
            None if self.areas.len() > MANY => {
                let used = self.areas.values().map(|area| (area.start, area.end));
                self.gaps = Some(Box::new(Gaps::between(used)));
            }
            None => {}
        }
    }

    fn take(&mut self, start: u64) -> Option<Area> {
        let area = self.areas.remove(&start)?;
        self.total_bytes -= area.length();
        self.locked_bytes -= area.locked_bytes();
        if self.areas.len() < MANY / 2 {
            self.gaps = None;
        } else if let Some(gaps) = &mut self.gaps {
            gaps.release(start, area.end);
        }
        Some(area)
    }

    /// The area that an address is in.
    pub fn at(&self, address: u64) -> Option<&Area> {
        let (_, area) = self.areas.range(..=address).next_back()?;
        (address < area.end).then_some(area)
    }

    /// The parts of areas in a range, ascending.
    pub fn in_range(&self, start: u64, end: u64) -> Vec<Area> {
        self.touching(start, end).filter_map(|area| area.cut(start, end)).collect()
    }

    /// The areas that have a part in a range, ascending.
    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = &Area> {
        let first = self.at(start).map_or(start, |area| area.start);
        self.areas.range(first..end.max(first)).map(|(_, area)| area)
    }

    /// The smallest range that holds all of the areas' parts in a range; `None` if there are none.
    pub fn bounds(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let last = self.last_before(end).filter(|area| area.end > start)?;
        let first = if last.start <= start { start } else { self.touching(start, end).next()?.start.max(start) };
        Some((first, last.end.min(end)))
    }

    /// How many bytes of a range are in areas.
    pub fn bytes_in(&self, start: u64, end: u64) -> u64 {
        self.touching(start, end).map(|area| end.min(area.end).saturating_sub(start.max(area.start))).sum()
    }

    /// Whether nothing is in a range.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        let last = self.areas.range(..end).next_back();
        start < end && last.is_none_or(|(_, area)| area.end <= start)
    }

    /// Whether a range has no holes.
    pub fn is_covered(&self, start: u64, end: u64) -> bool {
        self.bytes_in(start, end) == end.saturating_sub(start)
    }

    /// Removes what is in a range; returns the parts.
    pub fn remove(&mut self, start: u64, end: u64) -> Removed {
        let mut removed = Removed::default();
        if start >= end {
            return removed;
        }
        // The last area of the range first, until one begins at its start or before.
        while let Some((_, area)) = self.areas.range_mut(..end).next_back() {
            if area.end <= start {
                break;
            }
            let (first, last) = (area.start, area.end);
            if first >= start && last <= end {
                removed.push(self.take(first));
            } else if last <= end {
                let part = area.cut(start, end);
                area.end = start;
                if let Some(gaps) = &mut self.gaps {
                    gaps.release(start, last);
                }
                self.total_bytes -= last - start;
                self.locked_bytes -= part.as_ref().map_or(0, Area::locked_bytes);
                removed.push(part);
            } else if let Some(area) = self.take(first) {
                removed.push(area.cut(start, end));
                for rest in [area.cut(0, start), area.cut(end, u64::MAX)].into_iter().flatten() {
                    self.add(rest);
                }
            }
            if first <= start {
                break;
            }
        }
        removed
    }

    /// The last area that begins before an address.
    fn last_before(&self, address: u64) -> Option<&Area> {
        self.areas.range(..address).next_back().map(|(_, area)| area)
    }

    /// Adds an area in the place of whatever is in its range, and joins it with like neighbours; returns what was there.
    pub fn insert(&mut self, area: Area) -> Removed {
        let is_free = self.last_before(area.end).is_none_or(|last| last.end <= area.start);
        let replaced = if is_free { Removed::default() } else { self.remove(area.start, area.end) };
        let mut area = area;
        if let Some(after) = self.areas.get(&area.end)
            && area.joins(after)
            && let Some(after) = self.take(after.start)
        {
            area.end = after.end;
        }
        match self.areas.range_mut(..area.start).next_back() {
            Some((_, before)) if before.joins(&area) => {
                before.end = area.end;
                if let Some(gaps) = &mut self.gaps {
                    gaps.occupy(area.start, area.end);
                }
                self.total_bytes += area.length();
                self.locked_bytes += area.locked_bytes();
            }
            Some(_) | None => self.add(area),
        }
        replaced
    }

    /// Replaces what an area shows by the same in another form.
    pub(super) fn set_content(&mut self, start: u64, content: Content) {
        if let Some(area) = self.areas.get_mut(&start) {
            area.content = content;
        }
    }

    /// Changes the protection of what is in a range.
    pub fn protect(&mut self, start: u64, end: u64, protection: Protection) {
        for part in self.remove(start, end).ascending() {
            self.insert(Area { protection, ..part });
        }
    }

    /// Locks or unlocks what is in a range.
    pub fn set_lock(&mut self, start: u64, end: u64, lock: Lock) {
        for part in self.remove(start, end).ascending() {
            self.insert(Area { lock, ..part });
        }
    }

    /// Unlocks all, as in a child.
    pub fn unlock_all(&mut self) {
        if self.locked_bytes > 0 {
            self.set_lock(0, u64::MAX, Lock::None);
        }
    }

    /// The highest free range of `length` bytes between `low` and `high`.
    pub fn find_free(&self, length: u64, low: u64, high: u64) -> Option<u64> {
        let high = high / PAGE_SIZE * PAGE_SIZE;
        let end = match &self.gaps {
            Some(gaps) => gaps.highest_end(length, high)?,
            None => self.highest_end(length, high),
        };
        // Areas are whole pages, so what is rounded down stays above the last that was looked at.
        let start = end.checked_sub(length)? / PAGE_SIZE * PAGE_SIZE;
        (start >= low).then_some(start)
    }

    /// The end of the highest free range below `high` that is long enough, if any is but that before the first area: then the end of that.
    fn highest_end(&self, length: u64, high: u64) -> u64 {
        let mut end = high;
        for area in self.areas.range(..high).rev().map(|(_, area)| area) {
            if area.end < end && end - area.end >= length {
                break;
            }
            end = end.min(area.start);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    fn anonymous(start: u64, end: u64, protection: Protection) -> Area {
        Area {
            start: start * PAGE_SIZE,
            end: end * PAGE_SIZE,
            protection,
            allowed: Protection::all(),
            sharing: Sharing::Private,
            lock: Lock::None,
            content: Content::Anonymous,
        }
    }

    fn shared(start: u64, end: u64, memory: &Memory, offset: u64) -> Area {
        Area {
            sharing: Sharing::Shared,
            content: Content::SharedAnonymous(memory.clone(), offset * PAGE_SIZE),
            ..anonymous(start, end, Protection::READ)
        }
    }

    #[test]
    fn like_neighbours_join_and_come_apart() {
        let mut areas = Areas::default();
        areas.insert(anonymous(1, 2, Protection::READ));
        areas.insert(anonymous(3, 4, Protection::READ));
        areas.insert(anonymous(2, 3, Protection::READ));
        assert_eq!(areas.len(), 1);
        areas.protect(2 * PAGE_SIZE, 3 * PAGE_SIZE, Protection::WRITE);
        assert_eq!(areas.len(), 3);
        areas.protect(2 * PAGE_SIZE, 3 * PAGE_SIZE, Protection::READ);
        assert_eq!(areas.len(), 1);
    }

    #[test]
    fn parts_of_a_memory_keep_their_offsets() {
        let memory = Memory::create(10 * PAGE_SIZE).unwrap();
        let mut areas = Areas::default();
        areas.insert(shared(10, 20, &memory, 0));
        areas.remove(12 * PAGE_SIZE, 13 * PAGE_SIZE);
        assert_eq!(areas.at(13 * PAGE_SIZE).unwrap().content.offset(), 3 * PAGE_SIZE);
        areas.insert(shared(12, 13, &memory, 2));
        assert_eq!(areas.len(), 1, "the same part fits again");
        areas.insert(shared(12, 13, &memory, 7));
        assert_eq!(areas.len(), 3, "another part does not");
    }

    #[test]
    fn an_empty_range_takes_nothing_apart() {
        let mut areas = Areas::default();
        areas.insert(anonymous(1, 4, Protection::READ));
        assert!(areas.remove(2 * PAGE_SIZE, 2 * PAGE_SIZE).is_empty());
        assert_eq!((areas.len(), areas.total_bytes()), (1, 3 * PAGE_SIZE));
    }

    #[test]
    fn the_highest_gap_that_fits_is_found() {
        let mut areas = Areas::default();
        areas.insert(anonymous(10, 12, Protection::READ));
        areas.insert(anonymous(14, 20, Protection::READ));
        let find = |pages: u64| areas.find_free(pages * PAGE_SIZE, PAGE_SIZE, 20 * PAGE_SIZE).map(|at| at / PAGE_SIZE);
        assert_eq!(find(2), Some(12));
        assert_eq!(find(3), Some(7));
        assert_eq!(find(9), Some(1));
        assert_eq!(find(10), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Map(u64, u64, u32),
        Unmap(u64, u64),
        Protect(u64, u64, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let range = (0u64..40, 1u64..7);
        prop_oneof![
            (range.clone(), 0u32..8).prop_map(|((start, length), p)| Step::Map(start, length, p)),
            range.clone().prop_map(|(start, length)| Step::Unmap(start, length)),
            (range, 0u32..8).prop_map(|((start, length), p)| Step::Protect(start, length, p)),
        ]
    }

    proptest! {
        #[test]
        fn areas_are_what_a_map_of_pages_says(steps in proptest::collection::vec(step(), 0..60), gap in 1u64..15) {
            let mut areas = Areas::default();
            let mut model: Model<u64, u32> = Model::new();
            for step in steps {
                match step {
                    Step::Map(start, length, p) => {
                        areas.insert(anonymous(start, start + length, Protection::from_bits_truncate(p)));
                        (start..start + length).for_each(|page| { model.insert(page, p); });
                    }
                    Step::Unmap(start, length) => {
                        areas.remove(start * PAGE_SIZE, (start + length) * PAGE_SIZE);
                        (start..start + length).for_each(|page| { model.remove(&page); });
                    }
                    Step::Protect(start, length, p) => {
                        let (from, to) = (start * PAGE_SIZE, (start + length) * PAGE_SIZE);
                        let covered = (start..start + length).all(|page| model.contains_key(&page));
                        prop_assert_eq!(areas.is_covered(from, to), covered);
                        areas.protect(from, to, Protection::from_bits_truncate(p));
                        (start..start + length).for_each(|page| { model.entry(page).and_modify(|old| *old = p); });
                    }
                }
                for page in 0..60 {
                    let found = areas.at(page * PAGE_SIZE).map(|area| area.protection.bits());
                    prop_assert_eq!(found, model.get(&page).copied());
                }
                let all: Vec<_> = areas.iter().collect();
                prop_assert_eq!(areas.total_bytes(), model.len() as u64 * PAGE_SIZE);
                prop_assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start && !pair[0].joins(pair[1])));
                let best = (0..=60 - gap).rev().find(|start| (*start..start + gap).all(|page| !model.contains_key(&page)));
                prop_assert_eq!(areas.find_free(gap * PAGE_SIZE, 0, 60 * PAGE_SIZE), best.map(|page| page * PAGE_SIZE));
            }
        }
    }
}
