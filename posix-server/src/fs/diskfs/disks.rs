//! The disks that there are, and the file systems on them that are mounted.

use super::cache::Cache;
use super::server::FileServer;
use super::volume::{Parts, Volume};
use super::{EXT2, EXT3};
use crate::errno::{Errno, Result};
use crate::fs::filesystem::{FileSystemType, Made};
use crate::fs::{Dentry, DeviceNumber, FileSystem};
use crate::platform::{self, Account, Executor, LocalFuture, note_ticket};
use crate::ticket::Ticket;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use driver_protocol::files::{MountFlags, VolumeFlags};

/// A disk, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, as in `/dev`.
    pub name: Box<[u8]>,
    /// Its number.
    pub number: DeviceNumber,
    /// Its length in sectors of 512 bytes.
    pub sectors: u64,
    /// Whether it is a part of a disk.
    pub is_partition: bool,
}

/// The device number of a disk, by its name: `vda2`, `nvme0n1p2`.
pub fn device_number(name: &[u8]) -> Option<DeviceNumber> {
    let name = core::str::from_utf8(name).ok()?;
    if let Some(rest) = name.strip_prefix("nvme") {
        let (controller, rest) = rest.split_once('n')?;
        let (space, part) = rest.split_once('p').unwrap_or((rest, "0"));
        let minor =
            NVME_MINORS * controller.parse::<u32>().ok()? + MINORS * (space.parse::<u32>().ok()?.checked_sub(1)?);
        return Some(DeviceNumber { major: NVME_MAJOR, minor: minor + part.parse::<u32>().ok()? });
    }
    let rest = name.strip_prefix("vd")?;
    let letters = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    let (disk, part) = rest.split_at_checked(letters)?;
    // `a` to `z`, then `aa`.
    let index = disk.bytes().try_fold(0_u32, |index, letter| {
        index.checked_mul(26)?.checked_add(u32::from(letter - b'a') + 1).filter(|index| *index < MAX_DISKS)
    })?;
    let part = if part.is_empty() { 0 } else { part.parse::<u32>().ok().filter(|part| *part < MINORS)? };
    Some(DeviceNumber { major: VIRTIO_MAJOR, minor: index.checked_sub(1)? * MINORS + part })
}

/// How often a disk that is in use is tried, and how long is waited in between, in ns.
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_PAUSE_NS: u64 = 20_000_000;

/// The driver numbers that Linux usually gives these disks.
pub const VIRTIO_MAJOR: u32 = 254;
/// As above.
pub const NVME_MAJOR: u32 = 259;
/// Numbers of one disk, itself included.
const MINORS: u32 = 16;
/// Numbers of all disks of one NVMe controller.
const NVME_MINORS: u32 = 256;
/// More disks than there are.
const MAX_DISKS: u32 = 1 << 15;

/// Who starts file servers.
pub trait DiskSource {
    /// Starts the server of the file system on a disk. `ENXIO`, `EBUSY`.
    fn open(&self, name: &[u8], is_read_only: bool) -> LocalFuture<Result<Rc<dyn FileServer>>>;
}

enum Entry {
    /// It is being mounted.
    Starting(Ticket),
    /// It could not be mounted.
    Failed(Errno),
    /// It is mounted.
    Mounted(Rc<Volume>, Made),
}

/// The disks.
pub struct Disks {
    executor: Executor,
    source: Box<dyn DiskSource>,
    payer: Account,
    cache: Rc<Cache>,
    list: Vec<Disk>,
    entries: RefCell<BTreeMap<DeviceNumber, Entry>>,
}

impl core::fmt::Debug for Disks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Disks").field("list", &self.list).finish_non_exhaustive()
    }
}

impl Disks {
    /// These disks. The account pays for the pages of files in memory.
    pub fn new(executor: &Executor, source: Box<dyn DiskSource>, list: Vec<Disk>, payer: Account) -> Rc<Self> {
        let (executor, cache, entries) = (executor.clone(), Rc::default(), RefCell::default());
        Rc::new(Self { executor, source, payer, cache, list, entries })
    }

    /// All disks.
    pub fn list(&self) -> &[Disk] {
        &self.list
    }

    /// The disk of a name.
    pub fn named(&self, name: &[u8]) -> Option<&Disk> {
        self.list.iter().find(|disk| &*disk.name == name)
    }

    /// The file systems that are mounted.
    pub fn volumes(&self) -> Vec<Rc<Volume>> {
        let entries = self.entries.borrow();
        let mounted = entries.values().filter_map(|entry| match entry {
            Entry::Mounted(volume, _) => Some(volume.clone()),
            Entry::Starting(_) | Entry::Failed(_) => None,
        });
        mounted.collect()
    }

    /// Has everything durable that was stored and done until now. `EIO`.
    pub async fn synchronize(&self) -> Result<()> {
        let mut result = Ok(());
        for volume in self.volumes() {
            result = result.and(volume.synchronize().await);
        }
        result
    }

    /// Puts all file systems out of use, whoever uses them: the machine is about to end.
    pub async fn close(&self) -> Result<()> {
        let result = self.synchronize().await;
        for volume in self.volumes() {
            volume.close_for_good().await;
        }
        result
    }

