//! Who waits for which key: the pure half of the executor.
//!
//! A key names a slot and its generation, so that a completion that comes late, after its future was dropped, finds
//! nobody and is thrown away, its handles with it.

use super::call::Keep;
use super::sources::Handler;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::task::Waker;
use quire_abi::Handle;
use quire_abi::queue::{COMPLETION_HANDLES, Completion};

/// A slot and its generation. Bit 63 is never set, and a key is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = 0x7fff_ffff;

impl Key {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(index) | u64::from(generation) << GENERATION_SHIFT)
    }

    fn index(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }
}

/// What a slot is used for.
enum Use {
    /// Nothing.
    Free,
    /// Completions are collected in the inbox for a future or stream.
    Wanted,
    /// Completions are shown to this as they come.
    Served(Rc<Handler>),
    /// The same, for one call, which has things that must stay until its answer.
    Call(Keep),
    /// A call whose future was dropped: its things stay until the answer comes.
    Abandoned(Keep),
}

struct Slot {
    generation: u32,
    used: Use,
    inbox: VecDeque<Completion>,
    waker: Option<Waker>,
}

/// All slots of an executor.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// Handles in a completion: the right to answer, and those that came along.
const COMPLETION_CAPACITY: usize = 1 + COMPLETION_HANDLES;

/// What became of a completion.
pub(super) enum Delivery {
    /// It is to be shown to this.
    Served(Rc<Handler>),
    /// It is in an inbox; whoever waits there is to be woken.
    Delivered(Option<Waker>),
    /// Nobody wants it: these handles must be closed.
    Unwanted([Handle; COMPLETION_CAPACITY]),
}

impl Slots {
    /// Reserves a slot.
    pub(super) fn open(&mut self) -> Key {
        self.open_as(Use::Wanted)
    }

    /// Reserves a slot for a call.
    pub(super) fn open_call(&mut self, keep: Keep) -> Key {
        self.open_as(Use::Call(keep))
    }

    /// Reserves a slot whose completions are shown to `handler` as they come.
    pub(super) fn open_served(&mut self, handler: Rc<Handler>) -> Key {
        self.open_as(Use::Served(handler))
    }

    fn open_as(&mut self, used: Use) -> Key {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.used = used;
            return Key::new(index, slot.generation);
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 1, used, inbox: VecDeque::new(), waker: None });
        Key::new(index, 1)
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.index() as usize).filter(|slot| slot.generation == key.generation())
    }

    /// Puts a completion into the inbox that its key names. An abandoned call's slot is freed.
    #[inline]
    pub(super) fn deliver(&mut self, completion: &Completion) -> Delivery {
        let key = Key(completion.key);
        let Some(slot) = self.slot(key) else { return unwanted(completion) };
        match &slot.used {
            Use::Served(handler) => Delivery::Served(Rc::clone(handler)),
            Use::Free => unwanted(completion),
            Use::Wanted | Use::Call(_) => {
                slot.inbox.push_back(*completion);
                Delivery::Delivered(slot.waker.take())
            }
            Use::Abandoned(_) => {
                self.free(key);
                unwanted(completion)
            }
        }
    }

    /// Shows the next completion for `key` to `read` and takes it, or remembers who waits for it.
    #[inline]
    pub(super) fn poll<R>(&mut self, key: Key, waker: &Waker, read: impl FnOnce(&Completion) -> R) -> Option<R> {
        let slot = self.slot(key)?;
        if let Some(completion) = slot.inbox.front() {
            let result = read(completion);
            slot.inbox.pop_front();
            return Some(result);
        }
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        None
    }

    /// Takes the next completion for `key`, if it is there.
    pub(super) fn take(&mut self, key: Key) -> Option<Completion> {
        self.slot(key)?.inbox.pop_front()
    }

    /// Frees the slot of a call that was answered, and returns its things.
    pub(super) fn finish_call(&mut self, key: Key) -> Option<Keep> {
        match self.free(key)? {
            Use::Call(keep) | Use::Abandoned(keep) => Some(keep),
            Use::Free | Use::Wanted | Use::Served(_) => None,
        }
    }

    /// The future of a call goes. If the call is still on its way, its things stay until it is answered.
    pub(super) fn abandon_call(&mut self, key: Key) {
        let Some(slot) = self.slot(key) else { return };
        slot.waker = None;
        if slot.inbox.is_empty()
            && let Use::Call(keep) = core::mem::replace(&mut slot.used, Use::Free)
        {
            slot.used = Use::Abandoned(keep);
        }
    }

    /// Frees the slot. Its inbox must have been emptied with [`take`](Self::take), or handles in it are lost. What is
    /// returned is to be dropped when nothing is borrowed any more: it may be a handler with things of its own.
    pub(super) fn close(&mut self, key: Key) -> Option<impl Sized + use<>> {
        self.free(key)
    }

    fn free(&mut self, key: Key) -> Option<Use> {
        let slot = self.slot(key)?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        if slot.generation == 0 {
            slot.generation = 1;
        }
        // Most slots never have an inbox again: they are served.
        slot.inbox = VecDeque::new();
        slot.waker = None;
        let used = core::mem::replace(&mut slot.used, Use::Free);
        self.free.push(key.index());
        Some(used)
    }
}

