//! Base address registers: where a function's registers are (PCI 3.0, 6.2.5).

use crate::header::Command;
use crate::{ConfigurationSpaces, Function};
use alloc::vec::Vec;

/// The first of the base address registers, and how many there are.
const FIRST: u16 = 0x10;
const COUNT: u8 = 6;

const IS_PORTS: u32 = 1;
const PORTS_MASK: u32 = !3;
const MEMORY_MASK: u32 = !0xf;
const IS_WIDE: u32 = 0b100;
const IS_PREFETCHABLE: u32 = 0b1000;

/// Where a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory.
    Memory {
        /// Its address; 0 if the firmware gave it none.
        address: u64,
        /// Its size in bytes, a power of two.
        len_bytes: u64,
        /// Whether its address may have 64 bits.
        is_wide: bool,
        /// Whether reading has no effect.
        is_prefetchable: bool,
    },
    /// In the I/O port space.
    Ports {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// A window of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of its (first) base address register.
    pub bar: u8,
    /// Where it is.
    pub place: Place,
}

fn register(bar: u8) -> u16 {
    FIRST + 4 * u16::from(bar)
}

/// Finds the windows of a function whose [`Layout`](crate::header::Layout) is a device's. Meanwhile the function does not answer there.
pub fn windows(spaces: &impl ConfigurationSpaces, function: Function) -> Vec<Window> {
    let command = Command::read(spaces, function);
    command.difference(Command::MEMORY | Command::PORTS).write(spaces, function);
    let mut windows = Vec::new();
    let mut bar = 0;
    while bar < COUNT {
        let window = window(spaces, function, bar);
        let is_wide = matches!(window, Some(Window { bar: _, place: Place::Memory { is_wide: true, .. } }));
        windows.extend(window);
        bar += if is_wide { 2 } else { 1 };
    }
    command.write(spaces, function);
    windows
}

fn window(spaces: &impl ConfigurationSpaces, function: Function, bar: u8) -> Option<Window> {
    let (value, ones) = probe(spaces, function, bar);
    if ones == 0 {
        return None;
    }
    let place = if value & IS_PORTS != 0 {
        // The upper half need not be there.
        let mask = ones & PORTS_MASK | 0xffff_0000;
        Place::Ports { first: value & PORTS_MASK, count: (!mask).wrapping_add(1) }
    } else {
        let is_wide = value & 0b110 == IS_WIDE && bar + 1 < COUNT;
        let (high, high_ones) = if is_wide { probe(spaces, function, bar + 1) } else { (0, !0) };
        let mask = u64::from(ones & MEMORY_MASK) | u64::from(high_ones) << 32;
        Place::Memory {
            address: u64::from(value & MEMORY_MASK) | u64::from(high) << 32,
            len_bytes: (!mask).wrapping_add(1),
            is_wide,
            is_prefetchable: value & IS_PREFETCHABLE != 0,
        }
    };
    let is_size = match place {
        Place::Memory { len_bytes, .. } => len_bytes.is_power_of_two(),
        Place::Ports { first: _, count } => count.is_power_of_two(),
    };
    is_size.then_some(Window { bar, place })
}

/// A register's value, and which of its bits can be set.
fn probe(spaces: &impl ConfigurationSpaces, function: Function, bar: u8) -> (u32, u32) {
    let value = spaces.read(function, register(bar));
    spaces.write(function, register(bar), !0);
    let ones = spaces.read(function, register(bar));
    spaces.write(function, register(bar), value);
    (value, ones)
}

/// Puts a window elsewhere: at an address that is a multiple of its size. The function must not answer at its windows.
pub fn set_address(spaces: &impl ConfigurationSpaces, function: Function, window: &Window, address: u64) {
    spaces.write(function, register(window.bar), address as u32);
    if matches!(window.place, Place::Memory { is_wide: true, .. }) {
        spaces.write(function, register(window.bar + 1), (address >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Machine;

    #[test]
    fn windows_are_measured_and_left_as_they_were() {
        let mut machine = Machine::default();
        let function = Function::new(0, 3, 0);
        machine.device(function, 0x1af4, 0x1042);
        machine.bar(function, 0, 0xc001, !0x7f | 1);
        machine.bar(function, 1, 0xfebd_0000, !0xfff);
        machine.bar(function, 4, 0x0000_000c, !0x3fff | 0xc);
        machine.bar(function, 5, 0x0000_00fe, !0);
        Command::MEMORY.write(&machine, function);
        let found = windows(&machine, function);
        let ports = Place::Ports { first: 0xc000, count: 128 };
        let narrow = Place::Memory { address: 0xfebd_0000, len_bytes: 4096, is_wide: false, is_prefetchable: false };
        let wide = Place::Memory { address: 0xfe_0000_0000, len_bytes: 16384, is_wide: true, is_prefetchable: true };
        let expected = [(0, ports), (1, narrow), (4, wide)].map(|(bar, place)| Window { bar, place });
        assert_eq!(found, expected);
        assert_eq!(windows(&machine, function), expected, "nothing has changed");
        assert_eq!(Command::read(&machine, function), Command::MEMORY);
        set_address(&machine, function, &expected[2], 0x12_3456_4000);
        let Place::Memory { address, .. } = windows(&machine, function)[2].place else { panic!("memory") };
        assert_eq!(address, 0x12_3456_4000);
    }
}
