//! A request as the device sees it.

use driver_runtime::simulation::Frames;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// A request: what the device may read and write.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its first descriptor.
    pub head: u16,
    /// What to read: addresses and lengths.
    pub readable: Vec<(u64, usize)>,
    /// What to write.
    pub writable: Vec<(u64, usize)>,
    /// How many descriptors it has, in whichever table.
    pub descriptors: usize,
    frames: Rc<Frames>,
}

impl Chain {
    pub(super) fn read(frames: &Rc<Frames>, descriptors: u64, size: u16, head: u16) -> Self {
        let mut chain =
            Self { head, readable: Vec::new(), writable: Vec::new(), descriptors: 0, frames: frames.clone() };
        let (table, len_bytes, flags, _) = chain.descriptor(descriptors, head);
        if flags & 4 != 0 {
            chain.walk(table, len_bytes / 16, 0);
        } else {
            chain.walk(descriptors, size.into(), head);
        }
        chain
    }

    fn descriptor(&self, table: u64, index: u16) -> (u64, usize, u16, u16) {
        let mut bytes = [0; 16];
        let read = self.frames.device_read(table + 16 * u64::from(index), &mut bytes);
        assert_eq!(read, Ok(()), "descriptors are pinned");
        let [address, rest] = [0, 8].map(|at| u64::from_le_bytes(core::array::from_fn(|byte| bytes[at + byte])));
        (address, rest as u32 as usize, (rest >> 32) as u16, (rest >> 48) as u16)
    }

    fn walk(&mut self, table: u64, size: usize, first: u16) {
        let mut index = first;
        loop {
            assert!(usize::from(index) < size && self.descriptors < size, "a chain ends within its table");
            let (address, len_bytes, flags, next) = self.descriptor(table, index);
            self.descriptors += 1;
            if flags & 2 != 0 {
                self.writable.push((address, len_bytes));
            } else {
                assert!(self.writable.is_empty(), "what is read comes before what is written");
                self.readable.push((address, len_bytes));
            }
            if flags & 1 == 0 {
                return;
            }
            index = next;
        }
    }

    /// All bytes to be read.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (address, len_bytes) in &self.readable {
            let mut bytes = vec![0; *len_bytes];
            let _ = self.frames.device_read(*address, &mut bytes);
            all.extend(bytes);
        }
        all
    }

    /// How many bytes may be written.
    pub fn room(&self) -> usize {
        self.writable.iter().map(|(_, len_bytes)| len_bytes).sum()
    }

    /// Writes bytes from `offset` of what may be written on.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let mut start = 0;
        for (address, len_bytes) in &self.writable {
            let from = offset.max(start);
            let to = (offset + bytes.len()).min(start + len_bytes);
            if from < to {
                let _ = self.frames.device_write(address + (from - start) as u64, &bytes[from - offset..to - offset]);
            }
            start += len_bytes;
        }
    }
}
