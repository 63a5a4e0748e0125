//! The frame table: one record for every frame of RAM.
//!
//! A frame is *reserved* (not RAM, or taken before the kernel started), *free*, or *used* with a reference count and the
//! account that pays for it. The free frames form a doubly linked list threaded through the table, so that taking any,
//! taking a particular one (for contiguous runs) and giving back are all O(1) and need no memory.
//!
//! Whoever holds a reference says so by [`FrameTable::retain`] and [`FrameTable::release`]: slots of overlay nodes, the
//! page-table entries that point at a table, owners of contiguous memory. Page-table entries that show a *page* hold none.

use alloc::vec::Vec;

use super::Exhausted;
use super::swap_slots::{SwapSlot, SwapSlots};
use crate::account::{Account, Accounts, Resource};
use crate::machine::{Frame, Machine};
use crate::pool::Id;

/// The end of a list in the frame table. Not a frame number: the table has at most this many entries.
const NONE: u32 = u32::MAX;

/// What the table knows of one frame.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Not the frame table's to give away.
    Reserved,
    /// In the free list.
    Free { previous: u32, next: u32 },
    /// Somebody's. A count at `u32::MAX` sticks: the frame is then never freed, which is safe. `below` is, of a page table above
    /// the lowest level, how many tables it leads to; of a page, how many of the references are devices' (pins).
    Used { references: u32, below: u16, owner: Id<Account> },
    /// A page table that nothing refers to any more, waiting for the processors to forget it.
    Retired { next: u32, owner: Id<Account> },
}

/// Page tables taken out of a tree, to be freed once no processor can have them cached.
#[derive(Debug)]
#[must_use = "retired tables must be freed after the invalidation"]
pub(super) struct Retired {
    head: u32,
}

impl Retired {
    /// No table.
    pub(super) const fn new() -> Self {
        Self { head: NONE }
    }
}

/// The records of all frames.
#[derive(Debug)]
pub struct FrameTable {
    states: Vec<State>,
    free_list: u32,
    free: u64,
    total: u64,
    /// Pages that have no frame at present.
    pub(super) swap: SwapSlots,
    /// The last free frames, which some may not have.
    reserve: Option<Reserve>,
}

/// Frames that are kept for those on whose work others' memory depends.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    frames: u64,
    /// Whoever this account or one below it pays for does without them.
    not_for: Id<Account>,
}

impl FrameTable {
    /// A table for the frames below number `end`, all of them reserved. Takes 16 bytes per frame.
    ///
    /// # Errors
    /// [`Exhausted::NoMemory`] when the heap can't hold it.
    pub fn new(end: Frame) -> Result<Self, Exhausted> {
        let count = end.0 as usize;
        let mut states = Vec::new();
        states.try_reserve_exact(count)?;
        states.resize(count, State::Reserved);
        Ok(Self { states, free_list: NONE, free: 0, total: 0, swap: SwapSlots::new(), reserve: None })
    }

    /// Gives the table `count` frames from `first` on to hand out. Those that it has been given before, those beyond
    /// its end, and frame 0 (whose number means "none" in overlays) are passed over.
    pub fn add(&mut self, first: Frame, count: u32) {
        for number in first.0.max(1)..first.0.saturating_add(count) {
            match self.states.get(number as usize) {
                Some(State::Reserved) => {
                    self.total += 1;
                    self.push_free(number);
                }
                Some(State::Free { .. } | State::Used { .. } | State::Retired { .. }) | None => {}
            }
        }
    }

    /// Counts `count` frames from `first` on, which the table was not given, as used by `owner` for good: what the kernel
    /// took before there was a table. Those beyond the table's end are passed over.
    pub(super) fn occupy(&mut self, accounts: &mut Accounts, owner: Id<Account>, first: Frame, count: u32) {
        for number in first.0..first.0.saturating_add(count) {
            if let Some(state @ State::Reserved) = self.states.get_mut(number as usize)
                && accounts.charge(owner, Resource::Frames, 1).is_ok()
            {
                *state = State::Used { references: 1, below: 0, owner };
                self.total += 1;
            }
        }
    }

