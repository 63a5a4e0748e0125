//! Address spaces.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::memory::{
    CommitError, FaultError, Inherit, MapSource, MemoryError, Place, Replace, Sharing, Space, SpaceOp,
};
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use alloc::vec::Vec;
use quire_abi::space::{MAX_COMMIT_OPS, MapFlags, Protection, RegionInfo, SpaceInfo, SpaceOp as Record, SpaceOpKind};
use quire_abi::{Error, Handle, Rights};

/// All that a region of zero pages may ever allow.
const ALL_ACCESS: Protection = Protection::all();

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn space_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        self.reserve(1)?;
        let space = self.kernel.memory.create_space(self.m, account)?;
        self.give(ObjectRef::Space(space))
    }

    pub(super) fn space_change(&mut self) -> CallResult {
        let space: Id<Space> = self.object(0, Rights::MAP)?;
        let op = Record::unpacked(self.value(1)).ok_or(Error::BadArgument)?;
        let (address, length, offset, object) = (self.value(2), self.value(3), self.value(4), self.handle(5)?);
        let record = Record { address, length, offset, object, ..op };
        Ok(self.commit_one(space, &record))
    }

    /// A commit of one operation, which needs no list.
    fn commit_one(&mut self, space: Id<Space>, record: &Record) -> Outcome {
        match self.decode_op(space, record, 1) {
            Ok((op, found)) => self.commit(space, &[op], found),
            Err(error) => Outcome::Failed(error, 0),
        }
    }

    pub(super) fn space_commit(&mut self) -> CallResult {
        let space: Id<Space> = self.object(0, Rights::MAP)?;
        let address = self.value(1);
        let count = usize::try_from(self.value(2)).ok().filter(|count| *count <= MAX_COMMIT_OPS);
        let count = count.ok_or(Error::BadArgument)?;
        if count == 1 {
            let record: Record = self.read_at(address)?;
            return Ok(self.commit_one(space, &record));
        }
        let mut ops = Vec::new();
        ops.try_reserve_exact(count).map_err(|_| Error::NoMemory)?;
        let mut found = 0;
        for index in 0..count {
            let at = address.checked_add((index * size_of::<Record>()) as u64).ok_or(Error::BadAddress)?;
            let record: Record = self.read_at(at)?;
            match self.decode_op(space, &record, count) {
                Ok((op, address)) => {
                    ops.push(op);
                    found = address;
                }
                Err(error) => return Ok(Outcome::Failed(error, index as u64)),
            }
        }
        Ok(self.commit(space, &ops, found))
    }

    /// Carries the operations out; `found` is the address that the last one works on.
    fn commit(&mut self, space: Id<Space>, ops: &[SpaceOp], found: u64) -> Outcome {
        match self.kernel.memory.commit(self.m, space, ops) {
            Ok(()) => Outcome::Values(ops.len() as u64, found),
            Err(CommitError { index, error }) => Outcome::Failed(refusal(error), index as u64),
        }
    }

    /// An operation, and the address that it works on.
    fn decode_op(&mut self, space: Id<Space>, record: &Record, count: usize) -> Result<(SpaceOp, u64), Error> {
        let kind = SpaceOpKind::from_number(record.kind).ok_or(Error::BadArgument)?;
        let (addr, len) = (record.address, record.length);
        let op = match kind {
            SpaceOpKind::Map => return self.decode_map(space, record, count),
            SpaceOpKind::Unmap => SpaceOp::Unmap { addr, len },
            SpaceOpKind::Protect => SpaceOp::Protect { addr, len, access: protection(record)? },
            SpaceOpKind::Discard => SpaceOp::Discard { addr, len },
            SpaceOpKind::Move => SpaceOp::Move { from: addr, len, to: record.offset },
            SpaceOpKind::Clone => {
                let source = self.kernel.tables[self.table].get(record.object, Rights::READ)?;
                SpaceOp::Clone { source }
            }
        };
        Ok((op, addr))
    }

    fn decode_map(&mut self, space: Id<Space>, record: &Record, count: usize) -> Result<(SpaceOp, u64), Error> {
        let flags = MapFlags::from_bits(record.flags).ok_or(Error::BadArgument)?;
        let access = protection(record)?;
        let sharing = if flags.contains(MapFlags::PRIVATE) { Sharing::Private } else { Sharing::Shared };
        let (source, max_access) = self.decode_source(record, sharing)?;
        if !max_access.contains(access) {
            return Err(Error::MissingRights);
        }
        let find = flags.contains(MapFlags::FIND);
        if find && (count != 1 || flags.contains(MapFlags::REPLACE)) {
            return Err(Error::BadArgument);
        }
        let len = record.length;
        let addr = match find {
            true => self.kernel.memory.find_range(space, record.address, len)?,
            false => record.address,
        };
        let replace = if flags.contains(MapFlags::REPLACE) { Replace::Existing } else { Replace::Nothing };
        let inherit = if flags.contains(MapFlags::NO_INHERIT) { Inherit::Omit } else { Inherit::Clone };
        Ok((SpaceOp::Map { addr, len, source, sharing, access, max_access, inherit, replace }, addr))
    }

    /// What is mapped, and what the region may ever allow: what the handle's rights do.
    fn decode_source(&self, record: &Record, sharing: Sharing) -> Result<(MapSource, Protection), Error> {
        if record.object == Handle::NONE {
            return match sharing {
                Sharing::Private => Ok((MapSource::Anonymous, ALL_ACCESS)),
                Sharing::Shared => Err(Error::BadArgument),
            };
        }
        let id = self.kernel.tables[self.table].get(record.object, Rights::MAP)?;
        let Capability { rights, .. } = self.kernel.tables[self.table].lookup(record.object)?;
        let writable = sharing == Sharing::Private || rights.contains(Rights::WRITE);
        let mut most = Protection::empty();
        most.set(Protection::READ, rights.contains(Rights::READ));
        most.set(Protection::WRITE, rights.contains(Rights::READ) && writable);
        most.set(Protection::EXECUTE, rights.contains(Rights::EXECUTE));
        Ok((MapSource::Memory { id, offset: record.offset }, most))
    }

    pub(super) fn space_query(&mut self) -> CallResult {
        let space = self.object(0, Rights::READ)?;
        let region = self.kernel.memory.query(space, self.value(1)).ok_or(Error::NotFound)?;
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::PRIVATE, region.sharing == Sharing::Private);
        flags.set(MapFlags::NO_INHERIT, region.inherit == Inherit::Omit);
        let record = RegionInfo {
            address: region.addr,
            length: region.len,
            offset: region.memory.map_or(0, |(_, offset)| offset),
            protection: region.access.bits(),
            flags: flags.bits(),
            private_pages: region.private_pages,
        };
        self.write(2, &record)
    }

    pub(super) fn space_info(&mut self) -> CallResult {
        let space: Id<Space> = self.object(0, Rights::READ)?;
        let (regions, private_pages) = self.kernel.memory.space_sizes(space);
        self.write(1, &SpaceInfo { regions, private_pages })
    }

    pub(super) fn space_read(&mut self) -> CallResult {
        let space = self.object(0, Rights::READ)?;
        let (there, here, len) = (self.value(1), self.value(2), self.value(3));
        self.transfer(Place::Space(self.space, here), Place::Space(space, there), len)
    }

    pub(super) fn space_write(&mut self) -> CallResult {
        let space = self.object(0, Rights::WRITE)?;
        let (there, here, len) = (self.value(1), self.value(2), self.value(3));
        self.transfer(Place::Space(space, there), Place::Space(self.space, here), len)
    }

    pub(super) fn space_exchange(&mut self) -> CallResult {
        let space = self.object(0, Rights::WRITE)?;
        let address = self.value(1);
        let word = |value: u64| u32::try_from(value).map_err(|_| Error::BadArgument);
        let (expected, new) = (word(self.value(2))?, word(self.value(3))?);
        if !address.is_multiple_of(size_of::<u32>() as u64) {
            return Err(Error::Misaligned);
        }
        match self.kernel.memory.exchange_user(self.m, space, address, (expected, new)) {
            Ok(found) => Ok(Outcome::Value(found.into())),
            Err(FaultError::NoMemory) => Err(Error::NoMemory),
            Err(FaultError::AccountLimit) => Err(Error::AccountLimit),
            Err(
                FaultError::NotMapped
                | FaultError::AccessDenied
                | FaultError::BeyondEnd
                | FaultError::Revoked
                | FaultError::NotPresent(_)
                | FaultError::NoPager,
            ) => Err(Error::RemoteFault),
        }
    }
}

/// The error of a commit: the range that an operation names is the space's, not the caller's pointer.
fn refusal(error: MemoryError) -> Error {
    match error {
        MemoryError::Fault(FaultError::NotMapped | FaultError::BeyondEnd) => Error::NotFound,
        MemoryError::Fault(FaultError::AccessDenied) => Error::MissingRights,
        MemoryError::Fault(
            FaultError::Revoked
            | FaultError::NotPresent(_)
            | FaultError::NoPager
            | FaultError::NoMemory
            | FaultError::AccountLimit,
        )
        | MemoryError::Misaligned
        | MemoryError::OutOfRange
        | MemoryError::BadArgument
        | MemoryError::BadState
        | MemoryError::Overlap
        | MemoryError::TooManyRegions
        | MemoryError::TooManyPins => error.into(),
    }
}

fn protection(record: &Record) -> Result<Protection, Error> {
    Protection::from_bits(record.protection).ok_or(Error::BadArgument)
}
