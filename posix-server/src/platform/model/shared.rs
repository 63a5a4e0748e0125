//! The model of pages that the server shares with programs.

use super::Memory;
use crate::errno::Result;
use crate::platform::PAGE_SIZE;
use alloc::vec;

/// A memory that the server sees in its own space: here, as everywhere in the model, through the same methods.
pub struct SharedPages(Memory);

impl SharedPages {
    /// Makes so many pages, which read as zero. `ENOMEM`.
    pub fn create(pages: u64) -> Result<Self> {
        Memory::create(pages * PAGE_SIZE).map(Self)
    }

    /// The memory, to be mapped into programs.
    pub fn memory(&self) -> &Memory {
        &self.0
    }

    /// Fills `buffer` from `offset`.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        assert_eq!(self.0.read(offset as u64, buffer), buffer.len(), "not all is within the memory");
    }

    /// Writes `bytes` at `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert_eq!(self.0.write(offset as u64, bytes), bytes.len(), "not all is within the memory");
    }

    /// Writes zeroes.
    pub fn clear(&self, offset: usize, len_bytes: usize) {
        self.write(offset, &vec![0; len_bytes]);
    }

    /// Reads a word, at an offset that is a multiple of 8.
    pub fn load(&self, offset: usize) -> u64 {
        let mut word = [0; 8];
        self.read(offset, &mut word);
        u64::from_le_bytes(word)
    }

    /// Writes a word, at an offset that is a multiple of 8.
    pub fn store(&self, offset: usize, word: u64) {
        self.write(offset, &word.to_le_bytes());
    }
}
