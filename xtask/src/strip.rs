//! Leaves out of an ELF file what only debuggers read, so that archives and disk images are small.

use elf::ElfBytes;
use elf::endian::LittleEndian;
use std::ops::Range;

/// Fields of the 64-bit ELF header (gABI, chapter 4) that tell of sections: `e_shoff`, and `e_shentsize` to `e_shstrndx`.
const SECTION_FIELDS: [Range<usize>; 2] = [0x28..0x30, 0x3a..0x40];

/// The file without its sections: up to the end of what its program headers name. A file that is no ELF file stays.
pub(crate) fn without_sections(mut file: Vec<u8>) -> Vec<u8> {
    let Some(end) = end_of_segments(&file) else { return file };
    file.truncate(end);
    for field in SECTION_FIELDS {
        file.get_mut(field).unwrap_or_default().fill(0);
    }
    file
}

fn end_of_segments(file: &[u8]) -> Option<usize> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).ok()?;
    let headers = u64::from(elf.ehdr.e_phnum) * u64::from(elf.ehdr.e_phentsize);
    let end_of_headers = elf.ehdr.e_phoff.checked_add(headers)?;
    let ends = elf.segments()?.iter().map(|header| header.p_offset.checked_add(header.p_filesz));
    let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
    usize::try_from(end.max(end_of_headers)).ok().filter(|end| *end <= file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_survive_and_sections_do_not() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let stripped = without_sections(own.clone());
        assert!(stripped.len() < own.len());
        let segments = |file: &[u8]| {
            let elf = ElfBytes::<LittleEndian>::minimal_parse(file).unwrap();
            (elf.ehdr.e_entry, elf.segments().unwrap().iter().collect::<Vec<_>>())
        };
        assert_eq!(segments(&stripped), segments(&own));
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&stripped).unwrap();
        assert!(elf.section_headers().is_none());
    }

    #[test]
    fn what_is_no_elf_file_stays() {
        assert_eq!(without_sections(b"#!/bin/sh".to_vec()), b"#!/bin/sh");
    }
}
