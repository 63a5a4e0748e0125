//! File systems, mounts, and places in the tree of all of them.

use super::{Dentry, DeviceNumber, Inode};
use crate::dev::Devices;
use crate::errno::{Errno, Result};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as linux;

/// Whether a file system keeps what it is told, or makes up what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Files live in memory.
    Memory,
    /// Files are generated.
    Generated,
}

/// What is the same for all file systems of one type.
#[derive(Debug)]
pub struct FileSystemType {
    /// Its name in `/proc/filesystems` and `/proc/mounts`.
    pub name: &'static str,
    /// Its number for `statfs`.
    pub magic: u64,
    /// Where files are.
    pub storage: Storage,
}

/// The file system of files in memory.
pub static TMPFS: FileSystemType =
    FileSystemType { name: "tmpfs", magic: linux::TMPFS_MAGIC as u64, storage: Storage::Memory };
/// The file system that shows processes.
pub static PROC: FileSystemType =
    FileSystemType { name: "proc", magic: linux::PROC_SUPER_MAGIC as u64, storage: Storage::Generated };
/// The file system of pipes, which is mounted nowhere.
static PIPEFS: FileSystemType =
    FileSystemType { name: "pipefs", magic: linux::PIPEFS_MAGIC as u64, storage: Storage::Generated };
/// The file system of other files without names.
static ANONYMOUS: FileSystemType =
    FileSystemType { name: "anon_inodefs", magic: linux::ANON_INODE_FS_MAGIC as u64, storage: Storage::Generated };

/// All types, for `/proc/filesystems`.
pub static TYPES: [&FileSystemType; 4] = [&TMPFS, &PROC, &PIPEFS, &ANONYMOUS];

/// How many inodes a file system has at most: each takes memory of the server, which its programs must not use up.
pub const MAX_INODES: u64 = 200_000;

/// The minor number of the next file system's device; the major is 0, as for all that have no disk.
static NEXT_DEVICE: AtomicU32 = AtomicU32::new(1);

/// One file system.
#[derive(Debug)]
pub struct FileSystem {
    kind: &'static FileSystemType,
    device: DeviceNumber,
    next_inode: Cell<u64>,
    inodes: Cell<u64>,
}

impl FileSystem {
    /// A file system without inodes.
    pub fn new(kind: &'static FileSystemType) -> Rc<Self> {
        let device = DeviceNumber { major: 0, minor: NEXT_DEVICE.fetch_add(1, Ordering::Relaxed) };
        Rc::new(Self { kind, device, next_inode: Cell::new(1), inodes: Cell::new(0) })
    }

    /// Its type.
    pub fn kind(&self) -> &'static FileSystemType {
        self.kind
    }

    /// The name of its type.
    pub fn name(&self) -> &'static str {
        self.kind.name
    }

    /// The device that `stat` shows for its files.
    pub fn device(&self) -> DeviceNumber {
        self.device
    }

    /// Whether it keeps what it is told.
    pub fn is_stored(&self) -> bool {
        self.kind.storage == Storage::Memory
    }

    /// How many inodes there are.
    pub fn inodes(&self) -> u64 {
        self.inodes.get()
    }

    /// A number for a new inode. `ENOSPC`.
    pub(super) fn take_inode_number(&self) -> Result<u64> {
        if self.inodes.get() >= MAX_INODES {
            return Err(Errno::ENOSPC);
        }
        let number = self.next_inode.get();
        self.next_inode.set(number.wrapping_add(1));
        Ok(number)
    }

    pub(super) fn note_inode(&self) {
        self.inodes.set(self.inodes.get().saturating_add(1));
    }

    pub(super) fn forget_inode(&self) {
        self.inodes.set(self.inodes.get().saturating_sub(1));
    }
}

/// A file system in its place.
#[derive(Debug)]
pub struct Mount {
    id: u64,
    root: Rc<Dentry>,
    /// Where it is mounted; `None` for the root of everything.
    at: Option<Location>,
    filesystem: Rc<FileSystem>,
}

impl Mount {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its file system.
    pub fn filesystem(&self) -> &Rc<FileSystem> {
        &self.filesystem
    }

