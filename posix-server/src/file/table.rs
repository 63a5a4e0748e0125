//! The slots of a descriptor table.
//!
//! Finding the lowest free descriptor is what `open` and `dup` promise and what makes a naive table slow: a bitmap of the
//! used ones, with a hint below which all are used, finds it in a step or two also with ten thousand open.
//!
//! Closing a file may wake others, end a terminal's session and more. Therefore no method here drops a file: what leaves the
//! table is returned, and the caller drops it when the table is no longer borrowed.

use super::OpenFile;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::Errno;
use crate::process::Pid;
use crate::shared::{SharedFiles, Sharing};
use crate::vm::{FILE_TABLE, Vm};
use alloc::rc::Rc;
use alloc::vec::Vec;
use posix_protocol::files::DESCRIPTORS;

/// Whether a descriptor is closed by a successful `execve` (`FD_CLOEXEC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed.
    Close,
}

#[derive(Clone)]
struct Slot {
    file: Rc<OpenFile>,
    on_exec: OnExec,
}

const WORD_BITS: usize = u64::BITS as usize;

/// What a descriptor takes of the server's memory, about, in bytes.
const SLOT_BYTES: u64 = 24;

/// Descriptors and the open files that they name; [`FdTable`](super::FdTable) is how processes have them.
pub struct Slots {
    slots: Vec<Option<Slot>>,
    /// Bit set: the descriptor is used. As long as `slots`, rounded up.
    used: Vec<u64>,
    /// No word before this one has a clear bit.
    first_word_with_room: usize,
    /// Those that the process serves itself.
    shared: Option<Rc<SharedFiles>>,
    /// Pays for the slots.
    charge: Charge,
    _alive: crate::census::counted::Descriptors,
}

