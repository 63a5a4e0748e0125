//! What an ELF file asks for (System V ABI, "Object Files" and "Program Loading"), as a plan.
//!
//! Pure. Every number in the file is an allegation: a plan that is returned can be carried out without overflow, within the
//! file and within the addresses that a program has.

use crate::errno::{Errno, Result};
use crate::platform::{PAGE_SIZE, Protection};
use crate::user::USER_END;
use crate::vm::USER_START;
#[cfg(test)]
use alloc::vec;
use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

/// The size of a file header.
const FILE_HEADER_BYTES: usize = 64;
/// The size of one program header.
pub const PROGRAM_HEADER_BYTES: u16 = 56;
/// The most that the program headers may take.
const MAX_HEADERS_BYTES: u64 = 65536;
/// The longest path of an interpreter, with its terminating zero.
const MAX_INTERPRETER_BYTES: u64 = 4096;
/// The largest alignment that a program can ask for; more is not worth the address space.
const MAX_ALIGNMENT: u64 = 1 << 30;

/// Bytes that a plan is made from.
pub trait Image {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Reads from `offset`; returns how many bytes there were.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize;
}

impl Image for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        count
    }
}

/// Where a program must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At its own addresses.
    Fixed,
    /// Anywhere, at a multiple of this (a power of two, at least a page).
    Anywhere(u64),
}

/// A segment, in addresses of the file (to be moved with the program).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First page.
    pub start: u64,
    /// The end of the pages that show the file; `start` if there are none.
    pub file_end: u64,
    /// The end of the pages; those from `file_end` on are zero.
    pub end: u64,
    /// Where in the file the first page is.
    pub offset: u64,
    /// The bytes to be zeroed between what the file has and the end of its last page: first address, and length.
    pub tail: (u64, u64),
    /// How it can be used.
    pub protection: Protection,
}

/// What a program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it must be.
    pub position: Position,
    /// Its segments, ascending.
    pub segments: Vec<Segment>,
    /// Where it starts.
    pub entry: u64,
    /// Where its program headers are in memory, if they are.
    pub headers: u64,
    /// How many there are.
    pub header_count: u16,
    /// The program that is to load it.
    pub interpreter: Option<Vec<u8>>,
    /// Whether its stack is to be executable.
    pub stack: Protection,
}

impl Plan {
    /// The first address.
    pub fn start(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.start)
    }

    /// The address after the last.
    pub fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).max().unwrap_or(0)
    }
}

/// Reads exactly `length` bytes. `ENOEXEC`.
fn read_exact(image: &(impl Image + ?Sized), offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(length, 0);
    if image.read(offset, &mut bytes) == length { Ok(bytes) } else { Err(Errno::ENOEXEC) }
}

fn malformed<E>(_: E) -> Errno {
    Errno::ENOEXEC
}

fn file_header(image: &(impl Image + ?Sized)) -> Result<FileHeader<LittleEndian>> {
    let bytes = read_exact(image, 0, FILE_HEADER_BYTES)?;
    let (identification, tail) = bytes.split_at_checked(abi::EI_NIDENT).ok_or(Errno::ENOEXEC)?;
    let identification = parse_ident::<LittleEndian>(identification).map_err(malformed)?;
    let header = FileHeader::parse_tail(identification, tail).map_err(malformed)?;
    let known = header.class == Class::ELF64 && header.e_machine == abi::EM_X86_64;
    let sizes = header.e_phentsize == PROGRAM_HEADER_BYTES && header.e_phnum > 0;
    if known && sizes { Ok(header) } else { Err(Errno::ENOEXEC) }
}

fn program_headers(image: &(impl Image + ?Sized), header: &FileHeader<LittleEndian>) -> Result<Vec<ProgramHeader>> {
    let length = u64::from(header.e_phnum) * u64::from(PROGRAM_HEADER_BYTES);
    if length > MAX_HEADERS_BYTES {
        return Err(Errno::ENOEXEC);
    }
    let bytes = read_exact(image, header.e_phoff, length as usize)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, &bytes).iter().collect())
}

fn protection_of(flags: u32) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, flags & abi::PF_R != 0);
    protection.set(Protection::WRITE, flags & abi::PF_W != 0);
    protection.set(Protection::EXECUTE, flags & abi::PF_X != 0);
    protection
}

/// One segment. `ENOEXEC` if it is malformed, `ENOMEM` if it leaves the addresses of a program.
fn segment(header: &ProgramHeader, file_size: u64) -> Result<Segment> {
    if header.p_filesz > header.p_memsz || header.p_offset % PAGE_SIZE != header.p_vaddr % PAGE_SIZE {
        return Err(Errno::ENOEXEC);
    }
    let file_bytes_end = header.p_offset.checked_add(header.p_filesz).ok_or(Errno::ENOEXEC)?;
    if header.p_filesz > 0 && file_bytes_end > file_size {
        return Err(Errno::ENOEXEC);
    }
    let memory_end = header.p_vaddr.checked_add(header.p_memsz).ok_or(Errno::ENOMEM)?;
    let end = memory_end.checked_next_multiple_of(PAGE_SIZE).filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)?;
    let start = header.p_vaddr / PAGE_SIZE * PAGE_SIZE;
    let content_end = header.p_vaddr + header.p_filesz;
    let file_end = if header.p_filesz == 0 { start } else { content_end.next_multiple_of(PAGE_SIZE) };
    let protection = protection_of(header.p_flags);
    let needs_zeroes =
        header.p_filesz > 0 && header.p_memsz > header.p_filesz && protection.contains(Protection::WRITE);
    let tail = if needs_zeroes { (content_end, file_end - content_end) } else { (content_end, 0) };
    Ok(Segment { start, file_end, end, offset: header.p_offset / PAGE_SIZE * PAGE_SIZE, tail, protection })
}

