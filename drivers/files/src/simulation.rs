//! A simulated machine: tasks under a clock that only moves when nothing else does, a disk whose requests take random times and may fail, and
//! the kernel's side of files.

use crate::platform::{Failed, Listener, Notes, PAGE_BYTES, Pages, Platform, SECTOR_BYTES, Transfer};
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::vec;
use std::vec::Vec;

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct WokenFlag(AtomicBool);

impl Wake for WokenFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A machine with one disk.
pub(crate) struct Simulated {
    tasks: RefCell<Vec<(Arc<WokenFlag>, Option<Task>)>>,
    now_ns: Cell<u64>,
    sleepers: RefCell<Vec<(u64, Waker)>>,
    pub(crate) disk: RefCell<Vec<u8>>,
    staging: Rc<RefCell<Vec<u8>>>,
    chance: Cell<u64>,
    /// Of a thousand requests, so many fail.
    pub(crate) failures: Cell<u64>,
    /// Writes that begin with this number fail; 0: none.
    pub(crate) fails_to_write: Cell<u64>,
    pub(crate) flushes: Cell<u64>,
}

impl Simulated {
    pub(crate) fn new(disk: Vec<u8>, staging_pages: u64, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            now_ns: Cell::new(0),
            sleepers: RefCell::default(),
            disk: RefCell::new(disk),
            staging: Rc::new(RefCell::new(vec![0xee; (staging_pages * PAGE_BYTES) as usize])),
            chance: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            failures: Cell::new(0),
            fails_to_write: Cell::new(0),
            flushes: Cell::new(0),
        })
    }

    /// A number below `limit` that looks random (xorshift64).
    pub(crate) fn random(&self, limit: u64) -> u64 {
        let mut chance = self.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.chance.set(chance);
        (chance >> 11) % limit.max(1)
    }

    /// The staging memory, for the kernel's side of files.
    pub(crate) fn staging(&self) -> Rc<RefCell<Vec<u8>>> {
        self.staging.clone()
    }

    /// Runs what can run now.
    pub(crate) fn run_ready(&self) {
        loop {
            let mut has_run = false;
            let mut index = 0;
            while index < self.tasks.borrow().len() {
                has_run |= self.poll(index);
                index += 1;
            }
            if !has_run {
                self.tasks.borrow_mut().retain(|(_, task)| task.is_some());
                return;
            }
        }
    }

    fn poll(&self, index: usize) -> bool {
        let (flag, mut task) = match &mut self.tasks.borrow_mut()[index] {
            (flag, task) if flag.0.swap(false, Ordering::Relaxed) => (flag.clone(), task.take()),
            _ => return false,
        };
        let waker = Waker::from(flag);
        if let Some(future) = &mut task
            && future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            task = None;
        }
        self.tasks.borrow_mut()[index].1 = task;
        true
    }

    /// Lets time pass until nothing more happens by itself, or so much has passed.
    pub(crate) fn pass(&self, ns: u64) {
        let end = self.now_ns.get().saturating_add(ns);
        loop {
            self.run_ready();
            let mut due: Vec<(u64, Waker)> = Vec::new();
            let mut sleepers = self.sleepers.borrow_mut();
            let Some(next) = sleepers.iter().map(|(deadline, _)| *deadline).min().filter(|next| *next <= end) else {
                break;
            };
            self.now_ns.set(next.max(self.now_ns.get()));
            sleepers.retain(|(deadline, waker)| {
                let is_due = *deadline <= next;
                if is_due {
                    due.push((*deadline, waker.clone()));
                }
                !is_due
            });
            drop(sleepers);
            due.into_iter().for_each(|(_, waker)| waker.wake());
        }
        self.now_ns.set(end);
    }

    /// Ends all tasks where they are.
    pub(crate) fn kill(&self) {
        let tasks = self.tasks.take();
        self.sleepers.take();
        drop(tasks);
    }

    /// Runs a future to its end, with all tasks.
    pub(crate) fn complete<T: 'static>(self: &Rc<Self>, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let cell = result.clone();
        self.spawn(async move { cell.set(Some(future.await)) });
        for _ in 0..100_000 {
            self.pass(1_000_000);
            if let Some(value) = result.take() {
                return value;
            }
        }
        panic!("it never ends");
    }

    async fn request(&self) -> Result<(), Failed> {
        let latency_ns = 1_000 + self.random(200_000);
        self.sleep_until(self.now_ns() + latency_ns).await;
        if self.random(1000) < self.failures.get() { Err(Failed) } else { Ok(()) }
    }
}

fn range(start: u64, len_bytes: u64) -> core::ops::Range<usize> {
    start as usize..(start + len_bytes) as usize
}

impl Platform for Simulated {
    type Pages = SimulatedPages;
    type Notes = SimulatedNotes;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(WokenFlag(AtomicBool::new(true)));
        self.tasks.borrow_mut().push((flag, Some(Box::pin(task))));
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn unix_ns(&self) -> i64 {
        1_700_000_000_000_000_000 + self.now_ns.get() as i64
    }

