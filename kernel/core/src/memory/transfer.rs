//! Moving bytes between spaces and memories.
//!
//! The kernel reaches user memory only here: page by page, through the frame that the page tables show, or if they show none
//! that allows the access, through a [`fault`](super::MemorySystem::fault) in the owner's name.

use quire_abi::space::{MAX_TRANSFER, USER_END};

use super::MemorySystem;
use super::error::{FaultError, MemoryError};
use super::fault::FaultKind;
use super::object::Memory;
use super::region::page_of;
use super::space::Space;
use super::tables;
use crate::machine::{Caching, Frame, Machine, PAGE_SIZE};
use crate::pool::Id;

/// Where bytes come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address in a space.
    Space(Id<Space>, u64),
    /// An offset in a memory.
    Memory(Id<Memory>, u64),
}

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the bytes come from.
    From,
    /// Where they go to.
    To,
}

/// Why a transfer ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The side that could not go on.
    pub side: Side,
    /// Why.
    pub error: MemoryError,
}

/// What a transfer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transfer {
    /// Bytes moved.
    pub moved: u64,
    /// Why not more, if an address was the reason.
    pub stopped: Option<Stop>,
}

/// Bytes that lie in one frame.
struct Chunk {
    frame: Frame,
    offset: usize,
    len: u64,
}

impl Place {
    /// The place `bytes` further on. Saturates: nothing is mapped, and no memory reaches, up there.
    fn advanced_by(self, bytes: u64) -> Self {
        match self {
            Self::Space(id, addr) => Self::Space(id, addr.saturating_add(bytes)),
            Self::Memory(id, offset) => Self::Memory(id, offset.saturating_add(bytes)),
        }
    }
}

impl MemorySystem {
    /// Moves up to `len` bytes, but at most [`MAX_TRANSFER`], as if by loads and stores of the owners, in ascending
    /// order. Ends early at the first byte that can't be resolved on either side.
    pub fn transfer(&mut self, m: &mut impl Machine, to: Place, from: Place, len: u64) -> Transfer {
        let len = len.min(MAX_TRANSFER);
        let mut moved = 0;
        while moved < len {
            match self.transfer_chunk(m, to.advanced_by(moved), from.advanced_by(moved), len - moved) {
                Ok(bytes) => moved += bytes,
                Err(stop) => return Transfer { moved, stopped: Some(stop) },
            }
        }
        Transfer { moved, stopped: None }
    }

    fn transfer_chunk(&mut self, m: &mut impl Machine, to: Place, from: Place, len: u64) -> Result<u64, Stop> {
        // Like a load and a store: if the load fails, the target is not even copied on write. Making the target writable
        // may replace the very frame that the load found; but only because others have that frame too, so it stays.
        let from =
            self.reach(m, from, FaultKind::Read).map_err(|error| Stop { side: Side::From, error: error.into() })?;
        let to = self.reach(m, to, FaultKind::Write).map_err(|error| Stop { side: Side::To, error: error.into() })?;
        let bytes = len.min(to.len).min(from.len);
        m.copy_bytes((from.frame, from.offset), (to.frame, to.offset), bytes as usize);
        Ok(bytes)
    }

    /// Reads bytes of a space into the kernel.
    ///
    /// # Errors
    /// The first address that can't be read; `into` is then filled in part.
    pub fn read_user(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        addr: u64,
        into: &mut [u8],
    ) -> Result<(), FaultError> {
        let mut done = 0;
        while done < into.len() {
            let chunk = self.reach(m, Place::Space(space, addr).advanced_by(done as u64), FaultKind::Read)?;
            let part = into.len().min(done + chunk.len as usize);
            m.read_frame(chunk.frame, chunk.offset, &mut into[done..part]);
            done = part;
        }
        Ok(())
    }

    /// Writes bytes of the kernel into a space.
    ///
    /// # Errors
    /// The first address that can't be written; what lies before it has been.
    pub fn write_user(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        addr: u64,
        from: &[u8],
    ) -> Result<(), FaultError> {
        let mut done = 0;
        while done < from.len() {
            let chunk = self.reach(m, Place::Space(space, addr).advanced_by(done as u64), FaultKind::Write)?;
            let part = from.len().min(done + chunk.len as usize);
            m.write_frame(chunk.frame, chunk.offset, &from[done..part]);
            done = part;
        }
        Ok(())
    }

    /// Replaces an aligned word of a space by another if it is the expected one, the first of the two; returns what it was.
    ///
    /// # Errors
    /// As for a write.
    pub fn exchange_user(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        addr: u64,
        (expected, new): (u32, u32),
    ) -> Result<u32, FaultError> {
        let chunk = self.reach_in_space(m, space, addr, FaultKind::Write)?;
        Ok(m.exchange_half(chunk.frame, chunk.offset, expected, new))
    }

    /// Reads bytes of a memory into the kernel.
    ///
    /// # Errors
    /// The first offset that can't be read; `into` is then filled in part.
    pub fn read_memory(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), FaultError> {
        let mut done = 0;
        while done < into.len() {
            let chunk = self.reach(m, Place::Memory(id, offset).advanced_by(done as u64), FaultKind::Read)?;
            let part = into.len().min(done + chunk.len as usize);
            m.read_frame(chunk.frame, chunk.offset, &mut into[done..part]);
            done = part;
        }
        Ok(())
    }

    /// The bytes from a place to the end of their page (or of the memory).
    fn reach(&mut self, m: &mut impl Machine, place: Place, kind: FaultKind) -> Result<Chunk, FaultError> {
        match place {
            Place::Space(id, addr) => self.reach_in_space(m, id, addr, kind),
            Place::Memory(id, offset) => self.reach_in_memory(m, id, offset, kind),
        }
    }

    #[inline]
    fn reach_in_space(
        &mut self,
        m: &mut impl Machine,
        id: Id<Space>,
        addr: u64,
        kind: FaultKind,
    ) -> Result<Chunk, FaultError> {
        if addr >= USER_END {
            return Err(FaultError::NotMapped);
        }
        let page = page_of(addr);
        let usable = tables::translate(m, self.spaces[id].root, page)
            .filter(|shown| kind == FaultKind::Read || shown.access.write);
        let shown = match usable {
            Some(shown) => shown,
            None => self.resolve(m, id, page, kind)?,
        };
        copyable(shown.caching)?;
        let offset = addr % PAGE_SIZE;
        Ok(Chunk { frame: shown.frame, offset: offset as usize, len: PAGE_SIZE - offset })
    }

    fn reach_in_memory(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        offset: u64,
        kind: FaultKind,
    ) -> Result<Chunk, FaultError> {
        let left = self.memories[id].size_bytes().saturating_sub(offset);
        if left == 0 {
            return Err(FaultError::BeyondEnd);
        }
        let page = page_of(offset);
        self.note_use(id, page);
        let frame = match kind {
            FaultKind::Write => Some(self.page_to_write(m, id, page)?),
            FaultKind::Read | FaultKind::Execute => self.page_to_read(id, page)?,
        };
        let frame = match frame {
            Some(view) => {
                copyable(view.caching)?;
                view.frame
            }
            None => self.zero,
        };
        let within = offset % PAGE_SIZE;
        Ok(Chunk { frame, offset: within as usize, len: left.min(PAGE_SIZE - within) })
    }
}

/// Device registers can be mapped, but they are no bytes to be copied.
fn copyable(caching: Caching) -> Result<(), FaultError> {
    match caching {
        Caching::WriteBack => Ok(()),
        Caching::Uncached => Err(FaultError::AccessDenied),
    }
}
