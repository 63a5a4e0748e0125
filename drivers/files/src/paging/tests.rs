//! Files over a simulated disk, kernel and file system, against a model: whatever is stored, cut off, written back, evicted and read again, in
//! whatever order the disk answers, the bytes are those that were stored last.

use super::*;
use crate::platform::PAGE_BYTES;
use crate::signal::Signal;
use crate::simulation::{Simulated, SimulatedNotes, SimulatedPages, State};
use core::cell::RefCell;
use std::collections::BTreeMap;
use std::vec;

const BLOCK_BYTES: u64 = 4096;
const DISK_BLOCKS: u64 = 96;
const STAGING_PAGES: u64 = 24;
const FILE_PAGES: u64 = 20;

/// A file system that gives blocks that were freed away again at once.
struct SimpleBlocks {
    machine: Rc<Simulated>,
    places: RefCell<BTreeMap<(u64, u64), u64>>,
    free: RefCell<Vec<u64>>,
    transaction: Cell<u64>,
    /// How much of each file the disk has, in bytes.
    sizes: RefCell<BTreeMap<u64, u64>>,
    applied: Cell<u64>,
    changed: Signal,
}

impl SimpleBlocks {
    fn new(machine: &Rc<Simulated>) -> Rc<Self> {
        Rc::new(Self {
            machine: machine.clone(),
            places: RefCell::default(),
            free: RefCell::new((0..DISK_BLOCKS).rev().collect()),
            transaction: Cell::new(1),
            sizes: RefCell::default(),
            applied: Cell::new(0),
            changed: Signal::default(),
        })
    }

    fn cut(&self, inode: u64, first: u64) {
        let mut places = self.places.borrow_mut();
        let gone: Vec<(u64, u64)> = places.range((inode, first)..(inode + 1, 0)).map(|(key, _)| *key).collect();
        gone.iter().filter_map(|key| places.remove(key)).for_each(|block| self.free.borrow_mut().push(block));
    }

    async fn pause(&self) {
        let ns = self.machine.random(50_000);
        self.machine.sleep_until(self.machine.now_ns() + ns).await;
    }
}

impl Blocks for SimpleBlocks {
    fn block_bytes(&self) -> u64 {
        BLOCK_BYTES
    }

    async fn map(&self, inode: u64, first: u64, count: u64) -> Result<Vec<Run>, Refused> {
        self.pause().await;
        let places = self.places.borrow();
        let place = |block| places.get(&(inode, block)).map_or(Place::Hole, |at| Place::Written(*at));
        Ok((first..first + count).map(|block| Run { first: block, count: 1, place: place(block) }).collect())
    }

    async fn promise(&self, inode: u64, first: u64, count: u64) -> Result<Vec<Run>, Refused> {
        self.pause().await;
        let count = count.min(1 + self.machine.random(4));
        let mut runs = Vec::new();
        for block in first..first + count {
            assert!(!self.places.borrow().contains_key(&(inode, block)), "there is a block already");
            let Some(at) = self.free.borrow_mut().pop() else {
                self.give_back(&runs);
                return Err(Refused::NoSpace);
            };
            runs.push(Run { first: block, count: 1, place: Place::Promised(at) });
        }
        Ok(runs)
    }

    fn give_back(&self, runs: &[Run]) {
        for run in runs {
            if let Place::Promised(at) = run.place {
                self.free.borrow_mut().push(at);
            }
        }
    }

    async fn attach(&self, inode: u64, runs: &[Run], size: u64) -> Result<u64, Refused> {
        self.pause().await;
        for run in runs {
            if let Place::Promised(at) = run.place {
                assert_eq!(self.places.borrow_mut().insert((inode, run.first), at), None, "attached twice");
            }
        }
        let mut sizes = self.sizes.borrow_mut();
        let stored = sizes.entry(inode).or_default();
        *stored = size.max(*stored);
        Ok(self.transaction.get())
    }

    async fn durable(&self, transaction: u64) -> Result<(), Refused> {
        self.transaction.set(self.transaction.get().max(transaction + 1));
        self.pause().await;
        Ok(())
    }

    async fn applied(&self, sequence: u64) {
        self.changed.until(|| (self.applied.get() >= sequence).then_some(())).await;
    }

