//! The frames of the machine.

use crate::DeviceError;
use crate::dma::{Dma, DmaMemory, NoMemory, PAGE_BYTES};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// A device reached for an address where nothing is pinned for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault {
    /// Where.
    pub address: u64,
}

struct Frame {
    bytes: Vec<u8>,
    pins: usize,
}

/// All frames, by the addresses that devices use for them.
#[derive(Default)]
pub struct Frames {
    frames: RefCell<BTreeMap<u64, Frame>>,
    next: Cell<u64>,
    faults: RefCell<Vec<DmaFault>>,
}

impl core::fmt::Debug for Frames {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Frames").field("pinned", &self.pinned()).finish_non_exhaustive()
    }
}

impl Frames {
    /// Makes so many frames, pinned once, and tells their addresses. Some are neighbours, most are not.
    pub fn pin_new(&self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let number = self.next.get();
                self.next.set(number + 1);
                let address = (0x10_0000 + number + number / 3 * 5) * PAGE_BYTES as u64;
                self.frames.borrow_mut().insert(address, Frame { bytes: vec![0; PAGE_BYTES], pins: 1 });
                address
            })
            .collect()
    }

    /// Lets frames go. Devices must not reach them any more, but the bytes stay.
    pub fn unpin(&self, addresses: &[u64]) {
        let mut frames = self.frames.borrow_mut();
        for address in addresses {
            let frame = frames.get_mut(address);
            assert!(frame.as_ref().is_some_and(|frame| frame.pins > 0), "{address:#x} is not pinned");
            if let Some(frame) = frame {
                frame.pins -= 1;
            }
        }
    }

    /// Pins frames that there are.
    pub fn pin(&self, addresses: &[u64]) {
        let mut frames = self.frames.borrow_mut();
        for address in addresses {
            assert!(frames.contains_key(address), "there is no {address:#x}");
            if let Some(frame) = frames.get_mut(address) {
                frame.pins += 1;
            }
        }
    }

    /// How many pins there are.
    pub fn pinned(&self) -> usize {
        self.frames.borrow().values().map(|frame| frame.pins).sum()
    }

    /// Where devices reached for what is not pinned.
    pub fn faults(&self) -> Vec<DmaFault> {
        self.faults.borrow().clone()
    }

    /// A device reads.
    pub fn device_read(&self, address: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        self.device_access(address, bytes.len(), |at, frame| bytes[at..at + frame.len()].copy_from_slice(frame))
    }

    /// A device writes.
    pub fn device_write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.device_access(address, bytes.len(), |at, frame| frame.copy_from_slice(&bytes[at..at + frame.len()]))
    }

    fn device_access(
        &self,
        address: u64,
        len: usize,
        mut use_it: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), DmaFault> {
        let mut done = 0;
        while done < len {
            let at = address.wrapping_add(done as u64);
            let offset = at as usize % PAGE_BYTES;
            let count = (PAGE_BYTES - offset).min(len - done);
            let fault = DmaFault { address: at };
            let mut frames = self.frames.borrow_mut();
            match frames.get_mut(&(at - offset as u64)).filter(|frame| frame.pins > 0) {
                Some(frame) => use_it(done, &mut frame.bytes[offset..offset + count]),
                None => {
                    self.faults.borrow_mut().push(fault);
                    return Err(fault);
                }
            }
            done += count;
        }
        Ok(())
    }

    /// The processor reads or writes, pinned or not.
    pub fn access<R>(&self, address: u64, use_it: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let mut frames = self.frames.borrow_mut();
        let offset = address % PAGE_BYTES as u64;
        let frame = frames.get_mut(&(address - offset))?;
        Some(use_it(&mut frame.bytes[offset as usize..]))
    }
}

/// Where a driver under test gets memory.
#[derive(Clone, Debug)]
pub struct SimulatedDma {
    frames: Rc<Frames>,
    /// How many pages are left.
    left: Rc<Cell<usize>>,
}

impl SimulatedDma {
    /// So many pages of a machine's frames.
    pub fn new(frames: &Rc<Frames>, pages: usize) -> Self {
        Self { frames: frames.clone(), left: Rc::new(Cell::new(pages)) }
    }
}

impl Dma for SimulatedDma {
    type Memory = SimulatedBuffer;

