//! The whole of a driver but its objects: the service over the disk over the rings over a simulated device.

extern crate std;

use super::*;
use crate::simulation::{DISK_FEATURES, SimulatedDisk};
use block::service::{ChannelId, Client, Next, Service};
use driver_protocol::block::{Request, SectorRange, Transfer, WriteFlags};
use driver_protocol::{Refusal, Words};
use driver_runtime::simulation::{Frames, SimulatedDma, SimulatedWindow};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use virtio::pci::Layout;
use virtio::simulation::{ALL_FEATURES, SimulatedDevice};

type TestDisk = VirtioDisk<SimulatedWindow<SimulatedDevice>, SimulatedDma>;

/// A client's memory, and the way to it.
#[derive(Clone)]
struct Memory(Rc<Vec<u64>>);

struct Pinner(Rc<Frames>);

impl block::service::Frames for Pinner {
    type Memory = Memory;
    type Mapping = Vec<u64>;

    fn map(&self, memory: &Memory, first: u64, _: Direction, addresses: &mut [u64]) -> Result<Vec<u64>, Refusal> {
        let pages = memory.0.get(first as usize..first as usize + addresses.len()).ok_or(Refusal::BadBuffer)?;
        addresses.copy_from_slice(pages);
        self.0.pin(pages);
        Ok(pages.to_vec())
    }

    fn unmap(&self, mapping: Vec<u64>) {
        self.0.unpin(&mapping);
    }
}

#[derive(Clone, Default)]
struct Answers(Rc<RefCell<BTreeMap<u64, u64>>>);

struct TestClient {
    number: u64,
    answers: Answers,
}

impl Client for TestClient {
    fn answer(self, label: u64, _: Words) {
        assert_eq!(self.answers.0.borrow_mut().insert(self.number, label), None, "everybody is answered once");
    }
}

struct Bench {
    frames: Rc<Frames>,
    disk: Rc<SimulatedDisk>,
    service: Service<TestDisk, Pinner, TestClient>,
    channel: ChannelId,
    memory: Memory,
    own_pins: usize,
    answers: Answers,
    now_ns: u64,
    next_number: u64,
}

fn driver(frames: &Rc<Frames>, disk: &SimulatedDisk, vectors: u16) -> TestDisk {
    let layout = Layout::parse(&disk.device.configuration()).unwrap();
    let window = disk.device.window();
    let device = Device::new(&layout, |_| Some(window.clone())).unwrap();
    VirtioDisk::new(device, SimulatedDma::new(frames, 600), vectors, vectors.max(1))
}

const PAGES: usize = 160;

impl Bench {
    fn new(features: u64, queues: usize) -> Self {
        let frames: Rc<Frames> = Rc::default();
        let disk = Rc::new(SimulatedDisk::new(&frames, 4096, features, queues));
        let mut driver = driver(&frames, &disk, queues as u16);
        assert_eq!(driver.restart(), Ok(Restart::Done));
        let mut service = Service::new(driver, Pinner(frames.clone()));
        let channel = service.open(SectorRange { first: 0, count: 4096 }, true).unwrap();
        let memory = Memory(Rc::new(frames.pin_new(PAGES)));
        frames.unpin(&memory.0);
        let own_pins = frames.pinned();
        let answers = Answers::default();
        let mut bench = Self { frames, disk, service, channel, memory, own_pins, answers, now_ns: 0, next_number: 0 };
        bench.send(Request::Attach { buffer: 0 });
        bench
    }