    fn note_write(&self) {}
}

type SimulatedFile = File<Simulated, SimpleBlocks>;

struct World {
    machine: Rc<Simulated>,
    blocks: Rc<SimpleBlocks>,
    notes: Rc<SimulatedNotes>,
    files: Vec<Rc<SimulatedFile>>,
    /// What was stored last: one number for each page.
    model: Vec<Vec<u64>>,
    sequence: u64,
    next_value: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let machine = Simulated::new(vec![0; (DISK_BLOCKS * BLOCK_BYTES) as usize], STAGING_PAGES, seed);
        let blocks = SimpleBlocks::new(&machine);
        let notes = Rc::new(SimulatedNotes::new(2));
        let sizes = Sizes { read_pages: STAGING_PAGES / 2, write_pages: STAGING_PAGES / 2 };
        let shared = Shared::new(machine.clone(), blocks.clone(), 0, sizes);
        let files = (0..2).map(|number| {
            let pages = SimulatedPages::new(machine.staging(), 0);
            File::new(&shared, number + 1, (0, 0), pages, Slot { notes: notes.clone(), number })
        });
        let files = files.collect();
        Self { machine, blocks, notes, files, model: vec![Vec::new(); 2], sequence: 0, next_value: 0 }
    }

    fn step(&mut self) {
        let which = self.machine.random(2) as usize;
        match self.machine.random(12) {
            0..=3 => self.store(which),
            4 | 5 => self.look(which),
            6 => self.resize(which),
            7 | 8 => self.files[which].pages.evict(),
            9 | 10 => self.write_back(which),
            _ => self.machine.pass(self.machine.random(300_000)),
        }
        self.ask_for_fills(which);
    }

    fn store(&mut self, which: usize) {
        let page = self.machine.random(FILE_PAGES);
        if page >= self.model[which].len() as u64 {
            self.set_size(which, page + 1);
        }
        self.next_value += 1;
        let value = self.next_value;
        let write = |bytes: &mut [u8]| bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&value.to_le_bytes()));
        if self.files[which].pages.store(page, write) {
            self.model[which][page as usize] = value;
        }
    }

    fn look(&self, which: usize) {
        let page = self.machine.random(self.model[which].len() as u64);
        self.check(which, page);
    }

    fn check(&self, which: usize, page: u64) -> bool {
        let Some(expected) = self.model[which].get(page as usize) else { return true };
        let Some(bytes) = self.files[which].pages.read_page(page) else { return false };
        let expected = expected.to_le_bytes();
        assert!(bytes.chunks(8).all(|part| part == expected), "file {which} page {page}: {:?}", &bytes[..8]);
        true
    }

    fn resize(&mut self, which: usize) {
        let pages = self.machine.random(FILE_PAGES);
        self.set_size(which, pages);
    }

    /// What the client does: slot, memory, then, at some time, the operation.
    fn set_size(&mut self, which: usize, pages: u64) {
        self.sequence += 1;
        let (sequence, inode) = (self.sequence, which as u64 + 1);
        let is_cut = pages < self.model[which].len() as u64;
        self.notes.set(slot_offset(which as u64) + if is_cut { notes::CUT } else { notes::SIZE }, sequence);
        let file = self.files[which].clone();
        file.pages.resize(pages);
        self.model[which].resize(pages as usize, 0);
        let (blocks, machine) = (self.blocks.clone(), self.machine.clone());
        self.machine.spawn(async move {
            machine.sleep_until(machine.now_ns() + machine.random(100_000)).await;
            blocks.applied(sequence - 1).await;
            let turn = file.cut().await;
            blocks.cut(inode, pages);
            file.has_been_cut();
            file.set_size(pages * PAGE_BYTES);
            drop(turn);
            blocks.applied.set(sequence);
            blocks.changed.raise();
        });
    }

    fn write_back(&self, which: usize) {
        let file = &self.files[which];
        for (start, end) in file.pages.take_runs(State::Dirty, State::WritingBack) {
            file.write_back(start * PAGE_BYTES, (end - start) * PAGE_BYTES);
        }
    }

    fn ask_for_fills(&self, which: usize) {
        let file = &self.files[which];
        for (start, end) in file.pages.take_runs(State::Wanted, State::Requested) {
            file.fill(start * PAGE_BYTES, (end - start) * PAGE_BYTES, 0);
        }
    }

    /// Writes everything back, and reads it again from the disk.
    fn settle(&self) {
        self.machine.failures.set(0);
        for _ in 0..4 {
            (0..2).for_each(|which| self.write_back(which));
            self.machine.pass(1_000_000_000);
        }
        for which in 0..2 {
            self.files[which].pages.evict();
            let left: Vec<_> =
                self.files[which].pages.cache.borrow().iter().map(|(page, (state, _))| (*page, *state)).collect();
            assert_eq!(left, [], "something is still dirty");
            for page in 0..self.model[which].len() as u64 {
                self.check(which, page);
                self.ask_for_fills(which);
                self.machine.pass(1_000_000_000);
                assert!(self.check(which, page), "file {which} page {page} does not come");
            }
        }
    }
}

