//! What an instance watches: one descriptor's file, and for what.

use super::{Epoll, EventFile};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::{OpenFile, PollEvents};
use crate::process::Thread;
use crate::wait::{Attachment, Heard, Notify};
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What an item takes of the server's memory with its places in all tables, about, in bytes.
const ITEM_BYTES: u64 = 320;

/// Bits of the events that are not events.
const PRIVATE: u32 = linux::EPOLLWAKEUP | linux::EPOLLONESHOT | linux::EPOLLET | linux::EPOLLEXCLUSIVE;

/// `struct epoll_event` of x86-64, which is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
pub struct Event {
    /// `EPOLL*`.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// Which item of an instance: a descriptor, and the open file that it named when it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) fd: i32,
    pub(super) file: u64,
}

/// What becomes of an item that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is asked again by the next wait.
    AskAgain,
    /// It waits for its next wake-up.
    Sleep,
}

/// One watched descriptor.
pub(super) struct Item {
    this: Weak<Self>,
    epoll: Weak<Epoll>,
    key: Key,
    file: Weak<OpenFile>,
    /// If the file is an instance: its number, and it.
    inner: Option<(u64, Weak<Epoll>)>,
    event: Cell<Event>,
    /// Where it is in the ready list, if it is there.
    place: Cell<Option<u64>>,
    attachment: RefCell<Option<Attachment>>,
    /// Whether it belongs to its instance.
    is_attached: Cell<bool>,
    /// Pays for it.
    _charge: Charge,
    _alive: crate::census::counted::EpollItem,
}

impl Item {
    /// An item that is nowhere yet. `ENOSPC`.
    pub(super) fn new(epoll: &Rc<Epoll>, key: Key, file: &Rc<OpenFile>, event: Event) -> Result<Rc<Self>> {
        let charge = Charge::new(Budget::Open, ITEM_BYTES).map_err(|_| Errno::ENOSPC)?;
        let inner = file.ops().event_file().and_then(EventFile::epoll);
        let inner = inner.map(|inner| (inner.id, Rc::downgrade(inner)));
        Ok(Rc::new_cyclic(|this| Self {
            _alive: Default::default(),
            this: this.clone(),
            epoll: Rc::downgrade(epoll),
            key,
            file: Rc::downgrade(file),
            inner,
            event: Cell::new(event),
            place: Cell::new(None),
            attachment: RefCell::new(None),
            is_attached: Cell::new(false),
            _charge: charge,
        }))
    }

    /// Begins to listen to its file.
    pub(super) fn attach(self: &Rc<Self>, file: &OpenFile, thread: &Thread) {
        let queue = file.ops().wait_queue_for(thread);
        let attachment = queue.map(|queue| {
            if self.is_exclusive() { queue.attach_exclusive(self.clone()) } else { queue.attach(self.clone()) }
        });
        self.attachment.replace(attachment);
        self.is_attached.set(true);
    }

    /// Listens no more.
    pub(super) fn detach(&self) {
        self.is_attached.set(false);
        let attachment = self.attachment.take();
        drop(attachment);
    }

    pub(super) fn is_attached(&self) -> bool {
        self.is_attached.get()
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn file(&self) -> Option<Rc<OpenFile>> {
        self.file.upgrade()
    }

    /// The number of the instance that it watches, and the instance, if it watches one.
    pub(super) fn inner(&self) -> Option<&(u64, Weak<Epoll>)> {
        self.inner.as_ref()
    }

    pub(super) fn event(&self) -> Event {
        self.event.get()
    }

    pub(super) fn set_event(&self, event: Event) {
        self.event.set(event);
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.has(linux::EPOLLEXCLUSIVE)
    }

    fn has(&self, flag: u32) -> bool {
        self.event.get().events & flag != 0
    }

    /// Where it is in the ready list.
    pub(super) fn place(&self) -> Option<u64> {
        self.place.get()
    }

    pub(super) fn set_place(&self, place: u64) {
        self.place.set(Some(place));
    }

    /// Notes that it is not in the ready list; says where it was.
    pub(super) fn leave_list(&self) -> Option<u64> {
        self.place.take()
    }

    /// What it waits for; nothing if it is switched off.
    fn wanted(&self) -> PollEvents {
        PollEvents::from_bits_retain(self.event.get().events & !PRIVATE)
    }

    /// What its file is ready for, of what it waits for.
    pub(super) fn readiness(&self, thread: &Thread) -> PollEvents {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return wanted;
        }
        self.file.upgrade().map_or(PollEvents::empty(), |file| file.ops().readiness_for(thread) & wanted)
    }

    /// The record for the program.
    pub(super) fn report(&self, events: PollEvents) -> Event {
        Event { events: events.bits(), ..self.event.get() }
    }

    /// It has been reported.
    pub(super) fn after_report(&self) -> Next {
        let event = self.event.get();
        if self.has(linux::EPOLLONESHOT) {
            self.event.set(Event { events: event.events & PRIVATE, ..event });
            Next::Sleep
        } else if self.has(linux::EPOLLET) || !self.is_attached.get() {
            Next::Sleep
        } else {
            Next::AskAgain
        }
    }
}

impl Notify for Item {
    fn notify(&self, events: PollEvents) -> Heard {
        if !events.intersects(self.wanted()) || self.place.get().is_some() {
            return Heard::No;
        }
        let (Some(epoll), Some(item)) = (self.epoll.upgrade(), self.this.upgrade()) else { return Heard::No };
        let is_awaited = epoll.sleepers.waiters() > 0 || epoll.changed.waiters() > 0;
        epoll.enqueue(&item);
        epoll.tell();
        if is_awaited { Heard::Yes } else { Heard::No }
    }
}

/// The items that watch an open file: they go when it is closed.
#[derive(Default)]
pub struct Watchers {
    items: RefCell<BTreeMap<(u64, i32), Weak<Item>>>,
}

impl Watchers {
    pub(super) fn add(&self, item: &Rc<Item>) {
        if let Some(epoll) = item.epoll.upgrade() {
            self.items.borrow_mut().insert((epoll.id, item.key.fd), Rc::downgrade(item));
        }
    }

    /// Forgets an item of an instance.
    pub(super) fn remove(&self, epoll: u64, item: &Item) {
        let removed = self.items.borrow_mut().remove(&(epoll, item.key.fd));
        drop(removed);
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        if self.items.get_mut().is_empty() {
            return;
        }
        let items: Vec<_> = core::mem::take(self.items.get_mut()).into_values().collect();
        for item in items.iter().filter_map(Weak::upgrade) {
            if let Some(epoll) = item.epoll.upgrade() {
                epoll.remove(&item);
            }
        }
    }
}
