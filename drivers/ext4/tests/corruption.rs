//! Images whose metadata somebody changed at random, then used: errors may come of it, but no panic, no endless loop, no request
//! beyond the device, and no more memory than for a good image.
//!
//! `EXT4_TORTURE=N` makes it N times as many images: 28 are about 10,000. `EXT4_FIRST_IMAGE` says with which one to begin: what was wrong with
//! one can be seen again.
#![cfg(test)]

mod common;
#[path = "../src/simulated.rs"]
mod simulated;
mod workload;

use common::{Format, Place, START, make};
use ext4::{Attributes, Ext4, FileKind, New, Options, ROOT, Rename, Result, Time};
use simulated::{Disk, Random, run, run_while};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use workload::Workload;

/// Images per format.
const IMAGES: u64 = 60;
/// Most entries and files that a walk looks at.
const MOST_ENTRIES: usize = 400;
/// How long one image may take. Far more than any should.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most memory that the whole test program may have had, in KiB.
const MOST_MEMORY: u64 = 1 << 20;

const OPTIONS: Options = Options { read_only: false, keep_orphans: false, now: START };

/// With checksums damage is found at once; without them it is believed.
const FORMATS: [Format; 6] = [
    Format { name: "ext4", arguments: &["-t", "ext4", "-b", "1024", "-J", "size=1"], size: 8 },
    Format {
        name: "ext4 without checksums",
        arguments: &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "^metadata_csum"],
        size: 8,
    },
    Format {
        name: "ext4 of small groups without checksums",
        arguments: &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-J",
            "size=1",
            "-g",
            "512",
            "-N",
            "512",
            "-O",
            "^metadata_csum,^resize_inode,meta_bg",
        ],
        size: 6,
    },
    Format { name: "ext3", arguments: &["-t", "ext3", "-b", "1024", "-J", "size=1"], size: 8 },
    Format { name: "ext2", arguments: &["-t", "ext2", "-b", "1024"], size: 4 },
    Format { name: "ext4 with large blocks", arguments: &["-t", "ext4", "-b", "4096", "-J", "size=4"], size: 16 },
];

/// An image in use, with where its metadata are, in sectors of 512 bytes.
struct Base {
    image: Vec<u8>,
    metadata: Vec<u64>,
}

/// Fills a file system. Half of them are cut off in the middle of their work, so that the journal has something.
fn fill(format: &Format, seed: u64) -> Base {
    let place = Place::new();
    let path = place.path("image");
    make(format, &path, None);
    let disk = Rc::new(Disk::from_bytes(std::fs::read(&path).unwrap()));
    let mut workload = Workload::new(seed);
    run(async {
        let fs = Ext4::mount(disk.clone(), OPTIONS).await.unwrap();
        for _ in 0..150 {
            workload.step(&fs, &disk).await.unwrap();
        }
        fill_directory(&fs).await.unwrap();
        fill_in_pieces(&fs).await.unwrap();
        fs.commit().await.unwrap();
        if seed.is_multiple_of(2) {
            fs.unmount(START).await.unwrap();
        }
    });
    let image = disk.durable();
    let disk = Rc::new(Disk::from_bytes(image.clone()));
    run(async {
        let fs = Ext4::mount(disk.clone(), OPTIONS).await.unwrap();
        walk(&fs).await.unwrap();
    });
    Base { image, metadata: disk.touched() }
}

/// A directory of several blocks, so that there is more than one level of everything.
async fn fill_directory(fs: &Ext4<Disk>) -> Result<()> {
    for number in 0..120 {
        let [inode] = fs.reserve(ROOT, FileKind::Fifo, 1).await?[..] else { break };
        let name = format!("a rather long name in the directory {number}");
        fs.create(new_file(ROOT, name.as_bytes(), inode, FileKind::Fifo.mode())).await?;
    }
    Ok(())
}

/// Two files of many pieces and with attributes, of which one has no name.
async fn fill_in_pieces(fs: &Ext4<Disk>) -> Result<()> {
    for parent in [Some(ROOT), None] {
        let [inode] = fs.reserve(ROOT, FileKind::Regular, 1).await?[..] else { break };
        let name: &[u8] = if parent.is_some() { b"in pieces" } else { b"" };
        fs.create(New { parent, ..new_file(ROOT, name, inode, FileKind::Regular.mode()) }).await?;
        for piece in 0..100 {
            let placed = fs.promise(inode, piece * 3, 1).await?;
            fs.attach(inode, &placed, 0).await?;
        }
        let size = Some(300 * u64::from(fs.facts().block_bytes));
        fs.set_attributes(inode, Attributes { size, ..Attributes::default() }).await?;
        for (name, length) in [(&b"user.short"[..], 5), (b"user.long", 300), (b"trusted.longer", 200)] {
            fs.set_xattr(inode, name, &vec![b'v'; length], START).await?;
        }
    }
    Ok(())
}

