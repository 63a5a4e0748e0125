//! How threads get into stops for their tracers, and out of them.

use super::tracee::Nudge;
use super::{Event, Hold, Mode, Options, Resumption, Stop, Tracee, Tracer};
use crate::calls::{self, Judgement};
use crate::errno::Result;
use crate::process::end::{end_process, reap_traced};
use crate::process::tree::{ExitStatus, Tree};
use crate::process::{Phase, Pid, Process, Server, Thread, Whereabouts};
use crate::signal::deliver::{attend, interrupt, send, send_to_thread};
use crate::signal::leave::{Leaving, leave_call, proceed};
use crate::signal::{Details, SI_USER, Signal, SignalInfo};
use alloc::boxed::Box;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;

/// The trap flag of RFLAGS.
const TRAP_FLAG: u64 = 1 << 8;

/// What a thread does when its tracer lets it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Begin the call.
    Entry,
    /// The same, after a filter of calls has asked for the tracer's opinion.
    Judged,
    /// Leave `execve`.
    Exec,
    /// See to its signals.
    Signals,
    /// End its process.
    End(ExitStatus),
    /// Let the task go on that runs its call.
    Task,
}

/// A thread that stands still for its tracer, with what it would have gone on with.
pub struct Halted {
    /// Its registers and the rest.
    pub leaving: Leaving,
    point: Point,
}

impl Thread {
    /// Whether it stands still for its tracer.
    pub fn is_halted(&self) -> bool {
        self.halted.borrow().is_some()
    }

    /// Sets the trap flag for one instruction.
    pub fn step(&self, context: &mut Context) {
        if context.rflags & TRAP_FLAG == 0 {
            context.rflags |= TRAP_FLAG;
            self.is_stepping.set(true);
        }
    }

    /// Takes the trap flag back, unless the program has set it.
    pub fn unstep(&self, context: &mut Context) {
        if self.is_stepping.replace(false) {
            context.rflags &= !TRAP_FLAG;
        }
    }
}

fn with<T>(thread: &Thread, change: impl FnOnce(&mut Tracee) -> T) -> Option<T> {
    if !thread.is_traced.get() {
        return None;
    }
    thread.server().tracees.borrow_mut().get_mut(thread.tid).map(change)
}

/// How far a traced thread goes on.
pub fn mode(thread: &Thread) -> Option<Mode> {
    with(thread, |tracee| tracee.mode)
}

/// Whether a thread's tracer wants to hear of an event.
pub fn wants(thread: &Thread, event: Event) -> bool {
    with(thread, |tracee| tracee.options.contains(event.option())).unwrap_or_default()
}

/// Sets what `PTRACE_GETEVENTMSG` tells.
pub fn set_message(thread: &Thread, message: u64) {
    let _ = with(thread, |tracee| tracee.message = message);
}

/// The signal by which a process is stopped.
pub fn group_signal(process: &Process) -> Option<Signal> {
    if process.phase.get() == Phase::Stopped { process.server.tree.look(Tree::stop_signal, process.pid) } else { None }
}

/// Whether the first thread of a process is traced by this one.
pub fn is_traced_by(process: &Process, tracer: Pid) -> bool {
    process.server.tracees.borrow().get(process.pid).is_some_and(|tracee| tracee.tracer.pid == tracer)
}

/// Whether somebody traces a thread who may not have what others' programs would give it.
pub fn is_watched_by_user(thread: &Thread) -> bool {
    let tracer = with(thread, |tracee| tracee.tracer.pid);
    let tracer = tracer.and_then(|tracer| thread.server().process(tracer));
    tracer.is_some_and(|tracer| !tracer.credentials().is_privileged())
}

/// Whether calls of a thread that wait are to end for a trap.
pub fn is_trapping(thread: &Thread) -> bool {
    with(thread, |tracee| tracee.is_trapping()).unwrap_or_default()
}

/// The trap for which a thread is to stop before it looks at its signals.
pub fn due_trap(thread: &Thread) -> Option<Stop> {
    let group = group_signal(&thread.process);
    with(thread, |tracee| tracee.take_trap(group)).flatten()
}

