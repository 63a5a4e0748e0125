//! Memories, address spaces and accounts.

use super::paging::{note_both, note_memory, note_space};
use super::reserve::{is_full, with_reserve};
use super::{errno, errno_of_fork, machine};
use crate::errno::{Errno, Result};
use crate::platform::{Access, Backing, Change, Inherit, MAX_CHANGES, Sharing};
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;
use quire_api::abi::space::{MapFlags, SpaceOp, SpaceOpKind};
use quire_api::abi::system::AccountLimits;
use quire_api::{AddressSpace, Error, Handle, Object, Rights};

/// Bytes of kernel memory that one process may use.
const PROCESS_KERNEL_BYTES: u64 = 16 << 20;

/// A sized range of pages; a clone is the same memory.
#[derive(Clone)]
pub struct Memory(Rc<MemoryState>);

struct MemoryState {
    object: Arc<quire_api::Memory>,
    id: u64,
    len_bytes: Cell<u64>,
    _alive: crate::census::counted::Memory,
}

impl Memory {
    pub(super) fn new(object: quire_api::Memory, len_bytes: u64) -> Result<Self> {
        let id = object.as_handle().info().map_err(errno)?.object_number;
        Ok(Self(Rc::new(MemoryState {
            _alive: Default::default(),
            object: Arc::new(object),
            id,
            len_bytes: Cell::new(len_bytes),
        })))
    }

    /// Makes a memory of `len_bytes`, which reads as zero; the server's budget for files pays. `ENOMEM`.
    pub fn create(len_bytes: u64) -> Result<Self> {
        let object = quire_api::Memory::create(&machine()?.files, len_bytes).map_err(too_large)?;
        Self::new(object, len_bytes)
    }

    /// The same, paid by an account. `ENOMEM`.
    pub fn create_for(account: &Account, len_bytes: u64) -> Result<Self> {
        let object = with_reserve(|| quire_api::Memory::create(&account.0, len_bytes)).map_err(too_large)?;
        Self::new(object, len_bytes)
    }

    /// The same, paid like the contents of file systems: it may outlive whoever made it. `ENOMEM`.
    pub fn create_lasting(len_bytes: u64) -> Result<Self> {
        let stored = &machine()?.stored;
        let object = with_reserve(|| quire_api::Memory::create(stored, len_bytes)).map_err(too_large)?;
        Self::new(object, len_bytes)
    }

    /// A copy-on-write view of `len_bytes` from `offset` (page-aligned) of another memory, paid by the budget for files.
    pub fn view(source: &quire_api::Memory, offset: u64, len_bytes: u64) -> Result<Self> {
        let files = &machine()?.files;
        let rounded = crate::vm::page_up(len_bytes).ok_or(Errno::EFBIG)?;
        let window = source.window(files, offset, rounded).map_err(errno)?;
        let object = window.snapshot(files).map_err(errno)?;
        Self::new(object, rounded)
    }

    pub(super) fn object(&self) -> &Arc<quire_api::Memory> {
        &self.0.object
    }

    /// The size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.len_bytes.get()
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Changes the size; what is cut off reads as zero if it comes back. `ENOMEM`, `EFBIG`.
    pub fn resize(&self, len_bytes: u64) -> Result<()> {
        let resized = self.0.object.resize(len_bytes);
        if let Err(error) = resized {
            // What is left of the last page becomes zeros, and for that it must be there.
            note_memory(error, self, len_bytes.min(self.len_bytes()), 1, Access::Write);
        }
        resized.map_err(|error| if error == Error::OutOfRange { Errno::EFBIG } else { errno(error) })?;
        self.0.len_bytes.set(len_bytes);
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes from `offset`; returns how many were there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let available = self.len_bytes().saturating_sub(offset).min(buffer.len() as u64) as usize;
        move_all(available, |done| {
            let part = buffer.get_mut(done..available).unwrap_or_default();
            let at = offset + done as u64;
            let read = self.0.object.read(at, part);
            read.inspect_err(|error| note_memory(*error, self, at, (available - done) as u64, Access::Read))
        })
    }

