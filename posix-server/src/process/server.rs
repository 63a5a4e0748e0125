//! The server: everything that all processes share.

use super::tree::Tree;
use super::{Phase, Pid, Process, Thread};
use crate::exec::shim_image::ShimImage;
use crate::fs::{Location, Namespace};
use crate::platform::Executor;
use crate::signal::{Signal, SignalInfo};
use crate::trace::Trace;
use crate::tty::Terminal;
use crate::tty::sessions::Sessions;
use crate::vm::Area;
use crate::wait::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};

/// What the server has.
pub struct Server {
    /// Tasks and deadlines.
    pub executor: Executor,
    /// The deadlines of programs' timers.
    pub alarms: Rc<crate::event::alarms::Alarms>,
    /// The name space.
    pub namespace: Rc<Namespace>,
    /// The in-process half.
    pub shim: ShimImage,
    /// Who descends from whom.
    pub tree: RefCell<Tree>,
    /// What each process may use, in frames.
    pub process_frames: u64,
    /// How many processes there may be.
    pub max_processes: u64,
    /// Threads that wait at a futex, by space and address.
    pub futexes: crate::process::futex::Futexes,
    /// Which terminal controls which session.
    pub sessions: Sessions,
    /// Sockets.
    pub net: Rc<crate::net::Net>,
    /// The host's name.
    pub host_name: RefCell<Vec<u8>>,
    /// Called when the first process has ended, with its status.
    pub on_end: RefCell<Option<EndCallback>>,
    /// Where system calls are traced to, if they are.
    pub trace: OnceCell<Trace>,
    processes: RefCell<BTreeMap<Pid, Rc<Process>>>,
    threads: RefCell<BTreeMap<Pid, Rc<Thread>>>,
    forks: Cell<u64>,
}

/// What is called at the end of the first process.
pub type EndCallback = alloc::boxed::Box<dyn FnOnce(super::tree::ExitStatus)>;

/// What `/proc` tells of one process, at one moment.
pub struct Snapshot {
    /// Its number.
    pub pid: Pid,
    /// Its parent's.
    pub parent: Pid,
    /// Its group's.
    pub group: Pid,
    /// Its session's.
    pub session: Pid,
    /// Its name (`comm`).
    pub name: Vec<u8>,
    /// Its arguments, each with a terminating zero.
    pub arguments: Vec<u8>,
    /// One of `R`, `S`, `T`, `Z`.
    pub state: u8,
    /// Number of threads.
    pub threads: usize,
    /// The ids of the threads.
    pub tids: Vec<Pid>,
    /// When it began, in ns since the machine's start.
    pub start_ns: u64,
    /// Time that it has run, in ns.
    pub run_time_ns: u64,
    /// Its address space's size in bytes.
    pub virtual_bytes: u64,
    /// Frames charged to it.
    pub resident_pages: u64,
    /// The areas of its address space.
    pub areas: Vec<Area>,
    /// Its process, unless it has ended.
    pub process: Option<Rc<Process>>,
    /// What it runs.
    pub executable: Option<Location>,
}

/// What a new server is made of.
pub struct Parts {
    /// Tasks and deadlines.
    pub executor: Executor,
    /// The name space.
    pub namespace: Rc<Namespace>,
    /// The in-process half.
    pub shim: ShimImage,
    /// What each process may use, in frames.
    pub process_frames: u64,
    /// How many processes there may be.
    pub max_processes: u64,
}

impl Server {
    /// A server without processes.
    pub fn new(parts: Parts) -> Rc<Self> {
        Rc::new(Self {
            alarms: crate::event::alarms::Alarms::new(&parts.executor),
            executor: parts.executor,
            namespace: parts.namespace,
            shim: parts.shim,
            tree: RefCell::new(Tree::new()),
            process_frames: parts.process_frames,
            max_processes: parts.max_processes,
            futexes: crate::process::futex::Futexes::default(),
            net: Rc::default(),
            host_name: RefCell::new(b"quire".to_vec()),
            on_end: RefCell::new(None),
            trace: OnceCell::new(),
            processes: RefCell::new(BTreeMap::new()),
            threads: RefCell::new(BTreeMap::new()),
            sessions: Sessions::default(),
            forks: Cell::new(0),
        })
    }

    /// Enters a thread.
    pub fn enter_thread(&self, thread: &Rc<Thread>) {
        self.threads.borrow_mut().insert(thread.tid, thread.clone());
    }

