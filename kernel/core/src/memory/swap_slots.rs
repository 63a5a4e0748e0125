//! The slots of the swap memory: who holds each, and who pays.
//!
//! A page that was swapped out stands in its overlay as a frame number that no frame has: its upper half of numbers names
//! slots. So whatever copies, moves or drops frames of overlays does the same with swapped pages, through the same
//! [`retain`](super::FrameTable::retain) and [`release`](super::FrameTable::release), and only who wants to see the page has
//! to know the difference.
//!
//! A slot that nobody holds any more is *dropped*; it is free when what the swap memory has cached of it is gone, too.
//!
//! A page that came back and has not been stored to since is the same as in its slot. So the slot is *kept* for the frame: should the page
//! go again, nothing has to be written. It is forgotten when the page is stored to or freed, or when somebody needs a slot.

use alloc::vec::Vec;

use super::Exhausted;
use crate::account::Account;
use crate::machine::Frame;
use crate::pool::Id;

/// The first number that names a slot. Frames have lower ones: the table of a machine with 8 TiB would end here.
const FIRST: u32 = 1 << 31;
/// The most slots that can be named.
pub(super) const MAX_SLOTS: u32 = FIRST - 1;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// A page of the swap memory, as it stands in overlays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SwapSlot(pub(super) u32);

impl SwapSlot {
    /// The slot that a number in an overlay names; `None` if it is a frame's.
    #[inline]
    pub(super) fn of(number: Frame) -> Option<Self> {
        number.0.checked_sub(FIRST).map(Self)
    }

    /// The number that stands in overlays for it.
    pub(super) fn number(self) -> Frame {
        Frame(FIRST | self.0)
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Free {
        next: u32,
    },
    Used {
        references: u32,
        owner: Id<Account>,
    },
    Dropped {
        next: u32,
    },
    /// For the page in a frame, which has the same content. In a list, in the order of time.
    Kept {
        frame: Frame,
        previous: u32,
        next: u32,
    },
}

/// All slots.
#[derive(Debug)]
pub(super) struct SwapSlots {
    states: Vec<State>,
    free: u32,
    dropped: u32,
    used: u64,
    /// The slot that is kept for each frame, or [`NONE`].
    kept: Vec<u32>,
    /// The first and the last of the list of slots that are kept.
    oldest: u32,
    newest: u32,
    kept_count: u64,
}

impl SwapSlots {
    /// None at all.
    pub(super) const fn new() -> Self {
        Self {
            states: Vec::new(),
            free: NONE,
            dropped: NONE,
            used: 0,
            kept: Vec::new(),
            oldest: NONE,
            newest: NONE,
            kept_count: 0,
        }
    }

    /// What so many slots cost on a machine with frames below number `frames`, in bytes.
    pub(super) const fn cost(count: u64, frames: u64) -> u64 {
        count * size_of::<State>() as u64 + frames * size_of::<u32>() as u64
    }

    /// Makes `count` slots, all free, for pages in frames below number `frames`.
    pub(super) fn make(&mut self, count: u32, frames: usize) -> Result<(), Exhausted> {
        let mut states = Vec::new();
        states.try_reserve_exact(count as usize)?;
        states.extend((1..=count).map(|next| State::Free { next: if next == count { NONE } else { next } }));
        let mut kept = Vec::new();
        kept.try_reserve_exact(frames)?;
        kept.resize(frames, NONE);
        self.free = if count == 0 { NONE } else { 0 };
        self.states = states;
        self.kept = kept;
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.states.len() as u64
    }

    /// How many hold a page.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// How many are kept for pages that came back.
    pub(super) fn kept(&self) -> u64 {
        self.kept_count
    }

    /// Takes a free slot for a page that `owner` pays for; if there is none, the one that has been kept for longest.
    pub(super) fn take(&mut self, owner: Id<Account>) -> Option<SwapSlot> {
        if let (NONE, Some(State::Kept { frame, .. })) = (self.free, self.states.get(self.oldest as usize)) {
            self.forget(*frame);
        }
        let number = self.free;
        let state = self.states.get_mut(number as usize)?;
        let State::Free { next } = *state else { return None };
        *state = State::Used { references: 1, owner };
        self.free = next;
        self.used += 1;
        Some(SwapSlot(number))
    }

    /// How many overlays' nodes hold a slot.
    pub(super) fn references(&self, slot: SwapSlot) -> u32 {
        match self.states.get(slot.0 as usize) {
            Some(State::Used { references, .. }) => *references,
            Some(State::Free { .. } | State::Dropped { .. } | State::Kept { .. }) | None => 0,
        }
    }

    pub(super) fn retain(&mut self, slot: SwapSlot) {
        if let Some(State::Used { references, .. }) = self.states.get_mut(slot.0 as usize) {
            *references = references.saturating_add(1);
        }
    }

    /// Drops a reference; with the last, the slot is dropped, and who paid for it is told.
    pub(super) fn release(&mut self, slot: SwapSlot) -> Option<Id<Account>> {
        let State::Used { references, owner } = self.states.get_mut(slot.0 as usize)? else { return None };
        match *references {
            u32::MAX => None,
            0 | 1 => {
                let owner = *owner;
                self.states[slot.0 as usize] = State::Dropped { next: self.dropped };
                self.dropped = slot.0;
                self.used -= 1;
                Some(owner)
            }
            more => {
                *references = more - 1;
                None
            }
        }
    }

