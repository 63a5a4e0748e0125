//! What the ACPI tables say about this machine, as far as the kernel itself needs it (ACPI specification 6.5).

use crate::cpu::percpu::MAX_PROCESSORS;
use crate::direct_map;
use crate::iommu::Dmar;
use crate::memory_map::Range;
use crate::paging::{self, KernelTables};
use acpi::address::AddressSpace;
use acpi::sdt::SdtHeader;
use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::sdt::mcfg::{Mcfg, McfgEntry};
use acpi::{AcpiError, AcpiTables, Handler, HpetInfo, PciAddress, RawPhysicalMapping};
use core::ptr::NonNull;
use log::warn;
use quire_abi::system::HardwareInfo;

/// I/O APICs that are used at most.
pub(crate) const MAX_IO_APICS: usize = 8;
/// Interrupts of the ISA bus.
pub(crate) const ISA_INTERRUPTS: usize = 16;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApicInfo {
    /// Physical address of its registers.
    pub(crate) address: u64,
    /// The first global system interrupt of its inputs.
    pub(crate) first_gsi: u32,
}

/// How an ISA interrupt is wired (ACPI 6.5, 5.2.12.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Override {
    /// Its global system interrupt.
    pub(crate) gsi: u32,
    /// Polarity in bits 0–1, trigger mode in bits 2–3.
    pub(crate) flags: u16,
}

/// The machine, as the firmware describes it.
#[derive(Default)]
pub(crate) struct Platform {
    /// I/O APICs.
    pub(crate) io_apics: [Option<IoApicInfo>; MAX_IO_APICS],
    /// ISA interrupts that are not wired as usual.
    pub(crate) overrides: [Option<Override>; ISA_INTERRUPTS],
    /// APIC ids of the processors that can be started.
    processors: Processors,
    /// Physical address of the HPET's registers.
    pub(crate) hpet: Option<u64>,
    /// I/O port of the power-management timer.
    pub(crate) pm_timer: Option<u16>,
    /// I/O port of the power-management control register.
    pub(crate) pm_control: Option<u16>,
    /// What to write there for soft off.
    pub(crate) soft_off_type: u16,
    /// Where the configuration spaces of PCI Express are.
    pub(crate) configuration: HardwareInfo,
    /// IOMMUs.
    pub(crate) dmar: Dmar,
}

/// APIC ids.
struct Processors {
    ids: [u8; MAX_PROCESSORS],
    count: usize,
}

impl Default for Processors {
    fn default() -> Self {
        Self { ids: [0; MAX_PROCESSORS], count: 0 }
    }
}

impl Processors {
    fn add(&mut self, id: u8) {
        match self.ids.get_mut(self.count) {
            Some(slot) => {
                *slot = id;
                self.count += 1;
            }
            None => warn!("more than {MAX_PROCESSORS} processors: that with APIC id {id} is not used"),
        }
    }
}

impl Platform {
    /// APIC ids of the processors that can be started; none if the firmware does not tell.
    pub(crate) fn processors(&self) -> impl Iterator<Item = u32> + Clone {
        self.processors.ids.iter().take(self.processors.count).map(|id| u32::from(*id))
    }
}

/// Reads the tables. What is missing in them is missing in the answer.
///
/// # Errors
/// [`AcpiError`] if there are no tables at all.
pub(crate) fn read(rsdp: u64) -> Result<Platform, AcpiError> {
    if rsdp == 0 {
        return Err(AcpiError::NoValidRsdp);
    }
    // SAFETY: the loader says that this is the root pointer; `from_rsdp` checks the signature.
    let tables = unsafe { AcpiTables::from_rsdp(Mapper, rsdp as usize)? };
    let mut platform = Platform::default();
    match tables.find_table::<Madt>() {
        Some(madt) => read_madt(madt.get(), &mut platform),
        None => warn!("no MADT: no interrupts but the timer's, and one processor"),
    }
    platform.hpet = HpetInfo::new(&tables).ok().map(|hpet| hpet.base_address as u64);
    if let Some(fadt) = tables.find_table::<Fadt>() {
        let timer = fadt.pm_timer_block().ok().flatten();
        let control = fadt.pm1a_control_block().ok();
        let port = |register: &acpi::address::GenericAddress| {
            let is_port = register.address_space == AddressSpace::SystemIo && register.address != 0;
            u16::try_from(register.address).ok().filter(|_| is_port)
        };
        platform.pm_timer = timer.as_ref().and_then(port);
        platform.pm_control = control.as_ref().and_then(port);
    }
    if let Ok(dsdt) = tables.dsdt() {
        let bytes = Range::new(dsdt.phys_address as u64, dsdt.length.into());
        platform.soft_off_type = soft_off_type(map(bytes)).unwrap_or(0);
    }
    if let Some(mcfg) = tables.find_table::<Mcfg>() {
        // Of the entries, which are packed, copies.
        let first = mcfg.get().entries().iter().copied().find(|entry| entry.pci_segment_group == 0);
        if let Some(McfgEntry { base_address, bus_number_start, bus_number_end, .. }) = first {
            platform.configuration.configuration = base_address;
            platform.configuration.first_bus = bus_number_start;
            platform.configuration.last_bus = bus_number_end;
        }
    }
    let is_dmar = |(_, header): &(usize, SdtHeader)| header.signature.as_str() == "DMAR";
    if let Some((address, header)) = tables.table_headers().find(is_dmar) {
        platform.dmar = Dmar::parse(map(Range::new(address as u64, header.length.into())));
    }
    Ok(platform)
}

