//! Stops, continuations and ends, and what they mean for others (`_exit(2)`, `PR_SET_CHILD_SUBREAPER(2const)`).

use super::{ChildEvent, INIT, Pid, Remains, State, Tree};
use crate::signal::Signal;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A child that has another parent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The child.
    pub pid: Pid,
    /// Who has inherited it.
    pub parent: Pid,
}

/// What the end of a process means for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitEffects {
    /// The parent, and the signal to send it.
    pub notify: Option<(Pid, Option<Signal>)>,
    /// Children that others have inherited.
    pub adopted: Vec<Orphan>,
    /// Groups that have become orphaned while a member is stopped: `SIGHUP`, then `SIGCONT`, to their members.
    pub orphaned_groups: Vec<Pid>,
}

impl Tree {
    /// Whether a process has ended.
    pub fn is_zombie(&self, pid: Pid) -> bool {
        self.remains(pid).is_some()
    }

    /// What is left of a process, if it has ended.
    pub fn remains(&self, pid: Pid) -> Option<Remains> {
        match self.nodes.get(&pid)?.state {
            State::Zombie(remains) => Some(remains),
            State::Running | State::Stopped(_) => None,
        }
    }

    /// The signal by which a process is stopped.
    pub fn stop_signal(&self, pid: Pid) -> Option<Signal> {
        match self.nodes.get(&pid)?.state {
            State::Stopped(signal) => Some(signal),
            State::Running | State::Zombie(_) => None,
        }
    }

    /// Whether a process is stopped.
    pub fn is_stopped(&self, pid: Pid) -> bool {
        self.nodes.get(&pid).is_some_and(|node| matches!(node.state, State::Stopped(_)))
    }

    /// Notes that a process was stopped. Returns its parent, to be told, if it was not stopped before.
    pub fn stop(&mut self, pid: Pid, signal: Signal) -> Option<Pid> {
        let node = self.nodes.get_mut(&pid).filter(|node| node.state == State::Running)?;
        node.state = State::Stopped(signal);
        node.news = Some(ChildEvent::Stopped(signal));
        Some(node.parent)
    }

    /// Notes that a process goes on. Returns its parent, to be told, if it was stopped.
    pub fn resume(&mut self, pid: Pid) -> Option<Pid> {
        let node = self.nodes.get_mut(&pid).filter(|node| matches!(node.state, State::Stopped(_)))?;
        node.state = State::Running;
        node.news = Some(ChildEvent::Continued);
        Some(node.parent)
    }

    /// Whether a process inherits the orphans among its descendants.
    pub fn is_subreaper(&self, pid: Pid) -> bool {
        self.nodes.get(&pid).is_some_and(|node| node.is_subreaper)
    }

    /// Makes a process inherit the orphans among its descendants, or not any more.
    pub fn set_subreaper(&mut self, pid: Pid, inherits: bool) {
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.is_subreaper = inherits;
        }
    }

    /// Notes that a thread has ended while its process goes on: the children that it made are another's. Returns them.
    pub fn pass_on(&mut self, pid: Pid, creator: Pid, heir: Pid) -> Vec<Pid> {
        let children = self.children_of_thread(pid, creator);
        for child in &children {
            if let Some(node) = self.nodes.get_mut(child) {
                node.creator = heir;
            }
        }
        children
    }

    /// Notes the end of a process: it is a zombie until a `wait` takes it.
    pub fn exit(&mut self, pid: Pid, remains: Remains) -> ExitEffects {
        let Some(node) = self.nodes.get(&pid) else { return ExitEffects::default() };
        let (parent, group, exit_signal) = (node.parent, node.group, node.exit_signal);
        let children = node.children.clone();
        let mut watched: BTreeSet<Pid> =
            children.iter().filter_map(|child| self.nodes.get(child)).map(|child| child.group).collect();
        watched.insert(group);
        watched.retain(|group| !self.is_orphaned_group(*group));
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.state = State::Zombie(remains);
            node.news = None;
            node.children.clear();
        }
        let heir = self.heir(parent);
        let adopted = children.into_iter().filter_map(|child| self.adopt(child, heir)).collect();
        let orphaned_groups = watched.into_iter().filter(|group| self.needs_hang_up(*group)).collect();
        ExitEffects { notify: (parent != 0).then_some((parent, exit_signal)), adopted, orphaned_groups }
    }

    /// Who inherits the children of a process with this parent: the nearest ancestor that is there for it, or the first process.
    fn heir(&self, parent: Pid) -> Pid {
        let mut candidate = parent;
        while let Some(node) = self.nodes.get(&candidate) {
            if node.is_subreaper && !matches!(node.state, State::Zombie(_)) {
                return candidate;
            }
            candidate = node.parent;
        }
        INIT
    }

    fn adopt(&mut self, child: Pid, parent: Pid) -> Option<Orphan> {
        let node = self.nodes.get_mut(&child)?;
        node.parent = parent;
        node.creator = parent;
        node.is_orphan = parent == INIT;
        node.exit_signal = Some(Signal::CHLD);
        self.nodes.get_mut(&parent)?.children.insert(child);
        Some(Orphan { pid: child, parent })
    }

    /// Takes a zombie away without a `wait` (the parent ignores `SIGCHLD`).
    pub fn reap(&mut self, pid: Pid) {
        if self.is_zombie(pid) {
            self.remove_unborn(pid);
        }
    }
}
