//! Renaming: to a free name, over another file, and exchanging two.

use super::Unlinked;
use crate::change::Change;
use crate::device::Device;
use crate::directory::{Spot, check_name};
use crate::error::{Error, Place, Result};
use crate::inode::{FileKind, Inode, Time};
use crate::orphans::ORPHAN_CREDITS;
use crate::{Ext4, ROOT};

/// Directories above each other; more are a circle.
const MOST_DEPTH: u32 = 65_536;

/// What happens to a file that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// It loses the name.
    Replace,
    /// It stays, and that is an error.
    NoReplace,
    /// It gets the old name.
    Exchange,
}

/// The two directories of a renaming, which may be the same.
struct Directories {
    from: Inode,
    to: Option<Inode>,
}

impl Directories {
    fn to(&mut self) -> &mut Inode {
        self.to.as_mut().unwrap_or(&mut self.from)
    }

    fn to_number(&self) -> u32 {
        self.to.as_ref().unwrap_or(&self.from).number
    }

    fn differ(&self) -> bool {
        self.to.is_some()
    }
}

impl<D: Device> Ext4<D> {
    /// Renames a file of any kind, to another directory or within one. Tells which file lost its name, if one did.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Exists`]: the new name, with [`Rename::NoReplace`]; [`Error::NotEmpty`],
    /// [`Error::IsDirectory`], [`Error::NotDirectory`]: what has the new name; [`Error::Invalid`]: a directory below itself;
    /// [`Error::BadName`], [`Error::TooManyLinks`], [`Error::Full`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn rename(
        &self,
        from: (u32, &[u8]),
        to: (u32, &[u8]),
        how: Rename,
        now: Time,
    ) -> Result<Option<Unlinked>> {
        check_name(from.1)?;
        check_name(to.1)?;
        let turn = self.changes().await;
        let mut directories = Directories {
            from: self.load_directory(from.0).await?,
            to: if from.0 == to.0 { None } else { Some(self.load_directory(to.0).await?) },
        };
        // The directories, the entries in them, the two files, and their `..`.
        let credits = 8 + ORPHAN_CREDITS + self.add_credits(directories.to());
        let change = self.next_change(&turn, credits).await?;
        let spot = self.require_name(&directories.from, from.1).await?;
        let moved = self.load_named(&directories.from, spot.inode()).await?;
        let taken = self.find_name(directories.to(), to.1).await?;
        let unlinked = match (how, taken) {
            (Rename::NoReplace, Some(_)) => return Err(Error::Exists),
            (Rename::Exchange, None) => return Err(Error::NotFound),
            (_, Some(taken)) if taken.inode() == moved.number => return Ok(None),
            (Rename::Exchange, Some(taken)) => {
                let other = self.load_named(directories.to(), taken.inode()).await?;
                self.exchange(&change, &mut directories, (spot, moved), (taken, other), now).await?;
                None
            }
            (Rename::Replace, Some(taken)) => {
                let other = self.load_named(directories.to(), taken.inode()).await?;
                Some(self.replace(&change, &mut directories, (spot, moved), (taken, other), now).await?)
            }
            (Rename::Replace | Rename::NoReplace, None) => {
                self.move_name(&change, &mut directories, (spot, moved), to.1, now).await?;
                None
            }
        };
        for directory in [Some(&mut directories.from), directories.to.as_mut()].into_iter().flatten() {
            (directory.modified, directory.changed) = (now, now);
            self.store(&change, directory).await?;
        }
        change.finish().await?;
        if let Some(unlinked) = unlinked {
            self.note_unlinked(unlinked);
        }
        Ok(unlinked)
    }

    /// Moves a name to where there is none.
    async fn move_name(
        &self,
        change: &Change<'_, D>,
        directories: &mut Directories,
        (spot, moved): (Spot, Inode),
        name: &[u8],
        now: Time,
    ) -> Result<()> {
        self.remove_name(change, &spot);
        if moved.is_directory() && directories.differ() {
            self.require_outside(&moved, directories.to_number()).await?;
            self.uncount_subdirectory(&mut directories.from);
            self.count_subdirectory(directories.to())?;
        }
        let kind = moved.kind().ok_or(Error::NotFound)?;
        self.add_name(change, directories.to(), name, moved.number, kind).await?;
        self.follow(change, directories, moved, now).await
    }

    /// Moves a name to one that another file loses.
    async fn replace(
        &self,
        change: &Change<'_, D>,
        directories: &mut Directories,
        (spot, moved): (Spot, Inode),
        (taken, mut other): (Spot, Inode),
        now: Time,
    ) -> Result<Unlinked> {
        match (moved.is_directory(), other.is_directory()) {
            (true, false) => return Err(Error::NotDirectory),
            (false, true) => return Err(Error::IsDirectory),
            (false, false) => {}
            (true, true) => {
                self.require_empty(&other).await?;
                if directories.differ() {
                    self.require_outside(&moved, directories.to_number()).await?;
                }
                self.uncount_subdirectory(&mut directories.from);
            }
        }
        let kind = moved.kind().ok_or(Error::NotFound)?;
        self.replace_name(change, &taken, moved.number, kind);
        self.remove_name(change, &spot);
        let unlinked = self.drop_link(change, &mut other, now).await?;
        self.follow(change, directories, moved, now).await?;
        Ok(unlinked)
    }

    /// Lets two names change what they stand for.
    async fn exchange(
        &self,
        change: &Change<'_, D>,
        directories: &mut Directories,
        (spot, moved): (Spot, Inode),
        (taken, other): (Spot, Inode),
        now: Time,
    ) -> Result<()> {
        let (kind, other_kind) = (moved.kind().ok_or(Error::NotFound)?, other.kind().ok_or(Error::NotFound)?);
        if directories.differ() {
            if moved.is_directory() {
                self.require_outside(&moved, directories.to_number()).await?;
            }
            if other.is_directory() {
                self.require_outside(&other, directories.from.number).await?;
            }
            if moved.is_directory() && !other.is_directory() {
                self.uncount_subdirectory(&mut directories.from);
                self.count_subdirectory(directories.to())?;
            }
            if other.is_directory() && !moved.is_directory() {
                self.uncount_subdirectory(directories.to());
                self.count_subdirectory(&mut directories.from)?;
            }
        }
        self.replace_name(change, &spot, other.number, other_kind);
        self.replace_name(change, &taken, moved.number, kind);
        self.set_parent(change, &other, directories, directories.from.number).await?;
        let mut other = other;
        other.changed = now;
        self.store(change, &other).await?;
        self.follow(change, directories, moved, now).await
    }

    /// Finishes with a file that has moved: its parent, its time.
    async fn follow(
        &self,
        change: &Change<'_, D>,
        directories: &Directories,
        mut moved: Inode,
        now: Time,
    ) -> Result<()> {
        self.set_parent(change, &moved, directories, directories.to_number()).await?;
        moved.changed = now;
        self.store(change, &moved).await
    }

    /// Lets the `..` of a directory that changes its parent stand for the new one.
    async fn set_parent(
        &self,
        change: &Change<'_, D>,
        inode: &Inode,
        directories: &Directories,
        parent: u32,
    ) -> Result<()> {
        if inode.is_directory() && directories.differ() {
            let spot = self.require_name(inode, b"..").await?;
            self.replace_name(change, &spot, parent, FileKind::Directory);
        }
        Ok(())
    }

    /// Fails if `below` is a directory or one of those that lie in it.
    async fn require_outside(&self, directory: &Inode, below: u32) -> Result<()> {
        let mut at = below;
        for _ in 0..MOST_DEPTH {
            if at == directory.number {
                return Err(Error::Invalid);
            }
            if at == ROOT {
                return Ok(());
            }
            let inode = self.load(at).await?;
            at = self.require_name(&inode, b"..").await?.inode();
        }
        Err(Error::corrupt("directories in a circle", Place::Inode(below)))
    }
}
