//! Timers that send signals (`timer_create(2)`).
//!
//! A timer has at most one signal on its way. Only when that is taken (by a handler, `sigtimedwait`, a signal file) is an
//! interval timer set again; what it has missed meanwhile is its overrun. So no interval is too short.

use super::alarms::Ring;
use super::clock::Clock;
use super::schedule::Schedule;
use super::used_time::Watch;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::process::{Process, Thread};
use crate::signal::deliver::{send, send_to_thread};
use crate::signal::{Details, Signal, SignalInfo};
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};

/// What a timer takes of the server's memory, about, in bytes.
const TIMER_BYTES: u64 = 384;
/// How long an interval timer whose signal is ignored rests at least: a tick of Linux.
const IGNORED_PAUSE_NS: u64 = 4_000_000;
/// The largest overrun that is told (`DELAYTIMER_MAX`).
const MAX_OVERRUN: u64 = i32::MAX as u64;

/// Who is told of an expiration.
#[derive(Clone)]
pub enum Notice {
    /// Nobody (`SIGEV_NONE`).
    None,
    /// The process, or one thread of it (`SIGEV_SIGNAL`, `SIGEV_THREAD_ID`).
    Signal {
        /// By which signal.
        signal: Signal,
        /// With which value.
        value: u64,
        /// The thread, if it is for one.
        thread: Option<Weak<Thread>>,
    },
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// Whether a signal of it has been sent and not been taken.
    is_sent: bool,
    /// Expirations since that was sent which the schedule knows nothing of.
    missed: u64,
    /// What the last signal that was taken told.
    last_overrun: u64,
    watch: Watch,
}

/// A timer.
pub struct PosixTimer {
    this: Weak<Self>,
    id: i32,
    process: Weak<Process>,
    clock: Clock,
    notice: Notice,
    state: RefCell<State>,
    /// Pays for it.
    _charge: Charge,
    _alive: crate::census::counted::Timer,
}

impl PosixTimer {
    /// The clock that it counts on.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn watch(&self, state: &mut State) {
        let Some(process) = self.process.upgrade() else { return };
        let who: Weak<dyn Ring> = self.this.clone();
        let deadline_ns = match &self.notice {
            // Nobody is told: it is enough to count when somebody asks.
            Notice::None => None,
            Notice::Signal { .. } => state.schedule.next_ns(),
        };
        state.watch.set(&self.clock, deadline_ns, &process.server.alarms, who);
    }

    /// Sets or stops it; returns what was left, and the interval.
    pub fn set(&self, schedule: Schedule) -> (u64, u64) {
        let before = self.left_ns();
        let mut state = self.state.borrow_mut();
        state.schedule = schedule;
        state.missed = 0;
        state.last_overrun = 0;
        self.watch(&mut state);
        before
    }

    /// What is left, and the interval.
    pub fn left_ns(&self) -> (u64, u64) {
        let now_ns = self.clock.timer_now_ns().unwrap_or_default();
        let mut schedule = self.state.borrow().schedule;
        schedule.follow_clock();
        match (&self.notice, schedule.is_due(now_ns) && schedule.interval_ns() == 0) {
            // It is about to ring.
            (Notice::Signal { .. }, true) => (1, 0),
            (Notice::Signal { .. } | Notice::None, _) => schedule.left_ns(now_ns),
        }
    }

    /// What the last signal told.
    pub fn overrun(&self) -> u64 {
        self.state.borrow().last_overrun
    }

    /// Its signal has been taken: tells the overrun, and goes on.
    fn taken(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.is_sent = false;
        let now_ns = self.clock.timer_now_ns().unwrap_or_default();
        let passed = if state.schedule.interval_ns() == 0 { 0 } else { state.schedule.advance(now_ns) };
        let missed = core::mem::take(&mut state.missed);
        state.last_overrun = passed.saturating_sub(1).saturating_add(missed).min(MAX_OVERRUN);
        state.schedule.follow_clock();
        self.watch(&mut state);
        state.last_overrun
    }

    /// Sends the signal. False: it is ignored.
    fn send(&self, process: &Rc<Process>, signal: Signal, value: u64, thread: Option<&Weak<Thread>>) -> bool {
        let thread = match thread.map(Weak::upgrade) {
            None => None,
            Some(Some(thread)) => Some(thread),
            Some(None) => return false,
        };
        let mask = thread.clone().or_else(|| process.threads().first().cloned()).map(|thread| thread.mask());
        if process.signals.borrow().ignores(signal) && !mask.is_some_and(|mask| mask.contains(signal)) {
            return false;
        }
        let details = Details::Timer { id: self.id, overrun: 0, value };
        let info = SignalInfo { signal, code: crate::signal::SI_TIMER, details };
        let sent = match thread {
            Some(thread) => send_to_thread(&thread, info),
            None => send(process, info),
        };
        sent.is_ok()
    }

    /// It has expired.
    fn expire(&self, process: &Rc<Process>, now_ns: u64) {
        let Notice::Signal { signal, value, thread } = &self.notice else { return };
        if self.state.borrow().is_sent {
            let mut state = self.state.borrow_mut();
            state.missed = state.missed.saturating_add(1);
            return;
        }
        {
            let mut state = self.state.borrow_mut();
            state.is_sent = true;
            if state.schedule.interval_ns() == 0 {
                state.schedule.advance(now_ns);
            }
        }
        if !self.send(process, *signal, *value, thread.as_ref()) {
            let mut state = self.state.borrow_mut();
            state.is_sent = false;
            state.schedule.advance(now_ns.saturating_add(IGNORED_PAUSE_NS));
            self.watch(&mut state);
        }
    }
}

