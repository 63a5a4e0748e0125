extern crate std;

use super::*;
use std::vec;

/// A file with one header per `(flags, offset, address, file size, memory size)`.
fn file(segments: &[(u32, u64, u64, u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    bytes[..16].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut put = |offset: usize, value: u64, len: usize| {
        bytes[offset..offset + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(16, 2, 2); // ET_EXEC
    put(18, 62, 2); // EM_X86_64
    put(20, 1, 4);
    put(24, 0x40_1000, 8); // entry
    put(32, 64, 8); // program headers
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, segments.len() as u64, 2);
    for (number, (flags, offset, address, file_size, memory_size)) in segments.iter().enumerate() {
        let at = 64 + number * 56;
        put(at, 1, 4); // PT_LOAD
        put(at + 4, u64::from(*flags), 4);
        put(at + 8, *offset, 8);
        put(at + 16, *address, 8);
        put(at + 32, *file_size, 8);
        put(at + 40, *memory_size, 8);
        put(at + 48, 0x1000, 8);
    }
    bytes
}

const R: u32 = PF_R;
const RX: u32 = PF_R | PF_X;
const RW: u32 = PF_R | PF_W;

#[test]
fn a_program_becomes_its_mappings() {
    let image = Image::parse(&file(&[
        (R, 0, 0x40_0000, 0x800, 0x800),
        (RX, 0x1000, 0x40_1000, 0x1234, 0x1234),
        (RW, 0x3010, 0x40_3010, 0x20, 0x5000),
    ]))
    .unwrap();
    assert_eq!(image.entry, 0x40_1000);
    let data = image.segments[2];
    assert_eq!((data.address, data.file_offset, data.file_bytes), (0x40_3000, 0x3000, 0x30));
    assert_eq!((data.mapped_bytes(), data.memory_bytes), (0x1000, 0x6000));
    assert!(data.is_private());
    assert_eq!(image.segments[1].protection, Protection::READ | Protection::EXECUTE);
}

#[test]
fn impossible_segments_are_refused() {
    let refused = |segments: &[_], error| assert_eq!(Image::parse(&file(segments)), Err(error));
    refused(&[], ImageError::SegmentCount);
    refused(&[(R, 0, 0x40_0000, 1, 1); 9], ImageError::SegmentRange);
    refused(&[(RW | PF_X, 0, 0x40_0000, 1, 1)], ImageError::WritableCode);
    for (offset, address, file_size, memory_size) in [
        (0x10, 0x40_0000, 1, 1),
        (0, 0x40_0000, 2, 1),
        (0, 0x40_0000, 0x5000, 0x5000),
        (u64::MAX - 0xfff, 0x40_0000, 0x1000, 0x1000),
        (0, 0, 1, 1),
        (0, 0x8000_0000_0000, 1, 1),
        (0, u64::MAX - 0xfff, 1, 1),
        (0, 0x40_0000, 1, u64::MAX),
    ] {
        refused(&[(R, offset, address, file_size, memory_size)], ImageError::SegmentRange);
    }
}

#[test]
fn every_truncation_is_refused_or_parsed_but_never_panics() {
    let whole = file(&[(R, 0, 0x40_0000, 0x800, 0x800), (RX, 0x1000, 0x40_1000, 0x1234, 0x1234)]);
    for length in (0..256).chain([0x7ff, 0x800, 0x2233]) {
        assert!(Image::parse(&whole[..length]).is_err());
    }
    for position in 0..256 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] = value;
            let _ = Image::parse(&damaged);
        }
    }
}
