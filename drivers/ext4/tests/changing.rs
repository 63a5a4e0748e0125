//! Many operations by chance do what they should, and what they leave is a sound file system: in the eyes of this library after
//! a mount, of `e2fsck`, and of `debugfs`.
//!
//! `QUIRE_EXT4_OPERATIONS` makes it longer: so many operations on each format.
#![cfg(test)]

mod common;

use common::model::{Habits, Model};
use common::{Disk, FORMATS, Format, Place, START, check, debugfs, make, mount, run};
use ext4::{Error, FileKind, New};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Operations on each format unless told otherwise.
const FEW: u64 = 800;
/// Rounds in which they are done, with a check after each.
const ROUNDS: u64 = 20;

fn operations() -> u64 {
    std::env::var("QUIRE_EXT4_OPERATIONS").map_or(FEW, |number| number.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("QUIRE_EXT4_SEED").map_or(1, |number| number.parse().unwrap())
}

/// Does many operations on a new file system; tells how often it was full.
fn torture(format: &Format, habits: Habits) -> u64 {
    let place = Place::new();
    let image = place.path("image");
    make(format, &image, None);
    let mut model = Model::new(Disk::load(&image), seed(), habits);
    let (mut done, all) = (0, operations());
    while done < all {
        let round = (all / ROUNDS).max(FEW).min(all - done);
        (0..round).for_each(|_| model.step());
        done += round;
        model.compare();
        model.unmount();
        model.disk.save(&image);
        check(&image, &format!("{} after {done} operations", format.name));
        model.mount();
        model.compare();
    }
    println!("{}: {:?}, full {} times", format.name, model.done, model.full);
    model.unmount();
    model.disk.save(&image);
    compare_with_debugfs(&place, &image, &model);
    model.full
}

/// Fails unless debugfs finds the same files.
fn compare_with_debugfs(place: &Place, image: &Path, model: &Model) {
    let root = place.path("dump");
    fs::create_dir(&root).unwrap();
    debugfs(image, &format!("rdump / {}", root.display()));
    let mut paths = vec![(root, ext4::ROOT)];
    while let Some((path, number)) = paths.pop() {
        let node = &model.nodes[&number];
        let at = path.display();
        match node.kind() {
            FileKind::Directory => {
                let known: BTreeMap<Vec<u8>, u32> = node.names.clone();
                let shown = fs::read_dir(&path).unwrap().count();
                let dumped = |number: &&u32| {
                    let kind = model.nodes[number].kind();
                    matches!(kind, FileKind::Directory | FileKind::Regular | FileKind::Symlink)
                };
                assert_eq!(shown, known.values().filter(dumped).count(), "{at}");
                let entry = |(name, number): (Vec<u8>, u32)| (path.join(String::from_utf8(name).unwrap()), number);
                paths.extend(known.into_iter().filter(|(_, number)| dumped(&number)).map(entry));
            }
            FileKind::Symlink => {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                assert_eq!(target, node.target, "{at}");
            }
            FileKind::Regular => {
                let bytes = fs::read(&path).unwrap();
                let size = u64::from(model.fs.facts().block_bytes) as usize;
                for (number, block) in bytes.chunks(size).enumerate() {
                    let tag = node.blocks.get(&(number as u64)).copied().unwrap_or(0).to_le_bytes();
                    assert!(block.chunks(8).all(|word| tag.starts_with(word)), "{at}: block {number}");
                }
            }
            FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket => {}
        }
    }
}

#[test]
fn operations_by_chance_leave_what_they_should_in_every_format() {
    let habits = Habits { names: 60, write_blocks: 40, directories: 20 };
    FORMATS.iter().for_each(|format| {
        torture(format, habits);
    });
}

#[test]
fn large_directories_keep_their_names() {
    let habits = Habits { names: 100_000, write_blocks: 1, directories: 2 };
    for format in [FORMATS[1], FORMATS[3], FORMATS[8]] {
        torture(&format, habits);
    }
}

/// Fills one directory until its index has two levels, and empties it again.
fn grow_and_empty(format: &Format) {
    const NAMES: usize = 3_000;
    let place = Place::new();
    let image = place.path("image");
    make(&Format { size: 8, ..*format }, &image, None);
    let disk = Disk::load(&image);
    let fs = mount(&disk);
    let numbers = run(fs.reserve(ext4::ROOT, FileKind::Directory, 2)).unwrap();
    let (directory, file) = (numbers[0], numbers[1]);
    let new = |name, inode, kind: FileKind| New {
        parent: Some(ext4::ROOT),
        name,
        inode,
        mode: kind.mode() | 0o700,
        uid: 0,
        gid: 0,
        device: (0, 0),
        target: b"",
        now: START,
    };
    run(fs.create(new(b"large", directory, FileKind::Directory))).unwrap();
    run(fs.create(new(b"file", file, FileKind::Regular))).unwrap();
    let name = |number: usize| format!("{number} {}", "long ".repeat(40)).into_bytes();
    for number in 0..NAMES {
        run(fs.link(file, directory, &name(number), START)).unwrap();
        assert_eq!(run(fs.link(file, directory, &name(number / 2), START)), Err(Error::Exists));
    }
    run(fs.unmount(START)).unwrap();
    disk.save(&image);
    check(&image, format.name);
    let fs = mount(&disk);
    for number in 0..NAMES {
        assert_eq!(run(fs.lookup(directory, &name(number))), Ok(file));
        run(fs.unlink(directory, &name(number), START)).unwrap();
    }
    run(fs.rmdir(ext4::ROOT, b"large", START)).unwrap();
    run(fs.forget(directory, START)).unwrap();
    run(fs.unmount(START)).unwrap();
    disk.save(&image);
    check(&image, format.name);
}

#[test]
fn an_index_of_two_levels_finds_every_name() {
    [FORMATS[1], FORMATS[4], FORMATS[8]].iter().for_each(grow_and_empty);
}

#[test]
fn full_file_systems_stay_sound() {
    let habits = Habits { names: 200, write_blocks: 600, directories: 20 };
    for (number, format) in [FORMATS[0], FORMATS[2], FORMATS[4], FORMATS[8], FORMATS[9]].iter().enumerate() {
        let small = Format { size: if number == 0 { 20 } else { 6 }, ..*format };
        assert!(torture(&small, habits) > 0, "{} was never full", format.name);
    }
}
