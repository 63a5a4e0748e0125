//! An ELF file as a list of mappings (System V ABI, AMD64 supplement, chapter 5; gABI, chapters 4 and 5).
//!
//! Only what native programs are: static, not position-independent, pages with one set of rights each.

use alloc::vec::Vec;
use core::fmt;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use quire_api::Protection;
use quire_api::abi::space::{PAGE_SIZE, USER_END, USER_START};

/// How many loadable segments a program may have.
pub const MAX_SEGMENTS: usize = 8;

/// A program that can be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it begins to run.
    pub entry: u64,
    /// What is mapped where, by ascending address; no two share a page.
    pub segments: Vec<Segment>,
}

/// Pages with one set of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first page's address.
    pub address: u64,
    /// Where in the file the first page is; a multiple of the page size.
    pub file_offset: u64,
    /// Bytes that come from the file, from the first page's start; not a multiple of the page size.
    pub file_bytes: u64,
    /// Bytes in all, from the first page's start, rounded up to pages. Those after `file_bytes` are zero.
    pub memory_bytes: u64,
    /// What the program may do there.
    pub protection: Protection,
}

/// Why a file is no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Not an ELF file, or one that ends too early.
    Malformed,
    /// For another machine, or not static at a fixed address.
    WrongType,
    /// No segment to load, or more than [`MAX_SEGMENTS`].
    SegmentCount,
    /// A segment is not where it should be: misaligned, out of order, outside of the file or of the user's half.
    SegmentRange,
    /// A segment is writable and executable.
    WritableCode,
}

impl fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "it is not an ELF file, or it is cut off",
            Self::WrongType => "it is not a static x86-64 program at a fixed address",
            Self::SegmentCount => "it has no segments to load, or too many",
            Self::SegmentRange => "a segment has an impossible address, offset or size",
            Self::WritableCode => "a segment is writable and executable",
        })
    }
}

impl core::error::Error for ImageError {}

impl Image {
    /// Reads the headers of `file`.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::Malformed)?;
        let header = elf.ehdr;
        if header.class != Class::ELF64 || header.e_machine != EM_X86_64 || header.e_type != ET_EXEC {
            return Err(ImageError::WrongType);
        }
        let headers = elf.segments().ok_or(ImageError::SegmentCount)?;
        let mut segments = Vec::new();
        let mut free_from = USER_START;
        for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0) {
            if segments.len() == MAX_SEGMENTS {
                return Err(ImageError::SegmentCount);
            }
            let segment = Segment::from_header(&header, file.len() as u64)?;
            if segment.address < free_from {
                return Err(ImageError::SegmentRange);
            }
            free_from = segment.address.saturating_add(segment.memory_bytes);
            segments.push(segment);
        }
        if segments.is_empty() {
            return Err(ImageError::SegmentCount);
        }
        Ok(Self { entry: header.e_entry, segments })
    }
}

impl Segment {
    fn from_header(header: &elf::segment::ProgramHeader, file_len: u64) -> Result<Self, ImageError> {
        let wrong = ImageError::SegmentRange;
        let lead = header.p_vaddr % PAGE_SIZE;
        let file_end = header.p_offset.checked_add(header.p_filesz).ok_or(wrong)?;
        if header.p_offset % PAGE_SIZE != lead || file_end > file_len || header.p_filesz > header.p_memsz {
            return Err(wrong);
        }
        let memory_bytes = lead
            .checked_add(header.p_memsz)
            .and_then(|bytes| bytes.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(wrong)?;
        let address = header.p_vaddr - lead;
        if address.checked_add(memory_bytes).is_none_or(|end| end > USER_END) {
            return Err(wrong);
        }
        if header.p_flags & PF_W != 0 && header.p_flags & PF_X != 0 {
            return Err(ImageError::WritableCode);
        }
        Ok(Self {
            address,
            file_offset: header.p_offset - lead,
            file_bytes: lead + header.p_filesz,
            memory_bytes,
            protection: protection(header.p_flags),
        })
    }

    /// How many bytes of pages come from the file.
    pub fn mapped_bytes(&self) -> u64 {
        self.file_bytes.next_multiple_of(PAGE_SIZE)
    }

    /// Whether the program writes there, so that it needs pages of its own.
    pub fn is_private(&self) -> bool {
        self.protection.contains(Protection::WRITE)
    }
}

fn protection(flags: u32) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, flags & PF_R != 0);
    protection.set(Protection::WRITE, flags & PF_W != 0);
    protection.set(Protection::EXECUTE, flags & PF_X != 0);
    protection
}

#[cfg(test)]
mod tests;