fn unwanted(completion: &Completion) -> Delivery {
    let [first, second, third, fourth] = completion.handles;
    Delivery::Unwanted([completion.reply, first, second, third, fourth])
}

/// Every handle that a completion brought.
pub(super) fn handles_of(completion: &Completion) -> impl Iterator<Item = Handle> {
    core::iter::once(completion.reply).chain(completion.handles).filter(|handle| *handle != Handle::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_delivered(slots: &mut Slots, completion: Completion) -> bool {
        matches!(slots.deliver(&completion), Delivery::Delivered(_))
    }

    fn completion(key: Key) -> Completion {
        Completion { key: key.0, ..Completion::default() }
    }

    #[test]
    fn completions_reach_their_slot_in_order() {
        let mut slots = Slots::default();
        let (first, second) = (slots.open(), slots.open());
        assert_ne!(first, second);
        for value in 0..3 {
            let sent = Completion { value, ..completion(second) };
            assert!(is_delivered(&mut slots, sent));
        }
        assert!(slots.take(first).is_none());
        for value in 0..3 {
            assert_eq!(slots.poll(second, Waker::noop(), |completion| completion.value), Some(value));
        }
        assert!(slots.poll(second, Waker::noop(), |_| ()).is_none());
        let woken = matches!(slots.deliver(&completion(second)), Delivery::Delivered(Some(_)));
        assert!(woken, "who waits is woken");
    }

    #[test]
    fn a_late_completion_finds_nobody_even_when_the_slot_is_used_again() {
        let mut slots = Slots::default();
        let old = slots.open();
        slots.close(old);
        assert!(!is_delivered(&mut slots, completion(old)));
        let new = slots.open();
        assert_eq!(new.index(), old.index());
        assert!(!is_delivered(&mut slots, completion(old)));
        assert!(slots.take(new).is_none());
    }

    #[test]
    fn an_abandoned_call_keeps_its_slot_until_the_answer() {
        let mut slots = Slots::default();
        let call = slots.open_call(Keep::default());
        slots.abandon_call(call);
        let other = slots.open();
        assert_ne!(other.index(), call.index());
        assert!(!is_delivered(&mut slots, completion(call)));
        assert_eq!(slots.open().index(), call.index());
    }

    #[test]
    fn unknown_keys_are_ignored() {
        let mut slots = Slots::default();
        for key in [0, 1, u64::MAX, u64::from(u32::MAX)] {
            assert!(!is_delivered(&mut slots, completion(Key(key))));
        }
    }

    #[test]
    fn generations_wrap_without_becoming_zero() {
        let mut slots = Slots::default();
        let key = slots.open();
        slots.slots[0].generation = GENERATION_MASK;
        slots.close(Key::new(key.index(), GENERATION_MASK));
        assert_eq!(slots.open().generation(), 1);
    }
}
