//! One IOMMU: its registers (Intel VT-d specification 4.1, chapter 11).

use super::Fault;
use crate::boot::frames::BOOT_FRAMES;
use crate::direct_map;
use crate::interrupts::DEVICE_FAULT_VECTOR;
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use core::arch::x86_64::_mm_clflush;
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
    pub(super) const QUEUE_TAIL: u64 = 0x88;
    pub(super) const QUEUE: u64 = 0x90;
    pub(super) const INTERRUPT_TABLE: u64 = 0xb8;
}

/// Command and status: translation is on.
const TRANSLATION: u32 = 1 << 31;
/// Command and status: the root table is taken over.
const SET_ROOT: u32 = 1 << 30;
/// Command and status: the write buffer is flushed.
const FLUSH_WRITES: u32 = 1 << 27;
/// Command and status: invalidations are taken from the queue.
const QUEUE: u32 = 1 << 26;
/// Command and status: interrupts are remapped; the interrupt table is taken over.
const REMAP: u32 = 1 << 25;
const SET_INTERRUPT_TABLE: u32 = 1 << 24;
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

/// What the queue takes (6.5.2), lower halves: invalidate all devices' entries; all translations, or a domain's, and wait for what is under
/// way; all interrupts' entries; write a word when all before is done.
const QUEUED_DEVICES: u64 = 0x1 | 1 << 4;
const QUEUED_ALL: u64 = 0x2 | 1 << 4 | QUEUED_DRAIN;
const QUEUED_DOMAIN: u64 = 0x2 | 2 << 4 | QUEUED_DRAIN;
const QUEUED_DRAIN: u64 = 1 << 6 | 1 << 7;
const QUEUED_DOMAIN_SHIFT: u32 = 16;
const QUEUED_INTERRUPTS: u64 = 0x4;
const QUEUED_WAIT: u64 = 0x5 | 1 << 5 | DONE << 32;
/// The word that says so.
const DONE: u64 = 1;
/// Bytes of an entry of the queue, which is a page.
const ENTRY_BYTES: u64 = 16;
const QUEUE_BYTES: u64 = 4096;
/// In the interrupt table's register: its size, as a power of two less 1.
const INTERRUPT_ENTRIES: u64 = 7;

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
    /// Physical address of the queue, and after it of a page with the word that says when it is empty; 0 if there is no queue.
    queue: u64,
}

impl Unit {
    /// Maps the registers at this physical address. `None` if none answer.
    pub(super) fn find(address: u64) -> Result<Option<Self>, OutOfFrames> {
        KernelTables::active().map_direct(Range::new(address, 0x100), paging::DEVICE)?;
        let mut unit = Self { base: direct_map::BASE + address, capability: 0, extended: 0, queue: 0 };
        unit.capability = unit.read64(register::CAPABILITY);
        unit.extended = unit.read64(register::EXTENDED_CAPABILITY);
        if unit.capability == u64::MAX || unit.capability == 0 {
            return Ok(None);
        }
        let faults_end = unit.fault_record(unit.fault_records());
        let end = faults_end.max(unit.translation_cache() + 8);
        KernelTables::active().map_direct(Range::new(address, end), paging::DEVICE)?;
        if unit.extended >> 1 & 1 != 0 {
            unit.queue = BOOT_FRAMES.lock().take(2).ok_or(OutOfFrames)?;
        }
        Ok(Some(unit))
    }

    /// Whether it can confine devices to interrupts of their own.
    pub(super) fn can_remap_interrupts(self) -> bool {
        self.extended >> 3 & 1 != 0 && self.queue != 0
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
        if self.queue != 0 {
            self.write64(register::QUEUE_TAIL, 0);
            self.write64(register::QUEUE, self.queue);
            self.command(QUEUE, QUEUE);
        }
        self.write64(register::ROOT_TABLE, root);
        self.command(SET_ROOT, SET_ROOT);
        self.forget_devices();
        self.command(TRANSLATION, TRANSLATION);
    }

    /// Lets no interrupt come in but by this table of 256 entries.
    pub(super) fn begin_interrupts(self, table: u64) {
        self.write64(register::INTERRUPT_TABLE, table | INTERRUPT_ENTRIES);
        self.command(SET_INTERRUPT_TABLE, SET_INTERRUPT_TABLE);
        self.forget_interrupts();
        self.command(REMAP, REMAP);
    }

    /// Forgets what was cached of interrupts' entries.
    pub(super) fn forget_interrupts(self) {
        self.flush_writes();
        self.enqueue(QUEUED_INTERRUPTS);
    }

    /// Forgets what was cached of devices' entries, and with it everything else.
    pub(super) fn forget_devices(self) {
        self.flush_writes();
        if self.queue != 0 {
            self.enqueue(QUEUED_DEVICES);
            return self.enqueue(QUEUED_ALL);
        }
        self.write64(register::CONTEXT_COMMAND, CONTEXT_INVALIDATE_ALL);
        self.wait("context cache", || self.read64(register::CONTEXT_COMMAND) >> 63 == 0);
        self.invalidate(INVALIDATE_ALL);
    }

    /// Forgets what was cached of a domain's tables; what was under way by them is done.
    pub(super) fn forget_domain(self, domain: u16) {
        self.flush_writes();
        if self.queue != 0 {
            return self.enqueue(QUEUED_DOMAIN | u64::from(domain) << QUEUED_DOMAIN_SHIFT);
        }
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

    /// Has the queue take something, and waits until it is done.
    fn enqueue(self, what: u64) {
        let done = self.queue + QUEUE_BYTES;
        self.store(done, 0);
        let mut tail = self.read64(register::QUEUE_TAIL) % QUEUE_BYTES;
        for (low, high) in [(what, 0), (QUEUED_WAIT, done)] {
            self.store(self.queue + tail, low);
            self.store(self.queue + tail + 8, high);
            tail = (tail + ENTRY_BYTES) % QUEUE_BYTES;
        }
        self.write64(register::QUEUE_TAIL, tail);
        self.wait("queue", || self.load(done) as u32 == DONE as u32);
    }

    /// Reads a word of the queue's pages.
    fn load(self, physical: u64) -> u64 {
        // SAFETY: in the pages that were taken for the queue, which the direct map maps.
        unsafe { direct_map::pointer::<u64>(physical).read_volatile() }
    }

    /// Writes a word of the queue's pages.
    fn store(self, physical: u64, word: u64) {
        let place = direct_map::pointer::<u64>(physical);
        // SAFETY: as for `load`; the second writes back a line that is mapped.
        unsafe {
            place.write_volatile(word);
            if !self.is_coherent() {
                _mm_clflush(place.cast());
            }
        }
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
