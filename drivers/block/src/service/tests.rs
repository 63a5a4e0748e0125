//! The service over a simulated disk.

extern crate std;

use super::simulation::{Answers, LIMITS, Machine, SimulatedClient, SimulatedDisk, SimulatedMemory};
use super::*;
use alloc::rc::Rc;
use driver_protocol::block::{MAX_REQUESTS, SECTOR_BYTES, Transfer};
use proptest::prelude::*;
use std::collections::BTreeMap;

type TestService = Service<SimulatedDisk, Rc<Machine>, SimulatedClient>;

const MS: u64 = 1_000_000;

struct Bench {
    disk: SimulatedDisk,
    service: TestService,
    answers: Answers,
    now_ns: u64,
    next_number: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: Limits) -> Self {
        let disk = SimulatedDisk::new(4096, limits);
        let service = Service::new(disk.clone(), disk.machine.clone());
        Self { disk, service, answers: Answers::default(), now_ns: 0, next_number: 0 }
    }

    fn open(&mut self, first: u64, count: u64) -> ChannelId {
        self.service.open(SectorRange { first, count }, true).unwrap()
    }

    /// Opens a channel to the whole disk with a memory of so many pages as buffer 0.
    fn client(&mut self, pages: u64) -> (ChannelId, SimulatedMemory) {
        let id = self.open(0, 4096);
        let memory = self.disk.machine.memory(pages);
        let attach = self.send(id, Request::Attach { buffer: 0 }, Some(memory.clone()));
        assert_eq!(self.answer(attach), Some(Ok(())));
        (id, memory)
    }

    fn send(&mut self, id: ChannelId, request: Request, memory: Option<SimulatedMemory>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let (label, words) = request.encode();
        let client = SimulatedClient { number, answers: self.answers.clone() };
        self.service.request(self.now_ns, id, (label, &words), memory, client);
        number
    }

    fn read(&mut self, id: ChannelId, first: u64, count: u64, offset: u64) -> u64 {
        self.send(id, Request::Read { id: 0, transfer: transfer(first, count, offset) }, None)
    }

    fn write(&mut self, id: ChannelId, first: u64, count: u64, offset: u64, flags: WriteFlags) -> u64 {
        self.send(id, Request::Write { id: 0, transfer: transfer(first, count, offset), flags }, None)
    }

    fn answer(&self, number: u64) -> Option<Result<(), Refusal>> {
        self.answers.0.borrow().get(&number).map(|(label, _)| Refusal::check(*label))
    }

    /// Lets time pass until all is quiet.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            match self.service.work(self.now_ns) {
                Next::AtEvent => return,
                Next::Before(time_ns) => self.now_ns = (self.now_ns + MS).min(time_ns.max(self.now_ns + 1)),
            }
        }
        panic!("never quiet");
    }
}

fn transfer(first: u64, count: u64, offset: u64) -> Transfer {
    Transfer { range: SectorRange { first, count }, buffer: 0, offset }
}

#[test]
fn what_was_written_is_read() {
    let mut bench = Bench::new();
    let (id, memory) = bench.client(4);
    bench.disk.machine.write(&memory, 0, &[0xa5; 4096]);
    let write = bench.write(id, 100, 8, 0, WriteFlags::empty());
    bench.settle();
    let read = bench.read(id, 96, 16, 4096);
    bench.settle();
    assert_eq!((bench.answer(write), bench.answer(read)), (Some(Ok(())), Some(Ok(()))));
    let page = bench.disk.machine.read(&memory, 1);
    assert_eq!((page[2047], page[2048], page[4095]), (0, 0xa5, 0xa5));
    assert_eq!(bench.disk.machine.pinned(), 0);
}

#[test]
fn one_notification_tells_of_all_that_came_together() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(8);
    for index in 0..8 {
        bench.read(id, index * 8, 8, index * 4096);
    }
    bench.service.work(0);
    assert_eq!(bench.disk.platter.notifications.get(), 1);
}

#[test]
fn a_channel_reaches_its_own_sectors_only() {
    let mut bench = Bench::new();
    let id = bench.open(1000, 10);
    let memory = bench.disk.machine.memory(2);
    bench.send(id, Request::Attach { buffer: 0 }, Some(memory));
    for (first, count) in [(10, 1), (9, 2), (0, 11), (u64::MAX, 2), (0, 0)] {
        let read = bench.read(id, first, count, 0);
        assert_eq!(bench.answer(read), Some(Err(Refusal::Unknown)), "{first} {count}");
    }
    let write = bench.write(id, 9, 1, 0, WriteFlags::empty());
    bench.settle();
    assert_eq!(bench.answer(write), Some(Ok(())));
    let range = SectorRange { first: 1009, count: 1 };
    assert_eq!(bench.disk.platter.commands.take(), [Command { direction: Direction::Write { durable: false }, range }]);
    for (first, count) in [(4096, 1), (0, 4097), (5, 0)] {
        assert_eq!(bench.service.open(SectorRange { first, count }, true), Err(Refusal::Unknown));
    }
}

