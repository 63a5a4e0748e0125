//! DMA spaces.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::dma::DmaSpace;
use crate::machine::{Frame, PAGE_SIZE};
use crate::memory::Memory;
use crate::object::ObjectRef;
use crate::pool::Id;
use quire_abi::dma::{DmaFlags, MAX_DMA_PAGES};
use quire_abi::{Error, Rights};
use zerocopy::IntoBytes;

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn dma_create(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let account = self.object(1, Rights::USE)?;
        let requester = self.requester(2)?;
        self.reserve(1)?;
        let space = self.kernel.create_dma(account, requester)?;
        self.give(ObjectRef::Dma(space))
    }

    pub(super) fn dma_map(&mut self) -> CallResult {
        let space: Id<DmaSpace> = self.object(0, Rights::WRITE)?;
        let flags = u32::try_from(self.value(5)).ok().and_then(DmaFlags::from_bits).ok_or(Error::BadArgument)?;
        let rights = match flags.contains(DmaFlags::DEVICE_WRITES) {
            true => Rights::READ | Rights::WRITE,
            false => Rights::READ,
        };
        let memory: Id<Memory> = self.object(1, rights)?;
        let (offset, length, address) = (self.value(2), self.value(3), self.value(4));
        if !offset.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misaligned);
        }
        let pages = usize::try_from(length / PAGE_SIZE).map_err(|_| Error::OutOfRange)?;
        let mut addresses = [0u64; MAX_DMA_PAGES];
        let addresses = addresses.get_mut(..pages).filter(|some| !some.is_empty()).ok_or(Error::OutOfRange)?;
        // What is mapped is mapped: so first make sure that the addresses can be handed over.
        self.write_bytes(address, addresses.as_bytes())?;
        let mapping = self.kernel.map_for_device(self.m, space, (memory, offset / PAGE_SIZE), pages)?;
        for (at, frame) in addresses.iter_mut().zip(self.kernel.dma_mappings[mapping].frames()) {
            *at = device_address(*frame);
        }
        // Pinning may have moved the very page that the addresses go to.
        self.write_bytes(address, addresses.as_bytes()).inspect_err(|_| self.kernel.unmap_for_device(mapping))?;
        Ok(Outcome::Value(mapping.number()))
    }

    pub(super) fn dma_unmap(&mut self) -> CallResult {
        let space: Id<DmaSpace> = self.object(0, Rights::WRITE)?;
        let mapping = self.kernel.dma_mappings.find(self.value(1));
        let mapping = mapping.filter(|at| self.kernel.dma_mappings[*at].space() == space).ok_or(Error::NotFound)?;
        self.kernel.unmap_for_device(mapping);
        Ok(Outcome::Done)
    }
}

/// Without an IOMMU devices use physical addresses.
fn device_address(frame: Frame) -> u64 {
    u64::from(frame.0) * PAGE_SIZE
}
