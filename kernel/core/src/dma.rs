//! DMA spaces: what each device reaches of memory by itself.
//!
//! The life of a mapping: a driver names pages of a memory; the kernel pins their frames ([`crate::memory`], `pins`) and tells the
//! addresses by which the device reaches them. The driver puts these into the device's own structures. When the device is done, the driver
//! takes the mapping back, and the frames are an ordinary memory's again, or free if that is gone.
//!
//! A driver that dies takes nothing back, and its device goes on. So the space, and with it all that is mapped, outlives the driver: whoever
//! started it keeps a handle, stops the device, and closes the handle only then. Nobody ever gets a frame that a device may still write to.
//!
//! The record of a mapping, and of each page of it, is paid for by the account of the space; the frame stays with whoever paid for it.

use crate::account::Account;
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::machine::Frame;
use crate::memory::Memory;
use crate::object::{Header, cost};
use crate::pool::Id;
use alloc::vec::Vec;
use quire_abi::Error;

/// What one device reaches.
#[derive(Debug)]
pub struct DmaSpace {
    /// References and account.
    pub header: Header,
    /// The device: its bus, device and function numbers.
    pub requester: u16,
    /// The first of its mappings.
    mappings: Option<Id<DmaMapping>>,
}

/// Pages that were mapped by one call.
#[derive(Debug)]
pub struct DmaMapping {
    space: Id<DmaSpace>,
    previous: Option<Id<DmaMapping>>,
    next: Option<Id<DmaMapping>>,
    /// The memory that had the pages. Not kept alive: the frames are.
    memory: Id<Memory>,
    frames: Vec<Frame>,
}

impl DmaMapping {
    /// Whose it is.
    pub(crate) fn space(&self) -> Id<DmaSpace> {
        self.space
    }

    /// The frames, in the order of the pages.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// What the space's account pays for it.
    pub(crate) fn cost(&self) -> u64 {
        mapping_cost(self.frames.len())
    }

    /// The frames, each with the memory that it belonged to.
    #[cfg(test)]
    pub(crate) fn pins(&self) -> impl Iterator<Item = (Id<Memory>, Frame)> {
        self.frames.iter().map(|frame| (self.memory, *frame))
    }
}

const fn mapping_cost(pages: usize) -> u64 {
    cost::DMA_MAPPING + pages as u64 * cost::DMA_PAGE
}

impl Kernel {
    /// Makes a DMA space for the device `requester`.
    ///
    /// # Errors
    /// `Overlap` if it has one, `NoMemory`, `AccountLimit`.
    pub fn create_dma(&mut self, account: Id<Account>, requester: u16) -> Result<Id<DmaSpace>, Error> {
        if self.dma_spaces.iter().any(|(_, space)| space.requester == requester) {
            return Err(Error::Overlap);
        }
        self.charge(account, cost::DMA_SPACE)?;
        let space = DmaSpace { header: Header::new(account), requester, mappings: None };
        self.dma_spaces.insert(space).map_err(|_| self.refund(account, cost::DMA_SPACE))
    }

    /// Pins `pages` pages of a memory from a page on, for the device of a space.
    ///
    /// # Errors
    /// `OutOfRange`; `BadState` for memory that is not anonymous or contiguous; `Revoked`; `Full` if a page is mapped too often;
    /// `NoMemory`, `AccountLimit`. Nothing is pinned then.
    pub(crate) fn map_for_device(
        &mut self,
        m: &mut impl Hardware,
        space: Id<DmaSpace>,
        (memory, first): (Id<Memory>, u64),
        pages: usize,
    ) -> Result<Id<DmaMapping>, Error> {
        let origin = self.memory.pinnable(memory, first, pages as u64)?;
        let account = self.dma_spaces[space].header.account;
        let cost = mapping_cost(pages);
        self.dma_mappings.reserve(1).map_err(|_| Error::NoMemory)?;
        let mut frames = Vec::new();
        frames.try_reserve_exact(pages).map_err(|_| Error::NoMemory)?;
        self.charge(account, cost)?;
        for page in (first..).take(pages) {
            match self.memory.pin_page(m, memory, page) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    self.unpin_all(origin, &frames);
                    self.credit(account, cost);
                    return Err(error.into());
                }
            }
        }
        let next = self.dma_spaces[space].mappings;
        let mapping = DmaMapping { space, previous: None, next, memory: origin, frames };
        // The place was reserved.
        let id = self.dma_mappings.insert(mapping).map_err(|_| Error::NoMemory)?;
        if let Some(next) = next {
            self.dma_mappings[next].previous = Some(id);
        }
        self.dma_spaces[space].mappings = Some(id);
        Ok(id)
    }

    /// Takes a mapping back.
    pub(crate) fn unmap_for_device(&mut self, id: Id<DmaMapping>) {
        let Some(mapping) = self.dma_mappings.remove(id) else { return };
        match mapping.previous {
            Some(previous) => self.dma_mappings[previous].next = mapping.next,
            None => self.dma_spaces[mapping.space].mappings = mapping.next,
        }
        if let Some(next) = mapping.next {
            self.dma_mappings[next].previous = mapping.previous;
        }
        self.credit(self.dma_spaces[mapping.space].header.account, mapping.cost());
        self.unpin_all(mapping.memory, &mapping.frames);
    }

    fn unpin_all(&mut self, memory: Id<Memory>, frames: &[Frame]) {
        for frame in frames {
            self.memory.unpin_page(memory, *frame);
        }
    }

    /// The last handle is gone: so is all that is mapped.
    pub(crate) fn destroy_dma(&mut self, id: Id<DmaSpace>) {
        while let Some(mapping) = self.dma_spaces[id].mappings {
            self.unmap_for_device(mapping);
        }
        if let Some(space) = self.dma_spaces.remove(id) {
            self.credit(space.header.account, cost::DMA_SPACE);
        }
    }

    /// The mappings in a space's list.
    #[cfg(test)]
    pub(crate) fn dma_mappings_of(&self, id: Id<DmaSpace>) -> impl Iterator<Item = Id<DmaMapping>> {
        core::iter::successors(self.dma_spaces[id].mappings, |at| self.dma_mappings[*at].next)
    }
}
