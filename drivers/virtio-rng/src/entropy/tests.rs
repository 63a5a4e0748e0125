//! The driver on a simulated device, which is slow, lies, breaks down and vanishes.

extern crate std;

use super::*;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use driver_runtime::simulation::{
    Answers, Frames, SimulatedBuffer, SimulatedClient, SimulatedDma, SimulatedTime, SimulatedWindow, drive,
};
use std::cell::Cell;
use virtio::pci::Layout;
use virtio::simulation::{ALL_FEATURES, BAR, SimulatedDevice, Specification};

type Simulated = Entropy<SimulatedWindow<SimulatedDevice>, SimulatedBuffer, SimulatedClient>;

struct World {
    frames: Rc<Frames>,
    device: Rc<SimulatedDevice>,
    time: SimulatedTime,
    answers: Answers,
    next_byte: Cell<u8>,
}

impl World {
    fn new() -> Self {
        let frames = Rc::default();
        let specification = Specification { features: ALL_FEATURES, config: Vec::new(), queues: 1, queue_size: 8 };
        let device = SimulatedDevice::new(&frames, specification, 1);
        let (time, answers) = (SimulatedTime::default(), Answers::default());
        Self { frames, device, time, answers, next_byte: Cell::new(1) }
    }

    fn start(&self, interrupts: usize) -> Result<Simulated, Error> {
        let layout = Layout::parse(&self.device.configuration()).unwrap();
        let window = self.device.window();
        let device = Device::new(&layout, |bar| (bar == BAR).then(|| window.clone()))?;
        let dma = SimulatedDma::new(&self.frames, 8);
        drive(Entropy::start(device, &dma, interrupts, &self.time), || self.time.advance(1_000_000))
    }

    fn ask(&self, service: &mut Simulated, name: u64, room_bytes: usize) {
        let asked =
            Asked { label: Request::Read.label(), words: [0; 8], send_bytes: 0, receive_bytes: room_bytes as u64 };
        service.request(&asked, self.answers.client(name, &[], room_bytes));
    }

    /// The device fills the buffer that it has with up to so many bytes, which all differ from those before.
    fn fill(&self, most: usize) -> usize {
        let Some(chain) = self.device.take(0) else { return 0 };
        let count = chain.room().min(most);
        let first = self.next_byte.get();
        let bytes: Vec<u8> = (0..count).map(|index| first.wrapping_add(index as u8)).collect();
        self.next_byte.set(first.wrapping_add(count as u8));
        chain.write(0, &bytes);
        self.device.complete(0, chain.head, count as u32);
        count
    }
}

#[test]
fn readers_are_answered_in_order_with_bytes_of_their_own() {
    let world = World::new();
    let mut service = world.start(1).unwrap();
    assert_eq!(service.work(0), Ok(Next::AtEvent));
    world.ask(&mut service, 1, 4);
    world.ask(&mut service, 2, 100_000);
    assert_eq!(service.work(0), Ok(Next::Within(LOST_INTERRUPT_NS)));
    assert!(world.answers.take().is_empty());
    assert_eq!(world.fill(100), 4);
    assert!(world.device.interrupts[0].take());
    service.work(0).unwrap();
    assert_eq!(world.fill(10), 10);
    assert_eq!(service.work(0), Ok(Next::AtEvent));
    let answers = world.answers.take();
    assert_eq!(answers.iter().map(|answer| (answer.name, answer.words[0])).collect::<Vec<_>>(), [(1, 4), (2, 10)]);
    assert_eq!(answers[0].received, [1, 2, 3, 4]);
    assert_eq!(answers[1].received, (5..15).collect::<Vec<u8>>());
    drop(service);
    assert_eq!((world.frames.pinned(), world.frames.faults()), (0, vec![]));
}

