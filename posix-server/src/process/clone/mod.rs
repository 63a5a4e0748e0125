//! New processes and threads: `fork`, `vfork`, `clone`.
//!
//! * [`request`]: what is asked for, and what is refused.
//! * [`first`]: the first process.

mod first;
mod request;

pub use first::{FirstProcess, start_first};
pub use request::{CloneRequest, check_name_spaces};

use super::limits::UNLIMITED;
use super::schedule::Schedule;
use super::tree::{Birth, Tree};
use super::usage::Usage;
use super::{Attention, Phase, Pid, Process, Thread, Whereabouts};
use crate::calls::{Outcome, pidfd, serve};
use crate::errno::{Errno, Result};
use crate::event::interval_timers::ProcessTimers;
use crate::file::FdTable;
use crate::fs::FsContext;
use crate::platform::{self, Account, Registers, Table, ThreadEvents, UserThread};
use crate::ptrace::{Event, stops};
use crate::signal::Signal;
use crate::signal::leave::{Leaving, proceed, with_context};
use crate::signal::state::ThreadSignals;
use crate::user::USER_END;
use crate::vm::{Block, Vm};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;

/// Makes a process or thread.
pub fn clone(parent: &Rc<Thread>, request: &CloneRequest) -> Outcome {
    match try_clone(parent, request) {
        Ok(child) if parent.is_traced.get() => {
            let (parent, event) = (parent.clone(), event_of(request));
            let is_vfork = request.has(linux::CLONE_VFORK);
            Outcome::block(async move {
                let tid = child.tid;
                if let Some(event) = event {
                    stops::report(&parent, event, tid as u64).await;
                }
                if is_vfork {
                    until_released(child).await?;
                    stops::report(&parent, Event::VforkDone, tid as u64).await;
                }
                Ok(tid as u64)
            })
        }
        Ok(child) if request.has(linux::CLONE_VFORK) => Outcome::block(until_released(child)),
        Ok(child) => Outcome::Return(Ok(child.tid as u64)),
        Err(error) => Outcome::Return(Err(error)),
    }
}

/// The event that a tracer can be told of.
fn event_of(request: &CloneRequest) -> Option<Event> {
    if request.has(linux::CLONE_UNTRACED) {
        None
    } else if request.has(linux::CLONE_VFORK) {
        Some(Event::Vfork)
    } else if request.exit_signal != Some(Signal::CHLD) || request.has(linux::CLONE_THREAD) {
        Some(Event::Clone)
    } else {
        Some(Event::Fork)
    }
}

/// Waits until a child has executed or ended (`CLONE_VFORK`). No signal ends that wait but one that kills.
async fn until_released(child: Rc<Thread>) -> Result<u64> {
    loop {
        let mut listener = child.process.released.listen();
        listener.watch(&child.signal_arrived);
        let is_thread = child.tid != child.process.pid;
        let is_free = if is_thread {
            child.whereabouts.get() == Whereabouts::Gone
        } else {
            !child.process.holds_parent.get() || child.process.phase.get() == Phase::Ended
        };
        if is_free {
            return Ok(child.tid as u64);
        }
        listener.await;
    }
}

fn try_clone(parent: &Rc<Thread>, request: &CloneRequest) -> Result<Rc<Thread>> {
    request.check(&parent.process.credentials())?;
    if request.has(linux::CLONE_PARENT) && parent.process.pid == super::tree::INIT {
        return Err(Errno::EINVAL);
    }
    if request.has(linux::CLONE_SETTLS) && request.tls >= USER_END {
        return Err(Errno::EPERM);
    }
    let context = parent.context();
    let stack = if request.stack == 0 { context.rsp } else { request.stack };
    let context = Context { rax: 0, rsp: stack, ..context };
    if request.has(linux::CLONE_THREAD) {
        clone_thread(parent, request, &context)
    } else {
        fork(parent, request, &context)
    }
}

