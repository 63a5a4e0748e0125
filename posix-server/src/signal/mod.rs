//! Signals (`signal(7)`): numbers, sets, information, dispositions.
//!
//! * [`state`] holds what is pending and what is to be done, as pure state machines.
//! * [`mask`] is what a thread blocks, which its shim may change.
//! * [`frame`] builds and reads the frames that handlers run on.
//! * [`deliver`] joins them to threads.
//! * [`leave`] is the way back to the program, on which they take effect.

pub mod deliver;
pub mod frame;
pub mod leave;
mod mask;
pub mod state;

use crate::errno::{Errno, Result};
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The largest signal number.
pub const SIGNAL_MAX: u8 = 64;

/// A signal's number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $source:ident: $text:literal,)+) => {
        impl Signal {
            $(#[doc = concat!("`", stringify!($source), "`: ", $text, ".")] pub const $name: Self = Self(linux::$source as u8);)+
        }
    };
}

signals! {
    HUP = SIGHUP: "the terminal hung up, or the session's leader ended",
    INT = SIGINT: "interrupt from the keyboard",
    QUIT = SIGQUIT: "quit from the keyboard",
    ILL = SIGILL: "illegal instruction",
    TRAP = SIGTRAP: "breakpoint",
    ABRT = SIGABRT: "abort",
    BUS = SIGBUS: "an address without data behind it",
    FPE = SIGFPE: "arithmetic error",
    KILL = SIGKILL: "the end, unconditionally",
    SEGV = SIGSEGV: "invalid address",
    PIPE = SIGPIPE: "nobody reads",
    ALRM = SIGALRM: "the alarm clock",
    TERM = SIGTERM: "please end",
    CHLD = SIGCHLD: "a child changed its state",
    CONT = SIGCONT: "go on",
    STOP = SIGSTOP: "stop, unconditionally",
    TSTP = SIGTSTP: "stop, from the keyboard",
    TTIN = SIGTTIN: "a background process reads from its terminal",
    TTOU = SIGTTOU: "a background process writes to its terminal",
    URG = SIGURG: "urgent data",
    XCPU = SIGXCPU: "the limit on processor time is reached",
    XFSZ = SIGXFSZ: "the file grows beyond the limit",
    IO = SIGIO: "a file became ready",
    VTALRM = SIGVTALRM: "the timer of time that the program uses",
    PROF = SIGPROF: "the timer of time that is used for the program",
    WINCH = SIGWINCH: "the window's size changed",
    SYS = SIGSYS: "bad system call",
}

/// What happens if a program has not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends, and would leave a core dump.
    Dump,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// The process goes on.
    Continue,
}

impl Signal {
    /// The signal with this number. `EINVAL`.
    pub const fn from_number(number: u64) -> Result<Self> {
        if number >= 1 && number <= SIGNAL_MAX as u64 { Ok(Self(number as u8)) } else { Err(Errno::EINVAL) }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in tables, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// What happens if a program has not said otherwise (`signal(7)`).
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Self::CHLD | Self::URG | Self::WINCH => DefaultAction::Ignore,
            Self::CONT => DefaultAction::Continue,
            Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => DefaultAction::Stop,
            Self::QUIT
            | Self::ILL
            | Self::TRAP
            | Self::ABRT
            | Self::BUS
            | Self::FPE
            | Self::SEGV
            | Self::SYS
            | Self::XCPU
            | Self::XFSZ => DefaultAction::Dump,
            // Everything else, real-time signals among it, terminates.
            Self(_) => DefaultAction::Terminate,
        }
    }

    /// Whether several can be pending (real-time signals).
    pub const fn is_queued(self) -> bool {
        self.0 as u32 >= linux::SIGRTMIN
    }

    /// Whether it can be caught, blocked or ignored.
    pub const fn can_be_caught(self) -> bool {
        !matches!(self, Self::KILL | Self::STOP)
    }
}

impl core::fmt::Debug for Signal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Signal({})", self.0)
    }
}

/// A set of signals; bit n-1 is signal n, as in `sigset_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Those that stop by default, `SIGSTOP` too.
    pub const STOPPING: Self = Self::of(Signal::STOP).with(Signal::TSTP).with(Signal::TTIN).with(Signal::TTOU);
    /// Those that can't be blocked.
    pub const UNBLOCKABLE: Self = Self::of(Signal::KILL).with(Signal::STOP);
    /// Those that a fault of the program itself raises; they are delivered first.
    pub const SYNCHRONOUS: Self = Self::of(Signal::SEGV)
        .with(Signal::BUS)
        .with(Signal::ILL)
        .with(Signal::TRAP)
        .with(Signal::FPE)
        .with(Signal::SYS);

    /// One signal.
    pub const fn of(signal: Signal) -> Self {
        Self(1 << signal.index())
    }

    /// With one more.
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// Whether a signal is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Those in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this one only.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest.
    pub fn first(self) -> Option<Signal> {
        Signal::from_number(u64::from(self.0.trailing_zeros()) + 1).ok()
    }
}

