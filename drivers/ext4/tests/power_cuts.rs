//! The power goes at any moment, also while a mount recovers from the time before: what was promised is there, nothing is half
//! done, and a check of the file system finds nothing.
//!
//! `EXT4_TORTURE=N` makes each test N times as long.
#![cfg(test)]

mod common;
#[path = "../src/simulated.rs"]
mod simulated;
mod workload;

use common::{Format, Place, START, check, make};
use ext4::{Ext4, Options, TransactionId};
use simulated::{Disk, Random, pause, run, run_while};
use std::rc::Rc;
use workload::model::{Model, observe};
use workload::{Steps, Workload};

/// Small file systems with small journals, so that both get full.
const FORMATS: [Format; 5] = [
    Format { name: "ext4", arguments: &["-t", "ext4", "-b", "1024", "-J", "size=1"], size: 12 },
    Format { name: "ext4 with large blocks", arguments: &["-t", "ext4", "-b", "4096", "-J", "size=4"], size: 24 },
    Format {
        name: "ext4 without checksums",
        arguments: &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "^metadata_csum,^64bit"],
        size: 12,
    },
    Format { name: "ext3", arguments: &["-t", "ext3", "-b", "1024", "-J", "size=1"], size: 12 },
    Format {
        name: "ext4 of small groups",
        arguments: &["-t", "ext4", "-b", "1024", "-J", "size=1", "-g", "1024", "-G", "4", "-N", "512"],
        size: 8,
    },
];

