//! The POSIX cases: the same programs on Linux, here, and on Quire, in one guest, must say the same.
//!
//! The programs are made of `posix-server/tests`: the C files in `c/` by musl (some also by glibc, dynamically linked, or
//! position-independent), the Rust binaries of the package, and the shell scripts in `scenarios/both/`. Its runner runs all
//! of them on each side; [`posix_tests::compare`] finds where the records differ. What lies in `c/quire/` and in
//! `scenarios/quire/` runs only on Quire, and must succeed there; what lies in `c/bombs/` too, in a small guest of its own.

use crate::build::{self, Artifacts, workspace};
use crate::guest::{Ending, Guest, Input, Program, Stream};
use crate::options::Addition;
use crate::process;
use crate::progress::{Step, note};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use posix_tests::compare::{Judged, KnownGaps, Verdict, judge};
use posix_tests::record::{self, Outcome, Record};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const MUSL: &str = "x86_64-unknown-linux-musl";
const PACKAGE: &str = "posix-tests";
const RUNNER: &str = "posix-runner";
/// The binaries of the package that hold cases.
const RUST_PROGRAMS: [&str; 2] = ["std-cases", "hostile-elf"];
/// The C file that all C programs share, without its extension.
const SHARED_C_FILE: &str = "case";
/// The file that lists the cases known to differ.
const KNOWN_GAPS: &str = "known_gaps.txt";
/// The same for cases on a disk.
const KNOWN_GAPS_ON_DISK: &str = "known_gaps_on_disk.txt";
const C_FLAGS: [&str; 6] = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result"];

/// Where the guest finds things.
const GUEST_PROGRAMS: &str = "/posix/programs";
const GUEST_RUNNER: &str = "/posix/posix-runner";
/// Where the cases have their directories, in memory and on a disk that is mounted.
const GUEST_SCRATCH: &str = "/tmp/posix-cases";
pub(crate) const GUEST_DISK: &str = "/mnt";
const GUEST_DISK_SCRATCH: &str = "/mnt/posix-cases";
/// Where programs that are linked dynamically with musl look for their loader, which is also their C library.
const MUSL_LOADER: &str = "/lib/ld-musl-x86_64.so.1";

/// How long one case may take.
const HOST_CASE_LIMIT_S: u64 = 60;
/// An emulated guest is slower by a factor of 10 to 50.
const GUEST_CASE_LIMIT_S: u64 = 120;
/// How long all cases together may take in the guest.
const GUEST_LIMIT: Duration = Duration::from_secs(1500);
/// How often the progress shows.
const PROGRESS_EVERY: usize = 50;

/// A way to build a C program.
struct Flavour {
    /// What it adds to the program's name.
    suffix: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
    /// The C files that are built in this way, without their extension; all if empty.
    files: &'static [&'static str],
}

const FLAVOURS: [Flavour; 4] = [
    Flavour { suffix: "", compiler: "musl-gcc", flags: &["-static"], files: &[] },
    Flavour {
        suffix: "-glibc",
        compiler: "gcc",
        flags: &["-static"],
        files: &["startup", "process", "signals", "threads", "futex"],
    },
    Flavour { suffix: "-dynamic", compiler: "musl-gcc", flags: &[], files: &["startup", "process", "exec"] },
    Flavour { suffix: "-pie", compiler: "gcc", flags: &["-static-pie", "-fPIE"], files: &["startup", "memory"] },
];

/// Everything that was built.
struct Suite {
    runner: PathBuf,
    /// The programs that run on both systems.
    both: PathBuf,
    /// Those that only make sense on Quire.
    quire: PathBuf,
    /// Those that use up all there is.
    bombs: PathBuf,
    /// An empty directory for the cases of the host.
    scratch: PathBuf,
}

/// What kind of file system the cases have their directories in, in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scratch {
    /// One in memory.
    Memory,
    /// That of the guest's disk, which is mounted at [`GUEST_DISK`].
    Disk,
}

