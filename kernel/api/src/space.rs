//! Address spaces, and commits: lists of changes applied all or nothing.

use crate::account::{Account, create_from};
use crate::handle::{Object, argument, object};
use crate::memory::{CopySide, Memory};
use crate::raw::{check, syscall, syscall3};
use alloc::vec::Vec;
use quire_abi::space::{
    MAX_COMMIT_OPS, MAX_TRANSFER, MapFlags, Protection, RegionInfo, SpaceInfo, SpaceOp, SpaceOpKind,
};
use quire_abi::{Call, Error, Handle};

object! {
    /// What a thread sees. Always named, so that everything works remotely.
    AddressSpace
}

impl CopySide for AddressSpace {}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many operations were applied: all.
    pub applied: u64,
    /// The address that [`MapFlags::FIND`] chose.
    pub address: u64,
}

/// Why a commit did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitError {
    /// What was wrong.
    pub error: Error,
    /// With which operation.
    pub index: u64,
}

impl From<CommitError> for Error {
    fn from(failed: CommitError) -> Self {
        failed.error
    }
}

impl AddressSpace {
    /// Makes an empty address space. Needs `USE`.
    pub fn create(account: &Account) -> Result<Self, Error> {
        create_from(Call::SpaceCreate, account, 0, 0)
    }

    /// Applies the operations, all or nothing. Needs `MAP`.
    ///
    /// On the program's own space this is as powerful as writing to the program's memory behind the compiler's back:
    /// unmap or replace only what no reference of the program points to.
    pub fn commit(&self, commit: &Commit) -> Result<Committed, CommitError> {
        self.commit_raw(&commit.operations)
    }

    /// Applies operations that the caller has put together, all or nothing. Needs `MAP`.
    pub fn commit_raw(&self, operations: &[SpaceOp]) -> Result<Committed, CommitError> {
        let returned = match operations {
            [op] if let Some(packed) = op.packed() => {
                let arguments = [argument(self), packed, op.address, op.length, op.offset, op.object.0.into()];
                // SAFETY: the call takes no pointer; what a change of the program's own space can do is said at `commit`.
                unsafe { syscall(Call::SpaceChange, arguments) }
            }
            _ => {
                let arguments = [argument(self), operations.as_ptr() as u64, operations.len() as u64];
                // SAFETY: the call reads `operations.len()` operations there.
                unsafe { syscall3(Call::SpaceCommit, arguments) }
            }
        };
        match check(returned.status) {
            Ok(()) => Ok(Committed { applied: returned.first, address: returned.second }),
            Err(error) => Err(CommitError { error, index: returned.first }),
        }
    }

    /// The region that contains `address`, or the next above. [`Error::NotFound`] above the last. Needs `READ`.
    pub fn query(&self, address: u64) -> Result<RegionInfo, Error> {
        let mut info = RegionInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `RegionInfo` there.
        unsafe { syscall3(Call::SpaceQuery, [argument(self), address, pointer]) }.unit()?;
        Ok(info)
    }

    /// How large it is. Needs `READ`.
    pub fn info(&self) -> Result<SpaceInfo, Error> {
        let mut info = SpaceInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `SpaceInfo` there.
        unsafe { syscall3(Call::SpaceInfo, [argument(self), pointer, 0]) }.unit()?;
        Ok(info)
    }

    /// Reads up to `buffer.len()` bytes at `address`, as the space's owner could; returns how many were read before the
    /// first that could not be. None is [`Error::RemoteFault`]. Needs `READ`.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = (buffer.len() as u64).min(MAX_TRANSFER);
        let arguments = [argument(self), address, buffer.as_mut_ptr() as u64, length, 0, 0];
        // SAFETY: the call writes at most `length` bytes of `buffer`.
        let returned = unsafe { syscall(Call::SpaceRead, arguments) };
        Ok(returned.value()?.min(length) as usize)
    }

    /// Fills `buffer` from `address`; [`Error::RemoteFault`] if not all can be read. Needs `READ`.
    pub fn read_exact(&self, address: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let count = self.read(address.checked_add(done as u64).ok_or(Error::RemoteFault)?, rest)?;
            if count == 0 {
                return Err(Error::RemoteFault);
            }
            done += count;
        }
        Ok(())
    }

    /// Writes up to `bytes.len()` bytes at `address`, as the space's owner could; returns how many were written before the
    /// first that could not be. None is [`Error::RemoteFault`]. Needs `WRITE`.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<usize, Error> {
        let length = (bytes.len() as u64).min(MAX_TRANSFER);
        let arguments = [argument(self), address, bytes.as_ptr() as u64, length, 0, 0];
        // SAFETY: the call reads at most `length` bytes of `bytes`.
        let returned = unsafe { syscall(Call::SpaceWrite, arguments) };
        Ok(returned.value()?.min(length) as usize)
    }

    /// Replaces the aligned word at `address` by `new` if it is `expected`, atomically; returns what it was. Needs `WRITE`.
    pub fn compare_exchange(&self, address: u64, expected: u32, new: u32) -> Result<u32, Error> {
        let arguments = [argument(self), address, expected.into(), new.into(), 0, 0];
        // SAFETY: the call touches no memory of this program but what the handle gives authority over.
        let value = unsafe { syscall(Call::SpaceExchange, arguments) }.value()?;
        Ok(value as u32)
    }

    /// Writes all of `bytes` at `address`; [`Error::RemoteFault`] if not all can be written. Needs `WRITE`.
    pub fn write_all(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let count = self.write(address.checked_add(done as u64).ok_or(Error::RemoteFault)?, rest)?;
            if count == 0 {
                return Err(Error::RemoteFault);
            }
            done += count;
        }
        Ok(())
    }
}

