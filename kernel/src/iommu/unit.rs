//! One IOMMU: its registers (Intel VT-d specification 4.1, chapter 11).

use super::Fault;
use crate::direct_map;
use crate::interrupts::DEVICE_FAULT_VECTOR;
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use log::error;

/// Offsets of registers.
mod register {
    pub(super) const CAPABILITY: u64 = 0x08;
    pub(super) const EXTENDED_CAPABILITY: u64 = 0x10;
    pub(super) const COMMAND: u64 = 0x18;
    pub(super) const STATUS: u64 = 0x1c;
    pub(super) const ROOT_TABLE: u64 = 0x20;
    pub(super) const CONTEXT_COMMAND: u64 = 0x28;
    pub(super) const FAULT_STATUS: u64 = 0x34;
    pub(super) const FAULT_CONTROL: u64 = 0x38;
    pub(super) const FAULT_DATA: u64 = 0x3c;
    pub(super) const FAULT_ADDRESS: u64 = 0x40;
    pub(super) const FAULT_UPPER_ADDRESS: u64 = 0x44;
}

/// Command and status: translation is on.
const TRANSLATION: u32 = 1 << 31;
/// Command and status: the root table is taken over.
const SET_ROOT: u32 = 1 << 30;
/// Command and status: the write buffer is flushed.
const FLUSH_WRITES: u32 = 1 << 27;
/// Those bits of the status that a command has to repeat (11.4.4).
const LASTING: u32 = 0x96ff_ffff;

/// Context command: invalidate all.
const CONTEXT_INVALIDATE_ALL: u64 = 1 << 63 | 1 << 61;
/// Translation cache: invalidate; all, or one domain; and wait for reads and writes that are under way.
const INVALIDATE: u64 = 1 << 63;
const INVALIDATE_ALL: u64 = INVALIDATE | 1 << 60 | DRAIN;
const INVALIDATE_DOMAIN: u64 = INVALIDATE | 2 << 60 | DRAIN;
const DRAIN: u64 = 1 << 49 | 1 << 48;
const DOMAIN_SHIFT: u32 = 32;

/// Fault status: more than could be recorded; something is recorded.
const FAULT_OVERFLOW: u32 = 1;
const FAULT_PENDING: u32 = 1 << 1;
/// A fault record, upper half: there is one; it was a read.
const FAULT_IS_THERE: u64 = 1 << 63;
const FAULT_WAS_READ: u64 = 1 << 62;

/// How often a register is looked at for something to be done.
const PATIENCE: u32 = 10_000_000;
const PAGE_MASK: u64 = !0xfff;

/// The registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    base: u64,
    capability: u64,
    extended: u64,
}

impl Unit {
    /// Maps the registers at this physical address. `None` if none answer.
    pub(super) fn find(address: u64) -> Result<Option<Self>, OutOfFrames> {
        KernelTables::active().map_direct(Range::new(address, 0x100), paging::DEVICE)?;
        let mut unit = Self { base: direct_map::BASE + address, capability: 0, extended: 0 };
        unit.capability = unit.read64(register::CAPABILITY);
        unit.extended = unit.read64(register::EXTENDED_CAPABILITY);
        if unit.capability == u64::MAX || unit.capability == 0 {
            return Ok(None);
        }
        let faults_end = unit.fault_record(unit.fault_records());
        let end = faults_end.max(unit.translation_cache() + 8);
        KernelTables::active().map_direct(Range::new(address, end), paging::DEVICE)?;
        Ok(Some(unit))
    }

    /// How many levels of tables it can follow: a bit for each number.
    pub(super) fn levels(self) -> u32 {
        // Bits 8 to 12 stand for 2 to 6 levels.
        ((self.capability >> 8) as u32 & 0x1f) << 2
    }

    /// How many domains there can be.
    pub(super) fn domains(self) -> u32 {
        1 << (4 + 2 * (self.capability as u32 & 7))
    }

    /// Whether what it reads of tables comes through the processors' caches.
    pub(super) fn is_coherent(self) -> bool {
        self.extended & 1 != 0
    }

    /// Whether it caches that there is no entry.
    pub(super) fn caches_absence(self) -> bool {
        self.capability >> 7 & 1 != 0
    }

