//! What is pending for whom, and what comes next. Pure: who is told, stopped or ended is the caller's business.

use super::{DefaultAction, Details, Disposition, SI_USER, Signal, SignalAction, SignalInfo, SignalSet};
use crate::budget::Charge;
use crate::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;

/// What a signal that waits takes of the server's memory, about, in bytes.
const WAITING_BYTES: u64 = 96;

/// Signals that wait. Those of a process and of its threads are counted together (`RLIMIT_SIGPENDING`).
#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    queue: VecDeque<SignalInfo>,
    count: Rc<Cell<u64>>,
    charge: Charge,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.count.set(self.count.get().saturating_sub(self.queue.len() as u64));
    }
}

impl Pending {
    /// Which.
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// All of them, the oldest first.
    pub fn infos(&self) -> impl Iterator<Item = SignalInfo> {
        self.queue.iter().copied()
    }

    /// How many wait, in all queues that are counted together.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// An empty queue that is counted together with this one.
    pub fn beside(&self) -> Self {
        let (set, queue, charge) = Default::default();
        Self { set, queue, count: self.count.clone(), charge }
    }

    /// Adds one. A standard signal that is pending already is not added again. `EAGAIN` if a real-time signal with a message would
    /// be one more than `limit` or than there is memory for; one without (`kill`) is then pending once.
    pub fn add(&mut self, info: SignalInfo, limit: u64) -> Result<()> {
        let is_pending = self.set.contains(info.signal);
        // A timer has one signal on its way at most, which is never taken for another's.
        let is_timer = matches!(info.details, Details::Timer { .. });
        if is_pending && !info.signal.is_queued() && !is_timer {
            return Ok(());
        }
        let bytes = (self.queue.len() as u64 + 1) * WAITING_BYTES;
        let has_room = self.count.get() < limit && self.charge.resize(bytes).is_ok();
        if !has_room && info.signal.is_queued() && !is_timer {
            if info.code != SI_USER {
                return Err(Errno::EAGAIN);
            }
            if is_pending {
                return Ok(());
            }
        }
        self.queue.try_reserve(1).map_err(|_| Errno::EAGAIN)?;
        self.queue.push_back(info);
        self.count.set(self.count.get() + 1);
        self.set = self.set.with(info.signal);
        Ok(())
    }

    /// The next one that is in a set: faults first, then the lowest number.
    fn next(&self, wanted: SignalSet) -> Option<Signal> {
        let ready = self.set.intersection(wanted);
        ready.intersection(SignalSet::SYNCHRONOUS).first().or_else(|| ready.first())
    }

    /// Takes the next one that is in a set.
    pub fn take_next(&mut self, wanted: SignalSet) -> Option<SignalInfo> {
        self.next(wanted).and_then(|signal| self.take(signal))
    }

    /// Takes the oldest instance of a signal.
    pub fn take(&mut self, signal: Signal) -> Option<SignalInfo> {
        let position = self.queue.iter().position(|info| info.signal == signal)?;
        let info = self.queue.remove(position);
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(SignalSet::of(signal));
        }
        self.settle(1);
        info
    }

    /// Forgets all of these.
    pub fn discard(&mut self, signals: SignalSet) {
        let before = self.queue.len();
        self.queue.retain(|info| !signals.contains(info.signal));
        self.set = self.set.without(signals);
        self.settle(before - self.queue.len());
    }

    /// So many have left the queue.
    fn settle(&mut self, gone: usize) {
        self.count.set(self.count.get().saturating_sub(gone as u64));
        // Giving back can't fail.
        let _ = self.charge.resize((self.queue.len() as u64 * WAITING_BYTES).min(self.charge.bytes()));
    }
}

/// The signals of a process: what its threads share.
#[derive(Debug)]
pub struct ProcessSignals {
    /// Several processes can have the same (`clone` with `CLONE_SIGHAND`).
    actions: Rc<RefCell<Actions>>,
    /// Pending for any thread.
    pub pending: Pending,
}

/// What is to be done with each signal.
type Actions = [SignalAction; super::SIGNAL_MAX as usize];

impl Default for ProcessSignals {
    fn default() -> Self {
        Self::with([SignalAction::default(); super::SIGNAL_MAX as usize])
    }
}

/// What a signal means at the moment it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is ignored and not blocked: as if it had not been sent.
    Ignored,
    /// It waits.
    Queued,
}

