//! How processes end, and what their parents learn.

use crate::signal::Signal;
use linux_raw_sys::general as linux;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this status, 0 to 255.
    Exited(u8),
    /// A signal ended it.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether by a signal that dumps core.
        dumped: bool,
    },
}

impl ExitStatus {
    /// The status as `wait` encodes it. No core is ever written, so the bit that says so stays clear.
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Exited(status) => i32::from(status) << 8,
            Self::Killed { signal, .. } => i32::from(signal.number()),
        }
    }

    /// `si_code` and `si_status` of the signal that tells of it. Without a core file there is none to be told of.
    pub fn to_code_and_status(self) -> (i32, i32) {
        match self {
            Self::Exited(status) => (linux::CLD_EXITED as i32, i32::from(status)),
            Self::Killed { signal, .. } => (linux::CLD_KILLED as i32, i32::from(signal.number())),
        }
    }
}

/// What a child did that its parent can learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It ended.
    Ended(ExitStatus),
    /// It was stopped by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
    /// It has stopped for its tracer: the upper half of the status.
    Trapped(i32),
}

impl ChildEvent {
    /// The status as `wait4` encodes it.
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Ended(status) => status.to_wait_status(),
            Self::Stopped(signal) => i32::from(signal.number()) << 8 | 0x7f,
            Self::Continued => 0xffff,
            Self::Trapped(code) => code << 8 | 0x7f,
        }
    }

    /// `si_code` and `si_status` as `waitid` tells them.
    pub fn to_code_and_status(self) -> (i32, i32) {
        match self {
            Self::Ended(status) => status.to_code_and_status(),
            Self::Stopped(signal) => (linux::CLD_STOPPED as i32, i32::from(signal.number())),
            Self::Continued => (linux::CLD_CONTINUED as i32, i32::from(Signal::CONT.number())),
            Self::Trapped(code) => (linux::CLD_TRAPPED as i32, code),
        }
    }
}
