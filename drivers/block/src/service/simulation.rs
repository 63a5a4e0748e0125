//! A simulated disk with the misfortunes that a real one has, the memories of its clients, and the clients.

extern crate std;

use super::*;
use alloc::rc::Rc;
use driver_protocol::block::{PAGE_BYTES, SECTOR_BYTES, SERIAL_BYTES};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec;

/// All frames of the machine, by their addresses, and how often each is pinned.
#[derive(Default)]
pub(super) struct Machine {
    frames: RefCell<BTreeMap<u64, Vec<u8>>>,
    pins: RefCell<BTreeMap<u64, usize>>,
}

impl Machine {
    /// A memory of so many pages. Neighbouring pages are seldom neighbouring frames.
    pub(super) fn memory(&self, pages: u64) -> SimulatedMemory {
        let mut frames = self.frames.borrow_mut();
        let addresses = (0..pages).map(|page| {
            let address = (frames.len() as u64 * if page % 3 == 0 { 7 } else { 1 } + 100) * PAGE_BYTES;
            let address = (address..).step_by(PAGE_BYTES as usize).find(|free| !frames.contains_key(free)).unwrap();
            frames.insert(address, vec![0; PAGE_BYTES as usize]);
            address
        });
        SimulatedMemory { pages: addresses.collect() }
    }

    pub(super) fn pinned(&self) -> usize {
        self.pins.borrow().values().sum()
    }

    pub(super) fn read(&self, memory: &SimulatedMemory, page: usize) -> Vec<u8> {
        self.frames.borrow()[&memory.pages[page]].clone()
    }

    pub(super) fn write(&self, memory: &SimulatedMemory, page: usize, bytes: &[u8]) {
        self.frames.borrow_mut().get_mut(&memory.pages[page]).unwrap().copy_from_slice(bytes);
    }

    /// The device reaches for bytes: they must be pinned.
    fn reach(&self, segment: &Segment, mut use_it: impl FnMut(&mut [u8])) {
        let (mut address, end) = (segment.address, segment.address + u64::from(segment.len_bytes));
        while address < end {
            let (frame, offset) = (address - address % PAGE_BYTES, address % PAGE_BYTES);
            assert!(self.pins.borrow().get(&frame).is_some_and(|pins| *pins > 0), "a frame that is not pinned");
            let count = (PAGE_BYTES - offset).min(end - address);
            let mut frames = self.frames.borrow_mut();
            use_it(&mut frames.get_mut(&frame).unwrap()[offset as usize..][..count as usize]);
            address += count;
        }
    }
}

#[derive(Clone)]
pub(super) struct SimulatedMemory {
    pages: Vec<u64>,
}

/// The pins of one request. Dropping it does not unpin: it must be given back.
pub(super) struct Pins(Vec<u64>);

impl Frames for Rc<Machine> {
    type Memory = SimulatedMemory;
    type Mapping = Pins;

    fn map(&self, memory: &SimulatedMemory, first: u64, _: Direction, addresses: &mut [u64]) -> Result<Pins, Refusal> {
        let pages = memory.pages.get(first as usize..first as usize + addresses.len()).ok_or(Refusal::BadBuffer)?;
        addresses.copy_from_slice(pages);
        pages.iter().for_each(|page| *self.pins.borrow_mut().entry(*page).or_default() += 1);
        Ok(Pins(pages.to_vec()))
    }

    fn unmap(&self, Pins(pages): Pins) {
        pages.iter().for_each(|page| *self.pins.borrow_mut().get_mut(page).unwrap() -= 1);
    }
}

/// What goes wrong with the disk.
#[derive(Default)]
pub(super) struct Trouble {
    /// Commands on these sectors fail.
    pub(super) bad_sectors: RefCell<Vec<u64>>,
    /// The next so many commands are swallowed.
    pub(super) lost: Cell<usize>,
    /// The next look at what is done finds nonsense.
    pub(super) is_mad: Cell<bool>,
    /// Nothing answers.
    pub(super) is_gone: Cell<bool>,
    /// So many restarts do not work at once.
    pub(super) slow_restarts: Cell<usize>,
}

/// A command that the disk has, as it must be done.
struct Held {
    tag: u16,
    command: Command,
    segments: Vec<Segment>,
}

/// The platter, and what the disk was told.
pub(super) struct Platter {
    pub(super) bytes: RefCell<Vec<u8>>,
    pub(super) trouble: Trouble,
    pub(super) restarts: Cell<usize>,
    pub(super) notifications: Cell<usize>,
    pub(super) commands: RefCell<Vec<Command>>,
    /// Writes since the last flush, that a loss of power would take.
    pub(super) volatile: Cell<usize>,
    held: RefCell<Vec<Held>>,
    /// How many of the held it was told of.
    told: Cell<usize>,
    seed: Cell<u64>,
    pub(super) description: Description,
    pub(super) limits: Limits,
}

/// The disk on a platter.
#[derive(Clone)]
pub(super) struct SimulatedDisk {
    pub(super) machine: Rc<Machine>,
    pub(super) platter: Rc<Platter>,
}

pub(super) const LIMITS: Limits = Limits {
    in_flight: 8,
    segments: 128,
    segment_bytes: u64::MAX,
    discard_sectors: 64,
    zeroes_sectors: 32,
    durable_writes: false,
};