    fn allocate(&self, len_bytes: usize) -> Result<SimulatedBuffer, NoMemory> {
        let pages = len_bytes.div_ceil(PAGE_BYTES);
        self.left.set(self.left.get().checked_sub(pages).ok_or(NoMemory)?);
        Ok(SimulatedBuffer { frames: self.frames.clone(), addresses: self.frames.pin_new(pages) })
    }
}

/// Pinned pages.
#[derive(Debug)]
pub struct SimulatedBuffer {
    frames: Rc<Frames>,
    addresses: Vec<u64>,
}

impl SimulatedBuffer {
    fn access(&self, offset: usize, len: usize, mut use_it: impl FnMut(usize, &mut [u8])) -> Result<(), DeviceError> {
        if offset.checked_add(len).is_none_or(|end| end > self.len_bytes()) {
            return Err(DeviceError);
        }
        let mut done = 0;
        while done < len {
            let address = self.device_address(offset + done)?;
            let count = (PAGE_BYTES - (offset + done) % PAGE_BYTES).min(len - done);
            self.frames.access(address, |bytes| use_it(done, &mut bytes[..count])).ok_or(DeviceError)?;
            done += count;
        }
        Ok(())
    }

    fn load<const N: usize>(&self, offset: usize) -> Result<[u8; N], DeviceError> {
        let mut bytes = [0; N];
        if !offset.is_multiple_of(N) {
            return Err(DeviceError);
        }
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn store<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> Result<(), DeviceError> {
        if offset.is_multiple_of(N) { self.write(offset, &bytes) } else { Err(DeviceError) }
    }
}

impl DmaMemory for SimulatedBuffer {
    fn len_bytes(&self) -> usize {
        self.addresses.len() * PAGE_BYTES
    }

    fn device_address(&self, offset: usize) -> Result<u64, DeviceError> {
        let page = self.addresses.get(offset / PAGE_BYTES).ok_or(DeviceError)?;
        Ok(page + (offset % PAGE_BYTES) as u64)
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.access(offset, bytes.len(), |at, frame| bytes[at..at + frame.len()].copy_from_slice(frame))
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.access(offset, bytes.len(), |at, frame| frame.copy_from_slice(&bytes[at..at + frame.len()]))
    }

    fn load16(&self, offset: usize) -> Result<u16, DeviceError> {
        self.load(offset).map(u16::from_le_bytes)
    }

    fn load32(&self, offset: usize) -> Result<u32, DeviceError> {
        self.load(offset).map(u32::from_le_bytes)
    }

    fn load64(&self, offset: usize) -> Result<u64, DeviceError> {
        self.load(offset).map(u64::from_le_bytes)
    }

    fn store16(&self, offset: usize, value: u16) -> Result<(), DeviceError> {
        self.store(offset, value.to_le_bytes())
    }

    fn store32(&self, offset: usize, value: u32) -> Result<(), DeviceError> {
        self.store(offset, value.to_le_bytes())
    }

    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError> {
        self.store(offset, value.to_le_bytes())
    }
}

impl Drop for SimulatedBuffer {
    fn drop(&mut self) {
        self.frames.unpin(&self.addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_reach_what_is_pinned_and_nothing_else() {
        let frames = Rc::new(Frames::default());
        let buffer = SimulatedDma::new(&frames, 4).allocate(2 * PAGE_BYTES).unwrap();
        buffer.store32(PAGE_BYTES - 4, 0x1234_5678).unwrap();
        buffer.store16(PAGE_BYTES, 0x9abc).unwrap();
        let address = buffer.device_address(PAGE_BYTES - 4).unwrap();
        let mut bytes = [0; 4];
        frames.device_read(address, &mut bytes).unwrap();
        assert_eq!(bytes, 0x1234_5678_u32.to_le_bytes());
        assert_eq!(buffer.load16(PAGE_BYTES), Ok(0x9abc));
        assert_eq!(buffer.load16(2 * PAGE_BYTES), Err(DeviceError));
        assert_eq!(buffer.load32(2), Err(DeviceError));
        drop(buffer);
        assert!(frames.device_write(address, &bytes).is_err());
        assert_eq!(frames.faults(), [DmaFault { address }]);
        assert_eq!(frames.pinned(), 0);
    }
}