fn times() -> u64 {
    std::env::var("EXT4_TORTURE").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

const OPTIONS: Options = Options { read_only: false, keep_orphans: false, now: START };

/// What a time of use left behind.
struct Remains {
    image: Vec<u8>,
    /// Operations that were said to be durable.
    promised: u64,
    notes: Vec<(TransactionId, u64)>,
}

/// Uses a file system until the power goes.
fn live(image: Vec<u8>, workload: &mut Workload, requests: u64) -> Remains {
    let disk = Rc::new(Disk::from_bytes(image));
    let mut random = workload.random.clone();
    disk.set_jitter(random.below(4) as u32, random.clone());
    let fs = run(Ext4::mount(disk.clone(), OPTIONS)).unwrap();
    disk.set_note(workload.operations());
    let mut promised = 0;
    disk.cut_after(requests);
    let commits = async {
        loop {
            let id = fs.commit().await.unwrap();
            promised = disk.closed().iter().rfind(|(closed, _)| *closed <= id).map_or(promised, |(_, note)| *note);
            if random.one_in(4) {
                fs.tidy().await.unwrap();
            }
            pause(random.below(400) as u32).await;
        }
    };
    let operations = async {
        loop {
            workload.step(&fs, &disk).await.unwrap();
            pause(workload.random.below(6) as u32).await;
        }
    };
    let ended: Option<((), ())> = run_while(futures_util::future::join(commits, operations), || disk.is_on());
    assert!(ended.is_none());
    assert_eq!(fs.overdrawn(), 0, "an operation changed more blocks than it had asked for");
    Remains { image: disk.after_power_cut(&mut workload.random), promised, notes: disk.closed() }
}

/// Mounts what the power cut left, with more power cuts meanwhile: what is there then, and the last transaction of the journal.
fn recover(mut image: Vec<u8>, random: &mut Random) -> (Vec<u8>, Model, TransactionId) {
    let mut last = None;
    loop {
        let disk = Rc::new(Disk::from_bytes(image));
        if random.one_in(2) {
            disk.cut_after(random.below(100));
        }
        let life = async {
            let fs = Ext4::mount(disk.clone(), OPTIONS).await.unwrap();
            let model = observe(&fs, &disk).await.unwrap();
            fs.unmount(START).await.unwrap();
            model
        };
        let model = run_while(life, || disk.is_on());
        last = last.or(disk.recovered_last().first().copied());
        match model {
            Some(model) => return (disk.durable(), model, last.unwrap()),
            None => image = disk.after_power_cut(random),
        }
    }
}

/// The operations that a model is the outcome of.
fn find(workload: &Workload, model: &Model, noted: u64) -> Option<u64> {
    let fits =
        |index: u64| workload.states.get(index as usize).is_some_and(|(state, _)| state.without_nameless() == *model);
    let next = workload.states.get(noted as usize + 1).is_some_and(|(_, steps)| *steps == Steps::Several);
    [Some(noted), next.then_some(noted + 1)].into_iter().flatten().find(|index| fits(*index))
}

fn torture(format: &Format, seed: u64, lives: u64) {
    let place = Place::new();
    let path = place.path("image");
    make(format, &path, None);
    let mut image = std::fs::read(&path).unwrap();
    let mut workload = Workload::new(seed);
    for life in 0..lives {
        let when = format!("{}, seed {seed}, life {life}", format.name);
        let requests = workload.random.below(600);
        let begun_with = workload.operations();
        let remains = live(image, &mut workload, requests);
        let (recovered, model, last) = recover(remains.image.clone(), &mut workload.random.clone());
        let noted = remains.notes.iter().rfind(|(id, _)| *id <= last).map_or(begun_with, |(_, note)| *note);
        assert!(noted >= remains.promised, "{when}: {noted} of {} promised operations", remains.promised);
        let Some(found) = find(&workload, &model, noted) else {
            let expected = workload.states[noted as usize].0.without_nameless();
            panic!("{when}: not what {noted} operations make:\n{}", difference(&expected, &model));
        };
        std::fs::write(&path, &recovered).unwrap();
        check(&path, &when);
        if life % 4 == 0 {
            check_replay_by_e2fsck(&path, &remains.image, &model, &when);
        }
        workload.states.truncate(found as usize + 1);
        let last = workload.states.last_mut().unwrap();
        last.0 = last.0.without_nameless();
        workload.random.next();
        image = recovered;
    }
}

/// What e2fsck makes of the journal is what we make of it.
fn check_replay_by_e2fsck(path: &std::path::Path, image: &[u8], model: &Model, when: &str) {
    std::fs::write(path, image).unwrap();
    let said = common::repair(path);
    let repairs = |line: &&str| line.contains("? yes") && !line.contains("Optimize");
    assert!(said.lines().find(repairs).is_none(), "{when}: e2fsck -fy had to repair: {said}");
    let disk = Rc::new(Disk::from_bytes(std::fs::read(path).unwrap()));
    let observed = run(async {
        let fs = Ext4::mount(disk.clone(), OPTIONS).await.unwrap();
        observe(&fs, &disk).await.unwrap()
    });
    assert!(observed == *model, "{when}: replayed by e2fsck:\n{}", difference(model, &observed));
}

/// The first few things that differ.
fn difference(expected: &Model, found: &Model) -> String {
    let mut lines = Vec::new();
    for (name, inode) in &expected.names {
        if found.names.get(name) != Some(inode) {
            lines.push(format!(
                "{} in {}: {inode}, found {:?}",
                String::from_utf8_lossy(&name.1),
                name.0,
                found.names.get(name)
            ));
        }
    }
    for name in found.names.keys().filter(|name| !expected.names.contains_key(*name)) {
        lines.push(format!("{} in {}: not expected", String::from_utf8_lossy(&name.1), name.0));
    }
    for (inode, node) in &expected.nodes {
        match found.nodes.get(inode) {
            Some(other) if other == node => {}
            other => lines.push(format!("{inode}: {node:?}\n  found {other:?}")),
        }
    }
    lines.truncate(6);
    lines.join("\n")
}

#[test]
fn power_cuts_of_ext4() {
    (0..2 * times()).for_each(|seed| torture(&FORMATS[0], seed, 8));
}

#[test]
fn power_cuts_of_ext4_with_large_blocks() {
    (0..times()).for_each(|seed| torture(&FORMATS[1], 1000 + seed, 8));
}

#[test]
fn power_cuts_of_ext4_without_checksums() {
    (0..times()).for_each(|seed| torture(&FORMATS[2], 2000 + seed, 8));
}

#[test]
fn power_cuts_of_ext3() {
    (0..times()).for_each(|seed| torture(&FORMATS[3], 3000 + seed, 8));
}

#[test]
fn power_cuts_of_ext4_of_small_groups() {
    (0..times()).for_each(|seed| torture(&FORMATS[4], 4000 + seed, 8));
}
