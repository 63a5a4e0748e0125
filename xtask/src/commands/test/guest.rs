//! The stages that run in guests.

use super::{Context, Counts};
use crate::commands::{conformance as suites, native};
use crate::guest::{
    BootPath, Changes, Disk, Ending, Guest, IOMMU, LogLevel, Machine, MachineEnd, Media, MemorySize, Ports, Program,
    Root,
};
use crate::image::{self, MEBIBYTE, Sizes, Volume};
use crate::payload::{self, Init};
use crate::posix_cases::{self, Scratch};
use crate::root_files;
use crate::tree::Tree;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use boot_archive::init::Tracing;
use boot_archive::{Archive, Content};
use posix_protocol::host_link::ExitStatus;
use std::fs;
use std::time::Duration;

/// How long a guest may take from its start to a prompt.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer at the prompt may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The end of the shell's prompt.
const PROMPT: &str = "# ";

/// Tests that others wrote, as far as they are recorded to pass.
pub(super) fn conformance(context: &Context) -> Result<Counts> {
    let (passed, failed) = suites::run_recorded(context.posix()?)?;
    for (name, detail) in &failed {
        println!("FAILED {name}\n{detail}");
    }
    Ok(Counts { passed, failed: u32::try_from(failed.len()).unwrap_or(u32::MAX), skipped: 0 })
}

/// The tests of the object API, from a native program.
pub(super) fn object_tests(context: &Context) -> Result<Counts> {
    run_object_tests(context, &context.guest())
}

/// The same, and a disk, where an IOMMU confines devices.
pub(super) fn confined_devices(context: &Context) -> Result<Counts> {
    let guest = Guest { devices: vec![IOMMU.to_owned()], ..context.guest() };
    let mut counts = run_object_tests(context, &guest)?;
    counts += run_native_tests(context, &guest, "disk-check")?;
    Ok(counts)
}

/// A minute of random object calls with random handles.
pub(super) fn object_fuzz(context: &Context) -> Result<Counts> {
    const TIMEOUT: Duration = Duration::from_secs(180);
    let words = ["filter=fuzz", "fuzz_seconds=60"].map(str::to_owned).to_vec();
    run_object_tests(context, &Guest { words, timeout: Some(TIMEOUT), ..context.guest() })
}

/// What may go differently if threads really run at the same time.
const PARALLEL_CASES: [&str; 5] = ["parallel/", "threads/", "futex/", "lent_pipes/", "signals/"];

/// Objects, and what programs do with threads, on two CPUs.
pub(super) fn two_cpus(context: &Context) -> Result<Counts> {
    let guest = Guest { cpus: 2, ..Guest::default() };
    let mut counts = run_object_tests(context, &guest)?;
    let guest = Guest { memory: MemorySize::GIBIBYTE, ..guest };
    let summary = posix_cases::run(context.posix()?, &guest, Scratch::Memory, &PARALLEL_CASES.map(str::to_owned))?;
    counts += Counts { passed: summary.passed(), failed: summary.failed(), skipped: summary.skipped() };
    Ok(counts)
}

/// The same on more CPUs than most hosts have.
pub(super) fn many_cpus(context: &Context) -> Result<Counts> {
    const TIMEOUT: Duration = Duration::from_secs(300);
    let mut counts = Counts::default();
    for cpus in [4, 8] {
        counts += run_object_tests(context, &Guest { cpus, timeout: Some(TIMEOUT), ..Guest::default() })?;
        let guest = Guest { cpus, memory: MemorySize::GIBIBYTE, ..Guest::default() };
        let summary = posix_cases::run(context.posix()?, &guest, Scratch::Memory, &PARALLEL_CASES.map(str::to_owned))?;
        counts += Counts { passed: summary.passed(), failed: summary.failed(), skipped: summary.skipped() };
    }
    Ok(counts)
}

