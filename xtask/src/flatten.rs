//! Turns the static ELF file of the first program into the segments that the kernel maps, for it knows no ELF.

use anyhow::{Context as _, Result, anyhow, bail};
use boot_archive::{PAGE_BYTES, Rights, SegmentContent};
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

/// Entry address and segments of a static, not relocatable ELF file.
pub(crate) fn flatten(file: &[u8]) -> Result<(u64, Vec<SegmentContent>)> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).context("not an ELF file for this machine")?;
    if elf.ehdr.e_type != ET_EXEC || elf.ehdr.e_machine != EM_X86_64 {
        bail!("not a static x86-64 executable at a fixed address (is --no-pie missing from its build.rs?)");
    }
    let headers = elf.segments().ok_or_else(|| anyhow!("the ELF file has no program headers"))?;
    let loads = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0);
    let segments = loads.map(|header| segment(file, &header)).collect::<Result<Vec<_>>>()?;
    Ok((elf.ehdr.e_entry, check_pages(segments)?))
}

/// One segment, widened to begin on a page boundary.
fn segment(file: &[u8], header: &ProgramHeader) -> Result<SegmentContent> {
    let address = header.p_vaddr / PAGE_BYTES * PAGE_BYTES;
    let before = header.p_vaddr - address;
    let start = usize::try_from(header.p_offset)?;
    let length = usize::try_from(header.p_filesz)?;
    let bytes = start.checked_add(length).and_then(|end| file.get(start..end));
    let bytes = bytes.with_context(|| format!("the segment at {:#x} lies outside the file", header.p_vaddr))?;
    let mut content = vec![0; usize::try_from(before)?];
    content.extend_from_slice(bytes);
    Ok(SegmentContent {
        address,
        memory_length_bytes: before + header.p_memsz,
        rights: rights(header.p_flags),
        content,
    })
}

fn rights(flags: u32) -> Rights {
    let pairs = [(PF_R, Rights::READ), (PF_W, Rights::WRITE), (PF_X, Rights::EXECUTE)];
    let none = Rights::READ;
    pairs.into_iter().filter(|(flag, _)| flags & flag != 0).fold(none, |all, (_, right)| all.with(right))
}

/// Refuses segments that share a page: they would need a common set of rights.
fn check_pages(segments: Vec<SegmentContent>) -> Result<Vec<SegmentContent>> {
    for pair in segments.windows(2) {
        if let [first, second] = pair
            && first.address + first.memory_length_bytes > second.address
        {
            bail!("the segments at {:#x} and {:#x} share a page", first.address, second.address);
        }
    }
    Ok(segments)
}
