//! A simulated virtio disk, with the misfortunes that a real one has.

extern crate std;

use crate::wire;
use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::simulation::Frames;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;
use virtio::simulation::{ALL_FEATURES, Chain, SimulatedDevice, Specification};

/// All features of a disk that the driver knows.
pub(crate) const DISK_FEATURES: u64 = 1 << 2 | 1 << 6 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 14;

/// A request that the disk has taken.
struct Held {
    queue: usize,
    chain: Chain,
}

/// A disk in the device.
pub(crate) struct SimulatedDisk {
    pub(crate) device: Rc<SimulatedDevice>,
    pub(crate) bytes: RefCell<Vec<u8>>,
    /// Requests on these sectors fail.
    pub(crate) bad_sectors: RefCell<Vec<u64>>,
    /// The next so many requests are swallowed.
    pub(crate) lost: Cell<usize>,
    /// The next so many answers are lies: a used element that means nothing.
    pub(crate) lies: Cell<usize>,
    /// Writes since the last flush.
    pub(crate) volatile: Cell<usize>,
    /// How many requests were done.
    pub(crate) done: Cell<usize>,
    held: RefCell<Vec<Held>>,
    seed: Cell<u64>,
    resets: Cell<usize>,
}

impl SimulatedDisk {
    pub(crate) fn new(frames: &Rc<Frames>, sectors: u64, features: u64, queues: usize) -> Self {
        let mut config = vec![0; 60];
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        for (offset, value) in [(8, PAGE_BYTES as u32), (12, 254), (20, 512), (36, 100), (48, 50)] {
            config[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        config[34..36].copy_from_slice(&(queues as u16).to_le_bytes());
        let specification = Specification { features: features | 1 << 32, config, queues, queue_size: 256 };
        Self {
            device: SimulatedDevice::new(frames, specification, queues),
            bytes: RefCell::new(vec![0; sectors as usize * 512]),
            bad_sectors: RefCell::default(),
            lost: Cell::default(),
            lies: Cell::default(),
            volatile: Cell::default(),
            done: Cell::default(),
            held: RefCell::default(),
            seed: Cell::new(1),
            resets: Cell::default(),
        }
    }

    pub(crate) fn whole(frames: &Rc<Frames>, queues: usize) -> Self {
        Self::new(frames, 4096, ALL_FEATURES | DISK_FEATURES, queues)
    }

    fn random(&self, below: usize) -> usize {
        let seed = self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(seed);
        (seed >> 33) as usize % below
    }

    /// Takes what was published, and does some of it, in any order.
    pub(crate) fn step(&self) {
        if self.resets.replace(self.device.resets.get()) != self.device.resets.get() {
            self.held.borrow_mut().clear();
        }
        let queues = self.device.specification.borrow().queues;
        for queue in 0..queues {
            while let Some(chain) = self.device.take(queue) {
                self.held.borrow_mut().push(Held { queue, chain });
            }
        }
        let count = self.held.borrow().len();
        for _ in 0..count.min(1 + self.random(8)) {
            let which = self.random(self.held.borrow().len());
            let held = self.held.borrow_mut().swap_remove(which);
            self.finish(&held);
        }
    }

    fn finish(&self, held: &Held) {
        if let Some(left) = self.lost.get().checked_sub(1) {
            return self.lost.set(left);
        }
        if let Some(left) = self.lies.get().checked_sub(1) {
            self.lies.set(left);
            return self.device.put_used(held.queue, 0xdead, 0);
        }
        let status = self.perform(&held.chain);
        held.chain.write(held.chain.room() - 1, &[status]);
        self.done.set(self.done.get() + 1);
        self.device.complete(held.queue, held.chain.head, held.chain.room() as u32);
    }

    fn perform(&self, chain: &Chain) -> u8 {
        let bytes = chain.bytes();
        let number = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| bytes[at + byte]));
        let (what, sector, payload) = (number(0) as u32, number(8), &bytes[16..]);
        let (first, count) = match what {
            wire::IN => (sector, (chain.room() as u64 - 1) / 512),
            wire::OUT => (sector, payload.len() as u64 / 512),
            wire::DISCARD_SECTORS | wire::ZERO_SECTORS => (number(16), number(24)),
            _ => (0, 0),
        };
        if self.bad_sectors.borrow().iter().any(|bad| (first..first + count).contains(bad)) {
            return wire::STATUS_IO_ERROR;
        }
        let mut disk = self.bytes.borrow_mut();
        let sectors = &mut disk[first as usize * 512..][..count as usize * 512];
        match what {
            wire::IN => chain.write(0, sectors),
            wire::OUT => {
                self.volatile.set(self.volatile.get() + 1);
                sectors.copy_from_slice(payload);
            }
            wire::FLUSH_CACHE => self.volatile.set(0),
            wire::DISCARD_SECTORS => {
                assert!(count <= 100);
                sectors.fill(0xdd);
            }
            wire::ZERO_SECTORS => {
                assert!(count <= 50);
                sectors.fill(0);
            }
            wire::GET_ID => chain.write(0, b"a simulated disk\0\0\0\0"),
            _ => return wire::STATUS_UNSUPPORTED,
        }
        wire::STATUS_OK
    }
}
