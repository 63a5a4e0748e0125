//! Swap: private pages that go to a managed memory, and come back.
//!
//! There is no swap code that does I/O. One managed memory is *the swap memory*; its pager knows nothing of processes. To swap
//! a private page out is to move its frame into that memory's cache, as a dirty page, and to leave the number of the page there
//! in its place ([`SwapSlot`]). From then on it is a cached page like any other: written back, dropped when it is clean, asked for
//! again. Who touches the address finds the number, and gets the frame back from the cache, or waits for the pager as for
//! any other page.
//!
//! To make a frame free takes frames: the pager needs some to read into, and page tables. The last free ones are kept for it: whoever
//! loses pages to swap can't have them.
//!
//! A page goes only if its overlay has it alone: then no other space shows it. It stays charged to whoever it belongs to, wherever it
//! lies; the frame in the cache is charged to the swap memory's account.

use super::MemorySystem;
use super::cache::CachedPage;
use super::error::{Absent, Exhausted, FaultError, MemoryError};
use super::fault::FaultKind;
use super::object::Memory;
use super::overlay::Page;
use super::reclaim::Reclaimed;
use super::space::{END_PAGE, FIRST_PAGE, Space};
use super::swap_slots::{MAX_SLOTS, SwapSlot, SwapSlots};
use super::tables::{self, Change};
use crate::account::{Account, Resource};
use crate::machine::{Frame, Machine};
use crate::pool::Id;

/// One frame in so many may be on its way to the swap memory's pager; more would free nothing sooner.
const UNDER_WAY_SHARE: u64 = 8;
/// One frame in so many is kept for those who make frames free: the swap memory's pager, and whom it works with.
const RESERVED_SHARE: u64 = 128;
/// Slots for each frame, at most: a memory of any size can be named, and the slots are made at once.
const MOST_SLOTS_PER_FRAME: u64 = 16;
/// How many slots that nobody holds any more are looked at together.
const DROPPED_TOGETHER: u32 = 64;

/// Where private pages go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swap {
    memory: Id<Memory>,
    /// How many pages went there, and came back.
    out_pages: u64,
    in_pages: u64,
    /// Only spaces that this account or one below it pays for lose pages.
    within: Id<Account>,
}

/// What became of a page that was to be swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwappedOut {
    /// It stays.
    No,
    /// Its frame is free when the pager has written it.
    Sent,
    /// It was there already, and its frame is free.
    Gone,
}

/// How much is swapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapInfo {
    /// Pages that fit.
    pub total_pages: u64,
    /// Pages that are there.
    pub used_pages: u64,
    /// Pages that came back, and still have a place there.
    pub kept_pages: u64,
    /// Pages that went there since the start, and those that came back.
    pub out_pages: u64,
    /// See `out_pages`.
    pub in_pages: u64,
}

impl MemorySystem {
    /// Lets private pages of the spaces that `within` or an account below it pays for go to a managed memory. For good.
    ///
    /// # Errors
    /// [`MemoryError::BadState`] if the memory is not managed, or there is a swap memory already; else exhaustion: the
    /// memory's account pays for the slots.
    pub fn set_swap(&mut self, memory: Id<Memory>, within: Id<Account>) -> Result<(), MemoryError> {
        if self.swap.is_some() || self.managed(memory).is_none() {
            return Err(MemoryError::BadState);
        }
        let useful = self.frames.total().saturating_mul(MOST_SLOTS_PER_FRAME).min(MAX_SLOTS.into());
        let pages = self.memories[memory].pages().min(useful) as u32;
        let (account, bytes) = (self.memories[memory].account, SwapSlots::cost(pages.into(), self.frames.end()));
        self.accounts.charge(account, Resource::KernelBytes, bytes).map_err(Exhausted::from)?;
        if let Err(exhausted) = self.frames.make_swap(pages) {
            self.accounts.credit(account, Resource::KernelBytes, bytes);
            return Err(exhausted.into());
        }
        self.retain_memory(memory);
        self.accounts.retain(within);
        self.swap = Some(Swap { memory, out_pages: 0, in_pages: 0, within });
        self.frames.keep_reserve(self.frames.total() / RESERVED_SHARE, within);
        Ok(())
    }

    /// How much is swapped.
    pub fn swap_info(&self) -> SwapInfo {
        let swap = &self.frames.swap;
        let (out_pages, in_pages) = self.swap.map_or((0, 0), |swap| (swap.out_pages, swap.in_pages));
        SwapInfo { total_pages: swap.len(), used_pages: swap.used(), kept_pages: swap.kept(), out_pages, in_pages }
    }

