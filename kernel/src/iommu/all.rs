//! All IOMMUs together (Intel VT-d specification 4.1, chapter 3 and 9): they share one root table, so that it does not matter which of them
//! a device is behind.
//!
//! The root table leads to a table for each bus, that to an entry for each device: what it may reach is below the root of its DMA space's
//! tables. A device without an entry reaches nothing. All of these tables are the kernel's; no memory of user space shows them.

use super::dmar::{Dmar, MAX_UNITS};
use super::unit::Unit;
use crate::boot::frames::BOOT_FRAMES;
use crate::direct_map;
use crate::interrupts::io_apic::{self, Trigger};
use crate::interrupts::{END_DEVICE_VECTORS, FIRST_DEVICE_VECTOR, local_apic};
use crate::paging::OutOfFrames;
use core::arch::x86_64::_mm_clflush;
use log::{info, warn};
use quire_core::devices::{DeviceEntry, InterruptMessage};
use quire_core::machine::{Frame, TABLE_ENTRIES};

const PAGE_SHIFT: u32 = 12;

/// An entry of the root table or of a bus's: it is there. In a bus's, faults of the device are not told.
const PRESENT: u64 = 1 << 0;
const SILENT: u64 = 1 << 1;
/// In the upper half of a device's entry: the number of levels less 2; the domain.
const DOMAIN_SHIFT: u32 = 8;

/// An entry of a space's tables.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
/// Ignored by the IOMMU; set where an entry leads to a table.
const SOFTWARE_TABLE: u64 = 1 << 10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An interrupt's entry, lower half: its vector and its target; level-triggered. Upper half: only this device may raise it.
const VECTOR_SHIFT: u32 = 16;
const LEVEL: u64 = 1 << 4;
const TARGET_SHIFT: u32 = 40;
const ONLY_FROM: u64 = 1 << 18;
/// A message that names an entry: its address, and where in that the entry's number stands.
const MESSAGE: u64 = 0xfee0_0000 | 1 << 4;
const HANDLE_SHIFT: u32 = 5;

/// Levels that are preferred: 39 bits of addresses, then 48.
const LEVELS: [u32; 2] = [3, 4];
/// Faults of devices that nobody drives are logged so often.
const MAX_STRANGERS: u32 = 16;

/// A device's access that was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The device.
    pub(crate) requester: u16,
    /// The page; plus 1 if it was to be written.
    pub(crate) address: u64,
    /// Why (VT-d 4.1, 7.1.3).
    pub(crate) reason: u8,
}

/// What confines devices.
pub(crate) struct Iommu {
    units: [Option<Unit>; MAX_UNITS],
    root: Frame,
    levels: u32,
    domains: u32,
    is_coherent: bool,
    caches_absence: bool,
    strangers: u32,
    /// The table of interrupts, by their numbers, if they are confined.
    interrupts: Option<Frame>,
    io_apic: Option<u16>,
}

impl Iommu {
    /// Turns the IOMMUs on. `None` if there are none, or not all can be used.
    pub(crate) fn begin(dmar: &Dmar) -> Result<Option<Self>, OutOfFrames> {
        if dmar.more != 0 {
            warn!("more than {MAX_UNITS} IOMMUs: none is used");
            return Ok(None);
        }
        let mut units = [None; MAX_UNITS];
        for (slot, address) in units.iter_mut().zip(dmar.units.iter().flatten()) {
            *slot = Unit::find(*address)?;
            if slot.is_none() {
                warn!("there is no IOMMU at {address:#x}");
            }
        }
        let all = || units.iter().flatten();
        let common = all().fold(u32::MAX, |common, unit| common & unit.levels());
        let Some(levels) = LEVELS.into_iter().find(|levels| common >> levels & 1 != 0).filter(|_| all().count() != 0)
        else {
            return Ok(None);
        };
        if dmar.reserved_ranges != 0 {
            info!("the firmware has reserved memory for devices; they do without");
        }
        let root = BOOT_FRAMES.lock().take(1).ok_or(OutOfFrames)?;
        let mut iommu = Self {
            units,
            root: Frame((root >> PAGE_SHIFT) as u32),
            levels,
            domains: all().map(|unit| unit.domains()).min().unwrap_or(0),
            is_coherent: all().all(|unit| unit.is_coherent()),
            caches_absence: all().any(|unit| unit.caches_absence()),
            strangers: 0,
            interrupts: None,
            io_apic: dmar.io_apic.filter(|_| dmar.io_apics == 1),
        };
        iommu.all().for_each(|unit| unit.begin(root, local_apic::id()));
        if dmar.remaps_interrupts && iommu.all().all(Unit::can_remap_interrupts) {
            iommu.begin_interrupts()?;
        }
        let interrupts = if iommu.interrupts.is_some() { ", interrupts too" } else { "" };
        info!("devices reach memory through {} IOMMU(s), {levels} levels{interrupts}", iommu.all().count());
        Ok(Some(iommu))
    }

