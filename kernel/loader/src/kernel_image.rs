//! The kernel's ELF file: what goes where, and where to jump.

use core::fmt;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use elf::segment::{ProgramHeader, SegmentTable};

/// The note that names the entry: `XEN_ELFNOTE_PHYS32_ENTRY` in Xen's `public/elfnote.h`.
const ENTRY_NOTE: u64 = 18;
const ENTRY_NOTE_OWNER: &[u8] = b"Xen\0";
const PAGE_BYTES: u64 = 4096;
const FOUR_GIB: u64 = 1 << 32;
/// More than any kernel takes; keeps a damaged file from claiming all memory.
const MAX_BYTES: u64 = 256 << 20;

/// A checked kernel file.
pub(crate) struct KernelImage<'a> {
    file: &'a [u8],
    headers: SegmentTable<'a, LittleEndian>,
    range: Range<u64>,
    entry: u32,
}

/// A part of the kernel.
pub(crate) struct Segment<'a> {
    /// Its physical address.
    pub(crate) address: u64,
    /// What to copy there.
    pub(crate) content: &'a [u8],
}

/// Why a file is no kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelImageError {
    /// Not an ELF file for this machine.
    NotElf,
    /// Not a 64-bit x86 program at fixed addresses.
    WrongKind,
    /// Nothing to load.
    NoSegments,
    /// A segment lies outside the file, or its addresses are impossible.
    BadSegment {
        /// The physical address that it claims.
        address: u64,
    },
    /// The note with the entry address is missing, or names an address outside the kernel.
    NoEntry,
}

impl fmt::Display for KernelImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::WrongKind => f.write_str("not an x86-64 program at fixed addresses"),
            Self::NoSegments => f.write_str("there is nothing to load in it"),
            Self::BadSegment { address } => write!(f, "the segment for address {address:#x} is damaged"),
            Self::NoEntry => f.write_str("it names no PVH entry"),
        }
    }
}

impl<'a> KernelImage<'a> {
    /// Checks a file. Afterwards all segments lie inside the file, and inside [`KernelImage::range`].
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, KernelImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| KernelImageError::NotElf)?;
        if elf.ehdr.e_type != ET_EXEC || elf.ehdr.e_machine != EM_X86_64 {
            return Err(KernelImageError::WrongKind);
        }
        let headers = elf.segments().ok_or(KernelImageError::NoSegments)?;
        let mut start = u64::MAX;
        let mut end = 0;
        for header in headers.iter().filter(is_loaded) {
            let bad = KernelImageError::BadSegment { address: header.p_paddr };
            end = checked_end(file, &header).ok_or(bad)?.max(end);
            start = header.p_paddr.min(start);
        }
        if start >= end {
            return Err(KernelImageError::NoSegments);
        }
        let range = start / PAGE_BYTES * PAGE_BYTES..end.next_multiple_of(PAGE_BYTES);
        if range.end - range.start > MAX_BYTES {
            return Err(KernelImageError::BadSegment { address: range.end });
        }
        let entry = entry(&elf, &headers).filter(|entry| range.contains(&u64::from(*entry)));
        Ok(Self { file, headers, range, entry: entry.ok_or(KernelImageError::NoEntry)? })
    }

    /// The physical addresses that the kernel takes, in whole pages below 4 GiB.
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The physical address of the PVH entry.
    pub(crate) fn entry(&self) -> u32 {
        self.entry
    }

    /// What to copy; memory of the range that no segment fills is to be zero.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        let file = self.file;
        self.headers
            .iter()
            .filter(is_loaded)
            .filter_map(move |header| Some(Segment { address: header.p_paddr, content: content(file, &header)? }))
    }
}

fn is_loaded(header: &ProgramHeader) -> bool {
    header.p_type == PT_LOAD && header.p_memsz > 0
}

fn content<'a>(file: &'a [u8], header: &ProgramHeader) -> Option<&'a [u8]> {
    let start = usize::try_from(header.p_offset).ok()?;
    let length = usize::try_from(header.p_filesz).ok()?;
    file.get(start..start.checked_add(length)?)
}

