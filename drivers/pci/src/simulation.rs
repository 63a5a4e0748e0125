//! Simulated configuration spaces.

extern crate std;

use crate::{ConfigurationSpaces, Function};
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Default)]
struct Space {
    words: BTreeMap<u16, u32>,
    /// Which bits of a word can be changed, where not all can.
    writable: BTreeMap<u16, u32>,
}

/// All functions of a machine.
#[derive(Default)]
pub(crate) struct Machine(RefCell<BTreeMap<Function, Space>>);

impl Machine {
    pub(crate) fn device(&mut self, function: Function, vendor: u16, device: u16) {
        let mut space = Space::default();
        space.words.insert(0, u32::from(vendor) | u32::from(device) << 16);
        for bar in 0..6 {
            space.writable.insert(0x10 + 4 * bar, 0);
        }
        self.0.get_mut().insert(function, space);
    }

    pub(crate) fn siblings(&mut self, function: Function) {
        let old = self.get(function, 12);
        self.set(function, 12, old | 0x80_0000);
    }

    pub(crate) fn bridge(&mut self, function: Function, secondary: u8) {
        self.device(function, 0x1b36, 12);
        self.set(function, 12, 0x01_0000);
        self.set(function, 0x18, u32::from(secondary) << 8);
    }

    pub(crate) fn bar(&mut self, function: Function, bar: u16, value: u32, ones: u32) {
        let space = self.0.get_mut().get_mut(&function).unwrap();
        let fixed = if bar == 5 { 0 } else { 0xf };
        space.words.insert(0x10 + 4 * bar, value);
        space.writable.insert(0x10 + 4 * bar, ones & !fixed);
    }

    pub(crate) fn capabilities(&mut self, function: Function, list: &[(u8, u8)]) {
        self.set(function, 4, 0x10 << 16);
        self.set(function, 0x34, list[0].1.into());
        for (index, (id, offset)) in list.iter().enumerate() {
            let next = list.get(index + 1).map_or(0, |(_, next)| *next);
            self.set(function, (*offset).into(), u32::from(*id) | u32::from(next) << 8);
        }
    }

    pub(crate) fn set(&mut self, function: Function, offset: u16, value: u32) {
        self.0.get_mut().get_mut(&function).unwrap().words.insert(offset, value);
    }

    pub(crate) fn get(&self, function: Function, offset: u16) -> u32 {
        self.0.borrow()[&function].words.get(&offset).copied().unwrap_or_default()
    }
}

impl ConfigurationSpaces for Machine {
    fn read(&self, function: Function, offset: u16) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        let spaces = self.0.borrow();
        spaces.get(&function).map_or(!0, |space| space.words.get(&offset).copied().unwrap_or_default())
    }

    fn write(&self, function: Function, offset: u16, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        if let Some(space) = self.0.borrow_mut().get_mut(&function) {
            let writable = space.writable.get(&offset).copied().unwrap_or(!0);
            let old = space.words.get(&offset).copied().unwrap_or_default();
            space.words.insert(offset, old & !writable | value & writable);
        }
    }
}