    /// Forgets a thread.
    pub fn forget_thread(&self, tid: Pid) {
        let forgotten = self.threads.borrow_mut().remove(&tid);
        drop(forgotten);
    }

    /// A thread by its id.
    pub fn thread(&self, tid: Pid) -> Option<Rc<Thread>> {
        self.threads.borrow().get(&tid).cloned()
    }

    /// Enters a process.
    pub fn enter_process(&self, process: &Rc<Process>) {
        self.processes.borrow_mut().insert(process.pid, process.clone());
        self.forks.set(self.forks.get() + 1);
    }

    /// Forgets a process (its zombie stays in the tree).
    pub fn forget_process(&self, pid: Pid) {
        let forgotten = self.processes.borrow_mut().remove(&pid);
        drop(forgotten);
    }

    /// A process that has not ended.
    pub fn process(&self, pid: Pid) -> Option<Rc<Process>> {
        self.processes.borrow().get(&pid).cloned()
    }

    /// All processes that have not ended.
    pub fn processes(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().values().cloned().collect()
    }

    /// How many processes a user has.
    pub fn processes_of(&self, uid: crate::cred::Uid) -> u64 {
        self.processes.borrow().values().filter(|process| process.credentials().uid == uid).count() as u64
    }

    /// How many processes were made since the start.
    pub fn forks(&self) -> u64 {
        self.forks.get()
    }

    /// The terminal that controls a session.
    pub fn controlling_terminal(&self, session: Pid) -> Option<Rc<Terminal>> {
        self.sessions.terminal(session)
    }

    /// Makes a terminal control a session, or none; returns the one before.
    pub fn set_controlling_terminal(&self, session: Pid, terminal: Option<Rc<Terminal>>) -> Option<Rc<Terminal>> {
        self.sessions.set_terminal(session, terminal)
    }

    /// Whether nobody could look after the stopped members of a group.
    pub fn is_orphaned_group(&self, group: Pid) -> bool {
        self.tree.borrow().is_orphaned_group(group)
    }

    /// Sends a signal of the system's own to every process of a group.
    pub fn signal_group(&self, group: Pid, signal: Signal) {
        let members = self.tree.borrow().group_members(group);
        for process in members.into_iter().filter_map(|pid| self.process(pid)) {
            // Nobody to tell if the queue of a process is full.
            let _ = crate::signal::deliver::send(&process, SignalInfo::from_kernel(signal));
        }
    }

    /// Woken whenever a child of `pid` has news.
    pub fn child_news(&self, pid: Pid) -> Option<WaitQueue> {
        self.process(pid).map(|process| process.child_news.clone())
    }

    /// The numbers of all processes, zombies included, ascending.
    pub fn pids(&self) -> Vec<Pid> {
        self.tree.borrow().pids()
    }

    /// What `/proc` tells of a process; `None` if there is none.
    pub fn snapshot(&self, pid: Pid) -> Option<Snapshot> {
        let process = self.process(pid);
        let tree = self.tree.borrow();
        let (group, session) = (tree.group(pid).ok()?, tree.session(pid).ok()?);
        let parent = tree.parent(pid);
        let threads = process.as_ref().map(|process| process.threads()).unwrap_or_default();
        let state = match process.as_ref().map(|process| process.phase.get()) {
            None | Some(Phase::Ended) => b'Z',
            Some(Phase::Stopped) => b'T',
            Some(Phase::Running) if threads.iter().all(|thread| thread.is_waiting.get()) => b'S',
            Some(Phase::Running) => b'R',
        };
        drop(tree);
        let program = process.as_ref().map(|process| process.program.borrow().clone()).unwrap_or_default();
        let vm = process.as_ref().map(|process| process.vm());
        Some(Snapshot {
            pid,
            parent,
            group,
            session,
            name: program.name,
            arguments: program.arguments.to_vec(),
            state,
            threads: threads.len(),
            tids: threads.iter().map(|thread| thread.tid).collect(),
            start_ns: process.as_ref().map_or(0, |process| process.start_ns),
            run_time_ns: process.as_ref().map_or(0, |process| process.run_time_ns()),
            virtual_bytes: vm.as_ref().map_or(0, |vm| vm.virtual_bytes()),
            resident_pages: process.as_ref().map_or(0, |process| process.account.used_frames()),
            areas: vm.map(|vm| vm.areas()).unwrap_or_default(),
            process,
            executable: program.file,
        })
    }
}