/// Stops a thread for its tracer.
pub fn halt(thread: &Rc<Thread>, mut leaving: Leaving, stop: Stop, point: Point) {
    if leaving.is_in_program() && !thread.is_trapped.replace(true) {
        thread.machine.suspend();
    }
    leaving.show_result();
    thread.halted.replace(Some(Box::new(Halted { leaving, point })));
    let uid = thread.process.credentials().uid;
    if with(thread, |tracee| tracee.stop(stop, thread.tid, uid)).is_some() {
        tell(thread);
    } else {
        go_on(thread, Resumption::Plain);
    }
}

/// A thread enters a call. True: it has stopped before it.
pub fn enter_call(thread: &Rc<Thread>) -> bool {
    let mut leaving = Leaving::in_call(thread);
    if thread.is_stepping.get() {
        let mut context = thread.context();
        thread.unstep(&mut context);
        thread.set_context(&context);
        leaving.context.rflags = context.rflags;
    }
    let stops = mode(thread) == Some(Mode::Calls);
    if stops {
        halt(thread, leaving, Stop::CallEntry, Point::Entry);
    }
    stops
}

/// Stops a thread in the middle of its call, if its tracer wants to hear of the event.
pub async fn report(thread: &Rc<Thread>, event: Event, message: u64) {
    if !wants(thread, event) {
        return;
    }
    set_message(thread, message);
    halt(thread, Leaving::in_call(thread), Stop::Event(event), Point::Task);
    loop {
        let listener = thread.signal_arrived.listen();
        if !thread.is_halted() || thread.whereabouts.get() == Whereabouts::Gone {
            return;
        }
        listener.await;
    }
}

/// A traced thread has executed another program, and stands before its first instruction. `old` is the id that it had before.
pub fn executed(thread: &Rc<Thread>, old: Pid) {
    let Ok(registers) = thread.machine.registers() else { return };
    let leaving = Leaving::in_program(registers, u64::from(linux::__NR_execve));
    if wants(thread, Event::Exec) {
        set_message(thread, old as u64);
        halt(thread, leaving, Stop::Event(Event::Exec), Point::Exec);
        return;
    }
    if with(thread, |tracee| tracee.hold) == Some(Hold::Attached) {
        let own = SignalInfo::from_process(Signal::TRAP, SI_USER, thread.process.pid, thread.process.credentials().uid);
        thread.pend(own);
    }
    leave_call(thread, leaving);
}

/// Lets a thread go on that has stopped for its tracer.
pub fn go_on(thread: &Rc<Thread>, resumption: Resumption) {
    // While it counts as halted, what is sent to it only waits.
    let injected = match resumption {
        Resumption::Plain => None,
        Resumption::Deliver(info) if !thread.mask().contains(info.signal) => Some(info),
        Resumption::Deliver(info) => {
            thread.pend(info);
            None
        }
        Resumption::Send(signal) => {
            // A signal that does not fit is lost, as it would be if anybody else had sent it.
            let _ = send_to_thread(thread, SignalInfo::from_kernel(signal));
            None
        }
    };
    let Some(halted) = thread.halted.take() else { return };
    let Halted { mut leaving, point } = *halted;
    leaving.injected = injected;
    match point {
        Point::Entry => calls::begin_traced(thread, &leaving, Judgement::Due),
        Point::Judged => calls::begin_traced(thread, &leaving, Judgement::Passed),
        Point::Exec => leave_call(thread, leaving),
        Point::Signals => {
            leaving.reconsider_result(thread);
            proceed(thread, leaving);
        }
        Point::End(status) => end_process(&thread.process, status),
        Point::Task => {
            thread.set_context(&leaving.context);
            thread.signal_arrived.wake();
        }
    }
}

/// Does what a change of a tracee asks for.
pub fn nudge(thread: &Rc<Thread>, nudge: Nudge) {
    match nudge {
        Nudge::No => {}
        Nudge::Attend => attend(thread),
        Nudge::Tell => tell(thread),
    }
}

/// The process of a traced thread is stopped by a signal. The thread that takes the signal sees to itself.
pub fn group_stops(thread: &Rc<Thread>, signal: Signal, by: &Thread) {
    let change = with(thread, |tracee| tracee.group_stops(signal));
    if thread.tid != by.tid {
        nudge(thread, change.unwrap_or(Nudge::No));
    }
}

/// `SIGCONT` has come for a process.
pub fn group_continues(process: &Process) {
    if process.server.tracees.borrow().is_empty() {
        return;
    }
    for thread in process.threads() {
        let change = with(&thread, Tracee::group_continues);
        nudge(&thread, change.unwrap_or(Nudge::No));
    }
}

