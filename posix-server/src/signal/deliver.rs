//! From a signal that is sent to what it does: who is woken, stopped or ended, and how a handler is entered.
//!
//! A thread is in one of two places. *Inside* a request, it is woken, its call ends, and [`super::leave`] builds the handler's frame before
//! the answer goes out. *Outside*, in the program, it is stopped, and redirected on the spot; if it stands in the shim, the
//! shim is made to ask before it goes on.

use super::leave::leave_program;
use super::{DefaultAction, Details, Disposition, Signal, SignalAction, SignalInfo, SignalSet};
use crate::errno::Result;
use crate::exec::shim_image::Place;
use crate::platform::Registers;
use crate::process::end;
use crate::process::futex::parking;
use crate::process::tree::{ExitStatus, Tree};
use crate::process::{Attention, Phase, Pid, Process, Thread, Whereabouts};
use crate::ptrace::stops;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// Sends a signal to a process. `EAGAIN` if a real-time signal does not fit the queue.
pub fn send(process: &Rc<Process>, info: SignalInfo) -> Result<()> {
    if process.phase.get() == Phase::Ended {
        return Ok(());
    }
    if is_immune(process, info.signal) {
        return Ok(());
    }
    if info.signal == Signal::KILL {
        // Without asking anything of the program, nor of the shim in it.
        end::end_process(process, ExitStatus::Killed { signal: Signal::KILL, dumped: false });
        return Ok(());
    }
    control_job(process, info.signal);
    let threads = process.threads();
    // Whoever traces the first thread wants to hear of signals that are ignored, too.
    let is_seen = threads.first().is_some_and(|thread| thread.is_traced.get() || thread.mask().contains(info.signal));
    if !is_seen && process.signals.borrow().ignores(info.signal) {
        return Ok(());
    }
    let limit = process.limit(linux::RLIMIT_SIGPENDING);
    process.signals.borrow_mut().pending.add(info, limit)?;
    threads.iter().for_each(|thread| thread.note_held());
    process.signal_sent.wake();
    // Any thread that does not block it will do; the first is preferred, as on Linux.
    let is_ready = |thread: &&Rc<Thread>| !thread.mask().contains(info.signal) && !thread.is_halted();
    if let Some(thread) = threads.iter().find(is_ready) {
        attend(thread);
    }
    Ok(())
}

/// Whether a signal means nothing to a process because it is the first one of a system and has no handler for it.
fn is_immune(process: &Process, signal: Signal) -> bool {
    process.is_immune.get() && process.signals.borrow().action(signal).disposition() == Disposition::Default
}

/// Sends a signal to one thread. `EAGAIN` as above.
pub fn send_to_thread(thread: &Rc<Thread>, info: SignalInfo) -> Result<()> {
    let process = &thread.process;
    if process.phase.get() == Phase::Ended || thread.whereabouts.get() == Whereabouts::Gone {
        return Ok(());
    }
    if info.signal == Signal::KILL {
        return send(process, info);
    }
    if is_immune(process, info.signal) {
        return Ok(());
    }
    control_job(process, info.signal);
    let is_seen = thread.is_traced.get() || thread.mask().contains(info.signal);
    if !is_seen && process.signals.borrow().ignores(info.signal) {
        return Ok(());
    }
    let limit = process.limit(linux::RLIMIT_SIGPENDING);
    thread.signals.borrow_mut().pending.add(info, limit)?;
    thread.note_held();
    process.signal_sent.wake();
    attend(thread);
    Ok(())
}

/// A fault of the thread's own that it can't put off: if it blocks or ignores the signal, that is undone, and the default action
/// follows.
pub fn force(thread: &Rc<Thread>, info: SignalInfo) {
    let signal = info.signal;
    let is_masked = thread.mask().contains(signal);
    let process = &thread.process;
    process.is_immune.set(false);
    let is_ignored = process.signals.borrow().action(signal).disposition() == Disposition::Ignore;
    if is_masked || is_ignored {
        // Only `SIGKILL` and `SIGSTOP` can't be reset, and they are never forced.
        let _ = process.signals.borrow_mut().set_action(signal, SignalAction::default());
        let mut signals = thread.signals.borrow_mut();
        let mask = signals.mask.without(SignalSet::of(signal));
        signals.set_mask(mask);
    }
    // A standard signal always fits.
    let _ = thread.signals.borrow_mut().pending.add(info, u64::MAX);
    thread.attention.set(Attention::Needed);
}

