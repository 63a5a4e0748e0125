//! Keys, ids and permissions, which all kinds of System V objects share.

use crate::cred::{Credentials, Gid, Uid};
use crate::errno::{Errno, Result};
use crate::platform;
use crate::wait::WaitQueue;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The key of an object without one.
pub(super) const PRIVATE: i32 = 0;
/// `IPC_CREAT`: make it if it is not there.
pub(super) const CREATE: u32 = 0o1000;
/// `IPC_EXCL`: it must not be there.
pub(super) const EXCLUSIVE: u32 = 0o2000;
/// Permission bits.
const MODE_BITS: u32 = 0o777;
/// Ids are an index below this, and a sequence number above (`IPCMNI` of Linux).
const INDEXES: i32 = 32768;

/// `struct ipc64_perm`, and what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Permissions {
    key: i32,
    /// The owner.
    pub uid: Uid,
    /// The owner's group.
    pub gid: Gid,
    creator_uid: Uid,
    creator_gid: Gid,
    mode: u32,
    sequence: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}

impl Permissions {
    fn new(key: i32, flags: u32, maker: &Credentials) -> Self {
        let (uid, gid) = (maker.euid, maker.egid);
        let mode = flags & MODE_BITS;
        Self { key, uid, gid, creator_uid: uid, creator_gid: gid, mode, sequence: 0, padding: [0; 3], unused: [0; 2] }
    }