impl ProcessSignals {
    /// What is to be done with a signal.
    pub fn action(&self, signal: Signal) -> SignalAction {
        self.actions.borrow().get(signal.index()).copied().unwrap_or_default()
    }

    /// Changes it; returns what it was. A signal that is now ignored is no longer pending. `EINVAL` for `SIGKILL` and `SIGSTOP`.
    pub fn set_action(&mut self, signal: Signal, action: SignalAction) -> Result<SignalAction> {
        if !signal.can_be_caught() {
            return Err(Errno::EINVAL);
        }
        let old = self.action(signal);
        if let Some(slot) = self.actions.borrow_mut().get_mut(signal.index()) {
            *slot = SignalAction { mask: action.mask.without(SignalSet::UNBLOCKABLE), ..action };
        }
        if self.ignores(signal) {
            self.pending.discard(SignalSet::of(signal));
        }
        Ok(old)
    }

    /// Whether a signal has no effect here.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.action(signal).disposition() {
            Disposition::Ignore => true,
            Disposition::Default => signal.default_action() == DefaultAction::Ignore,
            Disposition::Handler(_) => false,
        }
    }

    /// What a signal means that was taken. A handler with `SA_RESETHAND` is reset here.
    pub fn delivery(&mut self, info: SignalInfo) -> Delivery {
        let signal = info.signal;
        let action = self.action(signal);
        match action.disposition() {
            Disposition::Ignore => Delivery::Ignore(info),
            Disposition::Handler(_) => {
                if action.has(linux::SA_RESETHAND)
                    && let Some(slot) = self.actions.borrow_mut().get_mut(signal.index())
                {
                    slot.handler = 0;
                }
                Delivery::Handle(info, action)
            }
            Disposition::Default => match signal.default_action() {
                DefaultAction::Ignore | DefaultAction::Continue => Delivery::Ignore(info),
                DefaultAction::Stop => Delivery::Stop(info),
                how @ (DefaultAction::Terminate | DefaultAction::Dump) => Delivery::Terminate(info, how),
            },
        }
    }

    /// What `execve` leaves: handlers are gone, what is ignored stays so.
    pub fn after_exec(&mut self) {
        let pending = core::mem::take(&mut self.pending);
        // Whoever shares the actions keeps them.
        *self = Self { pending, ..self.for_child().without_handlers() };
    }

    fn with(actions: Actions) -> Self {
        Self { actions: Rc::new(RefCell::new(actions)), pending: Pending::default() }
    }

    /// The same with the default action in the place of each handler.
    #[must_use]
    pub fn without_handlers(self) -> Self {
        for action in self.actions.borrow_mut().iter_mut() {
            let handler = if action.disposition() == Disposition::Ignore { action.handler } else { 0 };
            *action = SignalAction { handler, ..SignalAction::default() };
        }
        self
    }

    /// What a process begins with that shares the actions.
    pub fn for_sharer(&self) -> Self {
        Self { actions: self.actions.clone(), pending: Pending::default() }
    }

    /// Whether both have the same actions.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.actions, &other.actions)
    }

    /// Whether another process has the same actions.
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.actions) > 1
    }

    /// What a child of `fork` begins with: the same actions, nothing pending.
    pub fn for_child(&self) -> Self {
        Self::with(*self.actions.borrow())
    }
}

/// The signals of a thread.
#[derive(Debug, Default)]
pub struct ThreadSignals {
    /// Blocked.
    pub mask: SignalSet,
    /// Pending for this thread only.
    pub pending: Pending,
    /// The mask to go back to after `sigsuspend` and its kin: it is what a handler's frame records.
    pub saved_mask: Option<SignalSet>,
    /// The alternate stack.
    pub alt_stack: AltStack,
}

/// `stack_t`, as far as it is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 for none.
    pub size: u64,
    /// `SS_AUTODISARM`, if set.
    pub flags: u32,
}

impl AltStack {
    /// Whether a stack pointer is on it.
    pub fn holds(&self, stack_pointer: u64) -> bool {
        self.size != 0 && stack_pointer.wrapping_sub(self.base).wrapping_sub(1) < self.size
    }
}