    /// Where it is mounted.
    pub fn at(&self) -> Option<&Location> {
        self.at.as_ref()
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

    /// The directory above, across mounts; the root of everything is above itself.
    pub fn parent(&self) -> Self {
        let mut place = self.clone();
        loop {
            if !Rc::ptr_eq(&place.dentry, &place.mount.root)
                && let Some(parent) = place.dentry.parent()
            {
                return place.with(parent);
            }
            match place.mount.at.clone() {
                Some(at) => place = at,
                None => return place,
            }
        }
    }

    /// The path from `root`. A place that is not below `root` has a path from the root of everything, and `false` with it.
    pub fn path_from(&self, root: &Self) -> (Vec<u8>, Reach) {
        let mut names = Vec::new();
        let mut place = self.clone();
        let mut reach = Reach::Inside;
        while !place.is_same(root) {
            while Rc::ptr_eq(&place.dentry, &place.mount.root)
                && let Some(at) = place.mount.at.clone()
            {
                place = at;
            }
            if place.is_same(root) {
                break;
            }
            let Some(parent) = place.dentry.parent().filter(|_| !Rc::ptr_eq(&place.dentry, &place.mount.root)) else {
                reach = Reach::Outside;
                break;
            };
            names.push(place.dentry.name());
            place = place.with(parent);
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        (path, reach)
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

/// Whether a place lies below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It does.
    Inside,
    /// It does not.
    Outside,
}

/// All that is mounted, and what device nodes in it lead to.
pub struct Namespace {
    mounts: RefCell<Vec<Rc<Mount>>>,
    pipes: Rc<FileSystem>,
    anonymous: Rc<FileSystem>,
    devices: Devices,
}

impl core::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Namespace").field("mounts", &self.mounts.borrow().len()).finish_non_exhaustive()
    }
}

impl Namespace {
    /// A name space with this root.
    pub fn new(filesystem: &Rc<FileSystem>, root: Rc<Dentry>) -> Rc<Self> {
        let mount = Rc::new(Mount { id: 1, root, at: None, filesystem: filesystem.clone() });
        Rc::new(Self {
            mounts: RefCell::new(Vec::from([mount])),
            pipes: FileSystem::new(&PIPEFS),
            anonymous: FileSystem::new(&ANONYMOUS),
            devices: Devices::new(),
        })
    }

    /// The root of everything.
    pub fn root(&self) -> Option<Location> {
        let mount = self.mounts.borrow().first()?.clone();
        let dentry = mount.root.clone();
        Some(Location { mount, dentry })
    }

    /// What device nodes lead to.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The file system of pipes.
    pub fn pipes(&self) -> &Rc<FileSystem> {
        &self.pipes
    }

    /// The file system of other files without names.
    pub fn anonymous(&self) -> &Rc<FileSystem> {
        &self.anonymous
    }

    /// Mounts a file system at a directory.
    pub fn mount(&self, filesystem: &Rc<FileSystem>, root: Rc<Dentry>, at: Location) -> Location {
        at.dentry.add_mount();
        let mut mounts = self.mounts.borrow_mut();
        let id = mounts.len() as u64 + 1;
        let mount = Rc::new(Mount { id, root: root.clone(), at: Some(at), filesystem: filesystem.clone() });
        mounts.push(mount.clone());
        Location { mount, dentry: root }
    }

    /// What is seen at a place: the root of what was last mounted there, if anything was.
    pub fn cross(&self, place: Location) -> Location {
        let mut place = place;
        while place.dentry.is_mount_point() {
            let mounts = self.mounts.borrow();
            let covers = |mount: &&Rc<Mount>| mount.at.as_ref().is_some_and(|at| at.is_same(&place));
            let Some(mount) = mounts.iter().rev().find(covers) else { return place };
            place = Location { mount: mount.clone(), dentry: mount.root.clone() };
        }
        place
    }

    /// All mounts, in order.
    pub fn mounts(&self) -> Vec<Rc<Mount>> {
        self.mounts.borrow().clone()
    }
}
