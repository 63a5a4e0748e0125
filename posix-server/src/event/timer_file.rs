//! Timers that are read like files (`timerfd_create(2)`).
//!
//! Expirations are counted when somebody looks: the schedule and the clock say how many there were. An alarm only wakes those
//! who wait; as on Linux, an interval timer's is set again when the expirations that it told of are looked at.

use super::EventFile;
use super::alarms::{Alarm, Alarms, Ring};
use super::clock::Clock;
use super::schedule::Schedule;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::platform::now_ns;
use crate::wait::WaitQueue;
use alloc::rc::{Rc, Weak};
use core::cell::RefCell;
use linux_raw_sys::general as linux;

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// Counted and not yet read.
    expirations: u64,
    /// The clock was set, and nobody was told yet who wants to know (`TFD_TIMER_CANCEL_ON_SET`).
    is_cancelled: bool,
    alarm: Option<Alarm>,
    /// The setting's flags, for `/proc/PID/fdinfo`.
    flags: u32,
}

/// A timer.
pub struct TimerFile {
    this: Weak<Self>,
    clock: Clock,
    alarms: Rc<Alarms>,
    state: RefCell<State>,
    changed: WaitQueue,
    _alive: crate::census::counted::Timer,
}

impl TimerFile {
    /// A timer that is not set.
    pub fn new(clock: Clock, alarms: &Rc<Alarms>) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            _alive: Default::default(),
            this: this.clone(),
            clock,
            alarms: alarms.clone(),
            state: RefCell::default(),
            changed: WaitQueue::new(),
        })
    }

    /// The clock of its absolute times.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Counts what has expired. An interval timer that had rung is set to ring again.
    fn count(&self, state: &mut State) {
        let passed = state.schedule.advance(now_ns());
        if passed > 0 {
            state.expirations = state.expirations.saturating_add(passed);
            state.schedule.follow_clock();
            self.set_alarm(state);
        }
    }

    fn set_alarm(&self, state: &mut State) {
        let who: Weak<dyn Ring> = self.this.clone();
        state.alarm = state.schedule.next_ns().map(|deadline_ns| self.alarms.set(deadline_ns, who));
    }

    fn is_ready(&self, state: &State) -> bool {
        state.is_cancelled || state.expirations > 0 || state.schedule.is_due(now_ns())
    }

    /// Sets or stops it, on the monotonic clock; returns what was left, and the interval.
    pub fn set(&self, schedule: Schedule, flags: u32) -> (u64, u64) {
        let mut state = self.state.borrow_mut();
        let before = state.schedule.left_ns(now_ns());
        state.schedule = schedule;
        state.expirations = 0;
        state.is_cancelled = false;
        state.flags = flags;
        self.set_alarm(&mut state);
        before
    }

    /// What is left, and the interval.
    pub fn left_ns(&self) -> (u64, u64) {
        let mut state = self.state.borrow_mut();
        self.count(&mut state);
        state.schedule.left_ns(now_ns())
    }

    /// Sets the number of expirations (`TFD_IOC_SET_TICKS`).
    pub fn set_expirations(&self, expirations: u64) {
        self.state.borrow_mut().expirations = expirations;
        self.changed.wake_for(PollEvents::IN);
    }
}

impl Ring for TimerFile {
    fn ring(&self) {
        let mut state = self.state.borrow_mut();
        if state.schedule.follow_clock() {
            state.is_cancelled |= state.flags & linux::TFD_TIMER_CANCEL_ON_SET != 0;
        }
        if !state.schedule.is_due(now_ns()) {
            self.set_alarm(&mut state);
        }
        let is_ready = self.is_ready(&state);
        drop(state);
        if is_ready {
            self.changed.wake_for(PollEvents::IN);
        }
    }
}

impl FileOps for TimerFile {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() < size_of::<u64>() {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.borrow_mut();
        self.count(&mut state);
        if core::mem::take(&mut state.is_cancelled) {
            state.expirations = 0;
            return Err(Errno::ECANCELED);
        }
        if state.expirations == 0 {
            return Err(Errno::EAGAIN);
        }
        let expirations = core::mem::take(&mut state.expirations);
        if to.put(&expirations.to_le_bytes()) < size_of::<u64>() { Err(Errno::EFAULT) } else { Ok(size_of::<u64>()) }
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn readiness(&self) -> PollEvents {
        if self.is_ready(&self.state.borrow()) { PollEvents::IN } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.changed)
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Timer(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::SliceDestination;
    use crate::platform::{self, Executor};

    fn read(timer: &TimerFile) -> Result<u64> {
        let mut bytes = [0; 8];
        timer.read(0, &mut SliceDestination::new(&mut bytes))?;
        Ok(u64::from_le_bytes(bytes))
    }

    #[test]
    fn an_interval_timer_wakes_and_counts() {
        let executor = Executor::new();
        let timer = TimerFile::new(Clock::Monotonic, &Alarms::new(&executor));
        assert_eq!(timer.set(Schedule::new(now_ns() + 10, 5), 0), (0, 0));
        let listener = timer.wait_queue().unwrap().listen();
        assert_eq!(read(&timer), Err(Errno::EAGAIN));
        platform::advance_ns(21);
        executor.run_ready(now_ns());
        assert!(listener.is_notified());
        assert_eq!(read(&timer), Ok(3));
        assert_eq!((timer.left_ns(), timer.readiness()), ((4, 5), PollEvents::empty()));
        listener.reset();
        platform::advance_ns(4);
        executor.run_ready(now_ns());
        assert!(listener.is_notified(), "reading has set it again");
        timer.set(Schedule::default(), 0);
        assert_eq!((read(&timer), executor.next_deadline_ns()), (Err(Errno::EAGAIN), None));
    }
}
