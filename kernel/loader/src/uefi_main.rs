//! The loader's story, from the firmware to the kernel.

use crate::files::{self, FileError};
use crate::handover::{self, Trampoline};
use crate::kernel_image::{KernelImage, KernelImageError};
use crate::pages::{Pages, PagesError};
use crate::start_info::{self, MemoryRange, RangeKind};
use core::fmt;
use core::time::Duration;
use uefi::mem::memory_map::{MemoryMap, MemoryMapOwned};
use uefi::prelude::*;
use uefi::runtime::ResetType;
use uefi::table::cfg::ConfigTableEntry;
use uefi::{CStr16, cstr16, println};

const KERNEL: &CStr16 = cstr16!("\\quire\\kernel");
const ARCHIVE: &CStr16 = cstr16!("\\quire\\archive");
const COMMAND_LINE: &CStr16 = cstr16!("\\quire\\cmdline");

/// How long a message stays before the machine is switched off.
const MESSAGE_TIME: Duration = Duration::from_secs(3);

/// Why the kernel could not be started.
enum LoadError {
    /// A file could not be read.
    File(FileError),
    /// The kernel is not a kernel.
    Kernel(KernelImageError),
    /// The memory where the kernel must lie is not free.
    KernelMemory(PagesError),
    /// There is no memory for the start info or the jump.
    Memory(PagesError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Kernel(error) => write!(f, "{KERNEL}: {error}"),
            Self::KernelMemory(error) => write!(f, "{KERNEL}: the memory where it must lie is not free: {error}"),
            Self::Memory(error) => write!(f, "no memory for starting the kernel: {error}"),
        }
    }
}

/// Everything that must be in place before boot services end.
struct Prepared {
    entry: u32,
    archive: Pages,
    archive_bytes: u64,
    command_line: Pages,
    command_line_bytes: usize,
    start_info: Pages,
    trampoline: Trampoline,
    rsdp: u64,
}

#[entry]
fn main() -> Status {
    match prepare() {
        Ok(prepared) => start(prepared),
        Err(error) => give_up(&error),
    }
}

fn give_up(error: &LoadError) -> ! {
    println!("Quire can't be started: {error}");
    boot::stall(MESSAGE_TIME);
    uefi::runtime::reset(ResetType::SHUTDOWN, Status::LOAD_ERROR, None)
}

fn prepare() -> Result<Prepared, LoadError> {
    let (kernel, kernel_bytes) = files::read(KERNEL).map_err(LoadError::File)?;
    let image = KernelImage::parse(kernel.bytes(kernel_bytes)).map_err(LoadError::Kernel)?;
    place(&image)?;
    let entry = image.entry();
    let (archive, archive_bytes) = files::read(ARCHIVE).map_err(LoadError::File)?;
    let (command_line, command_line_bytes) = files::read(COMMAND_LINE).map_err(LoadError::File)?;
    let start_info = Pages::below_4_gib(start_info::MAX_BYTES).map_err(LoadError::Memory)?;
    let trampoline = Trampoline::new().map_err(LoadError::Memory)?;
    Ok(Prepared {
        entry,
        archive,
        archive_bytes: archive_bytes as u64,
        command_line,
        command_line_bytes,
        start_info,
        trampoline,
        rsdp: rsdp(),
    })
}

/// Copies the kernel to where it must lie.
fn place(image: &KernelImage<'_>) -> Result<(), LoadError> {
    let range = image.range();
    let mut pages = Pages::at(range.start, (range.end - range.start) as usize).map_err(LoadError::KernelMemory)?;
    let memory = pages.all_bytes();
    memory.fill(0);
    for segment in image.segments() {
        let start = (segment.address - range.start) as usize;
        if let Some(target) = memory.get_mut(start..start + segment.content.len()) {
            target.copy_from_slice(segment.content);
        }
    }
    Ok(())
}

/// The address of the ACPI tables' root, 0 if there is none.
fn rsdp() -> u64 {
    uefi::system::with_config_table(|tables| {
        let find = |guid| tables.iter().find(|table| table.guid == guid);
        let found = find(ConfigTableEntry::ACPI2_GUID).or_else(|| find(ConfigTableEntry::ACPI_GUID));
        found.map_or(0, |table| table.address as u64)
    })
}

fn start(mut prepared: Prepared) -> ! {
    // SAFETY: nothing here uses boot services from now on: `Pages` are plain memory that is never freed, and no protocol
    // is open.
    let map = unsafe { boot::exit_boot_services(None) };
    let parts = start_info::Parts {
        command_line: prepared.command_line.bytes(prepared.command_line_bytes),
        archive: prepared.archive.address(),
        archive_bytes: prepared.archive_bytes,
        rsdp: prepared.rsdp,
    };
    let address = prepared.start_info.address();
    start_info::write(prepared.start_info.all_bytes(), address, &parts, ranges(&map));
    // Its memory can't be given back without boot services.
    core::mem::forget(map);
    handover::jump(&prepared.trampoline, prepared.start_info.address(), prepared.entry)
}

/// The memory map, in the kinds that the kernel knows.
fn ranges(map: &MemoryMapOwned) -> impl Iterator<Item = MemoryRange> {
    map.entries().map(|entry| MemoryRange {
        address: entry.phys_start,
        bytes: entry.page_count.saturating_mul(boot::PAGE_SIZE as u64),
        kind: RangeKind::from_uefi(entry.ty.0),
    })
}
