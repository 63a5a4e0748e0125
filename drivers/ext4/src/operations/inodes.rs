//! What is known of a file beside its names and its contents.

use crate::Ext4;
use crate::buffers::Kind;
use crate::bytes::slice;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::{FileKind, Inode, Time};
use crate::superblock::{field, read_only_compatible};
use alloc::vec::Vec;

/// Bytes above which a file needs a feature to be noted.
const LARGE: u64 = 1 << 31;
/// The bits of a mode that can be changed.
const PERMISSIONS: u16 = 0o7777;

/// What of an inode shall change; none for what stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// Permissions; the kind stays.
    pub mode: Option<u16>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Bytes of a regular file. Only the number: blocks beyond stay, and belong to the file if it grows again.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<Time>,
    /// Last change of the contents.
    pub modified: Option<Time>,
    /// Last change of the inode.
    pub changed: Option<Time>,
    /// Flags, as far as they can be chosen: immutable, append only, and so on.
    pub flags: Option<u32>,
}

/// Flags that can be chosen: those of `chattr` that don't change how the file is stored.
const CHOSEN_FLAGS: u32 = 0x0003_00F8;

impl<D: Device> Ext4<D> {
    /// What an inode says.
    ///
    /// # Errors
    /// [`Error::NotFound`]: it is not in use. [`Error::Corrupt`], [`Error::Device`].
    pub async fn inode(&self, number: u32) -> Result<Inode> {
        let _guard = self.lock.shared().await;
        self.load(number).await
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none. [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`].
    pub async fn read_link(&self, number: u32) -> Result<Vec<u8>> {
        let _guard = self.lock.shared().await;
        let inode = self.load(number).await?;
        if inode.kind() != Some(FileKind::Symlink) {
            return Err(Error::Invalid);
        }
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if inode.is_short_symlink() {
            return Ok(slice(&inode.map, 0, size).into());
        }
        let corrupt = || Error::corrupt("symbolic link", Place::Inode(number));
        let block = self.block_of(&inode, 0).await?.filter(|_| size <= self.superblock.block_bytes as usize);
        let block = self.buffers.get(block.ok_or_else(corrupt)?, Kind::Plain, |_| Ok(())).await?;
        Ok(block.read(|bytes| slice(bytes, 0, size).into()))
    }

    /// Changes what an inode says. Sizes are only numbers here: see [`truncate`](Ext4::truncate) for one that shrinks.
    ///
    /// # Errors
    /// [`Error::FileTooBig`]; [`Error::Invalid`]: a size of what is no regular file. [`Error::NotFound`],
    /// [`Error::Corrupt`], [`Error::Device`], [`Error::ReadOnly`].
    pub async fn set_attributes(&self, number: u32, wanted: Attributes) -> Result<()> {
        let change = self.change(1).await?;
        let mut inode = self.load(number).await?;
        if let Some(size) = wanted.size {
            self.set_size(&change, &mut inode, size).await?;
        }
        if let Some(mode) = wanted.mode {
            inode.mode = inode.mode & !PERMISSIONS | mode & PERMISSIONS;
        }
        if let Some(flags) = wanted.flags {
            inode.flags = inode.flags & !CHOSEN_FLAGS | flags & CHOSEN_FLAGS;
        }
        inode.uid = wanted.uid.unwrap_or(inode.uid);
        inode.gid = wanted.gid.unwrap_or(inode.gid);
        inode.accessed = wanted.accessed.unwrap_or(inode.accessed);
        inode.modified = wanted.modified.unwrap_or(inode.modified);
        inode.changed = wanted.changed.unwrap_or(inode.changed);
        self.store(&change, &inode).await?;
        change.finish().await?;
        Ok(())
    }

    /// Sets the size of a regular file. The inode is to be stored.
    pub(super) async fn set_size(&self, change: &Change<'_, D>, inode: &mut Inode, size: u64) -> Result<()> {
        if inode.kind() != Some(FileKind::Regular) {
            return Err(Error::Invalid);
        }
        if size > self.most_blocks(inode) * u64::from(self.superblock.block_bytes) {
            return Err(Error::FileTooBig);
        }
        if size >= LARGE && !self.superblock.features.writes(read_only_compatible::LARGE_FILE) {
            let note = |features| features | read_only_compatible::LARGE_FILE;
            change.edit_superblock(field::READ_ONLY_COMPATIBLE, note).await?;
        }
        inode.size = size;
        Ok(())
    }
}
