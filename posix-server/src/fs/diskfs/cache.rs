//! What was loaded from disks and is forgotten when room is needed: directories that nobody uses.
//!
//! A directory is not used when nobody but its parent's table and its own names holds its name, and nobody but this directory holds any of
//! those. What was changed and not applied holds its inode, so that it is not forgotten before the server could tell it again.

use crate::budget::{self, Kind as Budget};
use crate::fs::Dentry;
use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use core::cell::RefCell;

/// How often a name is held that nobody uses: by its place among the names of its directory, found by name and by position.
const IDLE_HOLDERS: usize = 2;

/// The directories whose names are in memory, of all disks.
#[derive(Default)]
pub struct Cache {
    directories: RefCell<VecDeque<Weak<Dentry>>>,
}

impl Cache {
    /// A directory's names are in memory now.
    pub(super) fn note(&self, directory: &Rc<Dentry>) {
        self.directories.borrow_mut().push_back(Rc::downgrade(directory));
        let limit = budget::limit_bytes(Budget::Cached);
        if budget::used_bytes(Budget::Cached) > limit - limit / 4 {
            self.shrink(0);
        }
    }

    /// Forgets directories that nobody uses until a part of the room is free, and what is needed. Those that were loaded first go first.
    pub(super) fn shrink(&self, needed_bytes: u64) {
        let limit = budget::limit_bytes(Budget::Cached);
        let enough = (limit / 2).min(limit.saturating_sub(needed_bytes));
        let mut kept = VecDeque::new();
        loop {
            let next = self.directories.borrow_mut().pop_front();
            let Some(next) = next else { break };
            let Some(directory) = next.upgrade() else { continue };
            if budget::used_bytes(Budget::Cached) <= enough {
                kept.push_back(next);
                break;
            }
            if !is_idle(&directory) {
                kept.push_back(next);
            } else if let Ok(body) = directory.inode().directory() {
                body.forget_names();
            }
        }
        self.directories.borrow_mut().append(&mut kept);
    }
}

/// Whether nobody uses a directory or any of its names. `directory` itself counts as one holder.
fn is_idle(directory: &Rc<Dentry>) -> bool {
    let inode = directory.inode();
    let Some(names) = inode.directory().ok().and_then(|body| body.names()) else { return false };
    let holders = Rc::strong_count(directory) - 1;
    directory.parent().is_some()
        && !directory.is_removed()
        && holders == IDLE_HOLDERS + names.len()
        && Rc::strong_count(inode) == 1
        && !inode.is_watched_or_locked()
        && names.all(&mut |dentry| {
            Rc::strong_count(dentry) == IDLE_HOLDERS
                && Rc::strong_count(dentry.inode()) == 1
                && !dentry.inode().is_watched_or_locked()
        })
}
