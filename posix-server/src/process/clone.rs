//! New processes and threads: `fork`, `vfork`, `clone`.

use super::limits::Limits;
use super::schedule::Schedule;
use super::server::Server;
use super::tree::Birth;
use super::tree::INIT;
use super::usage::Usage;
use super::{Attention, Phase, Pid, Process, Program, Thread, Whereabouts};
use crate::calls::{Outcome, serve};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::exec::{self, Prepared};
use crate::file::FdTable;
use crate::fs::FsContext;
use crate::platform::{self, Account, PAGE_SIZE, Registers, Table, ThreadEvents, UserThread};
use crate::signal::Signal;
use crate::signal::state::{ProcessSignals, ThreadSignals};
use crate::vm::Vm;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;
use posix_protocol::shim::Context;

/// What `clone` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct CloneRequest {
    /// `CLONE_*`, without the signal.
    pub flags: u64,
    /// The stack pointer of the child; 0 for the parent's.
    pub stack: u64,
    /// Where the parent finds the child's id.
    pub parent_tid: u64,
    /// Where the child finds it.
    pub child_tid: u64,
    /// The child's `fs` base.
    pub tls: u64,
    /// What the parent gets when the child ends.
    pub exit_signal: Option<Signal>,
}

/// The flags that are known. Those of name spaces and tracing are not.
const KNOWN: u32 = linux::CLONE_VM
    | linux::CLONE_FS
    | linux::CLONE_FILES
    | linux::CLONE_SIGHAND
    | linux::CLONE_VFORK
    | linux::CLONE_PARENT
    | linux::CLONE_THREAD
    | linux::CLONE_SYSVSEM
    | linux::CLONE_SETTLS
    | linux::CLONE_PARENT_SETTID
    | linux::CLONE_CHILD_CLEARTID
    | linux::CLONE_CHILD_SETTID
    | linux::CLONE_DETACHED
    | linux::CLONE_UNTRACED
    | linux::CLONE_IO;