/// A disk behind its driver keeps what it is given, with one processor and with several, and so with several queues.
/// What the disk can't do is an error to whom it concerns, once; and nobody notices when its driver is killed.
pub(super) fn disk(context: &Context) -> Result<Counts> {
    const STORM_TIMEOUT: Duration = Duration::from_secs(180);
    let mut counts = Counts::default();
    for cpus in [1, 2] {
        counts += run_native_tests(context, &Guest { cpus, ..context.guest() }, "disk-check")?;
    }
    counts += run_native_tests(context, &context.guest(), "disk-errors")?;
    counts += run_native_tests(context, &context.guest(), "nvme-check")?;
    counts += run_native_tests(context, &context.guest(), "nvme-errors")?;
    counts += run_native_tests(context, &Guest { timeout: Some(STORM_TIMEOUT), ..context.guest() }, "disk-storm")?;
    Ok(counts)
}

/// The driver that the manual takes as its example, on its device.
pub(super) fn example_driver(context: &Context) -> Result<Counts> {
    run_native_tests(context, &context.guest(), "driver:edu")
}

/// The file server keeps what it is given, with one processor and with several; and nobody notices when it and the disk's driver are
/// killed at random (for ten minutes: `cargo xtask native --append storm_seconds=600 --timeout 900 files-storm`).
pub(super) fn file_server(context: &Context) -> Result<Counts> {
    const STORM_TIMEOUT: Duration = Duration::from_secs(180);
    let mut counts = Counts::default();
    for cpus in [1, 4] {
        counts += run_native_tests(context, &Guest { cpus, ..context.guest() }, "files-check")?;
    }
    counts += run_native_tests(context, &Guest { timeout: Some(STORM_TIMEOUT), ..context.guest() }, "files-storm")?;
    Ok(counts)
}

fn run_object_tests(context: &Context, guest: &Guest) -> Result<Counts> {
    run_native_tests(context, guest, "object-tests")
}

fn run_native_tests(context: &Context, guest: &Guest, name: &str) -> Result<Counts> {
    let (end, text) = native::boot(guest, context.native()?, name)?;
    let end = end.map_or_else(|| "the guest ran into its time limit".to_owned(), |end| end.to_string());
    let summary = text.lines().rev().find_map(native_counts);
    let Some(counts) = summary else { bail!("{end}, without a summary; its console:\n{text}") };
    for line in text.lines().filter(|line| line.contains("FAILED")) {
        println!("{line}");
    }
    Ok(counts)
}

/// The numbers in a line that ends in `N passed, N failed`.
fn native_counts(line: &str) -> Option<Counts> {
    let (before, failed) = line.trim_end().strip_suffix(" failed")?.rsplit_once(", ")?;
    let passed = before.strip_suffix(" passed")?.rsplit(' ').next()?;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()?, skipped: 0 })
}

/// The disk image boots through the firmware to a shell.
pub(super) fn firmware_boot(context: &Context) -> Result<Counts> {
    context.loader()?;
    let guest = Guest { boot: BootPath::Firmware, ..context.guest() };
    let mut console = guest.console(context.posix()?, &Init::shell())?;
    console.expect(PROMPT, BOOT_TIMEOUT)?;
    console.send_line("echo booted-$((6 * 7)); exit")?;
    console.expect("booted-42", ANSWER_TIMEOUT)?;
    match console.wait()? {
        MachineEnd::Clean => Ok(Counts::PASSED),
        end @ (MachineEnd::Failure | MachineEnd::Reset | MachineEnd::Other(_)) => {
            bail!("{end} when its shell had ended; its console:\n{}", console.text())
        }
    }
}

