//! Pseudo-terminals (`pty(7)`): terminals whose device is a program, which holds the master.
//!
//! A set of them belongs to one `devpts` file system. Opening `ptmx` there makes a pair: the slave is a [`Terminal`] with a
//! number and a name in the file system, the [`Master`] the file that was opened. With the master's end the name goes, and
//! the slave hangs up.

use super::{JobControl, Kind, Terminal};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::fs::{DeviceNumber, Location};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as linux;

/// The driver of the slaves.
pub const SLAVE_MAJOR: u32 = 136;
/// How many pseudo-terminals there are at most (`/proc/sys/kernel/pty/max`).
pub const MAX_PTYS: u32 = 4096;

/// How many bytes of a write to a master are looked at at once.
const WRITE_CHUNK_BYTES: usize = 1024;

/// Where slaves have their names.
pub trait Names {
    /// Takes a name away.
    fn remove(&self, number: u32);
}

/// The master of a pseudo-terminal, as an open file.
pub struct Master {
    number: u32,
    slave: Rc<Terminal>,
    /// The slave's name.
    place: Location,
    names: Rc<dyn Names>,
    _charge: Charge,
}

/// Makes the terminal of a slave.
pub fn new_slave(number: u32, control: Rc<dyn JobControl>) -> Rc<Terminal> {
    Terminal::new(Kind::Pty, DeviceNumber { major: SLAVE_MAJOR, minor: number }, control)
}

/// How many pseudo-terminals there are.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// How many pseudo-terminals there are (`/proc/sys/kernel/pty/nr`).
pub fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// Pays for a new pseudo-terminal. `ENOMEM`.
pub fn charge() -> Result<Charge> {
    Charge::new(Budget::Open, super::terminal::PTY_BYTES)
}

impl Master {
    /// The master of a slave that has a name.
    pub fn new(number: u32, slave: Rc<Terminal>, place: Location, names: Rc<dyn Names>, charge: Charge) -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self { number, slave, place, names, _charge: charge }
    }

    /// The slave's number (`TIOCGPTN`).
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The slave.
    pub fn slave(&self) -> &Rc<Terminal> {
        &self.slave
    }

    /// The slave's name.
    pub fn place(&self) -> &Location {
        &self.place
    }

    /// Whether the slave can't be opened yet (`TIOCGPTLCK`).
    pub fn is_locked(&self) -> bool {
        self.slave.is_locked()
    }

    /// Locks it, or unlocks it (`TIOCSPTLCK`).
    pub fn set_locked(&self, is_locked: bool) {
        self.slave.set_locked(is_locked);
    }

    /// A packet: what happened to the slave, if anything, or a zero before the data.
    fn read_packet(&self, to: &mut dyn Destination) -> Result<usize> {
        if let Some(status) = self.slave.packet().take_status() {
            return moved_or_fault(to.put(&[status]));
        }
        if self.slave.available_output() == 0 {
            return self.nothing();
        }
        let data = [linux::TIOCPKT_DATA as u8];
        let first = moved_or_fault(to.put(&data))?;
        if to.remaining() == 0 {
            return Ok(first);
        }
        Ok(first + self.read_data(to)?)
    }

    fn read_data(&self, to: &mut dyn Destination) -> Result<usize> {
        let bytes = self.slave.take_output(to.remaining());
        if bytes.is_empty() { self.nothing() } else { moved_or_fault(to.put(&bytes)) }
    }

    /// Nothing to read: `EIO` once the slave has been closed, until somebody opens it again.
    fn nothing(&self) -> Result<usize> {
        Err(if self.slave.is_abandoned() { Errno::EIO } else { Errno::EAGAIN })
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        self.names.remove(self.number);
        self.slave.end();
    }
}

impl FileOps for Master {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        if self.slave.packet().is_on() { self.read_packet(to) } else { self.read_data(to) }
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        let mut chunk = [0; WRITE_CHUNK_BYTES];
        let mut total = 0;
        while from.remaining() > 0 {
            let wanted = from.remaining().min(WRITE_CHUNK_BYTES);
            let Some(part) = chunk.get_mut(..wanted) else { break };
            let got = from.peek(part);
            if got == 0 {
                return moved_or_fault(total);
            }
            let taken = self.slave.receive(part.get(..got).unwrap_or_default());
            // What was looked at can also be taken.
            from.get(part.get_mut(..taken).unwrap_or_default());
            total += taken;
            if taken < got {
                return if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) };
            }
        }
        Ok(total)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, self.slave.available_output() > 0);
        events.set(PollEvents::WRITABLE, self.slave.has_input_room());
        if self.slave.packet().has_status() {
            events |= PollEvents::READABLE | PollEvents::PRIORITY;
        }
        events.set(PollEvents::HANG_UP, self.slave.is_abandoned());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.slave.for_device())
    }

    fn master(&self) -> Option<&Master> {
        Some(self)
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.slave.available_output())
    }
}
