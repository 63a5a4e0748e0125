//! Buffers for long runs of slots.
//!
//! Some are kept when they are not in use: what moves much through pipes would else have the server clear memory for each write.

use super::SLOT_BYTES;
use alloc::vec::Vec;
use spin::Mutex;

/// The size of a buffer, which is that of an ordinary pipe.
pub(super) const RUN_BYTES: usize = 16 * SLOT_BYTES;
/// How many are kept.
const MAX_SPARE: usize = 4;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of [`RUN_BYTES`], in which anything may be. `None`: there is no memory.
pub(super) fn take_buffer() -> Option<Vec<u8>> {
    let spare = SPARE.lock().pop();
    spare.or_else(|| {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(RUN_BYTES).ok()?;
        bytes.resize(RUN_BYTES, 0);
        Some(bytes)
    })
}

/// Takes a buffer that is no longer in use; others are dropped.
pub(super) fn give_back(bytes: Vec<u8>) {
    if bytes.len() == RUN_BYTES {
        let mut spare = SPARE.lock();
        if spare.len() < MAX_SPARE {
            spare.push(bytes);
        }
    }
}