    fn send(&mut self, request: Request) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let (label, words) = request.encode();
        let client = TestClient { number, answers: self.answers.clone() };
        let memory = matches!(request, Request::Attach { .. }).then(|| self.memory.clone());
        self.service.request(self.now_ns, self.channel, (label, &words), memory, client);
        number
    }

    fn read(&mut self, first: u64, count: u64, offset: u64) -> u64 {
        self.send(Request::Read { id: 0, transfer: transfer(first, count, offset) })
    }

    fn write(&mut self, first: u64, count: u64, offset: u64) -> u64 {
        let transfer = transfer(first, count, offset);
        self.send(Request::Write { id: 0, transfer, flags: WriteFlags::empty() })
    }

    fn answer(&self, number: u64) -> Option<Result<(), Refusal>> {
        self.answers.0.borrow().get(&number).map(|label| Refusal::check(*label))
    }

    /// Lets driver and device work until all is quiet: the driver only when it has a reason.
    fn settle(&mut self) {
        let mut next = self.service.work(self.now_ns);
        for _ in 0..200_000 {
            if next == Next::AtEvent {
                assert_eq!(self.frames.faults(), []);
                assert_eq!(self.frames.pinned(), self.own_pins, "clients' pages are let go");
                return;
            }
            self.disk.step();
            self.now_ns += 1_000_000;
            let is_due = matches!(next, Next::Before(time_ns) if time_ns <= self.now_ns);
            let interrupts = &self.disk.device.interrupts;
            let is_interrupted = interrupts.iter().filter(|interrupt| interrupt.take()).count() > 0;
            if is_interrupted {
                for interrupt in interrupts {
                    driver_runtime::InterruptSource::acknowledge(interrupt).unwrap();
                }
            }
            if is_due || is_interrupted {
                next = self.service.work(self.now_ns);
            }
        }
        panic!("never quiet");
    }

    fn fill(&self, page: usize, value: u8) {
        self.frames.access(self.memory.0[page], |bytes| bytes.fill(value)).unwrap();
    }

    fn page(&self, page: usize) -> Vec<u8> {
        self.frames.access(self.memory.0[page], |bytes| bytes.to_vec()).unwrap()
    }
}

fn transfer(first: u64, count: u64, offset: u64) -> Transfer {
    Transfer { range: SectorRange { first, count }, buffer: 0, offset }
}

#[test]
fn a_disk_is_what_the_device_says() {
    let frames = Rc::default();
    let disk = SimulatedDisk::whole(&frames, 1);
    let mut driver = driver(&frames, &disk, 1);
    assert_eq!(driver.restart(), Ok(Restart::Done));
    driver.ask_identity().unwrap();
    assert_eq!(driver.identity(), Ok(false));
    disk.step();
    assert_eq!(driver.identity(), Ok(true));
    let description = driver.description();
    assert_eq!((description.sectors, description.block_bytes), (4096, 512));
    assert_eq!(description.abilities, Abilities::FLUSH | Abilities::DISCARD | Abilities::WRITE_ZEROES);
    assert!(description.serial.starts_with(b"a simulated disk\0"));
    let limits = driver.limits();
    assert_eq!((limits.in_flight, limits.segments), (256, 250));
    assert_eq!((limits.discard_sectors, limits.zeroes_sectors), (100, 50));
}

#[test]
fn what_was_written_is_read_with_every_set_of_features() {
    for features in [ALL_FEATURES | DISK_FEATURES, DISK_FEATURES, 1 << 28 | 1 << 2, 1 << 29, 0] {
        for queues in [1, 3] {
            let mut bench = Bench::new(features, queues);
            let writes: Vec<_> = (0..16)
                .map(|index| {
                    bench.fill(index, index as u8 + 1);
                    bench.write(index as u64 * 8, 8, index as u64 * 4096)
                })
                .collect();
            bench.settle();
            let read = bench.read(1, 126, 16 * 4096);
            bench.settle();
            assert!(writes.iter().all(|write| bench.answer(*write) == Some(Ok(()))), "{features:#x}");
            assert_eq!(bench.answer(read), Some(Ok(())), "{features:#x}");
            let bytes: Vec<u8> = (16..32).flat_map(|page| bench.page(page)).collect();
            let expected: Vec<u8> = (512..127 * 512).map(|at| (at / 4096) as u8 + 1).collect();
            assert!(bytes[..126 * 512] == expected[..], "{features:#x}");
        }
    }
}

