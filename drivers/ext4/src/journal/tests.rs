//! Power cuts under a journal, without a file system: operations change, free and allot blocks at random.

use super::*;
use crate::buffers::{Buffers, Kind, TransactionId};
use crate::simulated::{Disk, Random, pause, run, run_while};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const BLOCK: usize = 1024;
const SECTORS_PER_BLOCK: usize = BLOCK / crate::device::SECTOR_BYTES;
/// Blocks of the file system.
const BLOCKS: u64 = 300;
/// The block that counts operations.
const COUNTER: u64 = 1;
/// Blocks that operations play with.
const PLAYGROUND: core::ops::Range<u64> = 2..60;
const JOURNAL_BLOCKS: u32 = 100;
/// How a block begins that would be taken for a record of the log.
const MAGIC: [u8; 4] = [0xC0, 0x3B, 0x39, 0x98];

fn runs() -> [Run; 2] {
    [Run { first: 0, physical: 100, count: 30 }, Run { first: 30, physical: 150, count: JOURNAL_BLOCKS - 30 }]
}

fn blank_image() -> Vec<u8> {
    let mut image = vec![0; BLOCKS as usize * BLOCK];
    image[100 * BLOCK..101 * BLOCK].copy_from_slice(&Superblock::blank(BLOCK, JOURNAL_BLOCKS));
    image
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Metadata(u64),
    Free,
    Data(u64),
}

