//! Files that are longer than the disk knows: what was appended was not written yet.
//!
//! The client says how long a file is before its pages come; the disk hears of it together with the blocks that have the data. So a file
//! never has a length without its bytes after a power cut, and what a dead server knew of this its client tells the successor again.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

/// Lengths in bytes, by inode.
#[derive(Debug, Default)]
pub(super) struct Growth(RefCell<BTreeMap<u64, u64>>);

impl Growth {
    /// How long a file is, of which the disk has so much.
    pub(super) fn length(&self, inode: u64, stored: u64) -> u64 {
        self.0.borrow().get(&inode).map_or(stored, |length| stored.max(*length))
    }

    /// A file is at least so long, of which the disk has so much.
    pub(super) fn grown(&self, inode: u64, length: u64, stored: u64) {
        let length = self.length(inode, stored).max(length);
        if length > stored {
            self.0.borrow_mut().insert(inode, length);
        }
    }

    /// The disk has so much of a file.
    pub(super) fn stored(&self, inode: u64, stored: u64) {
        let mut lengths = self.0.borrow_mut();
        if lengths.get(&inode).is_some_and(|length| *length <= stored) {
            lengths.remove(&inode);
        }
    }

    /// What the disk has of a file is all of it; gives what it was thought to be.
    pub(super) fn forget(&self, inode: u64) -> Option<u64> {
        self.0.borrow_mut().remove(&inode)
    }

    /// All files, and their lengths.
    pub(super) fn take(&self) -> BTreeMap<u64, u64> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_until_the_disk_has_all_of_it() {
        let growth = Growth::default();
        growth.grown(5, 100, 100);
        assert_eq!(growth.length(5, 100), 100);
        growth.grown(5, 300, 100);
        growth.grown(5, 200, 100);
        growth.stored(5, 200);
        assert_eq!(growth.length(5, 200), 300);
        growth.stored(5, 300);
        assert_eq!((growth.length(5, 10), growth.forget(5)), (10, None));
    }
}