/// All segments, which must ascend and not overlap.
fn segments(headers: &[ProgramHeader], file_size: u64) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut last_end = 0;
    for header in headers.iter().filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz > 0) {
        let next = segment(header, file_size)?;
        if header.p_vaddr < last_end || segments.last().is_some_and(|last| last.end > next.start) {
            return Err(Errno::ENOEXEC);
        }
        last_end = header.p_vaddr + header.p_memsz;
        segments.push(next);
    }
    if segments.is_empty() { Err(Errno::ENOEXEC) } else { Ok(segments) }
}

/// The alignment that a position-independent program asks for: the largest of its segments' (powers of two only count).
fn alignment(headers: &[ProgramHeader]) -> u64 {
    let loads = headers.iter().filter(|header| header.p_type == abi::PT_LOAD);
    let aligned = loads.map(|header| header.p_align).filter(|align| align.is_power_of_two());
    aligned.max().unwrap_or(PAGE_SIZE).clamp(PAGE_SIZE, MAX_ALIGNMENT)
}

fn interpreter(image: &(impl Image + ?Sized), headers: &[ProgramHeader]) -> Result<Option<Vec<u8>>> {
    let Some(header) = headers.iter().find(|header| header.p_type == abi::PT_INTERP) else { return Ok(None) };
    if header.p_filesz < 2 || header.p_filesz > MAX_INTERPRETER_BYTES {
        return Err(Errno::ENOEXEC);
    }
    // Linux calls a path beyond the end of the file an input error.
    let mut path = read_exact(image, header.p_offset, header.p_filesz as usize).map_err(|_| Errno::EIO)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    path.truncate(end);
    Ok(Some(path))
}

/// Where the program headers are in memory: in the segment that shows their part of the file.
fn headers_address(file: &FileHeader<LittleEndian>, headers: &[ProgramHeader]) -> u64 {
    let containing = headers
        .iter()
        .filter(|header| header.p_type == abi::PT_LOAD)
        .find(|header| file.e_phoff >= header.p_offset && file.e_phoff - header.p_offset < header.p_filesz);
    containing.map_or(0, |header| header.p_vaddr.wrapping_add(file.e_phoff - header.p_offset))
}

/// Makes the plan of a program, or of an interpreter.
///
/// `ENOEXEC` for what is no ELF file for this machine or is malformed, `ENOMEM` if it does not fit, `EIO` if the path of
/// its interpreter is not in the file.
pub fn plan(image: &(impl Image + ?Sized)) -> Result<Plan> {
    let file = file_header(image)?;
    let is_relocatable = match file.e_type {
        abi::ET_EXEC => false,
        abi::ET_DYN => true,
        _ => return Err(Errno::ENOEXEC),
    };
    let headers = program_headers(image, &file)?;
    let interpreter = interpreter(image, &headers)?;
    let segments = segments(&headers, image.size())?;
    let position = if is_relocatable { Position::Anywhere(alignment(&headers)) } else { Position::Fixed };
    if position == Position::Fixed && segments.first().is_some_and(|first| first.start < USER_START) {
        return Err(Errno::ENOMEM);
    }
    let stack_flags = headers.iter().find(|header| header.p_type == abi::PT_GNU_STACK).map(|header| header.p_flags);
    // Without the header the file may rely on an executable stack; on x86-64 Linux gives it none.
    let executable = stack_flags.is_some_and(|flags| flags & abi::PF_X != 0);
    let stack = Protection::READ | Protection::WRITE;
    let stack = if executable { stack | Protection::EXECUTE } else { stack };
    Ok(Plan {
        position,
        entry: file.e_entry,
        headers: headers_address(&file, &headers),
        header_count: file.e_phnum,
        segments,
        interpreter,
        stack,
    })
}

