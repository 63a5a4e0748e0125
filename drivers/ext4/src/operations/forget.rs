//! The end of a file: without a name, and without anybody who has it open.

use crate::Ext4;
use crate::allocation::{INODE_CREDITS, RUN_CREDITS};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::inode::{MAP_BYTES, Time};
use crate::map::Progress;
use crate::orphans::ORPHAN_CREDITS;

/// Blocks that freeing an inode may touch beside those of its contents: the inode, its attributes, the list.
const END_CREDITS: u32 = 2 + RUN_CREDITS + INODE_CREDITS + ORPHAN_CREDITS;

impl<D: Device> Ext4<D> {
    /// Frees a file that has no name, and that nobody has open any more.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it has a name. [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`], [`Error::ReadOnly`].
    pub async fn forget(&self, number: u32, now: Time) -> Result<()> {
        let turn = self.changes().await;
        loop {
            let inode = self.load(number).await?;
            if inode.links > 0 || !self.orphans.borrow().contains(number) {
                return Err(Error::Invalid);
            }
            let change = self.next_change(&turn, END_CREDITS + self.cut_credits(&inode)).await?;
            let mut inode = inode;
            let has_map = inode.has_map();
            let progress = if has_map { self.cut(&change, &mut inode, 0, u32::MAX - 1).await? } else { Progress::Done };
            if progress == Progress::More {
                self.store(&change, &inode).await?;
                change.finish().await?;
                continue;
            }
            self.drop_attributes(&change, &mut inode).await?;
            self.remove_orphan(&change, &mut inode).await?;
            self.free_inode(&change, number, inode.is_directory()).await?;
            inode.mode = 0;
            (inode.size, inode.sectors, inode.flags) = (0, 0, 0);
            inode.map = [0; MAP_BYTES];
            inode.deleted = now.seconds.clamp(1, i64::from(u32::MAX)) as u32;
            self.store(&change, &inode).await?;
            change.finish().await?;
            self.orphans.borrow_mut().removed(number);
            return Ok(());
        }
    }
}