    /// The swap memory.
    pub fn swap_memory(&self) -> Option<Id<Memory>> {
        self.swap.map(|swap| swap.memory)
    }

    /// Sends private pages that were not used for a while on their way; up to `target`. Frames get free when they have been
    /// written back.
    pub(super) fn swap_some(&mut self, m: &mut impl Machine, target: u64, steps: u32) -> Reclaimed {
        self.forget_dropped();
        let Some(Swap { memory, within, .. }) = self.swap else { return Reclaimed::NOTHING };
        let (mut sent, mut freed) = (0, 0);
        let under_way = self.frames.total() / UNDER_WAY_SHARE;
        for _ in 0..steps {
            let unwritten = self.managed(memory).map_or(u64::MAX, |managed| managed.cache.counts().unwritten);
            if sent + freed >= target || unwritten >= under_way {
                break;
            }
            let Some((id, space)) = self.spaces.next_from(self.space_hand.memory) else {
                self.space_hand = Default::default();
                break;
            };
            if id.index() != self.space_hand.memory {
                self.space_hand.turn_to(id.index());
            }
            let swappable = self.accounts.is_within(space.account, within);
            let from = self.space_hand.page.max(FIRST_PAGE);
            match space.private.next(&self.nodes, from, END_PAGE).filter(|_| swappable) {
                None => self.space_hand.turn_to(id.index().saturating_add(1)),
                Some((page, number)) => {
                    self.space_hand.page = page + 1;
                    let is_here = SwapSlot::of(number).is_none();
                    if is_here && !m.take_accessed(self.spaces[id].root, page) {
                        match self.swap_out(m, id, page) {
                            Ok(SwappedOut::Sent) => sent += 1,
                            Ok(SwappedOut::Gone) => freed += 1,
                            Ok(SwappedOut::No) => {}
                            Err(Exhausted::NoMemory | Exhausted::AccountLimit) => break,
                        }
                    }
                }
            }
        }
        Reclaimed { frames: freed, asked: sent != 0 }
    }

    /// Sends one private page away, if its space has it alone and there is a slot. Changes nothing otherwise.
    pub(super) fn swap_out(&mut self, m: &mut impl Machine, id: Id<Space>, page: u64) -> Result<SwappedOut, Exhausted> {
        let Some(Swap { memory, .. }) = self.swap else { return Ok(SwappedOut::No) };
        let space = &self.spaces[id];
        let Page::Owned(frame) = space.private.page(&self.nodes, &self.frames, page) else { return Ok(SwappedOut::No) };
        let Some(owner) = self.frames.owner(frame).filter(|_| CachedPage::can_hold(frame)) else {
            return Ok(SwappedOut::No);
        };
        if let Some(slot) = self.frames.swap.return_to_kept(frame, owner) {
            self.put_slot(m, id, page, (slot, frame));
            // Whoever pays for the frame pays for the slot instead.
            self.frames.release(&mut self.accounts, frame);
            let paid = self.accounts.charge(owner, Resource::Frames, 1);
            debug_assert_eq!(paid, Ok(()));
            return Ok(SwappedOut::Gone);
        }
        let Some(slot) = self.frames.swap.take(owner) else { return Ok(SwappedOut::No) };
        let at = u64::from(slot.0);
        if let Err(exhausted) = self.hand_over(memory, at, frame) {
            self.frames.swap.free(slot);
            return Err(exhausted);
        }
        self.put_slot(m, id, page, (slot, frame));
        self.change_state(memory, at, CachedPage::Dirty(frame));
        self.request_writeback(memory, at, at + 1);
        Ok(SwappedOut::Sent)
    }

    /// Puts a slot in the place of a page that a space has alone, and breaks the entry that shows the page.
    fn put_slot(&mut self, m: &mut impl Machine, id: Id<Space>, page: u64, (slot, frame): (SwapSlot, Frame)) {
        let Space { root, account, .. } = self.spaces[id];
        tables::change(m, self.table_store(account), root, (page, page + 1), Change::BREAK);
        if let Some(swap) = &mut self.swap {
            swap.out_pages += 1;
        }
        let (mut stores, _, spaces) = self.parts();
        // The path is the overlay's alone, so no node is needed; what stood there is the caller's now.
        let replaced = spaces[id].private.insert(&mut stores, account, page, slot.number());
        debug_assert_eq!(replaced, Ok(Some(frame)));
    }

