//! A simulated NVMe controller, with the misfortunes that a real one has.

extern crate std;

use crate::wire;
use driver_runtime::simulation::{Frames, Model, SimulatedInterrupt, SimulatedWindow};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    submissions: u64,
    completions: u64,
    size: u16,
    head: u16,
    tail: u16,
    completion_tail: u16,
    phase: bool,
    vector: Option<usize>,
}

struct Command {
    ring: usize,
    words: [u32; 16],
}

/// The controller and its namespace of blocks of 512 bytes.
pub(crate) struct SimulatedController {
    pub(crate) frames: Rc<Frames>,
    pub(crate) interrupts: [SimulatedInterrupt; 2],
    pub(crate) is_gone: Rc<Cell<bool>>,
    pub(crate) bytes: RefCell<Vec<u8>>,
    pub(crate) bad_blocks: RefCell<Vec<u64>>,
    /// The next so many commands are swallowed.
    pub(crate) lost: Cell<usize>,
    /// The next so many completions name what is not there.
    pub(crate) lies: Cell<usize>,
    pub(crate) never_ready: Cell<bool>,
    pub(crate) enables: Cell<usize>,
    pub(crate) flushes: Cell<usize>,
    registers: RefCell<[u32; 16]>,
    rings: RefCell<[Ring; 3]>,
    held: RefCell<Vec<Command>>,
    seed: Cell<u64>,
}

impl SimulatedController {
    pub(crate) fn new(frames: &Rc<Frames>, blocks: usize) -> Rc<Self> {
        let mut registers = [0; 16];
        // Queues of 1024 entries, 500 ms.
        (registers[0], registers[1]) = (0x01ff_03ff, 0x20);
        Rc::new(Self {
            frames: frames.clone(),
            interrupts: Default::default(),
            is_gone: Rc::default(),
            bytes: RefCell::new(vec![0; blocks * 512]),
            bad_blocks: RefCell::default(),
            lost: Cell::default(),
            lies: Cell::default(),
            never_ready: Cell::default(),
            enables: Cell::default(),
            flushes: Cell::default(),
            registers: RefCell::new(registers),
            rings: RefCell::default(),
            held: RefCell::default(),
            seed: Cell::new(1),
        })
    }

    pub(crate) fn window(self: &Rc<Self>) -> SimulatedWindow<Self> {
        SimulatedWindow::new(self, 0, 1 << 14, &self.is_gone)
    }

    fn random(&self, below: usize) -> usize {
        let seed = self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(seed);
        (seed >> 33) as usize % below
    }

    /// Takes what it was told of, and does some of it, in any order.
    pub(crate) fn step(&self) {
        for ring in 0..3 {
            let Ring { submissions, size, head, tail, .. } = self.rings.borrow()[ring];
            let mut at = head;
            while at != tail && size > 0 {
                let mut bytes = [0; 64];
                self.frames.device_read(submissions + u64::from(at) * 64, &mut bytes).unwrap();
                let words = core::array::from_fn(|word| {
                    u32::from_le_bytes(core::array::from_fn(|byte| bytes[word * 4 + byte]))
                });
                self.held.borrow_mut().push(Command { ring, words });
                at = (at + 1) % size;
            }
            self.rings.borrow_mut()[ring].head = at;
        }
        let count = self.held.borrow().len();
        for _ in 0..count.min(1 + self.random(8)) {
            let which = self.random(self.held.borrow().len());
            let command = self.held.borrow_mut().swap_remove(which);
            if let Some(left) = self.lost.get().checked_sub(1) {
                self.lost.set(left);
                continue;
            }
            let status = if command.ring == 0 { self.administer(&command.words) } else { self.perform(&command.words) };
            self.complete(command.ring, (command.words[0] >> 16) as u16, status);
        }
    }

    fn complete(&self, ring: usize, id: u16, status: u32) {
        let id = match self.lies.get().checked_sub(1) {
            Some(left) if ring > 0 => {
                self.lies.set(left);
                0xdead
            }
            _ => id,
        };
        let mut rings = self.rings.borrow_mut();
        let ring = &mut rings[ring];
        let last = u32::from(id) | u32::from(!ring.phase) << 16 | status << 17;
        let at = ring.completions + u64::from(ring.completion_tail) * 16;
        self.frames.device_write(at, &[0; 12]).unwrap();
        self.frames.device_write(at + 12, &last.to_le_bytes()).unwrap();
        ring.completion_tail = (ring.completion_tail + 1) % ring.size;
        if ring.completion_tail == 0 {
            ring.phase = !ring.phase;
        }
        if let Some(vector) = ring.vector {
            self.interrupts[vector].raise();
        }
    }

