//! Processes that share root, working directory and umask (`clone` with `CLONE_FS`).
//!
//! Each has a copy, which is what everybody reads; whoever changes its own hands the change to the others.

use super::{Pid, Process};
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use core::cell::RefCell;

/// The members of a group.
pub type Group = Rc<RefCell<BTreeSet<Pid>>>;

impl Process {
    /// The group that a child with this number is to be in, with the parent.
    pub(super) fn share_directories(&self, child: Pid) -> Option<Group> {
        let group = self.directories.borrow_mut().get_or_insert_default().clone();
        group.borrow_mut().extend([self.pid, child]);
        Some(group)
    }

    /// Hands on a change of the root, the working directory or the umask.
    pub fn publish_directories(&self) {
        let Some(group) = self.directories.borrow().clone() else { return };
        let own = self.fs.borrow().clone();
        let others: alloc::vec::Vec<Pid> = group.borrow().iter().copied().filter(|pid| *pid != self.pid).collect();
        for other in others.into_iter().filter_map(|pid| self.server.process(pid)) {
            let before = other.fs.replace(own.for_process(other.pid));
            drop(before);
        }
    }

    /// Whether another process has the same.
    pub fn shares_directories_with(&self, other: &Self) -> bool {
        self.directories.borrow().as_ref().is_some_and(|group| group.borrow().contains(&other.pid))
    }

    /// From now on the process has a root, directory and umask of its own (`unshare`, `execve`, the end).
    pub fn unshare_directories(&self) {
        if let Some(group) = self.directories.take() {
            group.borrow_mut().remove(&self.pid);
        }
    }
}
