//! One traced thread: what it has stopped for, what its tracer is told, and what it goes on with (`ptrace(2)`, "Stopped states").
//!
//! 1. Something happens that the tracer is to hear of: a signal, a call, an [`Event`], or a *trap* that was asked for (by `PTRACE_INTERRUPT`,
//!    or because the whole process is stopped). The thread [stops](Tracee::stop); that is news for the tracer.
//! 2. A `wait` of the tracer [takes](Tracee::news) the news. It may look at the thread then.
//! 3. The tracer lets it [go on](Tracee::resume), and says how far, and with which signal.

use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::process::tree::ExitStatus;
use crate::signal::{Details, Signal, SignalInfo};
use linux_raw_sys::ptrace as linux;

bitflags::bitflags! {
    /// What a tracer wants to hear of (`PTRACE_SETOPTIONS`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Options: u32 {
        /// Stops of calls are told from signals.
        const CALLS_MARKED = linux::PTRACE_O_TRACESYSGOOD;
        /// [`Event::Fork`].
        const FORK = linux::PTRACE_O_TRACEFORK;
        /// [`Event::Vfork`].
        const VFORK = linux::PTRACE_O_TRACEVFORK;
        /// [`Event::Clone`].
        const CLONE = linux::PTRACE_O_TRACECLONE;
        /// [`Event::Exec`].
        const EXEC = linux::PTRACE_O_TRACEEXEC;
        /// [`Event::VforkDone`].
        const VFORK_DONE = linux::PTRACE_O_TRACEVFORKDONE;
        /// [`Event::Exit`].
        const EXIT = linux::PTRACE_O_TRACEEXIT;
        /// [`Event::Seccomp`].
        const SECCOMP = linux::PTRACE_O_TRACESECCOMP;
        /// The end of the tracer is the end of the traced.
        const EXIT_KILL = linux::PTRACE_O_EXITKILL;
    }
}

/// Something that a tracer has asked to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Event {
    /// It has forked.
    Fork = linux::PTRACE_EVENT_FORK,
    /// The same, and it waits for the child.
    Vfork = linux::PTRACE_EVENT_VFORK,
    /// It has made a thread, or a process of another kind.
    Clone = linux::PTRACE_EVENT_CLONE,
    /// It runs another program.
    Exec = linux::PTRACE_EVENT_EXEC,
    /// It need not wait for the child any longer.
    VforkDone = linux::PTRACE_EVENT_VFORK_DONE,
    /// It is about to end.
    Exit = linux::PTRACE_EVENT_EXIT,
    /// A filter of calls asks for the tracer's opinion.
    Seccomp = linux::PTRACE_EVENT_SECCOMP,
}

impl Event {
    /// The option that asks for it.
    pub const fn option(self) -> Options {
        match self {
            Self::Fork => Options::FORK,
            Self::Vfork => Options::VFORK,
            Self::Clone => Options::CLONE,
            Self::Exec => Options::EXEC,
            Self::VforkDone => Options::VFORK_DONE,
            Self::Exit => Options::EXIT,
            Self::Seccomp => Options::SECCOMP,
        }
    }
}

/// Why a traced thread stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal is about to be delivered.
    Signal(SignalInfo),
    /// The process was stopped by this signal, and the thread takes part in that.
    Group(Signal),
    /// `PTRACE_EVENT_STOP`: the same of one that was seized; or it was interrupted, or goes on after a stop, and the signal is `SIGTRAP`.
    Trap(Signal),
    /// It enters a call.
    CallEntry,
    /// It leaves a call.
    CallExit,
    /// It has been stepped into a handler.
    Handler,
    /// An event.
    Event(Event),
}

impl Stop {
    /// The upper half of a wait's status: the signal, above it the event.
    pub fn code(self, options: Options) -> i32 {
        let trap = i32::from(Signal::TRAP.number());
        match self {
            Self::Signal(info) => i32::from(info.signal.number()),
            Self::Group(signal) => i32::from(signal.number()),
            Self::Trap(signal) => i32::from(signal.number()) | (linux::PTRACE_EVENT_STOP << 8) as i32,
            Self::CallEntry | Self::CallExit if options.contains(Options::CALLS_MARKED) => trap | 0x80,
            Self::CallEntry | Self::CallExit | Self::Handler => trap,
            Self::Event(event) => trap | ((event as u32) << 8) as i32,
        }
    }

