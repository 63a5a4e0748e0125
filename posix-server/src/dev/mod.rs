//! Devices: what character device nodes lead to.

use crate::errno::{Errno, Result};
use crate::file::{AccessMode, Destination, FileOps, Positioning, Source};
use crate::fs::open::Opener;
use crate::fs::{DeviceNumber, Location, devpts};
use crate::random;
use crate::shared::Sharing;
use crate::tty::pty::SLAVE_MAJOR;
use crate::tty::{Terminal, TerminalFile};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use hwrng::HardwareRandomFile;

mod hwrng;
pub mod tree;

pub use hwrng::HardwareRandom;

/// Memory devices: `null`, `zero` and their kind (Linux, `Documentation/admin-guide/devices.txt`).
pub const MEMORY_MAJOR: u32 = 1;
/// The controlling terminal, and the console.
pub const TERMINAL_MAJOR: u32 = 5;

/// Devices of few kinds and many makers.
pub const MISCELLANEOUS_MAJOR: u32 = 10;

/// `/dev/null`.
pub const NULL: DeviceNumber = DeviceNumber { major: MEMORY_MAJOR, minor: 3 };
/// `/dev/zero`.
pub const ZERO: DeviceNumber = DeviceNumber { major: MEMORY_MAJOR, minor: 5 };
/// `/dev/full`.
pub const FULL: DeviceNumber = DeviceNumber { major: MEMORY_MAJOR, minor: 7 };
/// `/dev/random`.
pub const RANDOM: DeviceNumber = DeviceNumber { major: MEMORY_MAJOR, minor: 8 };
/// `/dev/urandom`.
pub const URANDOM: DeviceNumber = DeviceNumber { major: MEMORY_MAJOR, minor: 9 };
/// `/dev/tty`.
pub const CONTROLLING_TERMINAL: DeviceNumber = DeviceNumber { major: TERMINAL_MAJOR, minor: 0 };
/// `/dev/ttyS0`: may be the same terminal as the console, but is one that a session leader gets by opening it.
pub const SERIAL: DeviceNumber = DeviceNumber { major: 4, minor: 64 };
/// `/dev/hvc0`: a virtio console.
pub const VIRTIO_CONSOLE: DeviceNumber = DeviceNumber { major: 229, minor: 0 };
/// `/dev/console`.
pub const CONSOLE: DeviceNumber = DeviceNumber { major: TERMINAL_MAJOR, minor: 1 };
/// `/dev/hwrng`: the source of randomness itself.
pub const HARDWARE_RANDOM: DeviceNumber = DeviceNumber { major: MISCELLANEOUS_MAJOR, minor: 183 };
/// `/dev/ptmx`: opening it makes a pseudo-terminal.
pub const PTY_MULTIPLEXER: DeviceNumber = DeviceNumber { major: TERMINAL_MAJOR, minor: 2 };

/// What device nodes lead to.
#[derive(Default)]
pub struct Devices {
    console: RefCell<Option<Rc<Terminal>>>,
    terminals: RefCell<Vec<Rc<Terminal>>>,
    hardware_random: RefCell<Option<Rc<HardwareRandom>>>,
}

impl Devices {
    /// No console yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The console.
    pub fn console(&self) -> Option<Rc<Terminal>> {
        self.console.borrow().clone()
    }

    /// Sets the source of randomness.
    pub fn set_hardware_random(&self, device: Rc<HardwareRandom>) {
        self.hardware_random.replace(Some(device));
    }

    /// Adds a terminal of the machine.
    pub fn add_terminal(&self, terminal: Rc<Terminal>) {
        self.terminals.borrow_mut().push(terminal);
    }

    /// The terminal of the machine with this number.
    pub fn terminal(&self, device: DeviceNumber) -> Option<Rc<Terminal>> {
        self.terminals.borrow().iter().find(|terminal| terminal.device() == device).cloned()
    }

    /// Sets the console.
    pub fn set_console(&self, terminal: Rc<Terminal>) {
        self.console.replace(Some(terminal));
    }
}

