//! The way back to the program: from a call, from a fault, or from where a thread was stopped. Signals have their say on it, and whoever
//! traces the thread.

use super::deliver::{force, recheck, stop};
use super::frame::{self, Trap};
use super::state::Delivery;
use super::{DefaultAction, Details, Signal, SignalAction, SignalInfo};
use crate::errno::{Errno, Result};
use crate::event::posix_timers;
use crate::exec::shim_image::Place;
use crate::platform::{Registers, vector_state_bytes};
use crate::process::end;
use crate::process::tree::ExitStatus;
use crate::process::{Attention, Phase, Thread, Whereabouts};
use crate::ptrace::stops::{self, Point};
use crate::ptrace::{Event, Mode, Stop};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use posix_protocol::shim::{Context, RESTORE, RETURN};

/// The length of a `syscall` instruction, by which a call is set back to be made again.
const SYSCALL_BYTES: u64 = 2;
/// What the number of the call is outside of calls.
pub const NO_CALL: u64 = u64::MAX;

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
/// Where a thread stands that is on its way back.
#[derive(Clone, Copy)]
pub enum Home {
    /// In a call of its shim, whose answer the server owes.
    Call,
    /// At an instruction that has faulted.
    Fault(Registers),
    /// In the program, suspended.
    Program(Registers),
}

/// A thread on its way back to the program.
#[derive(Clone, Copy)]
pub struct Leaving {
    /// The program's registers.
    pub context: Context,
    /// What a system call returned; `None` if the registers are to be as they are.
    result: Option<Result<u64>>,
    /// The number of that call; [`NO_CALL`].
    pub call: u64,
    /// A signal that was reported to a tracer, which wants it delivered.
    pub injected: Option<SignalInfo>,
    trap: Trap,
    home: Home,
}

impl Leaving {
    fn new(context: Context, home: Home) -> Self {
        Self { context, result: None, call: NO_CALL, injected: None, trap: Trap::default(), home }
    }

    /// One that is in a call which has no result yet.
    pub fn in_call(thread: &Thread) -> Self {
        let context = Context { rax: Errno::ENOSYS.to_return_value(), ..thread.context() };
        Self { call: thread.call_number.get(), ..Self::new(context, Home::Call) }
    }

    /// One that stands still in the program, as if it came from a call.
    pub fn in_program(registers: Registers, call: u64) -> Self {
        Self { call, ..Self::new(context_of(&registers), Home::Program(registers)) }
    }

    /// Whether it stands in the program.
    pub fn is_in_program(&self) -> bool {
        matches!(self.home, Home::Program(_))
    }

    /// Puts the result of the call, also one that asks for a restart, where a tracer looks for it.
    pub fn show_result(&mut self) {
        if let Some(result) = self.result.take() {
            self.context.rax = result.unwrap_or_else(Errno::to_return_value);
        }
    }

    /// Takes it back from there: a tracer may have changed it, or the number of the call.
    pub fn reconsider_result(&mut self, thread: &Thread) {
        let code = u16::try_from(self.context.rax.wrapping_neg()).ok().and_then(Errno::from_number);
        if self.call as i32 != -1
            && let Some(error) = code.filter(|code| code.is_restart())
        {
            thread.call_number.set(u64::from(self.call as u32));
            self.result = Some(Err(error));
        }
    }
}

enum Progress {
    /// Go back to the program with these registers.
    Leave,
    /// The process has stopped; look again when it goes on.
    Stopped,
    /// The thread stops for its tracer.
    Halted(Stop, Point),
    /// The process has ended.
    Ended,
}

/// The next signal that is to be delivered.
fn next_signal(thread: &Thread) -> Option<SignalInfo> {
    let process = &thread.process;
    let info = thread.signals.borrow_mut().next_info(&mut process.signals.borrow_mut())?;
    Some(posix_timers::taken(process, info))
}

/// Does what the pending signals ask for.
fn run(thread: &Rc<Thread>, state: &mut Leaving) -> Progress {
    let process = thread.process.clone();
    loop {
        if thread.whereabouts.get() == Whereabouts::Gone {
            return Progress::Ended;
        }
        let is_traced = thread.is_traced.get();
        if is_traced {
            if let Some(stop) = stops::due_trap(thread) {
                return Progress::Halted(stop, Point::Signals);
            }
        } else if process.phase.get() == Phase::Stopped {
            return Progress::Stopped;
        }
        let reported = state.injected.take();
        let Some(info) = reported.or_else(|| next_signal(thread)) else {
            settle(thread, state);
            return Progress::Leave;
        };
        // The end of everything is not put to a tracer's vote.
        if is_traced && reported.is_none() && info.signal != Signal::KILL {
            return Progress::Halted(Stop::Signal(info), Point::Signals);
        }
        if let Some(progress) = take_effect(thread, state, info) {
            return progress;
        }
    }
}

