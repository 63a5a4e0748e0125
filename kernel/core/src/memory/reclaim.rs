//! Taking memory back: which cached pages go when frames run short.
//!
//! A hand goes round over the managed memories and their clean pages. A page that was used since the hand last came by is
//! passed once more; one that was not is dropped, at the cost of asking its pager for it again. *Used* is what the
//! processor notes in page-table entries (Intel SDM vol. 3A, 4.8) and what the kernel notes when it copies for somebody; a page that
//! has just been supplied counts as used. So a page has between one and two rounds to be used in, which is enough to tell what
//! is read again and again from what is read once.
//!
//! Dirty pages can't be dropped. Where the hand finds no clean ones it asks for the writeback of the dirty, so that the next
//! round does. Nothing here allocates.

use super::MemorySystem;
use super::error::Absent;
use super::managed::{Managed, PRESSED_SHARE, Presence};
use super::nodes::Mark;
use super::object::Memory;
use super::overlay::MAX_PAGES;
use crate::machine::Machine;
use crate::pool::Id;

/// One frame in so many is kept free, for those who can't wait.
const KEPT_FREE: u64 = 64;
/// How many memories and pages one turn of the hand looks at, at most: the kernel lock is held meanwhile.
const MAX_STEPS: u32 = 512;

/// Where the hand is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hand {
    /// The place of the memory (or space) in its pool.
    pub(super) memory: u32,
    pub(super) page: u64,
}

impl Hand {
    /// Goes to the first page of another.
    pub(super) fn turn_to(&mut self, memory: u32) {
        *self = Self { memory, page: 0 };
    }
}

/// What a turn of the hand did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Frames that are free now.
    pub frames: u64,
    /// Writeback has been asked for: pagers have to be told.
    pub asked: bool,
}

impl Reclaimed {
    /// Nothing was done.
    pub(super) const NOTHING: Self = Self { frames: 0, asked: false };
}

impl MemorySystem {
    /// How many frames should be free that are not.
    #[inline]
    pub fn shortage(&self) -> u64 {
        (self.frames.total() / KEPT_FREE).saturating_sub(self.frames.free())
    }

    /// Whether there is anything that could be dropped or written back.
    #[inline(always)]
    pub fn has_cache(&self) -> bool {
        self.cached.resident != 0 || self.swap.is_some()
    }

    /// A page whose writeback will make a frame free, if there is one: something to wait for when there is none.
    pub fn page_under_way(&self) -> Option<Absent> {
        if self.cached.unwritten == 0 {
            return None;
        }
        let of = |id| Some(Absent { memory: id, page: self.next_unwritten(id, 0, MAX_PAGES)? });
        // A pager that is gone for good writes nothing any more.
        let is_written =
            |id: &Id<Memory>| self.managed(*id).is_some_and(|managed| managed.presence() != Presence::Gone);
        self.swap_memory().filter(is_written).and_then(of).or_else(|| {
            let present = |managed: &Managed| managed.presence() == Presence::Present;
            self.memories.iter().filter(|(id, _)| self.managed(*id).is_some_and(present)).find_map(|(id, _)| of(id))
        })
    }

    /// Frees up to `target` frames, without waiting for anybody: first what nobody used since the last round, of cached and of
    /// private pages alike; then of what is left.
    pub fn reclaim(&mut self, m: &mut impl Machine, target: u64) -> Reclaimed {
        let mut done = Reclaimed::NOTHING;
        for _ in 0..2 {
            let cached = self.drop_cached(m, target - done.frames);
            done.frames += cached.frames;
            done.asked |= cached.asked;
            if done.frames >= target {
                break;
            }
            let sent = self.swap_some(m, target - done.frames, MAX_STEPS);
            done.asked |= sent.asked;
        }
        done
    }

    /// One round of the hand over the cached pages at most.
    fn drop_cached(&mut self, m: &mut impl Machine, target: u64) -> Reclaimed {
        let mut done = Reclaimed::NOTHING;
        let mut passed_the_end = false;
        for _ in 0..MAX_STEPS {
            if done.frames >= target {
                break;
            }
            let Some((id, _)) = self.memories.next_from(self.hand.memory) else {
                self.hand = Hand::default();
                if passed_the_end {
                    break;
                }
                passed_the_end = true;
                continue;
            };
            if id.index() != self.hand.memory {
                self.hand.turn_to(id.index());
            }
            match self.next_clean(id, self.hand.page) {
                Some(page) => {
                    self.hand.page = page + 1;
                    if !self.take_used(m, id, page) {
                        self.invalidate_pages(m, id, page, page + 1);
                        done.frames += 1;
                    }
                }
                None => {
                    done.asked |= self.ask_for_clean(id);
                    self.hand.turn_to(id.index().saturating_add(1));
                }
            }
        }
        done
    }

    fn next_clean(&self, id: Id<Memory>, from: u64) -> Option<u64> {
        if self.memories[id].pins != 0 {
            return None;
        }
        let managed = self.managed(id)?;
        managed.cache.next_marked(&self.nodes, Mark::Clean, from, MAX_PAGES).map(|(page, _)| page)
    }

    /// Has the dirty pages of a memory written back, if there are any; tells whether.
    fn ask_for_clean(&mut self, id: Id<Memory>) -> bool {
        let dirty = self.managed(id).is_some_and(|managed| managed.cache.counts().unwritten != 0);
        if dirty {
            self.request_writeback(id, 0, MAX_PAGES);
        }
        dirty
    }

    /// Whether a cached page was used since this was last asked.
    fn take_used(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64) -> bool {
        let mut used = self.take_recent(id, page);
        used |= self.take_accessed(m, id, page);
        let mut at = id;
        while let Some(window) = self.next_window(id, at) {
            at = window;
            if let Some((first, _)) = self.part_in_window(window, (page, page + 1)) {
                used |= self.take_accessed(m, window, first);
            }
        }
        used
    }

    /// Whether a processor used a page through one of a memory's own mappings; forgets it.
    fn take_accessed(&mut self, m: &mut impl Machine, id: Id<Memory>, page: u64) -> bool {
        let mut used = false;
        let mut cursor = self.memories[id].mappings;
        while let Some(place) = cursor {
            let space = &self.spaces[place.space];
            cursor = space.regions.link(place.slot).next;
            let (start, end) = space.regions.region(place.slot).shown(page, page + 1);
            used |= start < end && m.take_accessed(space.root, start);
        }
        used
    }

    // ---- dirty pages -----------------------------------------------------------------------------------------------

    /// Pages of all managed memories with stores that no pager has.
    #[inline]
    pub fn unwritten_pages(&self) -> u64 {
        self.cached.unwritten
    }

    /// Pages of all managed memories that have frames.
    pub fn cached_pages(&self) -> u64 {
        self.cached.resident
    }

    /// Pages of all managed memories that pagers are writing back.
    pub fn writing_pages(&self) -> u64 {
        self.cached.writing
    }

    /// Asks for the writeback of memories that have been dirty since the last but one time, or of all if much is dirty. To be called
    /// every now and then while something is. Tells whether pagers have to be told.
    pub fn age_dirty(&mut self) -> bool {
        let much = self.cached.unwritten > self.frames.total() / PRESSED_SHARE / 2;
        let mut asked = false;
        let mut index = 0;
        while let Some((id, _)) = self.memories.next_from(index) {
            index = id.index().saturating_add(1);
            if self.grow_old(id) || much {
                asked |= self.ask_for_clean(id);
            }
        }
        asked
    }
}
