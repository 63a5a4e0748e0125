//! The port on a simulated device, behind the service of all consoles; drivers die all the time.

extern crate alloc;
extern crate std;

use super::*;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use console::Line;
use console::state::DEVICE_AREA;
use driver_protocol::console::{ReadAnswer, ReadWords, Request, WindowSize, write_words};
use driver_runtime::simulation::{
    Answered, Answers, Frames, SimulatedBuffer, SimulatedClient, SimulatedDma, SimulatedMemory, SimulatedTime,
    SimulatedWindow, drive,
};
use driver_runtime::{Asked, Piece, Pieces, Service as _};
use std::cell::RefCell;
use virtio::pci::Layout;
use virtio::simulation::{ALL_FEATURES, BAR, SimulatedDevice, Specification};

type Simulated = Line<Port<SimulatedWindow<SimulatedDevice>, Piece<SimulatedBuffer>>, SimulatedMemory, SimulatedClient>;

struct World {
    frames: Rc<Frames>,
    device: Rc<SimulatedDevice>,
    shared: Rc<SimulatedBuffer>,
    kept: SimulatedMemory,
    time: SimulatedTime,
    answers: Answers,
    known: Vec<Answered>,
    names: u64,
    shown: RefCell<Vec<u8>>,
    line: Option<Simulated>,
}

impl World {
    fn new(features: u64) -> Self {
        let frames = Rc::default();
        let config = vec![80, 0, 25, 0];
        let specification = Specification { features: ALL_FEATURES | features, config, queues: 2, queue_size: 64 };
        let device = SimulatedDevice::new(&frames, specification, 2);
        let shared = Rc::new(SimulatedDma::new(&frames, 16).allocate(DEVICE_BYTES).unwrap());
        let mut world = Self {
            frames,
            device,
            shared,
            kept: SimulatedMemory::new(DEVICE_AREA),
            time: SimulatedTime::default(),
            answers: Answers::default(),
            known: Vec::new(),
            names: 0,
            shown: RefCell::default(),
            line: None,
        };
        world.restart().unwrap();
        world
    }

    /// The driver dies, and another takes its place.
    fn restart(&mut self) -> Result<(), Error> {
        self.line = None;
        let layout = Layout::parse(&self.device.configuration()).unwrap();
        let window = self.device.window();
        let device = Device::new(&layout, |bar| (bar == BAR).then(|| window.clone()))?;
        let (mut state, beginning) = State::open(self.kept.clone())?;
        let pieces = Pieces::new(self.shared.clone());
        let port = Port::start(device, &pieces, 1, &self.time, (&mut state, beginning));
        let port = drive(port, || self.time.advance(1_000_000))?;
        self.line = Some(Line::new(port, state));
        Ok(())
    }

    fn ask(&mut self, request: Request, words: [u64; 8], sends: &[u8], room: usize) -> u64 {
        self.names += 1;
        let client = self.answers.client(self.names, sends, room);
        let (send_bytes, receive_bytes) = (sends.len() as u64, room as u64);
        let asked = Asked { label: request.label(), words, send_bytes, receive_bytes };
        self.line.as_mut().unwrap().request(&asked, client);
        self.names
    }

    fn write(&mut self, position: usize, bytes: &[u8]) -> u64 {
        self.ask(Request::Write, write_words(position as u64), bytes, 0)
    }

    fn read(&mut self, position: usize, window: WindowSize) -> u64 {
        self.ask(Request::Read, ReadWords { position: position as u64, window }.encode(), &[], 1000)
    }

    fn work(&mut self) -> Result<(), Error> {
        self.line.as_mut().unwrap().work(0).map(drop)
    }

    fn answer(&mut self, name: u64) -> Option<Answered> {
        self.known.extend(self.answers.take());
        self.known.iter().find(|answered| answered.name == name).cloned()
    }

    /// Somebody types; `false` if the device has no room.
    fn types(&self, bytes: &[u8]) -> bool {
        let Some(chain) = self.device.take(0) else { return false };
        chain.write(0, bytes);
        self.device.complete(0, chain.head, bytes.len() as u32);
        true
    }

    /// The device shows what it has.
    fn shows(&self) {
        while let Some(chain) = self.device.take(1) {
            self.shown.borrow_mut().extend(chain.bytes());
            self.device.complete(1, chain.head, 0);
        }
    }
}