#[test]
fn the_longest_request_reaches_the_disk() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 1);
    (0..128).for_each(|page| bench.fill(page, page as u8));
    let write = bench.write(100, 1024, 0);
    bench.settle();
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.disk.done.get(), 1);
    let bytes = bench.disk.bytes.borrow();
    assert!((0..1024).all(|sector| bytes[(100 + sector) * 512] == (sector / 8) as u8));
}

#[test]
fn many_requests_cost_few_notifications_and_interrupts() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 1);
    for index in 0..120 {
        bench.read(index * 8, 8, index * 4096);
    }
    bench.service.work(0);
    assert_eq!(bench.disk.device.notifications.get(), 1);
    (0..200).for_each(|_| bench.disk.step());
    assert_eq!(bench.disk.device.interrupts[0].raised(), 1, "none while the driver has not looked");
    bench.settle();
    assert_eq!(bench.answers.0.borrow().len(), 121);
}

#[test]
fn flush_discard_and_zeroes_reach_the_disk() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 1);
    bench.fill(0, 7);
    let write = bench.write(0, 8, 0);
    bench.settle();
    assert_eq!(bench.disk.volatile.get(), 1);
    let flush = bench.send(Request::Flush { id: 0 });
    let zeroes = bench.send(Request::WriteZeroes { id: 0, range: SectorRange { first: 2, count: 60 } });
    let discard = bench.send(Request::Discard { id: 0, range: SectorRange { first: 1000, count: 250 } });
    bench.settle();
    for number in [write, flush, zeroes, discard] {
        assert_eq!(bench.answer(number), Some(Ok(())));
    }
    assert_eq!(bench.disk.volatile.get(), 0);
    let bytes = bench.disk.bytes.borrow();
    assert_eq!((bytes[1023], bytes[1024], bytes[1000 * 512], bytes[1250 * 512 - 1]), (7, 0, 0xdd, 0xdd));
}

#[test]
fn a_bad_sector_fails_whom_it_concerns_once() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 2);
    bench.disk.bad_sectors.borrow_mut().push(20);
    let reads: Vec<_> = (0..8).map(|index| bench.read(index * 8, 8, index * 4096)).collect();
    bench.settle();
    for (index, read) in reads.iter().enumerate() {
        let expected = if index == 2 { Err(Refusal::DeviceFailed) } else { Ok(()) };
        assert_eq!(bench.answer(*read), Some(expected));
    }
    assert_eq!(bench.disk.device.resets.get(), 1);
}

#[test]
fn requests_that_get_lost_and_lies_end_in_a_reset_that_nobody_notices() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 2);
    for round in 1..=3 {
        match round {
            1 => bench.disk.lost.set(3),
            2 => bench.disk.lies.set(1),
            _ => bench.disk.device.interrupts[0].lose(100),
        }
        bench.fill(0, round);
        let write = bench.write(0, 8, 0);
        let reads: Vec<_> = (1..40).map(|index| bench.read(index * 8, 8, index * 4096)).collect();
        bench.settle();
        assert_eq!(bench.answer(write), Some(Ok(())));
        assert!(reads.iter().all(|read| bench.answer(*read) == Some(Ok(()))));
        assert_eq!(bench.disk.bytes.borrow()[0], round);
    }
    assert_eq!(bench.disk.device.resets.get(), 1 + 2, "a lost interrupt is no reason for a reset");
}

#[test]
fn a_device_that_is_pulled_out_fails_everything_and_nothing_hangs() {
    let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, 1);
    let reads: Vec<_> = (0..40).map(|index| bench.read(index * 8, 8, index * 4096)).collect();
    bench.service.work(0);
    bench.disk.device.is_gone.set(true);
    for _ in 0..100 {
        bench.now_ns += 1_000_000_000;
        bench.service.work(bench.now_ns);
    }
    assert!(reads.iter().all(|read| bench.answer(*read) == Some(Err(Refusal::DeviceFailed))));
    bench.disk.device.is_gone.set(false);
    bench.settle();
    let read = bench.read(0, 8, 0);
    bench.settle();
    assert_eq!(bench.answer(read), Some(Ok(())), "it came back");
}