impl Ring for PosixTimer {
    fn ring(&self) {
        let (Some(process), Some(now_ns)) = (self.process.upgrade(), self.clock.timer_now_ns()) else { return };
        let is_due = {
            let mut state = self.state.borrow_mut();
            state.schedule.follow_clock();
            state.schedule.is_due(now_ns)
        };
        if is_due {
            self.expire(&process, now_ns);
        } else {
            self.watch(&mut self.state.borrow_mut());
        }
    }
}

/// The timers of a process. They are not inherited, and end with its program.
#[derive(Default)]
pub struct PosixTimers {
    timers: RefCell<BTreeMap<i32, Rc<PosixTimer>>>,
    next_id: Cell<i32>,
}

impl PosixTimers {
    /// Makes a timer, which is not set. `EAGAIN` if there are `limit` already. `notice` is given its number.
    pub fn create(
        &self,
        process: &Rc<Process>,
        clock: Clock,
        limit: u64,
        notice: impl FnOnce(i32) -> Notice,
    ) -> Result<i32> {
        let mut timers = self.timers.borrow_mut();
        if timers.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        let charge = Charge::new(Budget::Open, TIMER_BYTES).map_err(|_| Errno::EAGAIN)?;
        let mut id = self.next_id.get();
        while timers.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(0);
        }
        self.next_id.set(id.checked_add(1).unwrap_or(0));
        let timer = Rc::new_cyclic(|this| PosixTimer {
            _alive: Default::default(),
            this: this.clone(),
            id,
            process: Rc::downgrade(process),
            clock,
            notice: notice(id),
            state: RefCell::default(),
            _charge: charge,
        });
        timers.insert(id, timer);
        Ok(id)
    }

    /// A timer by its number. `EINVAL`.
    pub fn get(&self, id: i32) -> Result<Rc<PosixTimer>> {
        self.timers.borrow().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Ends a timer. `EINVAL`.
    pub fn delete(&self, id: i32) -> Result<()> {
        let deleted = self.timers.borrow_mut().remove(&id).ok_or(Errno::EINVAL);
        deleted.map(drop)
    }

    /// Ends all.
    pub fn clear(&self) {
        let deleted = self.timers.take();
        self.next_id.set(0);
        drop(deleted);
    }
}

/// What a signal tells that is being taken from a queue of a process: timers that sent it go on.
pub fn taken(process: &Process, info: SignalInfo) -> SignalInfo {
    if let Details::Timer { id, value, .. } = info.details {
        let overrun = process.timers.posix.get(id).map_or(0, |timer| timer.taken() as i32);
        return SignalInfo { details: Details::Timer { id, overrun, value }, ..info };
    }
    if info.signal == Signal::ALRM {
        process.timers.real_signal_taken();
    }
    info
}
