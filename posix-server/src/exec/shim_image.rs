//! The shim's image: found once in its ELF file, mapped into every program.

use super::elf::{Image, plan};
use crate::errno::{Errno, Result};
use crate::platform::{Backing, Change, Inherit, Memory, PAGE_SIZE, Protection, Sharing};
use crate::vm::SHIM_BASE;
use posix_protocol::shim::{ImageHeader, MAGIC};
use zerocopy::{FromZeros, IntoBytes};

impl Image for Memory {
    fn size(&self) -> u64 {
        self.len_bytes()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        Memory::read(self, offset, buffer)
    }
}

/// The shim, ready to be mapped.
pub struct ShimImage {
    memory: Memory,
    offset: u64,
    length: u64,
    header: ImageHeader,
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

impl ShimImage {
    /// Finds the shim in its file: one segment that begins with an [`ImageHeader`]. `ENOEXEC`.
    pub fn new(memory: Memory) -> Result<Self> {
        let plan = plan(&memory)?;
        let [segment] = plan.segments.as_slice() else { return Err(Errno::ENOEXEC) };
        let mut header = ImageHeader::new_zeroed();
        let bytes = header.as_mut_bytes();
        let length = segment.file_end - segment.start;
        let ranges_are_good = memory.read(segment.offset, bytes) == size_of::<ImageHeader>();
        if !ranges_are_good || header.magic != MAGIC || length == 0 || segment.protection.contains(Protection::WRITE) {
            return Err(Errno::ENOEXEC);
        }
        Ok(Self { memory, offset: segment.offset, length, header })
    }

    /// A shim of nothing, for tests.
    #[cfg(any(test, not(target_os = "none")))]
    pub fn empty() -> Result<Self> {
        Ok(Self { memory: Memory::create(PAGE_SIZE)?, offset: 0, length: PAGE_SIZE, header: ImageHeader::default() })
    }

    /// The change that maps it.
    pub fn mapping(&self) -> Change<'_> {
        Change::Map {
            address: SHIM_BASE,
            length: self.length,
            backing: Backing::Memory(&self.memory, self.offset),
            sharing: Sharing::Private,
            protection: Protection::READ | Protection::EXECUTE,
            inherit: Inherit::Clone,
        }
    }

    /// Where reflected system calls enter, and the range of native ones.
    pub fn reflection(&self) -> (u64, u64, u64) {
        (SHIM_BASE + u64::from(self.header.entry), SHIM_BASE, SHIM_BASE + self.length.max(PAGE_SIZE))
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
