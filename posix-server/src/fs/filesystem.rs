//! File systems and their types.
//!
//! [`TYPES`] is the registry: one row per type, with its name and, where programs may mount it, what makes an instance. A new
//! type is a [`FileSystemType`] in its own module and a row here.

use super::diskfs::{EXT2, EXT3, EXT4, Volume};
use super::mount_options::TmpfsOptions;
use super::pagerfs::PAGERFS;
use super::{Dentry, DeviceNumber, devpts, procfs, sysfs, tmpfs};
use crate::dev;
use crate::errno::{Errno, Result};
use crate::mqueue::MQUEUE;
use crate::platform::{self, Account};
use crate::process::Server;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as linux;

/// Whether a file system keeps what it is told, or makes up what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Files live in memory.
    Memory,
    /// Files are on a disk.
    Disk,
    /// Files are generated.
    Generated,
}

/// What `mount` is asked for.
pub struct MountRequest<'a> {
    /// Whose processes and devices it shows.
    pub server: &'a Rc<Server>,
    /// The options that are the file system's business, separated by commas.
    pub options: &'a [u8],
    /// The block device that is to be mounted, if one was named.
    pub device: Option<DeviceNumber>,
    /// Whether nothing is to be changed.
    pub is_read_only: bool,
}

/// A file system and its root.
pub type Made = (Rc<FileSystem>, Rc<Dentry>);

/// How programs get an instance of a type.
#[derive(Clone, Copy)]
pub enum Instances {
    /// They don't: the server alone makes them (`EINVAL`).
    Internal,
    /// Each mount makes a new one.
    Each(fn(&MountRequest<'_>) -> Result<Made>),
    /// All mounts show the same, which the first makes.
    One(fn(&MountRequest<'_>) -> Result<Made>),
}

/// What is the same for all file systems of one type.
pub struct FileSystemType {
    /// Its name in `/proc/filesystems` and `/proc/mounts`.
    pub name: &'static str,
    /// Its number for `statfs`.
    pub magic: u64,
    /// Where files are.
    pub storage: Storage,
    /// How programs mount it.
    pub instances: Instances,
}

impl<'a> MountRequest<'a> {
    /// One that names no device.
    pub fn of_memory(server: &'a Rc<Server>, options: &'a [u8]) -> Self {
        Self { server, options, device: None, is_read_only: false }
    }
}

impl core::fmt::Debug for FileSystemType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// The file system of files in memory.
pub static TMPFS: FileSystemType = FileSystemType {
    name: "tmpfs",
    magic: linux::TMPFS_MAGIC as u64,
    storage: Storage::Memory,
    instances: Instances::Each(|request| tmpfs::mounted(&TMPFS, request.options)),
};
/// The same under the name by which init programs know it.
pub static RAMFS: FileSystemType = FileSystemType {
    name: "ramfs",
    magic: 0x8584_58f6,
    storage: Storage::Memory,
    instances: Instances::Each(|request| tmpfs::mounted_without_limit(&RAMFS, request.options)),
};
/// The file system of device nodes: one for all.
pub static DEVTMPFS: FileSystemType = FileSystemType {
    name: "devtmpfs",
    magic: linux::TMPFS_MAGIC as u64,
    storage: Storage::Memory,
    instances: Instances::One(|_| dev::tree::new()),
};
/// The file system that shows processes.
pub static PROC: FileSystemType = FileSystemType {
    name: "proc",
    magic: linux::PROC_SUPER_MAGIC as u64,
    storage: Storage::Generated,
    instances: Instances::Each(|request| Ok(procfs::new(request.server))),
};
/// The file system of pipes, which is mounted nowhere.
pub(super) static PIPEFS: FileSystemType = FileSystemType {
    name: "pipefs",
    magic: linux::PIPEFS_MAGIC as u64,
    storage: Storage::Generated,
    instances: Instances::Internal,
};
/// The file system of other files without names.
pub(super) static ANONYMOUS: FileSystemType = FileSystemType {
    name: "anon_inodefs",
    magic: linux::ANON_INODE_FS_MAGIC as u64,
    storage: Storage::Generated,
    instances: Instances::Internal,
};

/// All types, for `/proc/filesystems` and `mount`.
pub static TYPES: &[&FileSystemType] = &[
    &TMPFS,
    &RAMFS,
    &DEVTMPFS,
    &devpts::DEVPTS,
    &MQUEUE,
    &PROC,
    &sysfs::SYSFS,
    &PAGERFS,
    &PIPEFS,
    &ANONYMOUS,
    &EXT4,
    &EXT3,
    &EXT2,
];

/// The type of a name. `ENODEV`.
pub fn type_named(name: &[u8]) -> Result<&'static FileSystemType> {
    TYPES.iter().find(|kind| kind.name.as_bytes() == name).copied().ok_or(Errno::ENODEV)
}

/// How many inodes a file system has at most: each takes memory of the server, which its programs must not use up.
pub const MAX_INODES: u64 = 200_000;

/// The minor number of the next file system's device; the major is 0, as for all that have no disk.
static NEXT_DEVICE: AtomicU32 = AtomicU32::new(1);

/// One file system.
pub struct FileSystem {
    kind: &'static FileSystemType,
    device: DeviceNumber,
    next_inode: Cell<u64>,
    inodes: Cell<u64>,
    max_inodes: Cell<u64>,
    /// What is known of its disk.
    volume: Option<Rc<Volume>>,
    /// Pays for contents, if they have a limit of their own.
    payer: Option<Account>,
    /// The limit in pages, for `statfs`; 0: the machine's.
    max_pages: Cell<u64>,
    /// What it was mounted with, as `/proc/mounts` shows it.
    options: RefCell<TmpfsOptions>,
    is_read_only: Cell<bool>,
    /// How many open files of it can be written.
    writers: Cell<u64>,
    /// Names of it on which something is mounted, where names are made anew at each look.
    covered: Cell<u64>,
    _alive: crate::census::counted::FileSystem,
}

impl core::fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FileSystem").field("kind", &self.kind).field("device", &self.device).finish_non_exhaustive()
    }
}

impl FileSystem {
    /// A file system without inodes.
    pub fn new(kind: &'static FileSystemType) -> Rc<Self> {
        Self::with_payer(kind, None)
    }

