//! Mount name spaces: the trees of mounts that processes see, and how they change (`mount_namespaces(7)`).

use super::filesystem::{ANONYMOUS, FileSystem, FileSystemType, Instances, Made, MountRequest, PIPEFS};
use super::lock_waits::LockWaits;
use super::mount::{Location, Mount, MountFlags};
use super::{Dentry, propagation, tmpfs};
use crate::dev::Devices;
use crate::errno::{Errno, Result};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};

/// The number of the next name space.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How many mounts one name space has at most (`/proc/sys/fs/mount-max` is larger on Linux; these are charged, too).
const MAX_MOUNTS: usize = 10_000;

/// What all name spaces of a server share.
struct System {
    pipes: Rc<FileSystem>,
    anonymous: Rc<FileSystem>,
    devices: Devices,
    /// File systems of which there is one.
    singletons: RefCell<Vec<(&'static str, Made)>>,
    namespaces: RefCell<Vec<Weak<Namespace>>>,
    next_group: Cell<u64>,
    lock_waits: Rc<LockWaits>,
    /// Where files of memory without names are (`memfd_create`).
    memory: Rc<Mount>,
}

/// A tree of mounts.
pub struct Namespace {
    id: u64,
    root: RefCell<Rc<Mount>>,
    system: Rc<System>,
}

impl core::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Namespace").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Namespace {
    /// The first name space, with this root.
    pub fn new(filesystem: &Rc<FileSystem>, root: Rc<Dentry>) -> Rc<Self> {
        let (memory, memory_root) = tmpfs::new(0o777);
        let system = Rc::new(System {
            pipes: FileSystem::new(&PIPEFS),
            anonymous: FileSystem::new(&ANONYMOUS),
            devices: Devices::new(),
            singletons: RefCell::default(),
            namespaces: RefCell::default(),
            next_group: Cell::new(1),
            lock_waits: Rc::default(),
            memory: Mount::first(&memory, memory_root),
        });
        Self::with_root(system, Mount::first(filesystem, root))
    }

    fn with_root(system: Rc<System>, root: Rc<Mount>) -> Rc<Self> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        root.set_namespace(id);
        let namespace = Rc::new(Self { id, root: RefCell::new(root), system: system.clone() });
        let mut namespaces = system.namespaces.borrow_mut();
        namespaces.retain(|other| other.strong_count() > 0);
        namespaces.push(Rc::downgrade(&namespace));
        namespace
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The root of everything: what was mounted last at the root.
    pub fn root(&self) -> Location {
        self.root.borrow().place().covered()
    }

    /// What device nodes lead to.
    pub fn devices(&self) -> &Devices {
        &self.system.devices
    }

    /// The file system of pipes.
    pub fn pipes(&self) -> &Rc<FileSystem> {
        &self.system.pipes
    }

    /// The file system of other files without names.
    pub fn anonymous(&self) -> &Rc<FileSystem> {
        &self.system.anonymous
    }

    /// Who waits for record locks.
    pub fn lock_waits(&self) -> &Rc<LockWaits> {
        &self.system.lock_waits
    }

    /// The mount of files of memory without names, which nobody sees.
    pub fn memory(&self) -> &Rc<Mount> {
        &self.system.memory
    }

    /// All mounts, in the order in which they were made.
    pub fn mounts(&self) -> Vec<Rc<Mount>> {
        let mut mounts = self.root.borrow().tree();
        mounts.sort_by_key(|mount| mount.id());
        mounts
    }

    /// All mounts of all name spaces of the server.
    pub(super) fn all_mounts(&self) -> Vec<Rc<Mount>> {
        let namespaces: Vec<Rc<Self>> = self.system.namespaces.borrow().iter().filter_map(Weak::upgrade).collect();
        namespaces.iter().flat_map(|namespace| namespace.mounts()).collect()
    }

    /// A number for a new group of peers.
    pub fn new_group(&self) -> u64 {
        let group = self.system.next_group.get();
        self.system.next_group.set(group.saturating_add(1));
        group
    }

    /// Whether a mount is in it.
    pub fn has(&self, mount: &Mount) -> bool {
        mount.namespace() == self.id
    }

    /// An instance of a file system's type for a program. `EINVAL` if programs don't get any; else what the type says.
    pub fn instance(&self, kind: &'static FileSystemType, request: &MountRequest<'_>) -> Result<Made> {
        match kind.instances {
            Instances::Internal => Err(Errno::EINVAL),
            Instances::Each(make) => make(request),
            Instances::One(make) => {
                if let Some(made) = self.singleton(kind) {
                    return Ok(made);
                }
                let made = make(request)?;
                self.set_singleton(kind, made.clone());
                Ok(made)
            }
        }
    }

