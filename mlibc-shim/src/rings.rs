//! Reads and writes of pipes and counters that the server has lent to the process (`posix_protocol::rings`, ADR 13). Only the last
//! exchange of the word makes a transfer happen; what fails before it has not happened, and the server does all of it.

use crate::files::{ATTEMPTS, Found, copy};
use posix_protocol::files::kind;
use posix_protocol::rings::{PipeSlot, add_count, take_count};

/// The size of what counters are read and written in.
const COUNT_BYTES: u64 = 8;

pub(crate) fn read_counter(found: &Found, address: u64, count: u64) -> Option<u64> {
    for _ in 0..ATTEMPTS {
        let value = found.position().filter(|_| count >= COUNT_BYTES)?;
        let (taken, left) = take_count(value, found.file.kind == kind::SEMAPHORE)?;
        let is_stored = copy(address, (&raw const taken).expose_provenance() as u64, COUNT_BYTES);
        if !is_stored || !found.is_current() {
            return None;
        }
        if found.advance(value, left) {
            return Some(COUNT_BYTES);
        }
    }
    None
}

pub(crate) fn write_counter(found: &Found, address: u64, count: u64) -> Option<u64> {
    let mut added = 0_u64;
    if count != COUNT_BYTES || !copy((&raw mut added).expose_provenance() as u64, address, COUNT_BYTES) {
        return None;
    }
    for _ in 0..ATTEMPTS {
        let value = found.position()?;
        let sum = add_count(value, added)?;
        if !found.is_current() {
            return None;
        }
        if found.advance(value, sum) {
            return Some(COUNT_BYTES);
        }
    }
    None
}

pub(crate) fn read_pipe(found: &Found, address: u64, count: u64) -> Option<u64> {
    for _ in 0..ATTEMPTS {
        let word = found.position()?;
        let slot = PipeSlot::from_word(word);
        let (count, left) = slot.read(count)?;
        if !copy(address, found.file.window.wrapping_add(slot.start), count) || !found.is_current() {
            return None;
        }
        if found.advance(word, left.word()) {
            return Some(count);
        }
    }
    None
}

/// Keeps others from the slot while it copies; who stops in the middle leaves it to the server, which loses nothing but the rest of
/// this write.
pub(crate) fn write_pipe(found: &Found, address: u64, count: u64) -> Option<u64> {
    for _ in 0..ATTEMPTS {
        let word = found.position()?;
        let begun = PipeSlot::from_word(word).begin_write(count)?;
        if !found.is_current() {
            return None;
        }
        if found.advance(word, begun.word()) {
            let is_copied = copy(found.file.window.wrapping_add(begun.end), address, count);
            return (is_copied && found.advance(begun.word(), begun.end_write(count).word())).then_some(count);
        }
    }
    None
}
