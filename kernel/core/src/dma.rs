//! DMA spaces: what each device reaches of memory by itself.
//!
//! The life of a mapping: a driver names pages of a memory; the kernel pins their frames ([`crate::memory`], `pins`) and tells the
//! addresses by which the device reaches them. The driver puts these into the device's own structures. When the device is done, the driver
//! takes the mapping back, and the frames are an ordinary memory's again, or free if that is gone.
//!
//! A driver that dies takes nothing back, and its device goes on. So the space, and with it all that is mapped, outlives the driver: whoever
//! started it keeps a handle, stops the device, and closes the handle only then. Nobody ever gets a frame that a device may still write to.
//!
//! Where something translates devices' addresses (an IOMMU), a device finds what is mapped in its space, at the addresses that the driver was
//! told, and nothing else ([`translation`]). A device that tries something else is refused, loses all that it had, and whoever watches the
//! space is told. Elsewhere addresses are physical, and nothing keeps a device from using others.
//!
//! The record of a mapping, and of each page of it, is paid for by the account of the space; the frame stays with whoever paid for it.

mod translation;

use crate::account::Account;
use crate::devices::{DeviceEntry, Hardware};
use crate::event::Event;
use crate::kernel::Kernel;
use crate::machine::{Frame, PAGE_SIZE};
use crate::memory::Memory;
use crate::object::{Header, ObjectRef, cost};
use crate::pool::Id;
use alloc::vec::Vec;
use quire_abi::Error;
use quire_abi::dma::MAX_DMA_PAGES;
use translation::Translation;

/// The first page of a device's addresses that is given out, where they are translated: above those at which interrupts are.
const FIRST_PAGE: u64 = (1 << 32) / PAGE_SIZE;

/// What one device reaches.
#[derive(Debug)]
pub struct DmaSpace {
    /// References and account.
    pub header: Header,
    /// The device: its bus, device and function numbers.
    pub requester: u16,
    /// By what its addresses are translated; `None`: they are physical.
    pub(crate) translation: Option<Translation>,
    /// The device may still look for memory.
    is_attached: bool,
    /// Who is told when the device is refused: the event, which has a reference for it, and its bits.
    pub(crate) watch: Option<(Id<Event>, u64)>,
    /// How often it was.
    pub(crate) refusals: u64,
    /// The page that it wanted last; plus 1 if it was to be written.
    pub(crate) refused_address: u64,
    /// The first of its mappings.
    mappings: Option<Id<DmaMapping>>,
}

/// What a device may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
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
    access: DeviceAccess,
    /// Where the device finds the first, as the number of a page; `None`: each where it is.
    first_page: Option<u64>,
}

impl DmaMapping {
    /// Whose it is.
    pub(crate) fn space(&self) -> Id<DmaSpace> {
        self.space
    }

    /// The device's addresses, and what it finds there, in the order of the pages.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, DeviceEntry)> {
        (0u64..).zip(&self.frames).map(|(index, frame)| {
            let page = self.first_page.map_or(u64::from(frame.0), |first| first + index);
            (page * PAGE_SIZE, DeviceEntry::Page { frame: *frame, write: self.access == DeviceAccess::Write })
        })
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
    /// Makes a DMA space for the device `requester`, which from now on finds nothing else, where that can be had.
    ///
    /// # Errors
    /// `Overlap` if it has one, `Full` if the machine can't confine more devices, `NoMemory`, `AccountLimit`.
    pub fn create_dma(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        requester: u16,
    ) -> Result<Id<DmaSpace>, Error> {
        if self.dma_spaces.iter().any(|(_, space)| space.requester == requester) {
            return Err(Error::Overlap);
        }
        self.charge(account, cost::DMA_SPACE)?;
        let space = DmaSpace {
            header: Header::new(account),
            requester,
            translation: None,
            is_attached: false,
            watch: None,
            refusals: 0,
            refused_address: 0,
            mappings: None,
        };
        let id = self.dma_spaces.insert(space).map_err(|_| self.refund(account, cost::DMA_SPACE))?;
        if let Err(error) = self.attach(m, id) {
            self.destroy_dma(m, id);
            return Err(error);
        }
        Ok(id)
    }

