//! A file that is served.

use super::ahead::Ahead;
use super::known::{Known, WINDOW_BLOCKS, clip};
use super::lines::{Kind, Lines};
use super::order::Order;
use super::{Blocks, Run, Shared, Slot, fill, writeback};
use crate::platform::{Failed, Listener, PAGE_BYTES, Pages, Platform};
use crate::turns::{Turn, Turns, Use};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;
use driver_protocol::files::Refused;
use futures_util::future::LocalBoxFuture;

/// Jobs of one file at once; what comes then stays with the kernel, where it becomes longer runs.
const MAX_JOBS: usize = 64;

/// A file whose pager this server is.
#[derive(Debug)]
pub struct File<P: Platform, B> {
    pub(super) shared: Rc<Shared<P, B>>,
    pub(super) inode: u64,
    pub(super) pages: P::Pages,
    pub(super) slot: Slot<P::Notes>,
    /// The size in bytes, by the operations that were applied.
    size: Cell<u64>,
    /// As much of it as the disk has.
    pub(super) stored: Cell<u64>,
    pub(super) order: Order,
    /// Writebacks share it; who cuts the file off has it alone.
    pub(super) writes: Rc<Turns>,
    lines: Lines,
    ahead: RefCell<Ahead>,
    known: RefCell<Known>,
    is_released: Cell<bool>,
}

impl<P: Platform, B: Blocks> File<P, B> {
    /// The file of an inode, which has this size, and on the disk that one.
    pub fn new(
        shared: &Rc<Shared<P, B>>,
        inode: u64,
        (size, stored): (u64, u64),
        pages: P::Pages,
        slot: Slot<P::Notes>,
    ) -> Rc<Self> {
        Rc::new(Self {
            shared: shared.clone(),
            inode,
            pages,
            slot,
            size: Cell::new(size),
            stored: Cell::new(stored),
            order: Order::default(),
            writes: Rc::default(),
            lines: Lines::default(),
            ahead: RefCell::default(),
            known: RefCell::default(),
            is_released: Cell::new(false),
        })
    }

    /// The size in bytes, by the operations that were applied.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// An operation has set the size, also on the disk.
    pub fn set_size(&self, size: u64) {
        self.size.set(size);
        self.stored.set(size);
    }

    /// The file is at least so long; the disk hears of it with the bytes.
    pub fn grow(&self, size: u64) {
        self.size.set(self.size.get().max(size));
    }

    /// Begins to take what the kernel asks for.
    pub fn listen(self: &Rc<Self>) -> Result<(), Failed> {
        self.pages.listen(Rc::new(Ears(self.clone())))
    }

    /// The kernel needs pages, and thinks that another `ahead_bytes` will be needed soon.
    pub fn fill(self: &Rc<Self>, offset: u64, len_bytes: u64, ahead_bytes: u64) {
        let Range { start, end } = pages_of(offset, len_bytes);
        let ahead = self.ahead.borrow_mut().advance(start, end, ahead_bytes / PAGE_BYTES);
        let last = self.size.get().div_ceil(PAGE_BYTES);
        let end = end.max((end + ahead).min(last));
        for pages in self.lines.not_being_filled(start..end) {
            self.begin(Kind::Fill, pages);
        }
    }

    /// The kernel has begun to write pages back.
    pub fn write_back(self: &Rc<Self>, offset: u64, len_bytes: u64) {
        self.begin(Kind::Writeback, pages_of(offset, len_bytes));
    }

    fn begin(self: &Rc<Self>, kind: Kind, pages: Range<u64>) {
        let number = self.lines.enter(kind, pages.clone());
        let file = self.clone();
        self.shared.platform.spawn(async move {
            file.lines.turn(number).await;
            let result = match kind {
                Kind::Fill => fill::run(&file, pages).await,
                Kind::Writeback => writeback::run(&file, pages).await,
            };
            file.end(number, kind, result);
        });
    }

    /// Tells the kernel how a job ended. A page that a later writeback is about was cut off meanwhile and is another one now.
    fn end(&self, number: u64, kind: Kind, result: Result<(), Refused>) {
        let left = self.lines.leave(number);
        if result.is_err() {
            super::count(&self.shared.counts.failures, 1);
        }
        for pages in left {
            let (offset, len_bytes) = (pages.start * PAGE_BYTES, (pages.end - pages.start) * PAGE_BYTES);
            match (result, kind) {
                (Err(_), _) => self.pages.fail(offset, len_bytes),
                (Ok(()), Kind::Writeback) if !self.is_released() => self.pages.written(offset, len_bytes),
                (Ok(()), Kind::Fill | Kind::Writeback) => {}
            }
        }
    }

    /// Waits until no write is under way, and lets none begin as long as the turn lasts. What is cut off then is to be told
    /// ([`has_been_cut`](Self::has_been_cut)).
    pub async fn cut(&self) -> Turn {
        self.writes.take(Use::Exclusive).await
    }

    /// Blocks have been freed, or have become the file's.
    pub fn has_been_cut(&self) {
        self.known.borrow_mut().forget();
    }

    /// Where blocks are.
    pub(super) async fn map(&self, first: u64, count: u64) -> Result<Vec<Run>, Refused> {
        if let Some(runs) = self.known.borrow().runs(first, count) {
            return Ok(runs);
        }
        let generation = self.known.borrow().generation();
        let blocks_per_page = PAGE_BYTES / self.shared.blocks.block_bytes();
        let last = self.size.get().div_ceil(PAGE_BYTES) * blocks_per_page;
        // More than is asked for, as far as the file goes.
        let window = WINDOW_BLOCKS.min(last.saturating_sub(first)).max(count);
        let runs = self.shared.blocks.map(self.inode, first, window).await?;
        self.known.borrow_mut().keep(&runs, generation);
        Ok(clip(&runs, first, count))
    }

    /// Whether nobody is interested in the pages any more.
    pub fn is_released(&self) -> bool {
        self.is_released.get()
    }

    /// Takes nothing more, and ends the jobs: those that have not begun do nothing.
    pub async fn release(&self) {
        self.pages.end();
        self.is_released.set(true);
        self.lines.fewer_than(1).await;
    }
}

fn pages_of(offset: u64, len_bytes: u64) -> Range<u64> {
    let start = offset / PAGE_BYTES;
    start..start + len_bytes / PAGE_BYTES
}

/// A file as the kernel's side knows it.
struct Ears<P: Platform, B>(Rc<File<P, B>>);

impl<P: Platform, B: Blocks> Listener for Ears<P, B> {
    fn fill(&self, offset: u64, len_bytes: u64, ahead_bytes: u64) {
        self.0.fill(offset, len_bytes, ahead_bytes);
    }

    fn write_back(&self, offset: u64, len_bytes: u64) {
        self.0.write_back(offset, len_bytes);
    }

    fn room(&self) -> LocalBoxFuture<'_, ()> {
        alloc::boxed::Box::pin(self.0.lines.fewer_than(MAX_JOBS))
    }
}