    /// The frames that were ever given to the table, or counted as the kernel's own.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The frames that are free.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Takes a frame with one reference and *whatever bytes it last held*: the caller fills all of it before anybody
    /// else can see it.
    ///
    /// # Errors
    /// [`Exhausted::AccountLimit`] if `owner` can't pay, [`Exhausted::NoMemory`] if no frame is free.
    pub fn allocate_unfilled(&mut self, accounts: &mut Accounts, owner: Id<Account>) -> Result<Frame, Exhausted> {
        let number = self.free_list;
        if number == NONE || self.is_reserved_from(accounts, owner) {
            return Err(Exhausted::NoMemory);
        }
        accounts.charge(owner, Resource::Frames, 1)?;
        self.take(number, owner);
        Ok(Frame(number))
    }

    /// The number after that of the last frame.
    pub(super) fn end(&self) -> u64 {
        self.states.len() as u64
    }

    /// Makes `count` slots of a swap memory.
    ///
    /// # Errors
    /// [`Exhausted::NoMemory`] when the heap can't hold them.
    pub(super) fn make_swap(&mut self, count: u32) -> Result<(), Exhausted> {
        self.swap.make(count, self.states.len())
    }

    /// Keeps the last `frames` free frames from those whom `not_for` or an account below it pays for.
    pub(super) fn keep_reserve(&mut self, frames: u64, not_for: Id<Account>) {
        self.reserve = Some(Reserve { frames, not_for });
    }

    #[inline]
    fn is_reserved_from(&self, accounts: &Accounts, owner: Id<Account>) -> bool {
        self.reserve
            .is_some_and(|Reserve { frames, not_for }| self.free <= frames && accounts.is_within(owner, not_for))
    }

    /// Takes a frame full of zeros, with one reference.
    ///
    /// # Errors
    /// As [`FrameTable::allocate_unfilled`].
    pub fn allocate(
        &mut self,
        m: &mut impl Machine,
        accounts: &mut Accounts,
        owner: Id<Account>,
    ) -> Result<Frame, Exhausted> {
        let frame = self.allocate_unfilled(accounts, owner)?;
        m.zero_frame(frame);
        Ok(frame)
    }

    /// Takes `count` adjacent frames full of zeros, each with one reference, the lowest that there are. The table is
    /// searched from the bottom: this is for devices and the kernel's heap, not for pages.
    ///
    /// # Errors
    /// As [`FrameTable::allocate_unfilled`]; also [`Exhausted::NoMemory`] if no run is long enough.
    pub fn allocate_run(
        &mut self,
        m: &mut impl Machine,
        accounts: &mut Accounts,
        owner: Id<Account>,
        count: u32,
    ) -> Result<Frame, Exhausted> {
        let first = self.find_run(count).ok_or(Exhausted::NoMemory)?;
        accounts.charge(owner, Resource::Frames, u64::from(count))?;
        for number in first..first + count {
            self.take(number, owner);
            m.zero_frame(Frame(number));
        }
        Ok(Frame(first))
    }

    /// Adds a reference. Frames that the table does not manage (devices, the boot archive) are not counted.
    #[inline]
    pub fn retain(&mut self, frame: Frame) {
        if let Some(State::Used { references, .. }) = self.states.get_mut(frame.0 as usize) {
            *references = references.saturating_add(1);
        } else if let Some(slot) = SwapSlot::of(frame) {
            self.swap.retain(slot);
        }
    }

    /// Drops a reference; the last one frees the frame and credits its account. No mapping may show it any more.
    pub fn release(&mut self, accounts: &mut Accounts, frame: Frame) {
        self.release_all(accounts, core::iter::once(frame));
    }

