//! A simulated 16550, with the misfortunes that a real one has.

extern crate std;

use driver_runtime::{DeviceError, Ports};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

/// The chip and the wire.
#[derive(Default)]
pub(crate) struct Chip {
    /// Bytes in the receiver's FIFO, with the error bits of each.
    receiver: RefCell<VecDeque<(u8, u8)>>,
    transmitter: RefCell<VecDeque<u8>>,
    /// What left the chip.
    pub(crate) sent: RefCell<Vec<u8>>,
    overrun: Cell<bool>,
    enable: Cell<u8>,
    latch_open: Cell<bool>,
    /// "Transmitter empty" is a latch: reading the identification takes it back.
    empty_pending: Cell<bool>,
    /// Nothing answers any more.
    pub(crate) is_gone: Cell<bool>,
    /// What is written to the FIFO at once does not get there, and the driver ends.
    pub(crate) is_out_of_reach: Cell<bool>,
    /// Most bytes that were in the transmitter's FIFO.
    pub(crate) fullest: Cell<usize>,
    /// Bytes that were written at once.
    written: Cell<u64>,
    /// How many register accesses there were.
    pub(crate) accesses: Cell<usize>,
}

/// The ports of a shared chip.
#[derive(Clone, Default)]
pub(crate) struct SimulatedPorts(pub(crate) Rc<Chip>);

const FIFO: usize = 16;
const TRIGGER: usize = 14;

impl Chip {
    /// A byte arrives on the wire, with these error bits of the line status.
    pub(crate) fn arrive(&self, byte: u8, errors: u8) {
        let mut receiver = self.receiver.borrow_mut();
        if receiver.len() == FIFO {
            self.overrun.set(true);
        } else {
            receiver.push_back((byte, errors));
        }
    }

    /// The wire takes all bytes of the transmitter's FIFO.
    pub(crate) fn send_all(&self) {
        let mut transmitter = self.transmitter.borrow_mut();
        if !transmitter.is_empty() {
            self.sent.borrow_mut().extend(transmitter.drain(..));
            self.empty_pending.set(true);
        }
    }

    /// The chip is reset behind the driver's back: the "empty" interrupt never comes.
    pub(crate) fn lose_empty_interrupt(&self) {
        self.empty_pending.set(false);
    }

    fn line_status(&self) -> u8 {
        let mut receiver = self.receiver.borrow_mut();
        let any_error = receiver.iter().any(|(_, errors)| *errors != 0);
        let mut status = u8::from(!receiver.is_empty());
        status |= u8::from(self.overrun.replace(false)) << 1;
        if let Some((_, errors)) = receiver.front_mut() {
            status |= core::mem::take(errors);
        }
        if self.transmitter.borrow().is_empty() {
            status |= 0x60;
        }
        status | u8::from(any_error) << 7
    }

    fn identification(&self) -> u8 {
        let waiting = self.receiver.borrow().len();
        let enable = self.enable.get();
        if enable & 1 != 0 && waiting >= TRIGGER {
            0xc4
        } else if enable & 1 != 0 && waiting > 0 {
            0xcc
        } else if enable & 2 != 0 && self.empty_pending.replace(false) {
            0xc2
        } else {
            0xc1
        }
    }
}

impl Ports for SimulatedPorts {
    fn read(&self, offset: u16) -> Result<u8, DeviceError> {
        let chip = &self.0;
        chip.accesses.set(chip.accesses.get() + 1);
        if chip.is_gone.get() {
            return Ok(0xff);
        }
        Ok(match offset {
            0 => chip.receiver.borrow_mut().pop_front().map_or(0, |(byte, _)| byte),
            2 => chip.identification(),
            5 => chip.line_status(),
            1 | 3 | 4 | 6 | 7 => 0,
            _ => return Err(DeviceError),
        })
    }

    fn write(&self, offset: u16, value: u8) -> Result<(), DeviceError> {
        let chip = &self.0;
        chip.accesses.set(chip.accesses.get() + 1);
        match offset {
            0 if chip.latch_open.get() => {}
            0 => {
                let mut transmitter = chip.transmitter.borrow_mut();
                transmitter.push_back(value);
                assert!(transmitter.len() <= FIFO, "more than the FIFO holds");
                chip.fullest.set(chip.fullest.get().max(transmitter.len()));
                chip.empty_pending.set(false);
            }
            1 if chip.latch_open.get() => {}
            1 => chip.enable.set(value),
            3 => chip.latch_open.set(value & 0x80 != 0),
            2 | 4 | 5 | 6 | 7 => {}
            _ => return Err(DeviceError),
        }
        Ok(())
    }

    fn write_bytes(&self, offset: u16, bytes: &[u8]) -> Result<(), DeviceError> {
        let before = self.0.accesses.get();
        if self.0.is_out_of_reach.get() {
            return Err(DeviceError);
        }
        bytes.iter().try_for_each(|byte| self.write(offset, *byte))?;
        self.0.accesses.set(before + 1);
        self.0.written.set(self.0.written.get() + bytes.len() as u64);
        Ok(())
    }

    fn written(&self) -> Result<u64, DeviceError> {
        Ok(self.0.written.get())
    }

    fn read_bytes(&self, offset: u16, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let before = self.0.accesses.get();
        buffer.iter_mut().try_for_each(|byte| self.read(offset).map(|value| *byte = value))?;
        self.0.accesses.set(before + 1);
        Ok(())
    }
}
