//! Who descends from whom, and who belongs to which group and session (`fork(2)`, `wait(2)`, `setsid(2)`, `setpgid(2)`).
//!
//! Pure: it says what a change means (who is to be told, who is to be signalled), the caller does it.
//!
//! * [`status`]: how processes end, and what parents learn.
//! * [`groups`]: groups and sessions.
//! * [`life`]: stops, continuations, ends, orphans.
//! * [`shared`]: how the server has it.
//! * [`waiting`]: what a `wait` finds.

mod groups;
mod life;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod waiting;

pub use life::{ExitEffects, Orphan};
pub use shared::SharedTree;
pub use status::{ChildEvent, ExitStatus};
pub use waiting::{Found, Kin, Take, WaitEvents, WaitFor, WaitRequest, Want};

use super::Pid;
use super::usage::Usage;
use crate::cred::Uid;
use crate::errno::{Errno, Result};
use crate::signal::Signal;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The first process, which inherits orphans.
pub const INIT: Pid = 1;
/// The largest process id, as Linux has it by default.
pub const PID_MAX: Pid = 32768;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped(Signal),
    Zombie(Remains),
}

/// What is left of a process that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// How it ended.
    pub status: ExitStatus,
    /// Whose it was (`si_uid`).
    pub uid: Uid,
    /// What it and the children that it waited for have used.
    pub usage: Usage,
}

#[derive(Clone, Debug)]
struct Node {
    parent: Pid,
    /// The thread of the parent that made it, for `__WNOTHREAD`.
    creator: Pid,
    /// Whether it has outlived the parent that made it: nobody knows what it is about.
    is_orphan: bool,
    /// `PR_SET_CHILD_SUBREAPER`: it inherits the orphans among its descendants.
    is_subreaper: bool,
    group: Pid,
    session: Pid,
    children: BTreeSet<Pid>,
    state: State,
    /// The last stop or continuation, until a `wait` takes it.
    news: Option<ChildEvent>,
    has_executed: bool,
    /// The signal that tells the parent of the end; `None` for none (`clone` with another one, or 0).
    exit_signal: Option<Signal>,
    /// The process that traces its first thread: it hears of stops, and first of the end.
    tracer: Option<Pid>,
}

impl Node {
    fn stranger(&self) -> Option<Pid> {
        self.tracer.filter(|tracer| *tracer != self.parent)
    }
}

/// The tree of processes, zombies included.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Pid, Node>,
    groups: BTreeMap<Pid, BTreeSet<Pid>>,
    sessions: BTreeMap<Pid, BTreeSet<Pid>>,
    /// Numbers of threads that are not the first of their process.
    thread_ids: BTreeSet<Pid>,
    last_pid: Pid,
}

