//! Interrupts by messages: writes to an address that stand for an interrupt (PCI 3.0, 6.8).

use crate::capability::{Id, find};
use crate::{ConfigurationSpaces, Function};

/// What a device writes, and where, to raise an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// Bytes of an entry of the table of MSI-X.
pub const ENTRY_BYTES: u64 = 16;
/// In the control word of an entry: it raises nothing.
const IS_MASKED: u32 = 1;

const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_MASK_ALL: u16 = 1 << 14;
const MSI_ENABLE: u16 = 1;
const MSI_IS_WIDE: u16 = 1 << 7;
const MSI_COUNT: u16 = 0b111 << 4;

/// The words of an entry of the table for a message that is let through, in the order in which they are to be written, at their offsets
/// in the entry.
pub fn entry(message: Message) -> [(u64, u32); 4] {
    [(12, IS_MASKED), (0, message.address as u32), (4, (message.address >> 32) as u32), (8, message.data)]
}

/// The word to write last, which lets the message of an entry through: its offset in the entry, and it.
pub const UNMASK: (u64, u32) = (12, 0);

/// The capability for interrupts by messages from a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiX {
    function: Function,
    offset: u16,
    /// How many entries the table has.
    pub entries: u16,
    /// The base address register of the window that the table lies in.
    pub bar: u8,
    /// Where in that window, in bytes: a multiple of eight.
    pub table_offset: u64,
}

impl MsiX {
    /// Finds it.
    pub fn find(spaces: &impl ConfigurationSpaces, function: Function) -> Option<Self> {
        let offset = find(spaces, function, Id::MSI_X)?;
        let entries = (crate::read16(spaces, function, offset + 2) & 0x7ff) + 1;
        let table = spaces.read(function, offset + 4);
        let bar = (table & 7) as u8;
        (bar < 6).then_some(Self { function, offset, entries, bar, table_offset: u64::from(table & !7) })
    }

    /// The bytes of the window that the table takes: from, to.
    pub fn table_range(&self) -> (u64, u64) {
        (self.table_offset, self.table_offset + u64::from(self.entries) * ENTRY_BYTES)
    }

    /// Lets the device raise messages, as far as their entries are not masked.
    pub fn enable(&self, spaces: &impl ConfigurationSpaces) {
        self.control(spaces, MSI_X_ENABLE, MSI_X_MASK_ALL);
    }

    /// Lets it raise none.
    pub fn disable(&self, spaces: &impl ConfigurationSpaces) {
        self.control(spaces, 0, MSI_X_ENABLE);
    }

    /// Has it raise none, but the table can be written: to be done before the entries are.
    pub fn prepare(&self, spaces: &impl ConfigurationSpaces) {
        self.control(spaces, MSI_X_ENABLE | MSI_X_MASK_ALL, 0);
    }

    fn control(&self, spaces: &impl ConfigurationSpaces, add: u16, remove: u16) {
        let control = crate::read16(spaces, self.function, self.offset + 2);
        crate::write16(spaces, self.function, self.offset + 2, control & !remove | add);
    }
}

/// The capability for one interrupt by a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    function: Function,
    offset: u16,
    is_wide: bool,
}

impl Msi {
    /// Finds it.
    pub fn find(spaces: &impl ConfigurationSpaces, function: Function) -> Option<Self> {
        let offset = find(spaces, function, Id::MSI)?;
        let is_wide = crate::read16(spaces, function, offset + 2) & MSI_IS_WIDE != 0;
        Some(Self { function, offset, is_wide })
    }

    /// Lets the device raise this message, and no other. `false` if it can't: the address is too long for it, or the data.
    pub fn enable(&self, spaces: &impl ConfigurationSpaces, message: Message) -> bool {
        let Ok(data) = u16::try_from(message.data) else { return false };
        let high = (message.address >> 32) as u32;
        if high != 0 && !self.is_wide {
            return false;
        }
        self.disable(spaces);
        spaces.write(self.function, self.offset + 4, message.address as u32);
        let data_offset = if self.is_wide {
            spaces.write(self.function, self.offset + 8, high);
            12
        } else {
            8
        };
        crate::write16(spaces, self.function, self.offset + data_offset, data);
        self.control(spaces, MSI_ENABLE, MSI_COUNT);
        true
    }

    /// Lets it raise none.
    pub fn disable(&self, spaces: &impl ConfigurationSpaces) {
        self.control(spaces, 0, MSI_ENABLE);
    }

    fn control(&self, spaces: &impl ConfigurationSpaces, add: u16, remove: u16) {
        let control = crate::read16(spaces, self.function, self.offset + 2);
        crate::write16(spaces, self.function, self.offset + 2, control & !remove | add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Machine;

    const MESSAGE: Message = Message { address: 0xfee0_0000, data: 0x4041 };

    fn machine(id: u8) -> (Machine, Function) {
        let mut machine = Machine::default();
        let function = Function::new(0, 4, 0);
        machine.device(function, 1, 2);
        machine.capabilities(function, &[(id, 0x50)]);
        (machine, function)
    }

    #[test]
    fn a_table_of_messages_is_found_and_enabled() {
        let (mut machine, function) = machine(0x11);
        machine.set(function, 0x50, 0x0003_0011);
        machine.set(function, 0x54, 0x0000_2001);
        let msi_x = MsiX::find(&machine, function).unwrap();
        assert_eq!((msi_x.entries, msi_x.bar, msi_x.table_range()), (4, 1, (0x2000, 0x2040)));
        msi_x.prepare(&machine);
        assert_eq!(machine.get(function, 0x50) >> 16, 0xc003);
        msi_x.enable(&machine);
        assert_eq!(machine.get(function, 0x50) >> 16, 0x8003);
        msi_x.disable(&machine);
        assert_eq!(machine.get(function, 0x50) >> 16, 0x0003);
        assert_eq!(entry(MESSAGE), [(12, 1), (0, 0xfee0_0000), (4, 0), (8, 0x4041)]);
        machine.set(function, 0x54, 0x0000_2006);
        assert_eq!(MsiX::find(&machine, function), None, "there is no such window");
    }

    #[test]
    fn one_message_is_enabled() {
        for (control, data_at) in [(0x0080_u32, 0x5c), (0x0000, 0x58)] {
            let (mut machine, function) = machine(0x05);
            // It could have eight; it gets one.
            machine.set(function, 0x50, (control | 0x36) << 16 | 5);
            let msi = Msi::find(&machine, function).unwrap();
            assert!(msi.enable(&machine, MESSAGE));
            assert_eq!(machine.get(function, 0x54), 0xfee0_0000);
            assert_eq!(machine.get(function, data_at), 0x4041);
            assert_eq!(machine.get(function, 0x50) >> 16, control | 0x07);
            let high = Message { address: 0x1_fee0_0000, ..MESSAGE };
            assert_eq!(msi.enable(&machine, high), control != 0);
            assert!(!msi.enable(&machine, Message { data: 0x1_0000, ..MESSAGE }));
            msi.disable(&machine);
            assert_eq!(machine.get(function, 0x50) >> 16 & 1, 0);
        }
    }
}
