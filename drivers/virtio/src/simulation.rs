//! The device's side of virtio: registers and rings of a simulated device, with faults that a test injects.
//!
//! What the device does with a request the test decides: it [takes](SimulatedDevice::take) chains and
//! [completes](SimulatedDevice::complete) them in any order, or not at all, or [says things](SimulatedDevice::put_used) that are not so.

mod chain;
mod registers;

pub use chain::Chain;

use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::simulation::{Frames, SimulatedInterrupt, SimulatedWindow};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// The window that has all the registers.
pub const BAR: u8 = 4;
const ISR: usize = PAGE_BYTES;
const CONFIG: usize = 2 * PAGE_BYTES;
const NOTIFY: usize = 3 * PAGE_BYTES;
const BAR_BYTES: usize = 4 * PAGE_BYTES;
const NOTIFY_MULTIPLIER: usize = 4;

/// What a device is.
#[derive(Clone, Debug)]
pub struct Specification {
    /// What it offers, without the features that all simulated devices offer.
    pub features: u64,
    /// The registers that devices of its kind have.
    pub config: Vec<u8>,
    /// How many queues it has.
    pub queues: usize,
    /// How many descriptors a queue may have.
    pub queue_size: u16,
}

/// A queue as the device knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DeviceQueue {
    size: u16,
    vector: u16,
    is_enabled: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    /// How many requests were taken, and done.
    taken: u16,
    done: u16,
}

#[derive(Default)]
struct State {
    status: u8,
    feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    config_vector: u16,
    queues: Vec<DeviceQueue>,
}

/// A simulated device.
pub struct SimulatedDevice {
    /// The machine's frames.
    pub frames: Rc<Frames>,
    /// What it is; a test may change it.
    pub specification: RefCell<Specification>,
    /// Its interrupts, by vector.
    pub interrupts: Vec<SimulatedInterrupt>,
    /// Whether nothing answers any more.
    pub is_gone: Rc<Cell<bool>>,
    /// Whether it stays in its reset.
    pub sticks_in_reset: Cell<bool>,
    /// Whether it does not accept features.
    pub refuses_features: Cell<bool>,
    /// How often it was reset.
    pub resets: Cell<usize>,
    /// How often a queue was notified.
    pub notifications: Cell<usize>,
    state: RefCell<State>,
}

impl core::fmt::Debug for SimulatedDevice {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("SimulatedDevice").finish_non_exhaustive()
    }
}

/// Features of all simulated devices: indirect descriptors, event index, version 1.
pub const ALL_FEATURES: u64 = 1 << 28 | 1 << 29 | 1 << 32;

impl SimulatedDevice {
    /// A device with that many interrupts.
    pub fn new(frames: &Rc<Frames>, specification: Specification, interrupts: usize) -> Rc<Self> {
        let state = State { queues: vec![DeviceQueue::default(); specification.queues], ..State::default() };
        Rc::new(Self {
            frames: frames.clone(),
            specification: RefCell::new(specification),
            interrupts: (0..interrupts).map(|_| SimulatedInterrupt::default()).collect(),
            is_gone: Rc::default(),
            sticks_in_reset: Cell::default(),
            refuses_features: Cell::default(),
            resets: Cell::default(),
            notifications: Cell::default(),
            state: RefCell::new(state),
        })
    }

    /// The window with the registers.
    pub fn window(self: &Rc<Self>) -> Rc<SimulatedWindow<Self>> {
        Rc::new(SimulatedWindow::new(self, usize::from(BAR), BAR_BYTES, &self.is_gone))
    }

