//! Registers in memory.
//!
//! A driver names its device's registers once, each with its width, and can't get the width wrong afterwards:
//!
//! ```
//! use driver_runtime::{DeviceError, Register, Registers};
//!
//! const STATUS: Register<u8> = Register::at(0x14);
//! const DOORBELL: Register<u32> = Register::at(0x1000);
//!
//! fn ring(device: &impl Registers) -> Result<u8, DeviceError> {
//!     DOORBELL.write(device, 1)?;
//!     STATUS.read(device)
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use driver_runtime::{DeviceError, Register, Registers};
//! const STATUS: Register<u8> = Register::at(0x14);
//!
//! fn too_wide(device: &impl Registers) -> Result<(), DeviceError> {
//!     STATUS.write(device, 0x1_0000_u32)
//! }
//! ```

use crate::DeviceError;
use alloc::rc::Rc;
use core::fmt;
use core::marker::PhantomData;
use quire_api::RegisterWindow;

/// A window on a device's registers. Offsets are in bytes; one that is not a multiple of the width, or not in the window, is a
/// [`DeviceError`].
///
/// All accesses are made, each once, as wide as they say, and in the order of the program.
pub trait Registers {
    /// The window's size in bytes.
    fn len_bytes(&self) -> usize;

    /// Reads 8 bits.
    fn read8(&self, offset: usize) -> Result<u8, DeviceError>;
    /// Reads 16 bits.
    fn read16(&self, offset: usize) -> Result<u16, DeviceError>;
    /// Reads 32 bits.
    fn read32(&self, offset: usize) -> Result<u32, DeviceError>;
    /// Reads 64 bits.
    fn read64(&self, offset: usize) -> Result<u64, DeviceError>;

    /// Writes 8 bits.
    fn write8(&self, offset: usize, value: u8) -> Result<(), DeviceError>;
    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16) -> Result<(), DeviceError>;
    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32) -> Result<(), DeviceError>;
    /// Writes 64 bits.
    fn write64(&self, offset: usize, value: u64) -> Result<(), DeviceError>;
}

/// How wide a register is: `u8`, `u16`, `u32` or `u64`.
pub trait Width: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn read_from(registers: &impl Registers, offset: usize) -> Result<Self, DeviceError>;
    #[doc(hidden)]
    fn write_to(self, registers: &impl Registers, offset: usize) -> Result<(), DeviceError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! width {
    ($number:ty, $read:ident, $write:ident) => {
        impl sealed::Sealed for $number {}

        impl Width for $number {
            #[inline]
            fn read_from(registers: &impl Registers, offset: usize) -> Result<Self, DeviceError> {
                registers.$read(offset)
            }

            #[inline]
            fn write_to(self, registers: &impl Registers, offset: usize) -> Result<(), DeviceError> {
                registers.$write(offset, self)
            }
        }
    };
}

width!(u8, read8, write8);
width!(u16, read16, write16);
width!(u32, read32, write32);
width!(u64, read64, write64);

/// A register of a device: its place in a window, and its width.
pub struct Register<T> {
    offset: usize,
    width: PhantomData<T>,
}

impl<T> Clone for Register<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Register<T> {}

impl<T> fmt::Debug for Register<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Register({:#x})", self.offset)
    }
}

impl<T: Width> Register<T> {
    /// The register at an offset in bytes.
    pub const fn at(offset: usize) -> Self {
        Self { offset, width: PhantomData }
    }

    /// The one that lies `index` registers after it.
    pub const fn nth(self, index: usize) -> Self {
        Self::at(self.offset + index * size_of::<T>())
    }

    /// Where it is, in bytes.
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// Reads it.
    #[inline]
    pub fn read(self, registers: &impl Registers) -> Result<T, DeviceError> {
        T::read_from(registers, self.offset)
    }

    /// Writes it.
    #[inline]
    pub fn write(self, registers: &impl Registers, value: T) -> Result<(), DeviceError> {
        value.write_to(registers, self.offset)
    }
}

/// A part of a window. Several parts may share one.
#[derive(Debug)]
pub struct Part<R> {
    window: Rc<R>,
    offset: usize,
    len_bytes: usize,
}

impl<R> Clone for Part<R> {
    fn clone(&self) -> Self {
        Self { window: Rc::clone(&self.window), ..*self }
    }
}

impl<R: Registers> Part<R> {
    /// The `len_bytes` bytes from `offset` on. [`DeviceError`] if the window is shorter.
    pub fn new(window: &Rc<R>, offset: usize, len_bytes: usize) -> Result<Self, DeviceError> {
        match offset.checked_add(len_bytes) {
            Some(end) if end <= window.len_bytes() => Ok(Self { window: Rc::clone(window), offset, len_bytes }),
            Some(_) | None => Err(DeviceError),
        }
    }

    #[inline]
    fn place(&self, offset: usize, width_bytes: usize) -> Result<usize, DeviceError> {
        match offset.checked_add(width_bytes) {
            Some(end) if end <= self.len_bytes => Ok(self.offset + offset),
            Some(_) | None => Err(DeviceError),
        }
    }
}

macro_rules! forward {
    ($($number:ty, $read:ident, $write:ident;)*) => {
        impl<R: Registers> Registers for Part<R> {
            fn len_bytes(&self) -> usize {
                self.len_bytes
            }

            $(
                #[inline]
                fn $read(&self, offset: usize) -> Result<$number, DeviceError> {
                    self.window.$read(self.place(offset, size_of::<$number>())?)
                }

                #[inline]
                fn $write(&self, offset: usize, value: $number) -> Result<(), DeviceError> {
                    self.window.$write(self.place(offset, size_of::<$number>())?, value)
                }
            )*
        }
    };
}

macro_rules! accesses {
    ($($number:ty, $read:ident, $write:ident;)*) => {
        impl Registers for RegisterWindow {
            fn len_bytes(&self) -> usize {
                Self::len_bytes(self)
            }

            $(
                #[inline]
                fn $read(&self, offset: usize) -> Result<$number, DeviceError> {
                    Self::$read(self, offset).map_err(|_| DeviceError)
                }

                #[inline]
                fn $write(&self, offset: usize, value: $number) -> Result<(), DeviceError> {
                    Self::$write(self, offset, value).map_err(|_| DeviceError)
                }
            )*
        }
    };
}

forward! {
    u8, read8, write8;
    u16, read16, write16;
    u32, read32, write32;
    u64, read64, write64;
}

accesses! {
    u8, read8, write8;
    u16, read16, write16;
    u32, read32, write32;
    u64, read64, write64;
}