fn run(seed: u64, failures: u64) -> World {
    let mut world = World::new(seed);
    world.machine.failures.set(failures);
    (0..400).for_each(|_| world.step());
    world.settle();
    world
}

#[test]
fn bytes_are_those_that_were_stored_last() {
    let repeated: u64 = (1..200).map(|seed| run(seed, 0).files[0].shared.counts.repeated.get()).sum();
    assert!(repeated > 0, "nothing was ever cut off in the midst of a job");
}

#[test]
fn a_disk_that_fails_now_and_then_loses_nothing() {
    let failures: u64 = (1..100).map(|seed| run(seed, 30).files[0].shared.counts.failures.get()).sum();
    assert!(failures > 0);
}

#[test]
fn reading_in_order_takes_few_requests() {
    let mut world = World::new(1);
    (0..FILE_PAGES).for_each(|_| world.store(0));
    world.set_size(0, FILE_PAGES);
    world.settle();
    let (file, counts) = (&world.files[0], &world.files[0].shared.counts);
    file.pages.evict();
    counts.read_bytes.set(0);
    let before = file.pages.cache.borrow().len();
    for page in 0..FILE_PAGES {
        world.check(0, page);
        world.ask_for_fills(0);
        world.machine.pass(1_000_000_000);
        assert!(world.check(0, page));
    }
    assert_eq!(before, 0);
    let stored = world.model[0].iter().filter(|value| **value != 0).count() as u64;
    assert_eq!(counts.read_bytes.get(), stored * PAGE_BYTES);
}

#[test]
fn a_file_that_is_released_is_left_alone() {
    let mut world = World::new(3);
    world.set_size(0, 4);
    while !world.model[0].iter().all(|value| *value != 0) {
        world.store(0);
    }
    world.write_back(0);
    let file = world.files[0].clone();
    world.machine.complete(async move { file.release().await });
    assert!(world.files[0].pages.cache.borrow().values().all(|(state, _)| *state != State::Clean));
}

#[test]
fn a_successor_goes_on_where_the_dead_one_was() {
    for seed in 1..50 {
        let mut world = World::new(seed);
        (0..200).for_each(|_| world.step());
        // What the client sent is not lost, only what the server was doing.
        world.machine.pass(world.machine.random(1_000_000));
        world.machine.complete({
            let (blocks, sequence) = (world.blocks.clone(), world.sequence);
            async move { blocks.applied(sequence).await }
        });
        (0..2).for_each(|which| world.write_back(which));
        world.machine.pass(world.machine.random(300_000));
        world.machine.kill();
        world.succeed();
        (0..100).for_each(|_| world.step());
        world.settle();
    }
}

impl World {
    /// Another server takes the place of the one that died.
    fn succeed(&mut self) {
        let sizes = Sizes { read_pages: STAGING_PAGES / 2, write_pages: STAGING_PAGES / 2 };
        let shared = Shared::new(self.machine.clone(), self.blocks.clone(), 0, sizes);
        for (number, file) in self.files.iter_mut().enumerate() {
            file.pages.restart();
            let slot = Slot { notes: self.notes.clone(), number: number as u64 };
            *file = File::new(&shared, file.inode, (file.size(), file.stored.get()), file.pages.clone(), slot);
        }
    }
}
