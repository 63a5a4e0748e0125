//! Memory that a driver and its device share.
//!
//! The device may write it at any time. So nothing here gives a reference to the bytes: what is read is a copy, made once. Numbers are
//! read and written whole; those that follow in the program a read of a number are read after it, and those that precede a write of a
//! number are written before it (acquire, release): what a ring of descriptors needs. For what is written first and *read* then, see
//! [`fence`].

use crate::DeviceError;
use alloc::rc::Rc;
use core::cell::Cell;
use core::fmt;
use quire_api::{Account, DmaBuffer, DmaSpace};

/// Bytes of a page: within one, what lies together for the driver lies together for the device.
pub const PAGE_BYTES: usize = 4096;

/// There is no memory for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("there is no memory for the device")
    }
}

impl core::error::Error for NoMemory {}

/// Pages that are pinned for the device as long as the value lives. What is not within them, or a number that is not at a multiple of
/// its size, is a [`DeviceError`].
pub trait DmaMemory {
    /// How many bytes there are.
    fn len_bytes(&self) -> usize;

    /// Where the device finds the byte at `offset`, and those after it to the end of the page.
    fn device_address(&self, offset: usize) -> Result<u64, DeviceError>;

    /// Copies bytes out.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;
    /// Copies bytes in.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads 16 bits.
    fn load16(&self, offset: usize) -> Result<u16, DeviceError>;
    /// Reads 32 bits.
    fn load32(&self, offset: usize) -> Result<u32, DeviceError>;
    /// Reads 64 bits.
    fn load64(&self, offset: usize) -> Result<u64, DeviceError>;

    /// Writes 16 bits.
    fn store16(&self, offset: usize, value: u16) -> Result<(), DeviceError>;
    /// Writes 32 bits.
    fn store32(&self, offset: usize, value: u32) -> Result<(), DeviceError>;
    /// Writes 64 bits.
    fn store64(&self, offset: usize, value: u64) -> Result<(), DeviceError>;
}

/// Where a driver gets such memory.
pub trait Dma {
    /// What it is.
    type Memory: DmaMemory;

    /// Makes `len_bytes` (a multiple of [`PAGE_BYTES`]) of zeroes.
    fn allocate(&self, len_bytes: usize) -> Result<Self::Memory, NoMemory>;
}

/// What was written before is written before anything is read after: between telling a device something and looking at what it tells.
#[inline]
pub fn fence() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Memory for the device that a DMA space belongs to, paid for by an account.
#[derive(Clone, Debug)]
pub struct DmaPool<'a> {
    account: &'a Account,
    space: Rc<DmaSpace>,
}

impl<'a> DmaPool<'a> {
    /// Makes memory for the device of `space` (needs `WRITE`) on `account` (needs `USE`).
    pub fn new(account: &'a Account, space: &Rc<DmaSpace>) -> Self {
        Self { account, space: Rc::clone(space) }
    }
}

impl Dma for DmaPool<'_> {
    type Memory = DmaBuffer;

    fn allocate(&self, len_bytes: usize) -> Result<DmaBuffer, NoMemory> {
        DmaBuffer::new(self.account, &self.space, len_bytes).map_err(|_| NoMemory)
    }
}

/// Memory that is handed out in pieces, always the same in the same order: what of it outlives a driver is found again.
#[derive(Debug)]
pub struct Pieces<M> {
    memory: Rc<M>,
    used_bytes: Cell<usize>,
}

impl<M: DmaMemory> Pieces<M> {
    /// Hands out pieces of this memory.
    pub fn new(memory: Rc<M>) -> Self {
        Self { memory, used_bytes: Cell::new(0) }
    }
}

impl<M: DmaMemory> Dma for Pieces<M> {
    type Memory = Piece<M>;

    /// The next piece. It holds what it held before: whoever wants zeroes makes them.
    fn allocate(&self, len_bytes: usize) -> Result<Piece<M>, NoMemory> {
        let offset = self.used_bytes.get();
        let end = offset.checked_add(len_bytes).filter(|end| *end <= self.memory.len_bytes()).ok_or(NoMemory)?;
        self.used_bytes.set(end);
        Ok(Piece { memory: self.memory.clone(), offset, len_bytes })
    }
}

/// A piece of a memory.
#[derive(Debug)]
pub struct Piece<M> {
    memory: Rc<M>,
    offset: usize,
    len_bytes: usize,
}

impl<M> Piece<M> {
    /// Where in the memory the bytes are.
    fn at(&self, offset: usize, len_bytes: usize) -> Result<usize, DeviceError> {
        let end = offset.checked_add(len_bytes).ok_or(DeviceError)?;
        if end <= self.len_bytes { Ok(self.offset + offset) } else { Err(DeviceError) }
    }
}

macro_rules! words {
    ($($load:ident $store:ident $number:ty;)+) => {
        impl<M: DmaMemory> DmaMemory for Piece<M> {
            fn len_bytes(&self) -> usize {
                self.len_bytes
            }

            fn device_address(&self, offset: usize) -> Result<u64, DeviceError> {
                self.memory.device_address(self.at(offset, 1)?)
            }

            fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
                self.memory.read(self.at(offset, bytes.len())?, bytes)
            }

            fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
                self.memory.write(self.at(offset, bytes.len())?, bytes)
            }

            $(
                fn $load(&self, offset: usize) -> Result<$number, DeviceError> {
                    self.memory.$load(self.at(offset, size_of::<$number>())?)
                }

                fn $store(&self, offset: usize, value: $number) -> Result<(), DeviceError> {
                    self.memory.$store(self.at(offset, size_of::<$number>())?, value)
                }
            )+
        }

        impl DmaMemory for DmaBuffer {
            fn len_bytes(&self) -> usize {
                Self::len_bytes(self)
            }

            #[inline]
            fn device_address(&self, offset: usize) -> Result<u64, DeviceError> {
                Self::device_address(self, offset).map_err(|_| DeviceError)
            }

            #[inline]
            fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
                Self::read(self, offset, bytes).map_err(|_| DeviceError)
            }

            #[inline]
            fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
                Self::write(self, offset, bytes).map_err(|_| DeviceError)
            }

            $(
                #[inline]
                fn $load(&self, offset: usize) -> Result<$number, DeviceError> {
                    Self::$load(self, offset).map_err(|_| DeviceError)
                }

                #[inline]
                fn $store(&self, offset: usize, value: $number) -> Result<(), DeviceError> {
                    Self::$store(self, offset, value).map_err(|_| DeviceError)
                }
            )+
        }
    };
}

words! {
    load16 store16 u16;
    load32 store32 u32;
    load64 store64 u64;
}
