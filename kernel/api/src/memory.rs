//! Memory objects.

use crate::account::{Account, create_from};
use crate::handle::{Object, argument, create, object};
use crate::hardware::Hardware;
use crate::raw::{many_numbers, numbers, syscall, syscall3};
use quire_abi::space::{MAX_TRANSFER, MemoryFlags, MemoryInfo};
use quire_abi::{Call, Error};

object! {
    /// A sized range of pages.
    Memory
}

impl Memory {
    /// Makes a memory of `len_bytes` bytes, which read as zero and cost nothing until written. Needs `USE`.
    pub fn create(account: &Account, len_bytes: u64) -> Result<Self, Error> {
        Self::create_with(account, len_bytes, MemoryFlags::empty())
    }

    /// Makes a memory with `flags`. Needs `USE`.
    pub fn create_with(account: &Account, len_bytes: u64, flags: MemoryFlags) -> Result<Self, Error> {
        create_from(Call::MemoryCreate, account, len_bytes, u64::from(flags.bits()))
    }

    /// Makes a memory of physical memory: device registers or firmware tables. Needs `MANAGE` on the hardware.
    pub fn create_physical(
        hardware: &Hardware,
        account: &Account,
        physical_address: u64,
        len_bytes: u64,
        flags: MemoryFlags,
    ) -> Result<Self, Error> {
        let flags = u64::from(flags.bits());
        create(
            Call::MemoryCreatePhysical,
            [argument(hardware), argument(account), physical_address, len_bytes, flags, 0],
        )
    }

    /// Makes a memory with the present contents of this one, each page copied when one of the two next writes it. The
    /// cost does not depend on the size. Needs `READ`.
    pub fn snapshot(&self, account: &Account) -> Result<Self, Error> {
        create(Call::MemorySnapshot, [argument(self), argument(account), 0, 0, 0, 0])
    }

    /// Makes a memory that is the slice of `len_bytes` from `offset` of this one, sharing its pages. Needs `MAP`.
    pub fn window(&self, account: &Account, offset: u64, len_bytes: u64) -> Result<Self, Error> {
        create(Call::MemoryWindow, [argument(self), argument(account), offset, len_bytes, 0, 0])
    }

    /// Ends a window: its mappings vanish, its use fails with [`Error::Revoked`]. Needs `MANAGE`.
    pub fn revoke(&self) -> Result<(), Error> {
        numbers(Call::MemoryRevoke, [argument(self), 0, 0]).unit()
    }

    /// Changes the size in bytes. Needs `MANAGE` and `WRITE`.
    pub fn resize(&self, len_bytes: u64) -> Result<(), Error> {
        numbers(Call::MemoryResize, [argument(self), len_bytes, 0]).unit()
    }

    /// Reads up to `buffer.len()` bytes from `offset`; returns how many. Needs `READ`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = (buffer.len() as u64).min(MAX_TRANSFER);
        // SAFETY: the call writes at most `length` bytes of `buffer`.
        let returned =
            unsafe { syscall(Call::MemoryRead, [argument(self), offset, buffer.as_mut_ptr() as u64, length, 0, 0]) };
        Ok(returned.value()?.min(length) as usize)
    }

    /// Fills `buffer` from `offset`; [`Error::OutOfRange`] if the memory ends before. Needs `READ`.
    pub fn read_exact(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let count = self.read(offset.checked_add(done as u64).ok_or(Error::OutOfRange)?, rest)?;
            if count == 0 {
                return Err(Error::OutOfRange);
            }
            done += count;
        }
        Ok(())
    }

    /// Writes up to `bytes.len()` bytes at `offset`; returns how many. Needs `WRITE`.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, Error> {
        let length = (bytes.len() as u64).min(MAX_TRANSFER);
        // SAFETY: the call reads at most `length` bytes of `bytes`.
        let returned =
            unsafe { syscall(Call::MemoryWrite, [argument(self), offset, bytes.as_ptr() as u64, length, 0, 0]) };
        Ok(returned.value()?.min(length) as usize)
    }

    /// Writes all of `bytes` at `offset`. Needs `WRITE`.
    pub fn write_all(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let count = self.write(offset.checked_add(done as u64).ok_or(Error::OutOfRange)?, rest)?;
            if count == 0 {
                return Err(Error::OutOfRange);
            }
            done += count;
        }
        Ok(())
    }

    /// Makes a range read as zero, and gives back the frames of the pages that lie in it whole. Needs `WRITE`.
    pub fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), Error> {
        numbers(Call::MemoryDiscard, [argument(self), offset, len_bytes]).unit()
    }

    /// Makes this managed memory the place to which private pages of the address spaces below `account` go when frames run short. Needs
    /// `MANAGE` on the hardware and the account, and `READ`, `WRITE` and `MANAGE`.
    pub fn use_for_swap(&self, hardware: &Hardware, account: &Account) -> Result<(), Error> {
        numbers(Call::SwapSet, [argument(hardware), argument(self), argument(account)]).unit()
    }

    /// Size and usage. Needs `READ`.
    pub fn info(&self) -> Result<MemoryInfo, Error> {
        let mut info = MemoryInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `MemoryInfo` there.
        unsafe { syscall3(Call::MemoryInfo, [argument(self), pointer, 0]) }.unit()?;
        Ok(info)
    }
}

/// Something that bytes can be copied from and to: a [`Memory`] or an [`AddressSpace`](crate::AddressSpace).
pub trait CopySide: Object {}

impl CopySide for Memory {}

/// Copies up to `len_bytes` bytes (at most [`MAX_TRANSFER`] at once) between memories and spaces; returns how many were
/// copied before the first that could not be. An error says which side's fault it was: [`Error::RemoteFault`] for a space,
/// [`Error::OutOfRange`] for a memory. Needs `WRITE` on `to` and `READ` on `from`.
pub fn copy(
    to: &impl CopySide,
    to_offset: u64,
    from: &impl CopySide,
    from_offset: u64,
    len_bytes: u64,
) -> Result<u64, Error> {
    let length = len_bytes.min(MAX_TRANSFER);
    many_numbers(Call::Copy, [argument(to), to_offset, argument(from), from_offset, length, 0]).value()
}