#[test]
fn no_more_is_asked_of_the_device_than_somebody_wants() {
    let world = World::new();
    let mut service = world.start(1).unwrap();
    world.ask(&mut service, 1, usize::MAX);
    service.work(0).unwrap();
    assert_eq!(world.device.take(0).unwrap().room(), MAX_READ_BYTES);
    assert!(world.device.take(0).is_none());
}

#[test]
fn a_device_without_interrupts_is_looked_at() {
    let world = World::new();
    let mut service = world.start(0).unwrap();
    world.ask(&mut service, 1, 8);
    assert_eq!(service.work(0), Ok(Next::Within(POLL_NS)));
    world.fill(8);
    assert_eq!(service.work(POLL_NS), Ok(Next::AtEvent));
    assert_eq!(world.answers.take().len(), 1);
}

#[test]
fn requests_that_can_not_be_served_are_refused() {
    let world = World::new();
    let mut service = world.start(1).unwrap();
    for name in 0..=MAX_READS as u64 {
        world.ask(&mut service, name, 8);
    }
    world.ask(&mut service, 100, 0);
    let unknown = Asked { label: 7, words: [0; 8], send_bytes: 0, receive_bytes: 8 };
    service.request(&unknown, world.answers.client(101, &[], 8));
    let refused: Vec<_> = world.answers.take().iter().map(|answer| (answer.name, answer.refusal())).collect();
    let expected = [(MAX_READS as u64, Refusal::Busy), (100, Refusal::BadBuffer), (101, Refusal::Unknown)];
    assert_eq!(refused, expected.map(|(name, refusal)| (name, Some(refusal))));
}

#[test]
fn a_reader_that_died_is_no_harm_to_the_next() {
    let world = World::new();
    let mut service = world.start(1).unwrap();
    let asked = Asked { label: Request::Read.label(), words: [0; 8], send_bytes: 0, receive_bytes: 8 };
    service.request(&asked, world.answers.dead_client(1));
    world.ask(&mut service, 2, 8);
    service.work(0).unwrap();
    world.fill(8);
    service.work(0).unwrap();
    world.fill(8);
    service.work(0).unwrap();
    let answers = world.answers.take();
    assert_eq!(answers[0].refusal(), Some(Refusal::BadBuffer));
    assert_eq!((answers[1].refusal(), answers[1].words[0]), (None, 8));
}

/// What a device does, and what it is.
type Lie = (fn(&World), Error);

#[test]
fn a_device_that_lies_ends_the_service() {
    let lies: [Lie; 5] = [
        (|world| world.device.complete(0, world.device.take(0).unwrap().head, 0), Error::WroteNothing),
        (|world| world.device.complete(0, world.device.take(0).unwrap().head, 9), Error::WroteTooMuch),
        (|world| world.device.put_used(0, 0xdead, 8), Error::UsedUnknown),
        (|world| world.device.set_used_index(0, 3), Error::UsedTooMuch),
        (|world| world.device.break_down(), Error::NeedsReset),
    ];
    for (lie, error) in lies {
        let world = World::new();
        let mut service = world.start(1).unwrap();
        world.ask(&mut service, 1, 8);
        service.work(0).unwrap();
        lie(&world);
        assert_eq!(service.work(0), Err(error));
        assert!(world.answers.take().is_empty());
    }
}

#[test]
fn a_device_that_is_gone_or_none_of_ours_is_noticed() {
    let world = World::new();
    let mut service = world.start(1).unwrap();
    world.device.is_gone.set(true);
    assert_eq!(service.work(0), Err(Error::Unreachable));
    for spoil in [
        (|world| world.device.sticks_in_reset.set(true)) as fn(&World),
        |world| world.device.refuses_features.set(true),
        |world| world.device.specification.borrow_mut().queue_size = 3,
        |world| world.device.specification.borrow_mut().features = 0,
    ] {
        let world = World::new();
        spoil(&world);
        assert!(world.start(1).is_err());
        assert_eq!(world.frames.pinned(), 0);
    }
}
