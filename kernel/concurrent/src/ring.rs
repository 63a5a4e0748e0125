//! The two ends of a ring: positions that count up for ever, of which the low bits are the slot. Each end owns its own position and
//! shows it in a word that the other end reads; what is in a slot belongs to one end at a time.

use crate::word::Word;
use core::sync::atomic::Ordering;

/// The end that puts something in.
#[derive(Debug)]
pub struct Producer {
    tail: u32,
    mask: u32,
}

impl Producer {
    /// For a ring of `mask + 1` slots, a power of two, whose next free position is `tail`.
    pub const fn new(tail: u32, mask: u32) -> Self {
        Self { tail, mask }
    }

    /// How many the other end has not taken yet.
    #[inline(always)]
    pub fn untaken(&self, head: &impl Word<u32>) -> u32 {
        self.tail.wrapping_sub(head.load(Ordering::Acquire))
    }

    /// The next slot, if it is free: it may be written until [`Producer::publish`].
    #[inline(always)]
    pub fn slot(&self, head: &impl Word<u32>) -> Option<u32> {
        (self.untaken(head) <= self.mask).then_some(self.tail & self.mask)
    }

    /// Hands the slot that was written to the other end.
    #[inline(always)]
    pub fn publish(&mut self, tail: &impl Word<u32>) {
        self.tail = self.tail.wrapping_add(1);
        tail.store(self.tail, Ordering::Release);
    }
}

/// The end that takes out.
#[derive(Debug)]
pub struct Consumer {
    head: u32,
    mask: u32,
}

impl Consumer {
    /// For a ring of `mask + 1` slots, a power of two, whose next position to be taken is `head`.
    pub const fn new(head: u32, mask: u32) -> Self {
        Self { head, mask }
    }

    /// Whether something is in the next slot: it may be read then, until [`Consumer::release`].
    #[inline(always)]
    pub fn has_next(&self, tail: &impl Word<u32>) -> bool {
        tail.load(Ordering::Acquire) != self.head
    }

    /// The next slot.
    #[inline(always)]
    pub fn next_slot(&self) -> u32 {
        self.head & self.mask
    }

    /// Gives the slot that was read back to the other end.
    #[inline(always)]
    pub fn release(&mut self, head: &impl Word<u32>) {
        self.head = self.head.wrapping_add(1);
        head.store(self.head, Ordering::Release);
    }
}