    /// [`FrameTable::release`] for many, crediting once for each run that one account paid for.
    pub(super) fn release_all(&mut self, accounts: &mut Accounts, frames: impl Iterator<Item = Frame>) {
        let mut run: Option<(Id<Account>, u64)> = None;
        for frame in frames {
            let owner = match SwapSlot::of(frame) {
                Some(slot) => self.swap.release(slot),
                None => self.drop_reference(frame).inspect(|_| self.free_page(frame)),
            };
            let Some(owner) = owner else { continue };
            run = match run {
                Some((payer, count)) if payer == owner => Some((payer, count + 1)),
                Some((payer, count)) => {
                    credit(accounts, payer, count);
                    Some((owner, 1))
                }
                None => Some((owner, 1)),
            };
        }
        if let Some((payer, count)) = run {
            credit(accounts, payer, count);
        }
    }

    /// Lets another account pay for a frame, too: whoever paid until now goes on paying for something in its place.
    ///
    /// # Errors
    /// [`Exhausted::AccountLimit`] if it can't; nothing has changed then.
    pub(super) fn pass_on(
        &mut self,
        accounts: &mut Accounts,
        frame: Frame,
        payer: Id<Account>,
    ) -> Result<(), Exhausted> {
        let Some(State::Used { owner, .. }) = self.states.get_mut(frame.0 as usize) else { return Ok(()) };
        accounts.charge(payer, Resource::Frames, 1)?;
        *owner = payer;
        Ok(())
    }

    /// The reverse: `payer`, who has paid for something in its place, pays for the frame again.
    pub(super) fn take_over(&mut self, accounts: &mut Accounts, frame: Frame, payer: Id<Account>) {
        let Some(State::Used { owner, .. }) = self.states.get_mut(frame.0 as usize) else { return };
        let previous = core::mem::replace(owner, payer);
        credit(accounts, previous, 1);
    }

    /// Lets another account pay for a frame that is in use.
    ///
    /// # Errors
    /// [`Exhausted::AccountLimit`] if it can't; nothing has changed then.
    pub(super) fn charge_to(
        &mut self,
        accounts: &mut Accounts,
        frame: Frame,
        payer: Id<Account>,
    ) -> Result<(), Exhausted> {
        let Some(State::Used { owner, .. }) = self.states.get_mut(frame.0 as usize) else { return Ok(()) };
        if *owner != payer {
            accounts.charge(payer, Resource::Frames, 1)?;
            let previous = core::mem::replace(owner, payer);
            credit(accounts, previous, 1);
        }
        Ok(())
    }

    /// How many hold the frame; 0 if the table does not count it.
    #[inline]
    pub fn references(&self, frame: Frame) -> u32 {
        match self.states.get(frame.0 as usize) {
            Some(State::Used { references, .. }) => *references,
            Some(State::Reserved | State::Free { .. } | State::Retired { .. }) => 0,
            None => SwapSlot::of(frame).map_or(0, |slot| self.swap.references(slot)),
        }
    }

    /// The account that pays for the frame, if it is in use.
    pub fn owner(&self, frame: Frame) -> Option<Id<Account>> {
        match self.states.get(frame.0 as usize)? {
            State::Used { owner, .. } => Some(*owner),
            State::Reserved | State::Free { .. } | State::Retired { .. } => None,
        }
    }

    /// Whether the table manages none of the frames from `first` to before `end`.
    pub(super) fn is_reserved(&self, first: Frame, end: Frame) -> bool {
        let len = self.states.len();
        let range = (first.0 as usize).min(len)..(end.0 as usize).min(len);
        self.states[range].iter().all(|state| match state {
            State::Reserved => true,
            State::Free { .. } | State::Used { .. } | State::Retired { .. } => false,
        })
    }