    async fn sleep_until(&self, deadline_ns: u64) {
        poll_fn(|context| {
            if self.now_ns.get() >= deadline_ns {
                return Poll::Ready(());
            }
            self.sleepers.borrow_mut().push((deadline_ns, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn sectors(&self) -> u64 {
        self.disk.borrow().len() as u64 / SECTOR_BYTES
    }

    async fn read(&self, transfer: Transfer) -> Result<(), Failed> {
        self.request().await?;
        let from = range(transfer.sector * SECTOR_BYTES, transfer.len_bytes);
        self.staging.borrow_mut()[range(transfer.staging, transfer.len_bytes)]
            .copy_from_slice(&self.disk.borrow()[from]);
        Ok(())
    }

    async fn write(&self, transfer: Transfer) -> Result<(), Failed> {
        self.request().await?;
        let to = range(transfer.sector * SECTOR_BYTES, transfer.len_bytes);
        let bad = self.fails_to_write.get();
        if bad != 0 && self.staging.borrow()[range(transfer.staging, 8)] == bad.to_le_bytes() {
            return Err(Failed);
        }
        self.disk.borrow_mut()[to].copy_from_slice(&self.staging.borrow()[range(transfer.staging, transfer.len_bytes)]);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failed> {
        self.flushes.set(self.flushes.get() + 1);
        self.request().await
    }

    fn load(&self, staging: u64, bytes: &mut [u8]) -> Result<(), Failed> {
        bytes.copy_from_slice(&self.staging.borrow()[range(staging, bytes.len() as u64)]);
        Ok(())
    }

    fn store(&self, staging: u64, bytes: &[u8]) -> Result<(), Failed> {
        self.staging.borrow_mut()[range(staging, bytes.len() as u64)].copy_from_slice(bytes);
        Ok(())
    }
}

/// Notes that outlive the simulated server.
#[derive(Clone, Default)]
pub(crate) struct SimulatedNotes(pub(crate) Rc<RefCell<Vec<u8>>>);

impl SimulatedNotes {
    pub(crate) fn new(slots: u64) -> Self {
        Self(Rc::new(RefCell::new(vec![0; driver_protocol::files::notes::bytes_for(slots) as usize])))
    }

    pub(crate) fn set(&self, offset: u64, value: u64) {
        self.write(offset, &value.to_le_bytes());
    }
}

impl Notes for SimulatedNotes {
    fn len_bytes(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0.borrow()[range(offset, bytes.len() as u64)]);
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.0.borrow_mut()[range(offset, bytes.len() as u64)].copy_from_slice(bytes);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Wanted,
    Requested,
    Clean,
    Dirty,
    WritingBack,
    WritingBackDirtied,
}

/// Pages that are there or asked for.
type Cache = BTreeMap<u64, (State, Vec<u8>)>;

/// The kernel's side of a file: its cache, which outlives the server.
#[derive(Clone)]
pub(crate) struct SimulatedPages {
    pub(crate) cache: Rc<RefCell<Cache>>,
    /// The memory's length in pages, and how many of them the pager may have something for.
    pub(crate) len: Rc<Cell<u64>>,
    pub(crate) backed: Rc<Cell<u64>>,
    pub(crate) failed: Rc<Cell<u64>>,
    staging: Rc<RefCell<Vec<u8>>>,
    listener: Rc<RefCell<Option<Rc<dyn Listener>>>>,
}

impl SimulatedPages {
    pub(crate) fn new(staging: Rc<RefCell<Vec<u8>>>, pages: u64) -> Self {
        Self {
            cache: Rc::default(),
            len: Rc::new(Cell::new(pages)),
            backed: Rc::new(Cell::new(pages)),
            failed: Rc::default(),
            staging,
            listener: Rc::default(),
        }
    }

    /// Reads a page, if it is there or known to be zeros; wants it otherwise.
    pub(crate) fn read_page(&self, page: u64) -> Option<Vec<u8>> {
        let mut cache = self.cache.borrow_mut();
        match cache.get(&page) {
            Some((State::Wanted | State::Requested, _)) => None,
            Some((_, bytes)) => Some(bytes.clone()),
            None if page >= self.backed.get() => Some(vec![0; PAGE_BYTES as usize]),
            None => {
                cache.insert(page, (State::Wanted, Vec::new()));
                None
            }
        }
    }

    /// Stores to a page that is there; false if it is not.
    pub(crate) fn store(&self, page: u64, change: impl FnOnce(&mut [u8])) -> bool {
        let Some(mut bytes) = self.read_page(page) else { return false };
        change(&mut bytes);
        let mut cache = self.cache.borrow_mut();
        let state = match cache.get(&page) {
            Some((State::WritingBack | State::WritingBackDirtied, _)) => State::WritingBackDirtied,
            _ => State::Dirty,
        };
        cache.insert(page, (state, bytes));
        true
    }

    /// Cuts off, or adds pages of zeros.
    pub(crate) fn resize(&self, pages: u64) {
        self.cache.borrow_mut().retain(|page, _| *page < pages);
        self.backed.set(self.backed.get().min(pages));
        self.len.set(pages);
    }

    /// Takes the runs of pages in one state, which becomes another.
    pub(crate) fn take_runs(&self, from: State, to: State) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (page, (state, _)) in self.cache.borrow_mut().iter_mut().filter(|(_, (state, _))| *state == from) {
            *state = to;
            match runs.last_mut() {
                Some((_, end)) if *end == *page => *end += 1,
                _ => runs.push((*page, *page + 1)),
            }
        }
        runs
    }

    /// Forgets clean pages.
    pub(crate) fn evict(&self) {
        self.cache.borrow_mut().retain(|_, (state, _)| *state != State::Clean);
    }

    /// The pager is gone.
    pub(crate) fn restart(&self) {
        for (state, _) in self.cache.borrow_mut().values_mut() {
            *state = match *state {
                State::Requested => State::Wanted,
                State::WritingBack | State::WritingBackDirtied => State::Dirty,
                State::Wanted | State::Clean | State::Dirty => *state,
            };
        }
    }

    /// Tells the server what there is to do.
    pub(crate) fn ask(&self, writes: bool) {
        let Some(listener) = self.listener.borrow().clone() else { return };
        for (start, end) in self.take_runs(State::Wanted, State::Requested) {
            listener.fill(start * PAGE_BYTES, (end - start) * PAGE_BYTES, 0);
        }
        if writes {
            for (start, end) in self.take_runs(State::Dirty, State::WritingBack) {
                listener.write_back(start * PAGE_BYTES, (end - start) * PAGE_BYTES);
            }
        }
    }

    fn supply_page(&self, page: u64, bytes: Vec<u8>) {
        let mut cache = self.cache.borrow_mut();
        match cache.get(&page).map(|(state, _)| *state) {
            None | Some(State::Wanted | State::Requested) if page < self.len.get() => {
                cache.insert(page, (State::Clean, bytes));
            }
            _ => {}
        }
    }
}

impl Pages for SimulatedPages {
    fn listen(&self, listener: Rc<dyn Listener>) -> Result<(), Failed> {
        self.restart();
        self.listener.replace(Some(listener));
        Ok(())
    }

    fn end(&self) {
        self.listener.take();
    }

    fn supply(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<(), Failed> {
        for at in (0..len_bytes).step_by(PAGE_BYTES as usize) {
            let bytes = self.staging.borrow()[range(staging + at, PAGE_BYTES)].to_vec();
            self.supply_page((offset + at) / PAGE_BYTES, bytes);
            // The frame has gone.
            self.staging.borrow_mut()[range(staging + at, PAGE_BYTES)].fill(0);
        }
        Ok(())
    }

    fn supply_zeros(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        let pages = offset / PAGE_BYTES..(offset + len_bytes) / PAGE_BYTES;
        pages.for_each(|page| self.supply_page(page, vec![0; PAGE_BYTES as usize]));
        Ok(())
    }

    fn copy(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<u64, Failed> {
        for at in (0..len_bytes).step_by(PAGE_BYTES as usize) {
            let page = (offset + at) / PAGE_BYTES;
            if page >= self.len.get() {
                return Ok(at);
            }
            let cache = self.cache.borrow();
            let mut staging_bytes = self.staging.borrow_mut();
            let to = &mut staging_bytes[range(staging + at, PAGE_BYTES)];
            match cache.get(&page) {
                Some((State::Wanted | State::Requested, _)) | None => to.fill(0),
                Some((_, bytes)) => to.copy_from_slice(bytes),
            }
        }
        Ok(len_bytes)
    }

    fn written(&self, offset: u64, len_bytes: u64) {
        let end = (offset + len_bytes) / PAGE_BYTES;
        for (_, (state, _)) in self.cache.borrow_mut().range_mut(offset / PAGE_BYTES..end) {
            *state = match *state {
                State::WritingBack => State::Clean,
                State::WritingBackDirtied => State::Dirty,
                State::Wanted | State::Requested | State::Clean | State::Dirty => *state,
            };
        }
        self.backed.set(self.backed.get().max(end.min(self.len.get())));
    }

    fn fail(&self, offset: u64, len_bytes: u64) {
        self.failed.set(self.failed.get() + 1);
        let range = offset / PAGE_BYTES..(offset + len_bytes) / PAGE_BYTES;
        self.cache.borrow_mut().retain(|page, (state, _)| {
            if !range.contains(page) {
                return true;
            }
            match *state {
                State::Wanted | State::Requested => return false,
                State::WritingBack | State::WritingBackDirtied => *state = State::Dirty,
                State::Clean | State::Dirty => {}
            }
            true
        });
    }
}
