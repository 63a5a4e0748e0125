//! More pages in use than fit into memory: private memory with a swap partition, and files on a disk.

use super::{Context, Counts};
use crate::build::workspace;
use crate::guest::{Changes, Disk, Ending, Failure, Guest, Layer, MemorySize, Program, Root};
use crate::image::{self, MEBIBYTE, Sizes};
use crate::options::TestLength;
use crate::process;
use crate::tree::Tree;
use anyhow::{Context as _, Result, ensure};
use posix_protocol::host_link::ExitStatus;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How much is in use, how long and by how many: the arguments of the program.
struct Load {
    file_mebibytes: u64,
    anonymous_mebibytes: u64,
    seconds: u64,
    workers: u64,
}

/// Without files: twice the memory of the guest.
const SWAPPED: Load = Load { file_mebibytes: 0, anonymous_mebibytes: 512, seconds: 10, workers: 4 };
/// Files that are half as large again as the memory, and a quarter of it in private memory, without swap: the cache gives way.
const CACHED: Load = Load { file_mebibytes: 384, anonymous_mebibytes: 64, seconds: 5, workers: 4 };
/// With files: six times.
const ALL: Load = Load { file_mebibytes: 1024, anonymous_mebibytes: 512, seconds: 60, workers: 4 };
const SIZES: Sizes = Sizes { root_bytes: 2048 * MEBIBYTE, swap_bytes: 768 * MEBIBYTE };
/// How long a run takes besides, at most: all pages are stored once before, and looked at once after.
const BESIDES: Duration = Duration::from_secs(900);

impl Load {
    fn arguments(&self) -> Vec<String> {
        let Self { file_mebibytes, anonymous_mebibytes, seconds, workers } = self;
        let numbers = [file_mebibytes, anonymous_mebibytes, seconds, workers].map(|number| number.to_string());
        [vec!["/var/tmp".to_owned()], numbers.to_vec()].concat()
    }

    /// Runs it in a guest with little memory. Gives how it ended, what it said, and the guest's log.
    fn run(&self, context: &Context, guest: Guest) -> Result<(Ending, String, String)> {
        let timeout = Some(Duration::from_secs(self.seconds) + BESIDES);
        let guest = Guest { memory: MemorySize::SMALL, timeout, ..guest };
        let program = Program::of_host(&compile(context)?, &self.arguments())?;
        let outcome = guest.exec_captured(context.posix()?, &program, b"")?;
        let said = [&outcome.output[..], &outcome.errors].map(String::from_utf8_lossy).concat();
        println!("{said}");
        Ok((outcome.ending, said, outcome.log))
    }
}

fn compile(context: &Context) -> Result<PathBuf> {
    let program = context.posix()?.work_directory()?.join("working_set");
    let source = workspace().join("posix-server/tests/disk/working_set.c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Every page has what was stored there last, under load all the time; in the end all memory is free again.
fn everything_is_right(context: &Context, load: &Load, sizes: Sizes) -> Result<()> {
    let (ending, _, log) = load.run(context, Guest { root: Root::Image(sizes), ..context.guest() })?;
    ensure!(ending == Ending::Program(ExitStatus::Code(0)), "{ending:?}; the guest's log:\n{log}");
    Ok(())
}

/// Files that do not fit.
pub(super) fn file_cache(context: &Context) -> Result<Counts> {
    let mut counts = Counts::default();
    let sizes = Sizes { swap_bytes: 0, ..SIZES };
    counts.try_one("files are larger than the memory", || everything_is_right(context, &CACHED, sizes));
    Ok(counts)
}

/// Private memory that does not fit, and a disk that loses some of it.
pub(super) fn swap(context: &Context) -> Result<Counts> {
    let mut counts = Counts::default();
    counts.try_one("twice the memory is in use", || everything_is_right(context, &SWAPPED, SIZES));
    counts.try_one("who needs a page that the disk has lost ends, and nobody else", || a_page_is_lost(context));
    Ok(counts)
}

fn a_page_is_lost(context: &Context) -> Result<()> {
    /// A page of the partition that some worker's page comes to, and the sectors of a page.
    const PAGE: u64 = 5000;
    const SECTORS: u64 = 8;
    /// `SIGBUS`, as in a wait status.
    const DEATH: &str = "ended with status 0x7";
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("image");
    image::make(&path, Sizes { root_bytes: 64 * MEBIBYTE, ..SIZES }, &Tree::default(), &Vec::new())?;
    let place = image::swap_sector(&path)? + PAGE * SECTORS;
    let read = Failure { request: "read", sector: Some(place), once: false };
    let write = Failure { request: "write", sector: Some(place + 1000 * SECTORS), once: true };
    let disk = Disk { changes: Changes::Lost, layer: Layer::Failures(vec![read, write]), ..Disk::kept(&path) };
    let (ending, said, log) = SWAPPED.run(context, Guest { disks: vec![disk], ..context.guest() })?;
    ensure!(ending == Ending::Program(ExitStatus::Code(1)), "{ending:?}; the guest's log:\n{log}");
    let (right, dead) = (said.matches("all pages right").count(), said.matches(DEATH).count());
    let workers = usize::try_from(SWAPPED.workers).context("workers")?;
    // Each ran twice: the first time, all fitted.
    ensure!(dead > 0 && right + dead == 2 * workers, "{right} right, {dead} ended:\n{said}\n{log}");
    Ok(())
}

/// Files and private memory together, six times what the guest has.
pub(super) fn working_set(context: &Context) -> Result<Counts> {
    let seconds = match context.length() {
        TestLength::Usual => ALL.seconds,
        TestLength::Long => 600,
    };
    let mut counts = Counts::default();
    counts.try_one("six times the memory is in use", || everything_is_right(context, &Load { seconds, ..ALL }, SIZES));
    Ok(counts)
}
