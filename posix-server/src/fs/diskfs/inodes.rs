//! The inodes of a mounted file system that are in memory: loading them, numbers for new ones, and their end.

use super::directory::DiskDirectory;
use super::file::DiskFile;
use super::server::errno_of;
use super::volume::{Volume, Want};
use crate::budget::{Charge, Kind as Budget};
use crate::cred::ROOT;
use crate::errno::{Errno, Result};
use crate::fs::content::Content;
use crate::fs::inode::{Restored, Times};
use crate::fs::{Body, DeviceNumber, Inode};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::OnceCell;
use driver_protocol::files::entry::Attributes;
use driver_protocol::files::operation::Operation;
use driver_protocol::files::{self, NewKind, Refused, Request, VolumeFlags};
use linux_raw_sys::general as linux;

/// How many numbers are reserved at once.
const RESERVED_DIRECTORIES: u64 = 16;
const RESERVED_OTHERS: u64 = 64;
/// What an inode that was loaded takes of the server's memory, about, in bytes.
const INODE_BYTES: u64 = 640;
/// How many inodes that were asked for by their numbers are kept for whoever asked.
const MAX_HELD: usize = 64;

impl Volume {
    /// The inode of a number, if it is in memory.
    pub(super) fn known(&self, number: u64) -> Option<Rc<Inode>> {
        self.inodes.borrow().get(&number)?.upgrade()
    }

    /// Notes that there is an inode.
    pub(super) fn enter(&self, inode: &Rc<Inode>) {
        self.inodes.borrow_mut().insert(inode.number(), Rc::downgrade(inode));
    }

    /// The inode with these attributes, which its only name told. `ENOMEM`.
    pub(super) fn inode(self: &Rc<Self>, attributes: &Attributes, target: &[u8]) -> Result<Rc<Inode>> {
        if let Some(known) = self.known(attributes.inode) {
            return Ok(known);
        }
        let charge = self.charge(INODE_BYTES + target.len() as u64)?;
        let inode = Inode::restored(&self.filesystem()?, restored(attributes), self.body(attributes, target)?, charge);
        inode.set_has_stored_attributes(attributes.has_xattrs);
        self.enter(&inode);
        Ok(inode)
    }

    /// A charge for what can be loaded again: if there is no room, something else is forgotten. `ENOMEM`.
    pub(crate) fn charge(&self, bytes: u64) -> Result<Charge> {
        Charge::new_for(ROOT, Budget::Cached, bytes).or_else(|_| {
            self.cache.shrink(bytes);
            Charge::new_for(ROOT, Budget::Cached, bytes)
        })
    }

    /// A charge for a new inode. `ENOMEM`.
    pub(crate) fn charge_inode(&self, body: &Body) -> Result<Charge> {
        self.charge(INODE_BYTES + body.own_bytes())
    }

    /// Whether a file with so many names can't have one more.
    pub(crate) fn is_link_too_many(&self, links: u32, is_directory: bool) -> bool {
        let geometry = self.geometry.get();
        let is_limited = !is_directory || !geometry.flags.contains(VolumeFlags::MANY_SUBDIRECTORIES);
        is_limited && u64::from(links) >= geometry.max_links
    }

    /// Has a file's content on the disk before the next operation.
    pub(crate) fn write_back_first(&self, inode: &Rc<Inode>) {
        if self.dirty.borrow().contains_key(&inode.number()) && !self.has_failed.get() {
            self.log.borrow_mut().add_barrier(inode);
        }
    }

    fn body(self: &Rc<Self>, attributes: &Attributes, target: &[u8]) -> Result<Body> {
        let device = DeviceNumber { major: (attributes.device >> 32) as u32, minor: attributes.device as u32 };
        Ok(match attributes.mode & linux::S_IFMT {
            linux::S_IFREG => {
                let file = DiskFile::new(self, attributes.inode, attributes.size, attributes.blocks);
                Body::Regular(Content::paged(Box::new(file), attributes.size))
            }
            linux::S_IFDIR => Body::Directory(Box::new(DiskDirectory::unloaded(self, attributes))),
            linux::S_IFLNK => crate::fs::tmpfs::link(target),
            linux::S_IFCHR => Body::CharacterDevice(device),
            linux::S_IFBLK => Body::BlockDevice(device),
            linux::S_IFIFO => Body::Fifo(OnceCell::new()),
            linux::S_IFSOCK => Body::Socket,
            _ => return Err(Errno::EIO),
        })
    }

