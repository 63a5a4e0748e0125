//! Pages that are given to the kernel: never freed.

use core::fmt;
use core::ptr::NonNull;
use uefi::Status;
use uefi::boot::{self, AllocateType, MemoryType, PAGE_SIZE};

/// The last address that 32-bit code reaches.
const LAST_BELOW_4_GIB: u64 = u32::MAX as u64;

/// Adjacent pages, all below 4 GiB, at equal physical and virtual addresses (as the firmware maps all memory).
pub(crate) struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

/// There are no such pages.
pub(crate) struct PagesError {
    bytes: usize,
    /// Where they should be; anywhere below 4 GiB if `None`.
    address: Option<u64>,
    status: Status,
}

impl fmt::Display for PagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, address, status } = self;
        match address {
            Some(address) => write!(f, "{bytes} bytes at {address:#x} ({status})"),
            None => write!(f, "{bytes} bytes below 4 GiB ({status})"),
        }
    }
}

impl Pages {
    /// Pages at this address, which must be a multiple of the page size; the content is whatever was there.
    pub(crate) fn at(address: u64, bytes: usize) -> Result<Self, PagesError> {
        Self::allocate(AllocateType::Address(address), MemoryType::LOADER_DATA, bytes).map_err(|status| PagesError {
            bytes,
            address: Some(address),
            status,
        })
    }

    /// Pages anywhere below 4 GiB.
    pub(crate) fn below_4_gib(bytes: usize) -> Result<Self, PagesError> {
        Self::anywhere(MemoryType::LOADER_DATA, bytes)
    }

    /// Pages anywhere below 4 GiB that code may run in.
    pub(crate) fn for_code(bytes: usize) -> Result<Self, PagesError> {
        Self::anywhere(MemoryType::LOADER_CODE, bytes)
    }

    fn anywhere(kind: MemoryType, bytes: usize) -> Result<Self, PagesError> {
        Self::allocate(AllocateType::MaxAddress(LAST_BELOW_4_GIB), kind, bytes).map_err(|status| PagesError {
            bytes,
            address: None,
            status,
        })
    }

    fn allocate(place: AllocateType, kind: MemoryType, bytes: usize) -> Result<Self, Status> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_SIZE);
        let start = boot::allocate_pages(place, kind, bytes / PAGE_SIZE).map_err(|error| error.status())?;
        // SAFETY: the firmware has just given us these pages, for us alone; any byte is a valid `u8`, and they are
        // written here before anybody reads them.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Self { start, bytes })
    }

    /// The physical address.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// The first bytes; all of them if there are not so many.
    pub(crate) fn bytes(&self, count: usize) -> &[u8] {
        // SAFETY: the pages are ours, filled, and never freed; `&self` keeps others from writing.
        let all = unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.bytes) };
        all.get(..count).unwrap_or(all)
    }

    /// All bytes, to write.
    pub(crate) fn all_bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages are ours, filled, and never freed; `&mut self` makes this the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}