/// Does what one signal asks for. `None`: there may be more.
fn take_effect(thread: &Rc<Thread>, state: &mut Leaving, info: SignalInfo) -> Option<Progress> {
    let process = &thread.process;
    let delivery = process.signals.borrow_mut().delivery(info);
    if let Some(trace) = process.server.trace.get()
        && !matches!(delivery, Delivery::Ignore(_))
    {
        trace.signal(thread.tid, info.signal);
    }
    match delivery {
        Delivery::Ignore(_) => {}
        // One that was blocked when it came.
        Delivery::Terminate(..) | Delivery::Stop(_) if process.is_immune.get() => {}
        Delivery::Terminate(info, how) => {
            let status = ExitStatus::Killed { signal: info.signal, dumped: how == DefaultAction::Dump };
            if stops::wants(thread, Event::Exit) {
                stops::set_message(thread, status.to_wait_status() as u64);
                return Some(Progress::Halted(Stop::Event(Event::Exit), Point::End(status)));
            }
            end::end_process(process, status);
            return Some(Progress::Ended);
        }
        Delivery::Stop(info) => {
            let is_job_control = info.signal != Signal::STOP;
            if !is_job_control || !process.server.is_orphaned_group(process.group()) {
                stop(thread, info.signal);
            }
        }
        Delivery::Handle(info, action) => {
            enter(thread, state, info, &action);
            if stops::mode(thread) == Some(Mode::Step) {
                return Some(Progress::Halted(Stop::Handler, Point::Signals));
            }
        }
    }
    None
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
    /// With the registers that are in its block, after a call that has put them there.
    Block,
    /// With those registers, after its shim has asked for signals.
    Check,
}

/// Answers a thread whose call has waited.
pub fn leave_wait(thread: &Rc<Thread>, result: Result<u64>) {
    thread.is_waiting.set(false);
    if let Some(trace) = thread.server().trace.get() {
        trace.leave(thread, result);
    }
    leave(thread, Exit::Call(result));
}

/// Answers a thread that is inside, after signals have had their say, and whoever traces it.
pub fn leave(thread: &Rc<Thread>, exit: Exit) {
    if thread.whereabouts.get() == Whereabouts::Gone || thread.process.phase.get() == Phase::Ended {
        return;
    }
    let is_traced = thread.is_traced.get();
    if thread.attention.get() == Attention::None && !is_traced {
        match exit {
            Exit::Call(result) if result.is_err_and(Errno::is_restart) => {}
            Exit::Call(result) => {
                answer(thread, RETURN, [result.unwrap_or_else(Errno::to_return_value), thread.end_call()]);
                return;
            }
            Exit::Block | Exit::Check => {
                thread.clear_pending();
                answer(thread, RESTORE, [0; 2]);
                return;
            }
        }
    }
    thread.flush_call();
    let state = Leaving::new(thread.context(), Home::Call);
    let (state, is_call) = match exit {
        Exit::Call(result) => (Leaving { result: Some(result), call: thread.call_number.get(), ..state }, true),
        Exit::Block => (state, true),
        Exit::Check => (state, false),
    };
    if is_traced && is_call { leave_call(thread, state) } else { proceed(thread, state) }
}

/// A traced thread leaves a call, of which its tracer may want to hear.
pub fn leave_call(thread: &Rc<Thread>, mut state: Leaving) {
    thread.unstep(&mut state.context);
    match stops::mode(thread) {
        Some(Mode::Calls) => stops::halt(thread, state, Stop::CallExit, Point::Signals),
        Some(Mode::Step) => {
            let details = Details::Fault { address: state.context.rip };
            force(thread, SignalInfo { signal: Signal::TRAP, code: linux::TRAP_BRKPT as i32, details });
            proceed(thread, state);
        }
        Some(Mode::Continue) | None => proceed(thread, state),
    }
}

/// Brings a thread back to its program, unless something stops it.
pub fn proceed(thread: &Rc<Thread>, mut state: Leaving) {
    thread.attention.set(Attention::None);
    thread.unstep(&mut state.context);
    match run(thread, &mut state) {
        Progress::Ended => {}
        Progress::Stopped => stand(thread, state),
        Progress::Halted(stop, point) => stops::halt(thread, state, stop, point),
        Progress::Leave => depart(thread, state),
    }
}

/// The process is stopped: goes on when it does.
fn stand(thread: &Rc<Thread>, state: Leaving) {
    if let Home::Program(_) = state.home {
        if !thread.is_suspended.replace(true) {
            thread.machine.suspend();
        }
        depart(thread, state);
        return;
    }
    let waiting = thread.clone();
    thread.server().executor.spawn(async move {
        wait_for_resumption(&waiting).await;
        proceed(&waiting, state);
    });
}