/// A list of changes to an address space, to be applied by [`AddressSpace::commit`].
///
/// At most [`MAX_COMMIT_OPS`] operations fit one commit; [`Commit::is_full`] tells.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    operations: Vec<SpaceOp>,
}

impl Commit {
    /// An empty list.
    pub const fn new() -> Self {
        Self { operations: Vec::new() }
    }

    /// Whether no operation fits any more.
    pub fn is_full(&self) -> bool {
        self.operations.len() >= MAX_COMMIT_OPS
    }

    /// How many operations are in it.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Empties the list; its storage is kept.
    pub fn clear(&mut self) {
        self.operations.clear();
    }

    /// Adds an operation that the caller has put together.
    pub fn push(&mut self, operation: SpaceOp) -> &mut Self {
        self.operations.push(operation);
        self
    }

    /// Maps `len_bytes` bytes of `memory` from `offset` at `address`.
    pub fn map(
        &mut self,
        memory: &Memory,
        offset: u64,
        address: u64,
        len_bytes: u64,
        protection: Protection,
        flags: MapFlags,
    ) -> &mut Self {
        self.push(SpaceOp {
            kind: SpaceOpKind::Map as u32,
            protection: protection.bits(),
            flags: flags.bits(),
            object: memory.raw(),
            address,
            length: len_bytes,
            offset,
            reserved: 0,
        })
    }

    /// Maps private zero pages at `address`.
    pub fn map_zero(&mut self, address: u64, len_bytes: u64, protection: Protection, flags: MapFlags) -> &mut Self {
        self.push(SpaceOp {
            kind: SpaceOpKind::Map as u32,
            protection: protection.bits(),
            flags: (flags | MapFlags::PRIVATE).bits(),
            object: Handle::NONE,
            address,
            length: len_bytes,
            offset: 0,
            reserved: 0,
        })
    }

    /// Unmaps all that is in the range.
    pub fn unmap(&mut self, address: u64, len_bytes: u64) -> &mut Self {
        self.range(SpaceOpKind::Unmap, address, len_bytes)
    }

    /// Changes the protection of the range, which must be mapped without holes.
    pub fn protect(&mut self, address: u64, len_bytes: u64, protection: Protection) -> &mut Self {
        self.push(SpaceOp {
            kind: SpaceOpKind::Protect as u32,
            protection: protection.bits(),
            address,
            length: len_bytes,
            ..SpaceOp::default()
        })
    }

    /// Forgets the private pages in the range.
    pub fn discard(&mut self, address: u64, len_bytes: u64) -> &mut Self {
        self.range(SpaceOpKind::Discard, address, len_bytes)
    }

    /// Moves the regions and private pages of the range to `target`, which must be free.
    pub fn move_to(&mut self, address: u64, len_bytes: u64, target: u64) -> &mut Self {
        self.push(SpaceOp {
            kind: SpaceOpKind::Move as u32,
            address,
            length: len_bytes,
            offset: target,
            ..SpaceOp::default()
        })
    }

    /// Makes the space, which must be empty, a copy of `source` (needs `READ` there).
    pub fn clone_of(&mut self, source: &AddressSpace) -> &mut Self {
        self.push(SpaceOp { kind: SpaceOpKind::Clone as u32, object: source.raw(), ..SpaceOp::default() })
    }

    fn range(&mut self, kind: SpaceOpKind, address: u64, len_bytes: u64) -> &mut Self {
        self.push(SpaceOp { kind: kind as u32, address, length: len_bytes, ..SpaceOp::default() })
    }
}
