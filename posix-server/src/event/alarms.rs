//! All deadlines of timers that programs set.
//!
//! One task sleeps until the first of them. So setting a timer costs an entry in a tree, however many there are, and a timer
//! that is set and stopped again never reaches the kernel.

use crate::platform::{Executor, now_ns};
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};
use futures_util::future::select;

/// What is told that its deadline has come.
pub trait Ring {
    /// The deadline has come, or the real-time clock has been set and the deadline may be another. It may set another alarm, or drop the one that rang.
    fn ring(&self);
}

#[derive(Default)]
struct Pending {
    /// By deadline, then by number.
    alarms: BTreeMap<(u64, u64), Weak<dyn Ring>>,
    next_number: u64,
}

/// The deadlines.
pub struct Alarms {
    executor: Executor,
    pending: RefCell<Pending>,
    is_running: Cell<bool>,
    /// Woken when there is an earlier deadline than before.
    earlier: WaitQueue,
}

/// A deadline; dropping it takes it back.
pub struct Alarm {
    alarms: Rc<Alarms>,
    key: (u64, u64),
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let removed = self.alarms.pending.borrow_mut().alarms.remove(&self.key);
        drop(removed);
    }
}

impl Alarms {
    /// No deadlines.
    pub fn new(executor: &Executor) -> Rc<Self> {
        Rc::new(Self {
            executor: executor.clone(),
            pending: RefCell::default(),
            is_running: Cell::new(false),
            earlier: WaitQueue::new(),
        })
    }

    /// Rings once, when the clock of [`now_ns`] has reached `deadline_ns`. The caller pays for it.
    pub fn set(self: &Rc<Self>, deadline_ns: u64, who: Weak<dyn Ring>) -> Alarm {
        let mut pending = self.pending.borrow_mut();
        let key = (deadline_ns, pending.next_number);
        pending.next_number = pending.next_number.wrapping_add(1);
        let is_first = pending.alarms.first_key_value().is_none_or(|(first, _)| key < *first);
        pending.alarms.insert(key, who);
        drop(pending);
        if !self.is_running.replace(true) {
            self.executor.spawn(run(self.clone()));
        } else if is_first {
            self.earlier.wake();
        }
        Alarm { alarms: self.clone(), key }
    }

    fn first_deadline_ns(&self) -> Option<u64> {
        self.pending.borrow().alarms.first_key_value().map(|((deadline_ns, _), _)| *deadline_ns)
    }

    /// Rings all before their time, so that those whose deadline has moved set themselves anew.
    pub fn ring_all(&self) {
        let all = core::mem::take(&mut self.pending.borrow_mut().alarms);
        for who in all.into_values().filter_map(|who| who.upgrade()) {
            who.ring();
        }
    }

    /// Rings all whose deadline has come, but none that are set meanwhile.
    fn ring_due(&self) {
        let (now, end) = (now_ns(), self.pending.borrow().next_number);
        let mut at = (0, 0);
        loop {
            let mut pending = self.pending.borrow_mut();
            let Some((key, _)) = pending.alarms.range(at..=(now, u64::MAX)).next() else { return };
            let key = *key;
            at = (key.0, key.1.saturating_add(1));
            let due = if key.1 < end { pending.alarms.remove(&key) } else { None };
            drop(pending);
            if let Some(who) = due.and_then(|who| who.upgrade()) {
                who.ring();
            }
        }
    }
}

/// Rings until there are no deadlines left.
async fn run(alarms: Rc<Alarms>) {
    while let Some(deadline_ns) = alarms.first_deadline_ns() {
        let earlier = alarms.earlier.listen();
        if deadline_ns > now_ns() {
            select(Box::pin(alarms.executor.sleep_until(deadline_ns)), earlier).await;
        }
        alarms.ring_due();
    }
    alarms.is_running.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform;
    use alloc::vec::Vec;

    struct Bell {
        log: Rc<RefCell<Vec<u64>>>,
        number: u64,
    }

    impl Ring for Bell {
        fn ring(&self) {
            self.log.borrow_mut().push(self.number);
        }
    }

    #[test]
    fn alarms_ring_in_order_unless_they_are_dropped() {
        let executor = Executor::new();
        let alarms = Alarms::new(&executor);
        let log = Rc::new(RefCell::new(Vec::new()));
        let start = platform::now_ns();
        let bells: Vec<Rc<dyn Ring>> =
            (0..5).map(|number| Rc::new(Bell { log: log.clone(), number }) as Rc<dyn Ring>).collect();
        let mut set: Vec<Option<Alarm>> = [50, 10, 30, 20, 40]
            .iter()
            .zip(&bells)
            .map(|(delay, bell)| Some(alarms.set(start + delay, Rc::downgrade(bell))))
            .collect();
        executor.run_ready(platform::now_ns());
        set[2] = None;
        platform::advance_ns(20);
        executor.run_ready(platform::now_ns());
        assert_eq!(*log.borrow(), [1, 3]);
        platform::advance_ns(100);
        executor.run_ready(platform::now_ns());
        assert_eq!(*log.borrow(), [1, 3, 4, 0]);
        assert!(!alarms.is_running.get());
    }
}