/// The image with a root file system boots through the firmware, and directly; the file system is in order afterwards.
pub(super) fn image_boot(context: &Context) -> Result<Counts> {
    context.loader()?;
    let sizes = Sizes { root_bytes: 128 * MEBIBYTE, swap_bytes: 64 * MEBIBYTE };
    let mut counts = Counts::default();
    for boot in [BootPath::Direct, BootPath::Firmware] {
        let guest = Guest { boot, root: Root::Image(sizes), ..context.guest() };
        counts.try_one(&format!("{guest} from an image"), || {
            let outcome = guest.exec_captured(context.posix()?, &Program::of_guest(&["/bin/echo", "here"]), b"")?;
            ensure!(outcome.output == b"here\n", "{outcome:?}");
            Ok(())
        });
    }
    counts.try_one("what is changed on the root file system is there after a reboot", || changes_last(context));
    counts.try_one("somebody else's file system is read and written", || disk_of_others(context));
    Ok(counts)
}

fn changes_last(context: &Context) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("image");
    let sizes = Sizes { root_bytes: 128 * MEBIBYTE, swap_bytes: 0 };
    image::make(&path, sizes, &root_files::tree(&[])?, &Vec::new())?;
    let guest = Guest { root: Root::Disk(Disk::kept(&path)), ..context.guest() };
    let run = |script: &str| guest.exec_captured(context.posix()?, &Program::of_guest(&["/bin/sh", "-c", script]), b"");
    let first = run("echo kept >/root/file && mkdir /root/d && mv /root/file /root/d && ln -s d /root/l && echo done")?;
    ensure!(first.output == b"done\n", "{first:?}");
    let second = run("cat /root/l/file && ls /root")?;
    ensure!(second.output == b"kept\nd\nl\n", "{second:?}");
    Ok(())
}

fn disk_of_others(context: &Context) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let volume = Volume { file: directory.path().join("volume"), offset: 0 };
    let mut tree = Tree::default();
    tree.file("/there", boot_archive::Metadata::of_root(0o644), b"before\n".to_vec());
    volume.make(32 * MEBIBYTE, &tree)?;
    let run = |disk: Disk, script: &str| {
        let guest = Guest { disks: vec![Disk { mount: Some("/mnt".to_owned()), ..disk }], ..context.guest() };
        guest.exec_captured(context.posix()?, &Program::of_guest(&["/bin/sh", "-c", script]), b"")
    };
    let kept = run(Disk::kept(&volume.file), "cat /mnt/there && echo after >/mnt/new")?;
    ensure!(kept.output == b"before\n", "{kept:?}");
    let lost = Disk { changes: Changes::Lost, ..Disk::kept(&volume.file) };
    let lost = run(lost, "cat /mnt/new && rm /mnt/new /mnt/there && echo gone")?;
    ensure!(lost.output == b"after\ngone\n", "{lost:?}");
    let content = directory.path().join("content");
    fs::create_dir(&content)?;
    volume.extract(&content)?;
    ensure!(
        fs::read(content.join("new"))? == b"after\n" && content.join("there").exists(),
        "the file system lacks files"
    );
    Ok(())
}

/// A byte of the archive's index.
const INDEX_PLACE: usize = 100;
/// A program in the archive.
const PROGRAM_IN_ARCHIVE: &str = "boot/serial";