/// Opens the character device whose node is at a place. `ENXIO` if nothing has this number.
pub fn open(opener: Opener<'_>, place: &Location, device: DeviceNumber, access: AccessMode) -> Result<Rc<dyn FileOps>> {
    match device {
        NULL => Ok(Rc::new(Null)),
        ZERO => Ok(Rc::new(Zero)),
        FULL => Ok(Rc::new(Full)),
        RANDOM | URANDOM => Ok(Rc::new(Random)),
        // It can only be read.
        HARDWARE_RANDOM if access != AccessMode::Read => Err(Errno::EINVAL),
        HARDWARE_RANDOM => Ok(Rc::new(HardwareRandomFile(opener.devices.hardware_random.borrow().clone()))),
        CONTROLLING_TERMINAL => open_terminal(opener, &(opener.terminal)().ok_or(Errno::ENXIO)?),
        CONSOLE => open_terminal(opener, &opener.devices.console().ok_or(Errno::ENXIO)?),
        SERIAL | VIRTIO_CONSOLE => open_terminal(opener, &opener.devices.terminal(device).ok_or(Errno::ENXIO)?),
        PTY_MULTIPLEXER => {
            let (ptys, root) = devpts::at(place, device)?;
            Ok(Rc::new(ptys.open_master(&root, opener.actor.credentials)?))
        }
        DeviceNumber { major: SLAVE_MAJOR, minor } => {
            let (ptys, _) = devpts::at(place, device)?;
            open_terminal(opener, &ptys.slave(minor)?)
        }
        _ => Err(Errno::ENXIO),
    }
}

/// `EBUSY` if somebody has it for himself, `EIO` if its device is gone.
fn open_terminal(opener: Opener<'_>, terminal: &Rc<Terminal>) -> Result<Rc<dyn FileOps>> {
    if terminal.is_exclusive() && !opener.actor.credentials.is_privileged() {
        return Err(Errno::EBUSY);
    }
    Ok(Rc::new(TerminalFile::open(terminal)?))
}

/// `/dev/null`: swallows all, gives nothing.
#[derive(Debug)]
pub struct Null;

impl FileOps for Null {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        // What is thrown away is not looked at: a bad address is no error here, as on Linux.
        Ok(from.discard())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn shared_device(&self) -> Option<Sharing> {
        Some(Sharing::Null)
    }
}

/// The chunk in which zeroes and random bytes are handed out, in bytes.
const CHUNK_BYTES: usize = 4096;

/// Gives zeroes until the destination is full.
fn put_zeroes(to: &mut dyn Destination) -> Result<usize> {
    const ZEROES: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
    let mut total = 0;
    while to.remaining() > 0 {
        let length = to.remaining().min(CHUNK_BYTES);
        let taken = to.put(ZEROES.get(..length).unwrap_or_default());
        total += taken;
        if taken < length {
            return crate::file::io::moved_or_fault(total);
        }
    }
    Ok(total)
}

/// `/dev/zero`: swallows all, gives zeroes.
#[derive(Debug)]
pub struct Zero;

impl FileOps for Zero {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        put_zeroes(to)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        // What is thrown away is not looked at: a bad address is no error here, as on Linux.
        Ok(from.discard())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn shared_device(&self) -> Option<Sharing> {
        Some(Sharing::Zero)
    }
}

/// `/dev/full`: never has room, gives zeroes.
#[derive(Debug)]
pub struct Full;

impl FileOps for Full {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        put_zeroes(to)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::ENOSPC)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }
}

/// `/dev/random`, `/dev/urandom`: unpredictable bytes.
#[derive(Debug)]
pub struct Random;

/// How many random bytes one read gives at most: they are made one by one, and others wait meanwhile.
const MAX_RANDOM_BYTES: usize = 1 << 20;

impl FileOps for Random {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        let mut chunk = [0; CHUNK_BYTES];
        let mut total = 0;
        while to.remaining() > 0 && total < MAX_RANDOM_BYTES {
            let length = to.remaining().min(CHUNK_BYTES);
            let part = chunk.get_mut(..length).unwrap_or_default();
            random::fill(part);
            let taken = to.put(part);
            total += taken;
            if taken < length {
                return crate::file::io::moved_or_fault(total);
            }
        }
        Ok(total)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        // What is thrown away is not looked at: a bad address is no error here, as on Linux.
        Ok(from.discard())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};

    #[test]
    fn full_is_full_and_null_is_not() {
        assert_eq!(Full.write(0, &mut SliceSource::new(b"abc")), Err(Errno::ENOSPC));
        assert_eq!(Null.write(0, &mut SliceSource::new(b"abc")), Ok(3));
    }

    #[test]
    fn zero_gives_zeroes() {
        let mut buffer = [1; 10_000];
        assert_eq!(Zero.read(0, &mut SliceDestination::new(&mut buffer)), Ok(10_000));
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}
