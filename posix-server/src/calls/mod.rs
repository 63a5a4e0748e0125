//! System calls: from a number and six words to an outcome.
//!
//! Each module has a table, `CALLS`, of the calls of one subject; they are joined here. Handlers never wait; what can't be done
//! now becomes [`Outcome::Block`] with a future, which is dropped if the thread ends. A future that may take long
//! races itself against [`Thread::interrupted`] and then returns `EINTR` or a [restart code](Errno::RESTART).

mod absence;
mod access;
mod aio;
mod allocate;
mod attributes;
pub mod blocking;
mod copies;
#[cfg(test)]
mod documentation;
mod epoll;
mod events;
pub mod exception;
mod exec;
mod fcntl;
mod files;
mod futex;
mod handles;
mod ids;
mod inotify;
mod inspect;
mod locks;
mod machine;
mod memfd;
mod memory;
mod metadata;
mod misc;
pub mod missing;
pub mod mount_files;
mod mounts;
mod mqueue;
mod names;
mod open;
pub mod pidfd;
mod poll;
mod prctl;
mod process;
mod ptrace;
mod rare;
mod residence;
mod schedule;
mod seccomp;
mod signal;
mod signalfd;
pub mod sleeper;
mod socket;
mod splice;
mod sync;
mod sysv;
mod table;
mod time;
mod timerfd;
mod timers;
mod transfer;
mod tty;
mod turns;
mod usage;
mod wait;

mod wait_arguments;

use crate::budget::set_caller;
use crate::errno::{Errno, Result};
use crate::platform::{LocalFuture, Reply, ThreadEvent, ThreadEvents, has_needs, ticks};
use crate::process::end::thread_vanished;
use crate::process::exhaustion;
use crate::process::seccomp::judge;
use crate::process::{Thread, Whereabouts};
use crate::ptrace::stops::enter_call;
use crate::signal::deliver::recheck;
use crate::signal::leave::{Exit, Leaving, NO_CALL, leave};
use crate::trace::Trace;
use crate::user::UserPtr;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::Future;
pub use futex::FutexWait;
use posix_protocol::shim::SIGNAL_CHECK;
pub use table::{Handler, State, SystemCall};
#[cfg(test)]
pub(crate) use turns::give_way;
pub use wait_arguments::Until;

/// What becomes of a system call.
pub enum Outcome {
    /// It is done.
    Return(Result<u64>),
    /// It will be done.
    Block(LocalFuture<Result<u64>>),
    /// It will be done; whoever ends the wait answers it (`process::futex::parking`, [`sleeper`]).
    Parked,
    /// The program goes on with the registers that are in its block.
    Context,
    /// No answer is owed: the thread has ended, or was redirected.
    Gone,
}

impl Outcome {
    /// The outcome of a call that must wait.
    pub fn block(future: impl Future<Output = Result<u64>> + 'static) -> Self {
        Self::Block(Box::pin(future))
    }
}

impl From<Result<u64>> for Outcome {
    fn from(result: Result<u64>) -> Self {
        Self::Return(result)
    }
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        Self::Return(result.map(|()| 0))
    }
}

impl From<Errno> for Outcome {
    fn from(error: Errno) -> Self {
        Self::Return(Err(error))
    }
}

/// The six arguments of a system call.
pub type Arguments = [u64; 6];

/// A pointer in the space of a thread, which makes a call.
pub fn pointer(thread: &Thread, address: u64) -> UserPtr {
    UserPtr::of_call(thread, address)
}

/// Numbers below this are looked up.
const TABLE_SIZE: usize = 512;

