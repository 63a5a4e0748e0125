//! DMA spaces.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::dma::{DeviceAccess, DmaSpace};
use crate::machine::PAGE_SIZE;
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
        let space = self.kernel.create_dma(self.m, account, requester)?;
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
        let access = if flags.contains(DmaFlags::DEVICE_WRITES) { DeviceAccess::Write } else { DeviceAccess::Read };
        let range = (memory, offset / PAGE_SIZE, pages);
        let mapping = self.kernel.map_for_device(self.m, space, range, access)?;
        for (at, (address, _)) in addresses.iter_mut().zip(self.kernel.dma_mappings[mapping].entries()) {
            *at = address;
        }
        // Pinning may have moved the very page that the addresses go to.
        if let Err(error) = self.write_bytes(address, addresses.as_bytes()) {
            self.kernel.unmap_for_device(self.m, mapping);
            return Err(error);
        }
        Ok(Outcome::Value(mapping.number()))
    }

    pub(super) fn dma_unmap(&mut self) -> CallResult {
        let space: Id<DmaSpace> = self.object(0, Rights::WRITE)?;
        let mapping = self.kernel.dma_mappings.find(self.value(1));
        let mapping = mapping.filter(|at| self.kernel.dma_mappings[*at].space() == space).ok_or(Error::NotFound)?;
        self.kernel.unmap_for_device(self.m, mapping);
        Ok(Outcome::Done)
    }

    pub(super) fn dma_watch(&mut self) -> CallResult {
        let space = self.object(0, Rights::MANAGE)?;
        let event = self.object(1, Rights::SEND)?;
        self.kernel.watch_dma(self.m, space, event, self.arguments[2]);
        Ok(Outcome::Done)
    }

    pub(super) fn dma_refused(&mut self) -> CallResult {
        let space: Id<DmaSpace> = self.object(0, Rights::MANAGE)?;
        let space = &self.kernel.dma_spaces[space];
        Ok(Outcome::Values(space.refusals, space.refused_address))
    }
}
