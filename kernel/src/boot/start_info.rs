//! The PVH start info: what the loader tells (`struct hvm_start_info` in Xen's
//! `xen/include/public/arch-x86/hvm/start_info.h`).

use crate::command_line::CommandLine;
use crate::direct_map;
use crate::memory_map::{MemoryMap, Range, RangeKind};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// `StartInfo::magic`: "xEn3" with the top bit of the E set.
const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION_WITH_MEMORY_MAP: u32 = 1;
/// What the first page tables map; everything that the loader points at must lie below.
const EARLY_MAPPED_END: u64 = 1 << 32;

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What the kernel keeps of the start info.
pub(crate) struct BootInfo {
    /// Physical memory.
    pub(crate) memory_map: MemoryMap,
    /// Where the boot archive is, if the loader brought one.
    pub(crate) archive: Option<Range>,
    /// Physical address of the ACPI root pointer, or 0.
    pub(crate) rsdp: u64,
    /// The command line.
    pub(crate) command_line: CommandLine,
}

/// Why the start info can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartInfoError {
    /// It does not begin with the magic number.
    NotStartInfo,
    /// It is of a version without a memory map.
    NoMemoryMap,
    /// It, or something it points at, lies above 4 GiB.
    TooHigh,
}

/// Reads the start info at this physical address.
pub(crate) fn read(address: u64) -> Result<BootInfo, StartInfoError> {
    let info: StartInfo = record(address)?;
    if info.magic != MAGIC {
        return Err(StartInfoError::NotStartInfo);
    }
    if info.version < VERSION_WITH_MEMORY_MAP || info.memory_map_entries == 0 {
        return Err(StartInfoError::NoMemoryMap);
    }
    let mut memory_map = MemoryMap::new();
    for index in 0..info.memory_map_entries {
        let entry: MemoryMapEntry = record(element(info.memory_map, index, size_of::<MemoryMapEntry>())?)?;
        memory_map.add(Range::new(entry.address, entry.size), RangeKind::from_e820(entry.kind));
    }
    let archive = match info.module_count {
        0 => None,
        _ => {
            let module: Module = record(info.modules)?;
            Some(Range::new(module.address, module.size))
        }
    };
    Ok(BootInfo { memory_map, archive, rsdp: info.rsdp, command_line: command_line(info.command_line)? })
}

fn element(base: u64, index: u32, size: usize) -> Result<u64, StartInfoError> {
    base.checked_add(u64::from(index) * size as u64).ok_or(StartInfoError::TooHigh)
}

fn record<T: FromBytes>(address: u64) -> Result<T, StartInfoError> {
    let end = address.checked_add(size_of::<T>() as u64).ok_or(StartInfoError::TooHigh)?;
    if end > EARLY_MAPPED_END {
        return Err(StartInfoError::TooHigh);
    }
    // SAFETY: the first page tables map all of physical memory below 4 GiB at the direct map, the range was checked to
    // lie there, nothing else runs, and any bytes are a valid `T`.
    Ok(unsafe { direct_map::pointer::<T>(address).read_unaligned() })
}

fn command_line(address: u64) -> Result<CommandLine, StartInfoError> {
    let mut line = CommandLine::empty();
    if address == 0 {
        return Ok(line);
    }
    for offset in 0..CommandLine::CAPACITY as u64 {
        let byte: u8 = record(address.checked_add(offset).ok_or(StartInfoError::TooHigh)?)?;
        if byte == 0 {
            break;
        }
        line.push(byte);
    }
    Ok(line)
}
