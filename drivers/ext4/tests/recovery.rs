//! What was committed is there after an end without warning, and what had no name then is gone.
#![cfg(test)]

mod common;

use common::{Disk, FORMATS, Format, Place, START, check, debugfs, make, mount, run};
use ext4::checksum::crc32c;
use ext4::superblock;
use ext4::{Attributes, Error, Ext4, FileKind, New, Options, ROOT};
use std::rc::Rc;

fn image(format: &Format) -> (Place, Rc<Disk>) {
    let place = Place::new();
    make(format, &place.path("image"), None);
    let disk = Disk::load(&place.path("image"));
    (place, disk)
}

/// The disk as it is after a power cut now, with all writes done.
fn cut(disk: &Disk) -> Rc<Disk> {
    Disk::new(disk.bytes.borrow().clone())
}

fn create(fs: &Ext4<Disk>, name: &[u8]) -> u32 {
    let inode = run(fs.reserve(ROOT, FileKind::Regular, 1)).unwrap()[0];
    let new = New {
        parent: Some(ROOT),
        name,
        inode,
        mode: FileKind::Regular.mode() | 0o600,
        uid: 1,
        gid: 2,
        device: (0, 0),
        target: b"",
        now: START,
    };
    run(fs.create(new)).unwrap();
    inode
}

/// Gives a file blocks at every second place.
fn scatter(fs: &Ext4<Disk>, inode: u32, pieces: u64) {
    let size = pieces * 2 * u64::from(fs.facts().block_bytes);
    run(fs.set_attributes(inode, Attributes { size: Some(size), ..Attributes::default() })).unwrap();
    for piece in 0..pieces {
        common::add_blocks(fs, inode, piece * 2, 1).unwrap();
    }
}

fn unmount_and_check(place: &Place, disk: &Disk, fs: &Ext4<Disk>, when: &str) {
    run(fs.unmount(START)).unwrap();
    disk.save(&place.path("image"));
    check(&place.path("image"), when);
}

#[test]
fn what_was_committed_survives_and_the_rest_is_undone() {
    for format in [FORMATS[0], FORMATS[1], FORMATS[8]] {
        let (place, disk) = image(&format);
        let fs = mount(&disk);
        create(&fs, b"committed");
        run(fs.commit()).unwrap();
        create(&fs, b"not committed");
        let disk = cut(&disk);
        let fs = mount(&disk);
        assert!(run(fs.lookup(ROOT, b"committed")).is_ok());
        assert_eq!(run(fs.lookup(ROOT, b"not committed")), Err(Error::NotFound));
        unmount_and_check(&place, &disk, &fs, format.name);
    }
}

#[test]
fn files_without_a_name_go_at_the_next_mount() {
    for format in [FORMATS[0], FORMATS[8], FORMATS[9]] {
        let (place, disk) = image(&format);
        let fs = mount(&disk);
        let free = run(fs.statfs()).unwrap();
        let files: Vec<u32> = [b"a", b"b", b"c"].iter().map(|name| create(&fs, *name)).collect();
        for (file, name) in files.iter().zip([b"a", b"b", b"c"]) {
            scatter(&fs, *file, 30);
            assert_eq!(run(fs.unlink(ROOT, name, START)).unwrap().links, 0);
        }
        run(fs.commit()).unwrap();
        let disk = cut(&disk);
        let fs = mount(&disk);
        for file in files {
            assert_eq!(run(fs.inode(file)), Err(Error::NotFound));
        }
        assert_eq!(run(fs.statfs()).unwrap(), free, "{}", format.name);
        unmount_and_check(&place, &disk, &fs, format.name);
    }
}

#[test]
fn files_without_a_name_are_kept_for_who_has_them_open() {
    let (place, disk) = image(&FORMATS[0]);
    let fs = mount(&disk);
    let file = create(&fs, b"open");
    scatter(&fs, file, 10);
    run(fs.unlink(ROOT, b"open", START)).unwrap();
    run(fs.commit()).unwrap();
    let disk = cut(&disk);
    let fs = run(Ext4::mount(disk.clone(), Options { keep_orphans: true, now: START, ..Options::default() })).unwrap();
    assert_eq!(run(fs.inode(file)).unwrap().links, 0);
    run(fs.link(file, ROOT, b"again", START)).unwrap();
    assert_eq!(run(fs.lookup(ROOT, b"again")), Ok(file));
    unmount_and_check(&place, &disk, &fs, "an orphan that was linked again");
}