    /// The same, whose contents an account pays for.
    pub fn with_payer(kind: &'static FileSystemType, payer: Option<Account>) -> Rc<Self> {
        let device = DeviceNumber { major: 0, minor: NEXT_DEVICE.fetch_add(1, Ordering::Relaxed) };
        Rc::new(Self::with_parts(kind, device, payer, None))
    }

    /// The file system on a disk of this number.
    pub fn on_disk(kind: &'static FileSystemType, device: DeviceNumber, volume: &Rc<Volume>) -> Rc<Self> {
        Rc::new(Self::with_parts(kind, device, None, Some(volume.clone())))
    }

    fn with_parts(
        kind: &'static FileSystemType,
        device: DeviceNumber,
        payer: Option<Account>,
        volume: Option<Rc<Volume>>,
    ) -> Self {
        Self {
            volume,
            _alive: Default::default(),
            kind,
            device,
            next_inode: Cell::new(1),
            inodes: Cell::new(0),
            max_inodes: Cell::new(MAX_INODES),
            payer,
            max_pages: Cell::new(0),
            options: RefCell::default(),
            is_read_only: Cell::new(false),
            writers: Cell::new(0),
            covered: Cell::new(0),
        }
    }

    /// What is known of its disk, if it is on one.
    pub fn volume(&self) -> Option<&Rc<Volume>> {
        self.volume.as_ref()
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
        self.kind.storage != Storage::Generated
    }

    /// How many inodes there are.
    pub fn inodes(&self) -> u64 {
        self.inodes.get()
    }

    /// How many there may be.
    pub fn max_inodes(&self) -> u64 {
        self.max_inodes.get()
    }

    /// Pages for contents: how many there may be, and how many are free.
    pub fn pages(&self) -> (u64, u64) {
        let (total, free) = platform::frames();
        match &self.payer {
            Some(payer) => {
                let most = self.max_pages.get();
                (most, most.saturating_sub(payer.used_frames()))
            }
            None => (total, free),
        }
    }

    /// Who pays for contents, if not the budget of all files.
    pub fn payer(&self) -> Option<&Account> {
        self.payer.as_ref()
    }

    /// What it was mounted with.
    pub fn options(&self) -> TmpfsOptions {
        self.options.borrow().clone()
    }

    /// Sets limits and what is shown of them. `EINVAL` if more is in use already.
    pub fn set_options(&self, options: TmpfsOptions) -> Result<()> {
        let pages = options.pages();
        let inodes = options.inodes.unwrap_or(MAX_INODES).min(MAX_INODES);
        let inodes = if inodes == 0 { MAX_INODES } else { inodes };
        if let Some(payer) = &self.payer {
            if payer.used_frames() > pages {
                return Err(Errno::EINVAL);
            }
            payer.set_frames_limit(pages)?;
        }
        if self.inodes.get() > inodes {
            return Err(Errno::EINVAL);
        }
        self.max_pages.set(pages);
        self.max_inodes.set(inodes);
        self.options.replace(options);
        Ok(())
    }

    /// Whether nothing in it may change.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only.get()
    }

    /// Sets that. `EBUSY` while somebody has a file open for writing.
    pub fn set_read_only(&self, is_read_only: bool) -> Result<()> {
        if is_read_only && self.writers.get() > 0 {
            return Err(Errno::EBUSY);
        }
        self.is_read_only.set(is_read_only);
        Ok(())
    }

    /// Lets nothing change any more, whoever has files open.
    pub(super) fn force_read_only(&self) {
        self.is_read_only.set(true);
    }

    pub(super) fn add_writer(&self) {
        self.writers.set(self.writers.get().saturating_add(1));
    }

    pub(super) fn remove_writer(&self) {
        self.writers.set(self.writers.get().saturating_sub(1));
    }

    /// Whether something is mounted on a name of it, where names are made anew at each look.
    pub(super) fn covered(&self) -> &Cell<u64> {
        &self.covered
    }

    /// A number for a new inode. `ENOSPC`.
    pub(super) fn take_inode_number(&self) -> Result<u64> {
        if self.inodes.get() >= self.max_inodes.get() {
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
