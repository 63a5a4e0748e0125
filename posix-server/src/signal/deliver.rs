//! From a signal that is sent to what it does: who is woken, stopped or ended, and how a handler is entered.
//!
//! A thread is in one of two places. *Inside* a request, it is woken, its call ends, and [`leave`] builds the handler's frame before
//! the answer goes out. *Outside*, in the program, it is stopped, and redirected on the spot; if it stands in the shim, the
//! shim is made to ask before it goes on.

use super::frame::{self, Trap};
use super::state::Delivery;
use super::{DefaultAction, Details, Disposition, Signal, SignalAction, SignalInfo, SignalSet};
use crate::errno::{Errno, Result};
use crate::event::posix_timers;
use crate::exec::shim_image::Place;
use crate::platform::{Registers, vector_state_bytes};
use crate::process::end;
use crate::process::futex::parking;
use crate::process::tree::{ExitStatus, Tree};
use crate::process::{Attention, Phase, Pid, Process, Thread, Whereabouts};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use posix_protocol::shim::{Context, RESTORE, RETURN};

/// The length of a `syscall` instruction, by which a call is set back to be made again.
const SYSCALL_BYTES: u64 = 2;

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
    let is_blocked = threads.first().is_some_and(|thread| thread.mask().contains(info.signal));
    if !is_blocked && process.signals.borrow().ignores(info.signal) {
        return Ok(());
    }
    let limit = process.limit(linux::RLIMIT_SIGPENDING);
    process.signals.borrow_mut().pending.add(info, limit)?;
    threads.iter().for_each(|thread| thread.note_held());
    process.signal_sent.wake();
    // Any thread that does not block it will do; the first is preferred, as on Linux.
    if let Some(thread) = threads.iter().find(|thread| !thread.mask().contains(info.signal)) {
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
    if !thread.mask().contains(info.signal) && process.signals.borrow().ignores(info.signal) {
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
    match thread.whereabouts.get() {
        Whereabouts::Inside => {
            thread.signal_arrived.wake();
            parking::interrupt(thread);
        }
        Whereabouts::Outside if thread.process.phase.get() == Phase::Running => interrupt(thread),
        // It looks when it goes on; or never.
        Whereabouts::Outside | Whereabouts::Gone => {}
    }
}

/// Stops a thread that is outside, makes it look at its signals, and lets it go on.
fn interrupt(thread: &Rc<Thread>) {
    thread.machine.suspend();
    redirect(thread);
    // If that has stopped the process, the thread has a second suspension, which stays.
    thread.machine.resume();
}

/// The thread stands still, outside.
fn redirect(thread: &Rc<Thread>) {
    if !thread.machine.is_running() {
        // A request or a fault of it is on its way, and will find the signal.
        return;
    }
    let Ok(registers) = thread.machine.registers() else { return };
    let shim = &thread.server().shim;
    match shim.place(registers.rip) {
        Place::Program => deliver_outside(thread, &registers),
        Place::Shim | Place::Store => thread.set_pending(),
        Place::Exit => {
            thread.set_pending();
            // The thread stands still, so this can only fail if it is gone.
            let _ = thread.machine.set_registers(&Registers { rip: shim.exit_start(), ..registers });
        }
    }
}

fn deliver_outside(thread: &Rc<Thread>, registers: &Registers) {
    thread.attention.set(Attention::None);
    thread.take_mask();
    let mut state = Leaving { context: context_of(registers), result: None, trap: Trap::default() };
    match run(thread, &mut state) {
        Progress::Ended => {}
        Progress::Stopped | Progress::Leave => {
            thread.show_mask();
            let changed = with_context(registers, &state.context);
            if changed != *registers {
                let _ = thread.machine.set_registers(&changed);
            }
        }
    }
}

/// The general registers as the shim would save them.
pub fn context_of(registers: &Registers) -> Context {
    Context {
        rax: registers.rax,
        rbx: registers.rbx,
        rcx: registers.rcx,
        rdx: registers.rdx,
        rsi: registers.rsi,
        rdi: registers.rdi,
        rbp: registers.rbp,
        rsp: registers.rsp,
        r8: registers.r8,
        r9: registers.r9,
        r10: registers.r10,
        r11: registers.r11,
        r12: registers.r12,
        r13: registers.r13,
        r14: registers.r14,
        r15: registers.r15,
        rip: registers.rip,
        rflags: registers.rflags,
    }
}

/// The registers of a thread with the program's in their places.
pub fn with_context(registers: &Registers, context: &Context) -> Registers {
    Registers {
        rax: context.rax,
        rbx: context.rbx,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        rbp: context.rbp,
        rsp: context.rsp,
        r8: context.r8,
        r9: context.r9,
        r10: context.r10,
        r11: context.r11,
        r12: context.r12,
        r13: context.r13,
        r14: context.r14,
        r15: context.r15,
        rip: context.rip,
        rflags: context.rflags,
        ..*registers
    }
}

/// A thread on its way back to the program.
#[derive(Clone, Copy)]
struct Leaving {
    context: Context,
    /// What a system call returned; `None` if the registers are to be as they are.
    result: Option<Result<u64>>,
    trap: Trap,
}

enum Progress {
    /// Go back to the program with these registers.
    Leave,
    /// The process has stopped; look again when it goes on.
    Stopped,
    /// The process has ended.
    Ended,
}

/// Does what the pending signals ask for.
fn run(thread: &Rc<Thread>, state: &mut Leaving) -> Progress {
    let process = thread.process.clone();
    loop {
        if thread.whereabouts.get() == Whereabouts::Gone {
            return Progress::Ended;
        }
        if process.phase.get() == Phase::Stopped {
            return Progress::Stopped;
        }
        let next = thread.signals.borrow_mut().next_delivery(&mut process.signals.borrow_mut());
        let next = next.map(|delivery| delivery.map_info(|info| posix_timers::taken(&process, info)));
        let told = next.as_ref().filter(|delivery| !matches!(delivery, Delivery::Ignore(_)));
        if let Some((trace, delivery)) = process.server.trace.get().zip(told) {
            trace.signal(thread.tid, delivery.signal());
        }
        match next {
            None => {
                settle(thread, state);
                return Progress::Leave;
            }
            Some(Delivery::Ignore(_)) => {}
            // One that was blocked when it came.
            Some(Delivery::Terminate(..) | Delivery::Stop(_)) if process.is_immune.get() => {}
            Some(Delivery::Terminate(info, how)) => {
                let status = ExitStatus::Killed { signal: info.signal, dumped: how == DefaultAction::Dump };
                end::end_process(&process, status);
                return Progress::Ended;
            }
            Some(Delivery::Stop(info)) => {
                let is_job_control = info.signal != Signal::STOP;
                if is_job_control && process.server.is_orphaned_group(process.group()) {
                    continue;
                }
                stop(&process, info.signal);
            }
            Some(Delivery::Handle(info, action)) => enter(thread, state, info, &action),
        }
    }
}

/// No handler (or no further one) runs: a call that was to be made again is.
fn settle(thread: &Thread, state: &mut Leaving) {
    let saved = thread.signals.borrow_mut().saved_mask.take();
    if let Some(mask) = saved {
        thread.signals.borrow_mut().set_mask(mask);
        recheck(thread);
    }
    match state.result.take() {
        None => {}
        Some(Ok(value)) => state.context.rax = value,
        Some(Err(error)) if error.is_restart() => {
            state.context.rip = state.context.rip.wrapping_sub(SYSCALL_BYTES);
            state.context.rax = if error == Errno::RESTART_BLOCK {
                u64::from(linux::__NR_restart_syscall)
            } else {
                thread.call_number.get()
            };
        }
        Some(Err(error)) => state.context.rax = error.to_return_value(),
    }
}

/// Enters a handler.
fn enter(thread: &Rc<Thread>, state: &mut Leaving, info: SignalInfo, action: &SignalAction) {
    match state.result.take() {
        None => {}
        Some(Ok(value)) => state.context.rax = value,
        Some(Err(error)) if error.is_restarted_after(action) => {
            state.context.rip = state.context.rip.wrapping_sub(SYSCALL_BYTES);
            state.context.rax = thread.call_number.get();
        }
        Some(Err(error)) if error.is_restart() => state.context.rax = Errno::EINTR.to_return_value(),
        Some(Err(error)) => state.context.rax = error.to_return_value(),
    }
    let vector_bytes = vector_state_bytes();
    let mut image = frame::Image::new(vector_bytes);
    // Without it the frame has an initial state: better than none.
    let _ = thread.machine.read_vector_state(image.vector().get_mut(..vector_bytes).unwrap_or_default());
    let (alt_stack, mask) = {
        let mut signals = thread.signals.borrow_mut();
        (signals.alt_stack, signals.enter_handler(info.signal, action))
    };
    let delivery = frame::Delivery {
        info,
        handler: action.handler,
        restorer: action.restorer,
        mask,
        alt_stack,
        use_alt_stack: action.has(linux::SA_ONSTACK),
        trap: core::mem::take(&mut state.trap),
    };
    match frame::push(&thread.space(), &state.context, &delivery, image) {
        Ok(context) => {
            state.context = context;
            if alt_stack.flags & linux::SS_AUTODISARM != 0 {
                thread.signals.borrow_mut().alt_stack = Default::default();
            }
        }
        Err(_) => {
            // There is no place for the frame: as if the stack had faulted, which nobody can handle if it was SIGSEGV itself.
            if info.signal == Signal::SEGV {
                let _ = thread.process.signals.borrow_mut().set_action(Signal::SEGV, SignalAction::default());
            }
            force(thread, SignalInfo::from_kernel(Signal::SEGV));
        }
    }
}

/// How a thread goes back.
#[derive(Clone, Copy)]
pub enum Exit {
    /// With the result of its call.
    Call(Result<u64>),
    /// With the registers that are in its block.
    Block,
}

/// Answers a thread whose call has waited.
pub fn leave_wait(thread: &Rc<Thread>, result: Result<u64>) {
    thread.is_waiting.set(false);
    if let Some(trace) = thread.server().trace.get() {
        trace.leave(thread, result);
    }
    leave(thread, Exit::Call(result));
}

/// Answers a thread that is inside, after signals have had their say.
pub fn leave(thread: &Rc<Thread>, exit: Exit) {
    if thread.whereabouts.get() == Whereabouts::Gone || thread.process.phase.get() == Phase::Ended {
        return;
    }
    if thread.attention.get() == Attention::None {
        match exit {
            Exit::Call(result) if result.is_err_and(Errno::is_restart) => {}
            Exit::Call(result) => {
                answer(thread, RETURN, [result.unwrap_or_else(Errno::to_return_value), thread.end_call()]);
                return;
            }
            Exit::Block => {
                thread.clear_pending();
                answer(thread, RESTORE, [0; 2]);
                return;
            }
        }
    }
    thread.flush_call();
    let context = thread.context();
    let result = match exit {
        Exit::Call(result) => Some(result),
        Exit::Block => None,
    };
    leave_slowly(thread, Leaving { context, result, trap: Trap::default() });
}

fn leave_slowly(thread: &Rc<Thread>, mut state: Leaving) {
    thread.attention.set(Attention::None);
    match run(thread, &mut state) {
        Progress::Ended => {}
        Progress::Stopped => {
            let waiting = thread.clone();
            thread.server().executor.spawn(async move {
                wait_for_resumption(&waiting).await;
                leave_slowly(&waiting, state);
            });
        }
        Progress::Leave => {
            thread.set_context(&state.context);
            thread.clear_pending();
            answer(thread, RESTORE, [0; 2]);
        }
    }
}

async fn wait_for_resumption(thread: &Rc<Thread>) {
    loop {
        let listener = thread.process.resumed.listen();
        if thread.process.phase.get() != Phase::Stopped {
            return;
        }
        listener.await;
    }
}

fn answer(thread: &Thread, label: u64, words: [u64; 2]) {
    thread.show_mask();
    thread.whereabouts.set(Whereabouts::Outside);
    let reply = thread.reply.borrow_mut().take();
    if let Some(reply) = reply {
        thread.machine.answer(reply, label, words);
    }
}

/// Lets a thread go on after a fault, after the signal that it raises has had its say. It stands still, in the program.
pub fn leave_fault(thread: &Rc<Thread>, trap: Trap) {
    let Ok(registers) = thread.machine.registers() else { return };
    let state = Leaving { context: context_of(&registers), result: None, trap };
    leave_fault_slowly(thread, state, registers);
}

fn leave_fault_slowly(thread: &Rc<Thread>, mut state: Leaving, registers: Registers) {
    thread.attention.set(Attention::None);
    match run(thread, &mut state) {
        Progress::Ended => {}
        Progress::Stopped => {
            let waiting = thread.clone();
            thread.server().executor.spawn(async move {
                wait_for_resumption(&waiting).await;
                leave_fault_slowly(&waiting, state, registers);
            });
        }
        Progress::Leave => {
            let changed = with_context(&registers, &state.context);
            if changed != registers {
                let _ = thread.machine.set_registers(&changed);
            }
            thread.show_mask();
            thread.whereabouts.set(Whereabouts::Outside);
            let reply = thread.reply.borrow_mut().take();
            if let Some(reply) = reply {
                thread.machine.resume_exception(reply);
            }
        }
    }
}

/// Stops a process.
fn stop(process: &Rc<Process>, signal: Signal) {
    process.phase.set(Phase::Stopped);
    for thread in process.threads() {
        thread.attention.set(Attention::Needed);
        if thread.whereabouts.get() == Whereabouts::Outside && !thread.is_suspended.replace(true) {
            thread.machine.suspend();
        } else {
            thread.signal_arrived.wake();
        }
    }
    let parent = process.server.tree.change(|tree, (pid, signal)| tree.stop(pid, signal), (process.pid, signal));
    if let Some(parent) = parent {
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