    /// The frames in use.
    pub fn used(&self) -> impl Iterator<Item = (Frame, u32, Id<Account>)> {
        self.states.iter().zip(0u32..).filter_map(|(state, number)| match state {
            State::Used { references, owner, .. } => Some((Frame(number), *references, *owner)),
            State::Reserved | State::Free { .. } | State::Retired { .. } => None,
        })
    }

    /// Adds a reference to a page for a device, which goes on using the frame whatever becomes of the page. Tells whether the frame
    /// could be pinned once more.
    #[must_use]
    pub(super) fn pin(&mut self, frame: Frame) -> bool {
        match self.states.get_mut(frame.0 as usize) {
            Some(State::Used { references, below, .. }) if *below < u16::MAX && *references < u32::MAX - 1 => {
                *below += 1;
                *references += 1;
                true
            }
            Some(State::Used { .. } | State::Reserved | State::Free { .. } | State::Retired { .. }) | None => false,
        }
    }

    /// Takes one [`FrameTable::pin`] of each of these back.
    pub(super) fn unpin_all(&mut self, accounts: &mut Accounts, frames: &[Frame]) {
        for frame in frames {
            if let Some(State::Used { below, .. }) = self.states.get_mut(frame.0 as usize) {
                *below = below.saturating_sub(1);
            }
        }
        self.release_all(accounts, frames.iter().copied());
    }

    /// How many of the references to a page are devices'.
    #[inline]
    pub(super) fn pins(&self, frame: Frame) -> u16 {
        self.tables(frame)
    }

    /// Whether others than one overlay, and devices, have a page.
    #[inline]
    pub(super) fn is_shared(&self, frame: Frame) -> bool {
        match self.states.get(frame.0 as usize) {
            Some(State::Used { references, below, .. }) => *references > u32::from(*below) + 1,
            Some(State::Reserved | State::Free { .. } | State::Retired { .. }) => false,
            None => SwapSlot::of(frame).is_some_and(|slot| self.swap.references(slot) > 1),
        }
    }

    /// How many lower tables a page table leads to.
    pub(super) fn tables(&self, table: Frame) -> u16 {
        match self.states.get(table.0 as usize) {
            Some(State::Used { below, .. }) => *below,
            Some(State::Reserved | State::Free { .. } | State::Retired { .. }) | None => 0,
        }
    }

    /// A page table leads to so many lower tables more.
    pub(super) fn add_tables(&mut self, table: Frame, count: u16) {
        if let Some(State::Used { below, .. }) = self.states.get_mut(table.0 as usize) {
            *below += count;
        }
    }

    /// A page table leads to one lower table less.
    pub(super) fn remove_table(&mut self, table: Frame) {
        if let Some(State::Used { below, .. }) = self.states.get_mut(table.0 as usize) {
            *below -= 1;
        }
    }

    /// Drops a reference to a page table; if it was the last, the table waits in `retired` instead of being freed.
    pub(super) fn retire(&mut self, table: Frame, retired: &mut Retired) {
        if let Some(owner) = self.drop_reference(table) {
            self.states[table.0 as usize] = State::Retired { next: retired.head, owner };
            retired.head = table.0;
        }
    }

    /// Frees the tables in `retired`. Every processor has forgotten them.
    pub(super) fn free_retired(&mut self, accounts: &mut Accounts, retired: Retired) {
        let mut number = retired.head;
        while let Some(State::Retired { next, owner }) = self.states.get(number as usize).copied() {
            self.push_free(number);
            credit(accounts, owner, 1);
            number = next;
        }
    }

    /// Takes one reference away; tells the owner if none is left.
    fn drop_reference(&mut self, frame: Frame) -> Option<Id<Account>> {
        let Some(State::Used { references, owner, .. }) = self.states.get_mut(frame.0 as usize) else { return None };
        match *references {
            u32::MAX => None,
            0 | 1 => Some(*owner),
            more => {
                *references = more - 1;
                None
            }
        }
    }