    /// Confines the device of a new space, where that can be had.
    fn attach(&mut self, m: &mut impl Hardware, id: Id<DmaSpace>) -> Result<(), Error> {
        let Some(levels) = m.device_table_levels() else { return Ok(()) };
        let DmaSpace { requester, header: Header { account, .. }, .. } = self.dma_spaces[id];
        let domain = u16::try_from(id.index()).ok().and_then(|index| index.checked_add(1)).ok_or(Error::Full)?;
        let translation = Translation::new(m, &mut self.memory, account, (domain, levels))?;
        let root = translation.root();
        self.dma_spaces[id].translation = Some(translation);
        // One for each bus, at most, for as long as the machine runs.
        let frame = match m.wants_frame_to_attach(requester) {
            true => Some(self.memory.allocate_for_kernel(m, 1)?),
            false => None,
        };
        self.dma_spaces[id].is_attached = m.attach_device(requester, domain, root, frame);
        if self.dma_spaces[id].is_attached { Ok(()) } else { Err(Error::Full) }
    }

    /// Pins pages of a memory (which, from which page on, how many) and lets the device of a space reach them.
    ///
    /// # Errors
    /// `OutOfRange`; `BadState` for memory that is not anonymous or contiguous; `Revoked`; `Full` if a page is mapped too often, or too
    /// much is; `NoMemory`, `AccountLimit`. Nothing is pinned then.
    pub(crate) fn map_for_device(
        &mut self,
        m: &mut impl Hardware,
        space: Id<DmaSpace>,
        (memory, first, pages): (Id<Memory>, u64, usize),
        access: DeviceAccess,
    ) -> Result<Id<DmaMapping>, Error> {
        let origin = self.memory.pinnable(memory, first, pages as u64)?;
        let mut frames = Vec::new();
        frames.try_reserve_exact(pages).map_err(|_| Error::NoMemory)?;
        self.charge(self.dma_spaces[space].header.account, mapping_cost(pages))?;
        let result = self.memory.pin_pages(m, memory, (first, pages as u64), &mut frames).map_err(Error::from);
        let pinned = frames.len();
        let mapping =
            DmaMapping { space, previous: None, next: None, memory: origin, frames, access, first_page: None };
        let id = match self.dma_mappings.reserve(1) {
            Ok(()) => self.dma_mappings.insert(mapping).map_err(|_| Error::NoMemory)?,
            Err(_) => {
                self.credit(self.dma_spaces[space].header.account, mapping_cost(pages));
                self.memory.unpin_pages(mapping.memory, &mapping.frames);
                return Err(Error::NoMemory);
            }
        };
        self.link(id);
        let result = result.and_then(|()| self.show(m, id));
        if let Err(error) = result {
            // What was charged for pages that were not pinned is not the mapping's.
            let account = self.dma_spaces[space].header.account;
            self.credit(account, (pages - pinned) as u64 * cost::DMA_PAGE);
            self.unmap_for_device(m, id);
            return Err(error);
        }
        Ok(id)
    }

    /// Puts a new mapping at the head of its space's list.
    fn link(&mut self, id: Id<DmaMapping>) {
        let space = self.dma_mappings[id].space;
        let next = self.dma_spaces[space].mappings.replace(id);
        self.dma_mappings[id].next = next;
        if let Some(next) = next {
            self.dma_mappings[next].previous = Some(id);
        }
    }

    /// Lets the device find a new mapping. Where depends on the mapping's place in the pool, which nobody else has: so addresses need no
    /// bookkeeping of their own, and tables are used again and again.
    fn show(&mut self, m: &mut impl Hardware, id: Id<DmaMapping>) -> Result<(), Error> {
        let mapping = &mut self.dma_mappings[id];
        let DmaSpace { translation: Some(translation), header, .. } = &self.dma_spaces[mapping.space] else {
            return Ok(());
        };
        let first = FIRST_PAGE + u64::from(id.index()) * MAX_DMA_PAGES as u64;
        if first + MAX_DMA_PAGES as u64 > translation.end_page() {
            return Err(Error::Full);
        }
        mapping.first_page = Some(first);
        for (address, entry) in mapping.entries() {
            translation.set(m, &mut self.memory, header.account, (address / PAGE_SIZE, entry))?;
        }
        if m.caches_absent_device_entries() {
            m.forget_device_entries(translation.domain);
        }
        Ok(())
    }

