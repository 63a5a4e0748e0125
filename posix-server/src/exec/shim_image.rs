//! What is mapped into every program besides its own: the shim, and after it the vDSO with its page of data. All three are one
//! memory, made once, so that they cost each program one mapping.

use super::elf::{Image, plan};
use crate::errno::{Errno, Result};
use crate::platform::{self, Backing, Change, Inherit, Memory, PAGE_SIZE, Protection, Sharing};
use crate::vm::{BlockPool, SHIM_BASE};
use alloc::rc::Rc;
use alloc::vec;
use core::mem::offset_of;
use posix_protocol::shim::{ClockPage, ImageHeader, MAGIC};
use zerocopy::{FromZeros, IntoBytes};

impl Image for Memory {
    fn size(&self) -> u64 {
        self.len_bytes()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        Memory::read(self, offset, buffer)
    }
}

/// The shim and the vDSO are smaller; a file that is not is none of ours.
const MAX_IMAGE_BYTES: u64 = 1 << 20;

/// The shim and the vDSO, ready to be mapped.
pub struct ShimImage {
    memory: Memory,
    /// Bytes of the shim: whole pages.
    length: u64,
    header: ImageHeader,
    blocks: Rc<BlockPool>,
}

/// Where an address is, as the shim sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not in the shim.
    Program,
    /// In the shim, before the way out.
    Shim,
    /// On the way out, which can be begun anew.
    Exit,
    /// Where the shim stores a local answer for the program.
    Store,
}

/// The only segment of an ELF file, in whole pages. `ENOEXEC` if there are several, or it can be written.
fn only_segment(file: &Memory) -> Result<vec::Vec<u8>> {
    let plan = plan(file)?;
    let [segment] = plan.segments.as_slice() else { return Err(Errno::ENOEXEC) };
    let length = segment.file_end - segment.start;
    if segment.protection.contains(Protection::WRITE) || length == 0 || length > MAX_IMAGE_BYTES {
        return Err(Errno::ENOEXEC);
    }
    let mut bytes = vec![0; length.next_multiple_of(PAGE_SIZE) as usize];
    // A file that ends within its last page has zeroes there.
    file.read(segment.offset, &mut bytes);
    Ok(bytes)
}

fn clock_page() -> ClockPage {
    let (tsc_base, tsc_multiplier, tsc_shift, boot_unix_ns) = platform::clock_parameters();
    let processors = platform::processors();
    ClockPage { tsc_base, tsc_multiplier, tsc_shift, boot_unix_ns, processors, reserved: 0 }
}

impl ShimImage {
    /// Makes the memory of both from their files; each has one segment, and the shim's begins with an [`ImageHeader`].
    /// `ENOEXEC`, `ENOMEM`.
    pub fn new(shim: &Memory, vdso: &Memory) -> Result<Self> {
        let (shim, vdso) = (only_segment(shim)?, only_segment(vdso)?);
        let mut header = ImageHeader::new_zeroed();
        header.as_mut_bytes().iter_mut().zip(&shim).for_each(|(to, from)| *to = *from);
        if header.magic != MAGIC {
            return Err(Errno::ENOEXEC);
        }
        let length = shim.len() as u64;
        let memory = Memory::create(length + PAGE_SIZE + vdso.len() as u64)?;
        let clock = clock_page();
        let parts = [(0, shim.as_slice()), (length, clock.as_bytes()), (length + PAGE_SIZE, vdso.as_slice())];
        for (offset, bytes) in parts {
            if memory.write(offset, bytes) != bytes.len() {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(Self { memory, length, header, blocks: Rc::default() })
    }

    /// A shim of nothing, for tests.
    #[cfg(any(test, not(target_os = "none")))]
    pub fn empty() -> Result<Self> {
        let memory = Memory::create(3 * PAGE_SIZE)?;
        Ok(Self { memory, length: PAGE_SIZE, header: ImageHeader::default(), blocks: Rc::default() })
    }

    /// Tells the vDSO what the clock's parameters are now.
    pub fn update_clock(&self) {
        let (.., boot_unix_ns) = platform::clock_parameters();
        let offset = self.length + offset_of!(ClockPage, boot_unix_ns) as u64;
        self.memory.write(offset, boot_unix_ns.as_bytes());
    }

    /// The change that maps them.
    pub fn mapping(&self) -> Change<'_> {
        Change::Map {
            address: SHIM_BASE,
            length: self.memory.len_bytes(),
            backing: Backing::Memory(&self.memory, 0),
            sharing: Sharing::Private,
            protection: Protection::READ | Protection::EXECUTE,
            inherit: Inherit::Clone,
        }
    }

    /// Where the blocks of threads come from.
    pub fn blocks(&self) -> &Rc<BlockPool> {
        &self.blocks
    }

    /// Where the ELF header of the vDSO is (`AT_SYSINFO_EHDR`).
    pub fn vdso(&self) -> u64 {
        SHIM_BASE + self.length + PAGE_SIZE
    }

    /// The ranges that `/proc/PID/maps` shows of all this, with their names: the page of data, and the vDSO.
    pub fn shown_areas(&self) -> [(core::ops::Range<u64>, Protection, &'static str); 2] {
        let end = SHIM_BASE + self.memory.len_bytes();
        [
            (self.vdso() - PAGE_SIZE..self.vdso(), Protection::READ, "[vvar]"),
            (self.vdso()..end, Protection::READ | Protection::EXECUTE, "[vdso]"),
        ]
    }

    /// Where reflected system calls enter, and the range of native ones.
    pub fn reflection(&self) -> (u64, u64, u64) {
        (SHIM_BASE + u64::from(self.header.entry), SHIM_BASE, SHIM_BASE + self.length)
    }

    /// Where a thread starts that loads its registers from its block.
    pub fn restore(&self) -> u64 {
        SHIM_BASE + u64::from(self.header.restore)
    }

    /// The start of the way out.
    pub fn exit_start(&self) -> u64 {
        SHIM_BASE + u64::from(self.header.exit_start)
    }

    /// Where a fault of [`Place::Store`] goes on.
    pub fn store_failed(&self) -> u64 {
        SHIM_BASE + u64::from(self.header.store_failed)
    }

    /// What is at an address.
    pub fn place(&self, address: u64) -> Place {
        let Some(offset) = address.checked_sub(SHIM_BASE).filter(|offset| *offset < self.length) else {
            return Place::Program;
        };
        let within = |start: u32, end: u32| (u64::from(start)..u64::from(end)).contains(&offset);
        if within(self.header.exit_start, self.header.exit_end) {
            Place::Exit
        } else if within(self.header.store_start, self.header.store_end) {
            Place::Store
        } else {
            Place::Shim
        }
    }
}
