//! Shared memory (`shmget(2)`, `shmop(2)`).
//!
//! A segment lives until it has been removed (`IPC_RMID`) *and* nobody has it attached. Each address space holds an [`Attachment`]
//! for each time that it has attached one; when the last area that shows the segment there goes, so does the attachment.

use super::table::now_s;
use super::{Object, Shown, Table};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::platform::{Memory, PAGE_SIZE};
use crate::process::Pid;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// The mode of a segment that is to go shows this (`SHM_DEST`).
pub const DOOMED: u32 = 0o1000;
/// The mode of a segment that stays in memory shows this (`SHM_LOCKED`).
pub const LOCKED: u32 = 0o2000;
/// How many segments there can be, until `kernel.shmmni` is set.
pub const MAX_SEGMENTS: i64 = 4096;
/// The largest segment in bytes, and the most pages in all of them, until `kernel.shmmax` and `kernel.shmall` are set.
pub const MAX_TOTAL: u64 = 18_446_744_073_692_774_399;

/// What a segment, and an attachment, takes of the server's memory, about.
const SEGMENT_CHARGE_BYTES: u64 = 512;
const ATTACHMENT_CHARGE_BYTES: u64 = 128;

/// A segment.
pub struct Segment {
    /// Its pages.
    pub memory: Memory,
    /// Its size as it was asked for.
    pub size_bytes: u64,
    /// Who made it.
    pub maker: Pid,
    /// Who attached or detached it last; 0: nobody.
    pub last_user: Cell<Pid>,
    /// When it was attached last, in seconds since 1970 began; 0: never.
    pub attached_s: Cell<i64>,
    /// When it was detached last.
    pub detached_s: Cell<i64>,
    attachments: Cell<u64>,
    _charge: Charge,
}

impl Segment {
    /// Zeroes, of which nobody has any yet. `ENOMEM`, `ENOSPC` if the server keeps too much already.
    fn new(size_bytes: u64, maker: Pid) -> Result<Self> {
        let charge = Charge::new(Budget::Names, SEGMENT_CHARGE_BYTES).map_err(|_| Errno::ENOSPC)?;
        let length = crate::vm::page_up(size_bytes).ok_or(Errno::ENOSPC)?;
        crate::vm::check_commitment(length)?;
        Ok(Self {
            memory: Memory::create_lasting(length)?,
            size_bytes,
            maker,
            last_user: Cell::new(0),
            attached_s: Cell::new(0),
            detached_s: Cell::new(0),
            attachments: Cell::new(0),
            _charge: charge,
        })
    }

    /// How many address spaces have it attached, each as often as it does.
    pub fn attachments(&self) -> u64 {
        self.attachments.get()
    }

    /// Its size in whole pages.
    pub fn pages(&self) -> u64 {
        self.size_bytes.div_ceil(PAGE_SIZE)
    }
}

/// What all segments together may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size of one, in bytes.
    pub bytes: u64,
    /// Pages in all.
    pub pages: u64,
    /// How many.
    pub count: usize,
}

/// All segments of a system.
#[derive(Default)]
pub struct Segments {
    /// By their ids.
    pub table: RefCell<Table<Segment>>,
    pages: Cell<u64>,
}

impl Segments {
    /// Pages of all of them, in memory or not.
    pub fn pages(&self) -> u64 {
        self.pages.get()
    }

    /// A new segment within the limits. `EINVAL`, `ENOSPC`, `ENOMEM`.
    pub fn make(&self, size_bytes: u64, maker: Pid, limits: Limits) -> Result<Segment> {
        if size_bytes == 0 || size_bytes > limits.bytes {
            return Err(Errno::EINVAL);
        }
        let pages = self.pages.get().checked_add(size_bytes.div_ceil(PAGE_SIZE));
        if pages.is_none_or(|pages| pages > limits.pages) {
            return Err(Errno::ENOSPC);
        }
        Segment::new(size_bytes, maker)
    }

    /// Counts a segment that has come into the table.
    pub fn count(&self, segment: &Segment) {
        self.pages.set(self.pages.get() + segment.pages());
    }