fn read_madt(madt: core::pin::Pin<&Madt>, platform: &mut Platform) {
    let mut io_apics = platform.io_apics.iter_mut();
    for entry in madt.entries() {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is for other architectures or of no use")]
        match entry {
            MadtEntry::IoApic(entry) => {
                let info =
                    IoApicInfo { address: entry.io_apic_address.into(), first_gsi: entry.global_system_interrupt_base };
                match io_apics.next() {
                    Some(slot) => *slot = Some(info),
                    None => warn!("more than {MAX_IO_APICS} I/O APICs: {info:x?} is not used"),
                }
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                let wiring = Override { gsi: entry.global_system_interrupt, flags: entry.flags };
                if let Some(slot) = platform.overrides.get_mut(usize::from(entry.irq)) {
                    *slot = Some(wiring);
                }
            }
            // Bit 0 of the flags: enabled (ACPI 6.5, table 5.23).
            MadtEntry::LocalApic(entry) if entry.flags & 1 != 0 => platform.processors.add(entry.apic_id),
            _ => {}
        }
    }
}

/// Finds the type of sleep state S5 in the DSDT: `Name (_S5_, Package () {type, …})` (ACPI 6.5, 7.4.2 and
/// 20.2.5.4), as the bit pattern for the control register (4.8.3.2.1: sleep type in bits 10–12, sleep enable in bit
/// 13).
fn soft_off_type(dsdt: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"_S5_\x12";
    const BYTE_PREFIX: u8 = 0x0a;
    let at = dsdt.windows(NAME.len()).position(|window| window == NAME)?;
    let package = dsdt.get(at + NAME.len()..)?;
    // The upper two bits of the first byte tell how many more bytes the length has; the number of elements follows.
    let skip = usize::from(package.first()? >> 6) + 2;
    let value = match package.get(skip)? {
        &BYTE_PREFIX => *package.get(skip + 1)?,
        constant => *constant,
    };
    Some(u16::from(value & 7) << 10)
}

/// Makes sure that firmware tables can be read at their place in the direct map.
fn map(range: Range) -> &'static [u8] {
    if KernelTables::active().map_direct(range, paging::KERNEL_RODATA).is_err() {
        return &[];
    }
    // SAFETY: the range was mapped a line ago or before; firmware tables don't change.
    unsafe { core::slice::from_raw_parts(direct_map::pointer::<u8>(range.start), range.size() as usize) }
}

/// Gives the `acpi` crate access to the tables.
#[derive(Clone)]
struct Mapper;

impl Handler for Mapper {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> RawPhysicalMapping<T> {
        let bytes = map(Range::new(physical_address as u64, size as u64));
        let pointer = NonNull::from(bytes).cast();
        // SAFETY: the range is mapped for good, so the arguments are consistent for an unmapping that does nothing.
        unsafe { RawPhysicalMapping::new(physical_address, pointer, size, size) }
    }

    unsafe fn unmap_physical_region<T>(&self, _: RawPhysicalMapping<T>) {}

    // The rest is for the AML interpreter, which is not compiled in.
    fn read_u8(&self, _: usize) -> u8 {
        0
    }
    fn read_u16(&self, _: usize) -> u16 {
        0
    }
    fn read_u32(&self, _: usize) -> u32 {
        0
    }
    fn read_u64(&self, _: usize) -> u64 {
        0
    }
    fn write_u8(&self, _: usize, _: u8) {}
    fn write_u16(&self, _: usize, _: u16) {}
    fn write_u32(&self, _: usize, _: u32) {}
    fn write_u64(&self, _: usize, _: u64) {}
    fn read_io_u8(&self, _: u16) -> u8 {
        0
    }
    fn read_io_u16(&self, _: u16) -> u16 {
        0
    }
    fn read_io_u32(&self, _: u16) -> u32 {
        0
    }
    fn write_io_u8(&self, _: u16, _: u8) {}
    fn write_io_u16(&self, _: u16, _: u16) {}
    fn write_io_u32(&self, _: u16, _: u32) {}
    fn read_pci_u8(&self, _: PciAddress, _: u16) -> u8 {
        0
    }
    fn read_pci_u16(&self, _: PciAddress, _: u16) -> u16 {
        0
    }
    fn read_pci_u32(&self, _: PciAddress, _: u16) -> u32 {
        0
    }
    fn write_pci_u8(&self, _: PciAddress, _: u16, _: u8) {}
    fn write_pci_u16(&self, _: PciAddress, _: u16, _: u16) {}
    fn write_pci_u32(&self, _: PciAddress, _: u16, _: u32) {}
    fn nanos_since_boot(&self) -> u64 {
        0
    }
    fn stall(&self, _: u64) {}
    fn sleep(&self, _: u64) {}
}