/// The next thing to do about signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing but to know that it has been taken: a timer that sent it goes on.
    Ignore(SignalInfo),
    /// End the process.
    Terminate(SignalInfo, DefaultAction),
    /// Stop the process.
    Stop(SignalInfo),
    /// Run a handler.
    Handle(SignalInfo, SignalAction),
}

impl ThreadSignals {
    /// What a new thread or process begins with: the same mask, nothing pending. A process keeps the alternate stack.
    pub fn for_child(&self) -> Self {
        Self { mask: self.mask, alt_stack: self.alt_stack, ..Self::default() }
    }

    /// What goes on with another thread of the process after `execve`: mask and pending signals.
    pub fn hand_over(&mut self) -> Self {
        Self { mask: self.mask, pending: core::mem::take(&mut self.pending), ..Self::default() }
    }

    /// Sets the mask, without what can't be blocked; returns what it was.
    pub fn set_mask(&mut self, mask: SignalSet) -> SignalSet {
        core::mem::replace(&mut self.mask, mask.without(SignalSet::UNBLOCKABLE))
    }

    /// The signals that wait and are not blocked.
    pub fn deliverable(&self, process: &ProcessSignals) -> SignalSet {
        self.pending.set().union(process.pending.set()).without(self.mask)
    }

    /// Whether one of them will have an effect.
    pub fn is_interrupted(&self, process: &ProcessSignals) -> bool {
        let mut ready = self.deliverable(process);
        while let Some(signal) = ready.first() {
            if !process.ignores(signal) && signal.default_action() != DefaultAction::Continue
                || matches!(process.action(signal).disposition(), Disposition::Handler(_))
            {
                return true;
            }
            ready = ready.without(SignalSet::of(signal));
        }
        false
    }

    /// Takes one of `wanted` that is pending: the thread's own first, then the process's (`sigtimedwait`).
    pub fn take_any(&mut self, process: &mut ProcessSignals, wanted: SignalSet) -> Option<SignalInfo> {
        self.pending.take_next(wanted).or_else(|| process.pending.take_next(wanted))
    }

    /// Takes the next one that is not blocked. Those of the thread itself come first, and of them faults.
    pub fn next_info(&mut self, process: &mut ProcessSignals) -> Option<SignalInfo> {
        self.take_any(process, SignalSet(!self.mask.0))
    }