const NO_WINDOW: WindowSize = WindowSize { rows: 0, columns: 0 };

#[test]
fn what_is_typed_is_read_and_what_is_written_is_shown() {
    let mut world = World::new(0);
    let (reader, write) = (world.read(0, NO_WINDOW), world.write(0, b"hello"));
    world.work().unwrap();
    assert!(world.types(b"ls\r"));
    assert_eq!((world.answer(reader), world.answer(write)), (None, None));
    world.shows();
    world.work().unwrap();
    assert_eq!(world.answer(reader).unwrap().received, b"ls\r");
    assert_eq!(world.answer(write).unwrap().words[0], 5);
    assert_eq!(*world.shown.borrow(), b"hello");
}

#[test]
fn a_window_of_another_size_is_told_once() {
    let mut world = World::new(1);
    let first = world.read(0, NO_WINDOW);
    world.work().unwrap();
    world.work().unwrap();
    let window = ReadAnswer::decode(&world.answer(first).unwrap().words).window;
    assert_eq!(window, WindowSize { rows: 25, columns: 80 });
    let second = world.read(0, window);
    world.work().unwrap();
    assert_eq!(world.answer(second), None);
    world.device.specification.borrow_mut().config[0] = 132;
    world.work().unwrap();
    world.work().unwrap();
    let answer = ReadAnswer::decode(&world.answer(second).unwrap().words);
    assert_eq!((answer.len_bytes, answer.window), (0, WindowSize { rows: 25, columns: 132 }));
}

/// Kills the driver at every third turn, at times when the device has shown or received what the driver does not know yet.
#[test]
fn nothing_is_lost_or_doubled_however_often_the_driver_dies() {
    let mut world = World::new(0);
    let bytes: Vec<u8> = (0..50_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut written, mut typed, mut read) = (0, 0, Vec::new());
    let mut asked = (None, None);
    for turn in 0..5_000_usize {
        if turn % 3 == 1 {
            world.restart().unwrap();
            asked = (None, None);
        }
        let part = &bytes[typed..(typed + turn % 90).min(bytes.len())];
        if !part.is_empty() && world.types(part) {
            typed += part.len();
        }
        let until = (written + 6_000).min(bytes.len());
        let write = *asked.0.get_or_insert_with(|| world.write(written, &bytes[written..until]));
        let reader = *asked.1.get_or_insert_with(|| world.read(read.len(), NO_WINDOW));
        world.work().unwrap();
        if turn % 5 < 3 {
            world.shows();
        }
        if turn % 4 > 0 {
            world.work().unwrap();
            if let Some(answer) = world.answer(write) {
                written += answer.words[0] as usize;
                asked.0 = None;
            }
            if let Some(answer) = world.answer(reader) {
                read.extend(answer.received);
                asked.1 = None;
            }
        }
    }
    assert_eq!((written, read.len(), typed), (bytes.len(), bytes.len(), bytes.len()));
    assert!(*world.shown.borrow() == bytes && read == bytes);
    assert_eq!(world.frames.faults(), vec![]);
}

/// What a device does, and what it is.
type Lie = (fn(&World), Error);

#[test]
fn a_device_that_lies_ends_the_service() {
    let lies: [Lie; 4] = [
        (|world| world.device.complete(0, world.device.take(0).unwrap().head, 257), Error::WroteTooMuch),
        (|world| world.device.put_used(0, 0xdead, 8), Error::UsedUnknown),
        (|world| world.device.set_used_index(0, 30), Error::UsedTooMuch),
        (|world| world.device.break_down(), Error::NeedsReset),
    ];
    for (lie, error) in lies {
        let mut world = World::new(0);
        lie(&world);
        assert_eq!(world.work(), Err(error));
        // The next begins anew, whatever the device left.
        world.device.is_gone.set(false);
        world.restart().unwrap();
        world.work().unwrap();
    }
}

#[test]
fn a_memory_full_of_nonsense_is_no_harm() {
    let mut world = World::new(0);
    for fill in [u64::MAX, 0x0101_0101_0101_0101, 0x0005_0004_0003_0002] {
        for offset in (0..DEVICE_BYTES).step_by(8) {
            world.shared.store64(offset, fill).unwrap();
        }
        world.restart().unwrap();
        world.work().unwrap();
    }
    assert_eq!(world.frames.faults(), vec![]);
}
