//! Little-endian fields in bytes from the disk. Reading beyond the end gives zero and writing there does nothing: a caller
//! checks sizes once, and no accessor can panic.

use alloc::vec::Vec;

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|field| field.try_into().ok()).unwrap_or([0; N])
}

/// The 16-bit field at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// The 32-bit field at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The 64-bit field at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The byte at `at`.
#[must_use]
pub fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// A 64-bit number of which the halves are kept apart.
#[must_use]
pub fn joined(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Overwrites the bytes at `at`.
pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = at.checked_add(field.len()).and_then(|end| bytes.get_mut(at..end)) {
        place.copy_from_slice(field);
    }
}

/// Sets the 16-bit field at `at`.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

/// Sets the 32-bit field at `at`.
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

/// The bytes from `at`, as many as there are up to `length`.
#[must_use]
pub fn slice(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    let from = at.min(bytes.len());
    let to = at.saturating_add(length).min(bytes.len());
    bytes.get(from..to).unwrap_or(&[])
}

/// The bytes from `at` to change, as many as there are up to `length`.
#[must_use]
pub fn slice_mut(bytes: &mut [u8], at: usize, length: usize) -> &mut [u8] {
    let from = at.min(bytes.len());
    let to = at.saturating_add(length).min(bytes.len());
    bytes.get_mut(from..to).unwrap_or(&mut [])
}

/// Zeroes, `length` of them.
#[must_use]
pub fn zeroes(length: usize) -> Vec<u8> {
    alloc::vec![0; length]
}