    pub(super) async fn load_inode(self: &Rc<Self>, number: u64) -> Result<()> {
        let answer = self.ask(Request::Load { inode: number }, files::MIN_LIST_BYTES).await?;
        // There is a name for it: so it should be there.
        let refused = |refused| if refused == Refused::NotFound { Errno::EUCLEAN } else { errno_of(refused) };
        let answer = answer.map_err(refused)?;
        let filled = files::Filled::decode(&answer.words);
        let bytes = if filled.len_bytes == 0 { answer.bytes.as_slice() } else { answer.filled(filled.len_bytes) };
        let (entry, _) =
            files::entry::split_first(bytes).filter(|(entry, _)| entry.attributes.inode == number).ok_or(Errno::EIO)?;
        let inode = self.inode(&entry.attributes, entry.target)?;
        self.hold(inode);
        Ok(())
    }

    /// Keeps an inode until whoever asked for it had time to take it.
    pub(super) fn hold(&self, inode: Rc<Inode>) {
        let mut held = self.held.borrow_mut();
        held.push_back(inode);
        let before = if held.len() > MAX_HELD { held.pop_front() } else { None };
        drop(held);
        drop(before);
    }

    pub(super) async fn load_attributes(self: &Rc<Self>, number: u64) -> Result<()> {
        let mut room = files::MIN_LIST_BYTES;
        loop {
            let answer = self.demand(Request::Xattrs { inode: number }, room).await?;
            let filled = files::Filled::decode(&answer.words);
            if filled.next > filled.len_bytes && room < files::MAX_BUFFER_BYTES {
                room = files::MAX_BUFFER_BYTES;
                continue;
            }
            let Some(inode) = self.known(number) else { return Ok(()) };
            if !inode.set_has_stored_attributes(false) {
                return Ok(());
            }
            for xattr in files::entry::xattr::xattrs(answer.filled(filled.len_bytes)) {
                inode.attributes().set(xattr.name, xattr.value, crate::fs::attributes::Before::Any)?;
            }
            return Ok(());
        }
    }

    /// An inode is in memory no more.
    pub(crate) fn gone(self: &Rc<Self>, inode: &Inode) {
        let number = inode.number();
        let mut inodes = self.inodes.borrow_mut();
        // Another may have been loaded in its place by now.
        if inodes.get(&number).is_some_and(|known| known.strong_count() == 0) {
            inodes.remove(&number);
        }
        drop(inodes);
        let mut numbers = self.numbers.borrow_mut();
        if numbers.unborn.remove(&number) {
            let kind = if inode.is_directory() { NewKind::Directory } else { NewKind::Other };
            numbers.of(kind).push_front(number);
            return;
        }
        drop(numbers);
        self.log.borrow_mut().freeze(inode);
        if inode.links() > 0 {
            return;
        }
        match inode.content().and_then(Content::paged_file).and_then(|file| file.on_disk()) {
            Some(file) if file.is_served() => file.forget_when_released(),
            Some(_) | None => self.forget(number),
        }
    }

    /// A file without names is not used any more.
    pub(super) fn forget(&self, number: u64) {
        self.record(&Operation::Forget { inode: number }, &[number]);
    }

    /// A number for a new inode in a directory. `ENOSPC`.
    pub(crate) fn take_number(self: &Rc<Self>, parent: u64, is_directory: bool) -> Result<u64> {
        self.last_parent.set(parent);
        let kind = if is_directory { NewKind::Directory } else { NewKind::Other };
        let want = if is_directory { Want::DirectoryNumbers } else { Want::Numbers };
        let mut numbers = self.numbers.borrow_mut();
        let Some(number) = numbers.of(kind).pop_front() else {
            drop(numbers);
            return Err(self.want(want, Errno::ENOSPC));
        };
        numbers.unborn.insert(number);
        Ok(number)
    }

    pub(super) async fn reserve(self: &Rc<Self>, kind: NewKind) -> Result<()> {
        let count = match kind {
            NewKind::Directory => RESERVED_DIRECTORIES,
            NewKind::Other => RESERVED_OTHERS,
        };
        let request = Request::Reserve { parent: self.last_parent.get(), kind, count };
        let answer = self.demand(request, count as usize * size_of::<u64>()).await?;
        let bytes = answer.filled(files::Filled::decode(&answer.words).len_bytes);
        let (numbers, _) = bytes.as_chunks::<8>();
        if numbers.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let mut pool = self.numbers.borrow_mut();
        pool.of(kind).extend(numbers.iter().map(|number| u64::from_le_bytes(*number)));
        Ok(())
    }
}

fn restored(attributes: &Attributes) -> Restored {
    Restored {
        number: attributes.inode,
        permissions: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        links: attributes.links,
        times: Times {
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
            born: attributes.born,
        },
    }
}