#[test]
fn a_cut_that_was_begun_is_finished_by_the_next_mount() {
    let scattered = Format { size: 24, ..FORMATS[6] };
    let (place, disk) = image(&scattered);
    let fs = mount(&disk);
    let file = create(&fs, b"huge");
    scatter(&fs, file, 4_000);
    run(fs.commit()).unwrap();
    let before = run(fs.statfs()).unwrap().free_blocks;
    // The first step of many: the size is set, and the file is on the list of orphans.
    run(fs.truncate(file, 5, START)).unwrap();
    let after = run(fs.statfs()).unwrap().free_blocks;
    assert!(after > before + 3_000);
    run(fs.commit()).unwrap();
    let disk = cut(&disk);
    let fs = mount(&disk);
    assert_eq!(run(fs.inode(file)).unwrap().size, 5);
    assert_eq!(run(fs.statfs()).unwrap().free_blocks, after);
    unmount_and_check(&place, &disk, &fs, "a huge file cut");
}

/// Moves the only orphan of a disk from the list to the file of orphans, where newer Linux has them.
fn move_to_orphan_file(disk: &Disk, block: usize, block_bytes: usize, seed: u32) {
    const LAST_ORPHAN: usize = 1024 + 0xE8;
    let mut bytes = disk.bytes.borrow_mut();
    let orphan: [u8; 4] = bytes[LAST_ORPHAN..][..4].try_into().unwrap();
    bytes[LAST_ORPHAN..][..4].fill(0);
    bytes[1024 + 0x66] |= 1;
    superblock::seal(&mut bytes[1024..2048]);
    let entries = &mut bytes[block * block_bytes..][..block_bytes];
    entries[20..24].copy_from_slice(&orphan);
    let sum = crc32c(crc32c(seed, &(block as u64).to_le_bytes()), &entries[..block_bytes - 8]);
    entries[block_bytes - 4..].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn what_newer_linux_left_in_its_file_of_orphans_goes() {
    let arguments = &["-t", "ext4", "-b", "1024", "-O", "orphan_file"];
    let (place, disk) = image(&Format { name: "ext4 with a file of orphans", arguments, size: 16 });
    let fs = mount(&disk);
    let free = run(fs.statfs()).unwrap();
    let file = create(&fs, b"open");
    scatter(&fs, file, 10);
    run(fs.unlink(ROOT, b"open", START)).unwrap();
    let (seed, number) = (fs.facts().checksum_seed, fs.facts().orphan_file);
    run(fs.unmount(START)).unwrap();
    disk.save(&place.path("image"));
    let shown = debugfs(&place.path("image"), &format!("bmap <{number}> 0"));
    let (block, seed) = (shown.trim().parse().unwrap(), crc32c(seed, &number.to_le_bytes()));
    move_to_orphan_file(&disk, block, 1024, crc32c(seed, &0_u32.to_le_bytes()));
    let fs = mount(&disk);
    assert!(!fs.is_read_only());
    assert_eq!(run(fs.inode(file)), Err(Error::NotFound));
    assert_eq!(run(fs.statfs()).unwrap(), free);
    unmount_and_check(&place, &disk, &fs, "a file of orphans");
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let (_place, disk) = image(&FORMATS[1]);
    let before = disk.bytes.borrow().clone();
    let fs = run(Ext4::mount(disk.clone(), Options { read_only: true, now: START, ..Options::default() })).unwrap();
    assert!(fs.is_read_only());
    assert_eq!(run(fs.unlink(ROOT, b"lost+found", START)), Err(Error::ReadOnly));
    run(fs.unmount(START)).unwrap();
    assert!(*disk.bytes.borrow() == before);
}
