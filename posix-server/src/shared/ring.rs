//! The pages through which processes move the bytes of pipes themselves.

use crate::platform::Memory;
use core::cell::Cell;

/// The page of one pipe, mapped writable in one space.
pub(crate) struct RingPage {
    memory: Memory,
    address: u64,
    is_spoiled: Cell<bool>,
}

impl RingPage {
    /// A page that is mapped at an address.
    pub(crate) fn new(memory: Memory, address: u64) -> Self {
        Self { memory, address, is_spoiled: Cell::new(false) }
    }

    /// Where it is mapped.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Somebody may store there at any time: neither the page nor its address is ever used for something else.
    pub(crate) fn spoil(&self) {
        self.is_spoiled.set(true);
    }

    /// Whether that has happened.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.is_spoiled.get()
    }

    /// Reads its first bytes.
    pub(crate) fn read(&self, bytes: &mut [u8]) {
        self.memory.read(0, bytes);
    }

    /// Writes its first bytes. False: there is no memory.
    pub(crate) fn write(&self, bytes: &[u8]) -> bool {
        self.memory.write(0, bytes) == bytes.len()
    }
}
