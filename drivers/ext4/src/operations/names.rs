//! Making files, and giving and taking names.

use crate::Ext4;
use crate::allocation::{INODE_CREDITS, RUN_CREDITS};
use crate::buffers::Kind;
use crate::bytes::put;
use crate::change::Change;
use crate::checksum::crc32c;
use crate::device::Device;
use crate::directory::check_name;
use crate::error::{Error, Place, Result};
use crate::inode::{FileKind, Inode, MAP_BYTES, Time, flag};
use crate::map::empty_tree;
use crate::orphans::ORPHAN_CREDITS;
use crate::superblock::{incompatible, read_only_compatible};

/// Most names of a file, and most directories below one that counts them.
const MOST_LINKS: u16 = 65_000;
/// Blocks that making an inode may touch: it, a first block, what counts these.
const NEW_CREDITS: u32 = 2 + 4 * (2 + RUN_CREDITS) + INODE_CREDITS;

/// A file to be made.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// The directory, or none for a file without a name.
    pub parent: Option<u32>,
    /// The name in it.
    pub name: &'a [u8],
    /// The number it shall have: [reserved](Ext4::reserve) before.
    pub inode: u32,
    /// Its kind and permissions.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Where a symbolic link leads.
    pub target: &'a [u8],
    /// The time.
    pub now: Time,
}

/// A file that lost a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Its inode.
    pub inode: u32,
    /// The names that it still has. With none it is there until [`Ext4::forget`].
    pub links: u16,
}

impl<D: Device> Ext4<D> {
    /// The inode that a name in a directory stands for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::Corrupt`], [`Error::Device`].
    pub async fn lookup(&self, parent: u32, name: &[u8]) -> Result<u32> {
        let _guard = self.lock.shared().await;
        let parent = self.load(parent).await?;
        Ok(self.require_name(&parent, name).await?.inode())
    }

    /// Makes a file of any kind, with a number that is free.
    ///
    /// # Errors
    /// [`Error::Exists`]: the name or the number is taken. [`Error::BadName`]; [`Error::TooManyLinks`]: of the directory;
    /// [`Error::Invalid`]: no kind, or no target; [`Error::Full`], [`Error::NotDirectory`], [`Error::NotFound`],
    /// [`Error::Corrupt`], [`Error::Device`], [`Error::ReadOnly`].
    pub async fn create(&self, new: New<'_>) -> Result<()> {
        let turn = self.changes().await;
        let mut parent = match new.parent {
            Some(parent) => Some(self.load_parent(parent, new.name).await?),
            None => None,
        };
        let adding = parent.as_ref().map_or(0, |parent| self.add_credits(parent));
        let change = self.next_change(&turn, NEW_CREDITS + ORPHAN_CREDITS + adding).await?;
        let kind = FileKind::of_mode(new.mode).ok_or(Error::Invalid)?;
        self.take_inode(&change, new.inode, kind == FileKind::Directory).await?;
        self.clear_inode(&change, new.inode).await?;
        let flags = parent.as_ref().map_or(0, |parent| parent.flags);
        let mut inode = self.new_inode(&new, kind, flags);
        match kind {
            FileKind::Directory => self.make_directory(&change, &mut inode, new.parent.unwrap_or(new.inode)).await?,
            FileKind::Symlink => self.store_target(&change, &mut inode, new.target).await?,
            FileKind::CharacterDevice | FileKind::BlockDevice => inode.set_device(new.device.0, new.device.1),
            FileKind::Fifo | FileKind::Regular | FileKind::Socket => {}
        }
        if let Some(parent) = &mut parent {
            if kind == FileKind::Directory {
                self.count_subdirectory(parent)?;
            }
            self.add_name(&change, parent, new.name, new.inode, kind).await?;
            (parent.modified, parent.changed) = (new.now, new.now);
            self.store(&change, parent).await?;
        } else {
            self.add_orphan(&change, &mut inode).await?;
        }
        self.store(&change, &inode).await?;
        change.finish().await?;
        if parent.is_none() {
            self.orphans.borrow_mut().added(new.inode);
        }
        self.reserved.borrow_mut().remove(&new.inode);
        Ok(())
    }

    /// A directory that shall get a name.
    async fn load_parent(&self, parent: u32, name: &[u8]) -> Result<Inode> {
        check_name(name)?;
        let parent = self.load_directory(parent).await?;
        if self.find_name(&parent, name).await?.is_some() { Err(Error::Exists) } else { Ok(parent) }
    }

    /// A directory that has not been removed.
    pub(super) async fn load_directory(&self, number: u32) -> Result<Inode> {
        let inode = self.load(number).await?;
        if !inode.is_directory() {
            return Err(Error::NotDirectory);
        }
        if inode.links == 0 { Err(Error::NotFound) } else { Ok(inode) }
    }

    fn new_inode(&self, new: &New<'_>, kind: FileKind, parent_flags: u32) -> Inode {
        let mut inode = Inode::new(new.inode, &self.superblock);
        inode.mode = new.mode;
        (inode.uid, inode.gid) = (new.uid, new.gid);
        inode.links = match kind {
            _ if new.parent.is_none() => 0,
            FileKind::Directory => 2,
            FileKind::Fifo
            | FileKind::CharacterDevice
            | FileKind::BlockDevice
            | FileKind::Regular
            | FileKind::Symlink
            | FileKind::Socket => 1,
        };
        (inode.accessed, inode.modified, inode.changed, inode.created) = (new.now, new.now, new.now, new.now);
        let time = crc32c(new.now.nanoseconds, &new.now.seconds.to_le_bytes());
        inode.generation = crc32c(time, &new.inode.to_le_bytes());
        inode.flags = parent_flags & flag::INHERITED;
        let has_map = matches!(kind, FileKind::Regular | FileKind::Directory)
            || kind == FileKind::Symlink && new.target.len() >= MAP_BYTES;
        if has_map && self.superblock.features.needs(incompatible::EXTENTS) {
            inode.flags |= flag::EXTENTS;
            empty_tree(&mut inode.map);
        }
        inode
    }