/// A child to be added.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Its parent.
    pub parent: Pid,
    /// The thread that makes it.
    pub creator: Pid,
    /// Its number.
    pub pid: Pid,
    /// What tells the parent of its end; `None` for nothing.
    pub exit_signal: Option<Signal>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    fn node(&self, pid: Pid) -> Result<&Node> {
        self.nodes.get(&pid).ok_or(Errno::ESRCH)
    }

    fn node_mut(&mut self, pid: Pid) -> Result<&mut Node> {
        self.nodes.get_mut(&pid).ok_or(Errno::ESRCH)
    }

    /// A number that names no process, group or session. Numbers are reused only after all others. `EAGAIN`.
    pub fn allocate_pid(&mut self) -> Result<Pid> {
        for step in 1..PID_MAX {
            let candidate = (self.last_pid + step - 1) % (PID_MAX - 1) + 1;
            if !self.is_in_use(candidate) {
                self.last_pid = candidate;
                return Ok(candidate);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Checks a number that somebody chose (`clone3` with `set_tid`). `EINVAL` if it can be none, `EEXIST` if it is in use.
    pub fn check_chosen_pid(&self, pid: Pid) -> Result<()> {
        if !(1..PID_MAX).contains(&pid) {
            Err(Errno::EINVAL)
        } else if self.is_in_use(pid) {
            Err(Errno::EEXIST)
        } else {
            Ok(())
        }
    }

    fn is_in_use(&self, pid: Pid) -> bool {
        self.nodes.contains_key(&pid)
            || self.thread_ids.contains(&pid)
            || self.groups.contains_key(&pid)
            || self.sessions.contains_key(&pid)
    }

    /// A number for a thread that is not the first of its process. `EAGAIN`.
    pub fn allocate_thread_id(&mut self) -> Result<Pid> {
        let tid = self.allocate_pid()?;
        self.thread_ids.insert(tid);
        Ok(tid)
    }

    /// Takes a number that [can be had](Self::check_chosen_pid) for a thread.
    pub fn take_thread_id(&mut self, tid: Pid) {
        self.thread_ids.insert(tid);
    }

    /// Gives the number of a thread back.
    pub fn release_thread_id(&mut self, tid: Pid) {
        self.thread_ids.remove(&tid);
    }

    /// How many threads there are beside the first ones of processes.
    pub fn extra_threads(&self) -> usize {
        self.thread_ids.len()
    }

    /// Adds the first process, in a session and group of its own.
    pub fn insert_first(&mut self, pid: Pid) {
        let birth = Birth { parent: 0, creator: 0, pid, exit_signal: None };
        self.insert(birth, pid, pid);
        self.set_executed(pid);
    }

    /// Adds a child, in its parent's session and group. `ESRCH` if the parent is gone.
    pub fn insert_child(&mut self, birth: Birth) -> Result<()> {
        let node = self.node_mut(birth.parent)?;
        node.children.insert(birth.pid);
        let (group, session) = (node.group, node.session);
        self.insert(birth, group, session);
        Ok(())
    }

    fn insert(&mut self, birth: Birth, group: Pid, session: Pid) {
        let node = Node {
            parent: birth.parent,
            creator: birth.creator,
            is_orphan: false,
            is_subreaper: false,
            group,
            session,
            children: BTreeSet::new(),
            state: State::Running,
            news: None,
            has_executed: false,
            exit_signal: birth.exit_signal,
            tracer: None,
        };
        self.nodes.insert(birth.pid, node);
        self.groups.entry(group).or_default().insert(birth.pid);
        self.sessions.entry(session).or_default().insert(birth.pid);
    }

    /// Takes back a child that never ran.
    pub fn remove_unborn(&mut self, pid: Pid) {
        let Some(node) = self.nodes.remove(&pid) else { return };
        remove_member(&mut self.groups, node.group, pid);
        remove_member(&mut self.sessions, node.session, pid);
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.remove(&pid);
        }
    }

    /// The number that was last given to a process or thread.
    pub fn last_pid(&self) -> Pid {
        self.last_pid
    }

    /// How many processes there are, zombies included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All process ids, ascending.
    pub fn pids(&self) -> Vec<Pid> {
        self.nodes.keys().copied().collect()
    }

    /// Its parent; 0 for none.
    pub fn parent(&self, pid: Pid) -> Pid {
        self.nodes.get(&pid).map_or(0, |node| node.parent)
    }

    /// Its children.
    pub fn children(&self, pid: Pid) -> Vec<Pid> {
        self.nodes.get(&pid).map(|node| node.children.iter().copied().collect()).unwrap_or_default()
    }

    /// Those of its children that one of its threads has made.
    pub fn children_of_thread(&self, pid: Pid, creator: Pid) -> Vec<Pid> {
        let made_by = |child: &Pid| self.nodes.get(child).is_some_and(|node| node.creator == creator);
        self.children(pid).into_iter().filter(made_by).collect()
    }

    /// The thread of the parent that made it, or has inherited it; 0 for none.
    pub fn creator(&self, pid: Pid) -> Pid {
        self.nodes.get(&pid).map_or(0, |node| node.creator)
    }

    /// Notes who traces it.
    pub fn set_tracer(&mut self, pid: Pid, tracer: Option<Pid>) {
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.tracer = tracer;
        }
    }

    /// Who hears of its end before its parent: another process that traces it.
    pub fn stranger(&self, pid: Pid) -> Option<Pid> {
        self.nodes.get(&pid).and_then(Node::stranger)
    }

    /// What tells the parent of its end.
    pub fn exit_signal(&self, pid: Pid) -> Option<Signal> {
        self.nodes.get(&pid).and_then(|node| node.exit_signal)
    }

    /// Notes an `execve`: the parent may no longer change its group, and learns of its end by `SIGCHLD`.
    pub fn set_executed(&mut self, pid: Pid) {
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.has_executed = true;
            node.exit_signal = Some(Signal::CHLD);
        }
    }
}

/// Removes a process from a group or session, which is gone with its last member.
fn remove_member(sets: &mut BTreeMap<Pid, BTreeSet<Pid>>, id: Pid, pid: Pid) {
    if let Some(members) = sets.get_mut(&id) {
        members.remove(&pid);
        if members.is_empty() {
            sets.remove(&id);
        }
    }
}
