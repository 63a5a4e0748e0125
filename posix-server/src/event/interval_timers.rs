//! The three timers that every process has (`setitimer(2)`).
//!
//! `ITIMER_REAL` is set again when its signal is taken, the others when they expire: these can't do so more often than
//! [used time](super::used_time) is looked at.

use super::alarms::Ring;
use super::clock::{Clock, Worker};
use super::cpu_limit::CpuLimit;
use super::posix_timers::PosixTimers;
use super::schedule::Schedule;
use super::used_time::Watch;
use crate::process::{Phase, Process};
use crate::signal::deliver::send;
use crate::signal::{Signal, SignalInfo};
use alloc::rc::{Rc, Weak};
use core::cell::{OnceCell, RefCell};

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `ITIMER_REAL`: time that passes.
    Real,
    /// `ITIMER_VIRTUAL`: time that the program uses.
    Virtual,
    /// `ITIMER_PROF`: time that the program uses, and the system for it.
    Profile,
}

impl Which {
    fn signal(self) -> Signal {
        match self {
            Self::Real => Signal::ALRM,
            Self::Virtual => Signal::VTALRM,
            Self::Profile => Signal::PROF,
        }
    }
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    watch: Watch,
}

/// One of the timers.
struct IntervalTimer {
    this: Weak<Self>,
    which: Which,
    process: Weak<Process>,
    clock: Clock,
    state: RefCell<State>,
    _alive: crate::census::counted::Timer,
}

impl IntervalTimer {
    fn new(which: Which, process: &Rc<Process>) -> Rc<Self> {
        let clock = match which {
            Which::Real => Clock::Monotonic,
            Which::Virtual | Which::Profile => Clock::Used(Worker::Process(Rc::downgrade(process))),
        };
        let process = Rc::downgrade(process);
        Rc::new_cyclic(|this| Self {
            _alive: Default::default(),
            this: this.clone(),
            which,
            process,
            clock,
            state: RefCell::default(),
        })
    }

    fn watch(&self, state: &mut State) {
        if let Some(process) = self.process.upgrade() {
            let who: Weak<dyn Ring> = self.this.clone();
            state.watch.set(&self.clock, state.schedule.next_ns(), &process.server.alarms, who);
        }
    }

    fn set(&self, value_ns: u64, interval_ns: u64) -> (u64, u64) {
        let before = self.left_ns();
        let now_ns = self.clock.timer_now_ns().unwrap_or_default();
        let first_ns = if value_ns == 0 { 0 } else { now_ns.saturating_add(value_ns) };
        let mut state = self.state.borrow_mut();
        state.schedule = Schedule::new(first_ns, interval_ns);
        self.watch(&mut state);
        before
    }

    fn left_ns(&self) -> (u64, u64) {
        let now_ns = self.clock.timer_now_ns().unwrap_or_default();
        let schedule = self.state.borrow().schedule;
        // What is about to ring has some time left.
        if schedule.is_due(now_ns) { (1, schedule.interval_ns()) } else { schedule.left_ns(now_ns) }
    }

    /// The signal has been taken: the next one can come.
    fn signal_taken(&self) {
        let now_ns = self.clock.timer_now_ns().unwrap_or_default();
        let mut state = self.state.borrow_mut();
        if state.schedule.interval_ns() != 0 && state.schedule.advance(now_ns) > 0 {
            self.watch(&mut state);
        }
    }
}

impl Ring for IntervalTimer {
    fn ring(&self) {
        let (Some(process), Some(now_ns)) = (self.process.upgrade(), self.clock.timer_now_ns()) else { return };
        if process.phase.get() == Phase::Ended {
            return;
        }
        let is_due = {
            let mut state = self.state.borrow_mut();
            let is_due = state.schedule.is_due(now_ns);
            let waits_for_signal = self.which == Which::Real && state.schedule.interval_ns() != 0;
            if is_due && !waits_for_signal {
                state.schedule.advance(now_ns);
            }
            if !(is_due && waits_for_signal) {
                self.watch(&mut state);
            }
            is_due
        };
        if is_due {
            // A standard signal always fits.
            let _ = send(&process, SignalInfo::from_kernel(self.which.signal()));
        }
    }
}

/// All timers of a process.
#[derive(Default)]
pub struct ProcessTimers {
    /// Those that it has made.
    pub posix: PosixTimers,
    real: OnceCell<Rc<IntervalTimer>>,
    virtual_: OnceCell<Rc<IntervalTimer>>,
    profile: OnceCell<Rc<IntervalTimer>>,
    cpu_limit: OnceCell<Rc<CpuLimit>>,
}

impl ProcessTimers {
    fn cell(&self, which: Which) -> &OnceCell<Rc<IntervalTimer>> {
        match which {
            Which::Real => &self.real,
            Which::Virtual => &self.virtual_,
            Which::Profile => &self.profile,
        }
    }

    /// Sets one of the timers of `process`, whose timers these are; returns what was left, and the interval.
    pub fn set(&self, process: &Rc<Process>, which: Which, value_ns: u64, interval_ns: u64) -> (u64, u64) {
        self.cell(which).get_or_init(|| IntervalTimer::new(which, process)).set(value_ns, interval_ns)
    }

    /// What is left of one, and its interval.
    pub fn left_ns(&self, which: Which) -> (u64, u64) {
        self.cell(which).get().map_or((0, 0), |timer| timer.left_ns())
    }

    /// Goes by the limit on processor time that `process`, whose timers these are, has now.
    pub fn follow_cpu_limit(&self, process: &Rc<Process>) {
        self.cpu_limit.get_or_init(|| CpuLimit::new(process)).follow();
    }

    /// A `SIGALRM` has been taken.
    pub fn real_signal_taken(&self) {
        if let Some(timer) = self.real.get() {
            timer.signal_taken();
        }
    }
}