fn new_file(parent: u32, name: &[u8], inode: u32, mode: u16) -> New<'_> {
    New { parent: Some(parent), name, inode, mode, uid: 0, gid: 0, device: (0, 0), target: b"target", now: START }
}

/// Changes a few things, mostly one field each.
fn damage(image: &mut [u8], metadata: &[u64], random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        // The superblock and the descriptors behind it are worth more than a few of many sectors.
        let near_start = random.one_in(4);
        let among = if near_start { (metadata.len() as u64 / 8).max(1) } else { metadata.len() as u64 };
        let sector = metadata[random.below(among) as usize] as usize + random.below(2) as usize;
        let at = (sector * 512).min(image.len() - 1024);
        let field = at + 4 * random.below(128) as usize;
        match random.below(12) {
            0 => image[at..at + 512].fill(0),
            1 => image[at..at + 512].fill(0xFF),
            2 => (at..at + 512).for_each(|at| image[at] = random.next() as u8),
            3 => {
                let from = metadata[random.below(metadata.len() as u64) as usize] as usize * 512;
                image.copy_within(from..from + 512, at);
            }
            4 => image[field] ^= 1 << random.below(8),
            5 => image[field..field + 4].fill(0),
            6 => image[field..field + 4].fill(0xFF),
            7 => image[field..field + 4].copy_from_slice(&(random.next() as u32).to_le_bytes()),
            8 => image[field..field + 2].copy_from_slice(&(random.below(1024) as u16).to_le_bytes()),
            9 => image[field..field + 4].copy_from_slice(&(random.below(9000) as u32).to_le_bytes()),
            10 => image[field..field + 4].copy_from_slice(&(random.below(9000) as u32).to_be_bytes()),
            _ => {
                let from = at + 4 * random.below(127) as usize;
                image.copy_within(from..from + 4, field);
            }
        }
    }
}

/// Looks at everything that can be reached. The directories and files found.
async fn walk(fs: &Ext4<Disk>) -> Result<(Vec<(u32, Vec<u8>)>, Vec<u32>)> {
    let (mut names, mut seen, mut left) = (Vec::new(), BTreeSet::new(), vec![ROOT]);
    while let Some(number) = left.pop() {
        if !seen.insert(number) || seen.len() > MOST_ENTRIES {
            continue;
        }
        let Ok(inode) = fs.inode(number).await else { continue };
        let _ = fs.xattrs(number).await;
        let _ = fs.read_link(number).await;
        for at in [0, 5, 12, 300, 70_000, 1 << 31, u64::from(u32::MAX)] {
            let _ = fs.map(number, at, 300).await;
        }
        let mut entries = 0;
        let add = |entry: ext4::Entry<'_>| {
            entries += 1;
            left.push(entry.inode);
            names.push((number, entry.name.to_vec()));
            if entries > MOST_ENTRIES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let _ = fs.list(number, 0, add).await;
        let _ = fs.lookup(number, b"none such").await;
        let _ = inode.kind();
    }
    names.truncate(MOST_ENTRIES);
    Ok((names, seen.into_iter().collect()))
}

