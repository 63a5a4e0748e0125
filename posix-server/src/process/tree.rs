//! Who descends from whom, and who belongs to which group and session (`fork(2)`, `wait(2)`, `setsid(2)`, `setpgid(2)`).
//!
//! Pure: it says what a change means (who is to be told, who is to be signalled), the caller does it.

use super::Pid;
use crate::errno::{Errno, Result};
use crate::signal::Signal;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The first process, which inherits orphans.
pub const INIT: Pid = 1;
/// The largest process id, as Linux has it by default.
const PID_MAX: Pid = 32768;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this status, 0 to 255.
    Exited(u8),
    /// A signal ended it.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether by a signal that dumps core.
        dumped: bool,
    },
}

impl ExitStatus {
    /// The status as `wait` encodes it. No core is ever written, so the bit that says so stays clear.
    pub fn to_wait_status(self) -> i32 {
        match self {
            Self::Exited(status) => i32::from(status) << 8,
            Self::Killed { signal, .. } => i32::from(signal.number()),
        }
    }
}

/// What a child did that its parent can learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It ended.
    Ended(ExitStatus),
    /// It was stopped by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Stopped; whether the parent has not been told yet.
    Stopped(Signal),
    Zombie(ExitStatus),
}

#[derive(Clone, Debug)]
struct Node {
    parent: Pid,
    /// Whether it has outlived the parent that made it: nobody knows what it is about.
    is_orphan: bool,
    group: Pid,
    session: Pid,
    children: BTreeSet<Pid>,
    state: State,
    /// The last stop or continuation, until a `wait` takes it.
    news: Option<ChildEvent>,
    has_executed: bool,
    /// The signal that tells the parent of the end; `None` for none (`clone` with another one, or 0).
    exit_signal: Option<Signal>,
}

/// Which children a `wait` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Any child.
    Any,
    /// This one.
    Process(Pid),
    /// Those in this group.
    Group(Pid),
}

/// What a `wait` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitEvents {
    /// Children that ended.
    pub ended: Want,
    /// Children that stopped.
    pub stopped: Want,
    /// Children that go on.
    pub continued: Want,
}

/// Whether something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl Want {
    /// `Yes` if a flag is set.
    pub fn if_set(flags: u32, flag: u32) -> Self {
        if flags & flag != 0 { Self::Yes } else { Self::No }
    }
}

/// Whether what a `wait` reports is taken, or left for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is taken: a zombie is gone afterwards.
    Yes,
    /// `WNOWAIT`.
    Peek,
}

/// What the end of a process means for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitEffects {
    /// The parent, and the signal to send it.
    pub notify: Option<(Pid, Option<Signal>)>,
    /// Children that [`INIT`] has inherited.
    pub adopted: Vec<Pid>,
    /// Groups that have become orphaned while a member is stopped: `SIGHUP`, then `SIGCONT`, to their members.
    pub orphaned_groups: Vec<Pid>,
}

