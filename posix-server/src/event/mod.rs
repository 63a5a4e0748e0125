//! Files that are made to be waited for, files that wait for others, and timers.
//!
//! | module | what |
//! |---|---|
//! | `alarms` | the deadlines of all timers |
//! | `clock` | the clocks of programs |
//! | `schedule` | when a timer expires |
//! | `used_time` | when to look at timers of used time |
//! | `inotify` | `inotify(7)` |
//! | `interval_timers` | `setitimer(2)` |
//! | `posix_timers` | `timer_create(2)` |
//! | `counter` | `eventfd(2)` |
//! | `epoll` | `epoll(7)` |
//! | `process_file` | `pidfd_open(2)` |
//! | `signal_file` | `signalfd(2)` |
//! | `timer_file` | `timerfd_create(2)` |
//!
//! All wait in [wait queues](crate::wait), as every file does.

pub mod aio;
pub mod alarms;
pub mod clock;
pub mod counter;
pub mod cpu_limit;
pub mod epoll;
pub mod inotify;
pub mod interval_timers;
pub mod posix_timers;
pub mod process_file;
pub mod schedule;
pub mod signal_file;
pub mod timer_file;
mod used_time;

use alloc::rc::Rc;
use counter::EventCounter;
use epoll::Epoll;
use inotify::Inotify;
use process_file::ProcessFile;
use signal_file::SignalFile;
use timer_file::TimerFile;

/// An open file of this module that has calls of its own.
#[derive(Clone, Copy)]
pub enum EventFile<'a> {
    /// `epoll_create`.
    Epoll(&'a Rc<Epoll>),
    /// `timerfd_create`.
    Timer(&'a TimerFile),
    /// `signalfd`.
    Signals(&'a SignalFile),
    /// `pidfd_open`.
    Process(&'a ProcessFile),
    /// `inotify_init`.
    Inotify(&'a Rc<Inotify>),
    /// `eventfd`.
    Counter(&'a EventCounter),
}

impl<'a> EventFile<'a> {
    /// It as an epoll instance.
    pub fn epoll(self) -> Option<&'a Rc<Epoll>> {
        match self {
            Self::Epoll(epoll) => Some(epoll),
            Self::Timer(_) | Self::Signals(_) | Self::Process(_) | Self::Inotify(_) | Self::Counter(_) => None,
        }
    }

    /// It as a timer.
    pub fn timer(self) -> Option<&'a TimerFile> {
        match self {
            Self::Timer(timer) => Some(timer),
            Self::Epoll(_) | Self::Signals(_) | Self::Process(_) | Self::Inotify(_) | Self::Counter(_) => None,
        }
    }

    /// It as a set of signals.
    pub fn signals(self) -> Option<&'a SignalFile> {
        match self {
            Self::Signals(signals) => Some(signals),
            Self::Epoll(_) | Self::Timer(_) | Self::Process(_) | Self::Inotify(_) | Self::Counter(_) => None,
        }
    }

    /// It as a process.
    pub fn process(self) -> Option<&'a ProcessFile> {
        match self {
            Self::Process(process) => Some(process),
            Self::Epoll(_) | Self::Timer(_) | Self::Signals(_) | Self::Inotify(_) | Self::Counter(_) => None,
        }
    }

    /// It as a counter.
    pub fn counter(self) -> Option<&'a EventCounter> {
        match self {
            Self::Counter(counter) => Some(counter),
            Self::Epoll(_) | Self::Timer(_) | Self::Signals(_) | Self::Process(_) | Self::Inotify(_) => None,
        }
    }

    /// It as an inotify instance.
    pub fn inotify(self) -> Option<&'a Rc<Inotify>> {
        match self {
            Self::Inotify(inotify) => Some(inotify),
            Self::Epoll(_) | Self::Timer(_) | Self::Signals(_) | Self::Process(_) | Self::Counter(_) => None,
        }
    }
}