/// What a block of metadata holds, some of them what looks like a record of the log.
fn metadata(value: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    if value == 0 {
        return bytes;
    }
    bytes[..4].copy_from_slice(if value.is_multiple_of(5) { &MAGIC } else { b"data" });
    bytes[8..16].copy_from_slice(&value.to_le_bytes());
    bytes[BLOCK - 8..].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn data(value: u64) -> Vec<u8> {
    value.to_be_bytes().repeat(BLOCK / 8)
}

/// The uses of all blocks after each operation, from the very beginning on.
struct History {
    states: Vec<Vec<Use>>,
    random: Random,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { states: vec![vec![Use::Metadata(0); BLOCKS as usize]], random: Random::new(seed) }
    }

    fn operations(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    async fn operate(&mut self, buffers: &Buffers<Disk>) -> Result<()> {
        let value = self.operations() + 1;
        let mut state = self.states.last().unwrap().clone();
        let operation = buffers.begin(8).await?;
        let counter = buffers.get(COUNTER, Kind::Plain, |_| Ok(())).await?;
        operation.change(&counter, 0..8, |bytes| bytes.copy_from_slice(&value.to_le_bytes()));
        for _ in 0..self.random.below(4) {
            let number = PLAYGROUND.start + self.random.below(PLAYGROUND.end - PLAYGROUND.start);
            let block = &mut state[number as usize];
            *block = match *block {
                Use::Metadata(_) if self.random.one_in(4) => {
                    operation.free_block(number);
                    Use::Free
                }
                Use::Metadata(_) => {
                    let block = buffers.get(number, Kind::Plain, |_| Ok(())).await?;
                    operation.change(&block, 0..BLOCK, |bytes| bytes.copy_from_slice(&metadata(value)));
                    Use::Metadata(value)
                }
                Use::Free if buffers.pending_in(number, 1).is_some() => Use::Free,
                Use::Free if self.random.one_in(2) => {
                    let block = operation.new_block(number, Kind::Plain)?;
                    operation.change(&block, 0..BLOCK, |bytes| bytes.copy_from_slice(&metadata(value)));
                    Use::Metadata(value)
                }
                Use::Free => {
                    buffers.device().write(number * SECTORS_PER_BLOCK as u64, &data(value)).await?;
                    Use::Data(value)
                }
                Use::Data(_) => {
                    operation.free_data(number, 1);
                    Use::Free
                }
            };
        }
        if self.random.one_in(8) {
            return Ok(());
        }
        operation.finish();
        self.states.push(state);
        buffers.device().set_note(value);
        Ok(())
    }

    /// Checks that an image has all of the first operations and nothing of others. How many.
    fn check(&self, image: &[u8]) -> u64 {
        let block = |number: usize| &image[number * BLOCK..(number + 1) * BLOCK];
        let count = u64::from_le_bytes(block(COUNTER as usize)[..8].try_into().unwrap());
        for number in PLAYGROUND {
            match self.states[count as usize][number as usize] {
                Use::Metadata(value) => {
                    assert!(block(number as usize) == metadata(value), "block {number} after {count}")
                }
                Use::Data(value) => assert!(block(number as usize) == data(value), "data {number} after {count}"),
                Use::Free => {}
            }
        }
        count
    }
}

async fn mount(disk: &Rc<Disk>, options: Options) -> Result<Buffers<Disk>> {
    let opened = open(&**disk, BLOCK, BLOCKS, &runs(), options).await?;
    Ok(Buffers::with_journal(disk.clone(), BLOCK, BLOCKS, opened.journal))
}

/// Recovers an image, with the power failing now and then.
fn recover(mut image: Vec<u8>, options: Options, random: &mut Random) -> (Vec<u8>, TransactionId) {
    let mut last = None;
    loop {
        let disk = Rc::new(Disk::from_bytes(image));
        if random.one_in(2) {
            disk.cut_after(random.below(40));
        }
        let mounted = run_while(mount(&disk, options), || disk.is_on());
        let found = disk.recovered_last().first().copied();
        last = last.or(found);
        if let Some(mounted) = mounted {
            mounted.unwrap();
            return (disk.after_power_cut(random), last.unwrap());
        }
        image = disk.after_power_cut(random);
    }
}

/// What a life of the file system left behind: its image, the operations that were promised, and what was noted.
struct Remains {
    image: Vec<u8>,
    promised: u64,
    notes: Vec<(TransactionId, u64)>,
}

fn live(image: Vec<u8>, history: &mut History, options: Options, requests: u64) -> Remains {
    let disk = Rc::new(Disk::from_bytes(image));
    let mut promised = history.operations();
    disk.set_note(promised);
    let mut random = history.random.clone();
    random.next();
    disk.set_jitter(random.below(4) as u32, random.clone());
    let buffers = run(mount(&disk, options)).unwrap();
    disk.cut_after(requests);
    let commits = async {
        let mut random = random.clone();
        loop {
            let begun = disk.closed().len();
            let id = buffers.commit().await.unwrap();
            let noted = disk.closed();
            promised = noted.iter().rfind(|(closed, _)| *closed <= id).map_or(promised, |(_, note)| *note);
            if random.one_in(8) {
                buffers.tidy().await.unwrap();
            }
            if random.one_in(32) {
                buffers.settle_all().await.unwrap();
            }
            assert!(disk.closed().len() >= begun);
            pause(random.below(64) as u32).await;
        }
    };
    let operations = async {
        loop {
            history.operate(&buffers).await.unwrap();
            pause(history.random.below(8) as u32).await;
        }
    };
    let both = futures_util::future::join::<_, _>(commits, operations);
    let ended: Option<((), ())> = run_while(both, || disk.is_on());
    assert!(ended.is_none());
    assert_eq!(buffers.overdrawn(), 0);
    let image = disk.after_power_cut(&mut history.random);
    Remains { image, promised, notes: disk.closed() }
}

fn torture(seed: u64, options: Options, lives: usize) {
    let mut history = History::new(seed);
    let mut image = blank_image();
    for life in 0..lives {
        let requests = history.random.below(400);
        let remains = live(image, &mut history, options, requests);
        let (recovered, last) = recover(remains.image, options, &mut history.random.clone());
        let count = history.check(&recovered);
        assert!(count >= remains.promised, "seed {seed}, life {life}: {count} of {} promised", remains.promised);
        let noted = remains.notes.iter().rfind(|(id, _)| *id <= last).map(|(_, note)| *note);
        assert!(noted.is_none_or(|noted| noted == count), "seed {seed}, life {life}: {noted:?} noted, {count} there");
        history.states.truncate(count as usize + 1);
        history.random.next();
        image = recovered;
    }
}

fn seeds(short: u64) -> core::ops::Range<u64> {
    0..std::env::var("EXT4_TORTURE").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(short)
}

#[test]
fn power_cuts_leave_whole_operations_with_sums() {
    seeds(8).for_each(|seed| torture(seed, Options { checksums: true, wide: true }, 20));
}

#[test]
fn power_cuts_leave_whole_operations_without_sums() {
    seeds(8).for_each(|seed| torture(1000 + seed, Options { checksums: false, wide: seed % 2 == 0 }, 20));
}

#[test]
fn commits_that_come_together_share_one() {
    let disk = Rc::new(Disk::from_bytes(blank_image()));
    let mut history = History::new(5);
    disk.set_delay(2);
    run(async {
        let buffers = mount(&disk, Options { checksums: true, wide: true }).await.unwrap();
        while history.operations() < 3 {
            history.operate(&buffers).await.unwrap();
        }
        let before = disk.flushes();
        let commits = futures_util::future::join_all((0..8).map(|_| buffers.commit())).await;
        assert!(commits.iter().all(|commit| *commit == commits[0]));
        assert_eq!(disk.flushes() - before, 2);
        assert_eq!(buffers.commit().await, commits[0], "nothing to do");
        assert_eq!(disk.flushes() - before, 2);
    });
}

/// A device that fails from some request on: errors for everybody, and no promise is broken.
#[test]
fn a_device_that_dies_breaks_no_promise() {
    let options = Options { checksums: true, wide: true };
    for requests in 0..300 {
        let disk = Rc::new(Disk::from_bytes(blank_image()));
        let mut history = History::new(7);
        disk.fail_after(requests);
        let mut promised = 0;
        run(async {
            let Ok(buffers) = mount(&disk, options).await else { return };
            for round in 0..200 {
                if history.operate(&buffers).await.is_err() || (round % 4 == 0 && buffers.commit().await.is_err()) {
                    break;
                }
                promised = if round % 4 == 0 { history.operations() } else { promised };
            }
            assert!(disk.requests_left() > 0 || buffers.commit().await.is_err() || promised == history.operations());
        });
        let (recovered, _) =
            recover(disk.after_power_cut(&mut Random::new(requests)), options, &mut Random::new(requests));
        assert!(history.check(&recovered) >= promised, "{requests} requests");
    }
}

/// A commit that its caller gives up in the middle is completed by the next one.
#[test]
fn a_commit_that_is_given_up_is_taken_up_again() {
    let options = Options { checksums: false, wide: false };
    for polls in 0..60 {
        let disk = Rc::new(Disk::from_bytes(blank_image()));
        let mut history = History::new(11);
        disk.set_delay(2);
        let count = run(async {
            let buffers = mount(&disk, options).await.unwrap();
            for _ in 0..10 {
                history.operate(&buffers).await.unwrap();
            }
            let mut left = polls;
            let patience = core::future::poll_fn(move |_| {
                left -= 1;
                if left < 0 { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
            });
            let _ = futures_util::future::select(core::pin::pin!(buffers.commit()), patience).await;
            for _ in 0..10 {
                history.operate(&buffers).await.unwrap();
            }
            buffers.commit().await.unwrap();
            history.operations()
        });
        let (recovered, _) = recover(disk.after_power_cut(&mut Random::new(1)), options, &mut Random::new(1));
        assert_eq!(history.check(&recovered), count);
    }
}

#[test]
fn neither_readers_nor_operations_wait_for_a_commit() {
    let disk = Rc::new(Disk::from_bytes(blank_image()));
    let mut history = History::new(3);
    run(async {
        let buffers = mount(&disk, Options { checksums: true, wide: true }).await.unwrap();
        for _ in 0..20 {
            history.operate(&buffers).await.unwrap();
        }
        disk.set_write_delay(1000);
        let mut commit = core::pin::pin!(buffers.commit());
        let reads = async {
            for number in 200..240 {
                buffers.get(number, Kind::Plain, |_| Ok(())).await.unwrap();
                let operation = buffers.begin(8).await.unwrap();
                let counter = buffers.get(COUNTER, Kind::Plain, |_| Ok(())).await.unwrap();
                operation.change(&counter, 0..8, |bytes| bytes[0] ^= 1);
                operation.finish();
            }
        };
        assert!(run_once(commit.as_mut()).await, "the log is being written");
        let reads = core::pin::pin!(reads);
        let first = futures_util::future::select(commit.as_mut(), reads).await;
        assert!(matches!(first, futures_util::future::Either::Right(_)), "nobody waited for the commit");
        commit.await.unwrap();
    });
}

/// Polls a future once. Whether it has to be polled again.
async fn run_once<F: Future>(mut future: core::pin::Pin<&mut F>) -> bool {
    core::future::poll_fn(|context| core::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}