    /// What `PTRACE_GETSIGINFO` tells of it: of a stop of the whole process nothing, unless the thread was seized.
    fn info(self, code: i32, tid: Pid, uid: u32) -> Option<SignalInfo> {
        let signal = match self {
            Self::Signal(info) => return Some(info),
            Self::Group(_) => return None,
            Self::Trap(signal) => signal,
            Self::CallEntry | Self::CallExit | Self::Handler | Self::Event(_) => Signal::TRAP,
        };
        Some(SignalInfo { signal, code, details: Details::Sender { pid: tid, uid } })
    }
}

/// Who traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracer {
    /// The thread: only it may ask for something.
    pub tid: Pid,
    /// Its process: all its threads may wait.
    pub pid: Pid,
}

/// How the tracing began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By `PTRACE_ATTACH` or `PTRACE_TRACEME`.
    Attached,
    /// By `PTRACE_SEIZE`.
    Seized,
}

/// How far a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the next signal or event.
    Continue,
    /// To the beginning or end of the next call, too.
    Calls,
    /// One instruction.
    Step,
}

/// What a thread that goes on is to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Nothing.
    Plain,
    /// Deliver this signal, which was reported or stands in the place of one.
    Deliver(SignalInfo),
    /// Be sent this one.
    Send(Signal),
}

/// A stop in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    stop: Stop,
    info: Option<SignalInfo>,
    code: i32,
    is_news: bool,
    /// `PTRACE_LISTEN`: it stands, but its tracer waits for the end of the stop.
    is_listening: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped(Standing),
    /// It has ended, and the tracer has not waited for it.
    Ended(ExitStatus),
    /// The first thread has ended and others go on: there is nothing to tell before the end of all.
    Silent,
}

/// A traced thread.
#[derive(Clone, Debug)]
pub struct Tracee {
    /// Who traces it.
    pub tracer: Tracer,
    /// Its process.
    pub process: Pid,
    /// How the tracing began.
    pub hold: Hold,
    /// What the tracer wants to hear of.
    pub options: Options,
    /// How far it goes.
    pub mode: Mode,
    /// What `PTRACE_GETEVENTMSG` tells.
    pub message: u64,
    /// Whether the trap flag that the program has was set for a step.
    pub is_flag_ours: bool,
    state: State,
    /// A trap was asked for (`PTRACE_INTERRUPT`).
    is_trap_due: bool,
    /// The process goes on: one that was seized stops to tell of it.
    is_notice_due: bool,
    /// The stop of the process that it has not taken part in yet.
    group_stop: Option<Signal>,
}

/// Whether something changes for the thread at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nudge {
    /// It stands, or notices by itself.
    No,
    /// It runs, and is to look.
    Attend,
    /// It stood listening and has news for its tracer.
    Tell,
}

impl Tracee {
    /// One that runs.
    pub fn new(tracer: Tracer, process: Pid, hold: Hold, options: Options) -> Self {
        Self {
            tracer,
            process,
            hold,
            options,
            mode: Mode::Continue,
            message: 0,
            is_flag_ours: false,
            state: State::Running,
            is_trap_due: false,
            is_notice_due: false,
            group_stop: None,
        }
    }

    /// What a child begins with that is traced from its birth, as its maker is.
    pub fn for_child(&self, process: Pid) -> Self {
        let child = Self::new(self.tracer, process, self.hold, self.options);
        Self { is_trap_due: self.hold == Hold::Seized, ..child }
    }

    /// Whether it stands still at its tracer's disposal.
    pub fn is_stopped(&self) -> bool {
        self.stopped().is_some()
    }

    fn stopped(&self) -> Option<&Standing> {
        match &self.state {
            State::Stopped(standing) if !standing.is_listening => Some(standing),
            State::Stopped(_) | State::Running | State::Ended(_) | State::Silent => None,
        }
    }

    /// What it stands still for.
    pub fn stop_reason(&self) -> Option<Stop> {
        self.stopped().map(|standing| standing.stop)
    }

