//! Power cuts: a disk under write load, whose power fails at random points.
//!
//! One run of the load gives them all: QEMU logs what the disk is told ([`image::WriteLog`]), and for each point of the log a disk is
//! made as it may be when the power fails there. Its journal is replayed; then the file system must be in order, and have everything
//! whose `fsync` was reported while the log was not longer than that.

use super::{Context, Counts};
use crate::build::{Artifacts, workspace};
use crate::guest::{Changes, Disk, Ending, Guest, Input, Layer, Machine, Media, POLL_INTERVAL, Ports, Program, Stream};
use crate::image::{Chance, MEBIBYTE, Replay, Volume, WriteLog};
use crate::linux_kernel;
use crate::options::{Addition, TestLength};
use crate::process;
use crate::progress::Step;
use crate::tree::Tree;
use anyhow::{Context as _, Result, bail, ensure};
use posix_protocol::host_link::ExitStatus;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The size of the file system: small, so that its journal goes round.
const VOLUME_BYTES: u64 = 64 * MEBIBYTE;
/// How many processes write, and for how long.
const WORKERS: u32 = 3;
const LOAD_SECONDS: u32 = 12;
/// Of so many disks that Quire left, it recovers one itself; the others are recovered by e2fsck.
const RECOVERED_BY_US: usize = 7;
/// Where they do, in the guest.
const DIRECTORY: &str = "/mnt";
const GUEST_PROGRAM: &str = "/power_cut";

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    /// Shows that this test finds nothing where there is nothing.
    Linux,
    Quire,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "Linux",
            Self::Quire => "Quire",
        })
    }
}

/// What the load said, and how long the log was when it was heard, in bytes.
struct Report {
    line: String,
    log_bytes: u64,
}

/// The files of a run.
struct Files {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn volume(&self, name: &str) -> Volume {
        Volume { file: self.path(name), offset: 0 }
    }

    /// The disk of the guest: a copy of the empty file system, with a log.
    fn disk(&self) -> Disk {
        let mount = Some(DIRECTORY.to_owned());
        Disk {
            changes: Changes::Lost,
            layer: Layer::WriteLog(self.path("log")),
            mount,
            ..Disk::kept(&self.path("empty"))
        }
    }

    fn report(&self, line: &str) -> Result<Report> {
        Ok(Report { line: line.to_owned(), log_bytes: fs::metadata(self.path("log"))?.len() })
    }

    fn additions(&self) -> Vec<Addition> {
        vec![Addition { host: self.program.clone(), guest: GUEST_PROGRAM.to_owned() }]
    }
}

/// Power cuts under Linux, to test the test, and under Quire.
pub(super) fn run(context: &Context) -> Result<Counts> {
    let cuts = match context.length() {
        TestLength::Usual => 15,
        TestLength::Long => 200,
    };
    let artifacts = context.posix()?;
    let mut counts = Counts::default();
    for system in [System::Linux, System::Quire] {
        let step = Step::begin(format!("writing on {system}"));
        let files = prepare(artifacts)?;
        let reports = match system {
            System::Linux => load_on_linux(artifacts, &context.guest(), &files)?,
            System::Quire => load_on_quire(artifacts, &context.guest(), &files)?,
        };
        step.done();
        ensure!(!reports.is_empty(), "{system} wrote nothing");
        counts += cut(context, system, &files, &reports, cuts)?;
    }
    Ok(counts)
}

