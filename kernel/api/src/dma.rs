//! Memory for devices.

use crate::account::Account;
use crate::handle::{argument, object};
use crate::memory::Memory;
use crate::raw::{numbers, syscall};
use crate::shared::SharedMapping;
use crate::time::Event;
use alloc::rc::Rc;
use alloc::vec::Vec;
use quire_abi::dma::{DmaFlags, MAX_DMA_PAGES};
use quire_abi::space::PAGE_SIZE;
use quire_abi::{Call, Error};

object! {
    /// What one device reaches of memory by itself.
    DmaSpace
}

/// What was mapped by one [`DmaSpace::map`], to be taken back. Dropped, it stays mapped as long as the space lives.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "dropped, it stays mapped"]
pub struct DmaMapping(u64);

impl DmaSpace {
    /// Lets the device reach `len_bytes` of an anonymous or contiguous memory from `offset` on (both page-aligned, at most
    /// [`MAX_DMA_PAGES`] pages), and puts the device's address of each page into `addresses`, of which there must be as many. The frames
    /// are pinned until then. Needs `WRITE`, and `READ` on the memory; for [`DmaFlags::DEVICE_WRITES`] also `WRITE`.
    pub fn map(
        &self,
        memory: &Memory,
        offset: u64,
        len_bytes: u64,
        flags: DmaFlags,
        addresses: &mut [u64],
    ) -> Result<DmaMapping, Error> {
        if (addresses.len() as u64) < len_bytes.div_ceil(PAGE_SIZE) {
            return Err(Error::OutOfRange);
        }
        let (pointer, flags) = (addresses.as_mut_ptr() as u64, u64::from(flags.bits()));
        let arguments = [argument(self), argument(memory), offset, len_bytes, pointer, flags];
        // SAFETY: the call writes eight bytes for each page there, and there is room. What the device may then do is to the pages of a
        // memory, of which this program has no references (`SharedMapping`).
        unsafe { syscall(Call::DmaMap, arguments) }.value().map(DmaMapping)
    }

    /// Has bits of an event set when the device was refused what is not mapped for it. Needs `MANAGE`, and `SEND` on the event.
    pub fn watch(&self, event: &Event, mask: u64) -> Result<(), Error> {
        numbers(Call::DmaWatch, [argument(self), argument(event), mask]).unit()
    }

    /// How often the device was refused, and the address of the page that it wanted last (plus 1 if to write). Needs `MANAGE`.
    pub fn refused(&self) -> Result<(u64, u64), Error> {
        numbers(Call::DmaRefused, [argument(self), 0, 0]).values()
    }

    /// Takes a mapping back; the device must be done with it. Needs `WRITE`.
    pub fn unmap(&self, mapping: DmaMapping) -> Result<(), Error> {
        numbers(Call::DmaUnmap, [argument(self), mapping.0, 0]).unit()
    }
}

/// Memory that the program and its device share, mapped for both as long as the value lives.
///
/// The device may write it at any time, so that what is read is a copy, as of any [`SharedMapping`].
#[derive(Debug)]
pub struct DmaBuffer {
    mapped: SharedMapping,
    addresses: Vec<u64>,
    mappings: Vec<DmaMapping>,
    space: Rc<DmaSpace>,
}

macro_rules! words {
    ($($load:ident $store:ident $type:ty;)+) => {
        $(
            /// Reads a word in one access, before all that is read later. [`Error::Misaligned`], [`Error::OutOfRange`].
            #[inline]
            pub fn $load(&self, offset: usize) -> Result<$type, Error> {
                self.mapped.$load(offset)
            }

            /// Writes a word in one access, after all that was written before. [`Error::Misaligned`], [`Error::OutOfRange`].
            #[inline]
            pub fn $store(&self, offset: usize, word: $type) -> Result<(), Error> {
                self.mapped.$store(offset, word)
            }
        )+
    };
}

impl DmaBuffer {
    /// Makes a buffer of `len_bytes`, rounded up to pages, full of zeros. Needs `USE` on the account and `WRITE` on the space.
    pub fn new(account: &Account, space: &Rc<DmaSpace>, len_bytes: usize) -> Result<Self, Error> {
        let len_bytes = len_bytes.checked_next_multiple_of(PAGE_SIZE as usize).ok_or(Error::OutOfRange)?;
        Self::of(&Memory::create(account, len_bytes as u64)?, 0, len_bytes, space)
    }

    /// Maps `len_bytes` of a memory, from `offset` on (both page-aligned), for both. Needs `MAP`, `READ` and `WRITE` on the memory and `WRITE` on the
    /// space.
    pub fn of(memory: &Memory, offset: u64, len_bytes: usize, space: &Rc<DmaSpace>) -> Result<Self, Error> {
        let mapped = SharedMapping::part(memory, offset, len_bytes)?;
        let mut addresses = alloc::vec![0; len_bytes / PAGE_SIZE as usize];
        // From here on, what was mapped is taken back should the rest fail.
        let mut buffer = Self { mapped, addresses: Vec::new(), mappings: Vec::new(), space: Rc::clone(space) };
        let mut offset = offset;
        for part in addresses.chunks_mut(MAX_DMA_PAGES) {
            let bytes = part.len() as u64 * PAGE_SIZE;
            buffer.mappings.push(space.map(memory, offset, bytes, DmaFlags::DEVICE_WRITES, part)?);
            offset += bytes;
        }
        buffer.addresses = addresses;
        Ok(buffer)
    }

    /// How many bytes there are.
    pub fn len_bytes(&self) -> usize {
        self.addresses.len() * PAGE_SIZE as usize
    }

    /// The device's address of the byte at `offset`; what follows is adjacent as far as the page goes. [`Error::OutOfRange`].
    pub fn device_address(&self, offset: usize) -> Result<u64, Error> {
        let page = self.addresses.get(offset / PAGE_SIZE as usize).ok_or(Error::OutOfRange)?;
        Ok(page + offset as u64 % PAGE_SIZE)
    }

    /// Fills `into` from `offset`. [`Error::OutOfRange`] if that is not all within the buffer.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        self.mapped.read(offset, into)
    }

    /// Writes `bytes` at `offset`. [`Error::OutOfRange`] if that is not all within the buffer.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.mapped.write(offset, bytes)
    }

    words! {
        load16 store16 u16;
        load32 store32 u32;
        load64 store64 u64;
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        for mapping in self.mappings.drain(..) {
            // What can't be taken back stays pinned, and harms nobody.
            let _ = self.space.unmap(mapping);
        }
    }
}
