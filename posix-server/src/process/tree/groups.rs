//! Process groups and sessions (`setpgid(2)`, `setsid(2)`).

use super::{Node, Pid, State, Tree, remove_member};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Tree {
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
        self.groups.get(&group).map(|members| members.iter().copied().collect()).unwrap_or_default()
    }

    /// The members of a session, ascending; zombies included.
    pub fn session_members(&self, session: Pid) -> Vec<Pid> {
        self.sessions.get(&session).map(|members| members.iter().copied().collect()).unwrap_or_default()
    }

    /// The session that a group belongs to.
    pub fn session_of_group(&self, group: Pid) -> Option<Pid> {
        let member = self.groups.get(&group)?.first()?;
        self.nodes.get(member).map(|node| node.session)
    }

    /// Makes a session and group with the process as the leader. `EPERM` if it leads a group already.
    pub fn set_session(&mut self, pid: Pid) -> Result<Pid> {
        if self.groups.contains_key(&pid) {
            return Err(Errno::EPERM);
        }
        let old = core::mem::replace(&mut self.node_mut(pid)?.session, pid);
        remove_member(&mut self.sessions, old, pid);
        self.sessions.entry(pid).or_default().insert(pid);
        self.move_to_group(pid, pid)?;
        Ok(pid)
    }

    fn move_to_group(&mut self, pid: Pid, group: Pid) -> Result<()> {
        let old = core::mem::replace(&mut self.node_mut(pid)?.group, group);
        remove_member(&mut self.groups, old, pid);
        self.groups.entry(group).or_default().insert(pid);
        Ok(())
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
        self.move_to_group(pid, group)
    }

    /// The nodes of a group.
    fn group_nodes(&self, group: Pid) -> impl Iterator<Item = &Node> {
        let members: Option<&BTreeSet<Pid>> = self.groups.get(&group);
        members.into_iter().flatten().filter_map(|pid| self.nodes.get(pid))
    }

    /// Whether nobody outside a group, but in its session, could look after its stopped members (POSIX, 3.264).
    pub fn is_orphaned_group(&self, group: Pid) -> bool {
        !self.group_nodes(group).any(|node| self.is_link_out_of(node, group))
    }

    fn is_link_out_of(&self, node: &Node, group: Pid) -> bool {
        !node.is_orphan
            && !matches!(node.state, State::Zombie(_))
            && self.nodes.get(&node.parent).is_some_and(|parent| {
                parent.group != group && parent.session == node.session && !matches!(parent.state, State::Zombie(_))
            })
    }

    /// Whether a group is orphaned and has a member that is stopped: nobody would ever let it go on.
    pub(super) fn needs_hang_up(&self, group: Pid) -> bool {
        let stopped = self.group_nodes(group).any(|node| matches!(node.state, State::Stopped(_)));
        stopped && self.is_orphaned_group(group)
    }
}