#[test]
fn a_channel_that_may_not_write_does_not() {
    let mut bench = Bench::new();
    let id = bench.service.open(SectorRange { first: 0, count: 8 }, false).unwrap();
    let memory = bench.disk.machine.memory(1);
    bench.send(id, Request::Attach { buffer: 0 }, Some(memory));
    let range = SectorRange { first: 0, count: 8 };
    let requests = [
        Request::Write { id: 0, transfer: transfer(0, 8, 0), flags: WriteFlags::empty() },
        Request::Discard { id: 0, range },
        Request::WriteZeroes { id: 0, range },
    ];
    for request in requests {
        let number = bench.send(id, request, None);
        assert_eq!(bench.answer(number), Some(Err(Refusal::Unknown)));
    }
    let describe = bench.send(id, Request::Describe, None);
    let (_, words) = bench.answers.0.borrow()[&describe];
    let description = Description::decode(&words).unwrap();
    assert_eq!(description.sectors, 8);
    assert!(description.abilities.contains(Abilities::READ_ONLY));
}

#[test]
fn memories_that_were_not_attached_or_end_too_soon_are_bad_buffers() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(2);
    let beyond = bench.read(id, 0, 8, 2 * 4096);
    let across = bench.read(id, 0, 16, 4096);
    let unknown = bench.send(id, Request::Read { id: 0, transfer: Transfer { buffer: 3, ..transfer(0, 1, 0) } }, None);
    let nothing = bench.send(id, Request::Attach { buffer: 3 }, None);
    for number in [beyond, across, unknown, nothing] {
        assert_eq!(bench.answer(number), Some(Err(Refusal::BadBuffer)));
    }
    assert_eq!(bench.disk.machine.pinned(), 0);
    bench.settle();
}

#[test]
fn who_detaches_a_memory_waits_until_the_disk_has_let_go_of_it() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(2);
    let read = bench.read(id, 0, 8, 0);
    let detach = bench.send(id, Request::Detach { buffer: 0 }, None);
    assert_eq!(bench.answer(detach), None);
    let late = bench.read(id, 0, 8, 0);
    assert_eq!(bench.answer(late), Some(Err(Refusal::BadBuffer)));
    bench.settle();
    assert_eq!((bench.answer(read), bench.answer(detach)), (Some(Ok(())), Some(Ok(()))));
    let again = bench.send(id, Request::Detach { buffer: 0 }, None);
    assert_eq!(bench.answer(again), Some(Err(Refusal::BadBuffer)));
}

#[test]
fn who_attaches_another_memory_under_a_number_waits_for_the_writes_of_the_old() {
    let mut bench = Bench::new();
    let (id, old) = bench.client(1);
    bench.disk.machine.write(&old, 0, &[1; 4096]);
    let writes: Vec<_> = (0..12).map(|index| bench.write(id, index * 8, 8, 0, WriteFlags::empty())).collect();
    let new = bench.disk.machine.memory(1);
    bench.disk.machine.write(&new, 0, &[2; 4096]);
    let attach = bench.send(id, Request::Attach { buffer: 0 }, Some(new));
    assert_eq!(bench.answer(attach), None, "the disk has writes of the old memory");
    let refused = writes.iter().filter(|number| bench.answer(**number) == Some(Err(Refusal::BadBuffer))).count();
    assert_eq!(refused, 4, "what waited must not write the new memory's bytes");
    bench.settle();
    assert_eq!(bench.answer(attach), Some(Ok(())));
    assert!(bench.disk.platter.bytes.borrow().iter().all(|byte| *byte != 2));
    assert_eq!(bench.disk.machine.pinned(), 0);
}

#[test]
fn too_many_requests_are_refused_as_busy_and_others_keep_their_share() {
    let mut bench = Bench::new();
    let (greedy, _) = bench.client(1);
    let (modest, _) = bench.client(1);
    let greedy_reads: Vec<_> = (0..MAX_REQUESTS).map(|_| bench.read(greedy, 0, 1, 0)).collect();
    let refused = bench.read(greedy, 0, 1, 0);
    assert_eq!(bench.answer(refused), Some(Err(Refusal::Busy)));
    let modest_read = bench.read(modest, 8, 1, 0);
    while bench.answer(modest_read).is_none() {
        bench.service.work(bench.now_ns);
    }
    let before = greedy_reads.iter().filter(|number| bench.answer(**number).is_some()).count();
    assert!(before < 60, "{before} others came first");
    bench.settle();
    assert!(greedy_reads.iter().all(|number| bench.answer(*number) == Some(Ok(()))));
}

