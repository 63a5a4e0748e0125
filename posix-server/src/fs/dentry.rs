//! Names: the tree that paths walk along.
//!
//! A [`Dentry`] is one name of one inode, and knows the directory that it is in. Directories that store their names (tmpfs)
//! hold their dentries, so that a name is the same object for everybody; generated directories (procfs) make them anew at
//! each look. A name that was removed keeps its place, for those who still stand in it, but is marked.

use super::Inode;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// A name, as directories hold it.
pub type Name = Rc<[u8]>;

/// One name of an inode.
pub struct Dentry {
    inode: Rc<Inode>,
    place: RefCell<Option<(Rc<Dentry>, Name)>>,
    removed: Cell<bool>,
    /// How many file systems are mounted here.
    mounts: Cell<u32>,
    /// Pays for the name, if it is stored.
    charge: RefCell<Charge>,
    _alive: crate::census::counted::Dentry,
}

/// What a stored name takes of the server's memory besides its bytes, about.
const DENTRY_BYTES: u64 = 256;

fn name_bytes(name: &[u8]) -> u64 {
    // The directory's table holds it, and this.
    DENTRY_BYTES + 2 * name.len() as u64
}

impl core::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = self.name();
        f.debug_tuple("Dentry").field(&alloc::string::String::from_utf8_lossy(&name)).field(&self.inode).finish()
    }
}

impl Drop for Dentry {
    /// A program can make a chain of directories as long as it likes, remove them all and leave the last: so no recursion.
    fn drop(&mut self) {
        let mut above = self.place.get_mut().take();
        while let Some((directory, _)) = above {
            above = Rc::into_inner(directory).and_then(|mut directory| directory.place.get_mut().take());
        }
    }
}

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Rc<Inode>) -> Rc<Self> {
        Rc::new(Self {
            _alive: Default::default(),
            inode,
            place: RefCell::new(None),
            removed: Cell::new(false),
            mounts: Cell::new(0),
            charge: RefCell::default(),
        })
    }

    /// A name in a directory.
    pub fn new(directory: &Rc<Self>, name: &[u8], inode: Rc<Inode>) -> Rc<Self> {
        let place = RefCell::new(Some((directory.clone(), Name::from(name))));
        Rc::new(Self {
            _alive: Default::default(),
            inode,
            place,
            removed: Cell::new(false),
            mounts: Cell::new(0),
            charge: RefCell::default(),
        })
    }

    /// The place of a file in a directory that has no name for it.
    pub fn nameless(directory: &Rc<Self>, shown: &[u8], inode: Rc<Inode>) -> Rc<Self> {
        let dentry = Self::new(directory, shown, inode);
        dentry.mark_removed();
        dentry
    }

    /// A name that a directory will store. `ENOSPC` if the server keeps too much already.
    pub fn stored(directory: &Rc<Self>, name: &[u8], inode: Rc<Inode>) -> Result<Rc<Self>> {
        let charge = match inode.filesystem().volume() {
            Some(volume) => volume.charge(name_bytes(name))?,
            None => Charge::new(Budget::Names, name_bytes(name)).map_err(|_| Errno::ENOSPC)?,
        };
        let dentry = Self::new(directory, name, inode);
        dentry.charge.replace(charge);
        Ok(dentry)
    }

    /// Makes sure that a stored name may be changed to this one. `ENOSPC`.
    pub fn reserve_name(&self, name: &[u8]) -> Result<()> {
        self.charge.borrow_mut().resize(name_bytes(name)).map_err(|_| Errno::ENOSPC)
    }

    /// What it names.
    pub fn inode(&self) -> &Rc<Inode> {
        &self.inode
    }

    /// The name; empty for a root.
    pub fn name(&self) -> Name {
        self.place.borrow().as_ref().map_or_else(|| Name::from([]), |(_, name)| name.clone())
    }

    /// The directory that it is in; `None` for a root.
    pub fn parent(&self) -> Option<Rc<Self>> {
        self.place.borrow().as_ref().map(|(directory, _)| directory.clone())
    }

    /// Whether the name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Marks the name as gone.
    pub fn mark_removed(&self) {
        self.removed.set(true);
    }

    /// Changes name and directory (`rename`).
    pub fn move_to(&self, directory: &Rc<Self>, name: &[u8]) {
        let before = self.place.replace(Some((directory.clone(), Name::from(name))));
        drop(before);
    }

    /// Whether it is `other` or lies somewhere below.
    pub fn is_within(self: &Rc<Self>, other: &Rc<Self>) -> bool {
        let mut at = Some(self.clone());
        while let Some(dentry) = at {
            if Rc::ptr_eq(&dentry, other) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Whether a file system is mounted here.
    pub fn is_mount_point(&self) -> bool {
        self.mounts.get() > 0
    }

    /// Whether it is worth looking for a mount here. Where names are made anew at each look, any of them may be one.
    pub fn may_be_mount_point(&self) -> bool {
        let filesystem = self.inode.filesystem();
        self.mounts.get() > 0 || !filesystem.is_stored() && filesystem.covered().get() > 0
    }

    /// Counts a file system that was mounted here.
    pub fn add_mount(&self) {
        self.mounts.set(self.mounts.get().saturating_add(1));
        let covered = self.inode.filesystem().covered();
        covered.set(covered.get().saturating_add(1));
    }

    /// Takes that back.
    pub fn remove_mount(&self) {
        self.mounts.set(self.mounts.get().saturating_sub(1));
        let covered = self.inode.filesystem().covered();
        covered.set(covered.get().saturating_sub(1));
    }
}