/// Tells the tracer of a thread that it has stopped.
fn tell(thread: &Thread) {
    let stopped = with(thread, |tracee| (tracee.tracer, tracee.stop_reason(), tracee.options));
    let Some((tracer, Some(stop), options)) = stopped else { return };
    let (code, status) = match stop {
        Stop::Group(_) | Stop::Trap(_) => {
            let signal = group_signal(&thread.process);
            (linux::CLD_STOPPED, signal.map_or(0, |signal| i32::from(signal.number())))
        }
        Stop::Signal(_) | Stop::CallEntry | Stop::CallExit | Stop::Handler | Stop::Event(_) => {
            (linux::CLD_TRAPPED, stop.code(options) & 0x7f)
        }
    };
    let uid = thread.process.credentials().uid;
    let details = Details::Child { pid: thread.tid, uid, status, times: [0; 2] };
    let Some(process) = thread.server().process(tracer.pid) else { return };
    if !process.signals.borrow().action(Signal::CHLD).has(linux::SA_NOCLDSTOP) {
        // A standard signal always fits.
        let _ = send(&process, SignalInfo { signal: Signal::CHLD, code: code as i32, details });
    }
    process.child_news.wake();
}

/// Begins to trace a thread.
pub fn attach(thread: &Rc<Thread>, tracer: Tracer, hold: Hold, options: Options) {
    let process = &thread.process;
    let mut tracee = Tracee::new(tracer, process.pid, hold, options);
    if let Some(signal) = group_signal(process) {
        tracee.join_group_stop(signal);
    }
    adopt(thread, tracee);
    if hold == Hold::Attached {
        thread.pend(SignalInfo::from_kernel(Signal::STOP));
    }
    if thread.is_suspended.replace(false) {
        // It stood still with its process; from now on, for its tracer.
        interrupt(thread);
        thread.machine.resume();
    } else if hold == Hold::Attached {
        attend(thread);
    }
    process.resumed.wake();
}

/// Begins to trace the thread that asks for it, which goes on (`PTRACE_TRACEME`).
pub fn volunteer(thread: &Rc<Thread>, tracer: Tracer) {
    adopt(thread, Tracee::new(tracer, thread.process.pid, Hold::Attached, Options::empty()));
}

fn adopt(thread: &Rc<Thread>, tracee: Tracee) {
    let server = thread.server();
    if thread.tid == thread.process.pid {
        server.tree.change(|tree, (pid, tracer)| tree.set_tracer(pid, Some(tracer)), (thread.tid, tracee.tracer.pid));
    }
    server.tracees.borrow_mut().insert(thread.tid, tracee);
    thread.is_traced.set(true);
    thread.update_local_answers();
}

/// What a new thread is to its maker's tracer.
pub fn inherit(parent: &Thread, child: &Rc<Thread>, event: Option<Event>) -> bool {
    if !event.is_some_and(|event| wants(parent, event)) {
        return false;
    }
    let Some(tracee) = with(parent, |tracee| tracee.for_child(child.process.pid)) else { return false };
    let hold = tracee.hold;
    adopt(child, tracee);
    if hold == Hold::Attached {
        child.pend(SignalInfo::from_process(Signal::STOP, SI_USER, 0, 0));
    }
    true
}

/// A thread has another id from now on, as a tracee and as a tracer (`execve`).
pub fn rename(old: &Thread, new: &Rc<Thread>) {
    let server = new.server();
    let mut tracees = server.tracees.borrow_mut();
    tracees.rename_tracer(old.tid, new.tid, new.process.pid);
    let tracee = tracees.remove(old.tid);
    drop(tracees);
    old.is_traced.set(false);
    if let Some(tracee) = tracee {
        adopt(new, tracee);
    }
}

/// Ends the tracing of a thread that stands still, and lets it go on with this signal.
pub fn detach(thread: &Rc<Thread>, signal: Option<Signal>, uid: u32) {
    let resumption = with(thread, |tracee| tracee.resume(Mode::Continue, signal, uid));
    let_go(thread.server(), thread.tid, resumption.unwrap_or(Resumption::Plain));
}