/// What `siginfo_t` tells besides the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// Nothing: the kernel sent it.
    None,
    /// `kill` and its kin: who sent it.
    Sender {
        /// The process.
        pid: i32,
        /// Its real user.
        uid: u32,
    },
    /// `sigqueue`: who sent it, with a value.
    Value {
        /// The process.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// The value.
        value: u64,
    },
    /// A child changed its state.
    Child {
        /// The child.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// Exit status or signal.
        status: i32,
        /// Time that it has used, in the program and in the system, in ticks.
        times: [u64; 2],
    },
    /// A file became ready.
    Readiness {
        /// For what, as `poll` tells.
        band: u64,
        /// Its descriptor.
        fd: i32,
    },
    /// A timer expired.
    Timer {
        /// The timer.
        id: i32,
        /// How often it did besides.
        overrun: i32,
        /// The value that it was made with.
        value: u64,
    },
    /// An address that faulted.
    Fault {
        /// The address.
        address: u64,
    },
    /// A call that the thread may not make.
    Call {
        /// Behind the instruction that made it.
        address: u64,
        /// Its number.
        number: u32,
        /// Of which processor's system.
        architecture: u32,
        /// `si_errno`.
        errno: i32,
    },
    /// As a program has made it (`rt_sigqueueinfo`).
    Given {
        /// `si_errno`.
        errno: i32,
        /// The fields behind it.
        fields: [u64; 4],
    },
}

/// A signal with what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// The signal.
    pub signal: Signal,
    /// `si_code`: why it was sent.
    pub code: i32,
    /// The rest.
    pub details: Details,
}

/// `si_code` of `kill`.
pub const SI_USER: i32 = linux::SI_USER as i32;
/// `si_code` of signals that the kernel sent.
pub const SI_KERNEL: i32 = linux::SI_KERNEL as i32;
/// `si_code` of a message that has come to a queue.
pub const SI_MESGQ: i32 = linux::SI_MESGQ;
/// `si_code` of timers.
pub const SI_TIMER: i32 = linux::SI_TIMER;
/// `si_code` of `tkill` and `tgkill`.
pub const SI_TKILL: i32 = linux::SI_TKILL;

impl SignalInfo {
    /// A signal that the system sends of its own accord.
    pub const fn from_kernel(signal: Signal) -> Self {
        Self { signal, code: SI_KERNEL, details: Details::None }
    }

    /// A signal that a process sends.
    pub const fn from_process(signal: Signal, code: i32, pid: i32, uid: u32) -> Self {
        Self { signal, code, details: Details::Sender { pid, uid } }
    }

    /// The `siginfo_t` of x86-64: three numbers, padding, then a union from byte 16 on.
    pub fn to_bytes(self) -> [u8; 128] {
        let mut raw = RawSignalInfo {
            signal: i32::from(self.signal.number()),
            errno: 0,
            code: self.code,
            padding: 0,
            fields: [0; 4],
            rest: [0; 80],
        };
        let pair = |low: i32, high: u32| u64::from(low as u32) | u64::from(high) << 32;
        match self.details {
            Details::None => {}
            Details::Sender { pid, uid } => raw.fields[0] = pair(pid, uid),
            Details::Value { pid, uid, value } => {
                raw.fields[0] = pair(pid, uid);
                raw.fields[1] = value;
            }
            Details::Child { pid, uid, status, times } => {
                raw.fields[0] = pair(pid, uid);
                raw.fields[1] = u64::from(status as u32);
                [raw.fields[2], raw.fields[3]] = times;
            }
            Details::Readiness { band, fd } => [raw.fields[0], raw.fields[1]] = [band, u64::from(fd as u32)],
            Details::Timer { id, overrun, value } => {
                raw.fields[0] = pair(id, overrun as u32);
                raw.fields[1] = value;
            }
            Details::Fault { address } => raw.fields[0] = address,
            Details::Call { address, number, architecture, errno } => {
                raw.errno = errno;
                [raw.fields[0], raw.fields[1]] = [address, pair(number as i32, architecture)];
            }
            Details::Given { errno, fields } => (raw.errno, raw.fields) = (errno, fields),
        }
        let mut bytes = [0; 128];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// Reads what `rt_sigqueueinfo` is given; the signal is the call's, not the record's.
    pub fn from_bytes(signal: Signal, bytes: &[u8; 128]) -> Self {
        let raw = RawSignalInfo::read_from_bytes(bytes).unwrap_or_else(|_| RawSignalInfo::new_zeroed());
        let details = Details::Given { errno: raw.errno, fields: raw.fields };
        Self { signal, code: raw.code, details }
    }
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawSignalInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: u32,
    fields: [u64; 4],
    rest: [u8; 80],
}

/// What a program wants done with a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    /// The default action.
    #[default]
    Default,
    /// Nothing.
    Ignore,
    /// Run this function.
    Handler(u64),
}

/// `struct kernel_sigaction` of x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SignalAction {
    /// 0 for the default, 1 to ignore, else the handler.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while it runs.
    pub mask: SignalSet,
}

impl SignalAction {
    /// What the handler field says.
    pub fn disposition(&self) -> Disposition {
        match self.handler {
            0 => Disposition::Default,
            1 => Disposition::Ignore,
            address => Disposition::Handler(address),
        }
    }

    /// Whether it has a flag (`SA_*`).
    pub fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }
}
