//! The GUID partition table (UEFI 2.10, chapter 5.3): a pure parser of bytes that nobody vouches for.
//!
//! A disk has the table twice: header in block 1, entries after it; and a second header in the last block, entries before it. Both
//! headers and the entries have checksums. [`read`] takes the first if all of it is right, else the second.

mod checksum;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use checksum::{crc32, crc32_with_blank};
use core::fmt;
use driver_protocol::block::{Description, SECTOR_BYTES, SectorRange};

/// Bytes of entries that are read at most; the usual 128 entries have 16 KiB.
const MAX_ENTRIES_BYTES: u64 = 256 << 10;
/// Bytes of a header at least.
const MIN_HEADER_BYTES: usize = 92;
/// Bytes of an entry at least.
const MIN_ENTRY_BYTES: u64 = 128;
/// Where a header's own checksum lies in it, in bytes.
const CHECKSUM_OFFSET: usize = 16;
/// What a header begins with.
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The revision that there is: 1.0.
const REVISION: u32 = 0x0001_0000;
/// UTF-16 units of a partition's name.
const NAME_UNITS: usize = 36;

/// A GUID, as it lies on the disk.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Linux file system data (0FC63DAF-8483-4772-8E79-3D69D8477DE4).
    pub const LINUX_DATA: Self =
        Self([0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);
    /// Linux swap (0657FD6D-A4AB-43C4-84E5-0933C84B4F4F).
    pub const LINUX_SWAP: Self =
        Self([0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f]);
    /// EFI system partition (C12A7328-F81F-11D2-BA4B-00A0C93EC93B).
    pub const EFI_SYSTEM: Self =
        Self([0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);

    /// Whether it stands for "none".
    pub const fn is_zero(self) -> bool {
        u128::from_ne_bytes(self.0) == 0
    }
}

impl fmt::Display for Guid {
    /// As people write it: the first three groups are little-endian on the disk.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let first = u32::from_le_bytes([a, b, c, d]);
        let (second, third) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        let [i, j, k, l, m, n, o, p] = rest;
        let last = u64::from_be_bytes([0, 0, k, l, m, n, o, p]);
        write!(formatter, "{first:08x}-{second:04x}-{third:04x}-{i:02x}{j:02x}-{last:012x}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number: that of its entry, from 1.
    pub number: u32,
    /// What it is for.
    pub type_guid: Guid,
    /// Which it is.
    pub unique_guid: Guid,
    /// The sectors of the disk that it has.
    pub range: SectorRange,
    /// Attribute bits (UEFI 2.10, table 5.8).
    pub attributes: u64,
    /// Its label; units that are no characters are replaced.
    pub name: String,
}

/// Why a table is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no signature: the disk is not partitioned so.
    Absent,
    /// The revision, or a size in the header, is not one that there is.
    Unsupported,
    /// The header's checksum, or what it says of its own place, is wrong.
    BadHeader,
    /// The entries' checksum is wrong.
    BadEntries,
    /// Partitions overlap, or lie outside of what the header calls usable.
    BadRange,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "there is no partition table",
            Self::Unsupported => "the partition table is of a kind that is not supported",
            Self::BadHeader => "the header of the partition table is damaged",
            Self::BadEntries => "the entries of the partition table are damaged",
            Self::BadRange => "partitions overlap or lie outside of the disk",
        })
    }
}

impl core::error::Error for Problem {}

/// Why there is no table to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError<E> {
    /// The disk could not be read.
    Disk(E),
    /// What was read is no table: what is wrong with the first.
    Table(Problem),
}

/// Which of the two tables was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// The first.
    Primary,
    /// The second, and what is wrong with the first.
    Backup(Problem),
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which disk it is.
    pub disk_guid: Guid,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// Which of the two it is.
    pub copy: Copy,
}

/// A disk's size and block size, in the table's own units.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    count: u64,
    bytes: u64,
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
struct Header {
    disk_guid: Guid,
    first_usable: u64,
    last_usable: u64,
    entries_block: u64,
    entry_count: u64,
    entry_bytes: u64,
    entries_checksum: u32,
}

/// Something sectors can be read from.
pub trait ReadSectors {
    /// Why that may fail.
    type Error;

