//! The chip (PC16550D data sheet, section 8).

use console::line::Note;
use console::{Beginning, Device, Received};
use core::cell::Cell;
use driver_runtime::{DeviceError, Ports};

/// Bytes in the transmitter's and in the receiver's FIFO.
pub const FIFO_BYTES: usize = 16;
/// How full the receiver's FIFO is at least when the interrupt says "data" and not "timeout", as [`Uart::begin`] sets it.
pub const RECEIVE_TRIGGER: usize = 14;

/// Registers, by their offset from the first port. With the divisor latch open, 0 and 1 are the divisor.
mod register {
    pub(super) const DATA: u16 = 0;
    pub(super) const INTERRUPT_ENABLE: u16 = 1;
    pub(super) const INTERRUPT_IDENTIFICATION: u16 = 2;
    pub(super) const FIFO_CONTROL: u16 = 2;
    pub(super) const LINE_CONTROL: u16 = 3;
    pub(super) const MODEM_CONTROL: u16 = 4;
    pub(super) const LINE_STATUS: u16 = 5;
    pub(super) const MODEM_STATUS: u16 = 6;
    pub(super) const DIVISOR_LOW: u16 = 0;
    pub(super) const DIVISOR_HIGH: u16 = 1;
}

bitflags::bitflags! {
    /// The interrupt enable register.
    struct Enable: u8 {
        const RECEIVED_DATA = 1 << 0;
        const TRANSMITTER_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
    }
}

bitflags::bitflags! {
    /// The line status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LineStatus: u8 {
        /// There is a byte to read.
        const DATA_READY = 1 << 0;
        /// Bytes were lost because the FIFO was full.
        const OVERRUN = 1 << 1;
        /// The parity of the next byte is wrong.
        const PARITY_ERROR = 1 << 2;
        /// The next byte had no stop bit.
        const FRAMING_ERROR = 1 << 3;
        /// The line was held low for longer than a byte; the next byte is a zero that stands for that.
        const BREAK = 1 << 4;
        /// The transmitter's FIFO is empty.
        const TRANSMITTER_EMPTY = 1 << 5;
        /// FIFO and shift register of the transmitter are empty.
        const ALL_SENT = 1 << 6;
        /// Some byte in the receiver's FIFO has an error.
        const FIFO_ERROR = 1 << 7;
    }
}

/// What all bits read as where no device answers.
const NO_DEVICE: u8 = 0xff;
/// Errors that make the next byte worthless.
const BYTE_ERRORS: LineStatus = LineStatus::PARITY_ERROR.union(LineStatus::FRAMING_ERROR).union(LineStatus::BREAK);

/// FIFO control: both FIFOs are cleared.
const FIFOS_CLEARED: u8 = 0b0000_0110;
/// FIFO control: both FIFOs on and cleared, the receiver's trigger at [`RECEIVE_TRIGGER`] bytes.
const FIFOS_ON: u8 = 0b1100_0111;
/// Line control: 8 data bits, no parity, 1 stop bit.
const EIGHT_NONE_ONE: u8 = 0b0000_0011;
/// Line control: the divisor latch is open.
const DIVISOR_LATCH: u8 = 0b1000_0000;
/// Modem control: ready, with the interrupt line connected (OUT2, on a PC).
const READY_WITH_INTERRUPT: u8 = 0b0000_1011;
/// The divisor for 115,200 baud from a 1.8432 MHz clock.
const DIVISOR: u16 = 1;
/// Interrupt identification: none is pending.
const NONE_PENDING: u8 = 0b0000_0001;

/// Interrupt identification: which one (bits 1 to 3).
const IDENTIFICATION: u8 = 0b0000_1110;
/// Interrupt identification: the receiver's FIFO holds at least [`RECEIVE_TRIGGER`] bytes.
const TRIGGER_REACHED: u8 = 0b0000_0100;

/// A 16550.
#[derive(Debug)]
pub struct Uart<P> {
    ports: P,
    /// Reading the line status clears its error bits; what they said is kept here until the byte is read.
    next_is_worthless: Cell<bool>,
    overruns: Cell<u64>,
    /// How many bytes were put into the transmitter's FIFO ever, also by drivers before.
    written: Cell<u64>,
}

/// What a successor is told of that number.
fn mark_of(written: u64) -> u16 {
    written as u16
}

impl<P: Ports> Uart<P> {
    /// Takes the device; does not touch it yet.
    pub fn new(ports: P) -> Self {
        Self { ports, next_is_worthless: Cell::new(false), overruns: Cell::new(0), written: Cell::new(0) }
    }

    /// Sets the line up. What is in the FIFOs of one that another driver has set up stays. Returns how many bytes that driver had noted as
    /// sent, and not put into the FIFO.
    pub fn begin(&self, beginning: Beginning) -> Result<u16, DeviceError> {
        let written = self.ports.written()?;
        self.written.set(written);
        let unsent = match beginning {
            Beginning::First => {
                self.set_up()?;
                0
            }
            Beginning::Successor { received: _, sent } => {
                self.ports.write(register::INTERRUPT_ENABLE, 0)?;
                self.ports.write(register::FIFO_CONTROL, FIFOS_ON & !FIFOS_CLEARED)?;
                sent.wrapping_sub(mark_of(written))
            }
        };
        let wanted = Enable::RECEIVED_DATA | Enable::TRANSMITTER_EMPTY | Enable::LINE_STATUS;
        self.ports.write(register::INTERRUPT_ENABLE, wanted.bits())?;
        // One call fills the FIFO, or does not happen.
        Ok(if usize::from(unsent) <= FIFO_BYTES { unsent } else { 0 })
    }

