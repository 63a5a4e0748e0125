//! The service against a swap memory, a disk that is slow and fails, and a kernel that asks for pages in random order.

extern crate std;

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use futures_util::FutureExt as _;

/// Pages of the swap memory.
const PAGES: u64 = 2048;

/// What a page of the swap memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Missing,
    Requested,
    /// With its content.
    WritingBack(u64),
    Clean(u64),
}

/// The kernel, the disk and the staging memory.
struct World {
    pages: RefCell<Vec<Page>>,
    disk: RefCell<BTreeMap<u64, u64>>,
    staging: RefCell<Vec<Option<u64>>>,
    /// Places of the staging memory that the disk is busy with.
    busy: RefCell<BTreeSet<u64>>,
    bad: RefCell<BTreeSet<u64>>,
    failed: RefCell<Vec<u64>>,
    asked: RefCell<VecDeque<Request>>,
    is_over: Cell<bool>,
    memory_refusals: Cell<u32>,
    chance: Cell<u64>,
    most_under_way: Cell<usize>,
    pauses: Cell<u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            pages: RefCell::new(alloc::vec![Page::Missing; PAGES as usize]),
            disk: RefCell::default(),
            staging: RefCell::new(alloc::vec![None; STAGING_PAGES as usize]),
            busy: RefCell::default(),
            bad: RefCell::default(),
            failed: RefCell::default(),
            asked: RefCell::default(),
            is_over: Cell::new(false),
            memory_refusals: Cell::new(0),
            chance: Cell::new(seed),
            most_under_way: Cell::new(0),
            pauses: Cell::new(0),
        }
    }

    fn random(&self, below: u64) -> u64 {
        let mut chance = self.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.chance.set(chance);
        chance % below
    }

    fn page(&self, page: u64) -> Page {
        self.pages.borrow()[page as usize]
    }

    fn set(&self, page: u64, state: Page) {
        self.pages.borrow_mut()[page as usize] = state;
    }

    fn ask(&self, kind: Kind, page: u64, count: u64) {
        self.asked.borrow_mut().push_back(Request { kind, page, count });
    }

    /// Others have their turn, some times.
    async fn delay(&self) {
        let mut turns = self.random(8);
        core::future::poll_fn(|context| {
            if turns == 0 {
                return Poll::Ready(());
            }
            turns -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// The disk has a run of the staging memory while this lasts; fails if one of the pages is bad.
    async fn with_disk(&self, page: u64, run: Run, transfer: impl Fn(u64, u64)) -> Result<(), Failed> {
        for place in run.first..run.first + run.count {
            assert!(self.busy.borrow_mut().insert(place), "two transfers share page {place} of the staging memory");
        }
        self.most_under_way.set(self.most_under_way.get().max(self.busy.borrow().len()));
        self.delay().await;
        let is_bad = self.bad.borrow().range(page..page + run.count).next().is_some();
        for index in 0..run.count {
            self.busy.borrow_mut().remove(&(run.first + index));
            if !is_bad {
                transfer(page + index, run.first + index);
            }
        }
        if is_bad { Err(Failed) } else { Ok(()) }
    }
}

impl Disk for World {
    async fn read(&self, page: u64, run: Run) -> Result<(), Failed> {
        let transfer = |page, place: u64| {
            self.staging.borrow_mut()[place as usize] = self.disk.borrow().get(&page).copied();
        };
        self.with_disk(page, run, transfer).await
    }

    async fn write(&self, page: u64, run: Run) -> Result<(), Failed> {
        let transfer = |page, place: u64| {
            let content = self.staging.borrow()[place as usize].expect("something was staged");
            self.disk.borrow_mut().insert(page, content);
        };
        self.with_disk(page, run, transfer).await
    }
}

impl Pages for World {
    fn stage(&self, page: u64, run: Run) -> Result<(), Failed> {
        for index in 0..run.count {
            let Page::WritingBack(content) = self.page(page + index) else {
                panic!("page {} is not to be written", page + index)
            };
            self.staging.borrow_mut()[(run.first + index) as usize] = Some(content);
        }
        Ok(())
    }

    fn supply(&self, page: u64, run: Run) -> Result<(), SupplyError> {
        assert_eq!(run.count, 1);
        assert_eq!(self.page(page), Page::Requested, "page {page} is supplied once");
        if self.memory_refusals.get() > 0 {
            self.memory_refusals.set(self.memory_refusals.get() - 1);
            return Err(SupplyError::NoMemory);
        }
        // The frame moves.
        let content = self.staging.borrow_mut()[run.first as usize].take();
        self.set(page, Page::Clean(content.expect("something was read")));
        Ok(())
    }

    fn written(&self, page: u64, count: u64) {
        for page in page..page + count {
            let Page::WritingBack(content) = self.page(page) else { panic!("page {page} was not written") };
            assert_eq!(self.disk.borrow().get(&page), Some(&content));
            self.set(page, Page::Clean(content));
        }
    }

    fn fail(&self, page: u64, count: u64) {
        for page in page..page + count {
            assert!(matches!(self.page(page), Page::Requested | Page::WritingBack(_)));
            self.set(page, Page::Missing);
            self.failed.borrow_mut().push(page);
        }
    }

    async fn pause(&self, _duration_ns: u64) {
        self.pauses.set(self.pauses.get() + 1);
        self.delay().await;
    }
}

struct Asked(Rc<World>);

impl Requests for Asked {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Request, Failed>> {
        match self.0.asked.borrow_mut().pop_front() {
            Some(request) => Poll::Ready(Ok(request)),
            None if self.0.is_over.get() => Poll::Ready(Err(Failed)),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Serves until nothing is asked for and nothing is under way any more.
fn settle(world: &Rc<World>) {
    let is_settled = || {
        let waits = |page: &Page| matches!(page, Page::Requested | Page::WritingBack(_));
        world.asked.borrow().is_empty() && !world.pages.borrow().iter().any(waits)
    };
    let mut service = pin!(serve(Asked(world.clone()), &**world, &**world));
    for _ in 0..1_000_000 {
        assert!(service.as_mut().now_or_never().is_none());
        if is_settled() {
            world.is_over.set(true);
            service.as_mut().now_or_never().expect("the service ends with its memory");
            return world.is_over.set(false);
        }
    }
    panic!("not all requests were served");
}

/// Has pages written back, in runs of up to `longest`.
fn write(world: &Rc<World>, longest: u64, content: impl Fn(u64) -> u64) {
    let mut page = 0;
    while page < PAGES {
        let count = (1 + world.random(longest)).min(PAGES - page);
        (page..page + count).for_each(|page| world.set(page, Page::WritingBack(content(page))));
        world.ask(Kind::Writeback, page, count);
        page += count;
    }
}

/// Drops all pages and asks for them, in runs of up to `longest`.
fn read(world: &Rc<World>, longest: u64) {
    let mut page = 0;
    while page < PAGES {
        let count = (1 + world.random(longest)).min(PAGES - page);
        (page..page + count).for_each(|page| world.set(page, Page::Requested));
        world.ask(Kind::Fill, page, count);
        page += count;
    }
}

#[test]
fn what_was_written_comes_back() {
    for seed in 1..20 {
        let world = Rc::new(World::new(seed * 0x9e37_79b9));
        write(&world, 256, |page| page * seed);
        settle(&world);
        read(&world, 256);
        world.memory_refusals.set(10);
        settle(&world);
        assert!((0..PAGES).all(|page| world.page(page) == Page::Clean(page * seed)));
        assert!(world.failed.borrow().is_empty());
        assert!(world.most_under_way.get() > 64, "{} pages were under way at most", world.most_under_way.get());
    }
}

#[test]
fn only_pages_that_the_disk_has_lost_are_failed() {
    let world = Rc::new(World::new(7));
    write(&world, 256, |page| page + 1);
    settle(&world);
    let bad = [3, 700, 701, 2047];
    world.bad.borrow_mut().extend(bad);
    read(&world, 256);
    settle(&world);
    world.failed.borrow_mut().sort_unstable();
    assert_eq!(*world.failed.borrow(), bad);
    let is_right = |page| world.page(page) == if bad.contains(&page) { Page::Missing } else { Page::Clean(page + 1) };
    assert!((0..PAGES).all(is_right));
}

#[test]
fn a_page_that_cannot_be_written_stays_and_the_kernel_asks_later() {
    let world = Rc::new(World::new(11));
    world.bad.borrow_mut().insert(100);
    write(&world, 256, |page| page + 1);
    settle(&world);
    assert_eq!(*world.failed.borrow(), [100]);
    assert_eq!(world.pauses.get(), 1);
    assert!((0..PAGES).filter(|page| *page != 100).all(|page| world.page(page) == Page::Clean(page + 1)));
}

#[test]
fn who_waits_for_a_page_does_not_wait_for_all_that_is_written() {
    let world = Rc::new(World::new(13));
    world.disk.borrow_mut().insert(PAGES - 1, 77);
    let mut service = pin!(serve(Asked(world.clone()), &*world, &*world));
    for page in 0..PAGES - 1 {
        world.set(page, Page::WritingBack(page));
    }
    for page in (0..PAGES - 256).step_by(256) {
        world.ask(Kind::Writeback, page, 256);
    }
    assert!(service.as_mut().now_or_never().is_none());
    world.set(PAGES - 1, Page::Requested);
    world.ask(Kind::Fill, PAGES - 1, 1);
    let mut polls = 0;
    while world.page(PAGES - 1) != Page::Clean(77) {
        assert!(service.as_mut().now_or_never().is_none());
        polls += 1;
    }
    assert!(polls <= 10, "the fill waited for {polls} turns");
    let left = world.pages.borrow().iter().filter(|page| matches!(page, Page::WritingBack(_))).count();
    assert!(left > 0, "all had been written before");
}