#[test]
fn devices_that_can_not_be_used_are_not() {
    let frames = Rc::default();
    let disk = SimulatedDisk::whole(&frames, 1);
    disk.device.sticks_in_reset.set(true);
    let mut stuck = driver(&frames, &disk, 1);
    assert_eq!(stuck.restart(), Ok(Restart::AgainIn(RESET_LOOK_NS)));
    let last = (0..RESET_LOOKS).map(|_| stuck.restart_step()).last();
    assert_eq!(last, Some(Err(DiskFailed)));
    let disk = SimulatedDisk::whole(&frames, 1);
    disk.device.specification.borrow_mut().config[20] = 1;
    assert_eq!(driver(&frames, &disk, 1).restart(), Err(DiskFailed), "a block of 513 bytes");
    let disk = SimulatedDisk::whole(&frames, 1);
    assert_eq!(driver(&frames, &disk, 2).restart(), Ok(Restart::Done), "fewer queues than there could be");
    let mut changed = driver(&frames, &disk, 1);
    assert_eq!(changed.restart(), Ok(Restart::Done));
    disk.device.specification.borrow_mut().config[0] ^= 8;
    assert_eq!(changed.restart(), Err(DiskFailed), "another size than clients were told");
}

/// One step of the random test.
#[derive(Clone, Debug)]
enum Step {
    Write { page: usize, value: u8 },
    Read { page: usize },
    Device,
    Work,
    Settle,
    Lose,
    Lie,
    BreakDown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..32, any::<u8>()).prop_map(|(page, value)| Step::Write { page, value }),
        4 => (0_usize..32).prop_map(|page| Step::Read { page }),
        4 => Just(Step::Device),
        4 => Just(Step::Work),
        2 => Just(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::Lie),
        1 => Just(Step::BreakDown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Page `n` of the memory belongs to sectors `8n` to `8n + 7`: whatever the device does, what was answered as written is there.
    #[test]
    fn no_misfortune_loses_or_tears_anything(steps in proptest::collection::vec(step(), 1..120), queues in 1_usize..4) {
        let mut bench = Bench::new(ALL_FEATURES | DISK_FEATURES, queues);
        let mut model = [0_u8; 32];
        // A request that sees too many resets is refused; that is another test's.
        let mut resets_left = 2;
        for step in steps {
            match step {
                Step::Write { page, value } => {
                    bench.settle();
                    bench.fill(page, value);
                    bench.write(page as u64 * 8, 8, page as u64 * 4096);
                    model[page] = value;
                }
                Step::Read { page } => {
                    bench.settle();
                    let read = bench.read(page as u64 * 8, 8, 40 * 4096);
                    bench.settle();
                    prop_assert_eq!(bench.answer(read), Some(Ok(())));
                    prop_assert!(bench.page(40).iter().all(|byte| *byte == model[page]));
                }
                Step::Device => bench.disk.step(),
                Step::Work => {
                    bench.service.work(bench.now_ns);
                }
                Step::Settle => {
                    bench.settle();
                    resets_left = 2;
                }
                Step::Lose | Step::Lie if resets_left == 0 => {}
                Step::Lose => {
                    bench.disk.lost.set(1);
                    resets_left -= 1;
                }
                Step::Lie => {
                    bench.disk.lies.set(1);
                    resets_left -= 1;
                }
                Step::BreakDown => bench.disk.device.break_down(),
            }
        }
        bench.settle();
        let bytes = bench.disk.bytes.borrow();
        for (page, value) in model.iter().enumerate() {
            prop_assert!(bytes[page * 4096..][..4096].iter().all(|byte| byte == value));
        }
    }
}