    /// Writes up to `bytes.len()` bytes at `offset`, not beyond the end; returns how many (less if memory ran out).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> usize {
        let available = self.len_bytes().saturating_sub(offset).min(bytes.len() as u64) as usize;
        move_all(available, |done| {
            let at = offset + done as u64;
            let written = self.0.object.write(at, bytes.get(done..available).unwrap_or_default());
            written.inspect_err(|error| note_memory(*error, self, at, (available - done) as u64, Access::Write))
        })
    }

    /// Gives the frames of a page-aligned range back; it reads as zero.
    pub fn discard(&self, offset: u64, len_bytes: u64) {
        // An empty range, or one beyond the end, has nothing to give.
        let _ = self.0.object.discard(offset, len_bytes);
    }

    /// Pages that the memory has frames for.
    pub fn resident_pages(&self) -> u64 {
        self.0.object.info().map_or(0, |info| info.resident_pages)
    }

    /// The same, of a page-aligned range that is not beyond the end.
    pub fn resident_pages_in(&self, offset: u64, len_bytes: u64) -> Result<u64> {
        let window = self.0.object.window(&machine()?.files, offset, len_bytes).map_err(errno)?;
        window.info().map(|info| info.resident_pages).map_err(errno)
    }
}

fn too_large(error: Error) -> Errno {
    if error == Error::OutOfRange { Errno::ENOMEM } else { errno(error) }
}

/// Calls `step(done)` until `length` bytes are moved or no more are.
fn move_all(length: usize, mut step: impl FnMut(usize) -> core::result::Result<usize, Error>) -> usize {
    let mut done = 0;
    while done < length {
        match with_reserve(|| step(done)) {
            Ok(0) | Err(_) => break,
            Ok(count) => done += count,
        }
    }
    done
}

/// A budget.
#[derive(Clone)]
pub struct Account(pub(super) Rc<quire_api::Account>);

impl Account {
    /// Makes a budget of so many frames for a process. `EAGAIN` if the server's own is used up.
    pub fn for_process(frames: u64) -> Result<Self> {
        let limits = AccountLimits { frames, kernel_bytes: PROCESS_KERNEL_BYTES };
        let processes = &machine()?.processes;
        let account = with_reserve(|| processes.create_child(&limits)).map_err(errno_of_fork)?;
        Ok(Self(Rc::new(account)))
    }

    /// Makes a budget of so many frames for the contents of a file system. `ENOMEM`.
    pub fn for_files(frames: u64) -> Result<Self> {
        let limits = AccountLimits { frames, kernel_bytes: u64::MAX };
        machine()?.stored.create_child(&limits).map(|account| Self(Rc::new(account))).map_err(errno)
    }

    /// The budget for pages of files that can be had again: it has no limit, as they are taken back when frames run short. `EIO`
    /// before [`initialize`](super::initialize).
    pub fn for_cache() -> Result<Self> {
        machine()?
            .cached
            .duplicate(Rights::READ | Rights::USE | Rights::TRANSFER)
            .map(|account| Self(Rc::new(account)))
            .map_err(errno)
    }

    /// Changes how many frames it has.
    pub fn set_frames_limit(&self, frames: u64) -> Result<()> {
        self.0.set_limits(&AccountLimits { frames, kernel_bytes: u64::MAX }).map_err(errno)
    }

    /// Whether hardly anything is left of it.
    pub fn is_full(&self) -> bool {
        self.0.info().is_ok_and(is_full)
    }

    /// Frames in use.
    pub fn used_frames(&self) -> u64 {
        self.0.info().map_or(0, |info| info.used.frames)
    }
}

/// An address space; a clone is the same space.
#[derive(Clone)]
pub struct Space(pub(super) Rc<SpaceState>);

pub(super) struct SpaceState {
    pub(super) object: Arc<AddressSpace>,
    id: u64,
    _alive: crate::census::counted::Space,
}

impl Space {
    /// Makes an empty space. `ENOMEM`.
    pub fn create(account: &Account) -> Result<Self> {
        let object = with_reserve(|| AddressSpace::create(&account.0)).map_err(errno)?;
        let id = object.as_handle().info().map_err(errno)?.object_number;
        Ok(Self(Rc::new(SpaceState { _alive: Default::default(), object: Arc::new(object), id })))
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Pages that are private frames of the space, those that it has in common with clones included.
    pub fn private_pages(&self) -> u64 {
        self.0.object.info().map_or(0, |info| info.private_pages)
    }

    /// Applies the changes, all or nothing. `ENOMEM` if there is no memory, or a range to protect has a hole.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<()> {
        match changes {
            [change] => return self.commit_operations(&[operation_of(change)]),
            [first, second] => return self.commit_operations(&[operation_of(first), operation_of(second)]),
            _ => {}
        }
        let mut operations = [NO_OPERATION; MAX_CHANGES];
        let operations = operations.get_mut(..changes.len()).ok_or(Errno::EINVAL)?;
        for (operation, change) in operations.iter_mut().zip(changes) {
            *operation = operation_of(change);
        }
        self.commit_operations(operations)
    }

