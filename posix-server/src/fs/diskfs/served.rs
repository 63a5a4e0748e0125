//! Which files' contents the server serves, and what it is still to be told of that.
//!
//! A file gets a slot in the notes when its memory is made, and keeps it until the server has released it. The orders are carried out one
//! after the other; a successor of the server is told of all files that have slots.

use super::file::DiskFile;
use super::server::Enclosed;
use super::session::disk_file;
use super::volume::{State, Volume};
use crate::errno::{Errno, Result};
use crate::fs::paged::PagedMemory;
use crate::platform;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;
use driver_protocol::files::{MAX_SERVED, Refused, Request, notes};

/// What the server is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// To be the pager of the file with this slot.
    Serve { slot: u64 },
    /// To be it no longer.
    Release { slot: u64, inode: u64, is_forgotten: bool },
}

/// A file with a slot.
struct File {
    inode: u64,
    /// The operation that made it, which must have been applied first.
    created: u64,
    paged: Weak<PagedMemory>,
}

/// The files that are served, and the orders.
#[derive(Default)]
pub(super) struct Served {
    files: RefCell<BTreeMap<u64, File>>,
    /// Slots that were used and are not.
    free: RefCell<Vec<u64>>,
    orders: RefCell<VecDeque<Order>>,
}

impl Served {
    /// Whether the server has been told everything.
    pub(super) fn is_settled(&self) -> bool {
        self.orders.borrow().is_empty()
    }

    /// A slot that nobody has. `ENOMEM`.
    fn free_slot(&self) -> Result<u64> {
        if let Some(slot) = self.free.borrow_mut().pop() {
            return Ok(slot);
        }
        let files = self.files.borrow();
        let slot = files.last_key_value().map_or(0, |(last, _)| last + 1);
        if slot < MAX_SERVED { Ok(slot) } else { Err(Errno::ENOMEM) }
    }

    /// A new server knows of no file: it is told of all.
    pub(super) fn begin(&self) {
        let files = self.files.borrow();
        let mut orders = self.orders.borrow_mut();
        orders.retain(|order| matches!(order, Order::Release { .. }));
        orders.extend(files.keys().map(|slot| Order::Serve { slot: *slot }));
    }
}

impl Volume {
    /// Has a file's memory served; gives its slot. `ENOMEM`.
    pub(super) fn serve(&self, file: &DiskFile, paged: &Rc<PagedMemory>) -> Result<u64> {
        let slot = self.served.free_slot()?;
        let entry = File { inode: file.number(), created: file.created(), paged: Rc::downgrade(paged) };
        self.served.files.borrow_mut().insert(slot, entry);
        self.served.orders.borrow_mut().push_back(Order::Serve { slot });
        self.changed.wake();
        Ok(slot)
    }

    /// Has a file served no longer; and forgotten, if it has no names.
    pub(super) fn release(&self, slot: u64, inode: u64, is_forgotten: bool) {
        if matches!(self.state.get(), State::Ended(_)) {
            return;
        }
        self.served.orders.borrow_mut().push_back(Order::Release { slot, inode, is_forgotten });
        self.changed.wake();
    }

    /// Writes a number to a file's slot.
    pub(super) fn write_slot(&self, slot: u64, field: u64, sequence: u64) {
        self.notes.write(notes::slot_offset(slot) + field, &sequence.to_le_bytes());
    }

    /// A new server has to hear how long files are that were appended to: what it has of them may be less.
    pub(super) fn tell_growth(&self) {
        let numbers: Vec<u64> = self.served.files.borrow().values().map(|file| file.inode).collect();
        for inode in numbers.into_iter().filter_map(|number| self.known(number)) {
            if let Some(file) = disk_file(&inode).filter(|file| file.has_grown()) {
                file.tell_grown();
            }
        }
    }

    /// Tells the server of one file, or waits until there is something to tell.
    async fn tell_next(&self) {
        let listener = self.changed.listen();
        let order = self.served.orders.borrow().front().copied();
        match order {
            Some(_) if self.state.get() != State::Ready => listener.await,
            Some(order) => {
                drop(listener);
                if self.carry_out(order).await {
                    let mut orders = self.served.orders.borrow_mut();
                    if orders.front() == Some(&order) {
                        orders.pop_front();
                    }
                    drop(orders);
                    self.changed.wake();
                }
            }
            None => listener.await,
        }
    }

    /// Whether it is done. False: the server is gone, or not ready for it.
    async fn carry_out(&self, order: Order) -> bool {
        match order {
            Order::Serve { slot } => self.tell_to_serve(slot).await,
            Order::Release { slot, inode, is_forgotten } => {
                // A server that has died serves nothing any more, nor does its successor.
                let _ = self.call(Request::Release { inode }, Vec::new(), 0, Enclosed::Nothing).await;
                self.served.files.borrow_mut().remove(&slot);
                self.served.free.borrow_mut().push(slot);
                if is_forgotten {
                    self.forget(inode);
                }
                true
            }
        }
    }

    async fn tell_to_serve(&self, slot: u64) -> bool {
        let file = self.served.files.borrow().get(&slot).map(|file| (file.inode, file.created, file.paged.clone()));
        let Some((inode, created, paged)) = file else { return true };
        if created > self.applied.get() && self.applied_up_to(created).await.is_err() {
            return true;
        }
        let Some(paged) = paged.upgrade() else { return true };
        let enclosed = Enclosed::File(paged.pager(), paged.memory());
        let served = self.call(Request::Serve { inode, slot }, Vec::new(), 0, enclosed);
        match served.await.map(|answer| answer.check()) {
            Ok(Ok(_)) => true,
            Ok(Err(Refused::NotMounted)) | Err(_) => {
                self.executor.sleep_until(platform::now_ns().saturating_add(super::session::PAUSE_NS)).await;
                false
            }
            Ok(Err(refused)) => {
                platform::log(&alloc::format!("the file server does not serve inode {inode}: {refused:?}"));
                true
            }
        }
    }
}

/// Tells the server of files as long as the volume is in use.
pub(super) async fn tell(volume: Rc<Volume>) {
    while !matches!(volume.state.get(), State::Ended(_)) {
        volume.tell_next().await;
    }
}