    fn find_run(&self, count: u32) -> Option<u32> {
        let mut length = 0;
        for (state, number) in self.states.iter().zip(0u32..) {
            match state {
                State::Free { .. } => length += 1,
                State::Reserved | State::Used { .. } | State::Retired { .. } => length = 0,
            }
            if length == count && count > 0 {
                return Some(number + 1 - count);
            }
        }
        None
    }

    #[inline]
    fn free_page(&mut self, frame: Frame) {
        self.swap.forget(frame);
        self.push_free(frame.0);
    }

    fn push_free(&mut self, number: u32) {
        if let Some(State::Free { previous, .. }) = self.states.get_mut(self.free_list as usize) {
            *previous = number;
        }
        self.states[number as usize] = State::Free { previous: NONE, next: self.free_list };
        self.free_list = number;
        self.free += 1;
    }

    /// Takes one frame out of the free list, wherever it stands there.
    fn take(&mut self, number: u32, owner: Id<Account>) {
        let slot = &mut self.states[number as usize];
        let State::Free { previous, next } = *slot else { return };
        *slot = State::Used { references: 1, below: 0, owner };
        match self.states.get_mut(previous as usize) {
            Some(State::Free { next: link, .. }) => *link = next,
            Some(State::Reserved | State::Used { .. } | State::Retired { .. }) | None => self.free_list = next,
        }
        if let Some(State::Free { previous: link, .. }) = self.states.get_mut(next as usize) {
            *link = previous;
        }
        self.free -= 1;
    }
}

fn credit(accounts: &mut Accounts, owner: Id<Account>, frames: u64) {
    accounts.credit(owner, Resource::Frames, frames);
    accounts.collect(owner);
}

#[cfg(test)]
mod tests {
    use super::super::tests::MockMachine;
    use super::*;
    use crate::account::Usage;

    struct Rig {
        m: MockMachine,
        accounts: Accounts,
        payer: Id<Account>,
        table: FrameTable,
    }

    impl Rig {
        fn new(limit: u64) -> Self {
            let mut accounts = Accounts::new();
            let payer = accounts.create(None, Usage { frames: limit, kernel_bytes: 0 }).unwrap();
            let mut table = FrameTable::new(Frame(100)).unwrap();
            table.add(Frame(0), 50);
            table.add(Frame(60), 500);
            Self { m: MockMachine::new(100), accounts, payer, table }
        }

        fn allocate(&mut self) -> Result<Frame, Exhausted> {
            self.table.allocate(&mut self.m, &mut self.accounts, self.payer)
        }

        fn allocate_run(&mut self, count: u32) -> Result<Frame, Exhausted> {
            self.table.allocate_run(&mut self.m, &mut self.accounts, self.payer, count)
        }

        fn used(&self) -> u64 {
            self.accounts.get(self.payer).unwrap().used().frames
        }
    }

    #[test]
    fn all_frames_but_number_0_and_the_reserved_are_handed_out_once() {
        let mut rig = Rig::new(u64::MAX);
        assert_eq!(rig.table.total(), 89);
        let mut seen = std::collections::BTreeSet::new();
        while let Ok(frame) = rig.allocate() {
            assert!(seen.insert(frame) && frame.0 != 0 && !(50..60).contains(&frame.0) && frame.0 < 100);
            assert_eq!(rig.m.byte(frame, 4095), 0);
        }
        assert_eq!((seen.len(), rig.table.free(), rig.used()), (89, 0, 89));
        seen.into_iter().for_each(|frame| rig.table.release(&mut rig.accounts, frame));
        assert_eq!((rig.table.free(), rig.used()), (89, 0));
    }

    #[test]
    fn a_run_is_adjacent_and_leaves_the_rest_of_the_list_whole() {
        let mut rig = Rig::new(u64::MAX);
        let first = rig.allocate_run(40).unwrap();
        assert_eq!(first, Frame(1));
        let second = rig.allocate_run(40).unwrap();
        assert_eq!(second, Frame(60));
        assert_eq!(rig.allocate_run(10), Err(Exhausted::NoMemory));
        assert_eq!((0..).take_while(|_| rig.allocate().is_ok()).count(), 9);
    }