    fn singleton(&self, kind: &FileSystemType) -> Option<Made> {
        let singletons = self.system.singletons.borrow();
        singletons.iter().find(|(name, _)| *name == kind.name).map(|(_, made)| made.clone())
    }

    /// Sets the one instance of a type.
    pub fn set_singleton(&self, kind: &FileSystemType, made: Made) {
        self.system.singletons.borrow_mut().push((kind.name, made));
    }

    /// Mounts a file system at a place for the server itself.
    pub fn mount(&self, filesystem: &Rc<FileSystem>, root: Rc<Dentry>, at: Location) -> Result<Location> {
        let name = filesystem.name().as_bytes();
        let mount = Mount::new(filesystem, root, name, MountFlags::RELATIVE_ACCESS_TIME)?;
        self.graft(&mount, at)?;
        Ok(mount.place())
    }

    /// Mounts a tree of mounts at a place, or on top of what is mounted there. `EINVAL` if the place is not in this name
    /// space; `ENOTDIR` if only one of both is a directory; `ENOENT` if the place's name is gone; `ENOSPC`.
    pub fn graft(&self, tree: &Rc<Mount>, at: Location) -> Result<()> {
        let at = at.covered();
        if !self.has(&at.mount) {
            return Err(Errno::EINVAL);
        }
        if at.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        if at.inode().is_directory() != tree.root().inode().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if self.mounts().len() + tree.tree().len() > MAX_MOUNTS {
            return Err(Errno::ENOSPC);
        }
        let copies = propagation::copies_for(self, tree, &at)?;
        tree.attach(&at);
        for (copy, place) in copies {
            copy.attach(&place.covered());
        }
        Ok(())
    }

    /// Takes a mount, with all in it, from its place, here and wherever that spreads to.
    pub fn remove(&self, mount: &Rc<Mount>) {
        let Some(at) = mount.at() else { return };
        let others = propagation::counterparts(self, &at);
        // Each mount of the tree for itself: what still stands in one does not keep the others.
        for mount in mount.tree().into_iter().rev() {
            mount.detach();
        }
        for other in others.into_iter().filter(|other| !other.has_children()) {
            other.detach();
        }
    }

    /// Makes `new_root` the root, and mounts the old one at `put_old`, which lies below it. Both were checked.
    pub fn pivot(&self, old_root: &Rc<Mount>, new_root: &Rc<Mount>, put_old: &Location) {
        let place = old_root.at();
        new_root.detach();
        match place {
            Some(at) => {
                old_root.detach();
                new_root.attach(&at);
            }
            None => {
                new_root.set_namespace(self.id);
                let before = self.root.replace(new_root.clone());
                drop(before);
            }
        }
        old_root.attach(put_old);
    }

    /// A copy for a process that wants its own (`CLONE_NEWNS`), with the counterpart of each mount, old and new. `ENOSPC`.
    pub fn try_clone(&self) -> Result<(Rc<Self>, Vec<Copy>)> {
        let root = self.root.borrow().clone();
        let pairs = copy_tree(&root, root.root(), Unbindable::Copied)?;
        let copy = pairs.first().map(|(_, copy)| copy.clone()).ok_or(Errno::EINVAL)?;
        Ok((Self::with_root(self.system.clone(), copy), pairs))
    }
}

/// A mount and its copy.
pub type Copy = (Rc<Mount>, Rc<Mount>);

/// What a copy of a tree does about mounts that can't be bound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unbindable {
    /// Copies them.
    Copied,
    /// Leaves them out, with what is in them.
    Skipped,
}