    /// The mask while a handler runs, set; returns the mask that its frame records.
    pub fn enter_handler(&mut self, signal: Signal, action: &SignalAction) -> SignalSet {
        let old = self.saved_mask.take().unwrap_or(self.mask);
        let own = if action.has(linux::SA_NODEFER) { SignalSet::EMPTY } else { SignalSet::of(signal) };
        self.set_mask(self.mask.union(action.mask).union(own));
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ThreadSignals {
        fn next_delivery(&mut self, process: &mut ProcessSignals) -> Option<Delivery> {
            self.next_info(process).map(|info| process.delivery(info))
        }
    }

    const LIMIT: u64 = 8;

    fn info(signal: Signal) -> SignalInfo {
        SignalInfo::from_kernel(signal)
    }

    fn handler(flags: u32) -> SignalAction {
        SignalAction { handler: 0x1000, flags: u64::from(flags), ..SignalAction::default() }
    }

    #[test]
    fn a_standard_signal_is_pending_once_and_a_real_time_signal_as_often_as_sent() {
        let real_time = Signal::from_number(40).unwrap();
        let mut pending = Pending::default();
        for _ in 0..3 {
            pending.add(info(Signal::HUP), LIMIT).unwrap();
            pending.add(info(real_time), LIMIT).unwrap();
        }
        assert!(pending.take(Signal::HUP).is_some());
        assert!(pending.take(Signal::HUP).is_none());
        for _ in 0..3 {
            assert!(pending.set().contains(real_time));
            assert!(pending.take(real_time).is_some());
        }
        assert!(pending.set().is_empty());
    }

    #[test]
    fn the_queue_of_real_time_signals_is_bounded() {
        let real_time = Signal::from_number(64).unwrap();
        let mut pending = Pending::default();
        let mut other = pending.beside();
        let results = (0..LIMIT).map(|_| pending.add(info(real_time), LIMIT));
        assert_eq!(results.last(), Some(Ok(())));
        assert_eq!(other.add(info(real_time), LIMIT), Err(Errno::EAGAIN));
        let plain = SignalInfo::from_process(real_time, SI_USER, 1, 0);
        assert_eq!([other.add(plain, LIMIT), other.add(plain, LIMIT)], [Ok(()), Ok(())], "`kill` is never refused");
        assert!(other.take(real_time).is_some() && other.take(real_time).is_none());
        assert!(pending.take(real_time).is_some());
        assert_eq!(other.add(info(real_time), LIMIT), Ok(()));
        assert_eq!(pending.add(info(Signal::KILL), LIMIT), Ok(()), "a standard signal always fits");
    }

    #[test]
    fn blocked_signals_wait_and_kill_and_stop_cannot_be_blocked() {
        let (mut thread, mut process) = (ThreadSignals::default(), ProcessSignals::default());
        thread.set_mask(SignalSet(u64::MAX));
        process.pending.add(info(Signal::TERM), LIMIT).unwrap();
        assert_eq!(thread.next_delivery(&mut process), None);
        process.pending.add(info(Signal::KILL), LIMIT).unwrap();
        assert!(matches!(thread.next_delivery(&mut process), Some(Delivery::Terminate(..))));
        process.pending.add(info(Signal::STOP), LIMIT).unwrap();
        assert!(matches!(thread.next_delivery(&mut process), Some(Delivery::Stop(_))));
    }

    #[test]
    fn the_threads_own_fault_comes_first() {
        let (mut thread, mut process) = (ThreadSignals::default(), ProcessSignals::default());
        for signal in [Signal::HUP, Signal::SEGV] {
            process.set_action(signal, handler(0)).unwrap();
        }
        process.pending.add(info(Signal::HUP), LIMIT).unwrap();
        thread.pending.add(info(Signal::SEGV), LIMIT).unwrap();
        assert!(matches!(thread.next_delivery(&mut process), Some(Delivery::Handle(i, _)) if i.signal == Signal::SEGV));
        assert!(matches!(thread.next_delivery(&mut process), Some(Delivery::Handle(i, _)) if i.signal == Signal::HUP));
    }

    #[test]
    fn a_handler_blocks_its_signal_and_its_mask_and_the_frame_records_the_mask_before_sigsuspend() {
        let mut thread = ThreadSignals::default();
        thread.set_mask(SignalSet::of(Signal::HUP));
        thread.saved_mask = Some(SignalSet::of(Signal::CHLD));
        let action = SignalAction { mask: SignalSet::of(Signal::TERM), ..handler(0) };
        assert_eq!(thread.enter_handler(Signal::INT, &action), SignalSet::of(Signal::CHLD));
        assert_eq!(thread.mask, SignalSet::of(Signal::HUP).with(Signal::TERM).with(Signal::INT));
        let mut thread = ThreadSignals::default();
        thread.enter_handler(Signal::INT, &handler(linux::SA_NODEFER));
        assert!(thread.mask.is_empty());
    }

    #[test]
    fn a_one_shot_handler_is_gone_after_its_delivery() {
        let (mut thread, mut process) = (ThreadSignals::default(), ProcessSignals::default());
        process.set_action(Signal::TERM, handler(linux::SA_RESETHAND)).unwrap();
        process.pending.add(info(Signal::TERM), LIMIT).unwrap();
        assert!(matches!(thread.next_delivery(&mut process), Some(Delivery::Handle(..))));
        assert_eq!(process.action(Signal::TERM).disposition(), Disposition::Default);
    }

    #[test]
    fn exec_keeps_what_is_ignored_and_nothing_else() {
        let mut process = ProcessSignals::default();
        process.set_action(Signal::HUP, SignalAction { handler: 1, ..SignalAction::default() }).unwrap();
        process.set_action(Signal::INT, handler(0)).unwrap();
        process.after_exec();
        assert_eq!(process.action(Signal::HUP).disposition(), Disposition::Ignore);
        assert_eq!(process.action(Signal::INT).disposition(), Disposition::Default);
    }

    #[test]
    fn ignoring_a_signal_takes_it_back() {
        let mut process = ProcessSignals::default();
        process.pending.add(info(Signal::INT), LIMIT).unwrap();
        process.set_action(Signal::INT, SignalAction { handler: 1, ..SignalAction::default() }).unwrap();
        assert!(process.pending.set().is_empty());
        assert_eq!(process.set_action(Signal::KILL, handler(0)), Err(Errno::EINVAL));
    }
}