async fn wait_for_resumption(thread: &Rc<Thread>) {
    loop {
        let listener = thread.process.resumed.listen();
        if thread.process.phase.get() != Phase::Stopped || thread.is_traced.get() {
            return;
        }
        listener.await;
    }
}

/// Lets a thread go on in its program.
fn depart(thread: &Rc<Thread>, mut state: Leaving) {
    let is_own_way = thread.is_traced.get() || thread.new_fs_base.get().is_some();
    if stops::mode(thread) == Some(Mode::Step) {
        thread.step(&mut state.context);
    }
    match state.home {
        Home::Call if is_own_way => depart_from_call(thread, &state.context),
        Home::Call => {
            thread.set_context(&state.context);
            thread.clear_pending();
            answer(thread, RESTORE, [0; 2]);
        }
        Home::Fault(registers) => {
            let changed = registers_for(thread, &registers, &state.context);
            if changed != registers {
                place(thread, &changed);
            }
            resume_fault(thread);
        }
        Home::Program(registers) => {
            thread.show_mask();
            let changed = registers_for(thread, &registers, &state.context);
            if changed != registers {
                place(thread, &changed);
            }
            if thread.is_trapped.replace(false) {
                thread.machine.resume();
            }
        }
    }
}

/// A thread that is traced does not go back through its shim: its registers are put in place at once.
fn depart_from_call(thread: &Rc<Thread>, context: &Context) {
    let Ok(registers) = thread.machine.registers() else { return };
    thread.clear_pending();
    thread.show_mask();
    thread.whereabouts.set(Whereabouts::Outside);
    let reply = thread.reply.borrow_mut().take();
    place(thread, &registers_for(thread, &registers, context));
    // The call that it answers is over.
    drop(reply);
}

/// The registers of a thread with the program's, and the base of `fs` that was asked for.
fn registers_for(thread: &Thread, registers: &Registers, context: &Context) -> Registers {
    let fs_base = thread.new_fs_base.take().unwrap_or(registers.fs_base);
    Registers { fs_base, ..with_context(registers, context) }
}

/// Sets the registers of a thread that stands still. With some that no program can have it would fault at its next instruction.
fn place(thread: &Thread, registers: &Registers) {
    if thread.machine.set_registers(registers).is_err() {
        end::end_process(&thread.process, ExitStatus::Killed { signal: Signal::SEGV, dumped: true });
    }
}

fn answer(thread: &Thread, label: u64, words: [u64; 2]) {
    thread.show_mask();
    thread.note_leave();
    thread.whereabouts.set(Whereabouts::Outside);
    let reply = thread.reply.borrow_mut().take();
    if let Some(reply) = reply {
        thread.machine.answer(reply, label, words);
    }
}

/// Lets a thread go on that a fault has stopped in its shim, which will ask if there are signals.
pub fn resume_shim(thread: &Thread) {
    if thread.attention.get() == Attention::Needed {
        thread.set_pending();
    }
    resume_fault(thread);
}

/// Lets a thread try again what has faulted, wherever it stands; in the program, after signals have had their say.
pub fn leave_retry(thread: &Rc<Thread>) {
    let Ok(registers) = thread.machine.registers() else { return };
    let shim = &thread.server().shim;
    match shim.place(registers.rip) {
        Place::Program => leave_fault(thread, Trap::default()),
        Place::Shim | Place::Store => resume_shim(thread),
        Place::Exit => {
            // The way out is begun anew, so that it asks.
            let _ = thread.machine.set_registers(&Registers { rip: shim.exit_start(), ..registers });
            resume_shim(thread);
        }
    }
}

fn resume_fault(thread: &Thread) {
    thread.show_mask();
    thread.whereabouts.set(Whereabouts::Outside);
    let reply = thread.reply.borrow_mut().take();
    if let Some(reply) = reply {
        thread.machine.resume_exception(reply);
    }
}

/// Lets a thread go on after a fault, after the signal that it raises has had its say. It stands still, in the program.
pub fn leave_fault(thread: &Rc<Thread>, trap: Trap) {
    let Ok(registers) = thread.machine.registers() else { return };
    let state = Leaving::new(context_of(&registers), Home::Fault(registers));
    proceed(thread, Leaving { trap, ..state });
}

/// Delivers what there is to a thread that stands still in the program, suspended.
pub(super) fn leave_program(thread: &Rc<Thread>, registers: &Registers) {
    thread.take_mask();
    proceed(thread, Leaving::in_program(*registers, NO_CALL));
}