    /// Lets no device find anything but by this root table.
    pub(super) fn begin(self, root: u64, fault_target: u32) {
        self.write32(register::FAULT_DATA, DEVICE_FAULT_VECTOR.into());
        self.write32(register::FAULT_ADDRESS, 0xfee0_0000 | fault_target << 12);
        self.write32(register::FAULT_UPPER_ADDRESS, 0);
        while self.next_fault().is_some() {}
        self.write32(register::FAULT_CONTROL, 0);
        self.write64(register::ROOT_TABLE, root);
        self.command(SET_ROOT, SET_ROOT);
        self.forget_devices();
        self.command(TRANSLATION, TRANSLATION);
    }

    /// Forgets what was cached of devices' entries, and with it everything else.
    pub(super) fn forget_devices(self) {
        self.flush_writes();
        self.write64(register::CONTEXT_COMMAND, CONTEXT_INVALIDATE_ALL);
        self.wait("context cache", || self.read64(register::CONTEXT_COMMAND) >> 63 == 0);
        self.invalidate(INVALIDATE_ALL);
    }

    /// Forgets what was cached of a domain's tables; what was under way by them is done.
    pub(super) fn forget_domain(self, domain: u16) {
        self.flush_writes();
        self.invalidate(INVALIDATE_DOMAIN | u64::from(domain) << DOMAIN_SHIFT);
    }

    /// A fault that it recorded.
    pub(super) fn next_fault(self) -> Option<Fault> {
        if self.read32(register::FAULT_STATUS) & FAULT_PENDING == 0 {
            self.write32(register::FAULT_STATUS, FAULT_OVERFLOW);
            return None;
        }
        let at = (0..self.fault_records()).map(|number| self.fault_record(number));
        let (at, upper) = at.map(|at| (at, self.read64(at + 8))).find(|(_, upper)| upper & FAULT_IS_THERE != 0)?;
        let page = self.read64(at) & PAGE_MASK;
        // Writing the bit clears it.
        self.write32(at + 12, (FAULT_IS_THERE >> 32) as u32);
        let address = page | u64::from(upper & FAULT_WAS_READ == 0);
        Some(Fault { requester: upper as u16, address, reason: (upper >> 32) as u8 })
    }

    fn fault_records(self) -> u64 {
        (self.capability >> 40 & 0xff) + 1
    }

    fn fault_record(self, number: u64) -> u64 {
        (self.capability >> 24 & 0x3ff) * 16 + number * 16
    }

    /// Where the register is by which translations are forgotten.
    fn translation_cache(self) -> u64 {
        (self.extended >> 8 & 0x3ff) * 16 + 8
    }

    fn invalidate(self, command: u64) {
        let register = self.translation_cache();
        self.write64(register, command);
        self.wait("translation cache", || self.read64(register) & INVALIDATE == 0);
    }

    /// What was written to tables is visible to those that have a buffer of their own.
    fn flush_writes(self) {
        let needs_flush = self.capability >> 4 & 1 != 0;
        if needs_flush {
            self.command(FLUSH_WRITES, 0);
        }
    }

    /// Gives a command, and waits until the status has, of its bits, these.
    fn command(self, command: u32, expected: u32) {
        let lasting = self.read32(register::STATUS) & LASTING;
        self.write32(register::COMMAND, lasting | command);
        self.wait("command", || self.read32(register::STATUS) & command == expected);
    }

    fn wait(self, what: &str, is_done: impl Fn() -> bool) {
        if !(0..PATIENCE).any(|_| is_done()) {
            error!("the IOMMU does not answer ({what})");
        }
    }

    fn read32(self, offset: u64) -> u32 {
        // SAFETY: `find` mapped the registers, and nobody but this module uses them.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    fn write32(self, offset: u64, value: u32) {
        // SAFETY: as for `read32`. What the registers name are tables of the kernel's.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) };
    }

    fn read64(self, offset: u64) -> u64 {
        // SAFETY: as for `read32`.
        unsafe { ((self.base + offset) as *const u64).read_volatile() }
    }

    fn write64(self, offset: u64, value: u64) {
        // SAFETY: as for `write32`.
        unsafe { ((self.base + offset) as *mut u64).write_volatile(value) };
    }
}
