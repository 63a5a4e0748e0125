//! Waiting for many files at the cost of those that are ready (`epoll(7)`).
//!
//! Each descriptor that an instance watches is an [`Item`](item::Item), attached to the file's wait queue. A wake-up that
//! the item cares for puts it at the end of the instance's *ready list*, unless it is there, and wakes who waits for the
//! instance. So a wait looks at what may be ready, and at nothing else:
//!
//! 1. an item is taken from the front of the list, and its file is asked what it is ready for;
//! 2. if that is nothing the program asked for, the item is forgotten until its next wake-up;
//! 3. else it is reported. Then a level-triggered item goes to the end of the list, so that the next wait asks again, after
//!    all others had their turn; an edge-triggered one waits for its next wake-up; a one-shot one is switched off.
//!
//! An item goes when it is deleted, when its instance is closed, and when the last descriptor of the *open file* is closed:
//! a file knows who watches it ([`Watchers`]).

mod item;
mod nesting;
mod ready;
#[cfg(test)]
mod tests;

pub use item::{Event, Watchers};

use super::EventFile;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, OpenFile, PollEvents, Positioning, Source};
use crate::process::Thread;
use crate::wait::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use item::{Item, Key};
use nesting::Links;
use ready::ReadyList;

/// The number of the next instance.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Room for so many items, at most, is kept where none are.
const MAX_KEPT: usize = 64;

/// An item that is to be reported, and what it is ready for.
struct Report {
    item: Rc<Item>,
    place: u64,
    event: Event,
}

/// An epoll instance.
pub struct Epoll {
    id: u64,
    items: RefCell<BTreeMap<Key, Rc<Item>>>,
    ready: RefCell<ReadyList>,
    /// Room for reports, kept from one wait to the next.
    reports: RefCell<Vec<Report>>,
    /// Threads in `epoll_wait`.
    sleepers: WaitQueue,
    /// Who polls the instance itself.
    changed: WaitQueue,
    links: Links,
}

