//! Files without a name that are still there, because they are open or because their end has been begun: a list on the disk,
//! from the superblock through the inodes, so that a mount after a power cut can finish with them.

mod file;

use crate::Ext4;
use crate::bytes::u32_at;
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::Inode;
use crate::superblock::field;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The list as it is on the disk with all finished changes. A change alters the disk's; the list follows when it is finished.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// The first one; 0 for none.
    first: u32,
    /// Those before and after each one; 0 for none.
    links: BTreeMap<u32, (u32, u32)>,
}

impl Orphans {
    fn from_list(list: &[u32]) -> Self {
        let mut orphans = Self::default();
        list.iter().rev().for_each(|inode| orphans.added(*inode));
        orphans
    }

    /// One was added, in front of all others.
    pub(crate) fn added(&mut self, inode: u32) {
        let next = self.first;
        if let Some(links) = self.links.get_mut(&next) {
            links.0 = inode;
        }
        self.links.insert(inode, (0, next));
        self.first = inode;
    }

    /// One was removed.
    pub(crate) fn removed(&mut self, inode: u32) {
        let Some((before, next)) = self.links.remove(&inode) else { return };
        match self.links.get_mut(&before) {
            Some(links) => links.1 = next,
            None => self.first = next,
        }
        if let Some(links) = self.links.get_mut(&next) {
            links.0 = before;
        }
    }

    /// Whether one is on the list.
    pub(crate) fn contains(&self, inode: u32) -> bool {
        self.links.contains_key(&inode)
    }

    /// All of them, the first one first.
    pub(crate) fn all(&self) -> Vec<u32> {
        let mut all = Vec::new();
        let mut at = self.first;
        while let Some((_, next)) = self.links.get(&at) {
            all.push(at);
            at = *next;
        }
        all
    }
}

/// Blocks that adding to or removing from the list may touch beside the inode: the one before it. The superblock is counted.
pub(crate) const ORPHAN_CREDITS: u32 = 1;

impl<D: Device> Ext4<D> {
    /// Puts an inode on the disk's list; it is to be stored, and when the change is finished the list is to be told.
    pub(crate) async fn add_orphan(&self, change: &Change<'_, D>, inode: &mut Inode) -> Result<()> {
        inode.deleted = self.orphans.borrow().first;
        change.edit_superblock(field::LAST_ORPHAN, |_| inode.number).await
    }

    /// Takes an inode from the disk's list; it is to be stored, and when the change is finished the list is to be told.
    pub(crate) async fn remove_orphan(&self, change: &Change<'_, D>, inode: &mut Inode) -> Result<()> {
        let links = self.orphans.borrow().links.get(&inode.number).copied();
        let Some((before, next)) = links else { return Ok(()) };
        inode.deleted = 0;
        if before == 0 {
            return change.edit_superblock(field::LAST_ORPHAN, |_| next).await;
        }
        let mut before = self.load(before).await?;
        before.deleted = next;
        self.store(change, &before).await
    }

    /// Reads the list from the disk, to which what is in the file of orphans is added.
    pub(crate) async fn load_orphans(&self) -> Result<()> {
        let at = self.superblock.place().1;
        let mut next = self.superblock_block().await?.read(|bytes| u32_at(bytes, at + field::LAST_ORPHAN));
        let mut list: Vec<u32> = Vec::new();
        let mut known = BTreeMap::new();
        while next != 0 {
            let twice = known.insert(next, ()).is_some();
            if twice || next < self.superblock.first_inode {
                return Err(Error::corrupt("list of orphans", Place::Inode(next)));
            }
            list.push(next);
            next = self.load(next).await?.deleted;
        }
        *self.orphans.borrow_mut() = Orphans::from_list(&list);
        self.empty_orphan_file().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_keeps_its_order() {
        let mut orphans = Orphans::from_list(&[3, 2, 1]);
        assert_eq!(orphans.all(), [3, 2, 1]);
        orphans.added(4);
        orphans.removed(2);
        assert_eq!(orphans.all(), [4, 3, 1]);
        orphans.removed(4);
        orphans.removed(1);
        assert_eq!(orphans.all(), [3]);
        orphans.removed(3);
        assert!(orphans.all().is_empty() && !orphans.contains(3));
    }
}
