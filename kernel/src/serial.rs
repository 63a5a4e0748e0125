//! The first serial port, for the kernel's log: a 16550, polled, 115200 baud, 8N1 (National Semiconductor PC16550D
//! data sheet).
//!
//! A user-space driver may own the same port. The kernel writes only its log and changes no setting after boot;
//! with the log off, or quiet, the driver is alone.

use core::fmt;
use x86_64::instructions::port::Port;

const BASE: u16 = 0x3f8;
const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

/// `LINE_CONTROL`: eight bits, one stop bit, no parity.
const EIGHT_BITS: u8 = 0x03;
/// `LINE_CONTROL`: the first two registers are the divisor.
const DIVISOR_ACCESS: u8 = 0x80;
/// 115200 baud.
const DIVISOR: u8 = 1;
/// `FIFO_CONTROL`: on, both directions emptied.
const FIFO_ON: u8 = 0x07;
/// `MODEM_CONTROL`: terminal ready, request to send, and the output that gates the interrupt.
const READY: u8 = 0x0b;
/// `LINE_STATUS`: a byte can be written.
const TRANSMITTER_EMPTY: u8 = 0x20;
/// How often the status is asked for before a byte is dropped: a port that is stuck or absent must not stop the
/// kernel. A slow reader on the other side may take its time.
const PATIENCE: u32 = 20_000_000;
/// How often it is asked for after a byte was dropped, until the port takes one again.
const IMPATIENCE: u32 = 100;

fn out(port: u16, value: u8) {
    // SAFETY: these are the registers of the first serial port; writing them has no effect on memory.
    unsafe { Port::new(port).write(value) };
}

/// The port. Only the logger has one.
pub(crate) struct Serial {
    patience: u32,
}

impl Serial {
    /// The port as the firmware left it; see [`Serial::init`].
    ///
    /// # Safety
    /// There must be one at most, because writers would mix their bytes.
    pub(crate) const unsafe fn new() -> Self {
        Self { patience: PATIENCE }
    }

    /// Sets it up.
    pub(crate) fn init(&mut self) {
        out(INTERRUPT_ENABLE, 0);
        out(LINE_CONTROL, DIVISOR_ACCESS);
        out(DATA, DIVISOR);
        out(INTERRUPT_ENABLE, 0);
        out(LINE_CONTROL, EIGHT_BITS);
        out(FIFO_CONTROL, FIFO_ON);
        out(MODEM_CONTROL, READY);
    }

    fn write_byte(&mut self, byte: u8) {
        for _ in 0..self.patience {
            // SAFETY: reading the line status has no effect but to clear its error bits.
            let status: u8 = unsafe { Port::new(LINE_STATUS).read() };
            if status & TRANSMITTER_EMPTY != 0 {
                out(DATA, byte);
                self.patience = PATIENCE;
                return;
            }
        }
        self.patience = IMPATIENCE;
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_byte(b'\r');
            }
            self.write_byte(byte);
        }
        Ok(())
    }
}