    /// Takes a mapping back.
    pub(crate) fn unmap_for_device(&mut self, m: &mut impl Hardware, id: Id<DmaMapping>) {
        let Some(mapping) = self.dma_mappings.remove(id) else { return };
        match mapping.previous {
            Some(previous) => self.dma_mappings[previous].next = mapping.next,
            None => self.dma_spaces[mapping.space].mappings = mapping.next,
        }
        if let Some(next) = mapping.next {
            self.dma_mappings[next].previous = mapping.previous;
        }
        let space = &self.dma_spaces[mapping.space];
        if let (Some(translation), Some(_)) = (&space.translation, mapping.first_page) {
            mapping.entries().for_each(|(address, _)| translation.clear(m, address / PAGE_SIZE));
            if space.is_attached {
                m.forget_device_entries(translation.domain);
            }
        }
        self.credit(space.header.account, mapping.cost());
        self.memory.unpin_pages(mapping.memory, &mapping.frames);
    }

    /// The last handle is gone: so is all that is mapped.
    pub(crate) fn destroy_dma(&mut self, m: &mut impl Hardware, id: Id<DmaSpace>) {
        self.detach(m, id);
        while let Some(mapping) = self.dma_spaces[id].mappings {
            self.unmap_for_device(m, mapping);
        }
        let Some(space) = self.dma_spaces.remove(id) else { return };
        if let Some(translation) = space.translation {
            translation.free(m, &mut self.memory);
        }
        if let Some((event, _)) = space.watch {
            self.release(m, ObjectRef::Event(event));
        }
        self.credit(space.header.account, cost::DMA_SPACE);
    }

    /// The device finds nothing any more.
    fn detach(&mut self, m: &mut impl Hardware, id: Id<DmaSpace>) {
        let space = &mut self.dma_spaces[id];
        if let Some(translation) = space.translation.as_ref().filter(|_| space.is_attached) {
            m.detach_device(space.requester, translation.domain);
            space.is_attached = false;
        }
    }

    // ---- devices that go astray ------------------------------------------------------------------------------------

    /// Sets bits of an event when the device is refused, at once if it has been.
    pub(crate) fn watch_dma(&mut self, m: &mut impl Hardware, id: Id<DmaSpace>, event: Id<Event>, mask: u64) {
        self.retain(ObjectRef::Event(event));
        if let Some((previous, _)) = self.dma_spaces[id].watch.replace((event, mask)) {
            self.release(m, ObjectRef::Event(previous));
        }
        if self.dma_spaces[id].refusals != 0 {
            self.update_event(m, event, mask, 0);
        }
    }

    /// A device wanted something at an address (plus 1 if to write) that is not mapped for it. It is cut off: what it wants next is refused
    /// without a word. Tells whether it has a space.
    pub fn on_device_fault(&mut self, m: &mut impl Hardware, cpu: usize, requester: u16, address: u64) -> bool {
        self.cpu = cpu;
        let found = self.dma_spaces.iter().find(|(_, space)| space.requester == requester).map(|(id, _)| id);
        let Some(id) = found else { return false };
        self.detach(m, id);
        let space = &mut self.dma_spaces[id];
        space.refusals = space.refusals.saturating_add(1);
        space.refused_address = address;
        if let Some((event, mask)) = space.watch {
            self.update_event(m, event, mask, 0);
        }
        self.reap(m);
        true
    }

    /// The mappings in a space's list.
    #[cfg(test)]
    pub(crate) fn dma_mappings_of(&self, id: Id<DmaSpace>) -> impl Iterator<Item = Id<DmaMapping>> {
        core::iter::successors(self.dma_spaces[id].mappings, |at| self.dma_mappings[*at].next)
    }
}
