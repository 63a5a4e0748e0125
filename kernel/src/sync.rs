//! Ranked spin locks.
//!
//! Every lock has a [`Rank`]. A processor may take a lock only if it holds none of the same or a higher rank, so no
//! two processors can wait for each other in a circle. Kernels with debug assertions check this on every
//! acquisition. Interrupts are off everywhere in the kernel but in the idle loop, where no lock is held; so a
//! holder is never interrupted by somebody who wants its lock. (NMI and machine-check handlers take no locks.)
//!
//! The locks are fair: who wants one draws a ticket, and the tickets are served in order ([`Tickets`]). Whoever waits answers the
//! requests of the other processors meanwhile ([`crate::cpu::requests`]), because the holder may be waiting for that.

use crate::cpu::{percpu, requests};
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicU32;
use quire_concurrent::Tickets;

/// The order in which locks may be taken: from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Rank {
    /// The object graph ([ADR 2](../../../docs/adr/0002-one-kernel-lock.md)).
    Kernel,
    /// The frames used while booting.
    BootFrames,
    /// The kernel's heap.
    Heap,
    /// Interrupt controllers.
    InterruptController,
    /// The log's output.
    Log,
}

impl Rank {
    const ALL: [Self; 5] = [Self::Kernel, Self::BootFrames, Self::Heap, Self::InterruptController, Self::Log];

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of ranks, to print the locks that a processor holds, in their order.
#[derive(Clone, Copy)]
pub(crate) struct Ranks(u32);

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut held = Rank::ALL.iter().filter(|rank| self.0 & rank.bit() != 0);
        let Some(first) = held.next() else { return f.write_str("no lock") };
        write!(f, "{first:?}")?;
        held.try_for_each(|rank| write!(f, ", {rank:?}"))
    }
}

/// A spin lock with a rank.
pub(crate) struct SpinLock<T> {
    rank: Rank,
    tickets: Tickets<AtomicU32>,
    value: UnsafeCell<T>,
}

// SAFETY: a guard is the only way to the value, and there is one guard at a time; so sharing the lock only ever
// moves access to the value between processors, which is what `Send` allows.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        let tickets = Tickets::new(AtomicU32::new(0), AtomicU32::new(0));
        Self { rank, tickets, value: UnsafeCell::new(value) }
    }

    /// Waits until the lock is free and takes it.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if cfg!(debug_assertions) {
            note_taking(self.rank);
        }
        let ticket = self.tickets.draw();
        if !self.tickets.is_served(ticket) {
            self.wait_for(ticket);
        }
        Guard { lock: self }
    }

    #[cold]
    fn wait_for(&self, ticket: u32) {
        while !self.tickets.is_served(ticket) {
            requests::answer();
            core::hint::spin_loop();
        }
    }

    /// Takes the lock if it is free. For the panic handler: the rank is not checked.
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        if !self.tickets.try_take() {
            return None;
        }
        if cfg!(debug_assertions) {
            let held = percpu::held_ranks();
            held.set(held.get() | self.rank.bit());
        }
        Some(Guard { lock: self })
    }
}

impl<T> SpinLock<T> {
    /// Where the value is, whoever holds the lock. For the panic handler.
    pub(crate) const fn value_pointer(&self) -> *mut T {
        self.value.get()
    }
}

/// Access to what a [`SpinLock`] guards; dropping it frees the lock.
pub(crate) struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so no other reference to the value exists.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock and is borrowed mutably, so no other reference to the value exists.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            let held = percpu::held_ranks();
            held.set(held.get() & !self.lock.rank.bit());
        }
        self.lock.tickets.pass_on();
    }
}

#[expect(clippy::panic, reason = "a wrong lock order is a bug of the kernel, checked in debug kernels only")]
fn note_taking(rank: Rank) {
    let held = percpu::held_ranks();
    let ranks = held.get();
    if ranks >= rank.bit() {
        // The log must be able to print this.
        held.set(0);
        panic!("lock order: {rank:?} wanted while holding {}", Ranks(ranks));
    }
    held.set(ranks | rank.bit());
}
