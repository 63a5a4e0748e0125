//! Registers of a simulated device.

use crate::{DeviceError, Registers};
use std::cell::Cell;
use std::rc::Rc;

/// What a simulated device does when its registers are read and written.
pub trait Model {
    /// Reads `width_bytes` (1, 2, 4 or 8) at `offset` of a window.
    fn read(&self, window: usize, offset: usize, width_bytes: usize) -> u64;

    /// Writes the same.
    fn write(&self, window: usize, offset: usize, width_bytes: usize, value: u64);
}

/// A window on the registers of a simulated device.
#[derive(Debug)]
pub struct SimulatedWindow<M> {
    model: Rc<M>,
    window: usize,
    len_bytes: usize,
    is_gone: Rc<Cell<bool>>,
}

impl<M: Model> SimulatedWindow<M> {
    /// A window, by its number, of a device. When `is_gone` says so, nothing answers: all reads give ones.
    pub fn new(model: &Rc<M>, window: usize, len_bytes: usize, is_gone: &Rc<Cell<bool>>) -> Self {
        Self { model: model.clone(), window, len_bytes, is_gone: is_gone.clone() }
    }

    fn check(&self, offset: usize, width_bytes: usize) -> Result<(), DeviceError> {
        let is_within = offset.checked_add(width_bytes).is_some_and(|end| end <= self.len_bytes);
        if is_within && offset.is_multiple_of(width_bytes) { Ok(()) } else { Err(DeviceError) }
    }

    fn read(&self, offset: usize, width_bytes: usize) -> Result<u64, DeviceError> {
        self.check(offset, width_bytes)?;
        Ok(if self.is_gone.get() { u64::MAX } else { self.model.read(self.window, offset, width_bytes) })
    }

    fn write(&self, offset: usize, width_bytes: usize, value: u64) -> Result<(), DeviceError> {
        self.check(offset, width_bytes)?;
        if !self.is_gone.get() {
            self.model.write(self.window, offset, width_bytes, value);
        }
        Ok(())
    }
}

macro_rules! accesses {
    ($($number:ty, $read:ident, $write:ident;)*) => {
        impl<M: Model> Registers for SimulatedWindow<M> {
            fn len_bytes(&self) -> usize {
                self.len_bytes
            }

            $(
                fn $read(&self, offset: usize) -> Result<$number, DeviceError> {
                    self.read(offset, size_of::<$number>()).map(|value| value as $number)
                }

                fn $write(&self, offset: usize, value: $number) -> Result<(), DeviceError> {
                    self.write(offset, size_of::<$number>(), value.into())
                }
            )*
        }
    };
}

accesses! {
    u8, read8, write8;
    u16, read16, write16;
    u32, read32, write32;
    u64, read64, write64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Part, Register};
    use std::cell::RefCell;
    use std::vec;
    use std::vec::Vec;

    struct Ram(RefCell<Vec<u8>>);

    impl Model for Ram {
        fn read(&self, _: usize, offset: usize, width_bytes: usize) -> u64 {
            let mut number = [0; 8];
            number[..width_bytes].copy_from_slice(&self.0.borrow()[offset..offset + width_bytes]);
            u64::from_le_bytes(number)
        }

        fn write(&self, _: usize, offset: usize, width_bytes: usize, value: u64) {
            self.0.borrow_mut()[offset..offset + width_bytes].copy_from_slice(&value.to_le_bytes()[..width_bytes]);
        }
    }

    #[test]
    fn registers_have_their_widths_and_windows_end() {
        let is_gone = Rc::new(Cell::new(false));
        let window = Rc::new(SimulatedWindow::new(&Rc::new(Ram(vec![0; 64].into())), 0, 64, &is_gone));
        let part = Part::new(&window, 32, 32).unwrap();
        const WIDE: Register<u64> = Register::at(8);
        const NARROW: Register<u8> = Register::at(15);
        WIDE.write(&part, 0x0102_0304_0506_0708).unwrap();
        assert_eq!(NARROW.read(&part), Ok(1));
        assert_eq!(Register::<u16>::at(40).nth(1).read(&*window), Ok(0x0506));
        assert_eq!(WIDE.nth(3).read(&part), Err(DeviceError));
        assert_eq!(Register::<u32>::at(2).read(&part), Err(DeviceError));
        assert!(Part::new(&window, 33, 32).is_err() && Part::new(&window, usize::MAX, 2).is_err());
        is_gone.set(true);
        assert_eq!(NARROW.read(&part), Ok(0xff));
    }
}