    /// Whether a trap is due, for which calls that wait are interrupted.
    pub fn is_trapping(&self) -> bool {
        self.state == State::Running && (self.is_trap_due || self.is_notice_due || self.group_stop.is_some())
    }

    /// The trap that is due, if one is. `group` is the signal by which the process is stopped at the moment.
    pub fn take_trap(&mut self, group: Option<Signal>) -> Option<Stop> {
        if !(self.is_trap_due || self.is_notice_due || self.group_stop.is_some()) {
            return None;
        }
        let signal = self.group_stop.take().or(group);
        self.is_trap_due = false;
        self.is_notice_due = false;
        match self.hold {
            Hold::Seized => Some(Stop::Trap(signal.unwrap_or(Signal::TRAP))),
            Hold::Attached => signal.map(Stop::Group),
        }
    }

    /// It stops. `uid` is the real user of its process.
    pub fn stop(&mut self, stop: Stop, tid: Pid, uid: u32) {
        // Any stop will do for one who wanted to interrupt.
        self.is_trap_due = false;
        let code = stop.code(self.options);
        match stop {
            Stop::CallEntry => self.message = u64::from(linux::PTRACE_EVENTMSG_SYSCALL_ENTRY),
            Stop::CallExit => self.message = u64::from(linux::PTRACE_EVENTMSG_SYSCALL_EXIT),
            Stop::Event(_) => {}
            Stop::Signal(_) | Stop::Group(_) | Stop::Trap(_) | Stop::Handler => self.message = 0,
        }
        let info = stop.info(code, tid, uid);
        self.state = State::Stopped(Standing { stop, info, code, is_news: true, is_listening: false });
    }

    /// What a `wait` hears of a stop: the upper half of its status. `take`: it is no news afterwards.
    pub fn news(&mut self, take: bool) -> Option<i32> {
        match &mut self.state {
            State::Stopped(standing) if standing.is_news && !standing.is_listening => {
                standing.is_news = !take;
                Some(standing.code)
            }
            State::Stopped(_) | State::Running | State::Ended(_) | State::Silent => None,
        }
    }

    /// It goes on. `replacement` is what `si_code` tells of a signal that the tracer has chosen.
    pub fn resume(&mut self, mode: Mode, signal: Option<Signal>, uid: u32) -> Resumption {
        let State::Stopped(standing) = self.state else { return Resumption::Plain };
        self.mode = mode;
        self.message = 0;
        self.state = State::Running;
        let Some(signal) = signal else { return Resumption::Plain };
        match standing.stop {
            Stop::Signal(_) => Resumption::Deliver(match standing.info {
                Some(info) if info.signal == signal => info,
                Some(_) | None => SignalInfo::from_process(signal, crate::signal::SI_USER, self.tracer.pid, uid),
            }),
            Stop::CallEntry | Stop::CallExit => Resumption::Send(signal),
            Stop::Group(_) | Stop::Trap(_) | Stop::Handler | Stop::Event(_) => Resumption::Plain,
        }
    }

    /// It goes on because its tracer has gone: with the signal of which that one has not heard.
    pub fn release(&mut self, uid: u32) -> Resumption {
        let unheard = match self.state {
            State::Stopped(Standing { stop: Stop::Signal(info), is_news: true, .. }) => Some(info.signal),
            State::Stopped(_) | State::Running | State::Ended(_) | State::Silent => None,
        };
        self.resume(Mode::Continue, unheard, uid)
    }

    /// The signal that it has stopped for. `EINVAL`.
    pub fn info(&self) -> Result<SignalInfo> {
        self.stopped().and_then(|standing| standing.info).ok_or(Errno::EINVAL)
    }

    /// Changes it. `EINVAL`.
    pub fn set_info(&mut self, info: SignalInfo) -> Result<()> {
        match &mut self.state {
            State::Stopped(standing) if standing.info.is_some() => {
                standing.info = Some(info);
                Ok(())
            }
            State::Stopped(_) | State::Running | State::Ended(_) | State::Silent => Err(Errno::EINVAL),
        }
    }

