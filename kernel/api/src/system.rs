//! The system: information, entropy, the log.

use crate::handle::{argument, object};
use crate::raw::{numbers, syscall, syscall3};
use quire_abi::system::SystemInfo;
use quire_abi::{Call, Error};

object! {
    /// The kernel's log.
    Log
}

/// How many bytes [`Log::write`] takes at most.
pub const MAX_LOG_BYTES: usize = 1024;
/// How many bytes one `entropy_read` gives at most.
const MAX_ENTROPY_BYTES: usize = 64;

/// What the kernel tells everybody.
pub fn system_info() -> Result<SystemInfo, Error> {
    let mut info = SystemInfo::default();
    let pointer = core::ptr::from_mut(&mut info) as u64;
    // SAFETY: the call writes one `SystemInfo` there.
    unsafe { syscall3(Call::SystemInfo, [pointer, 0, 0]) }.unit()?;
    Ok(info)
}

/// Fills `buffer` with unpredictable data.
pub fn entropy(buffer: &mut [u8]) -> Result<(), Error> {
    for part in buffer.chunks_mut(MAX_ENTROPY_BYTES) {
        // SAFETY: the call writes `part.len()` bytes there.
        unsafe { syscall3(Call::EntropyRead, [part.as_mut_ptr() as u64, part.len() as u64, 0]) }.unit()?;
    }
    Ok(())
}

/// Does nothing in the kernel. For measuring.
pub fn nothing() -> Result<(), Error> {
    numbers(Call::Nothing, [0; 3]).unit()
}

impl Log {
    /// Writes text, of which the first [`MAX_LOG_BYTES`] bytes count, at `level`. Needs `WRITE`.
    pub fn write(&self, level: log::Level, text: &[u8]) -> Result<(), Error> {
        let text = text.get(..MAX_LOG_BYTES).unwrap_or(text);
        let arguments = [argument(self), level as u64, text.as_ptr() as u64, text.len() as u64, 0, 0];
        // SAFETY: the call reads `text.len()` bytes there.
        unsafe { syscall(Call::LogWrite, arguments) }.unit()
    }

    /// Writes what every thread waits for. Needs `WRITE`.
    pub fn dump_threads(&self) -> Result<(), Error> {
        numbers(Call::SystemDump, [argument(self), 0, 0]).unit()
    }
}
