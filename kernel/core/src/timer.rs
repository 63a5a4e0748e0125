//! Deadlines: the order in which they come due, and timers.
//!
//! Threads that wait with a deadline and armed timers stand in one binary heap. A place in it is reserved when the thread
//! or timer is made, so that arming can't fail.

use crate::account::Account;
use crate::devices::Hardware;
use crate::errand::Errand;
use crate::kernel::Kernel;
use crate::list::Links;
use crate::object::{Header, Node, cost};
use crate::pool::{Id, PoolExhausted};
use crate::queue::Binding;
use crate::thread::Thread;
use alloc::vec::Vec;
use quire_abi::Error;

/// Who is told when a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmOwner {
    /// The thread's wait ends with `TimedOut`.
    Thread(Id<Thread>),
    /// The timer completes.
    Timer(Id<Timer>),
    /// The errand ends with `TimedOut`.
    Errand(Id<Errand>),
    /// Dirty pages have waited for some time.
    Dirty,
}

/// A place among the deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmId(u32);

#[derive(Debug)]
struct Slot {
    deadline_ns: u64,
    /// Where in the heap; `None` while not armed.
    position: Option<u32>,
    owner: Option<AlarmOwner>,
    next_free: Option<u32>,
}

/// All deadlines.
#[derive(Debug)]
pub struct Alarms {
    slots: Vec<Slot>,
    free: Option<u32>,
    /// Slot numbers; the earliest deadline first.
    heap: Vec<u32>,
    /// The deadline of the first; `u64::MAX` for none. Asked for on every way out of the kernel.
    earliest_ns: u64,
    /// It has come nearer since [`Alarms::note_seen`].
    came_nearer: bool,
}

impl Default for Alarms {
    fn default() -> Self {
        Self::new()
    }
}

impl Alarms {
    /// Nothing to wait for.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: None, heap: Vec::new(), earliest_ns: u64::MAX, came_nearer: false }
    }

    /// Reserves a place for an owner who is still to be made; see [`Alarms::set_owner`].
    ///
    /// # Errors
    /// [`PoolExhausted`] without memory.
    pub fn create(&mut self) -> Result<AlarmId, PoolExhausted> {
        if let Some(index) = self.free {
            self.free = self.slots[index as usize].next_free.take();
            return Ok(AlarmId(index));
        }
        let index = u32::try_from(self.slots.len()).map_err(|_| PoolExhausted)?;
        self.slots.try_reserve(1).map_err(|_| PoolExhausted)?;
        let wanted = self.slots.len() + 1 - self.heap.len();
        self.heap.try_reserve(wanted).map_err(|_| PoolExhausted)?;
        self.slots.push(Slot { deadline_ns: 0, position: None, owner: None, next_free: None });
        Ok(AlarmId(index))
    }

    /// Says who is told.
    pub fn set_owner(&mut self, alarm: AlarmId, owner: AlarmOwner) {
        self.slots[alarm.0 as usize].owner = Some(owner);
    }

    /// Gives a place back.
    pub fn destroy(&mut self, alarm: AlarmId) {
        self.disarm(alarm);
        let slot = &mut self.slots[alarm.0 as usize];
        slot.owner = None;
        slot.next_free = self.free;
        self.free = Some(alarm.0);
    }

    /// Sets the deadline, replacing an earlier one.
    pub fn arm(&mut self, alarm: AlarmId, deadline_ns: u64) {
        self.disarm(alarm);
        let position = self.heap.len();
        let slot = &mut self.slots[alarm.0 as usize];
        slot.deadline_ns = deadline_ns;
        slot.position = Some(position as u32);
        // There is capacity for every slot: see `create`.
        self.heap.push(alarm.0);
        self.sift_up(position);
        self.note_earliest();
    }

    /// Forgets the deadline, if there is one.
    #[inline]
    pub fn disarm(&mut self, alarm: AlarmId) {
        if let Some(position) = self.slots[alarm.0 as usize].position {
            self.take(position as usize);
        }
    }

    /// Sets the deadline, unless it is this one already: nothing moves for a thread that comes back with the deadline it had.
    #[inline(always)]
    pub(crate) fn keep(&mut self, alarm: AlarmId, deadline_ns: u64) {
        let slot = &self.slots[alarm.0 as usize];
        if slot.position.is_none() || slot.deadline_ns != deadline_ns {
            self.arm(alarm, deadline_ns);
        }
    }

    /// Whether a deadline is set.
    pub fn is_armed(&self, alarm: AlarmId) -> bool {
        self.slots[alarm.0 as usize].position.is_some()
    }

    /// The earliest deadline.
    #[inline]
    pub fn earliest(&self) -> Option<u64> {
        (self.earliest_ns != u64::MAX).then_some(self.earliest_ns)
    }

    /// Takes one whose deadline is at or before `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<AlarmOwner> {
        if self.earliest()? > now_ns {
            return None;
        }
        let slot = self.take(0)?;
        self.slots[slot as usize].owner
    }

    fn take(&mut self, position: usize) -> Option<u32> {
        let last = self.heap.len().checked_sub(1)?;
        self.swap(position, last);
        let slot = self.heap.pop()?;
        self.slots[slot as usize].position = None;
        if position < last {
            self.sift_up(position);
            self.sift_down(position);
        }
        self.note_earliest();
        Some(slot)
    }

    fn note_earliest(&mut self) {
        let earliest_ns = self.heap.first().map_or(u64::MAX, |slot| self.slots[*slot as usize].deadline_ns);
        self.came_nearer |= earliest_ns < self.earliest_ns;
        self.earliest_ns = earliest_ns;
    }

    /// Whether the earliest deadline has come nearer since [`Alarms::note_seen`].
    #[inline(always)]
    pub(crate) fn came_nearer(&self) -> bool {
        self.came_nearer
    }

    /// Somebody sees to the earliest deadline.
    #[inline(always)]
    pub(crate) fn note_seen(&mut self) {
        self.came_nearer = false;
    }

    fn key(&self, position: usize) -> u64 {
        self.slots[self.heap[position] as usize].deadline_ns
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for position in [a, b] {
            let slot = self.heap[position] as usize;
            self.slots[slot].position = Some(position as u32);
        }
    }

    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.key(parent) <= self.key(position) {
                return;
            }
            self.swap(parent, position);
            position = parent;
        }
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            if left >= self.heap.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.key(right) < self.key(left) { right } else { left };
            if self.key(position) <= self.key(child) {
                return;
            }
            self.swap(position, child);
            position = child;
        }
    }
}