impl CloneRequest {
    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// The combinations that Linux refuses, and those that are not there. `EINVAL`.
    fn check(&self) -> Result<()> {
        let contradicts = self.has(linux::CLONE_THREAD) && !self.has(linux::CLONE_SIGHAND)
            || self.has(linux::CLONE_SIGHAND) && !self.has(linux::CLONE_VM);
        if contradicts || self.flags & !u64::from(KNOWN) != 0 {
            return Err(Errno::EINVAL);
        }
        let is_thread = self.has(linux::CLONE_THREAD);
        // Processes that share a table of descriptors, a directory or handlers without being one.
        let shares = [linux::CLONE_FILES, linux::CLONE_FS, linux::CLONE_SIGHAND].iter().any(|flag| self.has(*flag));
        if !is_thread && shares { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

/// Makes a process or thread.
pub fn clone(parent: &Rc<Thread>, request: &CloneRequest) -> Outcome {
    match try_clone(parent, request) {
        Ok(child) if request.has(linux::CLONE_VFORK) => {
            let tid = child.tid;
            Outcome::block(async move {
                loop {
                    let listener = child.process.released.listen();
                    if !child.process.is_borrowing.get() {
                        return Ok(tid as u64);
                    }
                    listener.await;
                }
            })
        }
        Ok(child) => Outcome::Return(Ok(child.tid as u64)),
        Err(error) => Outcome::Return(Err(error)),
    }
}

fn try_clone(parent: &Rc<Thread>, request: &CloneRequest) -> Result<Rc<Thread>> {
    request.check()?;
    let context = parent.context().ok_or(Errno::EFAULT)?;
    let stack = if request.stack == 0 { context.rsp } else { request.stack };
    let context = Context { rax: 0, rsp: stack, ..context };
    if request.has(linux::CLONE_THREAD) {
        clone_thread(parent, request, &context)
    } else {
        fork(parent, request, &context)
    }
}

/// One unprivileged user gets this part of all processes, as in Linux: the rest stays for those who must end them.
const USERS_SHARE: u64 = 2;

/// Whether there may be one process more. `EAGAIN`.
fn check_room(parent: &Process) -> Result<()> {
    let server = &parent.server;
    let credentials = parent.credentials();
    let total = server.tree.borrow().len() as u64;
    let is_limited =
        !credentials.is_privileged() && server.processes_of(credentials.uid) >= parent.limit(linux::RLIMIT_NPROC);
    if total >= server.max_processes || is_limited { Err(Errno::EAGAIN) } else { Ok(()) }
}

fn fork(parent: &Rc<Thread>, request: &CloneRequest, context: &Context) -> Result<Rc<Thread>> {
    check_room(&parent.process)?;
    let server = parent.server();
    let account = Account::for_process(server.process_frames)?;
    let is_borrowing = request.has(linux::CLONE_VM);
    let vm = parent.process.vm();
    let (vm, block) = if is_borrowing {
        let block = vm.allocate_block().map_err(|_| Errno::EAGAIN)?;
        (vm, block)
    } else {
        (Rc::new(vm.fork(&account, parent.block.get())?), parent.block.get())
    };
    let made = (|| {
        let table = Table::create(&account)?;
        let (machine, events) = UserThread::create(&server.executor, &account, vm.space(), &table)?;
        let files = parent.process.files.borrow().try_clone()?;
        let pid = server.tree.borrow_mut().allocate_pid()?;
        let grandparent = parent.process.parent();
        let adopter =
            if request.has(linux::CLONE_PARENT) && grandparent != 0 { grandparent } else { parent.process.pid };
        let birth = Birth { parent: adopter, creator: parent.tid, pid, exit_signal: request.exit_signal };
        server.tree.borrow_mut().insert_child(birth)?;
        let process = child_process(parent, pid, account.clone(), table, files, vm.clone());
        process.is_borrowing.set(is_borrowing);
        Ok::<_, Errno>((process, machine, events))
    })();
    let (process, machine, events) = match made {
        Ok(made) => made,
        Err(error) => {
            if is_borrowing {
                vm.free_block(block);
            }
            return Err(if error == Errno::ENOMEM { Errno::ENOMEM } else { Errno::EAGAIN });
        }
    };
    let pid = process.pid;
    let thread = new_thread(&process, pid, machine, block, parent.signals.borrow().for_child());
    let started = start(parent, &thread, request, context, events);
    if let Err(error) = started {
        server.tree.borrow_mut().remove_unborn(pid);
        server.forget_process(pid);
        server.forget_thread(pid);
        process.remove_thread(&thread);
        if is_borrowing {
            vm.free_block(block);
        }
        return Err(error);
    }
    Ok(thread)
}

fn clone_thread(parent: &Rc<Thread>, request: &CloneRequest, context: &Context) -> Result<Rc<Thread>> {
    let process = &parent.process;
    let server = parent.server();
    let vm = process.vm();
    let block = vm.allocate_block().map_err(|_| Errno::EAGAIN)?;
    let made = (|| {
        let (machine, events) = UserThread::create(&server.executor, &process.account, vm.space(), &process.table)?;
        let tid = server.tree.borrow_mut().allocate_thread_id()?;
        Ok::<_, Errno>((tid, machine, events))
    })();
    let (tid, machine, events) = made.map_err(|_| {
        vm.free_block(block);
        Errno::EAGAIN
    })?;
    let signals = ThreadSignals { mask: parent.mask(), ..ThreadSignals::default() };
    let thread = new_thread(process, tid, machine, block, signals);
    if let Err(error) = start(parent, &thread, request, context, events) {
        server.tree.borrow_mut().release_thread_id(tid);
        server.forget_thread(tid);
        process.remove_thread(&thread);
        vm.free_block(block);
        return Err(error);
    }
    Ok(thread)
}

fn child_process(
    parent: &Rc<Thread>,
    pid: Pid,
    account: Account,
    table: Table,
    files: FdTable,
    vm: Rc<Vm>,
) -> Rc<Process> {
    let old = &parent.process;
    Rc::new(Process {
        server: old.server.clone(),
        pid,
        account,
        table,
        files: RefCell::new(files),
        fs: RefCell::new(old.fs.borrow().for_process(pid)),
        limits: Cell::new(old.limits.get()),
        signals: RefCell::new(old.signals.borrow().for_child()),
        program: RefCell::new(old.program.borrow().clone()),
        start_ns: platform::now_ns(),
        ended_usage: Cell::new(Usage::default()),
        children_usage: Cell::new(Usage::default()),
        phase: Cell::new(Phase::Running),
        child_news: WaitQueue::new(),
        resumed: WaitQueue::new(),
        released: WaitQueue::new(),
        is_borrowing: Cell::new(false),
        alarm: Cell::new((0, 0)),
        alarm_generation: Cell::new(0),
        nice: old.nice.clone(),
        is_dumpable: Cell::new(true),
        parent_death_signal: Cell::new(0),
        vm: RefCell::new(vm),
        credentials: RefCell::new(old.credentials()),
        threads: RefCell::new(Vec::new()),
    })
}

fn new_thread(process: &Rc<Process>, tid: Pid, machine: UserThread, block: u64, signals: ThreadSignals) -> Rc<Thread> {
    let thread = Rc::new(Thread {
        process: process.clone(),
        tid,
        machine,
        block: Cell::new(block),
        signals: RefCell::new(signals),
        signal_arrived: WaitQueue::new(),
        attention: Cell::new(Attention::None),
        whereabouts: Cell::new(Whereabouts::Outside),
        reply: RefCell::new(None),
        call_number: Cell::new(0),
        clear_tid: Cell::new(0),
        robust_list: Cell::new((0, 0)),
        restart: RefCell::new(None),
        is_waiting: Cell::new(false),
        schedule: Cell::new(Schedule::default()),
        system_ns: Cell::new(0),
        waits: Cell::new(0),
        is_pending_set: Cell::new(false),
        is_suspended: Cell::new(false),
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
    thread.initial_block(context, &process.local_answers(thread.tid)).map_err(|_| Errno::EAGAIN)?;
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
    let registers = Registers {
        rip: server.shim.restore(),
        rsp: thread.block.get() + PAGE_SIZE,
        rflags: 0x202,
        fs_base: if request.has(linux::CLONE_SETTLS) { request.tls } else { old.fs_base },
        gs_base: thread.block.get(),
        ..Registers::default()
    };
    let mut vector = vec![0; platform::vector_state_bytes()];
    parent.machine.read_vector_state(&mut vector)?;
    thread.machine.write_vector_state(&vector)?;
    launch(thread, &registers, events)
}

/// Routes a new thread's calls, starts it and serves it.
fn launch(thread: &Rc<Thread>, registers: &Registers, events: ThreadEvents) -> Result<()> {
    let process = &thread.process;
    let server = &process.server;
    let (entry, native_start, native_end) = server.shim.reflection();
    thread.machine.set_shim(entry, native_start, native_end)?;
    thread.machine.set_name(&process.program.borrow().name);
    server.enter_thread(thread);
    if thread.tid == process.pid {
        server.enter_process(process);
    }
    serve(thread, events)?;
    thread.machine.start(registers)
}

/// What the first process begins with.
pub struct FirstProcess {
    /// Its descriptors.
    pub files: FdTable,
    /// Its root, working directory and umask.
    pub fs: FsContext,
    /// Who it is.
    pub credentials: Credentials,
    /// Its budget.
    pub account: Account,
    /// What it runs.
    pub prepared: Prepared,
}

/// Starts the first process. It leads a session and a group.
pub fn start_first(server: &Rc<Server>, first: FirstProcess) -> Result<Rc<Process>> {
    let FirstProcess { files, fs, credentials, account, prepared } = first;
    let table = Table::create(&account)?;
    let (machine, events) = UserThread::create(&server.executor, &account, prepared.vm.space(), &table)?;
    let pid = server.tree.borrow_mut().allocate_pid()?;
    debug_assert_eq!(pid, INIT);
    server.tree.borrow_mut().insert_first(pid);
    let process = Rc::new(Process {
        server: server.clone(),
        pid,
        account,
        table,
        files: RefCell::new(files),
        fs: RefCell::new(fs),
        limits: Cell::new(Limits::initial(server.max_processes / USERS_SHARE)),
        signals: RefCell::new(ProcessSignals::default()),
        program: RefCell::new(Program::default()),
        start_ns: platform::now_ns(),
        ended_usage: Cell::new(Usage::default()),
        children_usage: Cell::new(Usage::default()),
        phase: Cell::new(Phase::Running),
        child_news: WaitQueue::new(),
        resumed: WaitQueue::new(),
        released: WaitQueue::new(),
        is_borrowing: Cell::new(false),
        alarm: Cell::new((0, 0)),
        alarm_generation: Cell::new(0),
        nice: Cell::new(0),
        is_dumpable: Cell::new(true),
        parent_death_signal: Cell::new(0),
        vm: RefCell::new(prepared.vm.clone()),
        credentials: RefCell::new(Rc::new(credentials)),
        threads: RefCell::new(Vec::new()),
    });
    exec::adopt(&process, &prepared);
    let thread = new_thread(&process, pid, machine, prepared.block, ThreadSignals::default());
    thread.initial_block(&Context::default(), &process.local_answers(pid))?;
    thread.machine.write_vector_state(&exec::first_vector_state())?;
    launch(&thread, &exec::first_registers(&prepared), events)?;
    Ok(process)
}