/// What is missing or damaged is named, and nothing hangs.
pub(super) fn broken_boot(context: &Context) -> Result<Counts> {
    context.loader()?;
    let artifacts = context.native()?;
    let loader = fs::read(artifacts.loader())?;
    let kernel = fs::read(artifacts.kernel())?;
    let archive = payload::native_archive(artifacts)?;
    let (loader, kernel) = ((image::LOADER_PATH, &loader[..]), (image::KERNEL_PATH, &kernel[..]));
    let line = (image::COMMAND_LINE_PATH, &b"log=info test=object-tests"[..]);
    let mut counts = Counts::default();
    let mut refused = |name: &str, files: &[(&str, &[u8])], message: &str| {
        counts.try_one(name, || boot_is_refused(&Media::disk(&image::with_files(files)?)?, message));
    };
    refused("a missing kernel is named", &[loader], "kernel: the file is missing");
    refused("a missing archive is named", &[loader, kernel], "archive: the file is missing");
    let no_kernel = (image::KERNEL_PATH, &b"this is no kernel"[..]);
    refused("a kernel that is none is named", &[loader, no_kernel], "kernel: not an ELF file");
    let broken = damaged(&archive, INDEX_PLACE);
    let broken = (image::ARCHIVE_PATH, &broken[..]);
    refused("a damaged archive is named", &[loader, kernel, broken, line], "archive");
    counts.try_one("a damaged archive is named after a direct boot, too", || {
        let guest = Guest { timeout: Some(BOOT_TIMEOUT), ..context.guest() };
        machine_is_refused(&guest, &guest.media_of(artifacts, damaged(&archive, INDEX_PLACE))?, "archive")
    });
    counts.try_one("a damaged file in the archive is named", || {
        let guest = Guest { timeout: Some(BOOT_TIMEOUT), ..context.guest() };
        let place = place_in_file(&archive, PROGRAM_IN_ARCHIVE)?;
        let message = format!("{PROGRAM_IN_ARCHIVE}): the content is damaged");
        machine_is_refused(&guest, &guest.media_of(artifacts, damaged(&archive, place))?, &message)
    });
    Ok(counts)
}

/// A place in the middle of a file of the archive.
fn place_in_file(archive: &[u8], path: &str) -> Result<usize> {
    let parsed = Archive::parse(archive).map_err(|error| anyhow!("the boot archive: {error}"))?;
    match parsed.find(path.as_bytes()).map(|entry| entry.content()) {
        Some(Content::File { offset, bytes }) => Ok(usize::try_from(offset)? + bytes.len() / 2),
        Some(Content::Directory | Content::Symlink { .. }) | None => bail!("{path} is no file of the boot archive"),
    }
}

/// The archive with a bit changed.
fn damaged(archive: &[u8], place: usize) -> Vec<u8> {
    let mut archive = archive.to_owned();
    if let Some(byte) = archive.get_mut(place) {
        *byte ^= 1;
    }
    archive
}

fn boot_is_refused(media: &Media, message: &str) -> Result<()> {
    let guest = Guest { boot: BootPath::Firmware, timeout: Some(BOOT_TIMEOUT), ..Guest::default() };
    machine_is_refused(&guest, media, message)
}

fn machine_is_refused(guest: &Guest, media: &Media, message: &str) -> Result<()> {
    let mut machine = Machine::start(guest, media, Ports::Console)?;
    let end = machine.wait()?;
    let text = machine.log().text();
    ensure!(text.contains(message), "the console lacks {message:?}:\n{text}");
    ensure!(end.is_some(), "the machine did not end; its console:\n{text}");
    Ok(())
}