/// Nobody traces a thread any longer. If it has ended, whom that concerns hears of it.
fn let_go(server: &Rc<Server>, tid: Pid, resumption: Resumption) {
    let Some(tracee) = server.tracees.borrow_mut().remove(tid) else { return };
    let is_first = tid == tracee.process;
    if is_first {
        server.tree.change(|tree, pid| tree.set_tracer(pid, None), tid);
    }
    if tracee.ended().is_some() {
        reap_traced(server, tid, tracee.process);
    }
    let Some(thread) = server.thread(tid) else { return };
    thread.is_traced.set(false);
    thread.update_local_answers();
    let is_outside = thread.whereabouts.get() == Whereabouts::Outside;
    if thread.is_halted() {
        go_on(&thread, resumption);
    } else if is_outside && thread.process.phase.get() == Phase::Stopped {
        // Its tracer let it run while its process was stopped.
        if !thread.is_suspended.replace(true) {
            thread.machine.suspend();
        }
    } else {
        attend(&thread);
    }
}

/// A thread that may trace others has ended: they go on, or end, too.
pub fn tracer_ended(server: &Rc<Server>, tracer: Pid, process: Pid) {
    if server.tracees.borrow().is_empty() {
        return;
    }
    let tracees = server.tracees.borrow().of_thread(tracer, process);
    if tracees.is_empty() {
        return;
    }
    // Not now: those who end by that may have been tracing others.
    let abandoning = server.clone();
    server.executor.spawn(async move { tracees.into_iter().for_each(|tid| abandon(&abandoning, tid, tracer)) });
}

fn abandon(server: &Rc<Server>, tid: Pid, tracer: Pid) {
    let (resumption, is_killed, process) = match server.tracees.borrow_mut().get_mut(tid) {
        Some(tracee) if tracee.tracer.tid == tracer => {
            (tracee.release(0), tracee.options.contains(Options::EXIT_KILL), tracee.process)
        }
        Some(_) | None => return,
    };
    if is_killed && let Some(process) = server.process(process) {
        end_process(&process, ExitStatus::Killed { signal: Signal::KILL, dumped: false });
    }
    let_go(server, tid, resumption);
}

/// What is known of the end of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ends so.
    With(ExitStatus),
    /// Another takes its place, or its process goes on without anybody being told.
    Unheard,
}

/// A traced thread ends. True: its tracer is to wait for it, and its id is in use until then. The end of a whole process is told by
/// [`crate::process::end`].
pub fn ended(thread: &Thread, end: End) -> bool {
    if !thread.is_traced.replace(false) {
        return false;
    }
    let halted = thread.halted.take();
    drop(halted);
    let server = thread.server();
    let is_first = thread.tid == thread.process.pid;
    let mut tracees = server.tracees.borrow_mut();
    let Some(tracer) = tracees.get(thread.tid).map(|tracee| tracee.tracer.pid) else { return false };
    let is_kept = tracees.keeps_ended(tracer);
    let Some(tracee) = tracees.get_mut(thread.tid) else { return false };
    match end {
        End::With(_) if is_first => {
            tracee.fall_silent();
            return false;
        }
        End::With(status) if is_kept && is_waited_for(server, tracer) => {
            tracee.end(status);
            drop(tracees);
            tell_end(server, tracer, thread.tid, status, thread.process.credentials().uid);
            return true;
        }
        End::With(_) | End::Unheard => {
            tracees.remove(thread.tid);
        }
    }
    false
}

/// Whether somebody would wait for what a tracer traces.
pub fn is_waited_for(server: &Server, tracer: Pid) -> bool {
    server.process(tracer).is_some_and(|tracer| {
        let action = tracer.signals.borrow().action(Signal::CHLD);
        action.disposition() != crate::signal::Disposition::Ignore && !action.has(linux::SA_NOCLDWAIT)
    })
}

/// Tells a tracer that something that it traces has ended.
pub fn tell_end(server: &Server, tracer: Pid, tid: Pid, status: ExitStatus, uid: u32) {
    let Some(tracer) = server.process(tracer) else { return };
    let (code, status) = status.to_code_and_status();
    let details = Details::Child { pid: tid, uid, status, times: [0; 2] };
    // A standard signal always fits.
    let _ = send(&tracer, SignalInfo { signal: Signal::CHLD, code, details });
    tracer.child_news.wake();
}

impl Thread {
    /// Adds a signal to those that wait for it, whatever becomes of it.
    fn pend(&self, info: SignalInfo) {
        // A standard signal always fits; a real-time one that does not is lost.
        let added: Result<()> =
            self.signals.borrow_mut().pending.add(info, self.process.limit(linux::RLIMIT_SIGPENDING));
        if added.is_ok() {
            self.note_held();
        }
    }
}
