//! File systems with metadata changed by chance: every answer may be an error, none may be a panic or never come.
//!
//! `QUIRE_EXT4_IMAGES` says how many; more than the few of every run are for a long night. `QUIRE_EXT4_FIRST_IMAGE` says with
//! which one to begin: what was wrong with one can be seen again.
#![cfg(test)]

mod common;

use common::random::Random;
use common::{Disk, FORMATS, Format, Place, START, make, run};
use ext4::{Attributes, Device, Ext4, FileKind, New, Options, ROOT, Rename};
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Images unless told otherwise.
const FEW: u64 = 200;
/// Most inodes that are looked at in one image.
const MOST_INODES: usize = 200;
/// A single image takes much less.
const DEADLINE: Duration = Duration::from_secs(120);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// A directory with something of everything.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("directory/below")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..120 {
        fs::write(root.join(format!("many/a name that takes some room {number}")), b"contents").unwrap();
    }
    fs::write(root.join("large"), vec![1; 600_000]).unwrap();
    symlink("short", root.join("link")).unwrap();
    symlink("l".repeat(200), root.join("long link")).unwrap();
}

/// Makes an image with files of which some have many extents, attributes, and one has no name.
fn prepare(format: &Format) -> Vec<u8> {
    let place = Place::new();
    let (root, image) = (place.path("root"), place.path("image"));
    fs::create_dir(&root).unwrap();
    fill(&root);
    make(&Format { size: 4, ..*format }, &image, Some(&root));
    let disk = Disk::load(&image);
    let fs = common::mount(&disk);
    let numbers = run(fs.reserve(ROOT, FileKind::Regular, 2)).unwrap();
    for (inode, parent) in numbers.into_iter().zip([Some(ROOT), None]) {
        run(fs.create(new(parent, b"in pieces", inode, FileKind::Regular))).unwrap();
        run(fs.set_attributes(inode, Attributes { size: Some(2_000_000), ..Attributes::default() })).unwrap();
        for place in 0..100 {
            common::add_blocks(&fs, inode, place * 3, 1).unwrap();
        }
        for (name, size) in [(&b"user.short"[..], 5), (b"user.long", 500), (b"trusted.longer", 200)] {
            run(fs.set_xattr(inode, name, &vec![b'v'; size], START)).unwrap();
        }
    }
    run(fs.commit()).unwrap();
    // Not unmounted: there is something in the journal, and on the list of orphans.
    disk.bytes.borrow().clone()
}

fn new(parent: Option<u32>, name: &[u8], inode: u32, kind: FileKind) -> New<'_> {
    New {
        parent,
        name,
        inode,
        mode: kind.mode() | 0o644,
        uid: 0,
        gid: 0,
        device: (1, 3),
        target: b"target",
        now: START,
    }
}

