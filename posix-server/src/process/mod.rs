//! Processes, their threads, and the server that has them all.

pub mod attributes;
mod clone;
pub mod end;
pub mod exhaustion;
pub mod futex;
pub mod limits;
pub mod schedule;
pub mod seccomp;
pub mod server;
pub mod sharing;
#[cfg(test)]
pub(crate) mod tests;
pub mod thread;
pub mod tree;
pub mod usage;

pub use attributes::Attributes;
pub(crate) use clone::successor;
pub use clone::{CloneRequest, FirstProcess, check_name_spaces, clone, start_first};
pub use server::Server;
pub use thread::{Attention, Thread, Whereabouts};

use crate::cred::{Credentials, ROOT, Uid};
use crate::event::interval_timers::ProcessTimers;
use crate::file::FdTable;
use crate::fs::{FsContext, Inode, Location};
use crate::platform::{self, Account, Space, Table};
use crate::process::tree::Tree;
use crate::signal::state::ProcessSignals;
use crate::vm::Vm;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use limits::Limits;
use posix_protocol::shim::LocalAnswers;
use usage::Usage;

/// The number of a process, thread, group or session.
pub type Pid = i32;

/// The longest name of a thread, without a terminating zero (`PR_SET_NAME`).
pub const MAX_NAME: usize = 15;

/// Whether a process may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It may.
    Running,
    /// A signal has stopped it.
    Stopped,
    /// It has ended; what is left is a number and a status.
    Ended,
}

/// The program that a process runs.
#[derive(Clone, Default)]
pub struct Program {
    /// The name of the first thread (`comm`).
    pub name: Vec<u8>,
    /// The arguments, each with a terminating zero, as first given.
    pub arguments: Rc<[u8]>,
    /// Where the program can now be found in the process's memory: argument start and end, environment start and end.
    pub strings: [u64; 4],
    /// The stack pointer with which it started.
    pub stack_start: u64,
    /// The file, for `/proc/PID/exe`.
    pub file: Option<Location>,
}

/// A Linux process.
pub struct Process {
    /// The server.
    pub server: Rc<Server>,
    /// Its number.
    pub pid: Pid,
    /// What pays for its memory.
    pub account: Account,
    /// The handles that its shim can use.
    pub table: Table,
    /// Its descriptors.
    pub files: RefCell<FdTable>,
    /// Its root, working directory and umask.
    pub fs: RefCell<FsContext>,
    /// Who else has that root, directory and umask (`CLONE_FS`).
    pub directories: RefCell<Option<sharing::Group>>,
    /// Its resource limits.
    pub limits: Cell<Limits>,
    /// What its threads share of signals.
    pub signals: RefCell<ProcessSignals>,
    /// What it runs.
    pub program: RefCell<Program>,
    /// When it began, in ns since the machine's start.
    pub start_ns: u64,
    /// What threads that have ended have used, and the most memory that was noticed.
    pub ended_usage: Cell<Usage>,
    /// What children that were waited for have used.
    pub children_usage: Cell<Usage>,
    /// Whether it may run.
    pub phase: Cell<Phase>,
    /// Whether signals without a handler mean nothing to it: it is the first process of a system.
    pub is_immune: Cell<bool>,
    /// Woken when a child has news, or the phase changes.
    pub child_news: WaitQueue,
    /// Woken when the process goes on after a stop, or ends.
    pub resumed: WaitQueue,
    /// Woken when it no longer borrows its parent's space: it has executed or ended (`vfork`).
    pub released: WaitQueue,
    /// Whether it borrows its parent's space.
    pub is_borrowing: Cell<bool>,
    /// Whether its parent waits for that to end, or for it to execute (`CLONE_VFORK`).
    pub holds_parent: Cell<bool>,
    /// Its timers.
    pub timers: ProcessTimers,
    /// Woken when a signal was sent to it or one of its threads, blocked or not.
    pub signal_sent: WaitQueue,
    /// How much sooner or later than others it ends when memory is used up, in thousandths of the memory (`oom_score_adj`).
    pub badness_adjustment: Cell<i16>,
    /// How low it may set that without privilege: what privilege set last.
    pub least_badness_adjustment: Cell<i16>,
    /// Whether others of the same user may look into it (`PR_SET_DUMPABLE`).
    pub is_dumpable: Cell<bool>,
    /// What `prctl` and `personality` set for the whole of it.
    pub attributes: Cell<Attributes>,
    /// The signal to get when the parent ends (`PR_SET_PDEATHSIG`); 0 for none.
    pub parent_death_signal: Cell<u8>,
    vm: RefCell<Rc<Vm>>,
    credentials: RefCell<Rc<Credentials>>,
    threads: RefCell<Vec<Rc<Thread>>>,
    _alive: crate::census::counted::Process,
}