/// The tree of processes, zombies included.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Pid, Node>,
    /// Numbers of threads that are not the first of their process.
    thread_ids: BTreeSet<Pid>,
    last_pid: Pid,
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

    fn is_in_use(&self, pid: Pid) -> bool {
        // A group or session outlives its leader only through its members, which are few enough to look at.
        self.nodes.contains_key(&pid)
            || self.thread_ids.contains(&pid)
            || self.nodes.values().any(|node| node.group == pid || node.session == pid)
    }

    /// A number for a thread that is not the first of its process. `EAGAIN`.
    pub fn allocate_thread_id(&mut self) -> Result<Pid> {
        let tid = self.allocate_pid()?;
        self.thread_ids.insert(tid);
        Ok(tid)
    }

    /// Gives that number back.
    pub fn release_thread_id(&mut self, tid: Pid) {
        self.thread_ids.remove(&tid);
    }

    /// Adds the first process, in a session and group of its own.
    pub fn insert_first(&mut self, pid: Pid) {
        let node = Node {
            parent: 0,
            is_orphan: false,
            group: pid,
            session: pid,
            children: BTreeSet::new(),
            state: State::Running,
            news: None,
            has_executed: true,
            exit_signal: None,
        };
        self.nodes.insert(pid, node);
    }

    /// Adds a child, in its parent's session and group. `ESRCH` if the parent is gone.
    pub fn insert_child(&mut self, parent: Pid, pid: Pid, exit_signal: Option<Signal>) -> Result<()> {
        let node = self.node_mut(parent)?;
        node.children.insert(pid);
        let (group, session) = (node.group, node.session);
        let child = Node {
            parent,
            is_orphan: false,
            group,
            session,
            children: BTreeSet::new(),
            state: State::Running,
            news: None,
            has_executed: false,
            exit_signal,
        };
        self.nodes.insert(pid, child);
        Ok(())
    }

    /// Takes back a child that never ran.
    pub fn remove_unborn(&mut self, pid: Pid) {
        if let Some(node) = self.nodes.remove(&pid)
            && let Some(parent) = self.nodes.get_mut(&node.parent)
        {
            parent.children.remove(&pid);
        }
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

    /// Its group. `ESRCH`.
    pub fn group(&self, pid: Pid) -> Result<Pid> {
        self.node(pid).map(|node| node.group)
    }

    /// Its session. `ESRCH`.
    pub fn session(&self, pid: Pid) -> Result<Pid> {
        self.node(pid).map(|node| node.session)
    }

    /// The members of a group, ascending; zombies included.
    pub fn group_members(&self, group: Pid) -> Vec<Pid> {
        self.nodes.iter().filter(|(_, node)| node.group == group).map(|(pid, _)| *pid).collect()
    }

    /// The members of a session, ascending; zombies included.
    pub fn session_members(&self, session: Pid) -> Vec<Pid> {
        self.nodes.iter().filter(|(_, node)| node.session == session).map(|(pid, _)| *pid).collect()
    }

    /// The session that a group belongs to.
    pub fn session_of_group(&self, group: Pid) -> Option<Pid> {
        self.nodes.values().find(|node| node.group == group).map(|node| node.session)
    }

    /// Whether a process has ended.
    pub fn is_zombie(&self, pid: Pid) -> bool {
        self.nodes.get(&pid).is_some_and(|node| matches!(node.state, State::Zombie(_)))
    }

    /// Whether a process is stopped.
    pub fn is_stopped(&self, pid: Pid) -> bool {
        self.nodes.get(&pid).is_some_and(|node| matches!(node.state, State::Stopped(_)))
    }

    /// Notes an `execve`: the parent may no longer change its group.
    pub fn set_executed(&mut self, pid: Pid) {
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.has_executed = true;
        }
    }

    /// Makes a session and group with the process as the leader. `EPERM` if it leads a group already.
    pub fn set_session(&mut self, pid: Pid) -> Result<Pid> {
        if self.nodes.values().any(|node| node.group == pid) {
            return Err(Errno::EPERM);
        }
        let node = self.node_mut(pid)?;
        node.session = pid;
        node.group = pid;
        Ok(pid)
    }

    /// Puts `pid` into `group` on behalf of `caller`; `group` may be new (and then is `pid`).
    ///
    /// `ESRCH` if `pid` is neither the caller nor a child of it, `EACCES` if the child has called `execve`, `EPERM` if it leads
    /// a session, is in another one, or the group is not in the session.
    pub fn set_group(&mut self, caller: Pid, pid: Pid, group: Pid) -> Result<()> {
        let caller_session = self.node(caller)?.session;
        let target = self.node(pid)?;
        if pid != caller {
            if target.parent != caller {
                return Err(Errno::ESRCH);
            }
            if target.session != caller_session {
                return Err(Errno::EPERM);
            }
            if target.has_executed {
                return Err(Errno::EACCES);
            }
        }
        if target.session == pid {
            return Err(Errno::EPERM);
        }
        if group != pid && self.session_of_group(group) != Some(caller_session) {
            return Err(Errno::EPERM);
        }
        self.node_mut(pid)?.group = group;
        Ok(())
    }

    /// Whether nobody outside a group, but in its session, could look after its stopped members (POSIX, 3.264).
    pub fn is_orphaned_group(&self, group: Pid) -> bool {
        !self.nodes.values().any(|node| self.is_link_out_of(node, group))
    }

    fn is_link_out_of(&self, node: &Node, group: Pid) -> bool {
        node.group == group
            && !node.is_orphan
            && !matches!(node.state, State::Zombie(_))
            && self.nodes.get(&node.parent).is_some_and(|parent| {
                parent.group != group && parent.session == node.session && !matches!(parent.state, State::Zombie(_))
            })
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

    /// Notes the end of a process: it is a zombie until a `wait` takes it.
    pub fn exit(&mut self, pid: Pid, status: ExitStatus) -> ExitEffects {
        let Some(node) = self.nodes.get(&pid) else { return ExitEffects::default() };
        let (parent, group, exit_signal) = (node.parent, node.group, node.exit_signal);
        let children = node.children.clone();
        let mut watched: BTreeSet<Pid> =
            children.iter().filter_map(|child| self.nodes.get(child)).map(|child| child.group).collect();
        watched.insert(group);
        watched.retain(|group| !self.is_orphaned_group(*group));
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.state = State::Zombie(status);
            node.news = None;
            node.children.clear();
        }
        let adopted: Vec<Pid> = children.into_iter().filter(|child| self.adopt(*child)).collect();
        let orphaned_groups = watched.into_iter().filter(|group| self.needs_hang_up(*group)).collect();
        ExitEffects { notify: (parent != 0).then_some((parent, exit_signal)), adopted, orphaned_groups }
    }

    fn adopt(&mut self, child: Pid) -> bool {
        let Some(node) = self.nodes.get_mut(&child) else { return false };
        node.parent = INIT;
        node.is_orphan = true;
        node.exit_signal = Some(Signal::CHLD);
        match self.nodes.get_mut(&INIT) {
            Some(init) => init.children.insert(child),
            None => false,
        }
    }

    fn needs_hang_up(&self, group: Pid) -> bool {
        let stopped = self.nodes.values().any(|node| node.group == group && matches!(node.state, State::Stopped(_)));
        stopped && self.is_orphaned_group(group)
    }

    /// Takes a zombie away without a `wait` (the parent ignores `SIGCHLD`).
    pub fn reap(&mut self, pid: Pid) {
        if self.is_zombie(pid) {
            self.remove_unborn(pid);
        }
    }

    /// Looks for a child that has something to tell. `None`: none has, yet. `ECHILD`: there is no such child.
    pub fn wait(
        &mut self,
        parent: Pid,
        which: WaitFor,
        events: WaitEvents,
        take: Take,
    ) -> Result<Option<(Pid, ChildEvent)>> {
        let children = &self.node(parent)?.children;
        let candidates: Vec<Pid> = children.iter().copied().filter(|child| self.matches(*child, which)).collect();
        if candidates.is_empty() {
            return Err(Errno::ECHILD);
        }
        let found = candidates.into_iter().find_map(|child| Some((child, self.news(child, events)?)));
        if let (Some((child, event)), Take::Yes) = (found, take) {
            match event {
                ChildEvent::Ended(_) => self.reap(child),
                ChildEvent::Stopped(_) | ChildEvent::Continued => {
                    if let Some(node) = self.nodes.get_mut(&child) {
                        node.news = None;
                    }
                }
            }
        }
        Ok(found)
    }

    fn matches(&self, child: Pid, which: WaitFor) -> bool {
        match which {
            WaitFor::Any => true,
            WaitFor::Process(pid) => child == pid,
            WaitFor::Group(group) => self.nodes.get(&child).is_some_and(|node| node.group == group),
        }
    }

    fn news(&self, child: Pid, events: WaitEvents) -> Option<ChildEvent> {
        let node = self.nodes.get(&child)?;
        if let State::Zombie(status) = node.state {
            return (events.ended == Want::Yes).then_some(ChildEvent::Ended(status));
        }
        let wanted = match node.news? {
            ChildEvent::Stopped(_) => events.stopped,
            ChildEvent::Continued => events.continued,
            ChildEvent::Ended(_) => events.ended,
        };
        (wanted == Want::Yes).then_some(node.news).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: WaitEvents = WaitEvents { ended: Want::Yes, stopped: Want::Yes, continued: Want::Yes };
    const ENDED: WaitEvents = WaitEvents { ended: Want::Yes, stopped: Want::No, continued: Want::No };

    fn family() -> Tree {
        let mut tree = Tree::new();
        for parent in [0, 1, 2, 2] {
            let pid = tree.allocate_pid().unwrap();
            if parent == 0 {
                tree.insert_first(pid);
            } else {
                tree.insert_child(parent, pid, Some(Signal::CHLD)).unwrap();
            }
        }
        tree
    }

    #[test]
    fn a_parent_learns_of_each_end_once() {
        let mut tree = family();
        assert_eq!(tree.wait(2, WaitFor::Any, ENDED, Take::Yes), Ok(None));
        let effects = tree.exit(3, ExitStatus::Exited(7));
        assert_eq!(effects.notify, Some((2, Some(Signal::CHLD))));
        let end = Some((3, ChildEvent::Ended(ExitStatus::Exited(7))));
        assert_eq!(tree.wait(2, WaitFor::Any, ENDED, Take::Peek), Ok(end));
        assert_eq!(tree.wait(2, WaitFor::Process(3), ENDED, Take::Yes), Ok(end));
        assert_eq!(tree.wait(2, WaitFor::Process(3), ENDED, Take::Yes), Err(Errno::ECHILD));
        assert_eq!(tree.wait(2, WaitFor::Any, ENDED, Take::Yes), Ok(None), "the other child lives");
    }

    #[test]
    fn init_inherits_orphans_and_their_zombies() {
        let mut tree = family();
        tree.exit(3, ExitStatus::Exited(1));
        let effects = tree.exit(2, ExitStatus::Exited(0));
        assert_eq!(effects.adopted, [3, 4]);
        assert_eq!(tree.parent(4), 1);
        assert!(tree.wait(1, WaitFor::Process(3), ENDED, Take::Yes).unwrap().is_some());
    }

    #[test]
    fn stops_and_continuations_are_told_once_if_asked_for() {
        let mut tree = family();
        assert_eq!(tree.stop(3, Signal::TSTP), Some(2));
        assert_eq!(tree.stop(3, Signal::TSTP), None);
        assert_eq!(tree.wait(2, WaitFor::Any, ENDED, Take::Yes), Ok(None));
        assert_eq!(tree.wait(2, WaitFor::Any, ALL, Take::Yes), Ok(Some((3, ChildEvent::Stopped(Signal::TSTP)))));
        assert_eq!(tree.wait(2, WaitFor::Any, ALL, Take::Yes), Ok(None));
        assert_eq!(tree.resume(3), Some(2));
        assert_eq!(tree.wait(2, WaitFor::Any, ALL, Take::Yes), Ok(Some((3, ChildEvent::Continued))));
    }

    #[test]
    fn group_rules() {
        let mut tree = family();
        assert_eq!(tree.set_group(3, 3, 3), Ok(()));
        assert_eq!(tree.set_group(2, 4, 3), Ok(()), "a parent may move its child into a group of the session");
        assert_eq!(tree.set_group(2, 4, 99), Err(Errno::EPERM), "no such group");
        assert_eq!(tree.set_group(3, 4, 3), Err(Errno::ESRCH), "not a child");
        tree.set_executed(4);
        assert_eq!(tree.set_group(2, 4, 4), Err(Errno::EACCES));
        assert_eq!(tree.set_group(1, 1, 1), Err(Errno::EPERM), "a session's leader stays");
        assert_eq!(tree.set_session(3), Err(Errno::EPERM), "a group's leader can't make a session");
        assert_eq!(tree.set_session(2), Ok(2));
        assert_eq!(tree.set_group(2, 3, 2), Err(Errno::EPERM), "another session");
        assert_eq!(tree.wait(2, WaitFor::Group(3), ENDED, Take::Yes), Ok(None));
        assert_eq!(tree.wait(2, WaitFor::Group(2), ENDED, Take::Yes), Err(Errno::ECHILD));
    }

    #[test]
    fn the_first_process_looks_after_its_own_children_but_not_after_orphans() {
        let mut tree = family();
        tree.set_group(1, 2, 2).unwrap();
        tree.set_group(2, 3, 3).unwrap();
        assert!(!tree.is_orphaned_group(2) && !tree.is_orphaned_group(3));
        tree.exit(2, ExitStatus::Exited(0));
        assert!(tree.is_orphaned_group(3), "adopted by the first process, in the same session");
    }

    #[test]
    fn a_stopped_group_that_loses_its_last_link_is_hung_up() {
        let mut tree = family();
        tree.set_session(2).unwrap();
        tree.node_mut(3).unwrap().session = 2;
        tree.node_mut(3).unwrap().group = 3;
        assert!(!tree.is_orphaned_group(3));
        tree.stop(3, Signal::TSTP);
        assert_eq!(tree.exit(2, ExitStatus::Exited(0)).orphaned_groups, [3]);
    }

    #[test]
    fn numbers_are_not_reused_at_once_and_never_while_a_group_has_them() {
        let mut tree = family();
        tree.set_group(3, 3, 3).unwrap();
        tree.set_group(2, 4, 3).unwrap();
        tree.exit(3, ExitStatus::Exited(0));
        tree.reap(3);
        assert_eq!(tree.allocate_pid(), Ok(5));
        tree.last_pid = 2;
        assert_eq!(tree.allocate_pid(), Ok(5), "3 is still a group's");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Fork(usize),
        Exit(usize),
        Wait(usize),
        SetGroup(usize, usize, usize),
        SetSession(usize),
        Stop(usize),
        Resume(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<usize>().prop_map(Step::Fork),
            2 => any::<usize>().prop_map(Step::Exit),
            2 => any::<usize>().prop_map(Step::Wait),
            1 => any::<(usize, usize, usize)>().prop_map(|(a, b, c)| Step::SetGroup(a, b, c)),
            1 => any::<usize>().prop_map(Step::SetSession),
            1 => any::<usize>().prop_map(Step::Stop),
            1 => any::<usize>().prop_map(Step::Resume),
        ]
    }

    /// Children and parents agree, and all live members of a group are in one session.
    fn check(tree: &Tree) {
        for (pid, node) in &tree.nodes {
            for child in &node.children {
                assert_eq!(tree.nodes[child].parent, *pid);
            }
            if node.parent != 0 {
                assert!(tree.nodes[&node.parent].children.contains(pid));
            }
            for other in tree.nodes.values().filter(|other| other.group == node.group) {
                assert_eq!(other.session, node.session);
            }
        }
    }

    proptest! {
        #[test]
        fn the_tree_stays_a_tree(steps in proptest::collection::vec(step(), 0..80)) {
            let mut tree = family();
            for step in steps {
                let pids = tree.pids();
                let at = |index: usize| pids[index % pids.len()];
                match step {
                    Step::Fork(parent) => {
                        if !tree.is_zombie(at(parent)) {
                            let pid = tree.allocate_pid().unwrap();
                            tree.insert_child(at(parent), pid, Some(Signal::CHLD)).unwrap();
                        }
                    }
                    Step::Exit(pid) => {
                        if at(pid) != INIT && !tree.is_zombie(at(pid)) {
                            tree.exit(at(pid), ExitStatus::Exited(0));
                        }
                    }
                    Step::Wait(pid) => { let _ = tree.wait(at(pid), WaitFor::Any, ALL, Take::Yes); }
                    Step::SetGroup(a, b, c) => { let _ = tree.set_group(at(a), at(b), at(c)); }
                    Step::SetSession(pid) => { let _ = tree.set_session(at(pid)); }
                    Step::Stop(pid) => { tree.stop(at(pid), Signal::STOP); }
                    Step::Resume(pid) => { tree.resume(at(pid)); }
                }
                check(&tree);
            }
        }
    }
}
