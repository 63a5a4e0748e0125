//! Journals that other tools wrote are replayed by a mount.
#![cfg(test)]

mod common;
#[path = "../src/simulated.rs"]
mod simulated;

use common::{Format, Place, START, check, make};
use ext4::{Ext4, Options, TransactionId};
use simulated::{Disk, run};
use std::fs;
use std::rc::Rc;

const BLOCK: usize = 1024;
/// Blocks that no file has.
const FREE: u64 = 9000;
const OPTIONS: Options = Options { read_only: false, keep_orphans: false, now: START };

/// A block that looks like a record of the log, so that the log can't have it as it is.
fn like_a_record() -> Vec<u8> {
    let mut bytes = vec![7; BLOCK];
    bytes[..4].copy_from_slice(&[0xC0, 0x3B, 0x39, 0x98]);
    bytes
}

fn replay(features: &'static [&'static str], open: &str) {
    let what = format!("{features:?}, {open}");
    let place = Place::new();
    let image = place.path("image");
    let format = Format { name: "journaled", arguments: features, size: 12 };
    make(&format, &image, None);
    let file = |name: &str, bytes: Vec<u8>| {
        fs::write(place.path(name), bytes).unwrap();
        place.path(name).to_str().unwrap().to_owned()
    };
    let first = file("first", [vec![1; BLOCK], vec![2; BLOCK], vec![3; BLOCK]].concat());
    let second = file("second", like_a_record());
    let lost = file("lost", vec![9; BLOCK]);
    common::debugfs_script(
        &image,
        &[
            open,
            &format!("jw -b {},{},{} {first}", FREE, FREE + 1, FREE + 2),
            &format!("jw -b {FREE} {second}"),
            &format!("jw -r {} /dev/null", FREE + 1),
            &format!("jw -c -b {} {lost}", FREE + 3),
            "jc",
        ],
    );
    let dump = common::debugfs(&image, "logdump -a");
    assert!(dump.contains("sequence 3, type 2 (commit block)"), "{what}: {dump}");
    let disk = Rc::new(Disk::from_bytes(fs::read(&image).unwrap()));
    let mounted = run(Ext4::mount(disk.clone(), OPTIONS)).unwrap_or_else(|error| panic!("{what}: {error}: {dump}"));
    assert_eq!(disk.recovered_last(), [TransactionId::from_sequence(3)], "{what}");
    run(mounted.unmount(START)).unwrap();
    let bytes = disk.durable();
    let block = |number: u64| &bytes[number as usize * BLOCK..(number as usize + 1) * BLOCK];
    assert!(block(FREE) == like_a_record(), "{what}: the newest copy");
    assert!(block(FREE + 1).iter().all(|byte| *byte == 0), "{what}: revoked");
    assert!(block(FREE + 2).iter().all(|byte| *byte == 3), "{what}: the only copy");
    assert!(block(FREE + 3).iter().all(|byte| *byte == 0), "{what}: not committed");
    fs::write(&image, bytes).unwrap();
    check(&image, &what);
    let header = common::debugfs(&image, "stats");
    assert!(!header.contains("needs_recovery"), "{what}: {header}");
}

const WIDE: &[&str] = &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "64bit"];
const NARROW: &[&str] = &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "^64bit"];
const OLD: &[&str] = &["-t", "ext3", "-b", "1024", "-J", "size=1"];
/// The journal, an inode with a map of blocks, in several pieces.
const PLAIN: &[&str] = &["-t", "ext4", "-b", "1024", "-J", "size=2", "-O", "^metadata_csum,^64bit", "-g", "1024"];

#[test]
fn journals_with_full_sums_are_replayed() {
    [WIDE, NARROW].iter().for_each(|features| replay(features, "jo -c -v 3"));
}

#[test]
fn journals_with_short_sums_are_replayed() {
    [WIDE, NARROW].iter().for_each(|features| replay(features, "jo -c -v 2"));
}

#[test]
fn journals_without_sums_are_replayed() {
    [WIDE, NARROW, OLD, PLAIN].iter().for_each(|features| replay(features, "jo"));
}
