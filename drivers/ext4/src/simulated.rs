//! A disk for tests, which forgets what was not flushed when the power goes, and an executor for one future.
#![allow(dead_code, reason = "each test program uses its part")]

use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use ext4::buffers::TransactionId;
use ext4::device::{Device, DeviceFailed, SECTOR_BYTES};
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

/// Polls more often than any test needs: a future that waits for nobody.
const MOST_POLLS: u64 = 3_000_000;

/// Runs a future to its end. All wakers are ignored: it is polled again and again.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    run_while(future, || true).expect("the future ends")
}

/// Runs a future as long as a condition holds before each poll; then it is dropped.
pub(crate) fn run_while<F: Future>(future: F, goes_on: impl Fn() -> bool) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..MOST_POLLS {
        if !goes_on() {
            return None;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
    }
    panic!("the future never ends");
}

/// Lets others go first, so many times.
pub(crate) async fn pause(mut polls: u32) {
    poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(());
        }
        polls -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Numbers that only look random (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// What a sector was overwritten with, and when.
type Version = (u64, [u8; SECTOR_BYTES]);

/// A disk in memory, with a volatile cache, whose requests take a number of polls.
pub(crate) struct Disk {
    platter: RefCell<Vec<u8>>,
    /// Everything written since the last flush, per sector, the newest last.
    volatile: RefCell<BTreeMap<u64, Vec<Version>>>,
    /// Writes under way.
    in_flight: RefCell<BTreeMap<u64, (u64, Vec<u8>)>>,
    clock: Cell<u64>,
    delay: Cell<u32>,
    write_delay: Cell<u32>,
    /// Delays are drawn from here, up to `delay`.
    jitter: RefCell<Option<Random>>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    flushes: Cell<u64>,
    failing: Cell<bool>,
    /// Requests until the power goes.
    fuse: Cell<Option<u64>>,
    /// Requests until each one fails.
    patience: Cell<Option<u64>>,
    note: Cell<u64>,
    /// The first sectors of all requests.
    touched: RefCell<BTreeSet<u64>>,
    /// Requests for what the disk does not have.
    wild: Cell<u64>,
    closing: RefCell<Vec<(TransactionId, u64)>>,
    recovered: RefCell<Vec<TransactionId>>,
}

impl Disk {
    pub(crate) fn new(sectors: usize) -> Self {
        Self::from_bytes(vec![0; sectors * SECTOR_BYTES])
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            platter: RefCell::new(bytes),
            volatile: RefCell::default(),
            in_flight: RefCell::default(),
            clock: Cell::new(0),
            delay: Cell::new(0),
            write_delay: Cell::new(0),
            jitter: RefCell::new(None),
            reads: Cell::new(0),
            writes: Cell::new(0),
            flushes: Cell::new(0),
            failing: Cell::new(false),
            fuse: Cell::new(None),
            patience: Cell::new(None),
            note: Cell::new(0),
            touched: RefCell::default(),
            wild: Cell::new(0),
            closing: RefCell::default(),
            recovered: RefCell::default(),
        }
    }

    /// Polls that each request takes.
    pub(crate) fn set_delay(&self, polls: u32) {
        self.delay.set(polls);
        self.write_delay.set(polls);
    }

    /// Polls that each write and flush takes.
    pub(crate) fn set_write_delay(&self, polls: u32) {
        self.write_delay.set(polls);
    }

    /// Makes each request take up to so many polls, so that requests overtake each other.
    pub(crate) fn set_jitter(&self, polls: u32, random: Random) {
        self.set_delay(polls);
        *self.jitter.borrow_mut() = Some(random);
    }

    pub(crate) fn fail_writes(&self, failing: bool) {
        self.failing.set(failing);
    }

    /// Makes all requests fail after `requests` more.
    pub(crate) fn fail_after(&self, requests: u64) {
        self.patience.set(Some(requests));
    }

    /// Requests until all of them fail.
    pub(crate) fn requests_left(&self) -> u64 {
        self.patience.get().unwrap_or(u64::MAX)
    }

    /// Lets the power go after `requests` more.
    pub(crate) fn cut_after(&self, requests: u64) {
        self.fuse.set(Some(requests));
    }

    pub(crate) fn is_on(&self) -> bool {
        self.fuse.get() != Some(0)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.get()
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.get()
    }

    /// Sets what is noted of each transaction that closes from now on.
    pub(crate) fn set_note(&self, note: u64) {
        self.note.set(note);
    }

    /// The transactions that closed, in their order, with the note of that moment.
    pub(crate) fn closed(&self) -> Vec<(TransactionId, u64)> {
        self.closing.borrow().clone()
    }

    /// What mounts found to be the last transaction.
    pub(crate) fn recovered_last(&self) -> Vec<TransactionId> {
        self.recovered.borrow().clone()
    }

    /// The first sectors of all requests so far.
    pub(crate) fn touched(&self) -> Vec<u64> {
        self.touched.borrow().iter().copied().collect()
    }

    /// Requests for what the disk does not have.
    pub(crate) fn wild_requests(&self) -> u64 {
        self.wild.get()
    }

    /// Notes a request. Whether the disk has what it is for.
    fn admit(&self, first_sector: u64, bytes: &[u8]) -> Result<(), DeviceFailed> {
        self.touched.borrow_mut().insert(first_sector);
        let end = first_sector.checked_add((bytes.len() / SECTOR_BYTES) as u64);
        if end.is_some_and(|end| end <= self.sectors()) {
            return Ok(());
        }
        self.wild.set(self.wild.get() + 1);
        Err(DeviceFailed)
    }

    /// What the disk has once all is flushed.
    pub(crate) fn durable(&self) -> Vec<u8> {
        let mut bytes = self.platter.borrow().clone();
        for (sector, versions) in self.volatile.borrow().iter() {
            let (_, newest) = versions.last().unwrap();
            put_sector(&mut bytes, *sector, newest);
        }
        bytes
    }

    /// What the disk may have after the power went: of each sector what was flushed last, or anything written since.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.platter.borrow().clone();
        // Often nothing or all of it survives: these are the most likely cuts.
        let bias = random.below(4);
        for (sector, versions) in self.volatile.borrow().iter() {
            let survivor = match bias {
                0 => 0,
                1 => versions.len() as u64,
                _ => random.below(versions.len() as u64 + 1),
            };
            if let Some((_, version)) = survivor.checked_sub(1).and_then(|index| versions.get(index as usize)) {
                put_sector(&mut bytes, *sector, version);
            }
        }
        for (first_sector, written) in self.in_flight.borrow().values() {
            for (index, sector) in written.chunks_exact(SECTOR_BYTES).enumerate() {
                if random.one_in(2) {
                    put_sector(&mut bytes, first_sector + index as u64, sector);
                }
            }
        }
        bytes
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// A request takes its time, or never ends because the power went.
    async fn take_time(&self, delay: u32) -> Result<(), DeviceFailed> {
        if let Some(left) = self.fuse.get() {
            self.fuse.set(Some(left.saturating_sub(1)));
        }
        if !self.is_on() {
            core::future::pending::<()>().await;
        }
        if let Some(left) = self.patience.get() {
            self.patience.set(Some(left.saturating_sub(1)));
            if left == 0 {
                return Err(DeviceFailed);
            }
        }
        let drawn = self.jitter.borrow_mut().as_mut().map(|random| random.below(u64::from(delay) + 1) as u32);
        pause(drawn.unwrap_or(delay)).await;
        Ok(())
    }

    /// A write has arrived in the volatile cache.
    fn arrive(&self, first_sector: u64, bytes: &[u8]) {
        let now = self.tick();
        let mut volatile = self.volatile.borrow_mut();
        for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            volatile.entry(first_sector + index as u64).or_default().push((now, sector.try_into().unwrap()));
        }
    }
}

