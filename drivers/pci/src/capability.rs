//! Capabilities: a list of what else a function can do (PCI 3.0, 6.7).

use crate::{ConfigurationSpaces, Function};

/// Where the list begins, and the bit of the status that says that there is one.
const LIST: u16 = 0x34;
const STATUS: u16 = 6;
const HAS_LIST: u16 = 1 << 4;
/// The first offset that a capability can have, and how many there can be.
const FIRST: u8 = 0x40;
const MOST: usize = 48;

/// What a capability is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub u8);

impl Id {
    /// Interrupts by messages.
    pub const MSI: Self = Self(0x05);
    /// Something that only the vendor knows.
    pub const VENDOR: Self = Self(0x09);
    /// PCI Express.
    pub const PCI_EXPRESS: Self = Self(0x10);
    /// Interrupts by messages from a table.
    pub const MSI_X: Self = Self(0x11);
}

/// The capabilities of a function, with their offsets. Ends, also where the list is a circle.
pub fn capabilities(spaces: &impl ConfigurationSpaces, function: Function) -> impl Iterator<Item = (Id, u16)> {
    let has_list = crate::read16(spaces, function, STATUS) & HAS_LIST != 0;
    let mut next = if has_list { crate::read8(spaces, function, LIST) & !3 } else { 0 };
    let all = core::iter::from_fn(move || {
        if next < FIRST {
            return None;
        }
        let offset = u16::from(next);
        let head = crate::read16(spaces, function, offset);
        next = (head >> 8) as u8 & !3;
        Some((Id(head as u8), offset))
    });
    all.take(MOST)
}

/// Where the first capability of a kind is.
pub fn find(spaces: &impl ConfigurationSpaces, function: Function, id: Id) -> Option<u16> {
    capabilities(spaces, function).find(|(found, _)| *found == id).map(|(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::simulation::Machine;
    use std::vec::Vec;

    #[test]
    fn capabilities_are_listed_and_circles_left() {
        let mut machine = Machine::default();
        let function = Function::new(0, 1, 0);
        machine.device(function, 1, 2);
        assert_eq!(capabilities(&machine, function).count(), 0);
        machine.capabilities(function, &[(0x05, 0x50), (0x11, 0x98), (0x09, 0x40)]);
        let found: Vec<_> = capabilities(&machine, function).collect();
        assert_eq!(found, [(Id::MSI, 0x50), (Id::MSI_X, 0x98), (Id::VENDOR, 0x40)]);
        assert_eq!(find(&machine, function, Id::MSI_X), Some(0x98));
        assert_eq!(find(&machine, function, Id::PCI_EXPRESS), None);
        machine.set(function, 0x40, 0x5009);
        assert_eq!(capabilities(&machine, function).count(), MOST);
    }
}
