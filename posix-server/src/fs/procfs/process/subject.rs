//! Of whom a file tells: a process or one of its threads, as it is at one moment, and who may look into it.

use super::{Level, Whose};
use crate::errno::{Errno, Result};
use crate::process::server::Grave;
use crate::process::tree::Tree;
use crate::process::usage::Usage;
use crate::process::{Phase, Pid, Process, Server, Thread};
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// A process or thread.
pub(super) struct Subject {
    /// The server.
    pub server: Rc<Server>,
    /// The number of the process.
    pub pid: Pid,
    /// The number of the thread; that of the first one, if it is a process.
    pub tid: Pid,
    level: Level,
    process: Option<Rc<Process>>,
    /// What is left of a process that has ended.
    pub grave: Grave,
}

impl Subject {
    /// The subject with these numbers. `ESRCH`.
    pub(super) fn find(server: &Rc<Server>, pid: Pid, level: Level) -> Result<Self> {
        let process = server.process(pid);
        let tid = match level {
            Level::Process => pid,
            Level::Thread(tid) => tid,
        };
        let grave = match &process {
            Some(_) => Grave::default(),
            None => {
                server.tree.look(Tree::group, pid)?;
                server.grave(pid)
            }
        };
        let subject = Self { server: server.clone(), pid, tid, level, process, grave };
        if subject.process.is_some() && level != Level::Process && subject.thread().is_none() {
            return Err(Errno::ESRCH);
        }
        Ok(subject)
    }

    /// The process, unless it has ended.
    pub(super) fn process(&self) -> Option<&Rc<Process>> {
        self.process.as_ref()
    }

    /// The thread; the first that there still is, if it is a process.
    pub(super) fn thread(&self) -> Option<Rc<Thread>> {
        let threads = self.process.as_ref()?.threads();
        let exact = threads.iter().find(|thread| thread.tid == self.tid).cloned();
        match self.level {
            Level::Process => exact.or_else(|| threads.first().cloned()),
            Level::Thread(_) => exact,
        }
    }

    /// Its name (`comm`).
    pub(super) fn name(&self) -> Vec<u8> {
        let thread = self.thread().map(|thread| thread.name.borrow().clone());
        match &self.process {
            Some(process) => thread.unwrap_or_else(|| process.program.borrow().name.clone()),
            None => self.grave.name.clone(),
        }
    }

    /// How many threads it has.
    pub(super) fn threads(&self) -> usize {
        self.process.as_ref().map_or(0, |process| process.threads().len())
    }

    /// The thread that traces it; 0 for none.
    pub(super) fn tracer(&self) -> Pid {
        self.server.tracees.borrow().get(self.tid).map_or(0, |tracee| tracee.tracer.tid)
    }

    /// One of `R`, `S`, `T`, `t`, `Z`.
    pub(super) fn state(&self) -> u8 {
        let Some(process) = &self.process else { return b'Z' };
        let waits = |thread: &Rc<Thread>| thread.is_waiting.get();
        if self.thread().is_some_and(|thread| thread.is_halted()) {
            return b't';
        }
        match process.phase.get() {
            Phase::Ended => b'Z',
            Phase::Stopped => b'T',
            Phase::Running => {
                let waits = match self.level {
                    Level::Process => process.threads().iter().all(waits),
                    Level::Thread(_) => self.thread().as_ref().is_some_and(waits),
                };
                if waits { b'S' } else { b'R' }
            }
        }
    }

    /// When it began, in ns since the machine's start.
    pub(super) fn start_ns(&self) -> u64 {
        self.process.as_ref().map_or(self.grave.start_ns, |process| process.start_ns)
    }

    /// What it has used: all threads, or the one.
    pub(super) fn usage(&self) -> Usage {
        match (self.level, &self.process) {
            (Level::Process, Some(process)) => process.usage(),
            (Level::Thread(_), Some(_)) => self.thread().map(|thread| thread.usage()).unwrap_or_default(),
            (Level::Process | Level::Thread(_), None) => self.grave.usage,
        }
    }
}

/// The permissions of what belongs to the owner of a process even if it can't be looked into: its directories.
const ALWAYS_OWNED: u32 = 0o555;

/// Who owns a process's files: its effective user and group; the superuser, once it has ended or if others may not look into
/// it.
pub(super) fn owner(server: &Server, pid: Pid, permissions: u32) -> (u32, u32) {
    let Some(process) = server.process(pid) else { return (0, 0) };
    if !process.is_dumpable.get() && permissions != ALWAYS_OWNED {
        return (0, 0);
    }
    let credentials = process.credentials();
    (credentials.euid, credentials.egid)
}

/// Whether a process may look into another (`ptrace(2)`, "Ptrace access mode checking"): it is its own, they are the same
/// user's and nothing forbids it, or the caller is privileged.
pub(super) fn check_inspection(whose: &Whose, caller: Pid, denied: Errno) -> Result<()> {
    let server = whose.shared.server()?;
    let Some(target) = server.process(whose.pid) else {
        // Nothing is left to be seen of a process that has ended.
        return server.tree.look(Tree::group, whose.pid).map(|_| ());
    };
    if caller == whose.pid {
        return Ok(());
    }
    let own = server.process(caller).ok_or(Errno::ESRCH)?.credentials();
    let theirs = target.credentials();
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == own.fsuid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == own.fsgid);
    let is_allowed = own.is_privileged() || same_user && same_group && target.is_dumpable.get();
    if is_allowed { Ok(()) } else { Err(denied) }
}

/// The signals of a set as `stat` shows them: those below 32.
pub(super) fn low_signals(set: u64) -> u64 {
    set & u64::from(u32::MAX >> 1)
}

/// The number of the signal that tells of the end, as `stat` shows it.
pub(super) const EXIT_SIGNAL: u32 = linux::SIGCHLD;
