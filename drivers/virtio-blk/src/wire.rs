//! The numbers of virtio disks (virtio 1.2, 5.2.3 to 5.2.6).

use driver_runtime::Register;
use virtio::Features;

/// Feature: [`SEGMENT_BYTES_MAX`] tells how long a segment may be.
pub const HAS_SEGMENT_BYTES_MAX: Features = Features::from_bits_retain(1 << 1);
/// Feature: [`SEGMENTS_MAX`] tells how many segments a request may have.
pub const HAS_SEGMENTS_MAX: Features = Features::from_bits_retain(1 << 2);
/// Feature: the disk can only be read.
pub const READ_ONLY: Features = Features::from_bits_retain(1 << 5);
/// Feature: [`BLOCK_BYTES`] tells the size of a block.
pub const HAS_BLOCK_BYTES: Features = Features::from_bits_retain(1 << 6);
/// Feature: the disk has a cache, which can be flushed.
pub const FLUSH: Features = Features::from_bits_retain(1 << 9);
/// Feature: [`QUEUES`] tells how many queues there are.
pub const MULTI_QUEUE: Features = Features::from_bits_retain(1 << 12);
/// Feature: sectors can be discarded.
pub const DISCARD: Features = Features::from_bits_retain(1 << 13);
/// Feature: sectors can be zeroed.
pub const WRITE_ZEROES: Features = Features::from_bits_retain(1 << 14);

/// How many sectors of 512 bytes the disk has; the high half follows.
pub const CAPACITY: Register<u32> = Register::at(0);
/// See [`HAS_SEGMENT_BYTES_MAX`].
pub const SEGMENT_BYTES_MAX: Register<u32> = Register::at(8);
/// See [`HAS_SEGMENTS_MAX`].
pub const SEGMENTS_MAX: Register<u32> = Register::at(12);
/// See [`HAS_BLOCK_BYTES`].
pub const BLOCK_BYTES: Register<u32> = Register::at(20);
/// See [`MULTI_QUEUE`].
pub const QUEUES: Register<u16> = Register::at(34);
/// How many sectors one discard may have.
pub const DISCARD_SECTORS_MAX: Register<u32> = Register::at(36);
/// How many sectors one writing of zeroes may have.
pub const ZEROES_SECTORS_MAX: Register<u32> = Register::at(48);

/// Request: read.
pub const IN: u32 = 0;
/// Request: write.
pub const OUT: u32 = 1;
/// Request: flush.
pub const FLUSH_CACHE: u32 = 4;
/// Request: tell the serial number.
pub const GET_ID: u32 = 8;
/// Request: discard.
pub const DISCARD_SECTORS: u32 = 11;
/// Request: write zeroes.
pub const ZERO_SECTORS: u32 = 13;

/// Bytes of the header of a request: what, reserved, first sector.
pub const HEADER_BYTES: u32 = 16;
/// Bytes that say which sectors to discard or to zero: first, count, flags.
pub const RANGE_BYTES: u32 = 16;
/// Bytes of a serial number.
pub const ID_BYTES: u32 = 20;

/// Status: done.
pub const STATUS_OK: u8 = 0;
/// Status: it failed.
pub const STATUS_IO_ERROR: u8 = 1;
/// Status: there is no such request.
pub const STATUS_UNSUPPORTED: u8 = 2;