    /// Its configuration space.
    pub fn configuration(&self) -> Vec<u8> {
        let mut space = vec![0; 256];
        space[6] = 1 << 4;
        space[0x34] = 0x40;
        let places = [(1, 0, 56), (2, NOTIFY, PAGE_BYTES), (3, ISR, 4), (4, CONFIG, PAGE_BYTES)];
        for (index, (kind, offset, len)) in places.into_iter().enumerate() {
            let at = 0x40 + index * 20;
            let next = if index < 3 { at + 20 } else { 0 };
            space[at..at + 5].copy_from_slice(&[9, next as u8, 20, kind, BAR]);
            space[at + 8..at + 12].copy_from_slice(&(offset as u32).to_le_bytes());
            space[at + 12..at + 16].copy_from_slice(&(len as u32).to_le_bytes());
            space[at + 16..at + 20].copy_from_slice(&(NOTIFY_MULTIPLIER as u32).to_le_bytes());
        }
        space
    }

    /// Whether the driver has started it.
    pub fn is_running(&self) -> bool {
        self.state.borrow().status & 4 != 0
    }

    /// The features that the driver chose.
    pub fn driver_features(&self) -> u64 {
        self.state.borrow().driver_features
    }

    /// Says that it can't go on.
    pub fn break_down(&self) {
        self.state.borrow_mut().status |= 64;
    }

    fn queue(&self, index: usize) -> Option<DeviceQueue> {
        self.state.borrow().queues.get(index).copied().filter(|queue| queue.is_enabled)
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut DeviceQueue)) {
        if let Some(queue) = self.state.borrow_mut().queues.get_mut(index) {
            change(queue);
        }
    }

    /// Takes the next request of a queue, if there is one.
    pub fn take(&self, index: usize) -> Option<Chain> {
        let queue = self.queue(index).filter(|_| self.is_running() && !self.is_gone.get())?;
        let published = self.load16(queue.available + 2);
        if published == queue.taken {
            return None;
        }
        let slot = u64::from(queue.taken % queue.size);
        let head = self.load16(queue.available + 4 + 2 * slot);
        self.update(index, |queue| queue.taken = queue.taken.wrapping_add(1));
        // The driver is to notify when it adds another.
        self.store16(queue.used + 4 + 8 * u64::from(queue.size), queue.taken.wrapping_add(1));
        Some(Chain::read(&self.frames, queue.descriptors, queue.size, head))
    }

    /// Says that a request is done, and raises an interrupt if the driver wants one.
    pub fn complete(&self, index: usize, head: u16, written_bytes: u32) {
        let Some(before) = self.queue(index) else { return };
        self.put_used(index, head.into(), written_bytes);
        let done = before.done.wrapping_add(1);
        let event = self.load16(before.available + 4 + 2 * u64::from(before.size));
        let has_event_index = self.driver_features() & 1 << 29 != 0;
        let is_wanted = if has_event_index { event == before.done } else { self.load16(before.available) & 1 == 0 };
        self.update(index, |queue| queue.done = done);
        if is_wanted && let Some(interrupt) = self.interrupts.get(usize::from(before.vector)) {
            interrupt.raise();
        }
    }

    /// Writes the next element of the used ring, whatever it says.
    pub fn put_used(&self, index: usize, id: u32, written_bytes: u32) {
        let Some(queue) = self.queue(index) else { return };
        let at = queue.used + 4 + 8 * u64::from(queue.done % queue.size);
        let element = u64::from(id) | u64::from(written_bytes) << 32;
        let _ = self.frames.device_write(at, &element.to_le_bytes());
        self.set_used_index(index, queue.done.wrapping_add(1));
    }

    /// Says how many requests it has done in all.
    pub fn set_used_index(&self, index: usize, done: u16) {
        if let Some(queue) = self.queue(index) {
            self.store16(queue.used + 2, done);
        }
    }

    /// How many requests it has done in all.
    pub fn done(&self, index: usize) -> u16 {
        self.queue(index).map_or(0, |queue| queue.done)
    }

    fn load16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        let _ = self.frames.device_read(address, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn store16(&self, address: u64, value: u16) {
        let _ = self.frames.device_write(address, &value.to_le_bytes());
    }
}
