//! The queue against the device's side, which does what it should, and what it should not.

use super::*;
use crate::Device;
use crate::device::Features;
use crate::pci::Layout;
use crate::simulation::{ALL_FEATURES, Chain, SimulatedDevice, Specification};
use driver_runtime::simulation::{SimulatedBuffer, SimulatedDma};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::rc::Rc;

struct Bench {
    device: Rc<SimulatedDevice>,
    queue: Queue<SimulatedBuffer>,
    tables: SimulatedBuffer,
}

const EVENT_INDEX: u64 = 1 << 29;

impl Bench {
    fn new(size: u16, features: u64) -> Self {
        let frames = Rc::default();
        let specification = Specification { features, config: Vec::new(), queues: 1, queue_size: 256 };
        let device = SimulatedDevice::new(&frames, specification, 1);
        let dma = SimulatedDma::new(&frames, 64);
        let queue = Queue::new(&dma, size, features & EVENT_INDEX != 0).unwrap();
        let tables = dma.allocate(16 * PAGE_BYTES).unwrap();
        let mut bench = Self { device, queue, tables };
        bench.bring_up();
        bench
    }

    fn bring_up(&mut self) {
        let layout = Layout::parse(&self.device.configuration()).unwrap();
        let window = self.device.window();
        let driver = Device::new(&layout, |_| Some(window.clone())).unwrap();
        driver.reset().unwrap();
        let agreed = driver.negotiate(Features::empty(), Features::from_bits_retain(ALL_FEATURES)).unwrap();
        self.queue.clear(agreed.contains(Features::EVENT_INDEX)).unwrap();
        driver.set_up_queue(0, &self.queue, 0).unwrap();
        driver.start().unwrap();
    }

    fn add(&mut self, cookie: u16, segments: &[Segment]) -> Result<(), Full> {
        self.queue.add(cookie, segments.iter().copied(), None).unwrap()
    }

    fn add_indirect(&mut self, cookie: u16, segments: &[Segment]) -> Result<(), Full> {
        let offset = usize::from(cookie) % 256 * 256;
        let table = Table { memory: &self.tables, offset, entries: 16 };
        self.queue.add(cookie, segments.iter().copied(), Some(table)).unwrap()
    }

    fn complete(&self, chain: &Chain, written_bytes: u32) {
        self.device.complete(0, chain.head, written_bytes);
    }
}

const REQUEST: [Segment; 3] =
    [Segment::readable(0x1000, 16), Segment::writable(0x2000, 4096), Segment::writable(0x3000, 1)];

#[test]
fn requests_reach_the_device_as_they_were_made() {
    let mut bench = Bench::new(8, ALL_FEATURES);
    bench.add(7, &REQUEST).unwrap();
    bench.add_indirect(9, &REQUEST).unwrap();
    assert!(bench.device.take(0).is_none(), "nothing is published yet");
    assert!(bench.queue.publish().unwrap());
    for cookie in [7, 9] {
        let chain = bench.device.take(0).unwrap();
        assert_eq!(chain.readable, [(0x1000, 16)]);
        assert_eq!(chain.writable, [(0x2000, 4096), (0x3000, 1)]);
        bench.complete(&chain, 4097);
        assert_eq!(bench.queue.take(), Ok(Some(Used { cookie, written_bytes: 4097 })));
    }
    assert_eq!(bench.queue.take(), Ok(None));
    assert_eq!(bench.queue.in_flight(), 0);
}

#[test]
fn a_queue_takes_what_it_has_descriptors_for_and_gets_them_all_back() {
    let mut bench = Bench::new(8, ALL_FEATURES);
    for round in 0..100 {
        assert_eq!(bench.add(0, &REQUEST), Ok(()));
        assert_eq!(bench.add(1, &REQUEST), Ok(()));
        assert_eq!(bench.add(2, &REQUEST), Err(Full), "two descriptors are left");
        assert_eq!(bench.add_indirect(3, &REQUEST), Ok(()));
        assert_eq!(bench.add_indirect(4, &REQUEST), Ok(()));
        assert_eq!(bench.add_indirect(5, &REQUEST), Err(Full));
        bench.queue.publish().unwrap();
        let chains: Vec<_> = core::iter::from_fn(|| bench.device.take(0)).collect();
        assert_eq!(chains.len(), 4, "round {round}");
        chains.iter().rev().for_each(|chain| bench.complete(chain, 0));
        let cookies: Vec<_> = core::iter::from_fn(|| bench.queue.take().unwrap()).map(|used| used.cookie).collect();
        assert_eq!(cookies, [4, 3, 1, 0]);
    }
    let many = [Segment::readable(0, 1); 17];
    assert_eq!(bench.add_indirect(0, &many), Err(Full), "the table has no room");
    assert_eq!(bench.add(0, &many[..9]), Err(Full));
    assert_eq!(bench.add(0, &[]), Err(Full));
    assert_eq!(bench.queue.free.len(), 8);
}

