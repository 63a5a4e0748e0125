//! Configuration spaces on this machine.

use log::warn;
use pci::{CONFIGURATION_BYTES, ConfigurationSpaces, EXTENDED_BYTES, Function};
use quire_api::abi::system::HardwareInfo;
use quire_api::{Error, Hardware, IoPorts, Memory, MemoryFlags, RegisterWindow, rt};

/// The ports by which configuration spaces are accessed where there is no window (PCI 3.0, 3.2.2.3.2): an address, then what is there.
const PORTS: u16 = 0xcf8;
const PORT_COUNT: u16 = 8;
const DATA: u16 = 4;
const ENABLE: u32 = 1 << 31;

/// Bytes of the window that one bus takes.
const BUS_BYTES: u64 = 1 << 20;

/// How configuration spaces are accessed.
pub(super) enum Spaces {
    /// In a window in memory, all of them (PCI Express 3.0, 7.2.2).
    Window {
        registers: RegisterWindow,
        /// The buses that it has.
        first_bus: u8,
        last_bus: u8,
    },
    /// By ports, the first 256 bytes of each.
    Ports(IoPorts),
}

impl Spaces {
    /// The window that the firmware tells of, or else the ports.
    pub(super) fn find(hardware: &Hardware, info: &HardwareInfo) -> Result<Self, Error> {
        let account = rt::account()?;
        let HardwareInfo { configuration, first_bus, last_bus, .. } = *info;
        if configuration == 0 || first_bus > last_bus {
            return Ok(Self::Ports(hardware.io_ports(account, PORTS, PORT_COUNT)?));
        }
        let start = configuration.checked_add(u64::from(first_bus) * BUS_BYTES).ok_or(Error::OutOfRange)?;
        let len_bytes = (u64::from(last_bus - first_bus) + 1) * BUS_BYTES;
        let memory = Memory::create_physical(hardware, account, start, len_bytes, MemoryFlags::UNCACHED)?;
        Ok(Self::Window { registers: RegisterWindow::map(&memory, 0, len_bytes)?, first_bus, last_bus })
    }

    /// The buses that there can be: the first, the last.
    pub(super) fn buses(&self) -> (u8, u8) {
        match self {
            Self::Window { registers: _, first_bus, last_bus } => (*first_bus, *last_bus),
            Self::Ports(_) => (0, u8::MAX),
        }
    }

    /// Bytes of each space that can be read.
    pub(super) fn len_bytes(&self) -> u16 {
        match self {
            Self::Window { .. } => EXTENDED_BYTES,
            Self::Ports(_) => CONFIGURATION_BYTES,
        }
    }

    fn try_read(&self, function: Function, offset: u16) -> Result<u32, Error> {
        match self {
            Self::Window { registers, first_bus, last_bus: _ } => {
                registers.read32(place(function, *first_bus, offset)?)
            }
            Self::Ports(ports) => {
                select(ports, function, offset)?;
                ports.read(DATA, 4)
            }
        }
    }

    fn try_write(&self, function: Function, offset: u16, value: u32) -> Result<(), Error> {
        match self {
            Self::Window { registers, first_bus, last_bus: _ } => {
                registers.write32(place(function, *first_bus, offset)?, value)
            }
            Self::Ports(ports) => {
                select(ports, function, offset)?;
                ports.write(DATA, 4, value)
            }
        }
    }
}

/// Where a space's register is in a window that begins with a bus.
fn place(function: Function, first_bus: u8, offset: u16) -> Result<usize, Error> {
    let from = u64::from(first_bus) * BUS_BYTES;
    let place = function.ecam_offset().checked_sub(from).ok_or(Error::OutOfRange)?;
    Ok(place as usize + usize::from(offset % EXTENDED_BYTES))
}

fn select(ports: &IoPorts, function: Function, offset: u16) -> Result<(), Error> {
    if offset >= CONFIGURATION_BYTES {
        return Err(Error::OutOfRange);
    }
    ports.write(0, 4, ENABLE | u32::from(function.0) << 8 | u32::from(offset & 0xfc))
}

impl ConfigurationSpaces for Spaces {
    fn read(&self, function: Function, offset: u16) -> u32 {
        // What can't be reached is not there.
        self.try_read(function, offset).unwrap_or(!0)
    }

    fn write(&self, function: Function, offset: u16, value: u32) {
        if let Err(error) = self.try_write(function, offset, value) {
            warn!("{function}: {}", error.describe());
        }
    }
}