    /// `EACCES` unless all the bits of `wanted` (as in a mode, for any class) are granted.
    pub fn check(&self, who: &Credentials, wanted: u32) -> Result<()> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let granted = if who.euid == self.uid || who.euid == self.creator_uid {
            self.mode >> 6
        } else if who.is_effectively_in_group(self.gid) || who.is_effectively_in_group(self.creator_gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted == 0 || who.is_privileged() { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// `EPERM` unless somebody may change or remove the object.
    pub fn check_owner(&self, who: &Credentials) -> Result<()> {
        let owns = who.euid == self.uid || who.euid == self.creator_uid;
        if owns || who.is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// What it is found by; 0 if by nothing.
    pub const fn key(&self) -> i32 {
        self.key
    }

    /// The permission bits, with what else the mode shows.
    pub const fn mode(&self) -> u32 {
        self.mode
    }

    /// Who made it: user and group.
    pub const fn creator(&self) -> (Uid, Gid) {
        (self.creator_uid, self.creator_gid)
    }

    /// Whether the mode shows a bit above the permissions.
    pub const fn shows(&self, bit: u32) -> bool {
        self.mode & bit != 0
    }

    /// Has the mode show a bit above the permissions, or no more.
    pub fn show(&mut self, bit: u32, shown: Shown) {
        match shown {
            Shown::Yes => self.mode |= bit,
            Shown::No => self.mode &= !bit,
        }
    }

    /// Takes over what `IPC_SET` may change.
    pub fn change(&mut self, new: &Self) {
        (self.uid, self.gid) = (new.uid, new.gid);
        self.mode = self.mode & !MODE_BITS | new.mode & MODE_BITS;
    }
}

/// Whether a mode shows a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// When an object was changed, and what wakes who waits for that.
#[derive(Debug, Default)]
pub struct Changes {
    /// Woken when it changes, or is removed.
    pub queue: WaitQueue,
    /// Whether it has been removed.
    pub is_removed: Cell<bool>,
}

/// An object of one kind.
pub struct Object<T> {
    /// Its id.
    pub id: i32,
    /// Who may do what.
    pub permissions: RefCell<Permissions>,
    /// When it was made or its attributes were set, in seconds since 1970 began.
    pub changed_s: Cell<i64>,
    /// Wake-ups.
    pub changes: Changes,
    /// What it is.
    pub body: T,
    _alive: crate::census::counted::IpcObject,
}

impl<T> Object<T> {
    /// `EIDRM` if it has been removed.
    pub fn check_there(&self) -> Result<()> {
        if self.changes.is_removed.get() { Err(Errno::EIDRM) } else { Ok(()) }
    }

    /// Notes that its attributes have been set.
    pub fn touch(&self) {
        self.changed_s.set(now_s());
    }
}

/// Now, in seconds since 1970 began.
pub(super) fn now_s() -> i64 {
    const NS_PER_SECOND: u64 = 1_000_000_000;
    i64::try_from(platform::realtime_ns() / NS_PER_SECOND).unwrap_or(i64::MAX)
}

/// The objects of one kind.
pub struct Table<T> {
    by_index: BTreeMap<i32, Rc<Object<T>>>,
    by_key: BTreeMap<i32, i32>,
    /// Indexes that were in use, longest free first; and the first that never was. There are at most [`INDEXES`].
    free: VecDeque<i32>,
    first_unused: i32,
    sequence: u16,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let (by_index, by_key, free) = Default::default();
        Self { by_index, by_key, free, first_unused: 0, sequence: 0 }
    }
}

impl<T> Table<T> {
    /// All of them, by their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Object<T>>> {
        self.by_index.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// The object with an id. `EINVAL`, also for negative ones; `EIDRM` if another one has its index by now.
    pub fn get(&self, id: i32) -> Result<Rc<Object<T>>> {
        let index = if id < 0 { return Err(Errno::EINVAL) } else { id % INDEXES };
        let found = self.by_index.get(&index).ok_or(Errno::EINVAL)?;
        if found.id == id { Ok(found.clone()) } else { Err(Errno::EIDRM) }
    }

    /// The object at an index, as `MSG_STAT` and its kin count. `EINVAL`.
    pub fn at_index(&self, index: i32) -> Result<Rc<Object<T>>> {
        self.by_index.get(&index).cloned().ok_or(Errno::EINVAL)
    }

    /// The highest index in use; 0 if there is none.
    pub fn highest_index(&self) -> i32 {
        self.by_index.keys().next_back().copied().unwrap_or_default()
    }

    /// The object with a key, or a new one, as the flags say. One that does not fit is refused before permissions are looked at.
    /// `ENOENT`, `EEXIST`, `EACCES`, `ENOSPC` if there are `most`.
    pub fn find_or_make(
        &mut self,
        key: i32,
        flags: u32,
        who: &Credentials,
        most: usize,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Rc<Object<T>>> {
        if key != PRIVATE
            && let Some(found) = self.by_key.get(&key).and_then(|index| self.by_index.get(index))
        {
            if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE {
                return Err(Errno::EEXIST);
            }
            fits(&found.body)?;
            found.permissions.borrow().check(who, flags & MODE_BITS)?;
            return Ok(found.clone());
        }
        if key != PRIVATE && flags & CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        let body = make()?;
        if self.by_index.len() >= most {
            return Err(Errno::ENOSPC);
        }
        Ok(self.insert(Permissions::new(key, flags, who), body))
    }

    fn insert(&mut self, mut permissions: Permissions, body: T) -> Rc<Object<T>> {
        let index = self.take_index();
        let id = i32::from(self.sequence) * INDEXES + index;
        permissions.sequence = self.sequence;
        if permissions.key != PRIVATE {
            self.by_key.insert(permissions.key, index);
        }
        let object = Rc::new(Object {
            _alive: Default::default(),
            id,
            permissions: RefCell::new(permissions),
            changed_s: Cell::new(now_s()),
            changes: Changes::default(),
            body,
        });
        self.by_index.insert(index, object.clone());
        object
    }

    /// A free index: there is one, as there are fewer objects than indexes. As on Linux, the first ids are small numbers, and an
    /// index that is used again comes with another sequence number, so that ids are not.
    fn take_index(&mut self) -> i32 {
        const SEQUENCES: u16 = (i32::MAX / INDEXES) as u16;
        /// Below this, an index that never was in use is taken first.
        const FRESH_INDEXES: i32 = 64;
        let reused = if self.first_unused < FRESH_INDEXES { None } else { self.free.pop_front() };
        if let Some(index) = reused {
            self.sequence = (self.sequence + 1) % SEQUENCES;
            return index;
        }
        self.first_unused += 1;
        self.first_unused - 1
    }

    /// Takes an object's key away: it can no longer be found by that.
    pub fn forget_key(&mut self, object: &Object<T>) {
        let key = core::mem::replace(&mut object.permissions.borrow_mut().key, PRIVATE);
        if self.by_key.get(&key) == Some(&(object.id % INDEXES)) {
            self.by_key.remove(&key);
        }
    }

    /// Removes an object: who waits for it is told.
    pub fn remove(&mut self, object: &Object<T>) {
        let key = object.permissions.borrow().key;
        if self.by_key.get(&key) == Some(&(object.id % INDEXES)) {
            self.by_key.remove(&key);
        }
        if self.by_index.remove(&(object.id % INDEXES)).is_some() {
            self.free.push_back(object.id % INDEXES);
        }
        object.changes.is_removed.set(true);
        object.changes.queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(table: &mut Table<u8>, key: i32, flags: u32) -> Result<i32> {
        table.find_or_make(key, flags, &Credentials::root(), 3, |_| Ok(()), || Ok(0)).map(|object| object.id)
    }

    #[test]
    fn keys_name_one_object_and_ids_are_not_used_again() {
        let mut table = Table::default();
        assert_eq!(find(&mut table, 5, 0o600), Err(Errno::ENOENT));
        let first = find(&mut table, 5, CREATE | 0o600).unwrap();
        assert_eq!(find(&mut table, 5, 0), Ok(first));
        assert_eq!(find(&mut table, 5, CREATE | EXCLUSIVE), Err(Errno::EEXIST));
        assert_ne!(find(&mut table, PRIVATE, 0), find(&mut table, PRIVATE, 0));
        assert_eq!(find(&mut table, PRIVATE, 0), Err(Errno::ENOSPC));
        let object = table.get(first).unwrap();
        table.remove(&object);
        assert_eq!(object.check_there(), Err(Errno::EIDRM));
        assert_eq!(table.get(first).err(), Some(Errno::EINVAL));
        assert_ne!(find(&mut table, 5, CREATE), Ok(first));
    }

    #[test]
    fn permissions_are_those_of_the_class() {
        let permissions = Permissions::new(1, 0o640, &Credentials::user(5, 6));
        assert!(permissions.check(&Credentials::user(5, 0), 0o600).is_ok());
        assert!(permissions.check(&Credentials::user(7, 6), 0o444).is_ok());
        assert_eq!(permissions.check(&Credentials::user(7, 6), 0o222), Err(Errno::EACCES));
        assert_eq!(permissions.check(&Credentials::user(7, 7), 0o444), Err(Errno::EACCES));
        assert!(permissions.check(&Credentials::root(), 0o666).is_ok());
        assert_eq!(permissions.check_owner(&Credentials::user(7, 6)), Err(Errno::EPERM));
    }
}