/// Changes some of the bytes of blocks that are in use.
fn corrupt(bytes: &mut [u8], random: &mut Random) {
    let used: Vec<usize> = (0..bytes.len() / 64).filter(|part| bytes[part * 64..][..64] != [1; 64]).collect();
    let used: Vec<usize> = used.into_iter().filter(|part| bytes[part * 64..][..64] != [0; 64]).collect();
    for _ in 0..1 + random.below(12) {
        let near_start = random.chance(30);
        let limit = if near_start { used.len() as u64 / 8 } else { used.len() as u64 };
        let at = used[random.below(limit) as usize] * 64 + random.below(16) as usize * 4;
        let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let value = match random.below(7) {
            0 => 0,
            1 => u32::MAX,
            2 => old.wrapping_add(1),
            3 => old ^ 1 << random.below(32),
            4 => random.below(64) as u32,
            5 => random.next() as u32,
            _ => old.rotate_left(8),
        };
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Looks at everything that can be reached; errors are fine.
fn look(fs: &Ext4<Disk>) -> Vec<u32> {
    let mut seen = BTreeSet::from([ROOT]);
    let mut left = vec![ROOT];
    while let Some(number) = left.pop() {
        let Ok(inode) = run(fs.inode(number)) else { continue };
        let _ = run(fs.xattrs(number));
        let _ = run(fs.read_link(number));
        let _ = run(fs.map(number, 0, 10_000));
        let _ = run(fs.lookup(number, b"a name that takes some room 7"));
        if inode.is_directory() {
            let mut shown = 0;
            let _ = run(fs.list(number, 0, |entry| {
                shown += 1;
                if seen.len() < MOST_INODES && seen.insert(entry.inode) {
                    left.push(entry.inode);
                }
                if shown < 2_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }));
        }
    }
    seen.into_iter().collect()
}

/// Changes things; errors are fine.
fn change(fs: &Ext4<Disk>, inodes: &[u32], random: &mut Random) {
    let numbers = run(fs.reserve(ROOT, FileKind::Directory, 8)).unwrap_or_default();
    let names: [&[u8]; 6] =
        [b"in pieces", b"large", b"link", b"directory", b"a name that takes some room 9", b"a new name"];
    for _ in 0..60 {
        let Some(number) = random.pick(inodes) else { return };
        let (parent, name) = (random.pick(inodes).unwrap_or(ROOT), random.pick(&names).unwrap());
        let other = random.pick(&names).unwrap();
        let (first, count) = (random.below(400), 1 + random.below(60));
        let fresh = random.pick(&numbers).unwrap_or(20);
        let _ = match random.below(16) {
            0 => run(fs.create(new(Some(parent), name, fresh, FileKind::Regular))),
            1 => run(fs.create(new(Some(ROOT), other, fresh, FileKind::Directory))),
            2 => run(fs.link(number, parent, name, START)),
            3 => run(fs.unlink(parent, name, START)).map(drop),
            4 => run(fs.rmdir(parent, name, START)).map(drop),
            5 => run(fs.rename((ROOT, name), (parent, other), Rename::Replace, START)).map(drop),
            6 => run(fs.rename((parent, name), (ROOT, other), Rename::Exchange, START)).map(drop),
            7 => run(fs.truncate(number, first * 1000, START)),
            8 => common::add_blocks(fs, number, first, count),
            9 => run(fs.fallocate(number, first, count)),
            10 => run(fs.punch(number, first, count)),
            11 => run(fs.convert(number, first, count)).map(drop),
            12 => run(fs.set_xattr(number, b"user.new", &[7; 300], START)),
            13 => run(fs.remove_xattr(number, b"user.long", START)),
            14 => run(fs.forget(number, START)),
            _ => run(fs.commit()).map(drop),
        };
    }
}

/// One image: mounted, looked at, changed, unmounted.
fn use_image(bytes: &[u8], seed: u64) {
    let mut random = Random::new(seed);
    let mut bytes = bytes.to_vec();
    corrupt(&mut bytes, &mut random);
    let disk: Rc<Disk> = Disk::new(bytes);
    let options = Options { now: START, keep_orphans: random.chance(30), ..Options::default() };
    let Ok(fs) = run(Ext4::mount(disk.clone(), options)) else { return };
    let inodes = look(&fs);
    change(&fs, &inodes, &mut random);
    let _ = run(fs.statfs());
    let _ = run(fs.unmount(START));
    assert!(disk.sectors() > 0);
}

/// Ends everything when one image takes too long: which one is what to know.
fn watch(current: &'static AtomicU64) {
    std::thread::spawn(move || {
        loop {
            let before = current.load(Ordering::Relaxed);
            std::thread::sleep(DEADLINE);
            if before != 0 && before == current.load(Ordering::Relaxed) {
                eprintln!("image {before} never ends");
                std::process::abort();
            }
        }
    });
}

#[test]
fn corrupted_images_give_errors() {
    static CURRENT: AtomicU64 = AtomicU64::new(0);
    let formats = [FORMATS[3], FORMATS[4], FORMATS[8], FORMATS[9], FORMATS[1]];
    let formats: Vec<Vec<u8>> = formats.iter().map(prepare).collect();
    watch(&CURRENT);
    let first = number("QUIRE_EXT4_FIRST_IMAGE", 1);
    for image in first..first + number("QUIRE_EXT4_IMAGES", FEW) {
        CURRENT.store(image, Ordering::Relaxed);
        let format = &formats[(image % formats.len() as u64) as usize];
        if std::panic::catch_unwind(|| use_image(format, image)).is_err() {
            panic!("image {image}");
        }
    }
    CURRENT.store(0, Ordering::Relaxed);
}