    /// `PTRACE_LISTEN`: the stop goes on without the tracer. `EIO` if it is none that the process has in common.
    pub fn listen(&mut self, group: Option<Signal>) -> Result<Nudge> {
        match &mut self.state {
            State::Stopped(standing) if self.hold == Hold::Seized && matches!(standing.stop, Stop::Trap(_)) => {
                standing.is_listening = true;
                let is_notice_due = self.is_notice_due;
                Ok(if is_notice_due { self.hear(group) } else { Nudge::No })
            }
            State::Stopped(_) | State::Running | State::Ended(_) | State::Silent => Err(Errno::EIO),
        }
    }

    /// `PTRACE_INTERRUPT`. `EIO` for one that was not seized.
    pub fn interrupt(&mut self, group: Option<Signal>) -> Result<Nudge> {
        if self.hold == Hold::Attached {
            return Err(Errno::EIO);
        }
        self.is_trap_due = true;
        Ok(self.hear(group))
    }

    /// Its process was stopped when the tracing began: it is to tell of that.
    pub fn join_group_stop(&mut self, signal: Signal) {
        self.group_stop = Some(signal);
    }

    /// The process is stopped by a signal.
    pub fn group_stops(&mut self, signal: Signal) -> Nudge {
        self.group_stop = Some(signal);
        self.hear(Some(signal))
    }

    /// `SIGCONT` has come.
    pub fn group_continues(&mut self) -> Nudge {
        self.group_stop = None;
        if self.hold == Hold::Attached {
            return Nudge::No;
        }
        self.is_notice_due = true;
        self.hear(None)
    }

    /// A trap is due: whoever listens stops anew.
    fn hear(&mut self, group: Option<Signal>) -> Nudge {
        match self.state {
            State::Running => Nudge::Attend,
            State::Stopped(standing) if standing.is_listening => match self.take_trap(group) {
                Some(stop) => {
                    let (tid, uid) = match standing.info.map(|info| info.details) {
                        Some(Details::Sender { pid, uid }) => (pid, uid),
                        Some(_) | None => (0, 0),
                    };
                    self.stop(stop, tid, uid);
                    Nudge::Tell
                }
                None => Nudge::No,
            },
            State::Stopped(_) | State::Ended(_) | State::Silent => Nudge::No,
        }
    }

    /// It has ended, which a `wait` of the tracer can learn.
    pub fn end(&mut self, status: ExitStatus) {
        self.state = State::Ended(status);
    }

    /// It has ended, and others of its process have not.
    pub fn fall_silent(&mut self) {
        self.state = State::Silent;
    }

    /// How it ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        match self.state {
            State::Ended(status) => Some(status),
            State::Running | State::Stopped(_) | State::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TID: Pid = 7;
    const UID: u32 = 5;

    fn tracee(hold: Hold) -> Tracee {
        Tracee::new(Tracer { tid: 2, pid: 2 }, TID, hold, Options::empty())
    }

    fn stopped(hold: Hold, stop: Stop) -> Tracee {
        let mut tracee = tracee(hold);
        tracee.stop(stop, TID, UID);
        tracee
    }

    fn signal(signal: Signal) -> Stop {
        Stop::Signal(SignalInfo::from_kernel(signal))
    }

    #[test]
    fn a_stop_is_news_once_and_its_code_names_signal_and_event() {
        let mut tracee = stopped(Hold::Attached, signal(Signal::INT));
        assert_eq!([tracee.news(false), tracee.news(true), tracee.news(true)], [Some(2), Some(2), None]);
        let code = |stop: Stop, options| stop.code(options);
        assert_eq!(code(Stop::CallEntry, Options::empty()), 5);
        assert_eq!(code(Stop::CallExit, Options::CALLS_MARKED), 0x85);
        assert_eq!(code(Stop::Event(Event::Exec), Options::EXEC), 0x405);
        assert_eq!(code(Stop::Trap(Signal::STOP), Options::empty()), 0x8013);
    }