/// Runs all cases on both systems, or those whose `program/case` contains one of the words, and compares.
///
/// # Errors
///
/// When something could not be built or started, or no case at all was the same. Cases that differ count in the summary,
/// and are printed.
pub(crate) fn run(artifacts: &Artifacts, guest: &Guest, scratch: Scratch, only: &[String]) -> Result<Summary> {
    let suite = build_suite(artifacts)?;
    let oracle = on_host(&suite, only)?;
    let tested = in_guest(artifacts, guest, (&suite, scratch), &[&suite.both, &suite.quire], only)?;
    let own: Vec<Record> = tested.iter().filter(|record| suite.is_of_quire(record)).cloned().collect();
    let gaps = known_gaps(scratch)?;
    let mut summary = Summary::default();
    for judged in judge(&oracle, &tested).into_iter().chain(own.into_iter().map(judge_alone)) {
        let gap = gaps.reason(&judged.program, &judged.case);
        summary.count(&judged, gap);
        tell(&judged, gap);
    }
    summary.tell();
    ensure!(summary.same > 0, "no POSIX case was the same");
    Ok(summary)
}

/// Runs the bombs, and prints what each says: how fast a shell beside it was, and how much it took.
///
/// # Errors
///
/// When something could not be built or started.
pub(crate) fn run_bombs(artifacts: &Artifacts, guest: &Guest, only: &[String]) -> Result<Summary> {
    let suite = build_suite(artifacts)?;
    let mut summary = Summary::default();
    for record in in_guest(artifacts, guest, (&suite, Scratch::Memory), &[&suite.bombs], only)? {
        println!("{}/{}", record.program, record.case);
        String::from_utf8_lossy(&record.output).lines().for_each(|line| println!("    {line}"));
        let judged = judge_alone(record);
        summary.count(&judged, None);
        tell(&judged, None);
    }
    ensure!(summary.same > 0 || !only.is_empty(), "no bomb was contained");
    Ok(summary)
}

// ---- building ----

fn build_suite(artifacts: &Artifacts) -> Result<Suite> {
    let step = Step::begin("building the POSIX cases");
    let base = artifacts.work_directory()?.join("posix-cases");
    let suite = Suite {
        runner: rust_binary(artifacts, RUNNER),
        both: base.join("both"),
        quire: base.join("quire"),
        bombs: base.join("bombs"),
        scratch: base.join("scratch"),
    };
    for directory in [&suite.both, &suite.quire, &suite.bombs] {
        // Programs whose source is gone must go, too.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    }
    let mut cargo = build::cargo();
    process::run(cargo.args(["build", "--release", "--target", MUSL, "--package", PACKAGE, "--bins"]))?;
    for name in RUST_PROGRAMS {
        copy_program(&rust_binary(artifacts, name), &suite.both.join(name))?;
    }
    let objects = base.join("objects");
    fs::create_dir_all(&objects)?;
    build_c_programs(&sources().join("c"), &objects, &suite.both)?;
    build_c_programs(&sources().join("c/quire"), &objects, &suite.quire)?;
    build_c_programs(&sources().join("c/bombs"), &objects, &suite.bombs)?;
    copy_scripts(&sources().join("scenarios/both"), &suite.both)?;
    copy_scripts(&sources().join("scenarios/quire"), &suite.quire)?;
    step.done();
    Ok(suite)
}

fn sources() -> PathBuf {
    workspace().join("posix-server/tests")
}

fn rust_binary(artifacts: &Artifacts, name: &str) -> PathBuf {
    artifacts.target_directory().join(MUSL).join("release").join(name)
}

fn copy_program(from: &Path, to: &Path) -> Result<()> {
    const MODE: u32 = 0o755;
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(MODE))?;
    Ok(())
}

/// Copies the scripts of a directory, without the extension.
fn copy_scripts(from: &Path, to: &Path) -> Result<()> {
    for script in files_of(from, "sh")? {
        copy_program(&script, &to.join(stem(&script)))?;
    }
    Ok(())
}