    fn administer(&self, words: &[u32; 16]) -> u32 {
        let address = u64::from(words[6]) | u64::from(words[7]) << 32;
        let (number, size) = ((words[10] & 0xffff) as usize, (words[10] >> 16) as u16 + 1);
        match words[0] as u8 {
            wire::IDENTIFY => {
                let mut identity = vec![0; 4096];
                if words[10] == wire::OF_CONTROLLER {
                    identity[4..24].copy_from_slice(b"simulated           ");
                    (identity[77], identity[520], identity[525]) = (5, 1 << 2 | 1 << 3, 1);
                } else {
                    let blocks = self.bytes.borrow().len() as u64 / 512;
                    identity[..8].copy_from_slice(&blocks.to_le_bytes());
                    identity[130] = 9;
                }
                self.frames.device_write(address, &identity).unwrap();
            }
            wire::CREATE_COMPLETIONS => {
                let ring = &mut self.rings.borrow_mut()[number];
                (ring.completions, ring.size) = (address, size);
                ring.vector = (words[11] & wire::INTERRUPTS != 0).then_some((words[11] >> 16) as usize);
            }
            wire::CREATE_SUBMISSIONS => self.rings.borrow_mut()[number].submissions = address,
            wire::SET_FEATURES => {}
            _ => return 1,
        }
        0
    }

    /// The places of a transfer's bytes, block by block.
    fn places(&self, words: &[u32; 16], blocks: u64) -> Vec<u64> {
        let [first, second] = [6, 8].map(|word| u64::from(words[word]) | u64::from(words[word + 1]) << 32);
        let bytes = blocks * 512;
        let in_first = 4096 - first % 4096;
        let mut pages = vec![first];
        if bytes > in_first + 4096 {
            let count = (bytes - in_first).div_ceil(4096);
            for index in 0..count {
                let mut entry = [0; 8];
                self.frames.device_read(second + index * 8, &mut entry).unwrap();
                pages.push(u64::from_le_bytes(entry));
            }
        } else if bytes > in_first {
            pages.push(second);
        }
        assert!(pages[1..].iter().all(|page| page % 4096 == 0), "only the first page may begin elsewhere");
        let blocks_of = |page: &u64| (*page..(*page / 4096 + 1) * 4096).step_by(512);
        pages.iter().flat_map(blocks_of).take(blocks as usize).collect()
    }

    fn perform(&self, words: &[u32; 16]) -> u32 {
        let first = u64::from(words[10]) | u64::from(words[11]) << 32;
        let count = u64::from(words[12] & 0xffff) + 1;
        let mut bytes = self.bytes.borrow_mut();
        if self
            .bad_blocks
            .borrow()
            .iter()
            .any(|bad| words[0] as u8 == wire::READ && (first..first + count).contains(bad))
        {
            // A medium error: unrecovered read.
            return 2 << 8 | 0x81;
        }
        let block = |index: u64| (first + index) as usize * 512..(first + index + 1) as usize * 512;
        match words[0] as u8 {
            wire::READ => {
                for (place, index) in self.places(words, count).into_iter().zip(0..) {
                    self.frames.device_write(place, &bytes[block(index)]).unwrap();
                }
            }
            wire::WRITE => {
                for (place, index) in self.places(words, count).into_iter().zip(0..) {
                    self.frames.device_read(place, &mut bytes[block(index)]).unwrap();
                }
            }
            wire::WRITE_ZEROES => (0..count).for_each(|index| bytes[block(index)].fill(0)),
            wire::FLUSH => self.flushes.set(self.flushes.get() + 1),
            wire::DATASET_MANAGEMENT => {
                let mut range = [0; 16];
                let address = u64::from(words[6]) | u64::from(words[7]) << 32;
                self.frames.device_read(address, &mut range).unwrap();
                let [_, len, low, high] = core::array::from_fn(|word| {
                    u32::from_le_bytes(core::array::from_fn(|byte| range[word * 4 + byte])) as usize
                });
                assert_eq!(high, 0);
                bytes[low * 512..(low + len) * 512].fill(0xdd);
            }
            _ => return 1,
        }
        0
    }

    fn enable(&self, is_enabled: bool) {
        let mut registers = self.registers.borrow_mut();
        self.held.borrow_mut().clear();
        let mut rings = self.rings.borrow_mut();
        *rings = Default::default();
        if is_enabled && !self.never_ready.get() {
            self.enables.set(self.enables.get() + 1);
            let address = |at: usize| u64::from(registers[at]) | u64::from(registers[at + 1]) << 32;
            rings[0].submissions = address(10);
            rings[0].completions = address(12);
            rings[0].size = (registers[9] & 0xfff) as u16 + 1;
        }
        registers[7] = u32::from(is_enabled && !self.never_ready.get());
    }
}

impl Model for SimulatedController {
    fn read(&self, _: usize, offset: usize, width_bytes: usize) -> u64 {
        assert_eq!(width_bytes, 4);
        self.registers.borrow().get(offset / 4).copied().unwrap_or_default().into()
    }

    fn write(&self, _: usize, offset: usize, width_bytes: usize, value: u64) {
        assert_eq!(width_bytes, 4);
        match offset {
            0x14 => self.enable(value & 1 != 0),
            ..0x40 => self.registers.borrow_mut()[offset / 4] = value as u32,
            wire::DOORBELLS.. => {
                let doorbell = (offset - wire::DOORBELLS) / 4;
                if doorbell.is_multiple_of(2) {
                    self.rings.borrow_mut()[doorbell / 2].tail = value as u16;
                }
            }
            _ => {}
        }
    }
}
