//! Images made and checked by e2fsprogs, and a disk for them.
#![allow(dead_code, reason = "each test program uses its part")]

mod compare;
pub(crate) mod model;
pub(crate) mod random;

use ext4::device::SECTOR_BYTES;
use ext4::{Device, DeviceFailed, Ext4, Options, Time};
use std::cell::RefCell;
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A time that every test begins with.
pub(crate) const START: Time = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

/// The time that checks take for the present, in seconds: nothing was written after it.
const LATE: &str = "2100000000";

/// Runs a future that never really waits.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    panic!("the future waits for ever");
}

/// A disk in memory.
pub(crate) struct Disk {
    pub(crate) bytes: RefCell<Vec<u8>>,
}

impl Disk {
    pub(crate) fn new(bytes: Vec<u8>) -> Rc<Self> {
        Rc::new(Self { bytes: RefCell::new(bytes) })
    }

    pub(crate) fn load(image: &Path) -> Rc<Self> {
        Self::new(std::fs::read(image).unwrap())
    }

    /// Writes the disk into a file, with holes for zeroes.
    pub(crate) fn save(&self, image: &Path) {
        const PART: usize = 64 << 10;
        let (bytes, zeroes) = (self.bytes.borrow(), [0; PART]);
        let file = std::fs::File::create(image).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (number, part) in bytes.chunks(PART).enumerate().filter(|(_, part)| **part != zeroes[..part.len()]) {
            file.write_all_at(part, (number * PART) as u64).unwrap();
        }
    }

    fn range(first_sector: u64, length: usize, size: usize) -> Result<std::ops::Range<usize>, DeviceFailed> {
        let start = usize::try_from(first_sector).map_err(|_| DeviceFailed)? * SECTOR_BYTES;
        if start + length <= size { Ok(start..start + length) } else { Err(DeviceFailed) }
    }
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        (self.bytes.borrow().len() / SECTOR_BYTES) as u64
    }

    async fn read(&self, first_sector: u64, bytes: &mut [u8]) -> Result<(), DeviceFailed> {
        let disk = self.bytes.borrow();
        bytes.copy_from_slice(&disk[Self::range(first_sector, bytes.len(), disk.len())?]);
        Ok(())
    }

    async fn write(&self, first_sector: u64, bytes: &[u8]) -> Result<(), DeviceFailed> {
        let mut disk = self.bytes.borrow_mut();
        let range = Self::range(first_sector, bytes.len(), disk.len())?;
        disk[range].copy_from_slice(bytes);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceFailed> {
        Ok(())
    }
}

/// A directory of one test, removed at its end.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// How an image is made: a name, and the arguments of mke2fs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// Of the image, in MiB.
    pub(crate) size: u64,
}

/// The kinds of file systems that there are.
pub(crate) const FORMATS: [Format; 10] = [
    Format { name: "ext4 as mke2fs makes it", arguments: &["-t", "ext4", "-b", "4096"], size: 32 },
    Format { name: "ext4 with small blocks", arguments: &["-t", "ext4", "-b", "1024"], size: 40 },
    Format { name: "ext4 without a journal", arguments: &["-t", "ext4", "-b", "1024", "-O", "^has_journal"], size: 24 },
    Format {
        name: "ext4 without checksums",
        arguments: &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum"],
        size: 32,
    },
    Format {
        name: "ext4 with checksums of groups only",
        arguments: &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"],
        size: 32,
    },
    Format { name: "ext4 with small inodes", arguments: &["-t", "ext4", "-b", "2048", "-I", "128"], size: 32 },
    Format {
        name: "ext4 of many flexible groups",
        arguments: &["-t", "ext4", "-b", "1024", "-g", "1024", "-G", "4", "-N", "4096"],
        size: 24,
    },
    Format {
        name: "ext4 with spread descriptors",
        arguments: &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "512",
            "-N",
            "4096",
            "-O",
            "meta_bg,^resize_inode,metadata_csum_seed",
        ],
        size: 24,
    },
    Format { name: "ext3", arguments: &["-t", "ext3", "-b", "1024"], size: 32 },
    Format { name: "ext2", arguments: &["-t", "ext2", "-b", "1024"], size: 24 },
];

fn tool(name: &str) -> Command {
    let found =
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    let mut tool = Command::new(found.unwrap_or_else(|| panic!("{name} is missing: apt-get install e2fsprogs")));
    tool.env("E2FSCK_TIME", LATE);
    tool
}

/// Makes an image, filled from a directory if one is given.
pub(crate) fn make(format: &Format, image: &Path, from: Option<&Path>) {
    let file = std::fs::File::create(image).unwrap();
    file.set_len(format.size << 20).unwrap();
    let mut mke2fs = tool("mke2fs");
    mke2fs.arg("-qF").args(format.arguments);
    if let Some(from) = from {
        mke2fs.arg("-d").arg(from);
    }
    let output = mke2fs.arg(image).output().unwrap();
    assert!(output.status.success(), "mke2fs for {format:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Fails unless a check of the image finds nothing.
pub(crate) fn check(image: &Path, when: &str) {
    let output = tool("e2fsck").args(["-fn"]).arg(image).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{when}: e2fsck -fn {}: {text}", image.display());
}

/// Has an image repaired, its journal replayed above all. What the tool says.
pub(crate) fn repair(image: &Path) -> String {
    let output = tool("e2fsck").args(["-fy"]).arg(image).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code().is_some_and(|code| code <= 1), "e2fsck -fy {}: {text}", image.display());
    text
}

/// What debugfs prints for a request.
pub(crate) fn debugfs(image: &Path, request: &str) -> String {
    let output = tool("debugfs").args(["-R", request]).arg(image).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has debugfs change an image.
pub(crate) fn debugfs_script(image: &Path, requests: &[&str]) {
    let script = image.with_extension("requests");
    std::fs::write(&script, requests.join("\n")).unwrap();
    let output = tool("debugfs").arg("-w").arg("-f").arg(script).arg(image).output().unwrap();
    assert!(output.status.success(), "debugfs: {}", String::from_utf8_lossy(&output.stderr));
}

/// Mounts what is on a disk.
pub(crate) fn mount(disk: &Rc<Disk>) -> Ext4<Disk> {
    run(Ext4::mount(disk.clone(), Options { now: START, ..Options::default() })).unwrap()
}

/// Gives a file blocks with whatever is there.
pub(crate) fn add_blocks(fs: &Ext4<Disk>, inode: u32, first: u64, count: u64) -> ext4::Result<()> {
    let placed = run(fs.promise(inode, first, count))?;
    run(fs.attach(inode, &placed, 0)).map(drop).inspect_err(|_| fs.give_back(&placed))
}