/// Copies a mount from `root` on, with all that is mounted below; gives each mount with its copy, the first first. `ENOSPC`.
pub fn copy_tree(mount: &Rc<Mount>, root: &Rc<Dentry>, unbindable: Unbindable) -> Result<Vec<Copy>> {
    let mut pairs = Vec::from([(mount.clone(), mount.copy(root.clone())?)]);
    let mut next = 0;
    while let Some((original, copy)) = pairs.get(next).cloned() {
        for child in original.children() {
            let skipped = unbindable == Unbindable::Skipped && child.propagation().is_unbindable;
            let Some(at) = child.at().filter(|at| !skipped && at.dentry.is_within(copy.root())) else { continue };
            let child_copy = child.copy(child.root().clone())?;
            child_copy.attach(&Location { mount: copy.clone(), dentry: at.dentry });
            pairs.push((child, child_copy));
        }
        next += 1;
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::super::propagation::Change;
    use super::super::tmpfs;
    use super::*;

    struct Tree {
        namespace: Rc<Namespace>,
    }

    impl Tree {
        /// A name space whose root has these directories.
        fn new(names: &[&str]) -> Self {
            let (filesystem, root) = tmpfs::new(0o755);
            let namespace = Namespace::new(&filesystem, root);
            let tree = Self { namespace };
            names.iter().for_each(|name| tree.make(&tree.namespace.root(), name));
            tree
        }

        fn make(&self, at: &Location, name: &str) {
            let inode = super::super::Inode::new(at.inode().filesystem(), 0o755, 0, 0, tmpfs::directory()).unwrap();
            let names = at.inode().directory().unwrap().names().unwrap();
            names.insert(Dentry::stored(&at.dentry, name.as_bytes(), inode).unwrap());
        }

        fn at(&self, place: &Location, name: &str) -> Location {
            place.with(place.inode().directory().unwrap().lookup(&place.dentry, name.as_bytes()).unwrap()).covered()
        }

        fn mount(&self, at: Location) -> Rc<Mount> {
            let (filesystem, root) = tmpfs::new(0o755);
            self.namespace.mount(&filesystem, root, at).unwrap().mount
        }

        fn bind(&self, mount: &Rc<Mount>, at: Location) -> Rc<Mount> {
            let copy = mount.copy(mount.root().clone()).unwrap();
            self.namespace.graft(&copy, at).unwrap();
            copy
        }
    }

    #[test]
    fn what_is_mounted_in_a_peer_is_mounted_in_all_and_goes_from_all() {
        let tree = Tree::new(&["a", "b", "c"]);
        let root = tree.namespace.root();
        let first = tree.mount(tree.at(&root, "a"));
        tree.make(&first.place(), "in");
        propagation::change(&tree.namespace, &first, Change::Shared);
        let peer = tree.bind(&first, tree.at(&root, "b"));
        let slave = tree.bind(&first, tree.at(&root, "c"));
        propagation::change(&tree.namespace, &slave, Change::Slave);
        let inner = tree.mount(tree.at(&first.place(), "in"));
        assert_eq!(tree.namespace.mounts().len(), 7);
        for other in [&peer, &slave] {
            let seen = tree.at(&other.place(), "in");
            assert!(Rc::ptr_eq(seen.mount.filesystem(), inner.filesystem()) && !Rc::ptr_eq(&seen.mount, &inner));
        }
        tree.namespace.remove(&inner);
        assert_eq!(tree.namespace.mounts().len(), 4);
        let alone = tree.mount(tree.at(&slave.place(), "in"));
        assert_eq!(tree.namespace.mounts().len(), 5);
        assert!(!tree.at(&first.place(), "in").is_mount_root());
        drop(alone);
    }

    #[test]
    fn a_copy_of_a_name_space_goes_its_own_way_and_leaves_nothing() {
        let tree = Tree::new(&["a"]);
        let root = tree.namespace.root();
        let mount = tree.mount(tree.at(&root, "a"));
        let (copy, pairs) = tree.namespace.try_clone().unwrap();
        assert_eq!(pairs.len(), 2);
        let counterpart = pairs.iter().find(|(original, _)| Rc::ptr_eq(original, &mount)).unwrap().1.clone();
        copy.remove(&counterpart);
        assert_eq!((tree.namespace.mounts().len(), copy.mounts().len()), (2, 1));
        let covered = mount.at().unwrap().dentry;
        drop((pairs, counterpart, copy));
        tree.namespace.remove(&mount);
        assert!(!covered.is_mount_point());
        assert_eq!(Rc::strong_count(&mount), 1);
    }

    #[test]
    fn a_thousand_mounts_in_each_other_are_dropped_without_recursion() {
        let tree = Tree::new(&["a"]);
        let mut at = tree.at(&tree.namespace.root(), "a");
        for _ in 0..1000 {
            let mount = tree.mount(at);
            tree.make(&mount.place(), "a");
            at = tree.at(&mount.place(), "a");
        }
        assert_eq!(tree.namespace.mounts().len(), 1001);
        drop(at);
        drop(tree);
    }
}