/// A deadline that completes in a queue.
#[derive(Debug)]
pub struct Timer {
    /// References and account.
    pub header: Header,
    /// Its place in the list of a queue that has no room.
    pub links: Links<Node>,
    /// Its place among the deadlines.
    pub alarm: AlarmId,
    /// Where it completes.
    pub binding: Option<Binding>,
    /// Its deadline has passed and the queue had no room to say so yet.
    pub pending: bool,
}

impl Kernel {
    /// Makes a timer.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub fn create_timer(&mut self, account: Id<Account>) -> Result<Id<Timer>, Error> {
        self.timers.reserve(1).map_err(|_| Error::NoMemory)?;
        self.charge(account, cost::TIMER)?;
        let alarm = self.alarms.create().map_err(|_| self.refund(account, cost::TIMER))?;
        let timer = Timer { header: Header::new(account), links: Links::new(), alarm, binding: None, pending: false };
        let id = self.timers.insert(timer).map_err(|_| Error::NoMemory)?;
        self.alarms.set_owner(alarm, AlarmOwner::Timer(id));
        Ok(id)
    }

    /// Arms a bound timer, replacing an earlier deadline. One that has passed completes at once.
    pub(crate) fn arm_timer(&mut self, m: &mut impl Hardware, id: Id<Timer>, deadline_ns: u64) -> Result<(), Error> {
        if self.timers[id].binding.is_none() {
            return Err(Error::BadState);
        }
        self.cancel_timer(id);
        if deadline_ns <= m.now_ns() {
            self.fire_timer(m, id);
        } else {
            self.alarms.arm(self.timers[id].alarm, deadline_ns);
        }
        Ok(())
    }

    /// Disarms a timer; a completion that is not in the ring yet is taken back.
    pub(crate) fn cancel_timer(&mut self, id: Id<Timer>) {
        let timer = &self.timers[id];
        self.alarms.disarm(timer.alarm);
        if timer.pending {
            self.withdraw(timer.binding, Node::Timer(id));
        }
    }

    pub(crate) fn fire_timer(&mut self, m: &mut impl Hardware, id: Id<Timer>) {
        if let Some(binding) = self.timers.get(id).and_then(|timer| timer.binding) {
            self.offer(m, binding, Node::Timer(id));
        }
    }

    /// Binds a timer to a queue, or to none.
    pub(crate) fn bind_timer(&mut self, m: &mut impl Hardware, id: Id<Timer>, binding: Option<Binding>) {
        let timer = &self.timers[id];
        let (old, pending) = (timer.binding, timer.pending);
        if pending {
            self.withdraw(old, Node::Timer(id));
        }
        self.timers[id].binding = binding;
        if pending {
            self.fire_timer(m, id);
        }
    }

    pub(crate) fn destroy_timer(&mut self, id: Id<Timer>) {
        self.cancel_timer(id);
        if let Some(timer) = self.timers.remove(id) {
            self.alarms.destroy(timer.alarm);
            self.credit(timer.header.account, cost::TIMER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn deadlines_come_due_in_order_whatever_was_disarmed_or_moved(
            deadlines in proptest::collection::vec(0u64..1000, 1..60),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::option::of(0u64..1000)), 0..60),
        ) {
            let mut ids: Pool<u8> = Pool::new();
            let mut alarms = Alarms::new();
            let mut model = Vec::new();
            for deadline in &deadlines {
                let alarm = alarms.create().unwrap();
                let _ = ids.insert(0).unwrap();
                alarms.set_owner(alarm, AlarmOwner::Timer(Id::for_test(alarm.0)));
                alarms.arm(alarm, *deadline);
                model.push((alarm, Some(*deadline)));
            }
            for (index, change) in changes {
                let entry = &mut model[index.index(deadlines.len())];
                match change {
                    Some(deadline) => alarms.arm(entry.0, deadline),
                    None => alarms.disarm(entry.0),
                }
                entry.1 = change;
            }
            let mut expected: Vec<u64> = model.iter().filter_map(|(_, deadline)| *deadline).collect();
            expected.sort_unstable();
            let mut seen = Vec::new();
            while let Some(earliest) = alarms.earliest() {
                prop_assert_eq!(alarms.take_due(earliest.wrapping_sub(1)).is_some(), earliest == 0);
                if earliest != 0 {
                    prop_assert!(alarms.take_due(earliest).is_some());
                }
                seen.push(earliest);
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