impl core::fmt::Debug for Slots {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.descriptors()).finish()
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl Slots {
    /// An empty table.
    pub fn new() -> Self {
        let charge = Charge::none(Budget::Open);
        let _alive = Default::default();
        Self { slots: Vec::new(), used: Vec::new(), first_word_with_room: 0, shared: None, charge, _alive }
    }

    /// A copy that names the same open files, for `fork`. Fails with `ENOMEM`.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let mut copy = Self::new();
        copy.charge.resize(self.slots.len() as u64 * SLOT_BYTES)?;
        copy.slots.try_reserve_exact(self.slots.len()).map_err(|_| Errno::ENOMEM)?;
        copy.used.try_reserve_exact(self.used.len()).map_err(|_| Errno::ENOMEM)?;
        copy.slots.extend(self.slots.iter().cloned());
        copy.used.extend_from_slice(&self.used);
        copy.first_word_with_room = self.first_word_with_room;
        Ok(copy)
    }

    fn slot(&self, fd: i32) -> Result<&Slot, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots.get(index).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// The open file that a descriptor names, or `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        self.slot(fd).map(|slot| slot.file.clone())
    }

    /// What happens to a descriptor at `execve`, or `EBADF`.
    pub fn on_exec(&self, fd: i32) -> Result<OnExec, Errno> {
        self.slot(fd).map(|slot| slot.on_exec)
    }

    /// Changes what happens to a descriptor at `execve`.
    pub fn set_on_exec(&mut self, fd: i32, on_exec: OnExec) -> Result<(), Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?.on_exec = on_exec;
        Ok(())
    }

    /// The lowest free descriptor that is not below `minimum`.
    fn lowest_free(&self, minimum: usize) -> usize {
        let mut word = (minimum / WORD_BITS).max(self.first_word_with_room);
        let mut below = if word == minimum / WORD_BITS { (1 << (minimum % WORD_BITS)) - 1 } else { 0 };
        while let Some(bits) = self.used.get(word) {
            let taken = bits | below;
            if taken != u64::MAX {
                return word * WORD_BITS + taken.trailing_ones() as usize;
            }
            below = 0;
            word += 1;
        }
        minimum.max(word * WORD_BITS)
    }

    fn grow(&mut self, slots: usize) -> Result<(), Errno> {
        if slots <= self.slots.len() {
            return Ok(());
        }
        let words = slots.div_ceil(WORD_BITS);
        self.charge.resize(slots as u64 * SLOT_BYTES)?;
        self.slots.try_reserve(slots - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
        self.used.try_reserve(words.saturating_sub(self.used.len())).map_err(|_| Errno::ENOMEM)?;
        self.slots.resize_with(slots, || None);
        self.used.resize(words.max(self.used.len()), 0);
        Ok(())
    }

    fn fill(&mut self, index: usize, slot: Slot) -> Option<Rc<OpenFile>> {
        if let Some(word) = self.used.get_mut(index / WORD_BITS) {
            *word |= 1 << (index % WORD_BITS);
        }
        while self.used.get(self.first_word_with_room) == Some(&u64::MAX) {
            self.first_word_with_room += 1;
        }
        if let Some(shared) = &self.shared {
            shared.forget(index);
        }
        let place = self.slots.get_mut(index)?;
        place.replace(slot).map(|old| old.file)
    }

    fn clear(&mut self, index: usize) -> Option<Rc<OpenFile>> {
        let slot = self.slots.get_mut(index)?.take()?;
        if let Some(shared) = &self.shared {
            shared.forget(index);
        }
        let word = index / WORD_BITS;
        if let Some(bits) = self.used.get_mut(word) {
            *bits &= !(1 << (index % WORD_BITS));
        }
        self.first_word_with_room = self.first_word_with_room.min(word);
        Some(slot.file)
    }

    /// Where a space has the table of the files that the process serves itself; 0 if it has none.
    pub fn shared_table(&self, vm: &Rc<Vm>) -> u64 {
        self.shared.as_ref().filter(|shared| shared.is_of(vm)).map_or(0, |_| FILE_TABLE)
    }

    /// The files that the process serves itself, if it does.
    pub fn shared_files(&self) -> Option<Rc<SharedFiles>> {
        self.shared.clone()
    }

    /// Lets a process serve a file itself that one of its descriptors names. `EBUSY` if another space has the table of files
    /// already; the errors of [`SharedFiles`].
    pub fn let_serve(
        &mut self,
        fd: i32,
        file: &Rc<OpenFile>,
        kind: Sharing,
        vm: &Rc<Vm>,
        owner: Pid,
    ) -> Result<(), Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let shared = match &self.shared {
            Some(shared) if shared.is_of(vm) => shared.clone(),
            // What this table loses, the other space would go on using.
            Some(shared) if shared.has_space() => return Err(Errno::EBUSY),
            Some(_) | None => SharedFiles::new(vm, owner)?,
        };
        self.shared = Some(shared.clone());
        if kind == Sharing::Pipe { self.let_serve_pipe(&shared, file) } else { shared.share(index, file, kind) }
    }

    /// The same for all descriptors of both ends of a pipe.
    fn let_serve_pipe(&self, shared: &Rc<SharedFiles>, file: &OpenFile) -> Result<(), Errno> {
        let pipe = file.ops().pipe().ok_or(Errno::EINVAL)?;
        let mut ends = Vec::new();
        for (index, slot) in self.slots.iter().enumerate().take(DESCRIPTORS) {
            let Some(slot) = slot else { continue };
            if slot.file.ops().pipe().is_some_and(|other| core::ptr::eq(other, pipe)) {
                ends.push((index, slot.file.clone()));
            }
        }
        shared.share_pipe(pipe, &ends)
    }

    /// Whether a new descriptor can be had: `EMFILE` if all below `limit` are used.
    pub fn check_room(&self, limit: u64) -> Result<(), Errno> {
        if self.lowest_free(0) as u64 >= limit { Err(Errno::EMFILE) } else { Ok(()) }
    }

    /// Gives a file the lowest free descriptor not below `minimum`. `EMFILE` if that is `limit` (`RLIMIT_NOFILE`) or more.
    pub fn insert(&mut self, file: Rc<OpenFile>, minimum: u32, on_exec: OnExec, limit: u64) -> Result<i32, Errno> {
        let index = self.lowest_free(minimum as usize);
        let fd = i32::try_from(index).map_err(|_| Errno::EMFILE)?;
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        self.grow(index + 1)?;
        self.fill(index, Slot { file, on_exec });
        Ok(fd)
    }

    /// Gives a file this descriptor (`dup2`); returns the file that had it before. `EBADF` if it is `limit` or more.
    pub fn replace(
        &mut self,
        fd: i32,
        file: Rc<OpenFile>,
        on_exec: OnExec,
        limit: u64,
    ) -> Result<Option<Rc<OpenFile>>, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        self.grow(index + 1)?;
        Ok(self.fill(index, Slot { file, on_exec }))
    }

    /// Frees a descriptor and returns its file, or `EBADF`.
    pub fn remove(&mut self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        usize::try_from(fd).ok().and_then(|index| self.clear(index)).ok_or(Errno::EBADF)
    }

    /// The descriptors in `first..=last`, ascending.
    pub fn range(&self, first: u32, last: u32) -> impl Iterator<Item = i32> + '_ {
        let end = (last as usize).saturating_add(1).min(self.slots.len());
        let start = (first as usize).min(end);
        (start..end).filter(|index| self.slots.get(*index).is_some_and(Option::is_some)).map(|index| index as i32)
    }

    /// All descriptors, ascending.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.range(0, u32::MAX)
    }

    /// All open files that have a descriptor; once for each.
    pub fn files(&self) -> impl Iterator<Item = &Rc<OpenFile>> {
        self.slots.iter().flatten().map(|slot| &slot.file)
    }

    /// Frees those in `first..=last` and returns their files.
    pub fn remove_range(&mut self, first: u32, last: u32) -> Vec<Rc<OpenFile>> {
        let open: Vec<i32> = self.range(first, last).collect();
        open.into_iter().filter_map(|fd| self.remove(fd).ok()).collect()
    }

    /// Frees those that `execve` closes and returns their files.
    pub fn remove_on_exec(&mut self) -> Vec<Rc<OpenFile>> {
        let closing: Vec<i32> = self.descriptors().filter(|fd| self.on_exec(*fd) == Ok(OnExec::Close)).collect();
        closing.into_iter().filter_map(|fd| self.remove(fd).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::file::tests::null_file;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMIT: u64 = 200;

    fn insert(table: &mut Slots) -> Result<i32, Errno> {
        table.insert(null_file(), 0, OnExec::Keep, LIMIT)
    }

    #[test]
    fn the_lowest_free_descriptor_is_given() {
        let mut table = Slots::new();
        assert_eq!((insert(&mut table), insert(&mut table), insert(&mut table)), (Ok(0), Ok(1), Ok(2)));
        table.remove(1).unwrap();
        assert_eq!(insert(&mut table), Ok(1));
        assert_eq!(insert(&mut table), Ok(3));
    }

    #[test]
    fn a_full_table_is_emfile_and_a_descriptor_past_the_limit_ebadf() {
        let mut table = Slots::new();
        (0..LIMIT).for_each(|fd| assert_eq!(insert(&mut table), Ok(fd as i32)));
        assert_eq!(insert(&mut table), Err(Errno::EMFILE));
        assert_eq!(table.check_room(LIMIT), Err(Errno::EMFILE));
        assert!(table.replace(LIMIT as i32, null_file(), OnExec::Keep, LIMIT).is_err());
        assert!(table.replace(-1, null_file(), OnExec::Keep, LIMIT).is_err());
    }

    #[test]
    fn only_marked_descriptors_are_closed_on_exec() {
        let mut table = Slots::new();
        insert(&mut table).unwrap();
        table.insert(null_file(), 0, OnExec::Close, LIMIT).unwrap();
        assert_eq!(table.remove_on_exec().len(), 1);
        assert_eq!(table.descriptors().collect::<Vec<_>>(), [0]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Remove(i32),
        Replace(i32),
        RemoveRange(u32, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u32..150).prop_map(Step::Insert),
            4 => (-1i32..210).prop_map(Step::Remove),
            2 => (-1i32..210).prop_map(Step::Replace),
            1 => (0u32..210, 0u32..210).prop_map(|(first, last)| Step::RemoveRange(first, last)),
        ]
    }

    proptest! {
        #[test]
        fn the_table_behaves_like_a_map(steps in proptest::collection::vec(step(), 0..300)) {
            let mut table = Slots::new();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(minimum) => {
                        let expected = (minimum as i32..LIMIT as i32).find(|fd| !model.contains_key(fd)).ok_or(Errno::EMFILE);
                        prop_assert_eq!(table.insert(null_file(), minimum, OnExec::Keep, LIMIT), expected);
                        if let Ok(fd) = expected { model.insert(fd, ()); }
                    }
                    Step::Remove(fd) => prop_assert_eq!(table.remove(fd).is_ok(), model.remove(&fd).is_some()),
                    Step::Replace(fd) => {
                        let replaced = table.replace(fd, null_file(), OnExec::Keep, LIMIT);
                        if (0..LIMIT as i32).contains(&fd) {
                            prop_assert_eq!(replaced.unwrap().is_some(), model.insert(fd, ()).is_some());
                        } else {
                            prop_assert!(replaced.is_err());
                        }
                    }
                    Step::RemoveRange(first, last) => {
                        table.remove_range(first, last);
                        model.retain(|fd, ()| !(first..=last).contains(&(*fd as u32)));
                    }
                }
                prop_assert_eq!(table.descriptors().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