/// `xtask exec`: streams, status, signals, limits.
pub(super) fn exec(context: &Context) -> Result<Counts> {
    let artifacts = context.posix()?;
    let mut counts = Counts::default();
    let run =
        |command: &[&str], input: &[u8]| context.guest().exec_captured(artifacts, &Program::of_guest(command), input);
    counts.try_one("streams are apart and the status is handed on", || {
        let outcome = run(&["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], b"")?;
        ensure!(outcome.ending == Ending::Program(ExitStatus::Code(7)), "{:?}\n{}", outcome.ending, outcome.log);
        ensure!(outcome.output == b"out\n" && outcome.errors == b"err\n", "{outcome:?}");
        Ok(())
    });
    counts.try_one("standard input arrives whole, and its end", || {
        const COUNT: usize = 100_000;
        let outcome = run(&["/bin/wc", "-c"], &vec![b'x'; COUNT])?;
        ensure!(String::from_utf8_lossy(&outcome.output).trim() == COUNT.to_string(), "{outcome:?}");
        Ok(())
    });
    counts.try_one("a signal is handed on", || {
        const SIGKILL: u8 = 9;
        let outcome = run(&["/bin/sh", "-c", "kill -9 $$"], b"")?;
        ensure!(outcome.ending == Ending::Program(ExitStatus::Signal(SIGKILL)), "{outcome:?}");
        Ok(())
    });
    counts.try_one("a program that does not end meets the time limit", || {
        const LIMIT: Duration = Duration::from_secs(10);
        let guest = Guest { timeout: Some(LIMIT), ..context.guest() };
        let outcome = guest.exec_captured(artifacts, &Program::of_guest(&["/bin/sleep", "1000"]), b"")?;
        ensure!(outcome.ending == Ending::TimedOut, "{outcome:?}");
        Ok(())
    });
    counts.try_one("the system calls of a program are traced", || {
        let command = ["/bin/sh", "-c", "cat /no-such-file; kill -9 $$"];
        let program = Program { trace: Tracing::On, ..Program::of_guest(&command) };
        let trace = context.guest().exec_captured(artifacts, &program, b"")?.trace;
        let trace = String::from_utf8_lossy(&trace);
        for line in [
            "[2] openat(AT_FDCWD, \"/no-such-file\", O_RDONLY) = -1 ENOENT",
            "[2] +++ exited with 1 +++",
            "] getuid() = 0",
            "[1] +++ killed by SIGKILL +++",
        ] {
            ensure!(trace.contains(line), "no line {line:?} in the trace:\n{trace}");
        }
        Ok(())
    });
    counts.try_one("a program that can't be started is named with the reason", || {
        let outcome = run(&["/bin/no-such-program"], b"")?;
        ensure!(!matches!(outcome.ending, Ending::Program(ExitStatus::Code(0))), "{outcome:?}");
        ensure!(outcome.log.contains("/bin/no-such-program: ENOENT"), "{outcome:?}");
        Ok(())
    });
    Ok(counts)
}

/// The shell at the console: `^C`, jobs, the end of input.
pub(super) fn console(context: &Context) -> Result<Counts> {
    const CONTROL_C: &[u8] = b"\x03";
    let mut console = context.guest().console(context.posix()?, &Init::shell())?;
    console.expect(PROMPT, BOOT_TIMEOUT).context("no prompt")?;
    let mut counts = Counts::default();
    counts.try_one("^C stops sleep 100", || {
        console.send_line("sleep 100")?;
        console.expect("sleep 100", ANSWER_TIMEOUT)?;
        // The shell needs a moment to start it; until then the signal would be its own.
        std::thread::sleep(Duration::from_secs(1));
        console.send(CONTROL_C)?;
        console.expect(PROMPT, ANSWER_TIMEOUT)?;
        console.send_line("echo status-$?")?;
        console.expect("status-130", ANSWER_TIMEOUT).map(drop)
    });
    counts.try_one("the terminal edits lines", || {
        const ERASE: &str = "\x7f";
        console.send_line(&format!("cat{ERASE}{ERASE}{ERASE}echo eras''ed"))?;
        console.expect("erased", ANSWER_TIMEOUT).map(drop)
    });
    counts.try_one("a pipeline runs in the background", || {
        console.send_line("(sleep 1 | cat; echo in-the-backgr''ound) & echo in-fr''ont; wait")?;
        console.expect("in-front", ANSWER_TIMEOUT)?;
        console.expect("in-the-background", ANSWER_TIMEOUT).map(drop)
    });
    counts.try_one("the machine ends with its shell", || {
        console.send_line("exit")?;
        let end = console.wait()?;
        ensure!(end == MachineEnd::Clean, "{end}; its console:\n{}", console.text());
        Ok(())
    });
    Ok(counts)
}

/// A shell at each console that there is, and nobody notices that its driver is killed.
pub(super) fn consoles(context: &Context) -> Result<Counts> {
    let calm: &[&str] = &[];
    let all = [
        ("a virtio console", Ports::VirtioConsole, calm),
        ("a virtio console in a storm", Ports::VirtioConsole, &["kill=virtio-console", "kill_ms=200"]),
        ("a serial line in a storm", Ports::Console, &["kill=serial", "kill_ms=200"]),
    ];
    let mut counts = Counts::default();
    for (name, ports, words) in all {
        counts.try_one(name, || use_console(context, ports, words));
    }
    Ok(counts)
}

/// Uses a shell at a console. What is shown there is compared, so nothing else may be: no log.
fn use_console(context: &Context, ports: Ports, words: &[&str]) -> Result<()> {
    const LINES: u32 = 20_000;
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let guest = Guest { words, log: LogLevel::Off, ..context.guest() };
    let mut console = guest.console_at(ports, context.posix()?, &Init::shell())?;
    console.expect(PROMPT, BOOT_TIMEOUT).context("no prompt")?;
    console.send_line("echo sta''rt; seq 1 20000; echo en''d")?;
    console.expect("start", ANSWER_TIMEOUT)?;
    let shown = console.expect("end", BOOT_TIMEOUT)?;
    let expected: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
    ensure!(shown.trim() == expected.trim(), "what was shown is not what was written");
    console.send_line("sleep 100")?;
    console.expect("sleep 100", ANSWER_TIMEOUT)?;
    // The shell needs a moment to start it; until then the signal would be its own.
    std::thread::sleep(Duration::from_secs(1));
    console.send(b"\x03")?;
    console.expect(PROMPT, ANSWER_TIMEOUT)?;
    console.send_line("echo status-$?")?;
    console.expect("status-130", ANSWER_TIMEOUT)?;
    console.send_line("exit")?;
    let end = console.wait()?;
    ensure!(end == MachineEnd::Clean, "{end}; its console:\n{}", console.text());
    Ok(())
}

/// Programs that take all they can get, in a guest that has little.
pub(super) fn bombs(context: &Context) -> Result<Counts> {
    let guest = Guest { memory: MemorySize::SMALL, ..Guest::default() };
    let summary = posix_cases::run_bombs(context.posix()?, &guest, context.cases())?;
    Ok(Counts { passed: summary.passed(), failed: summary.failed(), skipped: summary.skipped() })
}

/// The programs that must say the same on Linux and on Quire.
pub(super) fn posix_cases(context: &Context) -> Result<Counts> {
    let guest = Guest { memory: MemorySize::GIBIBYTE, ..context.guest() };
    let summary = posix_cases::run(context.posix()?, &guest, Scratch::Memory, context.cases())?;
    Ok(Counts { passed: summary.passed(), failed: summary.failed(), skipped: summary.skipped() })
}

/// What files can be asked for: the programs of the cases that do.
const FILE_CASES: [&str; 7] =
    ["cached_reads/", "written_in_place/", "file_io/", "files_open/", "file_memory/", "files_memory/", "names/"];

/// The cases that have to do with files, on a file system on a disk, which is in order afterwards.
pub(super) fn cases_on_disk(context: &Context) -> Result<Counts> {
    const VOLUME_BYTES: u64 = 512 * MEBIBYTE;
    let directory = tempfile::Builder::new().prefix("quire-").tempdir().context("can't make a temporary directory")?;
    let volume = Volume { file: directory.path().join("volume"), offset: 0 };
    volume.make(VOLUME_BYTES, &Tree::default())?;
    let disk = Disk { mount: Some(posix_cases::GUEST_DISK.to_owned()), ..Disk::kept(&volume.file) };
    let guest = Guest { memory: MemorySize::GIBIBYTE, disks: vec![disk], ..context.guest() };
    let usual = FILE_CASES.map(str::to_owned);
    let wanted = if context.cases().is_empty() { usual.as_slice() } else { context.cases() };
    let summary = posix_cases::run(context.posix()?, &guest, Scratch::Disk, wanted)?;
    let mut counts = Counts { passed: summary.passed(), failed: summary.failed(), skipped: summary.skipped() };
    counts.try_one("the file system is in order", || volume.check());
    Ok(counts)
}