/// Whether there may be one process more. `EAGAIN`.
fn check_room(parent: &Process) -> Result<()> {
    check_thread_room(parent)?;
    let total = parent.server.tree.look(|tree, ()| tree.len(), ()) as u64;
    if total >= parent.server.max_processes { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// Whether the user may have one thread more (`RLIMIT_NPROC`). `EAGAIN`.
fn check_thread_room(parent: &Process) -> Result<()> {
    let credentials = parent.credentials();
    let limit = parent.limit(linux::RLIMIT_NPROC);
    if credentials.is_privileged() || limit == u64::MAX {
        return Ok(());
    }
    if parent.server.threads_of(credentials.uid) >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// The address space of a child, and the block of its first thread there.
struct Home {
    vm: Rc<Vm>,
    block: Rc<Block>,
    is_borrowed: bool,
}

impl Home {
    fn new(parent: &Rc<Thread>, request: &CloneRequest, account: &Account) -> Result<Self> {
        let vm = parent.process.vm();
        if request.has(linux::CLONE_VM) {
            let block = vm.allocate_block().map_err(|_| Errno::EAGAIN)?;
            return Ok(Self { vm, block, is_borrowed: true });
        }
        let (vm, block) = vm.fork(account, parent.block().address())?;
        Ok(Self { vm: Rc::new(vm), block, is_borrowed: false })
    }

    /// Takes back what was made in a space that goes on without the child.
    fn give_up(&self) {
        if self.is_borrowed {
            self.vm.free_block(&self.block);
        }
    }
}

/// `CLONE_PIDFD`: the parent gets a descriptor of the child.
fn give_file(parent: &Rc<Thread>, process: &Rc<Process>, request: &CloneRequest) -> Result<Option<u64>> {
    if request.has(linux::CLONE_PIDFD) { pidfd::give(parent, process, request.pidfd).map(Some) } else { Ok(None) }
}

fn fork(parent: &Rc<Thread>, request: &CloneRequest, context: &Context) -> Result<Rc<Thread>> {
    check_room(&parent.process)?;
    if let Some(pid) = request.chosen_id {
        parent.server().tree.look(Tree::check_chosen_pid, pid)?;
    }
    let account = Account::for_process(parent.server().process_frames)?;
    let home = Home::new(parent, request, &account)?;
    let made = make_process(parent, request, account, &home);
    let (process, machine, events) = made.map_err(|error| {
        home.give_up();
        if error == Errno::ENOMEM { Errno::ENOMEM } else { Errno::EAGAIN }
    })?;
    let pid = process.pid;
    let pending = process.signals.borrow().pending.beside();
    let signals = ThreadSignals { pending, ..parent.signals.borrow().for_child() };
    let thread = new_thread(&process, pid, machine, home.block.clone(), signals);
    thread.schedule.set(parent.schedule.get());
    thread.set_schedule(parent.schedule.get().for_child());
    let started = give_file(parent, &process, request).and_then(|pidfd| {
        start(parent, &thread, request, context, events).inspect_err(|_| {
            if let Some(pidfd) = pidfd {
                pidfd::take_back(parent, pidfd);
            }
        })
    });
    if let Err(error) = started {
        let server = parent.server();
        server.tree.change(Tree::remove_unborn, pid);
        server.forget_process(pid);
        take_back(&thread);
        process.unshare_directories();
        home.give_up();
        return Err(error);
    }
    Ok(thread)
}

fn make_process(
    parent: &Rc<Thread>,
    request: &CloneRequest,
    account: Account,
    home: &Home,
) -> Result<(Rc<Process>, UserThread, ThreadEvents)> {
    let server = parent.server();
    let table = Table::create(&account)?;
    let (machine, events) = UserThread::create(&server.executor, &account, home.vm.space(), &table)?;
    let files = {
        let files = parent.process.files.borrow();
        if request.has(linux::CLONE_FILES) { files.share() } else { files.try_clone()? }
    };
    let pid = match request.chosen_id {
        Some(pid) => pid,
        None => server.tree.change(|tree, ()| tree.allocate_pid(), ())?,
    };
    let directories = directories(parent, request, pid)?;
    let birth = birth(parent, request, pid);
    server.tree.change(Tree::insert_child, birth)?;
    let resources = Resources { account, table, files, directories };
    let process = child_process(parent, request, pid, resources, home.vm.clone());
    if process.limit(linux::RLIMIT_CPU) != UNLIMITED {
        process.timers.follow_cpu_limit(&process);
    }
    process.is_borrowing.set(home.is_borrowed);
    if !home.is_borrowed && home.vm.has_segments() {
        home.vm.set_owner(pid);
    }
    process.holds_parent.set(request.has(linux::CLONE_VFORK));
    Ok((process, machine, events))
}

fn birth(parent: &Rc<Thread>, request: &CloneRequest, pid: Pid) -> Birth {
    let own = &parent.process;
    let grandparent = own.parent();
    if request.has(linux::CLONE_PARENT) && grandparent != 0 {
        let exit_signal = own.server.tree.look(Tree::exit_signal, own.pid);
        return Birth { parent: grandparent, creator: grandparent, pid, exit_signal };
    }
    Birth { parent: own.pid, creator: parent.tid, pid, exit_signal: request.exit_signal }
}

fn clone_thread(parent: &Rc<Thread>, request: &CloneRequest, context: &Context) -> Result<Rc<Thread>> {
    let process = &parent.process;
    let server = parent.server();
    check_thread_room(process)?;
    if let Some(tid) = request.chosen_id {
        server.tree.look(Tree::check_chosen_pid, tid)?;
    }
    let vm = process.vm();
    let block = vm.allocate_block().map_err(|_| Errno::EAGAIN)?;
    let made = (|| {
        let (machine, events) = UserThread::create(&server.executor, &process.account, vm.space(), &process.table)?;
        let tid = match request.chosen_id {
            Some(tid) => {
                server.tree.change(Tree::take_thread_id, tid);
                tid
            }
            None => server.tree.change(|tree, ()| tree.allocate_thread_id(), ())?,
        };
        Ok::<_, Errno>((tid, machine, events))
    })();
    let (tid, machine, events) = made.map_err(|_| {
        vm.free_block(&block);
        Errno::EAGAIN
    })?;
    let pending = process.signals.borrow().pending.beside();
    let signals = ThreadSignals { mask: parent.mask(), pending, ..ThreadSignals::default() };
    let thread = new_thread(process, tid, machine, block.clone(), signals);
    thread.set_schedule(parent.schedule.get().for_child());
    if let Err(error) = start(parent, &thread, request, context, events) {
        server.tree.change(Tree::release_thread_id, tid);
        take_back(&thread);
        vm.free_block(&block);
        return Err(error);
    }
    Ok(thread)
}

/// Takes back a thread that was not started. Who serves it holds it until it ends.
fn take_back(thread: &Rc<Thread>) {
    thread.whereabouts.set(Whereabouts::Gone);
    thread.machine.kill();
    thread.server().forget_thread(thread.tid);
    thread.process.remove_thread(thread);
}

/// The root, directory and umask of a child. `EPERM`, `ENOSPC`.
fn directories(parent: &Rc<Thread>, request: &CloneRequest, pid: Pid) -> Result<FsContext> {
    let copy = parent.process.fs.borrow().for_process(pid);
    if request.has(linux::CLONE_NEWNS) { copy.with_own_namespace() } else { Ok(copy) }
}

/// What a new process has of its own.
struct Resources {
    account: Account,
    table: Table,
    files: FdTable,
    directories: FsContext,
}

fn child_process(
    parent: &Rc<Thread>,
    request: &CloneRequest,
    pid: Pid,
    resources: Resources,
    vm: Rc<Vm>,
) -> Rc<Process> {
    let old = &parent.process;
    let Resources { account, table, files, directories: fs } = resources;
    let signals = {
        let signals = old.signals.borrow();
        if request.has(linux::CLONE_SIGHAND) {
            signals.for_sharer()
        } else if request.clears_handlers() {
            signals.for_child().without_handlers()
        } else {
            signals.for_child()
        }
    };
    let directories = if request.has(linux::CLONE_FS) { old.share_directories(pid) } else { None };
    Rc::new(Process {
        _alive: Default::default(),
        server: old.server.clone(),
        pid,
        account,
        table,
        files: RefCell::new(files),
        fs: RefCell::new(fs),
        directories: RefCell::new(directories),
        limits: Cell::new(old.limits.get()),
        signals: RefCell::new(signals),
        program: RefCell::new(old.program.borrow().clone()),
        start_ns: platform::now_ns(),
        ended_usage: Cell::new(Usage::default()),
        children_usage: Cell::new(Usage::default()),
        phase: Cell::new(Phase::Running),
        is_immune: Cell::new(false),
        child_news: WaitQueue::new(),
        resumed: WaitQueue::new(),
        released: WaitQueue::new(),
        is_borrowing: Cell::new(false),
        holds_parent: Cell::new(false),
        timers: ProcessTimers::default(),
        signal_sent: WaitQueue::new(),
        badness_adjustment: old.badness_adjustment.clone(),
        least_badness_adjustment: old.least_badness_adjustment.clone(),
        is_dumpable: old.is_dumpable.clone(),
        attributes: Cell::new(old.attributes.get()),
        parent_death_signal: Cell::new(0),
        vm: RefCell::new(vm),
        credentials: RefCell::new(old.credentials()),
        threads: RefCell::new(Vec::new()),
    })
}

/// A thread that is not yet started, entered in its process.
pub(super) fn new_thread(
    process: &Rc<Process>,
    tid: Pid,
    machine: UserThread,
    block: Rc<Block>,
    signals: ThreadSignals,
) -> Rc<Thread> {
    let thread = Rc::new(Thread {
        _alive: Default::default(),
        process: process.clone(),
        tid,
        machine,
        name: RefCell::new(process.program.borrow().name.clone()),
        block: RefCell::new(block),
        signals: RefCell::new(signals),
        signal_arrived: WaitQueue::new(),
        attention: Cell::new(Attention::None),
        whereabouts: Cell::new(Whereabouts::Outside),
        reply: RefCell::new(None),
        parked: RefCell::new(None),
        has_seen_word: Cell::new(false),
        // None: it has not been in a call yet.
        wakes_at_leave: Cell::new(u64::MAX),
        call_number: Cell::new(0),
        clear_tid: Cell::new(0),
        seccomp: RefCell::default(),
        robust_list: Cell::new((0, 0)),
        restart: RefCell::new(None),
        is_waiting: Cell::new(false),
        schedule: Cell::new(Schedule::default()),
        system_ticks: Cell::new(0),
        waits: Cell::new(0),
        is_pending_set: Cell::new(false),
        shown_mask: Cell::new(0),
        is_held_shown: Cell::new(false),
        is_suspended: Cell::new(false),
        is_traced: Cell::new(false),
        is_trapped: Cell::new(false),
        is_stepping: Cell::new(false),
        new_fs_base: Cell::new(None),
        halted: RefCell::new(None),
        starved: Cell::new(0),
    });
    process.add_thread(&thread);
    thread
}

/// Gives a new thread its block and registers, and starts it.
fn start(
    parent: &Rc<Thread>,
    thread: &Rc<Thread>,
    request: &CloneRequest,
    context: &Context,
    events: ThreadEvents,
) -> Result<()> {
    let process = &thread.process;
    let server = &process.server;
    thread.seccomp.replace(parent.seccomp.borrow().clone());
    thread.initial_block(context, &thread.local_answers());
    let tid = (thread.tid as u32).to_le_bytes();
    if request.has(linux::CLONE_PARENT_SETTID) {
        // Linux ignores a bad address here.
        parent.space().write(request.parent_tid, &tid);
    }
    if request.has(linux::CLONE_CHILD_SETTID) {
        thread.space().write(request.child_tid, &tid);
    }
    if request.has(linux::CLONE_CHILD_CLEARTID) {
        thread.clear_tid.set(request.child_tid);
    }
    let old = parent.machine.registers()?;
    let is_traced = stops::inherit(parent, thread, event_of(request));
    let registers = Registers {
        rip: server.shim.restore(),
        rsp: thread.block().end(),
        rflags: 0x202,
        fs_base: if request.has(linux::CLONE_SETTLS) { request.tls } else { old.fs_base },
        gs_base: thread.block().address(),
        ..Registers::default()
    };
    let mut vector = vec![0; platform::vector_state_bytes()];
    parent.machine.read_vector_state(&mut vector)?;
    thread.machine.write_vector_state(&vector)?;
    thread.name.replace(parent.name.borrow().clone());
    if !is_traced {
        return launch(thread, &registers, events);
    }
    // It stops for its tracer before it has done anything.
    thread.is_trapped.set(true);
    thread.machine.suspend();
    let registers = with_context(&registers, context);
    launch(thread, &registers, events)?;
    proceed(thread, Leaving::in_program(registers, parent.call_number.get()));
    Ok(())
}

/// Routes a new thread's calls, starts it and serves it.
fn launch(thread: &Rc<Thread>, registers: &Registers, events: ThreadEvents) -> Result<()> {
    let process = &thread.process;
    let server = &process.server;
    let (entry, native_start, native_end) = server.shim.reflection();
    thread.machine.set_shim(entry, native_start, native_end)?;
    thread.machine.set_name(&thread.name.borrow());
    server.enter_thread(thread);
    if server.process(process.pid).is_none() {
        server.enter_process(process);
    }
    serve(thread, events)?;
    thread.machine.start(registers)
}

/// Starts a thread that takes the number of its process, in the place of the one that calls `execve`. It is suspended.
///
/// It is started while the old one is still there: with the last started thread of a table go its handles, and so the new one's
/// channel.
pub(crate) fn successor(old: &Rc<Thread>, vm: &Vm, block: &Rc<Block>, registers: &Registers) -> Result<Rc<Thread>> {
    let process = &old.process;
    let (machine, events) = UserThread::create(&process.server.executor, &process.account, vm.space(), &process.table)?;
    machine.suspend();
    let signals = old.signals.borrow_mut().hand_over();
    let thread = new_thread(process, process.pid, machine, block.clone(), signals);
    thread.set_schedule(old.schedule.get());
    thread.seccomp.replace(old.seccomp.borrow().clone());
    stops::rename(old, &thread);
    launch(&thread, registers, events)?;
    Ok(thread)
}