const ALL: &[&[SystemCall]] = &[
    aio::CALLS,
    allocate::CALLS,
    attributes::CALLS,
    copies::CALLS,
    epoll::CALLS,
    events::CALLS,
    exec::CALLS,
    fcntl::CALLS,
    files::CALLS,
    futex::CALLS,
    handles::CALLS,
    ids::CALLS,
    inotify::CALLS,
    inspect::CALLS,
    machine::CALLS,
    locks::CALLS,
    memfd::CALLS,
    memory::CALLS,
    metadata::CALLS,
    misc::CALLS,
    mqueue::CALLS,
    mount_files::CALLS,
    mounts::CALLS,
    names::CALLS,
    open::CALLS,
    pidfd::CALLS,
    poll::CALLS,
    prctl::CALLS,
    process::CALLS,
    ptrace::CALLS,
    rare::CALLS,
    residence::CALLS,
    schedule::CALLS,
    seccomp::CALLS,
    signal::CALLS,
    socket::CALLS,
    splice::CALLS,
    sync::CALLS,
    signalfd::CALLS,
    sysv::messages::CALLS,
    sysv::segments::CALLS,
    sysv::semaphores::CALLS,
    time::CALLS,
    timerfd::CALLS,
    timers::CALLS,
    transfer::CALLS,
    tty::CALLS,
    usage::CALLS,
    wait::CALLS,
];

static TABLE: [Option<Handler>; TABLE_SIZE] = table();

/// Joins the tables. A number that is in two of them, or too large, does not compile.
const fn table() -> [Option<Handler>; TABLE_SIZE] {
    let mut table: [Option<Handler>; TABLE_SIZE] = [None; TABLE_SIZE];
    let mut module = 0;
    while module < ALL.len() {
        let calls = ALL[module];
        let mut index = 0;
        while index < calls.len() {
            let SystemCall { number, handler, .. } = calls[index];
            assert!(table[number as usize].is_none(), "two handlers for one call");
            table[number as usize] = Some(handler);
            index += 1;
        }
        module += 1;
    }
    table
}

/// Runs a system call.
pub fn call(thread: &Rc<Thread>, number: u32, arguments: &Arguments) -> Outcome {
    match TABLE.get(number as usize).copied().flatten() {
        Some(handler) => handler(thread, arguments),
        None => Outcome::Return(Err(missing::of(number).error)),
    }
}

/// Serves a thread until it ends. `EAGAIN`.
pub fn serve(thread: &Rc<Thread>, events: ThreadEvents) -> Result<()> {
    let served = thread.clone();
    let serve = move |event| match event {
        ThreadEvent::Call { label, arguments, carried, reply } => {
            set_caller(served.process.payer());
            served.begin_call(carried, &arguments);
            let start = ticks();
            enter(&served, label, &arguments, reply);
            let spent = ticks().saturating_sub(start);
            served.system_ticks.set(served.system_ticks.get().saturating_add(spent));
        }
        ThreadEvent::Exception { kind, address, code, reply } => {
            if begin(&served, reply) {
                exception::raise(&served, kind, address, code);
            }
        }
        ThreadEvent::Ended => thread_vanished(&served),
    };
    let server = thread.server().clone();
    events.serve(&thread.server().executor, move |event| {
        server.due.after(|| serve(event));
        exhaustion::look(&server);
    })
}

/// Notes that a thread is inside. False: it has ended meanwhile.
fn begin(thread: &Thread, reply: Reply) -> bool {
    if thread.whereabouts.get() == Whereabouts::Gone {
        return false;
    }
    thread.take_mask();
    thread.whereabouts.set(Whereabouts::Inside);
    let before = thread.reply.borrow_mut().replace(reply);
    drop(before);
    true
}

fn enter(thread: &Rc<Thread>, label: u64, arguments: &Arguments, reply: Reply) {
    if !begin(thread, reply) {
        return;
    }
    if label == SIGNAL_CHECK {
        // The shim asks also of itself, when it has let signals through.
        thread.is_pending_set.set(true);
        recheck(thread);
        leave(thread, Exit::Check);
        return;
    }
    thread.call_number.set(label);
    if thread.is_traced.get() && enter_call(thread) {
        return;
    }
    begin_call(thread, label, arguments);
}

/// Whether a call of a thread is still to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is.
    Due,
    /// It may run.
    Passed,
}