/// The end of a segment's physical addresses, if it lies inside the file and below 4 GiB.
fn checked_end(file: &[u8], header: &ProgramHeader) -> Option<u64> {
    content(file, header)?;
    let end = header.p_paddr.checked_add(header.p_memsz)?;
    (header.p_filesz <= header.p_memsz && end <= FOUR_GIB).then_some(end)
}

fn entry(elf: &ElfBytes<'_, LittleEndian>, headers: &SegmentTable<'_, LittleEndian>) -> Option<u32> {
    headers
        .iter()
        .filter(|header| header.p_type == PT_NOTE)
        .filter_map(|header| elf.segment_data_as_notes(&header).ok())
        .flatten()
        .find_map(|note| match note {
            Note::Unknown(note) if note.n_type == ENTRY_NOTE && note.name == ENTRY_NOTE_OWNER => {
                entry_address(note.desc)
            }
            Note::Unknown(_) | Note::GnuAbiTag(_) | Note::GnuBuildId(_) => None,
        })
}

/// The address in a note: four bytes, or eight.
fn entry_address(content: &[u8]) -> Option<u32> {
    match content.len() {
        4 => content.try_into().ok().map(u32::from_le_bytes),
        8 => content.try_into().ok().map(u64::from_le_bytes).and_then(|address| u32::try_from(address).ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: u64 = 0x20_0000;
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const NOTE_OFFSET: usize = HEADER + 2 * PROGRAM_HEADER;
    const ENTRY: u32 = 0x20_0010;

    fn program_header(kind: u32, offset: u64, address: u64, file_bytes: u64, memory_bytes: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(5u32.to_le_bytes());
        for value in [offset, address, address, file_bytes, memory_bytes, 4] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    /// A kernel with one segment, whose content is a note and which has a page of zeros after it.
    fn kernel() -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(2u16.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for value in [u64::from(ENTRY), HEADER as u64, 0] {
            file.extend(value.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for value in [HEADER as u16, PROGRAM_HEADER as u16, 2, 64, 0, 0] {
            file.extend(value.to_le_bytes());
        }
        let mut note = Vec::new();
        for value in [4u32, 8, 18] {
            note.extend(value.to_le_bytes());
        }
        note.extend(b"Xen\0");
        note.extend(u64::from(ENTRY).to_le_bytes());
        let length = note.len() as u64;
        file.extend(program_header(PT_LOAD, NOTE_OFFSET as u64, ADDRESS, length, length + PAGE_BYTES));
        file.extend(program_header(PT_NOTE, NOTE_OFFSET as u64, ADDRESS, length, length));
        file.extend(note);
        file
    }

    #[test]
    fn a_kernel_has_segments_and_an_entry() {
        let file = kernel();
        let image = KernelImage::parse(&file).unwrap();
        assert_eq!(image.range(), ADDRESS..ADDRESS + 2 * PAGE_BYTES);
        assert_eq!(image.entry(), ENTRY);
        let segments: Vec<_> = image.segments().map(|segment| (segment.address, segment.content.len())).collect();
        assert_eq!(segments, [(ADDRESS, file.len() - NOTE_OFFSET)]);
    }

    #[test]
    fn damaged_kernels_are_refused_or_stay_inside_their_range() {
        let good = kernel();
        for position in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[position] = value;
                let Ok(image) = KernelImage::parse(&file) else { continue };
                for segment in image.segments() {
                    assert!(segment.address >= image.range().start, "byte {position}");
                    assert!(segment.address + segment.content.len() as u64 <= image.range().end, "byte {position}");
                }
            }
            assert!(KernelImage::parse(&good[..position]).is_err(), "{position} bytes");
        }
    }

    #[test]
    fn a_kernel_without_the_note_has_no_entry() {
        let mut file = kernel();
        file[NOTE_OFFSET + 8] = 17;
        assert_eq!(KernelImage::parse(&file).err(), Some(KernelImageError::NoEntry));
    }
}
