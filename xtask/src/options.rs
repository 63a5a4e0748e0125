//! The command line of xtask.

use crate::guest::{BootPath, Disk, LogLevel, MemorySize, Root};
use crate::image::{MEBIBYTE, Reuse, Sizes};
use anyhow::{Context as _, Result, anyhow, bail};
use boot_archive::init::Tracing;
use lexopt::{Arg, Parser, ValueExt as _};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
cargo xtask COMMAND

  run [OPTION..]                     build everything, make the disk image, boot it, give a shell
                                     (`exit` or Ctrl-A X ends it)
  exec [OPTION..] PROGRAM [ARG..]    run a program of the host in the guest: its output, its exit status
                                     (a name without a file on the host is one of the guest's commands, such as sh;
                                     --strace: every system call, on standard error)
  test [--long] [--list] [--cpus N] [NAME..]
                                     everything that must hold: on the host, then in the guest
                                     (NAME: `host`, `guest`, or a part of a stage's name;
                                     --case WORD: of the POSIX cases only those with WORD in `program/case`;
                                     --cpus N: in guests with N CPUs)
  bench [--json FILE] [--boots N] [NAME..]
                                     the same programs on Quire and on Linux in the same QEMU, as a table of ratios:
                                     instructions and wall time, the least of N boots (3 unless told)
  bench --disk [--json FILE] [--boots N]
                                     files on a disk: reads and writes of 4 KiB, on both
  conformance [--quick] [--json FILE] [--filter WORD] [--jobs N] [--record] [SUITE..]
                                     test suites of others on Linux and on Quire: rates, and the reason of each difference
                                     (--quick: only what is recorded to pass quickly; --record: record that)
  debug [OPTION..]                   the same boot, stopped for gdb
  native [OPTION..] NAME             boot a native test (object-tests, ipc-bench, disk-check, nvme-check) and show its console; or driver:NAME,
                                     the driver of that name on QEMU's edu device, or driver:NAME:VENDOR:DEVICE, on another
  replace [--guest PROCESS] [NAME [FILE]]
                                     build a driver or a server anew (or take FILE) and put it live into the guest that runs, by `run` or
                                     `exec`; without NAME: which programs that can be done with
  new-driver NAME                    make a driver to go on from, in drivers/NAME (docs/writing-a-driver.md)
  image [OPTION..]                   build everything and make the disk image
  build                              build everything that runs in the guest

Options of run, exec, debug, native and image:
  --memory SIZE           memory of the guest, such as 512M (the default) or 2G
  --cpus N                CPUs of the guest (default 1)
  --timeout SECONDS       end the guest after this time (exec: 120 unless told; run: no limit)
  --uefi                  boot through the firmware (run does so unless told --direct)
  --direct                boot the kernel directly, without the firmware: faster
  --add HOST[:GUEST]      more files for the guest: a file or a directory, by default at the same path
  --root WHERE            root file system: `memory` (it begins anew with each boot), `image` (a partition of the disk image,
                          which keeps what is changed on it until the files it is made of change: what run does unless told), or
                          a FILE: an image of somebody else, with or without partitions, that has an ext4 file system
  --fresh                 make that disk image anew
  --root-size SIZE, --swap-size SIZE
                          of its partitions, such as 512M or 2G (1G and 512M; no swap: 0)
  --disk FILE[:DIRECTORY] another disk; its ext4 file system is mounted on the directory, or on /mnt
  --device NAME           another device, as QEMU names it; intel-iommu confines the others to what is mapped for them
  --append WORD           one more word for the kernel's command line
  --log LEVEL             kernel log: off, error, warn, info, debug or trace

Environment: QUIRE_ACCEL=tcg|kvm overrides the choice of the accelerator.
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Build,
    Image(GuestOptions),
    Run(GuestOptions),
    Exec(ExecOptions),
    Native(NativeOptions),
    NewDriver(String),
    Replace(ReplaceOptions),
    Debug(GuestOptions),
    Test(TestOptions),
    Bench(BenchOptions),
    Conformance(ConformanceOptions),
}