/// A program image for the tests of this crate: a header and one segment.
#[cfg(test)]
pub fn test_image(kind: u16, segments: &[[u64; 6]]) -> Vec<u8> {
    let mut image = vec![0; 0x3000];
    image[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, value: u64, bytes: usize| {
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    };
    put(16, u64::from(kind), 2);
    put(18, u64::from(abi::EM_X86_64), 2);
    put(20, 1, 4);
    put(24, 0x40_1000, 8);
    put(32, 64, 8);
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, segments.len() as u64, 2);
    for (index, [flags, offset, address, file_bytes, memory_bytes, align]) in segments.iter().enumerate() {
        let at = 64 + index * 56;
        put(at, 1, 4);
        put(at + 4, *flags, 4);
        put(at + 8, *offset, 8);
        put(at + 16, *address, 8);
        put(at + 24, *address, 8);
        put(at + 32, *file_bytes, 8);
        put(at + 40, *memory_bytes, 8);
        put(at + 48, *align, 8);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: [u64; 6] = [5, 0, 0x40_0000, 0x1800, 0x1800, 0x1000];
    const DATA: [u64; 6] = [6, 0x1800, 0x40_2800, 0x100, 0x2000, 0x1000];

    fn plan_of(segments: &[[u64; 6]]) -> Result<Plan> {
        plan(&test_image(abi::ET_EXEC, segments)[..])
    }

    #[test]
    fn pages_of_the_file_then_zeroes() {
        let plan = plan_of(&[TEXT, DATA]).unwrap();
        assert_eq!(plan.position, Position::Fixed);
        assert_eq!(plan.headers, 0x40_0040);
        let data = &plan.segments[1];
        assert_eq!((data.start, data.file_end, data.end), (0x40_2000, 0x40_3000, 0x40_5000));
        assert_eq!(data.offset, 0x1000);
        assert_eq!(data.tail, (0x40_2900, 0x700));
        assert_eq!(plan.segments[0].tail.1, 0, "what nobody writes needs no zeroes");
    }

    #[test]
    fn a_position_independent_program_says_its_alignment() {
        let segments = [[5, 0, 0, 0x1000, 0x1000, 0x20_0000]];
        let plan = plan(&test_image(abi::ET_DYN, &segments)[..]).unwrap();
        assert_eq!(plan.position, Position::Anywhere(0x20_0000));
    }

    #[test]
    fn malformed_segments_are_refused() {
        let change = |index: usize, value: u64| {
            let mut data = DATA;
            data[index] = value;
            plan_of(&[TEXT, data]).err()
        };
        assert_eq!(change(3, 0x2001), Some(Errno::ENOEXEC), "more in the file than in memory");
        assert_eq!(change(1, 0x1801), Some(Errno::ENOEXEC), "offset and address differ within the page");
        assert_eq!(change(1, 0x1_0800), Some(Errno::ENOEXEC), "beyond the file");
        assert_eq!(change(1, u64::MAX - 0x7ff), Some(Errno::ENOEXEC), "the offset wraps");
        assert_eq!(change(2, 0x40_0800), Some(Errno::ENOEXEC), "overlap");
        assert_eq!(change(2, 0x7fff_ffff_f800), Some(Errno::ENOMEM), "above the addresses of programs");
        assert_eq!(change(2, u64::MAX - 0x7ff), Some(Errno::ENOMEM), "the address wraps");
        assert_eq!(change(4, u64::MAX), Some(Errno::ENOMEM), "the size wraps");
        assert_eq!(plan_of(&[]), Err(Errno::ENOEXEC));
        assert_eq!(plan_of(&[[5, 0, 0, 0x1000, 0x1000, 0x1000]]), Err(Errno::ENOMEM), "page zero");
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        for bytes in [&b""[..], b"#!/bin/sh", b"\x7fELF", &[0; 64]] {
            assert_eq!(plan(bytes), Err(Errno::ENOEXEC));
        }
        for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 3), (54, 55)] {
            let mut image = test_image(abi::ET_EXEC, &[TEXT]);
            image[at] = value;
            assert_eq!(plan(&image[..]), Err(Errno::ENOEXEC), "byte {at}");
        }
    }

    /// What a plan promises to whoever carries it out.
    fn check(plan: &Plan, file_size: u64) {
        let mut last = 0;
        for segment in &plan.segments {
            assert!(last <= segment.start && segment.start <= segment.file_end && segment.file_end <= segment.end);
            assert!(segment.start < segment.end && segment.end <= USER_END);
            for number in [segment.start, segment.file_end, segment.end, segment.offset] {
                assert!(number.is_multiple_of(PAGE_SIZE));
            }
            assert!(segment.offset + (segment.file_end - segment.start) <= file_size.next_multiple_of(PAGE_SIZE));
            let (zeroes, length) = segment.tail;
            assert!(length < PAGE_SIZE && (length == 0 || zeroes + length == segment.file_end));
            last = segment.end;
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic_and_good_plans_keep_their_promise(
            changes in proptest::collection::vec((0usize..240, any::<u8>()), 0..12),
            length in 0usize..0x3000,
            cut in any::<bool>(),
        ) {
            let mut image = test_image(abi::ET_DYN, &[TEXT, DATA, [4, 0, 0x50_0000, 0x10, 0x10, 0x1000]]);
            for (at, value) in changes {
                image[at] = value;
            }
            if cut {
                image.truncate(length);
            }
            if let Ok(plan) = plan(&image[..]) {
                check(&plan, image.len() as u64);
            }
        }

        #[test]
        fn absurd_segments_never_panic(segments in proptest::collection::vec(any::<[u64; 6]>(), 1..5)) {
            let image = test_image(abi::ET_DYN, &segments);
            if let Ok(plan) = plan(&image[..]) {
                check(&plan, image.len() as u64);
            }
        }
    }
}
