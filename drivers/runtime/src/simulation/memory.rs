//! Memory that outlives a driver.

use crate::{DeviceError, Kept};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// Bytes. Clones are the same.
#[derive(Clone, Debug)]
pub struct SimulatedMemory(Rc<RefCell<Vec<u8>>>);

impl SimulatedMemory {
    /// So many zeroes.
    pub fn new(len_bytes: usize) -> Self {
        Self(Rc::new(RefCell::new(vec![0; len_bytes])))
    }
}

impl Kept for SimulatedMemory {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let end = offset.checked_add(bytes.len()).ok_or(DeviceError)?;
        bytes.copy_from_slice(self.0.borrow().get(offset..end).ok_or(DeviceError)?);
        Ok(())
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let end = offset.checked_add(bytes.len()).ok_or(DeviceError)?;
        self.0.borrow_mut().get_mut(offset..end).ok_or(DeviceError)?.copy_from_slice(bytes);
        Ok(())
    }

    fn load64(&self, offset: usize) -> Result<u64, DeviceError> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError> {
        self.write(offset, &value.to_le_bytes())
    }
}