    #[test]
    fn a_frame_goes_back_with_the_last_reference() {
        let mut rig = Rig::new(u64::MAX);
        let frame = rig.allocate().unwrap();
        rig.table.retain(frame);
        rig.table.release(&mut rig.accounts, frame);
        assert_eq!((rig.table.references(frame), rig.used()), (1, 1));
        rig.table.release(&mut rig.accounts, frame);
        assert_eq!((rig.table.references(frame), rig.used()), (0, 0));
        // Once more is somebody's mistake, but harms nobody.
        rig.table.release(&mut rig.accounts, frame);
        assert_eq!(rig.table.free(), 89);
    }

    #[test]
    fn frames_that_the_table_does_not_manage_are_not_counted() {
        let mut rig = Rig::new(u64::MAX);
        for frame in [Frame(55), Frame(0), Frame(1000), Frame(u32::MAX)] {
            rig.table.retain(frame);
            rig.table.release(&mut rig.accounts, frame);
            assert_eq!(rig.table.references(frame), 0);
        }
        assert!(rig.table.is_reserved(Frame(50), Frame(60)) && rig.table.is_reserved(Frame(100), Frame(u32::MAX)));
        assert!(!rig.table.is_reserved(Frame(50), Frame(61)));
    }

    #[test]
    fn the_limit_of_the_account_counts_and_not_only_the_machine() {
        let mut rig = Rig::new(2);
        assert_eq!(rig.allocate_run(3), Err(Exhausted::AccountLimit));
        rig.allocate().unwrap();
        rig.allocate().unwrap();
        assert_eq!(rig.allocate(), Err(Exhausted::AccountLimit));
        assert_eq!(rig.table.free(), 87);
    }

    #[test]
    fn a_pinned_frame_stays_and_is_nobody_elses() {
        let mut rig = Rig::new(u64::MAX);
        let frame = rig.allocate().unwrap();
        assert!(rig.table.pin(frame) && rig.table.pin(frame));
        assert_eq!((rig.table.references(frame), rig.table.pins(frame)), (3, 2));
        assert!(!rig.table.is_shared(frame));
        rig.table.retain(frame);
        assert!(rig.table.is_shared(frame));
        rig.table.release(&mut rig.accounts, frame);
        rig.table.release(&mut rig.accounts, frame);
        assert_eq!((rig.table.references(frame), rig.used()), (2, 1));
        rig.table.unpin_all(&mut rig.accounts, &[frame]);
        rig.table.unpin_all(&mut rig.accounts, &[frame]);
        assert_eq!((rig.table.free(), rig.used()), (89, 0));
        assert!(!rig.table.pin(frame) && !rig.table.pin(Frame(55)), "only what is in use can be pinned");
    }

    #[test]
    fn a_frame_is_pinned_so_often_and_no_more() {
        let mut rig = Rig::new(u64::MAX);
        let frame = rig.allocate().unwrap();
        assert_eq!((0..).take_while(|_| rig.table.pin(frame)).count(), usize::from(u16::MAX));
    }

    #[test]
    fn a_record_has_sixteen_bytes() {
        assert_eq!(size_of::<State>(), 16);
    }

    #[test]
    fn a_count_that_reached_its_maximum_sticks() {
        let mut rig = Rig::new(u64::MAX);
        let frame = rig.allocate().unwrap();
        rig.table.states[frame.0 as usize] = State::Used { references: u32::MAX - 1, below: 0, owner: rig.payer };
        rig.table.retain(frame);
        rig.table.retain(frame);
        rig.table.release(&mut rig.accounts, frame);
        assert_eq!(rig.table.references(frame), u32::MAX);
    }
}
