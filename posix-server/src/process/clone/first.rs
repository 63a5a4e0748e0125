//! The first process.

use super::{launch, new_thread};
use crate::cred::Credentials;
use crate::errno::Result;
use crate::event::interval_timers::ProcessTimers;
use crate::exec::{self, Prepared};
use crate::file::FdTable;
use crate::fs::FsContext;
use crate::platform::{self, Account, Table, UserThread};
use crate::process::limits::Limits;
use crate::process::tree::{INIT, Tree};
use crate::process::usage::Usage;
use crate::process::{Attributes, Phase, Process, Program, Server};
use crate::signal::state::{ProcessSignals, ThreadSignals};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use posix_protocol::shim::Context;

/// One unprivileged user gets this part of all processes, as in Linux: the rest stays for those who must end them.
const USERS_SHARE: u64 = 2;

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
    let pid = server.tree.change(|tree, ()| tree.allocate_pid(), ())?;
    debug_assert_eq!(pid, INIT);
    server.tree.change(Tree::insert_first, pid);
    let process = Rc::new(Process {
        _alive: Default::default(),
        server: server.clone(),
        pid,
        account,
        table,
        files: RefCell::new(files),
        fs: RefCell::new(fs),
        directories: RefCell::new(None),
        limits: Cell::new(Limits::initial(server.max_processes / USERS_SHARE)),
        signals: RefCell::new(ProcessSignals::default()),
        program: RefCell::new(Program::default()),
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
        badness_adjustment: Cell::new(0),
        least_badness_adjustment: Cell::new(0),
        is_dumpable: Cell::new(true),
        attributes: Cell::new(Attributes::default()),
        parent_death_signal: Cell::new(0),
        vm: RefCell::new(prepared.vm.clone()),
        credentials: RefCell::new(Rc::new(credentials)),
        threads: RefCell::new(Vec::new()),
    });
    exec::adopt(&process, &prepared);
    let pending = process.signals.borrow().pending.beside();
    let signals = ThreadSignals { pending, ..ThreadSignals::default() };
    let thread = new_thread(&process, pid, machine, prepared.block.clone(), signals);
    thread.initial_block(&Context::default(), &process.local_answers(pid));
    thread.machine.write_vector_state(&exec::first_vector_state())?;
    launch(&thread, &exec::first_registers(&prepared), events)?;
    Ok(process)
}