#[test]
fn long_discards_and_zeroes_are_given_to_the_disk_in_parts() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(1);
    bench.disk.platter.bytes.borrow_mut().fill(1);
    let zeroes = bench.send(id, Request::WriteZeroes { id: 0, range: SectorRange { first: 10, count: 100 } }, None);
    let discard = bench.send(id, Request::Discard { id: 0, range: SectorRange { first: 200, count: 130 } }, None);
    bench.settle();
    assert_eq!((bench.answer(zeroes), bench.answer(discard)), (Some(Ok(())), Some(Ok(()))));
    let bytes = bench.disk.platter.bytes.borrow();
    let is_zero = |sector: usize| bytes[sector * 512..][..512].iter().all(|byte| *byte == 0);
    assert!((10..110).all(is_zero) && (200..330).all(is_zero));
    assert!(!is_zero(9) && !is_zero(110) && !is_zero(199) && !is_zero(330));
    assert_eq!(bench.disk.platter.commands.borrow().len(), 4 + 3);
}

#[test]
fn transfers_with_more_segments_than_the_disk_takes_are_cut() {
    let mut bench = Bench::with(Limits { segments: 3, ..LIMITS });
    let (id, memory) = bench.client(8);
    (0..8).for_each(|page| bench.disk.machine.write(&memory, page, &[page as u8 + 1; 4096]));
    let write = bench.write(id, 0, 60, 1024, WriteFlags::empty());
    bench.settle();
    assert_eq!(bench.answer(write), Some(Ok(())));
    let bytes = bench.disk.platter.bytes.borrow();
    let expected: Vec<u8> = (0..60 * 512).map(|at| ((at + 1024) / 4096 + 1) as u8).collect();
    assert!(bytes[..60 * 512] == expected[..]);
    assert!(bytes[60 * 512] == 0);
}

#[test]
fn a_durable_write_is_flushed_before_it_is_answered() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(1);
    let write = bench.write(id, 0, 8, 0, WriteFlags::DURABLE);
    bench.settle();
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.disk.platter.volatile.get(), 0);
    assert_eq!(bench.disk.platter.commands.borrow().len(), 2);
}

#[test]
fn a_bad_sector_fails_whom_it_concerns_once() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(4);
    bench.disk.platter.trouble.bad_sectors.borrow_mut().push(12);
    let good = bench.read(id, 0, 8, 0);
    let bad = bench.read(id, 8, 8, 4096);
    let other = bench.read(id, 16, 8, 8192);
    bench.settle();
    assert_eq!(bench.answer(good), Some(Ok(())));
    assert_eq!(bench.answer(bad), Some(Err(Refusal::DeviceFailed)));
    assert_eq!(bench.answer(other), Some(Ok(())));
    assert_eq!(bench.disk.platter.restarts.get(), 0, "the disk did nothing wrong");
    assert_eq!(bench.disk.machine.pinned(), 0);
}

#[test]
fn a_disk_that_swallows_requests_or_raves_is_restarted_and_nobody_notices() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(8);
    for trouble in 0..3 {
        let troubles = &bench.disk.platter.trouble;
        match trouble {
            0 => troubles.lost.set(2),
            1 => troubles.is_mad.set(true),
            _ => {
                troubles.is_mad.set(true);
                troubles.slow_restarts.set(5);
            }
        }
        let reads: Vec<_> = (0..20).map(|index| bench.read(id, index * 8, 8, index % 8 * 4096)).collect();
        bench.settle();
        assert!(reads.iter().all(|number| bench.answer(*number) == Some(Ok(()))));
        assert_eq!(bench.disk.platter.restarts.get(), trouble + 1);
        assert_eq!(bench.disk.machine.pinned(), 0);
    }
}

#[test]
fn a_request_that_no_restart_helps_is_refused() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(1);
    bench.disk.platter.trouble.lost.set(1000);
    let read = bench.read(id, 0, 8, 0);
    bench.settle();
    assert_eq!(bench.answer(read), Some(Err(Refusal::DeviceFailed)));
    assert_eq!(bench.disk.machine.pinned(), 0);
}