fn put_sector(bytes: &mut [u8], sector: u64, contents: &[u8]) {
    let at = sector as usize * SECTOR_BYTES;
    bytes[at..at + SECTOR_BYTES].copy_from_slice(contents);
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        (self.platter.borrow().len() / SECTOR_BYTES) as u64
    }

    async fn read(&self, first_sector: u64, bytes: &mut [u8]) -> Result<(), DeviceFailed> {
        self.reads.set(self.reads.get() + 1);
        self.admit(first_sector, bytes)?;
        self.take_time(self.delay.get()).await?;
        let at = first_sector as usize * SECTOR_BYTES;
        bytes.copy_from_slice(self.platter.borrow().get(at..at + bytes.len()).ok_or(DeviceFailed)?);
        let volatile = self.volatile.borrow();
        for (sector, versions) in volatile.range(first_sector..first_sector + (bytes.len() / SECTOR_BYTES) as u64) {
            put_sector(bytes, sector - first_sector, &versions.last().unwrap().1);
        }
        Ok(())
    }

    async fn write(&self, first_sector: u64, bytes: &[u8]) -> Result<(), DeviceFailed> {
        self.writes.set(self.writes.get() + 1);
        self.admit(first_sector, bytes)?;
        if self.failing.get() {
            return Err(DeviceFailed);
        }
        let ticket = self.tick();
        self.in_flight.borrow_mut().insert(ticket, (first_sector, bytes.to_vec()));
        let done = self.take_time(self.write_delay.get()).await;
        self.in_flight.borrow_mut().remove(&ticket);
        done?;
        self.arrive(first_sector, bytes);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceFailed> {
        self.flushes.set(self.flushes.get() + 1);
        let before = self.tick();
        self.take_time(self.write_delay.get()).await?;
        let mut platter = self.platter.borrow_mut();
        self.volatile.borrow_mut().retain(|sector, versions| {
            let flushed = versions.partition_point(|(when, _)| *when <= before);
            if let Some((_, version)) = versions.drain(..flushed).next_back() {
                put_sector(&mut platter, *sector, &version);
            }
            !versions.is_empty()
        });
        Ok(())
    }

    fn closing(&self, transaction: TransactionId) {
        self.closing.borrow_mut().push((transaction, self.note.get()));
    }

    fn recovered(&self, last: TransactionId) {
        self.recovered.borrow_mut().push(last);
    }
}
