//! The descriptor table of a process, which several processes can share (`clone` with `CLONE_FILES`).

use super::OpenFile;
use super::table::{OnExec, Slots};
use crate::errno::Errno;
use crate::process::Pid;
use crate::shared::{SharedFiles, Sharing};
use crate::vm::Vm;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Descriptors and the open files that they name. The methods are those of [`Slots`].
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

    /// The open file that a descriptor names, or `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        self.0.borrow().get(fd)
    }

    /// What happens to a descriptor at `execve`, or `EBADF`.
    pub fn on_exec(&self, fd: i32) -> Result<OnExec, Errno> {
        self.0.borrow().on_exec(fd)
    }

    /// Changes what happens to a descriptor at `execve`.
    pub fn set_on_exec(&mut self, fd: i32, on_exec: OnExec) -> Result<(), Errno> {
        self.0.borrow_mut().set_on_exec(fd, on_exec)
    }

    /// Whether a new descriptor can be had: `EMFILE` if all below `limit` are used.
    pub fn check_room(&self, limit: u64) -> Result<(), Errno> {
        self.0.borrow().check_room(limit)
    }

    /// Gives a file the lowest free descriptor not below `minimum`. `EMFILE` if that is `limit` (`RLIMIT_NOFILE`) or more.
    pub fn insert(&mut self, file: Rc<OpenFile>, minimum: u32, on_exec: OnExec, limit: u64) -> Result<i32, Errno> {
        self.0.borrow_mut().insert(file, minimum, on_exec, limit)
    }

    /// Gives a file this descriptor (`dup2`); returns the file that had it before. `EBADF` if it is `limit` or more.
    pub fn replace(
        &mut self,
        fd: i32,
        file: Rc<OpenFile>,
        on_exec: OnExec,
        limit: u64,
    ) -> Result<Option<Rc<OpenFile>>, Errno> {
        self.0.borrow_mut().replace(fd, file, on_exec, limit)
    }

    /// Where a space has the table of the files that the process serves itself; 0 if it has none.
    pub fn shared_table(&self, vm: &Rc<Vm>) -> u64 {
        self.0.borrow().shared_table(vm)
    }

    /// The files that the process serves itself, if it does.
    pub fn shared_files(&self) -> Option<Rc<SharedFiles>> {
        self.0.borrow().shared_files()
    }

    /// Lets a process serve a file itself.
    pub fn let_serve(
        &mut self,
        fd: i32,
        file: &Rc<OpenFile>,
        kind: Sharing,
        vm: &Rc<Vm>,
        owner: Pid,
    ) -> Result<(), Errno> {
        self.0.borrow_mut().let_serve(fd, file, kind, vm, owner)
    }

    /// Frees a descriptor and returns its file, or `EBADF`.
    pub fn remove(&mut self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        self.0.borrow_mut().remove(fd)
    }

    /// The descriptors in `first..=last`, ascending.
    pub fn range(&self, first: u32, last: u32) -> impl Iterator<Item = i32> + use<> {
        self.0.borrow().range(first, last).collect::<Vec<_>>().into_iter()
    }

    /// All descriptors, ascending.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + use<> {
        self.range(0, u32::MAX)
    }

    /// Frees those in `first..=last` and returns their files.
    pub fn remove_range(&mut self, first: u32, last: u32) -> Vec<Rc<OpenFile>> {
        self.0.borrow_mut().remove_range(first, last)
    }

    /// Frees those that `execve` closes and returns their files.
    pub fn remove_on_exec(&mut self) -> Vec<Rc<OpenFile>> {
        self.0.borrow_mut().remove_on_exec()
    }
}