#[test]
fn a_disk_that_is_gone_refuses_everything_and_may_come_back() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(1);
    bench.disk.platter.trouble.is_gone.set(true);
    let reads: Vec<_> = (0..20).map(|_| bench.read(id, 0, 8, 0)).collect();
    bench.service.work(0);
    assert!(reads.iter().all(|number| bench.answer(*number) == Some(Err(Refusal::DeviceFailed))));
    assert!(bench.disk.machine.pinned() > 0, "the disk may still write there");
    let late = bench.read(id, 0, 8, 0);
    assert_eq!(bench.answer(late), Some(Err(Refusal::DeviceFailed)));
    bench.disk.platter.trouble.is_gone.set(false);
    bench.settle();
    assert_eq!(bench.disk.machine.pinned(), 0);
    let read = bench.read(id, 0, 8, 0);
    bench.settle();
    assert_eq!(bench.answer(read), Some(Ok(())));
}

#[test]
fn a_client_that_goes_takes_only_what_waits_with_it() {
    let mut bench = Bench::new();
    let (id, _) = bench.client(1);
    let reads: Vec<_> = (0..20).map(|_| bench.read(id, 0, 8, 0)).collect();
    bench.service.close(id);
    bench.settle();
    let answered = reads.iter().filter(|number| bench.answer(**number).is_some()).count();
    assert_eq!(answered, 8, "those that the disk had");
    assert_eq!(bench.disk.machine.pinned(), 0);
    let (next, _) = bench.client(1);
    assert_ne!(next, id);
    let stale = bench.read(id, 0, 8, 0);
    assert_eq!(bench.answer(stale), Some(Err(Refusal::Unknown)));
}

/// One step of the random test.
#[derive(Clone, Debug)]
enum Step {
    /// A write, a read or zeroes of the client's own sectors.
    Write {
        first: u64,
        count: u64,
        value: u8,
    },
    Read {
        first: u64,
        count: u64,
    },
    Zeroes {
        first: u64,
        count: u64,
    },
    Work,
    Settle,
    Lose,
    Rave,
    SlowRestart,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0_u64..56, 1_u64..=8);
    prop_oneof![
        8 => (range(), any::<u8>()).prop_map(|((first, count), value)| Step::Write { first, count, value }),
        8 => range().prop_map(|(first, count)| Step::Read { first, count }),
        2 => range().prop_map(|(first, count)| Step::Zeroes { first, count }),
        6 => Just(Step::Work),
        4 => Just(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::Rave),
        1 => Just(Step::SlowRestart),
    ]
}

proptest! {
    /// Whatever the disk does, each request is answered once; and what settled reads tell is what was written.
    #[test]
    fn no_misfortune_loses_or_tears_anything(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let (id, memory) = bench.client(2);
        let mut model = [0_u8; 64];
        let mut expected: BTreeMap<u64, ()> = BTreeMap::new();
        // A request that sees too many restarts is refused; that is another test's.
        let mut restarts_left = 2;
        for step in steps {
            match step {
                Step::Write { first, count, value } => {
                    // Writes of the same sectors at once have no order: settle between.
                    bench.settle();
                    bench.disk.machine.write(&memory, 0, &[value; 4096]);
                    expected.insert(bench.write(id, first, count, 0, WriteFlags::empty()), ());
                    model[first as usize..(first + count) as usize].fill(value);
                }
                Step::Zeroes { first, count } => {
                    bench.settle();
                    let range = SectorRange { first, count };
                    expected.insert(bench.send(id, Request::WriteZeroes { id: 0, range }, None), ());
                    model[first as usize..(first + count) as usize].fill(0);
                }
                Step::Read { first, count } => {
                    bench.settle();
                    let read = bench.read(id, first, count, 4096);
                    bench.settle();
                    prop_assert_eq!(bench.answer(read), Some(Ok(())));
                    let page = bench.disk.machine.read(&memory, 1);
                    for index in 0..count {
                        let value = model[(first + index) as usize];
                        let sector = &page[(index * SECTOR_BYTES) as usize..][..SECTOR_BYTES as usize];
                        prop_assert!(sector.iter().all(|byte| *byte == value));
                    }
                }
                Step::Work => {
                    bench.service.work(bench.now_ns);
                }
                Step::Settle => {
                    bench.settle();
                    restarts_left = 2;
                }
                Step::Lose | Step::Rave if restarts_left == 0 => {}
                Step::Lose => {
                    bench.disk.platter.trouble.lost.set(1);
                    restarts_left -= 1;
                }
                Step::Rave => {
                    bench.disk.platter.trouble.is_mad.set(true);
                    restarts_left -= 1;
                }
                Step::SlowRestart => bench.disk.platter.trouble.slow_restarts.set(2),
            }
        }
        bench.settle();
        prop_assert!(expected.keys().all(|number| bench.answer(*number) == Some(Ok(()))));
        prop_assert_eq!(bench.disk.machine.pinned(), 0);
    }
}