/// Does things to files and names that may not be what they seem.
async fn use_at_random(fs: &Ext4<Disk>, names: &[(u32, Vec<u8>)], inodes: &[u32], random: &mut Random) {
    let now = Time { seconds: 5, nanoseconds: 6 };
    for step in 0..40 {
        let inode = inodes[random.below(inodes.len() as u64) as usize];
        let none = (ROOT, b"none".to_vec());
        let (parent, name) = names.get(random.below(names.len() as u64 + 1) as usize).unwrap_or(&none);
        let (to, over) = names.get(random.below(names.len() as u64 + 1) as usize).unwrap_or(&none);
        let fresh = format!("new {step}").into_bytes();
        let block = random.below(100);
        let _ = match random.below(16) {
            0 | 1 => create(fs, inode, &fresh, random).await,
            2 => fs.link(inode, *parent, &fresh, now).await,
            3 => fs.unlink(*parent, name, now).await.map(drop),
            4 => fs.rmdir(*parent, name, now).await.map(drop),
            5 => fs.rename((*parent, name), (inode, &fresh), Rename::Replace, now).await.map(drop),
            6 => fs.rename((*parent, name), (*to, over), Rename::Replace, now).await.map(drop),
            7 => fs.rename((*parent, name), (*to, over), Rename::Exchange, now).await.map(drop),
            8 => fs.truncate(inode, random.below(90_000), now).await,
            9 => fs.allocate(inode, block, 1 + random.below(30)).await.map(drop),
            10 => {
                let attributes = Attributes { size: Some(block * 1024 + 5000), ..Attributes::default() };
                let _ = fs.set_attributes(inode, attributes).await;
                match fs.promise(inode, block, 1).await {
                    Ok(placed) => fs.attach(inode, &placed, 0).await.map(drop).inspect_err(|_| fs.give_back(&placed)),
                    Err(error) => Err(error),
                }
            }
            11 => fs.punch(inode, block, 20).await,
            12 => fs.set_xattr(inode, b"user.some", &vec![1; random.below(300) as usize], now).await,
            13 => fs.fallocate(inode, random.below(400), 1 + random.below(60)).await,
            14 => fs.remove_xattr(inode, b"user.long", now).await,
            _ => match random.below(3) {
                0 => fs.forget(inode, now).await,
                1 => fs.convert(inode, block, 10).await.map(drop),
                _ => fs.commit().await.map(drop),
            },
        };
    }
    let _ = fs.statfs().await;
    let _ = fs.commit().await;
    let _ = fs.tidy().await;
}

async fn create(fs: &Ext4<Disk>, parent: u32, name: &[u8], random: &mut Random) -> Result<()> {
    let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink];
    let kind = kinds[random.below(3) as usize];
    for inode in fs.reserve(parent, kind, 1).await? {
        fs.create(new_file(parent, name, inode, kind.mode())).await?;
    }
    Ok(())
}

/// Uses a damaged image. Whether it could be mounted.
fn suffer(base: &Base, random: &mut Random, requests: Option<u64>) -> bool {
    let mut image = base.image.clone();
    damage(&mut image, &base.metadata, random);
    let disk = Rc::new(Disk::from_bytes(image));
    if let Some(requests) = requests {
        disk.fail_after(requests);
    }
    let life = async {
        let Ok(fs) = Ext4::mount(disk.clone(), OPTIONS).await else { return false };
        if let Ok((names, inodes)) = walk(&fs).await {
            use_at_random(&fs, &names, &inodes, random).await;
        }
        let _ = fs.unmount(START).await;
        true
    };
    let mounted = run_while(life, || true).unwrap();
    assert_eq!(disk.wild_requests(), 0, "requests beyond the device");
    mounted
}

/// Says which image it was, should one take for ever.
fn watch(what: &'static str, seed: Arc<AtomicU64>) -> mpsc::Sender<()> {
    let (alive, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut before = u64::MAX;
        while ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = seed.load(Ordering::Relaxed);
            if now == before {
                eprintln!("{what}: image {now} takes for ever");
                std::process::exit(101);
            }
            before = now;
        }
    });
    alive
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn torture(format: &'static Format) {
    let times = std::env::var("EXT4_TORTURE").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let bases = [fill(format, 0), fill(format, 1)];
    let current = Arc::new(AtomicU64::new(0));
    let _watched = watch(format.name, current.clone());
    let mut mounted = 0;
    let first = std::env::var("EXT4_FIRST_IMAGE").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    for seed in first..first + IMAGES * times {
        current.store(seed, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let requests = random.one_in(4).then(|| random.below(300));
        let base = &bases[seed as usize % 2];
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| suffer(base, &mut random, requests)));
        match result {
            Ok(was) => mounted += u64::from(was),
            Err(_) => panic!("{}: image {seed}", format.name),
        }
    }
    let images = IMAGES * times;
    println!("{}: {mounted} of {images} damaged images could be mounted", format.name);
    assert!(mounted > images / 10, "{mounted} of {images}: the damage is too rough to find anything");
    assert!(peak_memory() < MOST_MEMORY, "{} KiB of memory", peak_memory());
}

#[test]
fn damaged_ext4() {
    torture(&FORMATS[0]);
}

#[test]
fn damaged_ext4_without_checksums() {
    torture(&FORMATS[1]);
}

#[test]
fn damaged_ext4_of_small_groups() {
    torture(&FORMATS[2]);
}

#[test]
fn damaged_ext3() {
    torture(&FORMATS[3]);
}

#[test]
fn damaged_ext2() {
    torture(&FORMATS[4]);
}

#[test]
fn damaged_ext4_with_large_blocks() {
    torture(&FORMATS[5]);
}