    /// Sets the line to 115,200 baud, 8N1, with FIFOs, which are empty afterwards.
    fn set_up(&self) -> Result<(), DeviceError> {
        let ports = &self.ports;
        ports.write(register::INTERRUPT_ENABLE, 0)?;
        ports.write(register::LINE_CONTROL, DIVISOR_LATCH)?;
        let [low, high] = DIVISOR.to_le_bytes();
        ports.write(register::DIVISOR_LOW, low)?;
        ports.write(register::DIVISOR_HIGH, high)?;
        ports.write(register::LINE_CONTROL, EIGHT_NONE_ONE)?;
        ports.write(register::FIFO_CONTROL, FIFOS_ON)?;
        ports.write(register::MODEM_CONTROL, READY_WITH_INTERRUPT)?;
        // Reading clears what was pending from before.
        ports.read(register::LINE_STATUS)?;
        ports.read(register::MODEM_STATUS)?;
        ports.read(register::INTERRUPT_IDENTIFICATION).map(drop)
    }

    /// Whether the chip has no reason for an interrupt, so that its next one will be a new edge. Takes a "transmitter empty"
    /// back, if that is what it says.
    fn has_no_interrupt(&self) -> Result<bool, DeviceError> {
        let identification = self.ports.read(register::INTERRUPT_IDENTIFICATION)?;
        Ok(identification & NONE_PENDING != 0)
    }

    /// The line status. [`DeviceError`] if nothing answers.
    pub fn status(&self) -> Result<LineStatus, DeviceError> {
        let status = self.ports.read(register::LINE_STATUS)?;
        if status == NO_DEVICE {
            return Err(DeviceError);
        }
        let status = LineStatus::from_bits_retain(status);
        if status.contains(LineStatus::OVERRUN) {
            self.overruns.set(self.overruns.get().saturating_add(1));
        }
        if status.contains(LineStatus::DATA_READY) && status.intersects(BYTE_ERRORS) {
            self.next_is_worthless.set(true);
        }
        Ok(status)
    }

    /// Moves the bytes that wait in the FIFO into `buffer`, as far as there are any and they fit. Lost are those that were worthless, and
    /// one for each overrun.
    fn take(&self, buffer: &mut [u8]) -> Result<Received, DeviceError> {
        let mut received = Received::default();
        // However garbled the line is, the loop ends: each round reads at least one byte, or is the last.
        let mut budget = buffer.len();
        while budget > 0 {
            let known = self.known_bytes()?.min(budget);
            if known == 0 {
                break;
            }
            let room = buffer.get_mut(received.len_bytes..received.len_bytes + known).unwrap_or_default();
            self.ports.read_bytes(register::DATA, room)?;
            if self.next_is_worthless.replace(false) {
                // The first is dropped; whatever came with it moves up.
                room.rotate_left(1);
                received.lost_bytes += 1;
                received.len_bytes += known - 1;
            } else {
                received.len_bytes += known;
            }
            budget -= known;
        }
        received.lost_bytes += self.overruns.take();
        Ok(received)
    }

    /// How many bytes can be read without asking again. If the chip says that its FIFO is filled to the trigger and no byte
    /// in it has an error, these are many; so most bytes need one access, not two.
    fn known_bytes(&self) -> Result<usize, DeviceError> {
        let status = self.status()?;
        if !status.contains(LineStatus::DATA_READY) {
            return Ok(0);
        }
        if status.contains(LineStatus::FIFO_ERROR) {
            return Ok(1);
        }
        let identification = self.ports.read(register::INTERRUPT_IDENTIFICATION)?;
        Ok(if identification & (IDENTIFICATION | NONE_PENDING) == TRIGGER_REACHED { RECEIVE_TRIGGER } else { 1 })
    }
}

impl<P: Ports> Device for Uart<P> {
    type Error = DeviceError;

    const STREAM_BYTES: usize = RECEIVE_TRIGGER;

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, DeviceError> {
        self.take(buffer)
    }

    /// Noted first, with how many bytes will have been put into the FIFO ever: by that a successor sees whether these were.
    fn send(&mut self, _position: u64, bytes: &[u8], note: &mut Note<'_>) -> Result<(), DeviceError> {
        if !self.status()?.contains(LineStatus::TRANSMITTER_EMPTY) {
            return Ok(());
        }
        let len = bytes.len().min(FIFO_BYTES);
        let written = self.written.get().wrapping_add(len as u64);
        note(len, mark_of(written))?;
        self.written.set(written);
        self.ports.write_bytes(register::DATA, bytes.get(..len).unwrap_or_default())
    }

    fn has_sent_all(&mut self) -> Result<bool, DeviceError> {
        Ok(self.status()?.contains(LineStatus::ALL_SENT))
    }

    fn is_quiet(&mut self) -> Result<bool, DeviceError> {
        self.has_no_interrupt()
    }
}