    /// Writes where a symbolic link leads, into the inode or into a block. The inode is to be stored.
    async fn store_target(&self, change: &Change<'_, D>, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.is_empty() || target.len() >= self.superblock.block_bytes as usize || target.contains(&0) {
            return Err(Error::Invalid);
        }
        inode.size = target.len() as u64;
        if target.len() < MAP_BYTES {
            put(&mut inode.map, 0, target);
            return Ok(());
        }
        let start = self.add_block(change, inode, 0).await?;
        let block = change.fresh(start, Kind::Plain)?;
        change.edit(&block, 0..target.len(), |bytes| put(bytes, 0, target));
        Ok(())
    }

    /// Counts one more directory in a directory, which is to be stored.
    pub(super) fn count_subdirectory(&self, parent: &mut Inode) -> Result<()> {
        let uncounted = self.superblock.features.writes(read_only_compatible::MANY_LINKS);
        parent.links = match parent.links {
            1 => 1,
            links if links < MOST_LINKS => links + 1,
            _ if uncounted => 1,
            _ => return Err(Error::TooManyLinks),
        };
        Ok(())
    }

    /// Counts one directory less in a directory, which is to be stored.
    pub(super) fn uncount_subdirectory(&self, parent: &mut Inode) {
        if parent.links > 2 {
            parent.links -= 1;
        }
    }

    /// Gives a file another name; one without a name gets its first.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::BadName`], [`Error::TooManyLinks`], [`Error::IsDirectory`]: no directory has two names;
    /// [`Error::Full`], [`Error::NotDirectory`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn link(&self, number: u32, parent: u32, name: &[u8], now: Time) -> Result<()> {
        let turn = self.changes().await;
        let mut parent = self.load_parent(parent, name).await?;
        let change = self.next_change(&turn, 1 + ORPHAN_CREDITS + self.add_credits(&parent)).await?;
        let mut inode = self.load(number).await?;
        let kind = inode.kind().ok_or(Error::NotFound)?;
        if kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        if inode.links >= MOST_LINKS {
            return Err(Error::TooManyLinks);
        }
        let had_none = inode.links == 0;
        if had_none {
            self.remove_orphan(&change, &mut inode).await?;
        }
        inode.links += 1;
        inode.changed = now;
        self.add_name(&change, &mut parent, name, number, kind).await?;
        (parent.modified, parent.changed) = (now, now);
        self.store(&change, &parent).await?;
        self.store(&change, &inode).await?;
        change.finish().await?;
        if had_none {
            self.orphans.borrow_mut().removed(number);
        }
        Ok(())
    }

    /// Takes a name from a file that is no directory.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], [`Error::NotFound`], [`Error::NotDirectory`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn unlink(&self, parent: u32, name: &[u8], now: Time) -> Result<Unlinked> {
        self.remove(parent, name, now, Removed::File).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::NotEmpty`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn rmdir(&self, parent: u32, name: &[u8], now: Time) -> Result<Unlinked> {
        self.remove(parent, name, now, Removed::Directory).await
    }

    async fn remove(&self, parent: u32, name: &[u8], now: Time, removed: Removed) -> Result<Unlinked> {
        check_name(name)?;
        let change = self.change(3 + ORPHAN_CREDITS).await?;
        let mut parent = self.load_directory(parent).await?;
        let spot = self.require_name(&parent, name).await?;
        let mut inode = self.load_named(&parent, spot.inode()).await?;
        match (removed, inode.is_directory()) {
            (Removed::File, true) => return Err(Error::IsDirectory),
            (Removed::Directory, false) => return Err(Error::NotDirectory),
            (Removed::File, false) => {}
            (Removed::Directory, true) => {
                self.require_empty(&inode).await?;
                self.uncount_subdirectory(&mut parent);
            }
        }
        self.remove_name(&change, &spot);
        let unlinked = self.drop_link(&change, &mut inode, now).await?;
        (parent.modified, parent.changed) = (now, now);
        self.store(&change, &parent).await?;
        change.finish().await?;
        self.note_unlinked(unlinked);
        Ok(unlinked)
    }

    /// What a name in a directory stands for: not the directory itself.
    pub(super) async fn load_named(&self, parent: &Inode, number: u32) -> Result<Inode> {
        let inode = if number == parent.number { Err(Error::NotFound) } else { self.load(number).await };
        match inode {
            Ok(inode) if inode.links > 0 => Ok(inode),
            // A name that stands for nothing is not the caller's mistake.
            Ok(_) | Err(Error::NotFound) => Err(Error::corrupt("name of a free inode", Place::Inode(number))),
            Err(error) => Err(error),
        }
    }

    /// Counts one name less, for a directory its only one, and stores the inode.
    pub(super) async fn drop_link(&self, change: &Change<'_, D>, inode: &mut Inode, now: Time) -> Result<Unlinked> {
        inode.links = if inode.is_directory() { 0 } else { inode.links.saturating_sub(1) };
        inode.changed = now;
        if inode.links == 0 {
            self.add_orphan(change, inode).await?;
        }
        self.store(change, inode).await?;
        Ok(Unlinked { inode: inode.number, links: inode.links })
    }

    /// Follows a finished change that took a name.
    pub(super) fn note_unlinked(&self, unlinked: Unlinked) {
        if unlinked.links == 0 {
            self.orphans.borrow_mut().added(unlinked.inode);
        }
    }
}

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    File,
    Directory,
}