/// What the commands that start a guest have in common; `None` is the command's own default.
#[derive(Debug, Default)]
pub(crate) struct GuestOptions {
    pub(crate) memory: Option<MemorySize>,
    pub(crate) cpus: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) boot: Option<BootPath>,
    pub(crate) log: Option<LogLevel>,
    pub(crate) additions: Vec<Addition>,
    pub(crate) root: Option<Root>,
    pub(crate) sizes: Sizes,
    pub(crate) reuse: Reuse,
    pub(crate) disks: Vec<Disk>,
    pub(crate) devices: Vec<String>,
    pub(crate) words: Vec<String>,
}

/// A file or directory of the host that the guest gets too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) host: PathBuf,
    /// Absolute.
    pub(crate) guest: String,
}

/// `xtask exec`.
#[derive(Debug)]
pub(crate) struct ExecOptions {
    pub(crate) guest: GuestOptions,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) trace: Tracing,
}

/// `xtask native`.
#[derive(Debug)]
pub(crate) struct NativeOptions {
    pub(crate) guest: GuestOptions,
    /// The value of `test=` on the kernel's command line.
    pub(crate) name: String,
}

/// `xtask replace`.
#[derive(Debug, Default)]
pub(crate) struct ReplaceOptions {
    /// The process of the guest; none if there is only one.
    pub(crate) guest: Option<u32>,
    /// The name of the program.
    pub(crate) name: Option<String>,
    /// Its new image; it is built if there is none.
    pub(crate) file: Option<PathBuf>,
}

/// `xtask test`.
#[derive(Debug, Default)]
pub(crate) struct TestOptions {
    /// Parts of names; a stage runs if one of them fits, or if there is none.
    pub(crate) filters: Vec<String>,
    /// Parts of the names of POSIX cases; a case runs if one of them fits, or if there is none.
    pub(crate) cases: Vec<String>,
    /// How many CPUs guests have; one if `None`.
    pub(crate) cpus: Option<u32>,
    pub(crate) length: TestLength,
    pub(crate) action: TestAction,
}

/// `xtask bench`.
#[derive(Debug, Default)]
pub(crate) struct BenchOptions {
    /// Where to write the results as JSON.
    pub(crate) json: Option<PathBuf>,
    /// How often each system boots for each way to measure; the command decides if `None`.
    pub(crate) boots: Option<NonZeroU32>,
    /// Which benchmarks to run; all if there is none.
    pub(crate) names: Vec<String>,
    pub(crate) subject: BenchSubject,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BenchSubject {
    /// What programs ask of the system.
    #[default]
    System,
    /// Files on a disk.
    Disk,
}

/// `xtask conformance`.
#[derive(Debug, Default)]
pub(crate) struct ConformanceOptions {
    /// All if there is none.
    pub(crate) suites: Vec<String>,
    /// Where to write the results as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Parts of the names of tasks; all run if there is none.
    pub(crate) filters: Vec<String>,
    /// Only the tasks that are recorded to pass quickly.
    pub(crate) quick: bool,
    /// How many tasks run at the same time; the suite decides if `None`.
    pub(crate) jobs: Option<usize>,
    /// Whether to record the tasks that pass quickly.
    pub(crate) record: bool,
}

/// How much to test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TestLength {
    /// What a developer waits for.
    #[default]
    Usual,
    /// Also what takes minutes.
    Long,
}

/// Whether to test at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TestAction {
    #[default]
    Run,
    /// Only print the names of the stages.
    List,
}

/// Reads the process's own command line.
pub(crate) fn parse() -> Result<Command> {
    parse_from(Parser::from_env()).context("see `cargo xtask help`")
}

fn parse_from(mut parser: Parser) -> Result<Command> {
    let command = match parser.next()? {
        None => return Ok(Command::Help),
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help),
        Some(Arg::Value(command)) => command.string()?,
        Some(other @ (Arg::Short(_) | Arg::Long(_))) => return Err(other.unexpected().into()),
    };
    match command.as_str() {
        "help" => Ok(Command::Help),
        "build" => no_more(parser).map(|()| Command::Build),
        "image" => guest_options(parser).map(Command::Image),
        "run" => guest_options(parser).map(Command::Run),
        "debug" => guest_options(parser).map(Command::Debug),
        "exec" => exec_options(parser).map(Command::Exec),
        "new-driver" => new_driver_name(parser).map(Command::NewDriver),
        "replace" => replace_options(parser).map(Command::Replace),
        "native" => native_options(parser).map(Command::Native),
        "test" => test_options(parser).map(Command::Test),
        "bench" => bench_options(parser).map(Command::Bench),
        "conformance" => conformance_options(parser).map(Command::Conformance),
        unknown => bail!("there is no command {unknown:?}"),
    }
}

