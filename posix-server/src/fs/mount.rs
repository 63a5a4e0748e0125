//! Mounts, and places in the tree of all of them.
//!
//! A [`Mount`] shows a part of a file system in a place. Mounts form a tree: a mount owns those that are mounted in it, by
//! the name that they cover, and knows its own place only weakly, so that nothing keeps itself alive. Whoever stands
//! in a mount (an open file, a working directory, a mapping) holds it by a [`Location`]; that is what makes it busy.

use super::{Dentry, FileSystem, Inode};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};

bitflags! {
    /// What a mount allows (`mount(2)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// Nothing can be changed.
        const READ_ONLY = 1;
        /// Set-id bits mean nothing.
        const NO_SET_ID = 2;
        /// Device nodes can't be opened.
        const NO_DEVICES = 4;
        /// Nothing can be run.
        const NO_EXECUTE = 8;
        /// Symbolic links are not followed.
        const NO_LINKS = 16;
        /// Access times stay.
        const NO_ACCESS_TIME = 32;
        /// Access times of directories stay.
        const NO_DIRECTORY_ACCESS_TIME = 64;
        /// Access times are renewed only if they say something new.
        const RELATIVE_ACCESS_TIME = 128;
    }
}

impl MountFlags {
    /// Those about access times.
    pub const ACCESS_TIMES: Self =
        Self::NO_ACCESS_TIME.union(Self::NO_DIRECTORY_ACCESS_TIME).union(Self::RELATIVE_ACCESS_TIME);
}

/// How mounts and unmounts inside a mount spread to others (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Propagation {
    /// The group of peers that hear of each other's changes.
    pub group: Option<u64>,
    /// The group that this mount hears of, without being heard.
    pub master: Option<u64>,
    /// Whether it can't be the source of a bind mount.
    pub is_unbindable: bool,
}

/// The number of the next mount.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What a mount takes of the server's memory, about, in bytes.
const MOUNT_BYTES: u64 = 768;

/// A file system, or a part of one, in its place.
pub struct Mount {
    id: u64,
    root: Rc<Dentry>,
    filesystem: Rc<FileSystem>,
    source: Box<[u8]>,
    flags: Cell<MountFlags>,
    /// Where it is mounted; `None` for the root of a tree.
    at: RefCell<Option<(Weak<Mount>, Rc<Dentry>)>>,
    children: RefCell<BTreeMap<u64, Rc<Mount>>>,
    propagation: Cell<Propagation>,
    /// The name space that it is in; 0 for none.
    namespace: Cell<u64>,
    /// How many open files of it can be written.
    writers: Cell<u64>,
    /// Whether an unmount with `MNT_EXPIRE` has found it idle, and nobody has used it since.
    is_expiring: Cell<bool>,
    _charge: Charge,
    _alive: crate::census::counted::Mount,
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mount").field("id", &self.id).field("filesystem", &self.filesystem).finish_non_exhaustive()
    }
}

impl Drop for Mount {
    /// A program can nest mounts as deep as it likes: so no recursion.
    fn drop(&mut self) {
        let mut open: Vec<Rc<Self>> = core::mem::take(self.children.get_mut()).into_values().collect();
        while let Some(child) = open.pop() {
            child.leave();
            open.extend(core::mem::take(&mut *child.children.borrow_mut()).into_values());
        }
        if let Some(volume) = self.filesystem.volume() {
            volume.remove_mount();
        }
    }
}

/// What a name is found by among the mounts in its file system: itself where names are kept, else its inode.
fn key(dentry: &Rc<Dentry>) -> u64 {
    if dentry.inode().filesystem().is_stored() { Rc::as_ptr(dentry) as u64 } else { dentry.inode().number() }
}

impl Mount {
    /// A mount that is nowhere yet. `source` is what `/proc/mounts` shows first. `ENOSPC`.
    pub fn new(filesystem: &Rc<FileSystem>, root: Rc<Dentry>, source: &[u8], flags: MountFlags) -> Result<Rc<Self>> {
        let bytes = MOUNT_BYTES + source.len() as u64;
        let charge = Charge::new(Budget::Names, bytes).map_err(|_| Errno::ENOSPC)?;
        Ok(Rc::new(Self::with_charge(filesystem, root, source, flags, charge)))
    }

