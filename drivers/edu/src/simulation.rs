//! A simulated edu device, with the misfortunes that a real one has.

extern crate std;

use crate::registers::{DEVICE_MEMORY, MAX_TRANSFER_BYTES};
use driver_runtime::simulation::{Frames, Model, SimulatedInterrupt, SimulatedWindow};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// The device, and the machine that it is in.
pub(crate) struct SimulatedEdu {
    pub(crate) frames: Rc<Frames>,
    pub(crate) interrupt: SimulatedInterrupt,
    /// Nothing answers any more.
    pub(crate) is_gone: Rc<Cell<bool>>,
    /// It never finishes anything.
    pub(crate) hangs: Cell<bool>,
    pub(crate) identification: Cell<u32>,
    liveness: Cell<u32>,
    number: Cell<u32>,
    status: Cell<u32>,
    reasons: Cell<u32>,
    dma: [Cell<u64>; 4],
    memory: RefCell<Vec<u8>>,
}

impl SimulatedEdu {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            frames: Rc::default(),
            interrupt: SimulatedInterrupt::default(),
            is_gone: Rc::default(),
            hangs: Cell::default(),
            identification: Cell::new(0x0100_00ed),
            liveness: Cell::default(),
            number: Cell::default(),
            status: Cell::default(),
            reasons: Cell::default(),
            dma: Default::default(),
            memory: RefCell::new(vec![0; MAX_TRANSFER_BYTES]),
        })
    }

    pub(crate) fn window(self: &Rc<Self>) -> SimulatedWindow<Self> {
        SimulatedWindow::new(self, 0, 1 << 20, &self.is_gone)
    }

    /// Finishes what it was asked for.
    pub(crate) fn step(&self) {
        if self.hangs.get() || self.is_gone.get() {
            return;
        }
        if self.status.get() & 1 != 0 {
            let factorial = (1..=self.number.get()).fold(1, u32::wrapping_mul);
            self.number.set(factorial);
            self.status.set(self.status.get() & !1);
            if self.status.get() & 0x80 != 0 {
                self.raise(1);
            }
        }
        if self.dma[3].get() & 1 != 0 {
            self.transfer();
            self.dma[3].set(self.dma[3].get() & !1);
            if self.dma[3].get() & 4 != 0 {
                self.raise(0x100);
            }
        }
    }

    /// Raises an interrupt, for a reason or for none.
    pub(crate) fn raise(&self, reasons: u32) {
        self.reasons.set(self.reasons.get() | reasons);
        self.interrupt.raise();
    }

    fn transfer(&self) {
        let [from, to, count, command] = [0, 1, 2, 3].map(|index: usize| self.dma[index].get());
        let mut memory = self.memory.borrow_mut();
        let own = if command & 2 == 0 { to } else { from } - DEVICE_MEMORY;
        let bytes = &mut memory[own as usize..(own + count) as usize];
        let moved =
            if command & 2 == 0 { self.frames.device_read(from, bytes) } else { self.frames.device_write(to, bytes) };
        assert_eq!(moved, Ok(()));
    }
}

impl Model for SimulatedEdu {
    fn read(&self, _: usize, offset: usize, width_bytes: usize) -> u64 {
        assert!(width_bytes == 4 || offset >= 0x80 && width_bytes == 8, "as wide as the device allows");
        match offset {
            0x00 => self.identification.get().into(),
            0x04 => self.liveness.get().into(),
            0x08 => self.number.get().into(),
            0x20 => self.status.get().into(),
            0x24 => self.reasons.get().into(),
            0x98 => self.dma[3].get(),
            _ => 0,
        }
    }

    fn write(&self, _: usize, offset: usize, width_bytes: usize, value: u64) {
        assert!(width_bytes == 4 || offset >= 0x80 && width_bytes == 8, "as wide as the device allows");
        match offset {
            0x04 => self.liveness.set(!(value as u32)),
            0x08 if self.status.get() & 1 == 0 => {
                self.number.set(value as u32);
                self.status.set(self.status.get() | 1);
            }
            0x20 => self.status.set(self.status.get() & 1 | value as u32 & 0x80),
            0x64 => self.reasons.set(self.reasons.get() & !(value as u32)),
            0x80..0xa0 => self.dma[(offset - 0x80) / 8].set(value),
            _ => {}
        }
    }
}
