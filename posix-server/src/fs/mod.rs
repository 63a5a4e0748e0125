//! The name space: inodes, names, mounts, paths, and the file systems that are in memory.
//!
//! | module | what |
//! |---|---|
//! | `inode` | files themselves: the attributes that all have |
//! | `body` | what kind of file: what a directory, a link and a generated file does |
//! | `content` | the content of regular files: memory objects |
//! | `paged` | contents whose pages a pager has |
//! | `dentry` | names |
//! | `filesystem` | file systems, and the registry of their types |
//! | `mount_options` | the options of `mount` that are the file system's business |
//! | `mount` | mounts and places |
//! | `namespace`, `propagation` | the trees of mounts, and how mounts spread between them |
//! | `mount_table` | what `/proc` tells of mounts |
//! | `walk` | from a path to a place, with permissions checked at every step |
//! | `change` | making, linking, renaming and removing names |
//! | `locks`, `lock_waits` | advisory locks, and who waits for them |
//! | `attributes` | extended attributes |
//! | `notify` | telling those who watch |
//! | `open` | from a place to an open file |
//! | `tmpfs`, `procfs`, `sysfs`, `devpts`, `pagerfs`, `diskfs` | the file systems |

pub mod attributes;
pub mod body;
pub mod boot;
pub mod change;
pub mod content;
mod dentry;
pub mod devpts;
pub mod diskfs;
pub mod filesystem;
mod generated;
pub mod inode;
pub mod lock_waits;
pub mod locks;
pub mod mount;
pub mod mount_options;
pub mod mount_table;
mod name_table;
pub mod namespace;
pub mod notify;
pub mod open;
pub mod paged;
pub mod pagerfs;
pub mod procfs;
pub mod propagation;
pub mod protection;
pub mod sysfs;
pub mod tmpfs;
pub mod walk;

pub use body::{Body, DeviceNumber};
pub use dentry::{Dentry, Name};
pub use filesystem::{
    DEVTMPFS, FileSystem, FileSystemType, Instances, MAX_INODES, Made, MountRequest, PROC, Storage, TMPFS, TYPES,
};
pub use inode::{Inode, Times};
pub use mount::{Location, Mount, MountFlags, Reach};
pub use namespace::Namespace;

use crate::errno::Result;
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
    /// The context of the first process.
    pub fn new(namespace: &Rc<Namespace>) -> Self {
        let root = namespace.root();
        Self { namespace: namespace.clone(), cwd: root.clone(), root, umask: DEFAULT_UMASK, pid: INIT }
    }

    /// The same in a mount name space of its own: each place is its counterpart there. `ENOSPC`.
    pub fn with_own_namespace(&self) -> Result<Self> {
        let (namespace, pairs) = self.namespace.try_clone()?;
        let counterpart = |place: &Location| {
            let copy = pairs.iter().find(|(original, _)| Rc::ptr_eq(original, &place.mount));
            copy.map_or_else(|| place.clone(), |(_, mount)| Location { mount: mount.clone(), ..place.clone() })
        };
        Ok(Self { namespace, root: counterpart(&self.root), cwd: counterpart(&self.cwd), ..self.clone() })
    }

    /// Stands at the new root wherever it stands at the old one (`pivot_root`).
    pub fn replace_root(&mut self, old: &Location, new: &Location) {
        for place in [&mut self.root, &mut self.cwd] {
            if Rc::ptr_eq(&place.mount, &old.mount) && Rc::ptr_eq(&place.dentry, &old.dentry) {
                *place = new.clone();
            }
        }
    }

    /// The copy that a new process gets.
    pub fn for_process(&self, pid: Pid) -> Self {
        Self { pid, ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