    fn commit_operations(&self, operations: &[SpaceOp]) -> Result<()> {
        with_reserve(|| self.0.object.commit_raw(operations).map_err(Error::from)).map(drop).map_err(errno)
    }

    /// Reads up to `buffer.len()` bytes at `address`; returns how many were read before the first that could not be.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let length = buffer.len();
        move_all(length, |done| {
            let at = address.checked_add(done as u64).ok_or(Error::RemoteFault)?;
            let read = self.0.object.read(at, buffer.get_mut(done..).unwrap_or_default());
            read.inspect_err(|error| note_space(*error, self, at, (length - done) as u64, Access::Read))
        })
    }

    /// Writes up to `bytes.len()` bytes at `address`; returns how many were written before the first that could not be.
    pub fn write(&self, address: u64, bytes: &[u8]) -> usize {
        move_all(bytes.len(), |done| {
            let at = address.checked_add(done as u64).ok_or(Error::RemoteFault)?;
            let written = self.0.object.write(at, bytes.get(done..).unwrap_or_default());
            written.inspect_err(|error| note_space(*error, self, at, (bytes.len() - done) as u64, Access::Write))
        })
    }

    /// Writes a word if it is the expected one; returns what it was. `EFAULT`.
    pub fn compare_exchange(&self, address: u64, expected: u32, new: u32) -> Result<u32> {
        self.0.object.compare_exchange(address, expected, new).map_err(|_| Errno::EFAULT)
    }

    /// Copies from a memory into the space; returns how many bytes.
    pub fn copy_from(&self, address: u64, memory: &Memory, offset: u64, length: u64) -> u64 {
        copy_all(length, |done| {
            let (to, from, left) = (address + done, offset + done, length - done);
            quire_api::copy(&*self.0.object, to, &*memory.0.object, from, left)
                .inspect_err(|error| note_both(*error, (memory, from), (self, to), left, Access::Read))
        })
    }

    /// Copies from the space into a memory; returns how many bytes.
    pub fn copy_to(&self, memory: &Memory, offset: u64, address: u64, length: u64) -> u64 {
        copy_all(length, |done| {
            let (to, from, left) = (offset + done, address + done, length - done);
            quire_api::copy(&*memory.0.object, to, &*self.0.object, from, left)
                .inspect_err(|error| note_both(*error, (memory, to), (self, from), left, Access::Write))
        })
    }
}

fn copy_all(length: u64, mut step: impl FnMut(u64) -> core::result::Result<u64, Error>) -> u64 {
    let mut done = 0;
    while done < length {
        match with_reserve(|| step(done)) {
            Ok(0) | Err(_) => break,
            Ok(count) => done += count,
        }
    }
    done
}

const NO_OPERATION: SpaceOp =
    SpaceOp { kind: 0, protection: 0, flags: 0, object: Handle::NONE, address: 0, length: 0, offset: 0, reserved: 0 };

fn operation_of(change: &Change<'_>) -> SpaceOp {
    let plain =
        |kind: SpaceOpKind, address: u64, length: u64| SpaceOp { kind: kind as u32, address, length, ..NO_OPERATION };
    match *change {
        Change::Map { address, length, backing, sharing, protection, inherit } => {
            let (object, offset) = match backing {
                Backing::Zero => (Handle::NONE, 0),
                Backing::Memory(memory, offset) => (memory.0.object.raw(), offset),
            };
            let mut flags = MapFlags::REPLACE;
            flags.set(MapFlags::PRIVATE, sharing == Sharing::Private || object == Handle::NONE);
            flags.set(MapFlags::NO_INHERIT, inherit == Inherit::Nothing);
            SpaceOp {
                protection: protection.bits(),
                flags: flags.bits(),
                object,
                offset,
                ..plain(SpaceOpKind::Map, address, length)
            }
        }
        Change::Unmap { address, length } => plain(SpaceOpKind::Unmap, address, length),
        Change::Protect { address, length, protection } => {
            SpaceOp { protection: protection.bits(), ..plain(SpaceOpKind::Protect, address, length) }
        }
        Change::Discard { address, length } => plain(SpaceOpKind::Discard, address, length),
        Change::Move { from, length, to } => SpaceOp { offset: to, ..plain(SpaceOpKind::Move, from, length) },
        Change::Clone(source) => SpaceOp { object: source.0.object.raw(), ..plain(SpaceOpKind::Clone, 0, 0) },
    }
}