    fn with_charge(
        filesystem: &Rc<FileSystem>,
        root: Rc<Dentry>,
        source: &[u8],
        flags: MountFlags,
        charge: Charge,
    ) -> Self {
        if let Some(volume) = filesystem.volume() {
            volume.add_mount();
        }
        Self {
            _alive: Default::default(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            root,
            filesystem: filesystem.clone(),
            source: Box::from(source),
            flags: Cell::new(flags),
            at: RefCell::new(None),
            children: RefCell::default(),
            propagation: Cell::default(),
            namespace: Cell::new(0),
            writers: Cell::new(0),
            is_expiring: Cell::new(false),
            _charge: charge,
        }
    }

    /// The mount at the root of everything, for which the server itself pays.
    pub(super) fn first(filesystem: &Rc<FileSystem>, root: Rc<Dentry>) -> Rc<Self> {
        let flags = MountFlags::RELATIVE_ACCESS_TIME;
        let source = match filesystem.volume() {
            Some(volume) => [b"/dev/", volume.name()].concat(),
            None => filesystem.name().as_bytes().to_vec(),
        };
        Rc::new(Self::with_charge(filesystem, root, &source, flags, Charge::default()))
    }

    /// Another mount of the same file system, from another root on. `ENOSPC`.
    pub fn copy(&self, root: Rc<Dentry>) -> Result<Rc<Self>> {
        let copy = Self::new(&self.filesystem, root, &self.source, self.flags.get())?;
        copy.propagation.set(self.propagation.get());
        Ok(copy)
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it shows at its place.
    pub fn root(&self) -> &Rc<Dentry> {
        &self.root
    }

    /// Its file system.
    pub fn filesystem(&self) -> &Rc<FileSystem> {
        &self.filesystem
    }

    /// What it was mounted from, as the program named it.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// What it allows.
    pub fn flags(&self) -> MountFlags {
        self.flags.get()
    }

    /// Changes that. `EBUSY` if it is to become read-only while somebody has a file open for writing.
    pub fn set_flags(&self, flags: MountFlags) -> Result<()> {
        let gains = flags.difference(self.flags.get());
        if gains.contains(MountFlags::READ_ONLY) && self.writers.get() > 0 {
            return Err(Errno::EBUSY);
        }
        self.flags.set(flags);
        Ok(())
    }

    /// How changes in it spread.
    pub fn propagation(&self) -> Propagation {
        self.propagation.get()
    }

    /// Sets that.
    pub fn set_propagation(&self, propagation: Propagation) {
        self.propagation.set(propagation);
    }

    /// The name space that it is in; 0 for none.
    pub fn namespace(&self) -> u64 {
        self.namespace.get()
    }

    /// Puts it into a name space, with all that is mounted in it.
    pub fn set_namespace(self: &Rc<Self>, namespace: u64) {
        for mount in self.tree() {
            mount.namespace.set(namespace);
        }
    }

    /// Marks it for `MNT_EXPIRE`; says whether it was marked before.
    pub fn mark_expiring(&self) -> bool {
        self.is_expiring.replace(true)
    }

    /// Where it is mounted.
    pub fn at(&self) -> Option<Location> {
        let (mount, dentry) = self.at.borrow().clone()?;
        Some(Location { mount: mount.upgrade()?, dentry })
    }

    /// Its root as a place.
    pub fn place(self: &Rc<Self>) -> Location {
        Location { mount: self.clone(), dentry: self.root.clone() }
    }

    /// What is mounted on a name in it.
    pub fn child_at(&self, dentry: &Rc<Dentry>) -> Option<Rc<Self>> {
        if !dentry.may_be_mount_point() {
            return None;
        }
        self.children.borrow().get(&key(dentry)).cloned()
    }

    /// What is mounted in it.
    pub fn children(&self) -> Vec<Rc<Self>> {
        self.children.borrow().values().cloned().collect()
    }

    /// Whether anything is mounted in it.
    pub fn has_children(&self) -> bool {
        !self.children.borrow().is_empty()
    }

    /// It, and all that is mounted in it, from the root down.
    pub fn tree(self: &Rc<Self>) -> Vec<Rc<Self>> {
        let mut found = Vec::from([self.clone()]);
        let mut next = 0;
        while let Some(mount) = found.get(next).cloned() {
            found.extend(mount.children());
            next += 1;
        }
        found
    }

    /// Mounts it at a place where nothing is mounted, in the place's name space.
    pub fn attach(self: &Rc<Self>, at: &Location) {
        at.dentry.add_mount();
        self.at.replace(Some((Rc::downgrade(&at.mount), at.dentry.clone())));
        let before = at.mount.children.borrow_mut().insert(key(&at.dentry), self.clone());
        drop(before);
        self.set_namespace(at.mount.namespace.get());
    }

    /// Takes it, with all that is mounted in it, from its place.
    pub fn detach(self: &Rc<Self>) {
        let at = self.at.borrow().clone();
        if let Some((parent, dentry)) = at
            && let Some(parent) = parent.upgrade()
        {
            let removed = parent.children.borrow_mut().remove(&key(&dentry));
            drop(removed);
        }
        self.leave();
        self.set_namespace(0);
    }

    fn leave(&self) {
        self.namespace.set(0);
        if let Some((_, dentry)) = self.at.take() {
            dentry.remove_mount();
        }
    }

    /// Whether nothing in it can be changed.
    pub fn is_read_only(&self) -> bool {
        self.flags.get().contains(MountFlags::READ_ONLY) || self.filesystem.is_read_only()
    }

    /// Counts an open file that can be written.
    pub fn add_writer(&self) {
        self.writers.set(self.writers.get().saturating_add(1));
        self.filesystem.add_writer();
    }

    /// Takes that back.
    pub fn remove_writer(&self) {
        self.writers.set(self.writers.get().saturating_sub(1));
        self.filesystem.remove_writer();
    }
}

/// A place: a name in a mounted file system.
#[derive(Clone, Debug)]
pub struct Location {
    /// The mount.
    pub mount: Rc<Mount>,
    /// The name.
    pub dentry: Rc<Dentry>,
}

impl Location {
    /// What is there.
    pub fn inode(&self) -> &Rc<Inode> {
        self.dentry.inode()
    }

    /// Another name in the same mount.
    pub fn with(&self, dentry: Rc<Dentry>) -> Self {
        Self { mount: self.mount.clone(), dentry }
    }

    /// Whether both are the same place: the same directory of the same mount.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.mount, &other.mount)
            && (Rc::ptr_eq(&self.dentry, &other.dentry) || self.inode().is_same(other.inode()))
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Rc::ptr_eq(&self.dentry, &self.mount.root)
    }

    /// `EROFS` if nothing can be changed there.
    pub fn check_writable(&self) -> Result<()> {
        if self.mount.is_read_only() {
            return Err(Errno::EROFS);
        }
        self.mount.filesystem.volume().map_or(Ok(()), |volume| volume.check_writable())
    }

    /// Notes that what is there was read, as far as the mount keeps access times.
    pub fn touch_accessed(&self) {
        self.inode().touch_accessed_in(self.mount.flags());
    }

    /// What is seen there: the root of what was last mounted there, if anything was.
    pub fn covered(self) -> Self {
        let mut place = self;
        while let Some(mount) = place.mount.child_at(&place.dentry) {
            place = mount.place();
        }
        place
    }

    /// The directory above, across mounts; the root of everything is above itself.
    pub fn parent(&self) -> Self {
        let mut place = self.clone();
        loop {
            if !place.is_mount_root()
                && let Some(parent) = place.dentry.parent()
            {
                return place.with(parent);
            }
            match place.mount.at() {
                Some(at) => place = at,
                None => return place,
            }
        }
    }

    /// Whether it is `other`, or below.
    pub fn is_below(&self, other: &Self) -> bool {
        let mut place = self.clone();
        while !Rc::ptr_eq(&place.mount, &other.mount) {
            match place.mount.at() {
                Some(at) => place = at,
                None => return false,
            }
        }
        place.dentry.is_within(&other.dentry)
    }

    /// The path from `root`. A place that is not below `root` has a path from the root of everything, and `false` with it.
    pub fn path_from(&self, root: &Self) -> (Vec<u8>, Reach) {
        let mut names = Vec::new();
        let mut place = self.clone();
        let mut reach = Reach::Inside;
        while !place.is_same(root) {
            while place.is_mount_root()
                && let Some(at) = place.mount.at()
            {
                place = at;
            }
            if place.is_same(root) {
                break;
            }
            let Some(parent) = place.dentry.parent().filter(|_| !place.is_mount_root()) else {
                reach = Reach::Outside;
                break;
            };
            names.push(place.dentry.name());
            place = place.with(parent);
        }
        (join(&names), reach)
    }

    /// The path as `/proc` shows it: with a remark if the name is gone.
    pub fn shown_path(&self, root: &Self) -> Vec<u8> {
        let (mut path, _) = self.path_from(root);
        if self.dentry.is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}

/// The path of names, the last first.
pub(super) fn join(names: &[super::Name]) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// Whether a place lies below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It does.
    Inside,
    /// It does not.
    Outside,
}
