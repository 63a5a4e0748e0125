//! Memory that a program shares with others who may change it at any time.

use crate::memory::Memory;
use crate::{Commit, Error, MapFlags, Protection, rt};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// The pages of a memory, mapped into the program's own space for as long as the value lives.
///
/// Others may have the same pages mapped, and write them at any time. Therefore nothing here gives a reference to the bytes: all
/// that is read is a copy, made once, and a copy that is made while somebody writes may mix old and new bytes.
#[derive(Debug)]
pub struct SharedMapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl SharedMapping {
    /// Maps the first `len_bytes` (page-aligned) of a memory, which lives as long as it is mapped anywhere. Needs `MAP`, `READ` and
    /// `WRITE`.
    pub fn new(memory: &Memory, len_bytes: usize) -> Result<Self, Error> {
        let mut commit = Commit::new();
        let protection = Protection::READ | Protection::WRITE;
        commit.map(memory, 0, 0, len_bytes as u64, protection, MapFlags::FIND | MapFlags::NO_INHERIT);
        let address = rt::space()?.commit(&commit)?.address;
        let base = NonNull::new(address as *mut u8).ok_or(Error::BadAddress)?;
        Ok(Self { base, len_bytes })
    }

    /// Fills `buffer` from `offset`. [`Error::OutOfRange`] if that is not all within the mapping.
    #[inline]
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Error> {
        let from = self.place(offset, buffer.len())?;
        // SAFETY: `place` checked that the source is mapped; the buffer is exclusively ours, and is not in this memory, to which
        // there are no references.
        unsafe { copy(buffer.as_mut_ptr(), from.as_ptr(), buffer.len()) };
        Ok(())
    }

    /// Writes `bytes` at `offset`. [`Error::OutOfRange`] if that is not all within the mapping.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let to = self.place(offset, bytes.len())?;
        // SAFETY: `place` checked that the target is mapped; there are no references to it.
        unsafe { copy(to.as_ptr(), bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Writes zeroes. [`Error::OutOfRange`] as above.
    pub fn clear(&self, offset: usize, len_bytes: usize) -> Result<(), Error> {
        let to = self.place(offset, len_bytes)?;
        // SAFETY: as in `write`; the direction flag is clear in Rust code.
        unsafe {
            asm!(
                "rep stosq",
                "mov rcx, rdx",
                "rep stosb",
                inout("rdi") to.as_ptr() => _,
                inout("rcx") len_bytes / 8 => _,
                in("rdx") len_bytes % 8,
                in("rax") 0,
                options(nostack, preserves_flags),
            );
        }
        Ok(())
    }

    /// Reads a word. [`Error::Misaligned`], [`Error::OutOfRange`].
    #[inline]
    pub fn load(&self, offset: usize) -> Result<u64, Error> {
        Ok(self.word(offset)?.load(Ordering::Acquire))
    }

    /// Writes a word. [`Error::Misaligned`], [`Error::OutOfRange`].
    #[inline]
    pub fn store(&self, offset: usize, word: u64) -> Result<(), Error> {
        self.word(offset)?.store(word, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn word(&self, offset: usize) -> Result<&AtomicU64, Error> {
        let place = self.place(offset, size_of::<u64>())?.cast::<AtomicU64>();
        if !place.is_aligned() {
            return Err(Error::Misaligned);
        }
        // SAFETY: mapped, by `place`, as long as `self` lives, and aligned; everybody in this program uses words atomically.
        Ok(unsafe { place.as_ref() })
    }

    /// The address of a range that lies within the mapping.
    #[inline]
    fn place(&self, offset: usize, len_bytes: usize) -> Result<NonNull<u8>, Error> {
        match offset.checked_add(len_bytes) {
            // SAFETY: not beyond the end of what is mapped.
            Some(end) if end <= self.len_bytes => Ok(unsafe { self.base.add(offset) }),
            _ => Err(Error::OutOfRange),
        }
    }
}

/// Copies in assembly, which the compiler can't take for the only access to these bytes.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len_bytes` bytes, which do not overlap.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len_bytes: usize) {
    // SAFETY: the caller's promise; the direction flag is clear in Rust code.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, rdx",
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") len_bytes / 8 => _,
            in("rdx") len_bytes % 8,
            options(nostack, preserves_flags),
        );
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        let mut commit = Commit::new();
        commit.unmap(self.base.as_ptr() as u64, self.len_bytes as u64);
        if let Ok(space) = rt::space() {
            // Pages that can't be unmapped stay where nothing else comes.
            let _ = space.commit(&commit);
        }
    }
}