    /// A slot that was dropped, to be freed when the swap memory has forgotten it.
    pub(super) fn next_dropped(&mut self) -> Option<SwapSlot> {
        let number = self.dropped;
        let State::Dropped { next } = *self.states.get(number as usize)? else { return None };
        self.dropped = next;
        Some(SwapSlot(number))
    }

    /// Whether there are slots to be freed.
    #[cfg(test)]
    pub(super) fn has_dropped(&self) -> bool {
        self.dropped != NONE
    }

    /// Puts a slot back that can't be freed yet.
    pub(super) fn drop_again(&mut self, slot: SwapSlot) {
        self.states[slot.0 as usize] = State::Dropped { next: self.dropped };
        self.dropped = slot.0;
    }

    /// Frees a slot of which nothing is left. Tells who paid, if somebody still held it.
    pub(super) fn free(&mut self, slot: SwapSlot) -> Option<Id<Account>> {
        let owner = self.let_go(slot);
        *self.states.get_mut(slot.0 as usize)? = State::Free { next: self.free };
        self.free = slot.0;
        owner
    }

    /// Keeps a slot for the page that has come back from it to a frame. Tells who paid.
    pub(super) fn keep(&mut self, slot: SwapSlot, frame: Frame) -> Option<Id<Account>> {
        let Some(kept) = self.kept.get_mut(frame.0 as usize) else { return self.free(slot) };
        *kept = slot.0;
        let owner = self.let_go(slot);
        match self.states.get_mut(self.newest as usize) {
            Some(State::Kept { next, .. }) => *next = slot.0,
            Some(State::Free { .. } | State::Used { .. } | State::Dropped { .. }) | None => self.oldest = slot.0,
        }
        *self.states.get_mut(slot.0 as usize)? = State::Kept { frame, previous: self.newest, next: NONE };
        self.newest = slot.0;
        self.kept_count += 1;
        owner
    }

    /// The slot that is kept for the page in a frame.
    #[inline]
    pub(super) fn kept_for(&self, frame: Frame) -> Option<SwapSlot> {
        self.kept.get(frame.0 as usize).filter(|slot| **slot != NONE).map(|slot| SwapSlot(*slot))
    }

    /// The page in a frame is stored to, or freed: what is in the slot that was kept for it is no page any more.
    #[inline]
    pub(super) fn forget(&mut self, frame: Frame) {
        if self.kept_for(frame).is_some() {
            self.forget_kept(frame);
        }
    }

    #[cold]
    fn forget_kept(&mut self, frame: Frame) {
        if let Some(slot) = self.take_kept(frame) {
            self.states[slot.0 as usize] = State::Free { next: self.free };
            self.free = slot.0;
        }
    }

    /// The page in a frame goes back to the slot that was kept for it; `owner` pays.
    pub(super) fn return_to_kept(&mut self, frame: Frame, owner: Id<Account>) -> Option<SwapSlot> {
        let slot = self.take_kept(frame)?;
        self.states[slot.0 as usize] = State::Used { references: 1, owner };
        self.used += 1;
        Some(slot)
    }

    /// Takes the slot that is kept for a frame out of the list.
    fn take_kept(&mut self, frame: Frame) -> Option<SwapSlot> {
        let slot = self.kept_for(frame)?;
        let State::Kept { previous, next, .. } = *self.states.get(slot.0 as usize)? else { return None };
        match self.states.get_mut(previous as usize) {
            Some(State::Kept { next: link, .. }) => *link = next,
            Some(State::Free { .. } | State::Used { .. } | State::Dropped { .. }) | None => self.oldest = next,
        }
        match self.states.get_mut(next as usize) {
            Some(State::Kept { previous: link, .. }) => *link = previous,
            Some(State::Free { .. } | State::Used { .. } | State::Dropped { .. }) | None => self.newest = previous,
        }
        self.kept[frame.0 as usize] = NONE;
        self.kept_count -= 1;
        Some(slot)
    }

    /// Nobody holds a slot any more. Tells who paid.
    fn let_go(&mut self, slot: SwapSlot) -> Option<Id<Account>> {
        match *self.states.get(slot.0 as usize)? {
            State::Used { owner, .. } => {
                self.used -= 1;
                Some(owner)
            }
            State::Free { .. } | State::Dropped { .. } | State::Kept { .. } => None,
        }
    }

    /// Those in use: slot, references, who pays.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (SwapSlot, u32, Id<Account>)> {
        self.states.iter().zip(0u32..).filter_map(|(state, number)| match state {
            State::Used { references, owner } => Some((SwapSlot(number), *references, *owner)),
            State::Free { .. } | State::Dropped { .. } | State::Kept { .. } => None,
        })
    }

    /// Those that are kept, with the frames that they are kept for.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn iter_kept(&self) -> impl Iterator<Item = (SwapSlot, Frame)> {
        self.kept
            .iter()
            .zip(0u32..)
            .filter(|(slot, _)| **slot != NONE)
            .map(|(slot, frame)| (SwapSlot(*slot), Frame(frame)))
    }
}
