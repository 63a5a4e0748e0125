//! The descriptor table of a process, which several processes can share (`clone` with `CLONE_FILES`).

use super::table::Slots;
use crate::errno::Errno;
use alloc::rc::Rc;
use core::cell::{Ref, RefCell, RefMut};

/// Descriptors and the open files that they name: [`Slots`], and who shares them.
#[derive(Debug, Default)]
pub struct FdTable(Rc<RefCell<Slots>>);

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy that names the same open files, for `fork`. Fails with `ENOMEM`.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let copy = self.0.borrow().try_clone()?;
        Ok(Self(Rc::new(RefCell::new(copy))))
    }

    /// The same table for another process.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Makes it a table of its own, with the same open files, if another process has it too. Fails with `ENOMEM`.
    pub fn unshare(&mut self) -> Result<(), Errno> {
        if self.is_shared() {
            *self = self.try_clone()?;
        }
        Ok(())
    }

    /// Whether another process has the same table.
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Whether it is the same table.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Its slots, to look at.
    pub fn slots(&self) -> Ref<'_, Slots> {
        self.0.borrow()
    }

    /// Its slots, to be changed.
    pub fn slots_mut(&self) -> RefMut<'_, Slots> {
        self.0.borrow_mut()
    }
}