fn no_more(mut parser: Parser) -> Result<()> {
    match parser.next()? {
        None => Ok(()),
        Some(argument) => Err(argument.unexpected().into()),
    }
}

fn guest_options(mut parser: Parser) -> Result<GuestOptions> {
    let mut options = GuestOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) => bail!("unexpected argument {value:?}"),
            Arg::Long(name) => {
                let name = name.to_owned();
                guest_option(&mut options, &name, &mut parser)?;
            }
            Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn exec_options(mut parser: Parser) -> Result<ExecOptions> {
    let mut guest = GuestOptions::default();
    let mut trace = Tracing::Off;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("strace") => trace = Tracing::On,
            Arg::Long(name) => {
                let name = name.to_owned();
                guest_option(&mut guest, &name, &mut parser)?;
            }
            Arg::Short(_) => return Err(argument.unexpected().into()),
            // What follows the program belongs to it, options too.
            Arg::Value(program) => {
                let program = text(program)?;
                let arguments = parser.raw_args()?.map(text).collect::<Result<_>>()?;
                return Ok(ExecOptions { guest, program, arguments, trace });
            }
        }
    }
    bail!("exec needs a program to run")
}

fn new_driver_name(mut parser: Parser) -> Result<String> {
    let Some(Arg::Value(name)) = parser.next()? else { bail!("new-driver needs a name") };
    no_more(parser)?;
    text(name)
}

