//! Mounts, and files of disks where they differ from others: one program on Linux and on Quire, over the same disks, says the same.

use super::{Context, Counts};
use crate::build::{Artifacts, workspace};
use crate::guest::{Changes, Disk, Guest, Machine, Media, POLL_INTERVAL, Ports, Program};
use crate::image::{MEBIBYTE, Volume};
use crate::linux_kernel;
use crate::options::Addition;
use crate::process;
use crate::tree::Tree;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The size of each disk.
const DISK_BYTES: u64 = 24 * MEBIBYTE;
/// A byte of a superblock, which nothing but its checksum tells to be wrong.
const LABEL_AT: usize = 1024 + 0x78;
/// What the program is told: the disks, in this order, and where to mount.
const ARGUMENTS: [&str; 4] = ["/dev/vda", "/dev/vdb", "/dev/vdc", "/tmp/place"];
const GUEST_PROGRAM: &str = "/mounts";

/// The same on both, and what is left on the disk is in order.
pub(super) fn run(context: &Context) -> Result<Counts> {
    let artifacts = context.posix()?;
    let program = build(artifacts)?;
    let mut counts = Counts::default();
    counts.try_one("mounts and files of a disk are as on Linux", || {
        let linux = on_linux(artifacts, &context.guest(), &program)?;
        let quire = on_quire(artifacts, &context.guest(), &program)?;
        ensure!(!linux.is_empty(), "Linux said nothing");
        let pairs = linux.lines().zip(quire.lines()).filter(|(theirs, ours)| theirs != ours);
        let differences: Vec<String> =
            pairs.map(|(theirs, ours)| format!("Linux says `{theirs}`, Quire `{ours}`")).collect();
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        ensure!(linux == quire, "one says more than the other:\n{linux}\n{quire}");
        Ok(())
    });
    Ok(counts)
}

fn build(artifacts: &Artifacts) -> Result<PathBuf> {
    let program = artifacts.work_directory()?.join("mounts");
    let source = workspace().join("posix-server/tests/disk/mounts.c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// A file system, zeros, and a file system with a bad superblock.
fn disks(directory: &Path) -> Result<Vec<Disk>> {
    let paths = ["good", "zeros", "bad"].map(|name| directory.join(name));
    let [good, zeros, bad] = &paths;
    for path in [good, bad] {
        Volume { file: path.clone(), offset: 0 }.make(DISK_BYTES, &Tree::default())?;
    }
    fs::File::create(zeros)?.set_len(DISK_BYTES)?;
    let mut bytes = fs::read(bad)?;
    *bytes.get_mut(LABEL_AT).context("the image is too short")? ^= 1;
    fs::write(bad, bytes)?;
    let changes = [Changes::Kept, Changes::Lost, Changes::LostAndDamaged];
    Ok(paths.iter().zip(changes).map(|(path, changes)| Disk { changes, ..Disk::kept(path) }).collect())
}

fn on_quire(artifacts: &Artifacts, guest: &Guest, program: &Path) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let guest = Guest { disks: disks(directory.path())?, ..guest.clone() };
    let arguments = ARGUMENTS.map(str::to_owned);
    let outcome = guest.exec_captured(artifacts, &Program::of_host(program, &arguments)?, b"")?;
    check(directory.path())?;
    Ok(said(&String::from_utf8_lossy(&outcome.output)))
}

fn on_linux(artifacts: &Artifacts, guest: &Guest, program: &Path) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let kernel = linux_kernel::provide(artifacts)?;
    let own = vec![Addition { host: program.to_owned(), guest: GUEST_PROGRAM.to_owned() }];
    let additions = [linux_kernel::disk_modules(artifacts)?, own].concat();
    let script = format!("{GUEST_PROGRAM} {}", ARGUMENTS.join(" "));
    let initrd = linux_kernel::initial_file_system(&additions, &script)?;
    let mut media = Media::with_kernel(kernel, &initrd, linux_kernel::COMMAND_LINE.to_owned())?;
    media.attach(&disks(directory.path())?)?;
    let mut machine = Machine::start(guest, &media, Ports::Console)?;
    while machine.wait_until(Some(std::time::Instant::now() + POLL_INTERVAL))?.is_none() {
        ensure!(!machine.is_overdue(), "Linux ran into the time limit; its console:\n{}", machine.log().text());
    }
    media.check()?;
    check(directory.path())?;
    Ok(said(&machine.log().text()))
}

fn check(directory: &Path) -> Result<()> {
    Volume { file: directory.join("good"), offset: 0 }.check()
}

/// The lines that the program wrote: the kernel has a word to say, too.
fn said(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    lines.flat_map(|line| [line.trim_end(), "\n"]).collect()
}