/// A traced thread goes on after its tracer was told of the call, and has perhaps changed it. With the number -1 it is none.
pub(crate) fn begin_traced(thread: &Rc<Thread>, leaving: &Leaving, judgement: Judgement) {
    let context = &leaving.context;
    thread.set_context(context);
    let number = leaving.call as u32;
    if number == u32::MAX {
        thread.call_number.set(NO_CALL);
        leave(thread, Exit::Call(Ok(context.rax)));
        return;
    }
    thread.call_number.set(u64::from(number));
    let arguments = [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9];
    thread.begin_call(0, &arguments);
    match judgement {
        Judgement::Due => begin_call(thread, u64::from(number), &arguments),
        Judgement::Passed => settle(thread, number, &arguments, call(thread, number, &arguments)),
    }
}

fn begin_call(thread: &Rc<Thread>, label: u64, arguments: &Arguments) {
    if thread.server().trace.get().is_some() {
        traced(thread, label, *arguments);
        return;
    }
    run(thread, label, arguments);
}

/// Runs a call that is traced, when there is room for its line.
fn traced(thread: &Rc<Thread>, label: u64, arguments: Arguments) {
    let begin = move |thread: &Rc<Thread>| {
        if let Some(trace) = thread.server().trace.get() {
            trace.enter(thread, label as u32, &arguments);
        }
        run(thread, label, &arguments);
    };
    if thread.server().trace.get().is_none_or(Trace::has_room) {
        begin(thread);
        return;
    }
    let waiting = thread.clone();
    thread.server().executor.spawn(async move {
        if let Some(trace) = waiting.server().trace.get() {
            trace.room().await;
        }
        if waiting.whereabouts.get() != Whereabouts::Gone {
            begin(&waiting);
        }
    });
}

/// Tells the trace, if there is one, what became of a call at once.
fn trace_outcome(thread: &Thread, outcome: &Outcome) {
    let Some(trace) = thread.server().trace.get() else { return };
    match outcome {
        Outcome::Return(result) => trace.leave(thread, *result),
        Outcome::Context => trace.leave(thread, Ok(0)),
        Outcome::Gone if thread.whereabouts.get() == Whereabouts::Gone => trace.vanish(thread.tid),
        // The program goes on elsewhere, or with other registers.
        Outcome::Gone => trace.leave(thread, Ok(0)),
        Outcome::Block(_) | Outcome::Parked => trace.wait(thread),
    }
}

/// Runs a call if the thread may make it.
fn judged(thread: &Rc<Thread>, number: u32, arguments: &Arguments) -> Outcome {
    if thread.seccomp.borrow().is_off() {
        return call(thread, number, arguments);
    }
    let instruction = thread.context().rip;
    let verdict = judge(thread, number, arguments, instruction);
    seccomp::forbidden(thread, verdict, number, instruction).unwrap_or_else(|| call(thread, number, arguments))
}

/// Makes a call for a thread, which is answered when the call is over.
pub(crate) fn run(thread: &Rc<Thread>, label: u64, arguments: &Arguments) {
    // The shim cuts numbers to 32 bits; a label beyond that comes from a program that plays the shim.
    let outcome =
        u32::try_from(label).map_or(Outcome::Return(Err(Errno::ENOSYS)), |number| judged(thread, number, arguments));
    settle(thread, label as u32, arguments, outcome);
}

/// Does what the outcome of a call asks for.
fn settle(thread: &Rc<Thread>, number: u32, arguments: &Arguments, outcome: Outcome) {
    if has_needs()
        && let Outcome::Return(result) = outcome
    {
        absence::resolve(thread, number, *arguments, result);
        return;
    }
    trace_outcome(thread, &outcome);
    match outcome {
        Outcome::Return(result) => leave(thread, Exit::Call(result)),
        Outcome::Context => leave(thread, Exit::Block),
        Outcome::Gone => {}
        Outcome::Parked => note_wait(thread),
        Outcome::Block(future) => absence::watch(thread, number, *arguments, future),
    }
}

/// A call of the thread has begun to wait.
fn note_wait(thread: &Thread) {
    thread.is_waiting.set(true);
    thread.waits.set(thread.waits.get().saturating_add(1));
}

/// `fsync`, for tests of what is below it.
#[cfg(test)]
pub(crate) async fn sync_for_tests(file: &crate::file::OpenFile) -> Result<()> {
    sync::synchronized(file, 0, u64::MAX).await
}
