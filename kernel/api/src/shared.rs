//! Memory that a program shares with others who may change it at any time.

use crate::memory::Memory;
use crate::{Commit, Error, MapFlags, Protection, rt};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Pages of a memory, mapped into the program's own space for as long as the value lives; of what can be done with them, only where they
/// are.
#[derive(Debug)]
pub(crate) struct Mapped {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl Mapped {
    /// Maps `len_bytes` of a memory, which lives as long as it is mapped anywhere, from `offset` on (both page-aligned).
    pub(crate) fn new(memory: &Memory, offset: u64, len_bytes: u64) -> Result<Self, Error> {
        let mut commit = Commit::new();
        let protection = Protection::READ | Protection::WRITE;
        commit.map(memory, offset, 0, len_bytes, protection, MapFlags::FIND | MapFlags::NO_INHERIT);
        let address = rt::space()?.commit(&commit)?.address;
        let base = NonNull::new(address as *mut u8).ok_or(Error::BadAddress)?;
        Ok(Self { base, len_bytes: len_bytes as usize })
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
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

    /// The address of a value that lies within the mapping and is aligned.
    #[inline]
    pub(crate) fn aligned<T>(&self, offset: usize) -> Result<NonNull<T>, Error> {
        let place = self.place(offset, size_of::<T>())?.cast::<T>();
        if place.is_aligned() { Ok(place) } else { Err(Error::Misaligned) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut commit = Commit::new();
        commit.unmap(self.base.as_ptr() as u64, self.len_bytes as u64);
        if let Ok(space) = rt::space() {
            // Pages that can't be unmapped stay where nothing else comes.
            let _ = space.commit(&commit);
        }
    }
}

/// The pages of a memory, mapped into the program's own space for as long as the value lives.
///
/// Others may have the same pages mapped, and write them at any time. Therefore nothing here gives a reference to the bytes: all
/// that is read is a copy, made once, and a copy that is made while somebody writes may mix old and new bytes.
#[derive(Debug)]
pub struct SharedMapping(Mapped);

macro_rules! words {
    ($($load:ident $store:ident $type:ty, $atomic:ty;)+) => {
        $(
            /// Reads a word. [`Error::Misaligned`], [`Error::OutOfRange`].
            #[inline]
            pub fn $load(&self, offset: usize) -> Result<$type, Error> {
                let place = self.0.aligned::<$atomic>(offset)?;
                // SAFETY: mapped, by `aligned`, as long as `self` lives, and aligned; everybody in this program uses words atomically.
                Ok(unsafe { place.as_ref() }.load(Ordering::Acquire))
            }

            /// Writes a word. [`Error::Misaligned`], [`Error::OutOfRange`].
            #[inline]
            pub fn $store(&self, offset: usize, word: $type) -> Result<(), Error> {
                let place = self.0.aligned::<$atomic>(offset)?;
                // SAFETY: as for reading.
                unsafe { place.as_ref() }.store(word, Ordering::Release);
                Ok(())
            }
        )+
    };
}

impl SharedMapping {
    /// Maps the first `len_bytes` (page-aligned) of a memory, which lives as long as it is mapped anywhere. Needs `MAP`, `READ` and
    /// `WRITE`.
    pub fn new(memory: &Memory, len_bytes: usize) -> Result<Self, Error> {
        Ok(Self(Mapped::new(memory, 0, len_bytes as u64)?))
    }

    /// The same, from `offset` on (page-aligned).
    pub fn part(memory: &Memory, offset: u64, len_bytes: usize) -> Result<Self, Error> {
        Ok(Self(Mapped::new(memory, offset, len_bytes as u64)?))
    }

    /// Fills `buffer` from `offset`. [`Error::OutOfRange`] if that is not all within the mapping.
    #[inline]
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Error> {
        let from = self.0.place(offset, buffer.len())?;
        // SAFETY: `place` checked that the source is mapped; the buffer is exclusively ours, and is not in this memory, to which
        // there are no references.
        unsafe { copy(buffer.as_mut_ptr(), from.as_ptr(), buffer.len()) };
        Ok(())
    }

    /// Writes `bytes` at `offset`. [`Error::OutOfRange`] if that is not all within the mapping.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let to = self.0.place(offset, bytes.len())?;
        // SAFETY: `place` checked that the target is mapped; there are no references to it.
        unsafe { copy(to.as_ptr(), bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Writes zeroes. [`Error::OutOfRange`] as above.
    pub fn clear(&self, offset: usize, len_bytes: usize) -> Result<(), Error> {
        let to = self.0.place(offset, len_bytes)?;
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

    /// Reads a word of 64 bits; [`SharedMapping::load64`].
    #[inline]
    pub fn load(&self, offset: usize) -> Result<u64, Error> {
        self.load64(offset)
    }

    /// Writes a word of 64 bits; [`SharedMapping::store64`].
    #[inline]
    pub fn store(&self, offset: usize, word: u64) -> Result<(), Error> {
        self.store64(offset, word)
    }

    words! {
        load16 store16 u16, AtomicU16;
        load32 store32 u32, AtomicU32;
        load64 store64 u64, AtomicU64;
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
