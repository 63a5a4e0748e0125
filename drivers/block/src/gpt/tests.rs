//! Tables made here, whole and damaged.

extern crate std;

use super::*;
use driver_protocol::block::Abilities;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use std::cell::Cell;

const ENTRIES: usize = 128;

struct Image {
    bytes: Vec<u8>,
    block_bytes: usize,
    /// Reads from this sector on fail.
    broken_from: Cell<u64>,
}

impl ReadSectors for Image {
    type Error = ();

    async fn read(&self, first: u64, buffer: &mut [u8]) -> Result<(), ()> {
        if first >= self.broken_from.get() {
            return Err(());
        }
        let from = first as usize * 512;
        buffer.copy_from_slice(self.bytes.get(from..from + buffer.len()).ok_or(())?);
        Ok(())
    }
}

impl Image {
    /// A disk of 256 blocks with two partitions.
    fn new(block_bytes: usize) -> Self {
        let bytes = vec![0; 256 * block_bytes];
        let mut image = Self { bytes, block_bytes, broken_from: Cell::new(u64::MAX) };
        let mut entries = vec![0; ENTRIES * 128];
        put_entry(&mut entries, 0, Guid::EFI_SYSTEM, 64, 95, "EFI");
        put_entry(&mut entries, 2, Guid::LINUX_DATA, 96, 200, "root \u{1f600}");
        image.put_tables(&entries);
        image
    }

    fn put_tables(&mut self, entries: &[u8]) {
        let blocks = self.entries_blocks();
        self.put_table(1, 255, 2, entries);
        self.put_table(255, 1, 255 - blocks, entries);
    }

    fn entries_blocks(&self) -> u64 {
        (ENTRIES * 128).div_ceil(self.block_bytes) as u64
    }

    fn put_table(&mut self, place: u64, other: u64, entries_block: u64, entries: &[u8]) {
        let at = entries_block as usize * self.block_bytes;
        self.bytes[at..at + entries.len()].copy_from_slice(entries);
        let usable_from = 2 + self.entries_blocks();
        let mut header = vec![0; 92];
        header[..8].copy_from_slice(SIGNATURE);
        header[8..12].copy_from_slice(&REVISION.to_le_bytes());
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        for (offset, value) in
            [(24, place), (32, other), (40, usable_from), (48, 254 - self.entries_blocks()), (72, entries_block)]
        {
            header[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[56..72].copy_from_slice(&[7; 16]);
        for (offset, value) in [(80, ENTRIES as u32), (84, 128), (88, crc32(entries))] {
            header[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = crc32(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        let at = place as usize * self.block_bytes;
        self.bytes[at..at + 92].copy_from_slice(&header);
    }

    fn read(&self) -> Result<Table, ReadError<()>> {
        let description = Description {
            sectors: (self.bytes.len() / 512) as u64,
            block_bytes: self.block_bytes as u64,
            abilities: Abilities::empty(),
            serial: Default::default(),
        };
        super::read(self, &description).now_or_never().expect("the image never waits")
    }
}

fn put_entry(entries: &mut [u8], index: usize, kind: Guid, first: u64, last: u64, name: &str) {
    let entry = &mut entries[index * 128..][..128];
    entry[..16].copy_from_slice(&kind.0);
    entry[16..32].copy_from_slice(&[index as u8 + 1; 16]);
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    for (unit, bytes) in name.encode_utf16().zip(entry[56..].chunks_mut(2)) {
        bytes.copy_from_slice(&unit.to_le_bytes());
    }
}

#[test]
fn a_table_tells_its_partitions_whatever_the_size_of_a_block() {
    for block_bytes in [512, 4096] {
        let table = Image::new(block_bytes).read().unwrap();
        let sectors = block_bytes as u64 / 512;
        assert_eq!(table.copy, Copy::Primary);
        assert_eq!(table.disk_guid, Guid([7; 16]));
        let [efi, root] = &table.partitions[..] else { panic!("{table:?}") };
        assert_eq!((efi.number, efi.type_guid, &*efi.name), (1, Guid::EFI_SYSTEM, "EFI"));
        assert_eq!(efi.range, SectorRange { first: 64 * sectors, count: 32 * sectors });
        assert_eq!((root.number, root.type_guid, &*root.name), (3, Guid::LINUX_DATA, "root \u{1f600}"));
        assert_eq!(root.range, SectorRange { first: 96 * sectors, count: 105 * sectors });
    }
}

#[test]
fn the_second_table_stands_in_for_a_damaged_first() {
    let mut image = Image::new(512);
    image.bytes[512 + 40] ^= 1;
    assert_eq!(image.read().unwrap().copy, Copy::Backup(Problem::BadHeader));
    let mut image = Image::new(512);
    image.bytes[2 * 512 + 33] ^= 1;
    assert_eq!(image.read().unwrap().copy, Copy::Backup(Problem::BadEntries));
    let mut image = Image::new(512);
    image.bytes[512..1024].fill(0);
    let table = image.read().unwrap();
    assert_eq!((table.copy, table.partitions.len()), (Copy::Backup(Problem::Absent), 2));
    image.bytes[255 * 512] ^= 1;
    assert_eq!(image.read(), Err(ReadError::Table(Problem::Absent)));
}

#[test]
fn partitions_that_overlap_or_leave_the_disk_are_no_partitions() {
    for (first, last) in [(90, 120), (0, 10), (200, 255), (100, 99), (64, 64), (0, u64::MAX)] {
        let mut image = Image::new(512);
        let mut entries = vec![0; ENTRIES * 128];
        put_entry(&mut entries, 0, Guid::EFI_SYSTEM, 64, 95, "");
        put_entry(&mut entries, 1, Guid::LINUX_DATA, first, last, "");
        image.put_tables(&entries);
        assert_eq!(image.read(), Err(ReadError::Table(Problem::BadRange)), "{first}..={last}");
    }
}

#[test]
fn a_disk_that_can_not_be_read_is_not_one_without_a_table() {
    let image = Image::new(512);
    image.broken_from.set(2);
    assert_eq!(image.read(), Err(ReadError::Disk(())));
    let empty = Image { bytes: Vec::new(), block_bytes: 512, broken_from: Cell::new(u64::MAX) };
    assert_eq!(empty.read(), Err(ReadError::Table(Problem::Absent)));
}

#[test]
fn a_guid_is_written_as_people_write_it() {
    assert_eq!(std::format!("{}", Guid::LINUX_DATA), "0fc63daf-8483-4772-8e79-3d69d8477de4");
    assert_eq!(std::format!("{}", Guid::LINUX_SWAP), "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
    assert_eq!(std::format!("{}", Guid::EFI_SYSTEM), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
}

proptest! {
    /// Whatever the header says, with a checksum that fits: no panic, no endless reading, and no partition off the disk.
    #[test]
    fn no_header_is_believed(offset in 8_usize..92, value: u64, entry_at in 0_usize..300, entry_byte: u8) {
        let mut image = Image::new(512);
        image.bytes[1024 + entry_at] = entry_byte;
        for (place, byte) in (offset.min(84)..).zip(value.to_le_bytes()) {
            image.bytes[512 + place] = byte;
        }
        let checksum = crc32_with_blank(&image.bytes[512..512 + 92], CHECKSUM_OFFSET);
        image.bytes[512 + 16..512 + 20].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(table) = image.read() {
            for partition in table.partitions {
                prop_assert!(partition.range.is_within(256));
            }
        }
    }
}
