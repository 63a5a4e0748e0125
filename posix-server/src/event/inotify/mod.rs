//! Hearing of what happens to files and in directories (`inotify(7)`).
//!
//! An inode knows who watches it ([`Watches`]), an instance knows its [`Watch`]es; neither keeps the other. What happens is
//! told by [`crate::fs::notify`].

mod queue;

pub use queue::{Event, MAX_EVENTS};

use super::EventFile;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::fs::{Inode, Name};
use crate::wait::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as linux;
use queue::Queue;

/// How many instances there may be at most, whatever `/proc/sys/fs/inotify/max_user_instances` says.
const MAX_INSTANCES: u64 = 4096;

/// What a watch takes of the server's memory with its places in all tables, about, in bytes.
const WATCH_BYTES: u64 = 256;

/// What a program can ask for.
const EVENTS: u32 = linux::IN_ALL_EVENTS;
/// What it is told besides.
const TOLD: u32 = EVENTS | linux::IN_ISDIR | linux::IN_UNMOUNT | linux::IN_IGNORED | linux::IN_Q_OVERFLOW;

/// The number of the next instance.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static INSTANCES: AtomicU64 = AtomicU64::new(0);
static WATCHES: AtomicU64 = AtomicU64::new(0);

/// Whether anything is watched at all.
pub fn is_anything_watched() -> bool {
    WATCHES.load(Ordering::Relaxed) > 0
}