/// What stop signals and `SIGCONT` do to each other, whatever else becomes of them.
fn control_job(process: &Rc<Process>, signal: Signal) {
    let opposite = if signal == Signal::CONT {
        SignalSet::STOPPING
    } else if signal.default_action() == DefaultAction::Stop {
        SignalSet::of(Signal::CONT)
    } else {
        return;
    };
    process.signals.borrow_mut().pending.discard(opposite);
    for thread in process.threads() {
        thread.signals.borrow_mut().pending.discard(opposite);
    }
    if signal == Signal::CONT {
        resume(process);
        stops::group_continues(process);
    }
}

/// Notes whether a thread has something to look at, after its mask or a disposition has changed.
pub fn recheck(thread: &Thread) {
    // One without an effect is taken, too: the timer that sent it goes on.
    let has_any = !thread.signals.borrow().deliverable(&thread.process.signals.borrow()).is_empty();
    if has_any {
        thread.attention.set(Attention::Needed);
    }
}

/// Makes a thread look at its signals.
pub fn attend(thread: &Rc<Thread>) {
    thread.attention.set(Attention::Needed);
    if thread.is_halted() {
        // It looks when its tracer lets it go on.
        return;
    }
    match thread.whereabouts.get() {
        Whereabouts::Inside => {
            thread.signal_arrived.wake();
            parking::interrupt(thread);
        }
        Whereabouts::Outside if thread.process.phase.get() == Phase::Running || thread.is_traced.get() => {
            interrupt(thread);
        }
        // It looks when it goes on; or never.
        Whereabouts::Outside | Whereabouts::Gone => {}
    }
}

/// Stops a thread that is outside, makes it look at its signals, and lets it go on.
pub(crate) fn interrupt(thread: &Rc<Thread>) {
    thread.machine.suspend();
    redirect(thread);
    // If that has stopped the process, the thread has a second suspension, which stays.
    thread.machine.resume();
}

/// The thread stands still, outside.
fn redirect(thread: &Rc<Thread>) {
    if !thread.machine.is_running() {
        // A request or a fault of it is on its way, and will find the signal. Or an answer is on its way to it, and the shim asks then.
        thread.set_pending();
        return;
    }
    let Ok(registers) = thread.machine.registers() else { return };
    let shim = &thread.server().shim;
    match shim.place(registers.rip) {
        Place::Program => leave_program(thread, &registers),
        Place::Shim | Place::Store => thread.set_pending(),
        Place::Exit => {
            thread.set_pending();
            // The thread stands still, so this can only fail if it is gone.
            let _ = thread.machine.set_registers(&Registers { rip: shim.exit_start(), ..registers });
        }
    }
}

/// Stops the process of a thread that takes a signal. Threads that are traced stop for their tracers.
pub(super) fn stop(by: &Thread, signal: Signal) {
    let process = &by.process;
    process.phase.set(Phase::Stopped);
    let parent = process.server.tree.change(|tree, (pid, signal)| tree.stop(pid, signal), (process.pid, signal));
    for thread in process.threads() {
        thread.attention.set(Attention::Needed);
        if thread.is_traced.get() {
            stops::group_stops(&thread, signal, by);
        } else if thread.whereabouts.get() == Whereabouts::Outside && !thread.is_suspended.replace(true) {
            thread.machine.suspend();
        } else {
            thread.signal_arrived.wake();
        }
    }
    if let Some(parent) = parent
        && !stops::is_traced_by(process, parent)
    {
        tell_parent(process, parent, linux::CLD_STOPPED, i32::from(signal.number()));
    }
}

/// Lets a stopped process go on.
fn resume(process: &Rc<Process>) {
    if process.phase.get() != Phase::Stopped {
        return;
    }
    process.phase.set(Phase::Running);
    let parent = process.server.tree.change(Tree::resume, process.pid);
    for thread in process.threads() {
        if thread.is_suspended.replace(false) {
            redirect(&thread);
            if thread.whereabouts.get() == Whereabouts::Outside {
                thread.machine.resume();
            }
        }
    }
    process.resumed.wake();
    if let Some(parent) = parent {
        tell_parent(process, parent, linux::CLD_CONTINUED, i32::from(Signal::CONT.number()));
    }
}

/// Tells a parent of a stop or continuation.
fn tell_parent(process: &Rc<Process>, parent: Pid, code: u32, status: i32) {
    let Some(parent) = process.server.process(parent) else { return };
    let wants_signal = !parent.signals.borrow().action(Signal::CHLD).has(linux::SA_NOCLDSTOP);
    if wants_signal {
        let details = Details::Child { pid: process.pid, uid: process.credentials().uid, status, times: [0; 2] };
        // A standard signal always fits.
        let _ = send(&parent, SignalInfo { signal: Signal::CHLD, code: code as i32, details });
    }
    parent.child_news.wake();
}
