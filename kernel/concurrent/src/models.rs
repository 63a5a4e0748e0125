//! Every order in which the sides of each algorithm can act, and everything that their memory orders let them see, by a model
//! checker. What an algorithm guards is a word without any order of its own here ([`Guarded`]): whoever does not have it alone, or does
//! not see what was done before, reads something else than he must. A wait that never ends is an error, too.

use crate::{Asked, Consumer, Counter, Producer, Question, Tickets, Word};
use core::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use loom::thread;

/// A word of the model.
struct Modelled<A>(A);

macro_rules! modelled {
    ($($atomic:ty: $value:ty;)+) => {
        $(impl Word<$value> for Modelled<$atomic> {
            fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
            }
        })+
    };
}

modelled! {
    AtomicBool: bool;
    AtomicU32: u32;
    AtomicU64: u64;
}

impl Counter for Modelled<AtomicU32> {
    fn count_up(&self, order: Ordering) -> u32 {
        self.0.fetch_add(1, order)
    }

    fn change(&self, expected: u32, new: u32, order: Ordering) -> bool {
        self.0.compare_exchange(expected, new, order, Ordering::Relaxed).is_ok()
    }
}

fn counter(value: u32) -> Modelled<AtomicU32> {
    Modelled(AtomicU32::new(value))
}

fn tickets() -> Tickets<Modelled<AtomicU32>> {
    Tickets::new(counter(0), counter(0))
}

/// Something that has to be guarded.
struct Guarded(AtomicU32);

impl Guarded {
    fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Not at once: what others do meanwhile is lost.
    fn add_one(&self) {
        self.set(self.get() + 1);
    }
}

#[test]
fn one_at_a_time_has_the_lock_and_sees_what_the_one_before_did() {
    loom::model(|| {
        let lock = Arc::new((tickets(), Guarded::new(0)));
        let take = |lock: &(Tickets<_>, Guarded)| {
            let ticket = lock.0.draw();
            while !lock.0.is_served(ticket) {
                thread::yield_now();
            }
            lock.1.add_one();
            lock.0.pass_on();
        };
        let other = lock.clone();
        let thread = thread::spawn(move || (0..2).for_each(|_| take(&other)));
        take(&lock);
        thread.join().unwrap();
        assert_eq!(lock.1.get(), 3);
    });
}

#[test]
fn who_only_tries_has_the_lock_alone_too() {
    loom::model(|| {
        let lock = Arc::new((tickets(), Guarded::new(0)));
        let other = lock.clone();
        let thread = thread::spawn(move || {
            let has_it = other.0.try_take();
            if has_it {
                other.1.add_one();
                other.0.pass_on();
            }
            has_it
        });
        let ticket = lock.0.draw();
        while !lock.0.is_served(ticket) {
            thread::yield_now();
        }
        lock.1.add_one();
        lock.0.pass_on();
        let more = u32::from(thread.join().unwrap());
        assert_eq!(lock.1.get(), 1 + more);
    });
}

/// As in the kernel: the holder of the lock changes a table and asks another processor to forget what it knew of it; that one wants
/// the lock, and answers while it waits.
#[test]
fn who_waits_for_the_lock_answers_its_holder_and_sees_the_question() {
    struct Machine {
        lock: Tickets<Modelled<AtomicU32>>,
        question: Question<Modelled<AtomicU64>, 2>,
        asked: Asked<Modelled<AtomicBool>>,
        table: Guarded,
        forgotten: Guarded,
    }
    fn answer(machine: &Machine) {
        if machine.asked.is_marked() {
            assert_eq!(machine.question.read(), [7, 9], "the question is whole");
            assert_eq!(machine.table.get(), 1, "the table was changed before");
            machine.forgotten.add_one();
            machine.asked.done();
        }
    }
    loom::model(|| {
        let zero = || Modelled(AtomicU64::new(0));
        let machine = Arc::new(Machine {
            lock: tickets(),
            question: Question::new([zero(), zero()]),
            asked: Asked::new(Modelled(AtomicBool::new(false))),
            table: Guarded::new(0),
            forgotten: Guarded::new(0),
        });
        let ticket = machine.lock.draw();
        let other = machine.clone();
        let thread = thread::spawn(move || {
            let ticket = other.lock.draw();
            while !other.lock.is_served(ticket) {
                answer(&other);
                thread::yield_now();
            }
            assert_eq!(other.forgotten.get(), 1, "the holder went on only after the answer");
            other.lock.pass_on();
        });
        assert!(machine.lock.is_served(ticket));
        machine.table.add_one();
        machine.question.put([7, 9]);
        machine.asked.mark();
        while machine.asked.is_marked() {
            thread::yield_now();
        }
        assert_eq!(machine.forgotten.get(), 1, "what the answer did is seen");
        machine.lock.pass_on();
        thread.join().unwrap();
    });
}

/// A ring of one slot, in which each end has to wait for the other.
#[test]
fn what_comes_out_of_a_ring_is_what_was_put_in() {
    loom::model(pass_through_ring::<1, 2>);
}

/// Each side is interrupted by the other no more than twice: all orders are too many.
#[test]
fn what_comes_out_of_a_longer_ring_comes_in_order() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(pass_through_ring::<2, 3>);
}

fn pass_through_ring<const SLOTS: usize, const VALUES: u32>() {
    /// Just before the positions wrap.
    const START: u32 = u32::MAX;
    struct Shared<const SLOTS: usize> {
        head: Modelled<AtomicU32>,
        tail: Modelled<AtomicU32>,
        slots: [Guarded; SLOTS],
    }
    let mask = SLOTS as u32 - 1;
    let slots = core::array::from_fn::<_, SLOTS, _>(|_| Guarded::new(0));
    let shared = Arc::new(Shared { head: counter(START), tail: counter(START), slots });
    let other = shared.clone();
    let thread = thread::spawn(move || {
        let mut producer = Producer::new(START, mask);
        for value in 1..=VALUES {
            let slot = loop {
                match producer.slot(&other.head) {
                    Some(slot) => break slot,
                    None => thread::yield_now(),
                }
            };
            other.slots[slot as usize].set(value);
            producer.publish(&other.tail);
        }
    });
    let mut consumer = Consumer::new(START, mask);
    for value in 1..=VALUES {
        while !consumer.has_next(&shared.tail) {
            thread::yield_now();
        }
        assert_eq!(shared.slots[consumer.next_slot() as usize].get(), value);
        consumer.release(&shared.head);
    }
    thread.join().unwrap();
}

/// The mask of a thread's signals, which its shim changes while the server may be sending one (`posix-server/src/signal/mask.rs`,
/// `mlibc-shim/src/signals.rs`): each says what it did before it looks at what the other did.
#[test]
fn a_signal_that_comes_while_the_mask_opens_is_noticed_by_one_of_the_two() {
    loom::model(|| {
        let block = Arc::new((AtomicU64::new(u64::MAX), AtomicU64::new(0)));
        let other = block.clone();
        let shim = thread::spawn(move || {
            let (mask, held) = &*other;
            mask.store(0, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            held.load(Ordering::Relaxed) != 0
        });
        let (mask, held) = &*block;
        held.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let server_delivers = mask.load(Ordering::Relaxed) == 0;
        let shim_asks = shim.join().unwrap();
        assert!(server_delivers || shim_asks, "the signal would wait although nothing blocks it");
    });
}