#[test]
fn notifications_and_interrupts_come_once_for_many() {
    for features in [ALL_FEATURES, ALL_FEATURES & !EVENT_INDEX] {
        let mut bench = Bench::new(64, features);
        for round in 1..=1000 {
            assert!(!bench.queue.arm_interrupt().unwrap());
            (0..16).for_each(|cookie| bench.add_indirect(cookie, &REQUEST).unwrap());
            assert!(bench.queue.publish().unwrap());
            assert!(!bench.queue.publish().unwrap(), "nothing is new");
            bench.queue.disarm_interrupt().unwrap();
            assert!(!bench.queue.arm_interrupt().unwrap());
            let chains: Vec<_> = core::iter::from_fn(|| bench.device.take(0)).collect();
            bench.complete(&chains[0], 0);
            bench.queue.disarm_interrupt().unwrap();
            chains[1..].iter().for_each(|chain| bench.complete(chain, 0));
            assert_eq!(bench.device.interrupts[0].raised(), round);
            assert!(bench.queue.arm_interrupt().unwrap(), "there is something already");
            while bench.queue.take().unwrap().is_some() {}
        }
    }
}

#[test]
fn a_device_that_is_still_looking_is_not_notified() {
    let mut bench = Bench::new(64, ALL_FEATURES);
    bench.add(0, &REQUEST).unwrap();
    assert!(bench.queue.publish().unwrap());
    bench.add(1, &REQUEST).unwrap();
    assert!(!bench.queue.publish().unwrap(), "it has not looked since");
    while bench.device.take(0).is_some() {}
    bench.add(2, &REQUEST).unwrap();
    assert!(bench.queue.publish().unwrap());
}

#[test]
fn lies_about_what_is_used_are_noticed() {
    type Lie = fn(&Bench, &Chain);
    let lies: [(Lie, Error); 6] = [
        (|bench, _| bench.device.put_used(0, 64, 0), Error::UsedUnknown),
        (|bench, _| bench.device.put_used(0, u32::MAX, 0), Error::UsedUnknown),
        (|bench, chain| bench.device.put_used(0, u32::from(chain.head) ^ 1, 0), Error::UsedUnknown),
        (|bench, chain| bench.device.put_used(0, chain.head.into(), 4098), Error::WroteTooMuch),
        (|bench, _| bench.device.set_used_index(0, 2), Error::UsedTooMuch),
        (|bench, _| bench.device.set_used_index(0, u16::MAX), Error::UsedTooMuch),
    ];
    for (lie, error) in lies {
        let mut bench = Bench::new(64, ALL_FEATURES);
        bench.add_indirect(0, &REQUEST).unwrap();
        bench.queue.publish().unwrap();
        let chain = bench.device.take(0).unwrap();
        lie(&bench, &chain);
        assert_eq!(bench.queue.take(), Err(error));
        bench.bring_up();
        bench.add_indirect(0, &REQUEST).unwrap();
        bench.queue.publish().unwrap();
        bench.complete(&bench.device.take(0).unwrap(), 1);
        assert!(bench.queue.take().unwrap().is_some(), "after a reset all is well");
    }
}

#[test]
fn a_request_is_not_done_twice() {
    let mut bench = Bench::new(64, ALL_FEATURES);
    (0..2).for_each(|cookie| bench.add_indirect(cookie, &REQUEST).unwrap());
    bench.queue.publish().unwrap();
    let chain = bench.device.take(0).unwrap();
    bench.complete(&chain, 0);
    bench.complete(&chain, 0);
    assert!(bench.queue.take().unwrap().is_some());
    assert_eq!(bench.queue.take(), Err(Error::UsedUnknown));
}

#[test]
fn sizes_that_are_none_are_refused() {
    let dma = SimulatedDma::new(&Rc::default(), 64);
    for size in [0, 3, 512] {
        assert_eq!(Queue::new(&dma, size, true).err(), Some(Error::NoQueue));
    }
    assert_eq!(Queue::new(&SimulatedDma::new(&Rc::default(), 1), 8, true).err(), Some(Error::NoMemory));
}