fn replace_options(mut parser: Parser) -> Result<ReplaceOptions> {
    let mut options = ReplaceOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("guest") => options.guest = Some(parser.value()?.parse()?),
            Arg::Value(name) if options.name.is_none() => options.name = Some(text(name)?),
            Arg::Value(file) if options.file.is_none() => options.file = Some(file.into()),
            Arg::Value(_) | Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn native_options(parser: Parser) -> Result<NativeOptions> {
    let ExecOptions { guest, program: name, arguments, trace } = exec_options(parser)?;
    if !arguments.is_empty() || trace == Tracing::On {
        bail!("native takes one name");
    }
    Ok(NativeOptions { guest, name })
}

fn guest_option(options: &mut GuestOptions, name: &str, parser: &mut Parser) -> Result<()> {
    match name {
        "memory" => options.memory = Some(parser.value()?.parse()?),
        "cpus" => options.cpus = Some(cpu_count(&text(parser.value()?)?)?),
        "timeout" => options.timeout = Some(Duration::from_secs(parser.value()?.parse()?)),
        "uefi" => options.boot = Some(BootPath::Firmware),
        "direct" => options.boot = Some(BootPath::Direct),
        "log" => options.log = Some(parser.value()?.parse()?),
        "add" => options.additions.push(addition(&text(parser.value()?)?)?),
        "root" => options.root = Some(root(&text(parser.value()?)?)?),
        "device" => options.devices.push(text(parser.value()?)?),
        "append" => options.words.push(text(parser.value()?)?),
        "disk" => options.disks.push(disk(&text(parser.value()?)?)?),
        "root-size" => options.sizes.root_bytes = size_bytes(&text(parser.value()?)?)?,
        "swap-size" => options.sizes.swap_bytes = size_bytes(&text(parser.value()?)?)?,
        "fresh" => options.reuse = Reuse::Never,
        unknown => bail!("there is no option --{unknown}"),
    }
    Ok(())
}

fn test_options(mut parser: Parser) -> Result<TestOptions> {
    let mut options = TestOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("long") => options.length = TestLength::Long,
            Arg::Long("cpus") => options.cpus = Some(cpu_count(&text(parser.value()?)?)?),
            Arg::Long("case") => options.cases.push(text(parser.value()?)?),
            Arg::Long("list") => options.action = TestAction::List,
            Arg::Value(filter) => options.filters.push(text(filter)?),
            Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn bench_options(mut parser: Parser) -> Result<BenchOptions> {
    let mut options = BenchOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => options.json = Some(parser.value()?.into()),
            Arg::Long("boots") => options.boots = Some(parser.value()?.parse()?),
            Arg::Long("disk") => options.subject = BenchSubject::Disk,
            Arg::Value(name) => options.names.push(benchmark_name(text(name)?)?),
            Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn conformance_options(mut parser: Parser) -> Result<ConformanceOptions> {
    let mut options = ConformanceOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => options.json = Some(parser.value()?.into()),
            Arg::Long("filter") => options.filters.push(text(parser.value()?)?),
            Arg::Long("quick") => options.quick = true,
            Arg::Long("record") => options.record = true,
            Arg::Long("jobs") => options.jobs = Some(parser.value()?.parse()?),
            Arg::Value(suite) => options.suites.push(text(suite)?),
            Arg::Long(_) | Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

/// Names become part of a shell script.
fn benchmark_name(name: String) -> Result<String> {
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        bail!("{name:?} can't be the name of a benchmark");
    }
    Ok(name)
}

fn text(value: OsString) -> Result<String> {
    value.into_string().map_err(|value| anyhow!("{value:?} is not UTF-8"))
}

fn cpu_count(value: &str) -> Result<u32> {
    const MAX: u32 = 64;
    match value.parse() {
        Ok(count @ 1..=MAX) => Ok(count),
        Ok(_) | Err(_) => bail!("--cpus takes a number from 1 to {MAX}, not {value:?}"),
    }
}

fn addition(value: &str) -> Result<Addition> {
    let (host, guest) = match value.split_once(':') {
        Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
        None => {
            let host = std::path::absolute(value).with_context(|| format!("--add {value}"))?;
            let guest = text(host.clone().into_os_string())?;
            (host, guest)
        }
    };
    if !guest.starts_with('/') {
        bail!("--add {value}: the path in the guest must be absolute");
    }
    if !host.exists() {
        bail!("--add {value}: {} does not exist on the host", host.display());
    }
    Ok(Addition { host, guest })
}

/// The value of `--root`.
fn root(value: &str) -> Result<Root> {
    match value {
        "memory" => Ok(Root::Archive),
        "image" => Ok(Root::LastingImage(Sizes::default(), Reuse::default())),
        file => Ok(Root::Disk(existing_disk(file).with_context(|| format!("--root {file}"))?)),
    }
}

/// The value of `--disk`: a file, perhaps with a directory of the guest.
fn disk(value: &str) -> Result<Disk> {
    const DIRECTORY: &str = "/mnt";
    let (file, directory) = match value.rsplit_once(':') {
        Some((file, directory)) if directory.starts_with('/') && !Path::new(value).exists() => (file, directory),
        Some(_) | None => (value, DIRECTORY),
    };
    let disk = existing_disk(file).with_context(|| format!("--disk {value}"))?;
    Ok(Disk { mount: Some(directory.to_owned()), ..disk })
}

fn existing_disk(file: &str) -> Result<Disk> {
    let path = std::path::absolute(file)?;
    if !path.is_file() {
        bail!("{} is no file of the host", path.display());
    }
    Ok(Disk::kept(&path))
}

/// A size such as `512M` or `2G`.
fn size_bytes(value: &str) -> Result<u64> {
    const MAX_MEBIBYTES: u64 = 1 << 20;
    let (digits, factor) = match value.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (value.strip_suffix(['M', 'm']).unwrap_or(value), 1),
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(mebibytes @ 0..=MAX_MEBIBYTES) => Ok(mebibytes * MEBIBYTE),
        Some(_) | None => bail!("{value:?} is no size of a partition: say 512M or 2G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command> {
        parse_from(Parser::from_args(arguments))
    }

    #[test]
    fn exec_leaves_the_program_its_own_options() {
        let command = parsed(&["exec", "--cpus", "2", "/bin/ls", "--memory", "-l"]).unwrap();
        let Command::Exec(options) = command else { panic!("{command:?}") };
        assert_eq!(options.guest.cpus, Some(2));
        assert_eq!((options.program.as_str(), options.arguments.len()), ("/bin/ls", 2));
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            &["fly"][..],
            &["exec"],
            &["run", "program"],
            &["run", "--cpus", "0"],
            &["run", "--memory", "much"],
            &["run", "--fast"],
            &["run", "--add", "/nonexistent-path"],
            &["run", "--add", "/:relative"],
            &["run", "--log", "loud"],
            &["run", "--root", "/nonexistent-image"],
            &["exec", "--disk", "/nonexistent-image:/data", "true"],
            &["run", "--swap-size", "much"],
        ] {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }
}
