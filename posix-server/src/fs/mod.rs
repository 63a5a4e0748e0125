//! The name space: inodes, names, mounts, paths, and the file systems that are in memory.
//!
//! | module | what |
//! |---|---|
//! | `inode` | files themselves: attributes, and what kind of file |
//! | `content` | the content of regular files: memory objects |
//! | `dentry` | names |
//! | `mount` | file systems, mounts, places |
//! | `walk` | from a path to a place, with permissions checked at every step |
//! | `change` | making, linking, renaming and removing names |
//! | `locks` | advisory locks |
//! | `open` | from a place to an open file |
//! | `tmpfs`, `procfs` | the file systems |

pub mod boot;
pub mod change;
pub mod content;
mod dentry;
pub mod inode;
pub mod locks;
mod mount;
pub mod open;
pub mod procfs;
pub mod tmpfs;
pub mod walk;

pub use dentry::{Dentry, Name};
pub use inode::{Body, DeviceNumber, Inode, Times};
pub use mount::{
    FileSystem, FileSystemType, Location, MAX_INODES, Mount, Namespace, PROC, Reach, Storage, TMPFS, TYPES,
};

use crate::process::Pid;
use crate::process::tree::INIT;
use alloc::rc::Rc;

/// Where a process stands in the name space; `fork` copies it.
#[derive(Clone, Debug)]
pub struct FsContext {
    /// What is mounted.
    pub namespace: Rc<Namespace>,
    /// Where its absolute paths begin.
    pub root: Location,
    /// Where its relative paths begin.
    pub cwd: Location,
    /// Permissions that new files don't get.
    pub umask: u32,
    /// Whose it is: what `/proc/self` means.
    pub pid: Pid,
}

/// The umask of the first process.
pub const DEFAULT_UMASK: u32 = 0o022;

impl FsContext {
    /// The context of the first process. `None`: the name space has no root.
    pub fn new(namespace: &Rc<Namespace>) -> Option<Self> {
        let root = namespace.root()?;
        Some(Self { namespace: namespace.clone(), cwd: root.clone(), root, umask: DEFAULT_UMASK, pid: INIT })
    }

    /// The copy that a new process gets.
    pub fn for_process(&self, pid: Pid) -> Self {
        Self { pid, ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