    /// Fills `buffer`, a multiple of the disk's blocks, from sector `first` on.
    fn read(&self, first: u64, buffer: &mut [u8]) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Reads the partition table of a disk that is so described.
pub async fn read<D: ReadSectors>(disk: &D, description: &Description) -> Result<Table, ReadError<D::Error>> {
    let blocks = Blocks { count: description.sectors / description.block_sectors(), bytes: description.block_bytes };
    let problem = match read_copy(disk, blocks, 1, Copy::Primary).await {
        Err(ReadError::Table(problem)) => problem,
        other => return other,
    };
    match read_copy(disk, blocks, blocks.count.saturating_sub(1), Copy::Backup(problem)).await {
        Err(ReadError::Table(_)) => Err(ReadError::Table(problem)),
        other => other,
    }
}

async fn read_copy<D: ReadSectors>(
    disk: &D,
    blocks: Blocks,
    place: u64,
    copy: Copy,
) -> Result<Table, ReadError<D::Error>> {
    if place >= blocks.count || blocks.bytes > MAX_ENTRIES_BYTES {
        return Err(ReadError::Table(Problem::Absent));
    }
    let sectors_of = |block: u64| block.saturating_mul(blocks.bytes / SECTOR_BYTES);
    let mut bytes = vec![0; blocks.bytes as usize];
    disk.read(sectors_of(place), &mut bytes).await.map_err(ReadError::Disk)?;
    let header = Header::parse(&bytes, place, blocks).map_err(ReadError::Table)?;
    bytes.resize(header.entries_blocks(blocks).saturating_mul(blocks.bytes) as usize, 0);
    disk.read(sectors_of(header.entries_block), &mut bytes).await.map_err(ReadError::Disk)?;
    let partitions = header.partitions(&bytes, blocks).map_err(ReadError::Table)?;
    Ok(Table { disk_guid: header.disk_guid, partitions, copy })
}

impl Header {
    /// Reads the header that lies in block `place`.
    fn parse(block: &[u8], place: u64, blocks: Blocks) -> Result<Self, Problem> {
        let fields = Fields(block);
        if block.get(..SIGNATURE.len()) != Some(SIGNATURE) {
            return Err(Problem::Absent);
        }
        let len_bytes = fields.u32(12) as usize;
        if fields.u32(8) != REVISION || !(MIN_HEADER_BYTES..=block.len()).contains(&len_bytes) {
            return Err(Problem::Unsupported);
        }
        let bytes = block.get(..len_bytes).unwrap_or_default();
        if crc32_with_blank(bytes, CHECKSUM_OFFSET) != fields.u32(CHECKSUM_OFFSET) || fields.u64(24) != place {
            return Err(Problem::BadHeader);
        }
        let header = Self {
            disk_guid: fields.guid(56),
            first_usable: fields.u64(40),
            last_usable: fields.u64(48),
            entries_block: fields.u64(72),
            entry_count: fields.u32(80).into(),
            entry_bytes: fields.u32(84).into(),
            entries_checksum: fields.u32(88),
        };
        header.check(blocks).map(|()| header)
    }

    fn check(&self, blocks: Blocks) -> Result<(), Problem> {
        let is_entry_size = self.entry_bytes >= MIN_ENTRY_BYTES && self.entry_bytes.is_multiple_of(8);
        if !is_entry_size || self.entries_bytes() > MAX_ENTRIES_BYTES {
            return Err(Problem::Unsupported);
        }
        let entries_end = self.entries_block.checked_add(self.entries_blocks(blocks));
        let is_on_disk = entries_end.is_some_and(|end| end <= blocks.count) && self.last_usable < blocks.count;
        if is_on_disk && self.entries_block > 0 { Ok(()) } else { Err(Problem::BadHeader) }
    }

    fn entries_bytes(&self) -> u64 {
        self.entry_count.saturating_mul(self.entry_bytes)
    }

    fn entries_blocks(&self, blocks: Blocks) -> u64 {
        self.entries_bytes().div_ceil(blocks.bytes)
    }

    /// Reads the entries from the blocks that hold them.
    fn partitions(&self, bytes: &[u8], blocks: Blocks) -> Result<Vec<Partition>, Problem> {
        let bytes = bytes.get(..self.entries_bytes() as usize).ok_or(Problem::BadEntries)?;
        if crc32(bytes) != self.entries_checksum {
            return Err(Problem::BadEntries);
        }
        let entries = bytes.chunks_exact(self.entry_bytes as usize).zip(1..);
        let mut partitions = Vec::new();
        for (entry, number) in entries.filter(|(entry, _)| !Fields(entry).guid(0).is_zero()) {
            partitions.push(self.partition(Fields(entry), number, blocks)?);
        }
        if overlap(&partitions) { Err(Problem::BadRange) } else { Ok(partitions) }
    }

    fn partition(&self, entry: Fields<'_>, number: u32, blocks: Blocks) -> Result<Partition, Problem> {
        let (first, last) = (entry.u64(32), entry.u64(40));
        if first > last || first < self.first_usable || last > self.last_usable {
            return Err(Problem::BadRange);
        }
        let sectors = blocks.bytes / SECTOR_BYTES;
        // Neither product overflows: the last block is on the disk, whose sectors are a number.
        let range = SectorRange { first: first * sectors, count: (last - first + 1) * sectors };
        Ok(Partition {
            number,
            type_guid: entry.guid(0),
            unique_guid: entry.guid(16),
            range,
            attributes: entry.u64(48),
            name: entry.name(56),
        })
    }
}

/// Whether two of them share a sector.
fn overlap(partitions: &[Partition]) -> bool {
    let mut ranges: Vec<SectorRange> = partitions.iter().map(|partition| partition.range).collect();
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.iter().zip(ranges.iter().skip(1)).any(|(range, next)| range.end().is_none_or(|end| end > next.first))
}

/// Little-endian numbers in bytes; what lies beyond the end is 0.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        self.0.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u32(self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    fn u64(self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    fn guid(self, offset: usize) -> Guid {
        Guid(self.array(offset))
    }

    fn name(self, offset: usize) -> String {
        let units = (0..NAME_UNITS).map(|index| u16::from_le_bytes(self.array(offset + 2 * index)));
        let characters = char::decode_utf16(units.take_while(|unit| *unit != 0));
        characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }
}

#[cfg(test)]
mod tests;