/// What the device's side does in the random test.
#[derive(Clone, Debug)]
enum Step {
    Add {
        segments: usize,
        indirect: bool,
    },
    Publish,
    Take,
    Complete {
        which: usize,
        written_bytes: u32,
    },
    Collect,
    Arm,
    /// A lie: this element, or this index.
    PutUsed {
        id: u32,
        written_bytes: u32,
    },
    UsedIndex {
        index: u16,
    },
    /// Rubbish somewhere in the rings' memory.
    Scribble {
        offset: usize,
        value: u64,
    },
}

fn honest() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..6, any::<bool>()).prop_map(|(segments, indirect)| Step::Add { segments, indirect }),
        2 => Just(Step::Publish),
        3 => Just(Step::Take),
        3 => (any::<usize>(), 0_u32..10).prop_map(|(which, written_bytes)| Step::Complete { which, written_bytes }),
        3 => Just(Step::Collect),
        1 => Just(Step::Arm),
    ]
}

fn hostile() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => honest(),
        1 => (prop_oneof![0_u32..20, any::<u32>()], any::<u32>())
            .prop_map(|(id, written_bytes)| Step::PutUsed { id, written_bytes }),
        1 => any::<u16>().prop_map(|index| Step::UsedIndex { index }),
        1 => (0_usize..MEMORY_BYTES / 8, any::<u64>())
            .prop_map(|(word, value)| Step::Scribble { offset: word * 8, value }),
    ]
}

/// Does the steps; the cookies of what was told to be done.
fn play(bench: &mut Bench, steps: Vec<Step>, is_honest: bool) -> Result<(), TestCaseError> {
    let mut chains = Vec::new();
    let mut in_flight = BTreeSet::new();
    let mut next_cookie = 0_u16;
    for step in steps {
        match step {
            Step::Add { segments, indirect } => {
                let segments = &[Segment::writable(0x5000, 10); 6][..segments];
                let added = match indirect {
                    true => bench.add_indirect(next_cookie, segments),
                    false => bench.add(next_cookie, segments),
                };
                if added.is_ok() {
                    in_flight.insert(next_cookie);
                    next_cookie += 1;
                }
            }
            Step::Publish => {
                bench.queue.publish().unwrap();
            }
            // Of a ring that was scribbled on, the device's side makes nothing.
            Step::Take if is_honest => chains.extend(bench.device.take(0)),
            Step::Take => {}
            Step::Complete { which, written_bytes } if !chains.is_empty() => {
                let chain: Chain = chains.swap_remove(which % chains.len());
                bench.complete(&chain, written_bytes);
            }
            Step::Complete { .. } => {}
            Step::Collect => match bench.queue.take() {
                Ok(Some(used)) => prop_assert!(in_flight.remove(&used.cookie), "done, and was never asked for"),
                Ok(None) => {}
                Err(_) => {
                    prop_assert!(!is_honest, "an honest device is believed");
                    bench.bring_up();
                    in_flight.clear();
                }
            },
            Step::Arm => {
                bench.queue.arm_interrupt().unwrap();
            }
            Step::PutUsed { id, written_bytes } => bench.device.put_used(0, id, written_bytes),
            Step::UsedIndex { index } => bench.device.set_used_index(0, index),
            Step::Scribble { offset, value } => bench.queue.memory.store64(offset, value).unwrap(),
        }
        prop_assert!(usize::from(bench.queue.in_flight()) <= 16);
    }
    if is_honest {
        bench.queue.publish().unwrap();
        chains.extend(core::iter::from_fn(|| bench.device.take(0)));
        chains.iter().for_each(|chain| bench.complete(chain, 0));
        while let Some(used) = bench.queue.take().unwrap() {
            prop_assert!(in_flight.remove(&used.cookie));
        }
        prop_assert!(in_flight.is_empty(), "everything comes back");
        prop_assert_eq!(bench.queue.free.len(), 16);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_honest_device_is_told_everything_once_and_nothing_is_lost(
        steps in proptest::collection::vec(honest(), 0..400),
        has_event_index: bool,
    ) {
        let features = if has_event_index { ALL_FEATURES } else { ALL_FEATURES & !EVENT_INDEX };
        play(&mut Bench::new(16, features), steps, true)?;
    }

    #[test]
    fn a_hostile_device_reaches_nothing_but_its_own_reset(
        steps in proptest::collection::vec(hostile(), 0..400),
        has_event_index: bool,
    ) {
        let features = if has_event_index { ALL_FEATURES } else { ALL_FEATURES & !EVENT_INDEX };
        play(&mut Bench::new(16, features), steps, false)?;
    }
}
