//! Pages that the server shares with programs.

use super::{errno, machine, memory::Memory};
use crate::errno::Result;
use crate::platform::PAGE_SIZE;
use quire_api::SharedMapping;

/// A memory that the server sees in its own space, so that it needs no call to read or write what programs see of it.
///
/// Programs may write what they have mapped at any time: nothing that is read here is to be believed, nor read twice. A range that is
/// not all within the memory is not touched.
pub struct SharedPages {
    memory: Memory,
    mapping: SharedMapping,
}

impl SharedPages {
    /// Makes so many pages, which read as zero; what all processes may use together pays for those that are touched. `ENOMEM`.
    pub fn create(pages: u64) -> Result<Self> {
        let len_bytes = pages * PAGE_SIZE;
        let object = quire_api::Memory::create(&machine()?.processes, len_bytes).map_err(errno)?;
        let mapping = SharedMapping::new(&object, len_bytes as usize).map_err(errno)?;
        Ok(Self { memory: Memory::new(object, len_bytes)?, mapping })
    }

    /// The memory, to be mapped into programs.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Fills `buffer` from `offset`.
    #[inline]
    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        let result = self.mapping.read(offset, buffer);
        debug_assert!(result.is_ok());
    }

    /// Writes `bytes` at `offset`.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let result = self.mapping.write(offset, bytes);
        debug_assert!(result.is_ok());
    }

    /// Writes zeroes.
    pub fn clear(&self, offset: usize, len_bytes: usize) {
        let result = self.mapping.clear(offset, len_bytes);
        debug_assert!(result.is_ok());
    }

    /// Reads a word, at an offset that is a multiple of 8.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.mapping.load(offset).unwrap_or_default()
    }

    /// Writes a word, at an offset that is a multiple of 8.
    #[inline]
    pub fn store(&self, offset: usize, word: u64) {
        let result = self.mapping.store(offset, word);
        debug_assert!(result.is_ok());
    }
}