impl SimulatedDisk {
    pub(super) fn new(sectors: u64, limits: Limits) -> Self {
        let description = Description {
            sectors,
            block_bytes: 512,
            abilities: Abilities::FLUSH | Abilities::DISCARD | Abilities::WRITE_ZEROES,
            serial: [0; SERIAL_BYTES],
        };
        let platter = Platter {
            bytes: RefCell::new(vec![0; (sectors * SECTOR_BYTES) as usize]),
            trouble: Trouble::default(),
            restarts: Cell::default(),
            notifications: Cell::default(),
            commands: RefCell::default(),
            volatile: Cell::default(),
            held: RefCell::default(),
            told: Cell::default(),
            seed: Cell::new(1),
            description,
            limits,
        };
        Self { machine: Rc::default(), platter: Rc::new(platter) }
    }

    fn random(&self, below: usize) -> usize {
        let seed = &self.platter.seed;
        seed.set(seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (seed.get() >> 33) as usize % below
    }

    /// Does a command with the bytes that it names.
    fn perform(&self, held: &Held) -> Outcome {
        let Held { tag: _, command: Command { direction, range }, segments } = held;
        let bad = self.platter.trouble.bad_sectors.borrow();
        if bad.iter().any(|sector| (range.first..range.first + range.count).contains(sector)) {
            return Outcome::Failed;
        }
        let mut bytes = self.platter.bytes.borrow_mut();
        let bytes = &mut bytes[(range.first * 512) as usize..][..(range.count * 512) as usize];
        let mut at = 0;
        match direction {
            Direction::Read => segments.iter().for_each(|segment| {
                self.machine.reach(segment, |frame| {
                    frame.copy_from_slice(&bytes[at..at + frame.len()]);
                    at += frame.len();
                });
            }),
            Direction::Write { durable: _ } => {
                self.platter.volatile.set(self.platter.volatile.get() + 1);
                segments.iter().for_each(|segment| {
                    self.machine.reach(segment, |frame| {
                        bytes[at..at + frame.len()].copy_from_slice(frame);
                        at += frame.len();
                    });
                });
            }
            Direction::Flush => self.platter.volatile.set(0),
            Direction::Discard | Direction::WriteZeroes => {
                bytes.fill(0);
                at = bytes.len();
            }
        }
        assert_eq!(at as u64, range.count * 512, "as many bytes as sectors");
        Outcome::Done
    }
}

impl Disk for SimulatedDisk {
    fn description(&self) -> Description {
        self.platter.description
    }

    fn limits(&self) -> Limits {
        self.platter.limits
    }

    fn submit(&mut self, tag: u16, command: &Command, segments: Segments<'_>) -> Result<(), DiskFailed> {
        let mut held = self.platter.held.borrow_mut();
        assert!(tag < self.platter.limits.in_flight && held.iter().all(|held| held.tag != tag), "tags are unique");
        let segments: Vec<_> = segments.collect();
        assert!(segments.len() as u64 <= self.platter.limits.segments);
        self.platter.commands.borrow_mut().push(*command);
        held.push(Held { tag, command: *command, segments });
        Ok(())
    }

    fn notify(&mut self) -> Result<(), DiskFailed> {
        self.platter.notifications.set(self.platter.notifications.get() + 1);
        self.platter.told.set(self.platter.held.borrow().len());
        Ok(())
    }

    fn complete(&mut self) -> Result<Option<Done>, DiskFailed> {
        let platter = &*self.platter;
        if platter.trouble.is_mad.take() || platter.trouble.is_gone.get() {
            return Err(DiskFailed);
        }
        let told = platter.told.get();
        if told == 0 || self.random(3) == 0 {
            return Ok(None);
        }
        let held = platter.held.borrow_mut().remove(self.random(told));
        platter.told.set(told - 1);
        if platter.trouble.lost.get() > 0 {
            platter.trouble.lost.set(platter.trouble.lost.get() - 1);
            // It is held for ever, and never done.
            return Ok(None);
        }
        Ok(Some(Done { tag: held.tag, outcome: self.perform(&held) }))
    }

    fn restart(&mut self) -> Result<Restart, DiskFailed> {
        self.platter.restarts.set(self.platter.restarts.get() + 1);
        self.restart_step()
    }

    fn restart_step(&mut self) -> Result<Restart, DiskFailed> {
        let trouble = &self.platter.trouble;
        if trouble.is_gone.get() {
            return Err(DiskFailed);
        }
        if trouble.slow_restarts.get() > 0 {
            trouble.slow_restarts.set(trouble.slow_restarts.get() - 1);
            return Ok(Restart::AgainIn(1_000_000));
        }
        self.platter.held.borrow_mut().clear();
        self.platter.told.set(0);
        Ok(Restart::Done)
    }
}

/// The answers that clients got, by the numbers of their requests.
#[derive(Clone, Default)]
pub(super) struct Answers(pub(super) Rc<RefCell<BTreeMap<u64, (u64, Words)>>>);

pub(super) struct SimulatedClient {
    pub(super) number: u64,
    pub(super) answers: Answers,
}

impl Client for SimulatedClient {
    fn answer(self, label: u64, words: Words) {
        let before = self.answers.0.borrow_mut().insert(self.number, (label, words));
        assert_eq!(before, None, "everybody is answered once");
    }
}