/// The files of a directory with this extension, sorted.
fn files_of(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("can't list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Builds each C file of a directory in each of its flavours; what is newer than its sources stays.
fn build_c_programs(directory: &Path, objects: &Path, programs: &Path) -> Result<()> {
    let common = sources().join("c");
    let mut shared = files_of(&common, "h")?;
    shared.extend(files_of(directory, "h")?);
    shared.push(common.join(SHARED_C_FILE).with_extension("c"));
    for file in files_of(directory, "c")?.into_iter().filter(|file| !shared.contains(file)) {
        for flavour in FLAVOURS.iter().filter(|flavour| flavour.takes(&stem(&file))) {
            let name = format!("{}{}", stem(&file), flavour.suffix);
            let built = objects.join(&name);
            if !is_newer(&built, shared.iter().chain([&file]))? {
                compile(flavour, &file, &built)?;
            }
            copy_program(&built, &programs.join(name))?;
        }
    }
    Ok(())
}

fn compile(flavour: &Flavour, file: &Path, built: &Path) -> Result<()> {
    let shared = sources().join("c").join(SHARED_C_FILE).with_extension("c");
    let mut compiler = Command::new(flavour.compiler);
    compiler.args(C_FLAGS).args(flavour.flags).arg("-o").arg(built).arg(file).arg(shared);
    process::run(&mut compiler)
}

fn is_newer<'a>(built: &Path, mut sources: impl Iterator<Item = &'a PathBuf>) -> Result<bool> {
    let Ok(built) = fs::metadata(built).and_then(|metadata| metadata.modified()) else { return Ok(false) };
    sources.try_fold(true, |newer, source| {
        let changed = fs::metadata(source).and_then(|metadata| metadata.modified());
        let changed = changed.with_context(|| format!("can't look at {}", source.display()))?;
        Ok(newer && changed < built)
    })
}

impl Flavour {
    fn takes(&self, file: &str) -> bool {
        self.files.is_empty() || self.files.contains(&file)
    }
}

impl Suite {
    /// Whether a record is of a program that only runs on Quire.
    fn is_of_quire(&self, record: &Record) -> bool {
        self.quire.join(&record.program).exists()
    }
}

// ---- running ----

fn on_host(suite: &Suite, only: &[String]) -> Result<Vec<Record>> {
    let step = Step::begin("running the POSIX cases on Linux");
    let mut runner = Command::new(&suite.runner);
    runner.args(runner_arguments(HOST_CASE_LIMIT_S, only)).arg(&suite.both).arg(&suite.scratch);
    let output = process::output_of(runner.stdin(Stdio::null()))?;
    let (records, whole) = record::parse_run(&output);
    if let Err(incomplete) = whole {
        bail!("the cases on Linux: {incomplete}");
    }
    step.done();
    Ok(records)
}

fn runner_arguments(limit_s: u64, only: &[String]) -> Vec<String> {
    let limit = ["--limit".to_owned(), limit_s.to_string()];
    limit.into_iter().chain(only.iter().flat_map(|word| ["--only".to_owned(), word.clone()])).collect()
}

/// Runs them in a guest. What its runner could not run any more is missing from the records, and why is printed.
fn in_guest(
    artifacts: &Artifacts,
    guest: &Guest,
    (suite, scratch): (&Suite, Scratch),
    programs: &[&Path],
    only: &[String],
) -> Result<Vec<Record>> {
    let step = Step::begin("running the POSIX cases on Quire");
    let mut output = Vec::new();
    let mut shown = 0;
    let mut sink = |stream, bytes: &[u8]| {
        match stream {
            Stream::Output => output.extend_from_slice(bytes),
            Stream::Error | Stream::Trace => eprint!("{}", String::from_utf8_lossy(bytes)),
        }
        let lines = output.iter().filter(|&&byte| byte == b'\n').count();
        if lines / PROGRESS_EVERY > shown {
            shown = lines / PROGRESS_EVERY;
            note(&format!("{lines} cases done"));
        }
        Ok(())
    };
    let mut command = vec![GUEST_RUNNER.to_owned()];
    command.extend(runner_arguments(GUEST_CASE_LIMIT_S, only));
    let scratch = match scratch {
        Scratch::Memory => GUEST_SCRATCH,
        Scratch::Disk => GUEST_DISK_SCRATCH,
    };
    command.extend([GUEST_PROGRAMS.to_owned(), scratch.to_owned()]);
    let program = Program::of_guest(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let guest = Guest { additions: additions(suite, programs)?, timeout: Some(GUEST_LIMIT), ..guest.clone() };
    let finished = guest.exec(artifacts, &program, Input::Bytes(Vec::new()), &mut sink)?;
    let (records, whole) = record::parse_run(&String::from_utf8_lossy(&output));
    if let Err(incomplete) = whole {
        println!("the cases on Quire: {incomplete}; the guest: {}", describe(finished.ending));
        println!("the last lines of its log:\n{}", finished.tail);
    }
    step.done();
    Ok(records)
}

fn additions(suite: &Suite, programs: &[&Path]) -> Result<Vec<Addition>> {
    let mut additions = vec![Addition { host: suite.runner.clone(), guest: GUEST_RUNNER.to_owned() }];
    for directory in programs {
        for entry in fs::read_dir(directory)? {
            let host = entry?.path();
            let name = host.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            additions.push(Addition { guest: format!("{GUEST_PROGRAMS}/{name}"), host });
        }
    }
    let loader = fs::canonicalize(MUSL_LOADER).with_context(|| format!("{MUSL_LOADER} (package musl)"))?;
    additions.push(Addition { host: loader, guest: MUSL_LOADER.to_owned() });
    Ok(additions)
}

fn describe(ending: Ending) -> String {
    match ending {
        Ending::Program(status) => format!("the runner ended with {status:?}"),
        Ending::TimedOut => "it ran into its time limit".to_owned(),
        Ending::Died(end) => format!("it ended early: {end}"),
    }
}

// ---- telling ----

/// The verdict on a case that only Quire has: it must succeed.
fn judge_alone(record: Record) -> Judged {
    let verdict = if record.outcome == Outcome::Exited(0) {
        Verdict::Same
    } else {
        let text = String::from_utf8_lossy(&record.output);
        Verdict::Different(text.lines().map(str::to_owned).chain([format!("[{}]", record.outcome)]).collect())
    };
    Judged { program: record.program, case: record.case, verdict }
}

fn known_gaps(scratch: Scratch) -> Result<KnownGaps> {
    let path = sources().join(match scratch {
        Scratch::Memory => KNOWN_GAPS,
        Scratch::Disk => KNOWN_GAPS_ON_DISK,
    });
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    KnownGaps::parse(&text).map_err(|line| anyhow!("{}: not `program/case: reason`: {line}", path.display()))
}

fn tell(judged: &Judged, gap: Option<&str>) {
    let name = format!("{}/{}", judged.program, judged.case);
    match &judged.verdict {
        Verdict::Same if gap.is_some() => println!("CLOSED {name}: the same now; take it out of the list"),
        Verdict::Same | Verdict::Skipped => {}
        Verdict::Missing | Verdict::Different(_) if gap.is_some() => {}
        Verdict::Missing => println!("MISSING {name}: no record from Quire"),
        Verdict::Broken(reason) => println!("BROKEN {name}: on Linux itself: {reason}"),
        Verdict::Different(lines) => {
            println!("DIFFERENT {name} (- Linux, + Quire)");
            for line in lines {
                println!("    {line}");
            }
        }
    }
}

/// How many cases there were of each verdict.
#[derive(Default)]
pub(crate) struct Summary {
    same: u32,
    /// They need the superuser, who we are not.
    skipped: u32,
    missing: u32,
    /// They fail on Linux itself.
    broken: u32,
    different: u32,
    /// Different, and known to be.
    known: u32,
    /// The same, though known to be different.
    closed: u32,
}

impl Summary {
    /// Cases that are as they should be.
    pub(crate) fn passed(&self) -> u32 {
        self.same
    }

    /// Cases that are not.
    pub(crate) fn failed(&self) -> u32 {
        self.missing + self.broken + self.different + self.closed
    }

    /// Cases that prove nothing here and now.
    pub(crate) fn skipped(&self) -> u32 {
        self.skipped + self.known
    }

    fn count(&mut self, judged: &Judged, gap: Option<&str>) {
        let counter = match judged.verdict {
            Verdict::Same if gap.is_some() => &mut self.closed,
            Verdict::Missing | Verdict::Different(_) if gap.is_some() => &mut self.known,
            Verdict::Same => &mut self.same,
            Verdict::Skipped => &mut self.skipped,
            Verdict::Missing => &mut self.missing,
            Verdict::Broken(_) => &mut self.broken,
            Verdict::Different(_) => &mut self.different,
        };
        *counter += 1;
    }

    fn tell(&self) {
        let Self { same, skipped, missing, broken, different, known, closed } = self;
        println!("POSIX cases: {same} the same, {different} different, {missing} missing, {broken} broken;");
        println!("             {known} known gaps, {closed} gaps closed, {skipped} skipped");
    }
}
