//! A device's registers in memory.

use crate::memory::Memory;
use crate::shared::Mapped;
use quire_abi::Error;

/// Device registers, mapped into the program's own space for as long as the value lives.
///
/// Each access is one load or store of its width, in the order of the program; offsets are in bytes and must be multiples of the width
/// ([`Error::Misaligned`]) and within the window ([`Error::OutOfRange`]).
#[derive(Debug)]
pub struct RegisterWindow(Mapped);

macro_rules! accesses {
    ($($read:ident $write:ident $type:ty;)+) => {
        $(
            /// Reads a register.
            #[inline]
            pub fn $read(&self, offset: usize) -> Result<$type, Error> {
                let place = self.0.aligned::<$type>(offset)?;
                // SAFETY: mapped as long as `self` lives, aligned, and any bytes are a number. There are no references to it, and
                // what the device does about it is not to memory that Rust knows, but to what was mapped for DMA.
                Ok(unsafe { place.read_volatile() })
            }

            /// Writes a register.
            #[inline]
            pub fn $write(&self, offset: usize, value: $type) -> Result<(), Error> {
                let place = self.0.aligned::<$type>(offset)?;
                // SAFETY: as for reading.
                unsafe { place.write_volatile(value) };
                Ok(())
            }
        )+
    };
}

impl RegisterWindow {
    /// Maps `len_bytes` of a device's memory from `offset` on (both page-aligned). Needs `MAP`, `READ` and `WRITE`.
    pub fn map(memory: &Memory, offset: u64, len_bytes: u64) -> Result<Self, Error> {
        Ok(Self(Mapped::new(memory, offset, len_bytes)?))
    }

    /// How many bytes of registers there are.
    pub fn len_bytes(&self) -> usize {
        self.0.len_bytes()
    }

    accesses! {
        read8 write8 u8;
        read16 write16 u16;
        read32 write32 u32;
        read64 write64 u64;
    }
}
