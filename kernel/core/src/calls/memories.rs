//! Memories.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::machine::{Caching, Frame, PAGE_SIZE};
use crate::memory::{FaultError, Memory, MemoryError, MemoryKind, Place, Side, Stop, Transfer};
use crate::object::{Capability, ObjectRef, full_rights};
use crate::pool::Id;
use quire_abi::space::{MAX_TRANSFER, MemoryFlags, MemoryInfo};
use quire_abi::{Error, ObjectKind, Rights};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn memory_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        let flags = memory_flags(self.value(2))?;
        if flags.contains(MemoryFlags::UNCACHED) {
            return Err(Error::BadArgument);
        }
        let kind = match flags.contains(MemoryFlags::CONTIGUOUS) {
            true => MemoryKind::Contiguous,
            false => MemoryKind::Anonymous,
        };
        let length = self.value(1);
        self.reserve(1)?;
        let memory = self.kernel.memory.create_memory(self.m, account, length, kind)?;
        self.give(ObjectRef::Memory(memory))
    }

    pub(super) fn memory_create_physical(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let account = self.object(1, Rights::USE)?;
        let (address, length) = (self.value(2), self.value(3));
        let flags = memory_flags(self.value(4))?;
        if flags.contains(MemoryFlags::CONTIGUOUS) {
            return Err(Error::BadArgument);
        }
        let caching = match flags.contains(MemoryFlags::UNCACHED) {
            true => Caching::Uncached,
            false => Caching::WriteBack,
        };
        if !address.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misaligned);
        }
        let first = u32::try_from(address / PAGE_SIZE).map(Frame).map_err(|_| Error::OutOfRange)?;
        self.reserve(1)?;
        let memory = self.kernel.memory.create_physical(account, first, length / PAGE_SIZE, caching)?;
        let rights = full_rights(ObjectKind::Memory).difference(Rights::EXECUTE);
        self.give_capability(Capability { object: ObjectRef::Memory(memory), rights })
    }

    pub(super) fn memory_snapshot(&mut self) -> CallResult {
        let memory = self.object(0, Rights::READ)?;
        let account = self.object(1, Rights::USE)?;
        self.reserve(1)?;
        let copy = self.kernel.memory.snapshot(self.m, memory, account)?;
        // A copy of what may not be executed may not be executed either.
        let executable = self.capability(0, Rights::EXECUTE).is_ok();
        let all = full_rights(ObjectKind::Memory);
        let rights = if executable { all } else { all.difference(Rights::EXECUTE) };
        self.give_capability(Capability { object: ObjectRef::Memory(copy), rights })
    }

    pub(super) fn memory_window(&mut self) -> CallResult {
        let memory = self.object(0, Rights::MAP)?;
        let rights = self.capability(0, Rights::MAP)?.rights;
        let account = self.object(1, Rights::USE)?;
        let (offset, length) = (self.value(2), self.value(3));
        self.reserve(1)?;
        let window = self.kernel.memory.window(memory, account, offset, length)?;
        let rights = rights | Rights::MANAGE | Rights::DUPLICATE | Rights::TRANSFER;
        self.give_capability(Capability { object: ObjectRef::Memory(window), rights })
    }

    pub(super) fn memory_revoke(&mut self) -> CallResult {
        let window = self.object(0, Rights::MANAGE)?;
        self.kernel.memory.revoke(self.m, window)?;
        Ok(Outcome::Done)
    }

    pub(super) fn memory_resize(&mut self) -> CallResult {
        let memory = self.object(0, Rights::MANAGE | Rights::WRITE)?;
        let length = self.value(1);
        self.kernel.resize_memory(self.m, memory, length)?;
        Ok(Outcome::Done)
    }

    pub(super) fn memory_read(&mut self) -> CallResult {
        let memory: Id<Memory> = self.object(0, Rights::READ)?;
        let (offset, address, length) = (self.value(1), self.value(2), self.value(3));
        self.transfer(Place::Space(self.space, address), Place::Memory(memory, offset), length)
    }

    pub(super) fn memory_write(&mut self) -> CallResult {
        let memory: Id<Memory> = self.object(0, Rights::WRITE)?;
        let (offset, address, length) = (self.value(1), self.value(2), self.value(3));
        self.transfer(Place::Memory(memory, offset), Place::Space(self.space, address), length)
    }

    pub(super) fn memory_discard(&mut self) -> CallResult {
        let memory = self.object(0, Rights::WRITE)?;
        let (offset, length) = (self.value(1), self.value(2));
        self.kernel.memory.discard(self.m, memory, offset, length)?;
        Ok(Outcome::Done)
    }

    pub(super) fn memory_info(&mut self) -> CallResult {
        let memory = self.object(0, Rights::READ)?;
        let info = self.kernel.memory.info(memory);
        let frame = info.first_frame.filter(|_| self.capability(0, Rights::MANAGE).is_ok());
        let record = MemoryInfo {
            size: info.size_bytes,
            resident_pages: info.resident_pages,
            physical_address: frame.map_or(u64::MAX, |frame| u64::from(frame.0) * PAGE_SIZE),
            ..self.managed_part(memory)
        };
        self.write(1, &record)
    }

    pub(super) fn copy(&mut self) -> CallResult {
        let to = self.place(0, Rights::WRITE)?;
        let from = self.place(2, Rights::READ)?;
        self.transfer(to, from, self.value(4))
    }

    /// A memory or space in argument `index`, with the offset in the next.
    fn place(&self, index: usize, rights: Rights) -> Result<Place, Error> {
        let offset = self.value(index + 1);
        match self.capability(index, rights)?.object {
            ObjectRef::Memory(id) => Ok(Place::Memory(id, offset)),
            ObjectRef::Space(id) => Ok(Place::Space(id, offset)),
            ObjectRef::Account(_)
            | ObjectRef::Thread(_)
            | ObjectRef::Table(_)
            | ObjectRef::Channel(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Queue(_)
            | ObjectRef::Interrupt(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Timer(_)
            | ObjectRef::Event(_)
            | ObjectRef::Pager(_)
            | ObjectRef::Dma(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => Err(Error::WrongKind),
        }
    }

    /// Moves bytes. Having moved none is an error that says whose fault it was.
    pub(super) fn transfer(&mut self, to: Place, from: Place, len: u64) -> CallResult {
        let Transfer { moved, stopped } = self.kernel.memory.transfer(self.m, to, from, len.min(MAX_TRANSFER));
        match stopped {
            Some(Stop { side, error }) if moved == 0 => {
                Err(self.blame(if side == Side::To { to } else { from }, error))
            }
            Some(_) | None => Ok(Outcome::Value(moved)),
        }
    }

    /// Whose fault it was. A page that is not there yet is waited for only if it is in the caller's own space; whoever acts on
    /// the memory of others is told, and the pager is asked for the page meanwhile.
    fn blame(&mut self, place: Place, error: MemoryError) -> Error {
        match (place, error) {
            (Place::Space(space, _), MemoryError::Fault(error)) if space == self.space => self.own_address(error),
            (Place::Memory(..) | Place::Space(..), MemoryError::Fault(FaultError::NotPresent(absent))) => {
                match self.kernel.want_page(self.m, absent) {
                    Ok(()) => Error::NotPresent,
                    Err(error) => error,
                }
            }
            (Place::Memory(..), MemoryError::Fault(FaultError::BeyondEnd)) => Error::OutOfRange,
            (Place::Space(space, _), MemoryError::Fault(error)) if space != self.space => match error {
                FaultError::NotMapped | FaultError::AccessDenied | FaultError::BeyondEnd | FaultError::Revoked => {
                    Error::RemoteFault
                }
                FaultError::NotPresent(_) | FaultError::NoPager | FaultError::NoMemory | FaultError::AccountLimit => {
                    error.into()
                }
            },
            (Place::Memory(..) | Place::Space(..), error) => error.into(),
        }
    }
}

fn memory_flags(value: u64) -> Result<MemoryFlags, Error> {
    u32::try_from(value).ok().and_then(MemoryFlags::from_bits).ok_or(Error::BadArgument)
}
