//! The header of a configuration space (PCI 3.0, 6.1).

use crate::{ConfigurationSpaces, Function};

const IDS: u16 = 0;
const COMMAND_AND_STATUS: u16 = 4;
const CLASS_AND_REVISION: u16 = 8;
const HEADER_TYPE: u16 = 14;
/// The vendor of what is not there.
const NO_VENDOR: u16 = 0xffff;

bitflags::bitflags! {
    /// The command register.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Command: u16 {
        /// It answers at its ports.
        const PORTS = 1 << 0;
        /// It answers at its windows.
        const MEMORY = 1 << 1;
        /// It may access memory by itself, and raise interrupts by messages.
        const BUS_MASTER = 1 << 2;
        /// It may not raise its interrupt line.
        const NO_INTERRUPT_LINE = 1 << 10;
        /// Others.
        const _ = !0;
    }
}

/// What follows the first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A device's own registers.
    Device,
    /// A bridge to other buses.
    Bridge {
        /// The bus behind it.
        secondary: u8,
        /// The last bus behind it.
        last: u8,
    },
    /// Something else, of which nothing is known.
    Other,
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who made it.
    pub vendor: u16,
    /// Which of the maker's devices it is.
    pub device: u16,
    /// Base class, subclass and programming interface, in 24 bits.
    pub class: u32,
    /// What follows in its configuration space.
    pub layout: Layout,
    /// Whether its device has more functions than the first.
    pub has_siblings: bool,
}

impl Header {
    /// Reads it; `None` if there is no such function.
    pub fn read(spaces: &impl ConfigurationSpaces, function: Function) -> Option<Self> {
        let ids = spaces.read(function, IDS);
        let vendor = ids as u16;
        if vendor == NO_VENDOR {
            return None;
        }
        let kind = crate::read8(spaces, function, HEADER_TYPE);
        let layout = match kind & 0x7f {
            0 => Layout::Device,
            1 => {
                let buses = spaces.read(function, 0x18);
                Layout::Bridge { secondary: (buses >> 8) as u8, last: (buses >> 16) as u8 }
            }
            _ => Layout::Other,
        };
        Some(Self {
            vendor,
            device: (ids >> 16) as u16,
            class: spaces.read(function, CLASS_AND_REVISION) >> 8,
            layout,
            has_siblings: kind & 0x80 != 0,
        })
    }
}

impl Command {
    /// Reads the command register.
    pub fn read(spaces: &impl ConfigurationSpaces, function: Function) -> Self {
        Self::from_bits_retain(spaces.read(function, COMMAND_AND_STATUS) as u16)
    }

    /// Writes it. The status, whose bits vanish when ones are written, is left alone.
    pub fn write(self, spaces: &impl ConfigurationSpaces, function: Function) {
        spaces.write(function, COMMAND_AND_STATUS, self.bits().into());
    }

    /// Adds and removes bits.
    pub fn change(spaces: &impl ConfigurationSpaces, function: Function, add: Self, remove: Self) {
        (Self::read(spaces, function).difference(remove) | add).write(spaces, function);
    }
}