    /// The file system on a disk. The first time it is mounted, and the call made again when it is. `ENXIO`, `EBUSY`, `EIO`.
    pub fn mount(
        self: &Rc<Self>,
        device: DeviceNumber,
        kind: &'static FileSystemType,
        flags: MountFlags,
    ) -> Result<Made> {
        let disk = self.list.iter().find(|disk| disk.number == device).ok_or(Errno::ENXIO)?;
        let mut entries = self.entries.borrow_mut();
        match entries.get(&device) {
            Some(Entry::Starting(ticket)) => {
                note_ticket(ticket.clone());
                return Err(Errno::EIO);
            }
            Some(Entry::Failed(errno)) => {
                let errno = *errno;
                entries.remove(&device);
                return Err(errno);
            }
            Some(Entry::Mounted(volume, made)) if volume.has_ended() => {
                let ended = (volume.clone(), made.clone());
                entries.remove(&device);
                drop(entries);
                drop(ended);
                return self.mount(device, kind, flags);
            }
            Some(Entry::Mounted(volume, _)) if volume.is_closing() => {
                note_ticket(volume.closed());
                return Err(Errno::EIO);
            }
            Some(Entry::Mounted(_, made)) => {
                let is_same = core::ptr::eq(made.0.kind(), kind)
                    && made.0.is_read_only() == flags.contains(MountFlags::READ_ONLY);
                return if is_same { Ok(made.clone()) } else { Err(Errno::EBUSY) };
            }
            None => {}
        }
        let ticket = Ticket::new();
        note_ticket(ticket.clone());
        entries.insert(device, Entry::Starting(ticket.clone()));
        drop(entries);
        let (disks, disk) = (self.clone(), disk.clone());
        self.executor.spawn(async move {
            let entry = match disks.start(&disk, kind, flags).await {
                Ok((volume, made)) => Entry::Mounted(volume, made),
                Err(errno) => Entry::Failed(errno),
            };
            disks.entries.borrow_mut().insert(device, entry);
            // Whoever waits looks at the entry.
            ticket.finish(Ok(()));
        });
        Err(Errno::EIO)
    }

    async fn start(&self, disk: &Disk, kind: &'static FileSystemType, flags: MountFlags) -> Result<(Rc<Volume>, Made)> {
        // Also one that is only to be read may need its journal replayed, or be remounted.
        let server = self.open(&disk.name, false).await?;
        let volume = Volume::new(Parts {
            executor: self.executor.clone(),
            server,
            payer: self.payer.clone(),
            cache: self.cache.clone(),
            name: disk.name.clone(),
            flags,
        })?;
        let filesystem = FileSystem::on_disk(kind, disk.number, &volume);
        volume.set_filesystem(&filesystem);
        volume.start();
        volume.ready().await.inspect_err(|errno| volume.end(*errno))?;
        match self.first_look(&volume, &filesystem, kind, flags.contains(MountFlags::READ_ONLY)).await {
            Ok(root) => Ok((volume, (filesystem, root))),
            Err(errno) => {
                volume.close_for_good().await;
                Err(errno)
            }
        }
    }

    /// Has a server started. One that has just been let go may not have ended yet.
    async fn open(&self, name: &[u8], is_read_only: bool) -> Result<Rc<dyn FileServer>> {
        for _ in 0..BUSY_ATTEMPTS {
            match self.source.open(name, is_read_only).await {
                Err(Errno::EBUSY) => {}
                other => return other,
            }
            self.executor.sleep_until(platform::now_ns().saturating_add(BUSY_PAUSE_NS)).await;
        }
        Err(Errno::EBUSY)
    }

    async fn first_look(
        &self,
        volume: &Rc<Volume>,
        filesystem: &Rc<FileSystem>,
        kind: &'static FileSystemType,
        is_read_only: bool,
    ) -> Result<Rc<Dentry>> {
        let geometry = volume.geometry();
        let newest = if core::ptr::eq(kind, &EXT2) {
            2
        } else if core::ptr::eq(kind, &EXT3) {
            3
        } else {
            4
        };
        if geometry.version > newest {
            return Err(Errno::EINVAL);
        }
        if geometry.flags.contains(VolumeFlags::READ_ONLY) && !is_read_only {
            return Err(Errno::EROFS);
        }
        if geometry.flags.contains(VolumeFlags::ERRORS) {
            let name = alloc::string::String::from_utf8_lossy(volume.name());
            platform::log(&alloc::format!("{name}: errors were found on it before: e2fsck should be run"));
        }
        filesystem.set_read_only(is_read_only)?;
        let root = volume.root_inode().await?;
        root.directory().map_err(|_| Errno::EIO)?;
        Ok(Dentry::root(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_have_the_numbers_that_linux_gives_them() {
        let number = |name: &[u8]| device_number(name).map(|device| (device.major, device.minor));
        let known: [(&[u8], (u32, u32)); 6] = [
            (b"vda", (254, 0)),
            (b"vda2", (254, 2)),
            (b"vdb1", (254, 17)),
            (b"vdaa", (254, 416)),
            (b"nvme0n1", (259, 0)),
            (b"nvme1n2p3", (259, 275)),
        ];
        for (name, expected) in known {
            assert_eq!(number(name), Some(expected));
        }
        for name in [&b""[..], b"vd", b"vd1", b"sda", b"vda16", b"vdA", b"nvme0", b"nvme0n0", b"vdzzzzzzzz", b"nvmexn1"]
        {
            assert_eq!(number(name), None);
        }
    }
}
