//! The start info: what a PVH kernel is told. Layout: `hvm_start_info` version 1 in Xen's
//! `public/arch-x86/hvm/start_info.h`.

use zerocopy::{Immutable, IntoBytes};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// How long a start info may be, with all that it points at except the archive.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// What lies in a range of physical memory: the types of E820 (ACPI 6.5, table 15.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeKind {
    Usable,
    Reserved,
    AcpiTables,
    AcpiNonVolatile,
    Unusable,
}

impl RangeKind {
    /// From the number of a UEFI memory type (UEFI 2.10, 7.2, `EFI_MEMORY_TYPE`), as it is after boot services have ended:
    /// memory of the firmware's boot services and of this loader is free for the kernel, which knows itself where its
    /// image, the archive and the start info lie.
    pub(crate) const fn from_uefi(number: u32) -> Self {
        match number {
            // Loader code and data, boot services code and data, conventional memory.
            1..=4 | 7 => Self::Usable,
            8 => Self::Unusable,
            9 => Self::AcpiTables,
            10 => Self::AcpiNonVolatile,
            _ => Self::Reserved,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Usable => 1,
            Self::Reserved => 2,
            Self::AcpiTables => 3,
            Self::AcpiNonVolatile => 4,
            Self::Unusable => 5,
        }
    }
}

/// A range of physical memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryRange {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) kind: RangeKind,
}

/// What to tell the kernel, besides the memory map.
pub(crate) struct Parts<'a> {
    pub(crate) command_line: &'a [u8],
    /// Where the archive lies.
    pub(crate) archive: u64,
    pub(crate) archive_bytes: u64,
    /// The root of the ACPI tables, 0 if there is none.
    pub(crate) rsdp: u64,
}

#[derive(IntoBytes, Immutable)]
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

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    address: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

const MODULE_OFFSET: usize = size_of::<StartInfo>();
const COMMAND_LINE_OFFSET: usize = MODULE_OFFSET + size_of::<Module>();
/// A command line that is longer is cut off.
const COMMAND_LINE_BYTES: usize = 4096;
const MAP_OFFSET: usize = (COMMAND_LINE_OFFSET + COMMAND_LINE_BYTES).next_multiple_of(align_of::<MapEntry>());

/// Writes a start info into `buffer`, which is filled with zeros and lies at the physical address `base`. Adjacent ranges
/// of one kind become one; those for which there is no room are left out, which costs memory but is safe.
pub(crate) fn write(buffer: &mut [u8], base: u64, parts: &Parts<'_>, ranges: impl Iterator<Item = MemoryRange>) {
    let line = parts.command_line.iter().copied().take_while(|byte| *byte != 0).take(COMMAND_LINE_BYTES - 1);
    for (place, byte) in buffer.iter_mut().skip(COMMAND_LINE_OFFSET).zip(line) {
        // An editor may have ended the line.
        *place = if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
    }
    let module = Module { address: parts.archive, bytes: parts.archive_bytes, command_line: 0, reserved: 0 };
    put(buffer, MODULE_OFFSET, module.as_bytes());
    let memory_map_entries = write_map(buffer, ranges);
    let info = StartInfo {
        magic: MAGIC,
        version: VERSION,
        flags: 0,
        module_count: 1,
        modules: base + MODULE_OFFSET as u64,
        command_line: base + COMMAND_LINE_OFFSET as u64,
        rsdp: parts.rsdp,
        memory_map: base + MAP_OFFSET as u64,
        memory_map_entries,
        reserved: 0,
    };
    put(buffer, 0, info.as_bytes());
}

/// Writes the memory map and gives the number of its entries.
fn write_map(buffer: &mut [u8], ranges: impl Iterator<Item = MemoryRange>) -> u32 {
    let mut count = 0;
    let mut offset = MAP_OFFSET;
    let mut last: Option<MemoryRange> = None;
    for range in ranges {
        let joined = last.filter(|last| last.kind == range.kind && last.address + last.bytes == range.address);
        let range = match joined {
            Some(last) => {
                offset -= size_of::<MapEntry>();
                count -= 1;
                MemoryRange { bytes: last.bytes + range.bytes, ..last }
            }
            None => range,
        };
        let entry = MapEntry { address: range.address, bytes: range.bytes, kind: range.kind.number(), reserved: 0 };
        if !put(buffer, offset, entry.as_bytes()) {
            break;
        }
        offset += size_of::<MapEntry>();
        count += 1;
        last = Some(range);
    }
    count
}

/// Copies `bytes` to `offset`; false if they don't fit.
fn put(buffer: &mut [u8], offset: usize, bytes: &[u8]) -> bool {
    let target = buffer.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
    target.map(|target| target.copy_from_slice(bytes)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x10_0000;

    fn number(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    fn written(ranges: &[MemoryRange]) -> Vec<u8> {
        let mut buffer = vec![0; MAX_BYTES];
        let parts = Parts { command_line: b"log=info\n", archive: 0x40_0000, archive_bytes: 77, rsdp: 0xe_0000 };
        write(&mut buffer, BASE, &parts, ranges.iter().copied());
        buffer
    }

    fn range(address: u64, kind: RangeKind) -> MemoryRange {
        MemoryRange { address, bytes: 0x1000, kind }
    }

    #[test]
    fn fields_lie_where_the_abi_says() {
        let bytes = written(&[range(0, RangeKind::Usable)]);
        assert_eq!(number(&bytes, 0), u64::from(MAGIC) | 1 << 32);
        assert_eq!(number(&bytes, 8) >> 32, 1);
        let module = (number(&bytes, 16) - BASE) as usize;
        assert_eq!((number(&bytes, module), number(&bytes, module + 8)), (0x40_0000, 77));
        let line = (number(&bytes, 24) - BASE) as usize;
        assert_eq!(&bytes[line..line + 10], b"log=info \0");
        assert_eq!(number(&bytes, 32), 0xe_0000);
        let map = (number(&bytes, 40) - BASE) as usize;
        assert_eq!(number(&bytes, 48), 1);
        assert_eq!((number(&bytes, map), number(&bytes, map + 8), number(&bytes, map + 16)), (0, 0x1000, 1));
    }

    #[test]
    fn only_memory_that_is_free_after_boot_services_is_usable() {
        let usable: Vec<_> = (0..20).filter(|number| RangeKind::from_uefi(*number) == RangeKind::Usable).collect();
        assert_eq!(usable, [1, 2, 3, 4, 7]);
    }

    #[test]
    fn adjacent_ranges_of_one_kind_become_one() {
        let bytes = written(&[
            range(0, RangeKind::Usable),
            range(0x1000, RangeKind::Usable),
            range(0x2000, RangeKind::Reserved),
            range(0x4000, RangeKind::Reserved),
        ]);
        assert_eq!(number(&bytes, 48), 3);
        assert_eq!(number(&bytes, MAP_OFFSET + 8), 0x2000);
    }

    #[test]
    fn a_map_that_is_too_long_is_cut_off() {
        let ranges: Vec<_> = (0..4000).map(|index| range(index * 0x2000, RangeKind::Usable)).collect();
        let count = number(&written(&ranges), 48) as usize;
        assert!(MAP_OFFSET + count * size_of::<MapEntry>() <= MAX_BYTES);
    }
}