impl Process {
    /// Who it is.
    pub fn credentials(&self) -> Rc<Credentials> {
        self.credentials.borrow().clone()
    }

    /// For whom it takes of the server's memory; see [`crate::budget`].
    #[inline]
    pub fn payer(&self) -> Uid {
        let credentials = self.credentials.borrow();
        if credentials.is_privileged() { ROOT } else { credentials.uid }
    }

    /// Changes who it is, and tells its shims.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.borrow_mut() = Rc::new(credentials);
        self.update_local_answers();
    }

    /// Where its credentials are kept.
    pub(crate) fn credentials_cell(&self) -> &RefCell<Rc<Credentials>> {
        &self.credentials
    }

    /// Lets the parent go on whose space it borrowed.
    pub fn release_parent(&self) {
        self.is_borrowing.set(false);
        if self.holds_parent.replace(false) {
            self.released.wake();
        }
    }

    /// Its address space as the server keeps it.
    pub fn vm(&self) -> Rc<Vm> {
        self.vm.borrow().clone()
    }

    /// Gives it another address space; returns the old one.
    pub fn set_vm(&self, vm: Rc<Vm>) -> Rc<Vm> {
        self.vm.replace(vm)
    }

    /// Its address space.
    pub fn space(&self) -> Space {
        self.vm.borrow().space().clone()
    }

    /// Its threads that have not ended.
    pub fn threads(&self) -> Vec<Rc<Thread>> {
        self.threads.borrow().clone()
    }

    /// How many there are.
    pub fn thread_count(&self) -> usize {
        self.threads.borrow().len()
    }

    /// Adds a thread.
    pub fn add_thread(&self, thread: &Rc<Thread>) {
        self.threads.borrow_mut().push(thread.clone());
    }

    /// Removes a thread; returns how many are left.
    pub fn remove_thread(&self, thread: &Thread) -> usize {
        let removed: Vec<_> = {
            let mut threads = self.threads.borrow_mut();
            let position = threads.iter().position(|other| other.tid == thread.tid);
            position.map(|index| threads.remove(index)).into_iter().collect()
        };
        drop(removed);
        self.threads.borrow().len()
    }

    /// The parent's number.
    pub fn parent(&self) -> Pid {
        self.server.tree.look(Tree::parent, self.pid)
    }

    /// Its group; 0 if it is gone.
    pub fn group(&self) -> Pid {
        self.server.tree.look(Tree::group, self.pid).unwrap_or_default()
    }

    /// Its session; 0 if it is gone.
    pub fn session(&self) -> Pid {
        self.server.tree.look(Tree::session, self.pid).unwrap_or_default()
    }

    /// What holds for a resource (`RLIMIT_*`).
    pub fn limit(&self, resource: u32) -> u64 {
        self.limits.get().soft(resource)
    }

    /// Processor time that it has used, in ns.
    pub fn run_time_ns(&self) -> u64 {
        self.usage().total_ns()
    }

    /// What the shim may tell without asking.
    pub fn local_answers(&self, tid: Pid) -> LocalAnswers {
        let credentials = self.credentials();
        let (tsc_base, tsc_multiplier, tsc_shift, boot_unix_ns) = platform::clock_parameters();
        LocalAnswers {
            pid: self.pid as u32,
            tid: tid as u32,
            ppid: self.parent() as u32,
            uid: credentials.uid,
            euid: credentials.euid,
            gid: credentials.gid,
            egid: credentials.egid,
            traced: u32::from(self.server.trace.get().is_some()),
            tsc_base,
            tsc_multiplier,
            tsc_shift,
            boot_unix_ns,
            files: self.files.borrow().slots().shared_table(&self.vm()),
            user_end: crate::user::USER_END,
        }
    }

    /// Writes what the shims may tell into the blocks of all threads.
    pub fn update_local_answers(&self) {
        for thread in self.threads() {
            thread.update_local_answers();
        }
    }

    /// Whether calls of one of its threads are judged (`seccomp`).
    pub fn is_restricted(&self) -> bool {
        self.threads.borrow().iter().any(|thread| !thread.seccomp.borrow().is_off())
    }

    /// The file that it runs.
    pub fn executable(&self) -> Option<Rc<Inode>> {
        self.program.borrow().file.as_ref().map(|place| place.inode().clone())
    }
}
