//! The server: everything that all processes share.

use super::tree::{SharedTree, Tree};
use super::usage::Usage;
use super::{Pid, Process, Thread};
use crate::cred::{Gid, Uid};
use crate::exec::shim_image::ShimImage;
use crate::fs::Namespace;
use crate::fs::procfs::load::Load;
use crate::fs::procfs::sysctl::{Values, random_bytes};
use crate::platform::Executor;
use crate::signal::{Signal, SignalInfo};
use crate::trace::Trace;
use crate::tty::Terminal;
use crate::tty::sessions::Sessions;
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
    /// Calls that wait, and may go on.
    pub due: crate::calls::sleeper::Due,
    /// Woken when the real-time clock has been set.
    pub clock_set: WaitQueue,
    /// The name space.
    pub namespace: Rc<Namespace>,
    /// The in-process half.
    pub shim: ShimImage,
    /// Who descends from whom.
    pub tree: SharedTree,
    /// Who traces whom.
    pub tracees: RefCell<crate::ptrace::Tracees>,
    /// What each process may use, in frames.
    pub process_frames: u64,
    /// How many processes there may be.
    pub max_processes: u64,
    /// Threads that wait at a futex, by space and address.
    pub futexes: crate::process::futex::Futexes,
    /// Which terminal controls which session.
    pub sessions: Sessions,
    /// How many threads want to run, on average.
    pub load: Load,
    /// What was set in `/proc/sys`.
    pub settings: Values,
    /// Different at each start of the machine.
    pub boot_id: [u8; 16],
    /// Sockets.
    pub net: Rc<crate::net::Net>,
    /// System V objects.
    pub ipc: crate::sysv::Ipc,
    /// The host's name.
    pub host_name: RefCell<Vec<u8>>,
    /// The name of the domain (NIS) that the host says it is in.
    pub domain_name: RefCell<Vec<u8>>,
    /// Called when the first process has ended, with its status.
    pub on_end: RefCell<Option<EndCallback>>,
    /// What is done when memory is used up.
    pub exhaustion: super::exhaustion::Exhaustion,
    /// Where system calls are traced to, if they are.
    pub trace: OnceCell<Trace>,
    /// The files that a pager has.
    pub page_store: OnceCell<Rc<crate::fs::pagerfs::Store>>,
    /// The disks.
    pub disks: OnceCell<Rc<crate::fs::diskfs::Disks>>,
    processes: RefCell<BTreeMap<Pid, Rc<Process>>>,
    threads: RefCell<BTreeMap<Pid, Rc<Thread>>>,
    forks: Cell<u64>,
    graves: RefCell<BTreeMap<Pid, Grave>>,
    ended: Cell<Usage>,
}

/// What is called at the end of the first process.
pub type EndCallback = alloc::boxed::Box<dyn FnOnce(super::tree::ExitStatus)>;

/// What `/proc` tells of a process that has ended, as long as nobody has waited for it.
#[derive(Clone, Debug, Default)]
pub struct Grave {
    /// Its name (`comm`).
    pub name: Vec<u8>,
    /// Whose it was.
    pub uid: Uid,
    /// Of which group.
    pub gid: Gid,
    /// When it began, in ns since the machine's start.
    pub start_ns: u64,
    /// What it had used.
    pub usage: Usage,
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
            due: crate::calls::sleeper::Due::default(),
            clock_set: WaitQueue::new(),
            executor: parts.executor,
            namespace: parts.namespace,
            shim: parts.shim,
            tree: SharedTree::default(),
            tracees: RefCell::default(),
            process_frames: parts.process_frames,
            max_processes: parts.max_processes,
            futexes: crate::process::futex::Futexes::default(),
            net: Rc::default(),
            ipc: crate::sysv::Ipc::default(),
            host_name: RefCell::new(b"quire".to_vec()),
            domain_name: RefCell::new(b"(none)".to_vec()),
            on_end: RefCell::new(None),
            exhaustion: super::exhaustion::Exhaustion::default(),
            trace: OnceCell::new(),
            page_store: OnceCell::new(),
            disks: OnceCell::new(),
            processes: RefCell::new(BTreeMap::new()),
            threads: RefCell::new(BTreeMap::new()),
            sessions: Sessions::default(),
            forks: Cell::new(0),
            graves: RefCell::default(),
            ended: Cell::default(),
            load: Load::default(),
            settings: Values::default(),
            boot_id: random_bytes(),
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
        if let Some(process) = &forgotten {
            self.bury(process);
        }
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

    /// How many threads a user has, in all processes (`RLIMIT_NPROC`).
    pub fn threads_of(&self, uid: Uid) -> u64 {
        let processes = self.processes.borrow();
        let own = processes.values().filter(|process| process.credentials().uid == uid);
        own.map(|process| process.thread_count() as u64).sum()
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
        self.tree.look(Tree::is_orphaned_group, group)
    }

    /// Sends a signal of the system's own to every process of a group.
    pub fn signal_group(&self, group: Pid, signal: Signal) {
        let members = self.tree.look(Tree::group_members, group);
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
        self.tree.look(|tree, ()| tree.pids(), ())
    }

    /// What is left of a process that has ended.
    pub fn grave(&self, pid: Pid) -> Grave {
        self.graves.borrow().get(&pid).cloned().unwrap_or_default()
    }

    /// Of how many processes something is noted that have ended.
    pub fn graves(&self) -> usize {
        self.graves.borrow().len()
    }

    /// Notes what `/proc` tells of a process that ends. Graves whose zombies are gone are cleared when there are many.
    fn bury(&self, process: &Process) {
        /// How many graves there may be besides those of zombies.
        const OLD: usize = 8;
        let credentials = process.credentials();
        // Its threads have ended.
        let usage = process.ended_usage.get();
        self.ended.set(self.ended.get().with(&usage));
        let name = process.program.borrow().name.clone();
        let grave = Grave { name, uid: credentials.uid, gid: credentials.gid, start_ns: process.start_ns, usage };
        let mut graves = self.graves.borrow_mut();
        graves.insert(process.pid, grave);
        if graves.len() > 2 * self.tree.look(|tree, ()| tree.len(), ()) + OLD {
            graves.retain(|pid, _| self.tree.look(Tree::is_zombie, *pid));
        }
    }

    /// What processes have used that have ended.
    pub fn ended(&self) -> Usage {
        self.ended.get()
    }
}