    /// Removes a segment: at once if nobody has it, else when the last one lets it go.
    pub fn remove(&self, object: &Object<Segment>) {
        if object.body.attachments() == 0 {
            self.table.borrow_mut().remove(object);
            self.pages.set(self.pages.get().saturating_sub(object.body.pages()));
        } else {
            self.table.borrow_mut().forget_key(object);
            object.permissions.borrow_mut().show(DOOMED, Shown::Yes);
        }
    }
}

/// A segment in an address space.
pub struct Attachment {
    segments: Rc<Segments>,
    object: Rc<Object<Segment>>,
    /// Whose doing it will be when it ends.
    owner: Cell<Pid>,
    _charge: Charge,
}

impl Attachment {
    /// Attaches, which `who` does for `owner`. `EIDRM` if the segment is gone, `ENOMEM`.
    pub fn new(segments: &Rc<Segments>, object: &Rc<Object<Segment>>, who: Pid, owner: Pid) -> Result<Self> {
        object.check_there()?;
        let charge = Charge::new(Budget::Names, ATTACHMENT_CHARGE_BYTES)?;
        let body = &object.body;
        body.attachments.set(body.attachments.get() + 1);
        body.attached_s.set(now_s());
        body.last_user.set(who);
        Ok(Self { segments: segments.clone(), object: object.clone(), owner: Cell::new(owner), _charge: charge })
    }

    /// The same for a copy of the space, whose owner is not known yet. `EIDRM`, `ENOMEM`.
    pub fn copy(&self) -> Result<Self> {
        Self::new(&self.segments, &self.object, self.owner.get(), 0)
    }

    /// Says whose doing it will be when it ends.
    pub fn set_owner(&self, owner: Pid) {
        self.owner.set(owner);
    }

    /// Its pages.
    pub fn memory(&self) -> &Memory {
        &self.object.body.memory
    }

    /// The segment.
    pub fn object(&self) -> &Object<Segment> {
        &self.object
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let body = &self.object.body;
        body.attachments.set(body.attachments.get().saturating_sub(1));
        body.detached_s.set(now_s());
        body.last_user.set(self.owner.get());
        let is_doomed = self.object.permissions.borrow().shows(DOOMED);
        if is_doomed && body.attachments() == 0 {
            self.segments.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cred::Credentials;
    use crate::sysv::table::{CREATE, PRIVATE};

    const LIMITS: Limits = Limits { bytes: 1 << 20, pages: 300, count: 10 };

    fn segment(segments: &Segments, key: i32, bytes: u64) -> Result<Rc<Object<Segment>>> {
        let make = || segments.make(bytes, 1, LIMITS);
        let root = Credentials::root();
        let made = segments.table.borrow_mut().find_or_make(key, CREATE | 0o600, &root, 10, |_| Ok(()), make)?;
        segments.count(&made.body);
        Ok(made)
    }

    #[test]
    fn a_removed_segment_lives_until_nobody_has_it() {
        let segments = Rc::new(Segments::default());
        let object = segment(&segments, 7, 5000).unwrap();
        let one = Attachment::new(&segments, &object, 1, 1).unwrap();
        let two = one.copy().unwrap();
        two.set_owner(2);
        segments.remove(&object);
        assert!(object.permissions.borrow().shows(DOOMED) && segments.table.borrow().get(object.id).is_ok());
        drop(one);
        assert_eq!((object.body.attachments(), object.body.last_user.get(), segments.pages()), (1, 1, 2));
        drop(two);
        assert_eq!((object.body.last_user.get(), segments.pages()), (2, 0));
        assert!(segments.table.borrow().is_empty());
        assert_eq!(Attachment::new(&segments, &object, 1, 1).err(), Some(Errno::EIDRM));
    }

    #[test]
    fn sizes_have_limits() {
        let segments = Segments::default();
        assert_eq!(segment(&segments, PRIVATE, 0).err(), Some(Errno::EINVAL));
        assert_eq!(segment(&segments, PRIVATE, LIMITS.bytes + 1).err(), Some(Errno::EINVAL));
        segment(&segments, PRIVATE, 1 << 20).unwrap();
        assert_eq!(segment(&segments, PRIVATE, 1 << 20).err(), Some(Errno::ENOSPC));
    }
}