fn prepare(artifacts: &Artifacts) -> Result<Files> {
    let program = artifacts.work_directory()?.join("power_cut");
    let source = workspace().join("posix-server/tests/disk/power_cut.c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    let directory = tempfile::Builder::new().prefix("quire-").tempdir().context("can't make a temporary directory")?;
    let files = Files { program, directory };
    files.volume("empty").make(VOLUME_BYTES, &Tree::default())?;
    fs::write(files.path("log"), b"")?;
    Ok(files)
}

fn arguments() -> Vec<String> {
    ["load".to_owned(), DIRECTORY.to_owned(), WORKERS.to_string(), LOAD_SECONDS.to_string()].to_vec()
}

fn load_on_quire(artifacts: &Artifacts, guest: &Guest, files: &Files) -> Result<Vec<Report>> {
    let guest = Guest { disks: vec![files.disk()], ..guest.clone() };
    let program = Program::of_host(&files.program, &arguments())?;
    let (mut reports, mut line) = (Vec::new(), String::new());
    let mut sink = |stream, bytes: &[u8]| {
        if stream == Stream::Output {
            for byte in bytes {
                match byte {
                    b'\n' => reports.push(files.report(&std::mem::take(&mut line))?),
                    byte => line.push(char::from(*byte)),
                }
            }
        }
        Ok(())
    };
    let finished = guest.exec(artifacts, &program, Input::Bytes(Vec::new()), &mut sink)?;
    match finished.ending {
        Ending::Program(ExitStatus::Code(0)) => Ok(reports),
        ending @ (Ending::Program(_) | Ending::TimedOut | Ending::Died(_)) => {
            bail!("the load ended with {ending:?}; the guest's log:\n{}", finished.tail)
        }
    }
}

fn load_on_linux(artifacts: &Artifacts, guest: &Guest, files: &Files) -> Result<Vec<Report>> {
    let kernel = linux_kernel::provide(artifacts)?;
    let additions = [linux_kernel::disk_modules(artifacts)?, files.additions()].concat();
    let script = format!(
        "/bin/busybox mount -t ext4 /dev/vda {DIRECTORY} && {GUEST_PROGRAM} {}; /bin/busybox umount {DIRECTORY}",
        arguments().join(" ")
    );
    let initrd = linux_kernel::initial_file_system(&additions, &script)?;
    let mut media = Media::with_kernel(kernel, &initrd, linux_kernel::COMMAND_LINE.to_owned())?;
    media.attach(&[files.disk()])?;
    let mut machine = Machine::start(guest, &media, Ports::Console)?;
    let (mut reports, mut heard) = (Vec::new(), 0);
    loop {
        let end = machine.wait_until(Some(std::time::Instant::now() + POLL_INTERVAL))?;
        let text = machine.log().text();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        // The kernel has a word to say, too.
        for line in text.get(heard..whole).unwrap_or_default().lines().filter(|line| line.starts_with("done ")) {
            reports.push(files.report(line)?);
        }
        heard = whole;
        if end.is_some() {
            media.check()?;
            return Ok(reports);
        }
        ensure!(!machine.is_overdue(), "Linux ran into the time limit; its console:\n{text}");
    }
}

/// Cuts the power at random points of the log, in order, and checks what is left each time.
fn cut(context: &Context, system: System, files: &Files, reports: &[Report], cuts: usize) -> Result<Counts> {
    let log = WriteLog::read(&files.path("log"))?;
    let step =
        Step::begin(format!("{cuts} power cuts in {} requests and {} reports of {system}", log.len(), reports.len()));
    let mut chance = Chance::new(cuts as u64);
    let mut points: Vec<_> = (0..cuts).map(|_| chance.below(log.len() as u64) as usize + 1).collect();
    points.sort_unstable();
    let mut replay = Replay::begin(&log, &files.path("empty"))?;
    let mut counts = Counts::default();
    for (number, point) in points.into_iter().enumerate() {
        replay.flush_up_to(point)?;
        copy(&files.path("empty"), &files.path("copy"))?;
        replay.tear(point, &files.path("copy"), &mut chance)?;
        let log_bytes = log.length_after(point - 1);
        let lines = reports.iter().filter(|report| report.log_bytes <= log_bytes).map(|report| report.line.as_str());
        let lines = lines.collect::<Vec<_>>().join("\n");
        counts.try_one(&format!("a power cut after request {point} of {system}"), || {
            if system == System::Quire && number % RECOVERED_BY_US == 0 {
                recover_by_quire(context, files, &lines)
            } else {
                check(system, files, &lines)
            }
        });
    }
    step.done();
    Ok(counts)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to))
}

/// Quire recovers the disk and finds what was reported; when it has been put out of use, there is nothing to repair.
fn recover_by_quire(context: &Context, files: &Files, reports: &str) -> Result<()> {
    let disk = Disk { mount: Some(DIRECTORY.to_owned()), ..Disk::kept(&files.path("copy")) };
    let guest = Guest { disks: vec![disk], ..context.guest() };
    let program = Program::of_host(&files.program, &["verify".to_owned(), DIRECTORY.to_owned()])?;
    let outcome = guest.exec_captured(context.posix()?, &program, reports.as_bytes())?;
    let said = String::from_utf8_lossy(&outcome.output);
    ensure!(said.ends_with("0 complaints\n"), "{said}");
    files.volume("copy").check()
}

/// The disk recovers by its journal alone, and has what was reported.
fn check(system: System, files: &Files, reports: &str) -> Result<()> {
    let volume = files.volume("copy");
    volume.recover()?;
    volume.check()?;
    let content = tempfile::tempdir_in(files.directory.path())?;
    volume.extract(content.path())?;
    let input = files.path("reports");
    fs::write(&input, reports)?;
    let mut verify = Command::new(&files.program);
    verify.arg("verify").arg(content.path());
    match system {
        // It does not keep a file's length back until its bytes are there.
        System::Linux => verify.arg("zeros"),
        System::Quire => &mut verify,
    };
    verify.stdin(fs::File::open(&input)?).stderr(Stdio::inherit());
    let output = verify.output().context("can't start the check")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