    #[test]
    fn a_signal_is_delivered_as_reported_or_as_chosen_or_not_at_all() {
        let go_on = |chosen| stopped(Hold::Attached, signal(Signal::INT)).resume(Mode::Continue, chosen, UID);
        assert_eq!(go_on(None), Resumption::Plain);
        assert_eq!(go_on(Some(Signal::INT)), Resumption::Deliver(SignalInfo::from_kernel(Signal::INT)));
        let chosen = SignalInfo::from_process(Signal::HUP, 0, 2, UID);
        assert_eq!(go_on(Some(Signal::HUP)), Resumption::Deliver(chosen));
        let mut changed = stopped(Hold::Attached, signal(Signal::INT));
        changed.set_info(chosen).unwrap();
        assert_eq!(changed.resume(Mode::Step, Some(Signal::HUP), UID), Resumption::Deliver(chosen));
        assert_eq!(changed.mode, Mode::Step);
    }

    #[test]
    fn a_signal_given_at_a_call_is_sent_and_at_an_event_lost() {
        let go_on = |stop| stopped(Hold::Attached, stop).resume(Mode::Calls, Some(Signal::INT), UID);
        assert_eq!(go_on(Stop::CallExit), Resumption::Send(Signal::INT));
        assert_eq!(go_on(Stop::Event(Event::Fork)), Resumption::Plain);
        assert_eq!(go_on(Stop::Group(Signal::STOP)), Resumption::Plain);
    }

    #[test]
    fn a_signal_that_the_tracer_has_heard_of_is_lost_with_it() {
        let mut tracee = stopped(Hold::Attached, signal(Signal::TERM));
        let deliver = Resumption::Deliver(SignalInfo::from_kernel(Signal::TERM));
        assert_eq!(tracee.clone().release(UID), deliver);
        tracee.news(true);
        assert_eq!(tracee.release(UID), Resumption::Plain);
    }

    #[test]
    fn a_stop_of_the_process_has_no_signal_to_look_at_unless_it_was_seized() {
        assert_eq!(stopped(Hold::Attached, Stop::Group(Signal::STOP)).info(), Err(Errno::EINVAL));
        let info = stopped(Hold::Seized, Stop::Trap(Signal::STOP)).info().unwrap();
        assert_eq!((info.signal, info.code), (Signal::STOP, 0x8013));
        assert_eq!(tracee(Hold::Seized).info(), Err(Errno::EINVAL), "it runs");
    }

    #[test]
    fn an_interrupt_is_a_trap_and_any_stop_will_do_for_it() {
        let mut tracee = tracee(Hold::Seized);
        assert_eq!(tracee.interrupt(None), Ok(Nudge::Attend));
        assert!(tracee.is_trapping());
        assert_eq!(tracee.clone().take_trap(None), Some(Stop::Trap(Signal::TRAP)));
        tracee.stop(signal(Signal::INT), TID, UID);
        tracee.resume(Mode::Continue, None, UID);
        assert_eq!(tracee.take_trap(None), None);
        assert_eq!(super::Tracee::interrupt(&mut self::tracee(Hold::Attached), None), Err(Errno::EIO));
    }

    #[test]
    fn who_listens_hears_of_the_end_of_the_stop() {
        let mut tracee = tracee(Hold::Seized);
        assert_eq!(tracee.group_stops(Signal::TSTP), Nudge::Attend);
        let stop = tracee.take_trap(Some(Signal::TSTP)).unwrap();
        assert_eq!(stop, Stop::Trap(Signal::TSTP));
        tracee.stop(stop, TID, UID);
        assert_eq!(tracee.news(true), Some(0x8014));
        assert_eq!(tracee.listen(Some(Signal::TSTP)), Ok(Nudge::No));
        assert!(!tracee.is_stopped());
        assert_eq!(tracee.group_continues(), Nudge::Tell);
        assert_eq!(tracee.news(true), Some(0x8005));
        assert_eq!(stopped(Hold::Seized, Stop::CallExit).listen(None), Err(Errno::EIO));
    }

    #[test]
    fn one_that_was_attached_takes_part_in_a_stop_once_and_is_not_told_of_its_end() {
        let mut tracee = tracee(Hold::Attached);
        tracee.group_stops(Signal::STOP);
        assert_eq!(tracee.take_trap(Some(Signal::STOP)), Some(Stop::Group(Signal::STOP)));
        assert_eq!(tracee.take_trap(Some(Signal::STOP)), None);
        assert_eq!(tracee.group_continues(), Nudge::No);
        assert_eq!(tracee.take_trap(None), None);
    }
}