    fn all(&self) -> impl Iterator<Item = Unit> + '_ {
        self.units.iter().flatten().copied()
    }

    /// Confines interrupts: each is raised by the device that it was made for; those of the I/O APIC by that. There are none yet.
    fn begin_interrupts(&mut self) -> Result<(), OutOfFrames> {
        let table = BOOT_FRAMES.lock().take(1).ok_or(OutOfFrames)?;
        let frame = Frame((table >> PAGE_SHIFT) as u32);
        (0..TABLE_ENTRIES / 2).for_each(|number| self.write(frame, 2 * number, SILENT));
        self.interrupts = Some(frame);
        for number in 0..u32::from(END_DEVICE_VECTORS - FIRST_DEVICE_VECTOR) {
            if let Some(trigger) = io_apic::remap(number) {
                let level = if trigger == Trigger::Level { LEVEL } else { 0 };
                self.set_interrupt(number, level, self.io_apic);
            }
        }
        self.all().for_each(|unit| unit.begin_interrupts(table));
        Ok(())
    }

    /// Whether interrupts are confined.
    pub(crate) fn confines_interrupts(&self) -> bool {
        self.interrupts.is_some()
    }

    /// Lets a device raise an interrupt; tells by what message. `None` if interrupts are not confined.
    pub(crate) fn open_message(&self, number: u32, requester: u16) -> Option<InterruptMessage> {
        self.interrupts?;
        self.set_interrupt(number, 0, Some(requester));
        self.all().for_each(Unit::forget_interrupts);
        Some(InterruptMessage { address: MESSAGE | u64::from(number) << HANDLE_SHIFT, data: 0 })
    }

    /// Lets nobody raise an interrupt any more.
    pub(crate) fn close_message(&self, number: u32) {
        if let Some(table) = self.interrupts {
            self.write(table, 2 * number as usize, SILENT);
            self.all().for_each(Unit::forget_interrupts);
        }
    }

    fn set_interrupt(&self, number: u32, trigger: u64, only_from: Option<u16>) {
        let Some(table) = self.interrupts else { return };
        let vector = u64::from(FIRST_DEVICE_VECTOR) + u64::from(number);
        let target = u64::from(io_apic::target()) << TARGET_SHIFT;
        let index = 2 * number as usize;
        self.write(table, index + 1, only_from.map_or(0, |requester| u64::from(requester) | ONLY_FROM));
        self.write(table, index, PRESENT | trigger | vector << VECTOR_SHIFT | target);
    }

    /// Levels of a space's tables.
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    /// An entry of a space's table.
    pub(crate) fn read_entry(&self, table: Frame, index: usize) -> DeviceEntry {
        let raw = read(table, index);
        let frame = Frame(((raw & ADDRESS) >> PAGE_SHIFT) as u32);
        match raw {
            0 => DeviceEntry::Absent,
            _ if raw & SOFTWARE_TABLE != 0 => DeviceEntry::Table(frame),
            _ => DeviceEntry::Page { frame, write: raw & WRITE != 0 },
        }
    }

    /// Changes an entry of a space's table.
    pub(crate) fn write_entry(&self, table: Frame, index: usize, entry: DeviceEntry) {
        let raw = match entry {
            DeviceEntry::Absent => 0,
            DeviceEntry::Table(lower) => address(lower) | READ | WRITE | SOFTWARE_TABLE,
            DeviceEntry::Page { frame, write } => address(frame) | READ | if write { WRITE } else { 0 },
        };
        self.write(table, index, raw);
    }

    /// Whether there is no table for the bus of a device yet.
    pub(crate) fn lacks_bus(&self, requester: u16) -> bool {
        self.bus(requester).is_none()
    }

    /// Lets a device find memory by the tables under `root`; `frame` becomes its bus's table if there is none. `false`: there are not so many
    /// domains.
    pub(crate) fn attach(&self, requester: u16, domain: u16, root: Frame, frame: Option<Frame>) -> bool {
        if u32::from(domain) >= self.domains {
            return false;
        }
        if let Some(bus) = frame.filter(|_| self.lacks_bus(requester)) {
            self.write(self.root, 2 * usize::from(requester >> 8), address(bus) | PRESENT);
        }
        let Some((bus, slot)) = self.slot(requester) else { return false };
        self.write(bus, slot + 1, u64::from(domain) << DOMAIN_SHIFT | u64::from(self.levels - 2));
        self.write(bus, slot, address(root) | PRESENT);
        self.all().for_each(Unit::forget_devices);
        true
    }

    /// Lets a device find nothing, and says no more about it.
    pub(crate) fn detach(&self, requester: u16) {
        if let Some((bus, slot)) = self.slot(requester) {
            self.write(bus, slot, SILENT);
            self.all().for_each(Unit::forget_devices);
        }
    }

    /// Forgets what was cached of a domain.
    pub(crate) fn forget(&self, domain: u16) {
        self.all().for_each(|unit| unit.forget_domain(domain));
    }

    /// The next of the faults that were recorded.
    pub(crate) fn next_fault(&self) -> Option<Fault> {
        self.all().find_map(Unit::next_fault)
    }

    /// A device that nobody drives was refused: tells whether that is worth a line, and says no more of the device.
    pub(crate) fn quieten(&mut self, requester: u16) -> bool {
        self.detach(requester);
        self.strangers = self.strangers.saturating_add(1);
        self.strangers <= MAX_STRANGERS
    }

    /// The table of a device's bus, and where its entry begins there.
    fn slot(&self, requester: u16) -> Option<(Frame, usize)> {
        Some((self.bus(requester)?, 2 * usize::from(requester & 0xff)))
    }

    fn bus(&self, requester: u16) -> Option<Frame> {
        let raw = read(self.root, 2 * usize::from(requester >> 8));
        (raw & PRESENT != 0).then_some(Frame(((raw & ADDRESS) >> PAGE_SHIFT) as u32))
    }

    fn write(&self, table: Frame, index: usize, raw: u64) {
        let slot = slot(table, index);
        // SAFETY: a table of the IOMMU's, which is RAM that the kernel keeps, in the direct map; the index is in it.
        unsafe { slot.write_volatile(raw) };
        if !self.is_coherent {
            // SAFETY: writes back a line that is mapped.
            unsafe { _mm_clflush(slot.cast()) };
        }
    }

    /// Whether entries that were added have to be told of like those that were changed.
    pub(crate) fn caches_absence(&self) -> bool {
        self.caches_absence
    }
}

fn address(frame: Frame) -> u64 {
    u64::from(frame.0) << PAGE_SHIFT
}

fn slot(table: Frame, index: usize) -> *mut u64 {
    assert!(index < TABLE_ENTRIES, "no such entry");
    // SAFETY: the index was checked, so the result is inside the table's frame.
    unsafe { direct_map::pointer::<u64>(address(table)).add(index) }
}

fn read(table: Frame, index: usize) -> u64 {
    // SAFETY: as in `Iommu::write`; the IOMMU itself changes nothing.
    unsafe { slot(table, index).read_volatile() }
}