    /// Makes room for a page in the swap memory's cache, whose account pays for the frame from now on; the slot is paid for by
    /// whoever paid for the frame.
    fn hand_over(&mut self, memory: Id<Memory>, at: u64, frame: Frame) -> Result<(), Exhausted> {
        self.set_page(memory, at, CachedPage::Requested)?;
        let account = self.memories[memory].account;
        if let Err(exhausted) = self.frames.pass_on(&mut self.accounts, frame, account) {
            self.change_state(memory, at, CachedPage::Missing);
            return Err(exhausted);
        }
        Ok(())
    }

    /// Gets a swapped page back for a space: its frame if nobody else has the page, else a copy. Returns the frame, and what
    /// stood in its place, to be let go of when the new page is shown. What is only read, and is as it was written, keeps its slot.
    pub(super) fn swap_in(
        &mut self,
        m: &mut impl Machine,
        id: Id<Space>,
        page: u64,
        (slot, alone): (SwapSlot, bool),
        kind: FaultKind,
    ) -> Result<(Frame, Option<Frame>), FaultError> {
        let Some(Swap { memory, .. }) = self.swap else { return Err(FaultError::Revoked) };
        let at = u64::from(slot.0);
        let state = self.cached(memory, at);
        let Some(frame) = state.frame() else {
            return Err(FaultError::NotPresent(Absent { memory, page: at }));
        };
        if let Some(swap) = &mut self.swap {
            swap.in_pages += 1;
        }
        let account = self.spaces[id].account;
        let is_written = match state {
            CachedPage::WritingBack(_) | CachedPage::WritingBackDirtied(_) => true,
            CachedPage::Missing
            | CachedPage::Wanted
            | CachedPage::Requested
            | CachedPage::Clean(_)
            | CachedPage::Dirty(_) => false,
        };
        // The pager still reads what it is writing; the slot waits for it, the space does not.
        if alone && !is_written {
            self.change_state(memory, at, CachedPage::Missing);
            let is_same = matches!(state, CachedPage::Clean(_)) && kind != FaultKind::Write;
            let paid = if is_same { self.frames.swap.keep(slot, frame) } else { self.frames.swap.free(slot) };
            if let Some(owner) = paid {
                self.frames.take_over(&mut self.accounts, frame, owner);
            }
            let (mut stores, _, spaces) = self.parts();
            let replaced = spaces[id].private.insert(&mut stores, account, page, frame);
            debug_assert_eq!(replaced, Ok(Some(slot.number())));
            return Ok((frame, None));
        }
        let copy = self.new_frame(m, account, Some(frame))?;
        let (mut stores, _, spaces) = self.parts();
        match spaces[id].private.insert(&mut stores, account, page, copy) {
            Ok(replaced) => Ok((copy, replaced)),
            Err(exhausted) => {
                stores.frames.release(stores.accounts, copy);
                Err(exhausted.into())
            }
        }
    }

    /// Undoes [`MemorySystem::set_swap`] when no page is swapped any more.
    #[cfg(test)]
    pub(crate) fn end_swap(&mut self) {
        let Some(Swap { memory, within, .. }) = self.swap else { return };
        let mut at = 0;
        while at < super::overlay::MAX_PAGES {
            at = self.fail_pages(memory, at, super::overlay::MAX_PAGES);
        }
        while self.frames.swap.has_dropped() {
            self.forget_dropped();
        }
        assert_eq!(self.swap_info().used_pages, 0, "somebody's pages are still swapped");
        self.swap = None;
        let bytes = SwapSlots::cost(self.frames.swap.len(), self.frames.end());
        self.accounts.credit(self.memories[memory].account, Resource::KernelBytes, bytes);
        self.frames.swap = SwapSlots::new();
        self.frames.keep_reserve(0, within);
        self.accounts.release(within);
        self.release_memory(memory);
    }

    /// Frees slots that nobody holds any more, with what is cached of them.
    pub(super) fn forget_dropped(&mut self) {
        let Some(Swap { memory, .. }) = self.swap else { return };
        for _ in 0..DROPPED_TOGETHER {
            let Some(slot) = self.frames.swap.next_dropped() else { return };
            let at = u64::from(slot.0);
            match self.cached(memory, at) {
                // The pager is writing it; what it says when it is done must not be about another page.
                CachedPage::WritingBack(_) | CachedPage::WritingBackDirtied(_) => {
                    return self.frames.swap.drop_again(slot);
                }
                CachedPage::Requested => return self.frames.swap.drop_again(slot),
                CachedPage::Missing | CachedPage::Wanted => self.change_state(memory, at, CachedPage::Missing),
                CachedPage::Clean(frame) | CachedPage::Dirty(frame) => {
                    self.change_state(memory, at, CachedPage::Missing);
                    self.frames.release(&mut self.accounts, frame);
                }
            }
            self.frames.swap.free(slot);
        }
    }
}