/// A count in one of the statics, taken back when it is dropped.
struct Counted(&'static AtomicU64);

impl Counted {
    fn new(counter: &'static AtomicU64, limit: u64, refusal: Errno) -> Result<Self> {
        if counter.load(Ordering::Relaxed) >= limit {
            return Err(refusal);
        }
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Self(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an instance wants to know of an inode.
pub struct Watch {
    instance: Weak<Inotify>,
    instance_id: u64,
    number: i32,
    mask: Cell<u32>,
    inode: Weak<Inode>,
    _count: Counted,
    /// Pays for it.
    _charge: Charge,
    _alive: crate::census::counted::Watch,
}

impl Watch {
    /// Tells of an event, if it is wanted.
    fn tell(self: &Rc<Self>, mask: u32, cookie: u32, name: Option<&Name>) {
        if mask & (self.mask.get() & EVENTS | linux::IN_UNMOUNT) == 0 {
            return;
        }
        let Some(instance) = self.instance.upgrade() else { return };
        instance.push(Event { watch: self.number, mask: mask & TOLD, cookie, name: name.cloned() });
        if self.mask.get() & linux::IN_ONESHOT != 0 {
            instance.forget(self);
        }
    }
}

/// Who watches an inode.
#[derive(Default)]
pub struct Watches {
    /// By instance.
    list: RefCell<BTreeMap<u64, Rc<Watch>>>,
}

impl Watches {
    fn all(&self) -> Vec<Rc<Watch>> {
        self.list.borrow().values().cloned().collect()
    }

    fn remove(&self, instance: u64) {
        let removed = self.list.borrow_mut().remove(&instance);
        drop(removed);
    }

    /// Whether anybody wants to hear of reads or writes.
    pub fn want_transfers(&self) -> bool {
        let transfers = linux::IN_ACCESS | linux::IN_MODIFY;
        self.list.borrow().values().any(|watch| watch.mask.get() & transfers != 0)
    }

    /// Tells of an event: of the inode, or of a name in it. `is_unlinked`: the name is gone.
    pub fn tell(&self, mask: u32, cookie: u32, name: Option<&Name>, is_unlinked: bool) {
        for watch in self.all() {
            if !(is_unlinked && watch.mask.get() & linux::IN_EXCL_UNLINK != 0) {
                watch.tell(mask, cookie, name);
            }
        }
    }

    /// The inode goes; `mask` is what is told of that first.
    pub fn end(&self, mask: u32) {
        for watch in self.all() {
            watch.tell(mask, 0, None);
            if let Some(instance) = watch.instance.upgrade() {
                instance.forget(&watch);
            }
        }
    }
}

/// An inotify instance.
pub struct Inotify {
    this: Weak<Self>,
    id: u64,
    watches: RefCell<BTreeMap<i32, Rc<Watch>>>,
    next_number: Cell<i32>,
    queue: RefCell<Queue>,
    changed: WaitQueue,
    _count: Counted,
}

impl Inotify {
    /// An instance that watches nothing. `EMFILE` if there are so many already.
    pub fn new(max_instances: u64) -> Result<Rc<Self>> {
        let count = Counted::new(&INSTANCES, max_instances.min(MAX_INSTANCES), Errno::EMFILE)?;
        Ok(Rc::new_cyclic(|this| Self {
            this: this.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            watches: RefCell::default(),
            next_number: Cell::new(1),
            queue: RefCell::default(),
            changed: WaitQueue::new(),
            _count: count,
        }))
    }

    fn push(&self, event: Event) {
        self.queue.borrow_mut().push(event);
        self.changed.wake_for(PollEvents::READABLE);
    }

    /// Watches an inode, or changes what it is watched for; returns the watch's number. `EEXIST`; `ENOSPC` if there are
    /// so many watches already.
    pub fn add(&self, inode: &Rc<Inode>, mask: u32, max_watches: u64) -> Result<i32> {
        let kept = mask & (EVENTS | linux::IN_ONESHOT | linux::IN_EXCL_UNLINK);
        let before = inode.watches().list.borrow().get(&self.id).cloned();
        if let Some(watch) = before {
            if mask & linux::IN_MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            let old = if mask & linux::IN_MASK_ADD != 0 { watch.mask.get() } else { 0 };
            watch.mask.set(old | kept);
            return Ok(watch.number);
        }
        let watch = Rc::new(Watch {
            _alive: Default::default(),
            instance: self.this.clone(),
            instance_id: self.id,
            number: self.free_number(),
            mask: Cell::new(kept),
            inode: Rc::downgrade(inode),
            _count: Counted::new(&WATCHES, max_watches, Errno::ENOSPC)?,
            _charge: Charge::new(Budget::Open, WATCH_BYTES).map_err(|_| Errno::ENOSPC)?,
        });
        let number = watch.number;
        inode.watches().list.borrow_mut().insert(self.id, watch.clone());
        self.watches.borrow_mut().insert(number, watch);
        Ok(number)
    }

    fn free_number(&self) -> i32 {
        let watches = self.watches.borrow();
        let mut number = self.next_number.get();
        while watches.contains_key(&number) {
            number = number.checked_add(1).unwrap_or(1);
        }
        self.next_number.set(number.checked_add(1).unwrap_or(1));
        number
    }

    /// The watches: number, number of the inode, mask, for `/proc/PID/fdinfo`.
    pub fn watched(&self) -> Vec<(i32, u64, u32)> {
        let number_of = |watch: &Watch| watch.inode.upgrade().map_or(0, |inode| inode.number());
        self.watches.borrow().values().map(|watch| (watch.number, number_of(watch), watch.mask.get())).collect()
    }

    /// Ends a watch. `EINVAL`.
    pub fn remove(&self, number: i32) -> Result<()> {
        let watch = self.watches.borrow().get(&number).cloned().ok_or(Errno::EINVAL)?;
        self.forget(&watch);
        Ok(())
    }

    /// Ends a watch, and says so.
    fn forget(&self, watch: &Rc<Watch>) {
        let removed = self.watches.borrow_mut().remove(&watch.number);
        if let Some(inode) = watch.inode.upgrade() {
            inode.watches().remove(self.id);
        }
        if removed.is_some() {
            self.push(Event::of_watch(watch.number, linux::IN_IGNORED));
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        for watch in core::mem::take(self.watches.get_mut()).into_values() {
            if let Some(inode) = watch.inode.upgrade() {
                inode.watches().remove(watch.instance_id);
            }
        }
    }
}

/// The open file of an instance.
pub struct InotifyFile(pub Rc<Inotify>);

impl FileOps for InotifyFile {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        let mut read = 0;
        loop {
            let event = match self.0.queue.borrow_mut().take(to.remaining()) {
                Ok(event) => event,
                Err(_) if read > 0 => return Ok(read),
                Err(errno) => return Err(errno),
            };
            let record = event.to_record();
            if to.put(&record) < record.len() {
                return if read > 0 { Ok(read) } else { Err(Errno::EFAULT) };
            }
            read += record.len();
        }
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn readiness(&self) -> PollEvents {
        if self.0.queue.borrow().len_bytes() > 0 { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.0.queue.borrow().len_bytes())
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Inotify(&self.0))
    }
}