impl Epoll {
    /// An instance that watches nothing.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            items: RefCell::default(),
            ready: RefCell::default(),
            reports: RefCell::default(),
            sleepers: WaitQueue::new(),
            changed: WaitQueue::new(),
            links: Links::default(),
        })
    }

    /// What wakes threads that wait for events.
    pub fn sleepers(&self) -> &WaitQueue {
        &self.sleepers
    }

    /// Watches a file. `EEXIST`; `ENOSPC` if there are too many items; `ELOOP` if instances would watch each other.
    pub fn add(self: &Rc<Self>, thread: &Thread, fd: i32, file: &Rc<OpenFile>, event: Event) -> Result<()> {
        let inner = file.ops().event_file().and_then(EventFile::epoll);
        if let Some(inner) = inner {
            nesting::check(self, inner)?;
        }
        let key = Key { fd, file: file.id() };
        if self.items.borrow().contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        let item = Item::new(self, key, file, event)?;
        item.attach(file, thread);
        file.watchers().add(&item);
        self.items.borrow_mut().insert(key, item.clone());
        nesting::link(self, &item);
        self.look(&item, thread);
        Ok(())
    }

    /// Changes what a file is watched for. `ENOENT`; `EINVAL` for an exclusive item.
    pub fn modify(&self, thread: &Thread, fd: i32, file: &Rc<OpenFile>, event: Event) -> Result<()> {
        let item = self.find(fd, file)?;
        if item.is_exclusive() {
            return Err(Errno::EINVAL);
        }
        item.set_event(event);
        self.look(&item, thread);
        Ok(())
    }

    /// Watches a file no more. `ENOENT`.
    pub fn delete(&self, fd: i32, file: &Rc<OpenFile>) -> Result<()> {
        let item = self.find(fd, file)?;
        file.watchers().remove(self.id, &item);
        self.remove(&item);
        Ok(())
    }

    fn find(&self, fd: i32, file: &Rc<OpenFile>) -> Result<Rc<Item>> {
        self.items.borrow().get(&Key { fd, file: file.id() }).cloned().ok_or(Errno::ENOENT)
    }

    /// Forgets an item that its file has forgotten.
    fn remove(&self, item: &Rc<Item>) {
        item.detach();
        let removed = self.items.borrow_mut().remove(&item.key());
        let queued = item.leave_list().and_then(|place| self.ready.borrow_mut().remove(place));
        nesting::unlink(self.id, &self.links, item);
        drop((removed, queued));
    }

    /// Looks at an item that is new or has changed: from now on, being ready counts as becoming ready.
    fn look(&self, item: &Rc<Item>, thread: &Thread) {
        if !item.readiness(thread).is_empty() && self.enqueue(item) {
            self.tell();
        }
    }

    /// Puts an item at the end of the ready list. False: it is in it.
    fn enqueue(&self, item: &Rc<Item>) -> bool {
        if item.place().is_some() {
            return false;
        }
        item.set_place(self.ready.borrow_mut().push(item.clone()));
        true
    }

    /// Puts an item back that was the first; of several, the last one comes first.
    fn put_back(&self, item: &Rc<Item>, place: u64) {
        if item.is_attached() && item.place().is_none() {
            item.set_place(place);
            self.ready.borrow_mut().put_back(place, item.clone());
        }
    }

    fn tell(&self) {
        self.sleepers.wake_for(PollEvents::READABLE);
        self.changed.wake_for(PollEvents::READABLE);
    }

    /// Takes the first item from the list, if it came before `end`.
    fn take_first(&self, end: u64) -> Option<(Rc<Item>, u64)> {
        let (place, item) = self.ready.borrow_mut().pop_before(end)?;
        item.leave_list();
        Some((item, place))
    }

    /// Takes up to `max` items that are ready.
    fn collect(&self, thread: &Thread, max: usize) -> Vec<Report> {
        let end = self.ready.borrow().end();
        let mut reports = self.reports.take();
        while reports.len() < max {
            let Some((item, place)) = self.take_first(end) else { break };
            let events = item.readiness(thread);
            if !events.is_empty() {
                let event = item.report(events);
                reports.push(Report { item, place, event });
            }
        }
        reports
    }

    /// Keeps the room for reports, if it is not much: nobody pays for it.
    fn keep_room(&self, reports: Vec<Report>) {
        if reports.capacity() <= MAX_KEPT {
            self.reports.replace(reports);
        }
    }

    /// Reports up to `max` events to `write`, which says how many it could take: the rest stays ready. Returns how many
    /// were taken, 0 if nothing is ready. `EFAULT`: none of them could be.
    pub fn report(&self, thread: &Thread, max: usize, write: impl FnOnce(&[Event]) -> usize) -> Result<usize> {
        let mut reports = self.collect(thread, max);
        let taken = match reports.as_slice() {
            [] => {
                self.keep_room(reports);
                return Ok(0);
            }
            [report] => write(&[report.event]),
            all => write(&all.iter().map(|report| report.event).collect::<Vec<Event>>()),
        };
        // What was not taken stays first, in its order.
        for report in reports.drain(taken.min(reports.len())..).rev() {
            self.put_back(&report.item, report.place);
        }
        for report in reports.drain(..) {
            if report.item.after_report() == item::Next::AskAgain {
                self.enqueue(&report.item);
            }
        }
        self.keep_room(reports);
        if !self.ready.borrow().is_empty() {
            // For those who wait beside this one.
            self.sleepers.wake_for(PollEvents::READABLE);
        }
        if taken == 0 { Err(Errno::EFAULT) } else { Ok(taken) }
    }

    /// Whether anything is ready. What is found not to be leaves the list.
    fn is_ready(&self, thread: &Thread) -> bool {
        loop {
            let first = self.ready.borrow().first();
            let Some((place, item)) = first else { return false };
            if !item.readiness(thread).is_empty() {
                return true;
            }
            item.leave_list();
            let removed = self.ready.borrow_mut().remove(place);
            drop(removed);
        }
    }

    /// The items, in ascending order, for `/proc/PID/fdinfo`.
    pub fn watched(&self) -> Vec<(i32, Event)> {
        self.items.borrow().iter().map(|(key, item)| (key.fd, item.event())).collect()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = core::mem::take(self.items.get_mut());
        for item in items.values() {
            item.detach();
            if let Some(file) = item.file() {
                file.watchers().remove(self.id, item);
            }
            nesting::unlink(self.id, &self.links, item);
        }
    }
}

/// The open file of an instance.
pub struct EpollFile(pub Rc<Epoll>);

impl FileOps for EpollFile {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn readiness(&self) -> PollEvents {
        PollEvents::empty()
    }

    fn readiness_for(&self, thread: &Thread) -> PollEvents {
        if self.0.is_ready(thread) { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Epoll(&self.0))
    }
}
