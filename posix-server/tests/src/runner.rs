//! `posix-runner [--limit SECONDS] [--only WORD]… PROGRAMS SCRATCH`, or `posix-runner --list PROGRAMS SCRATCH`
//!
//! Runs the cases of all programs in the directory PROGRAMS and prints a record for each; with `--only`, those whose
//! `program/case` contains one of the words. Each case runs as the leader of a process group in an empty directory below
//! SCRATCH, with stdin on `/dev/null`, stdout and stderr in one file, a fixed environment, the umask 022 and a time limit;
//! what is left of its group afterwards is killed.
//!
//! The runner is itself a guest of the system under test, so it asks little of it: files, one child at a time, `wait4`
//! with `WNOHANG`, `kill` and `nanosleep`. It has no threads, and no pipe that an orphan could keep open.

#![forbid(unsafe_code)]

use posix_tests::record::{Outcome, Record, end_line};
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, WaitOptions, getuid, kill_process_group, umask, wait};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_LIMIT: Duration = Duration::from_secs(20);
/// How often a running case is looked after.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// More output than this is cut off: a case that runs wild must not fill the record stream.
const MOST_OUTPUT_BYTES: usize = 64 * 1024;
/// What new files of the cases lack: writing by group and others.
const COMMON_UMASK: Mode = Mode::WGRP.union(Mode::WOTH);
const USAGE: &str = "usage: posix-runner [--list] [--limit SECONDS] [--only WORD]... PROGRAMS SCRATCH";
const USAGE_STATUS: u8 = 2;

/// What to do with the cases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Run,
    List,
}

/// What the command line asks for.
struct Plan {
    action: Action,
    limit: Duration,
    only: Vec<String>,
    programs: PathBuf,
    scratch: PathBuf,
}

/// A case as its program lists it.
struct Listed {
    name: String,
    needs_root: bool,
}

fn main() -> ExitCode {
    let Some(plan) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(USAGE_STATUS);
    };
    match run(&plan) {
        Ok(count) => {
            println!("{}", end_line(count));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("posix-runner: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Plan> {
    let (mut action, mut limit) = (Action::Run, DEFAULT_LIMIT);
    let (mut only, mut places) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => action = Action::List,
            "--limit" => limit = Duration::from_secs(arguments.next()?.parse().ok()?),
            "--only" => only.push(arguments.next()?),
            _ => places.push(PathBuf::from(argument)),
        }
    }
    let [programs, scratch] = places.try_into().ok()?;
    Some(Plan { action, limit, only, programs, scratch })
}

/// Runs everything that is asked for and gives the number of records printed.
fn run(plan: &Plan) -> io::Result<usize> {
    umask(COMMON_UMASK);
    fs::create_dir_all(&plan.scratch)?;
    let scratch = fs::canonicalize(&plan.scratch)?;
    let mut count = 0;
    for program in programs_in(&plan.programs)? {
        let name = file_name(&program);
        for record in run_program(plan, &scratch, &program, &name) {
            say(&record.to_line());
            count += 1;
        }
    }
    Ok(count)
}

/// The records of one program, one at a time, each as soon as its case is over.
fn run_program<'a>(
    plan: &'a Plan,
    scratch: &'a Path,
    program: &'a Path,
    name: &'a str,
) -> Box<dyn Iterator<Item = Record> + 'a> {
    let listed = match list(program, scratch, plan.limit) {
        Ok(listed) => listed,
        Err(reason) => return Box::new(std::iter::once(record(name, "--list", (Outcome::NotRun(reason), Vec::new())))),
    };
    let wanted = listed.into_iter().filter(move |case| is_wanted(&plan.only, &format!("{name}/{}", case.name)));
    if plan.action == Action::List {
        wanted.for_each(|case| say(&format!("{name}/{}{}", case.name, if case.needs_root { " root" } else { "" })));
        return Box::new(std::iter::empty());
    }
    Box::new(wanted.map(move |case| record(name, &case.name, run_case(plan, scratch, program, &case))))
}

fn is_wanted(only: &[String], case: &str) -> bool {
    only.is_empty() || only.iter().any(|word| case.contains(word))
}

fn record(program: &str, case: &str, (outcome, output): (Outcome, Vec<u8>)) -> Record {
    Record { program: program.to_owned(), case: case.to_owned(), outcome, output }
}

fn programs_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(directory)? {
        programs.push(fs::canonicalize(entry?.path())?);
    }
    programs.sort();
    Ok(programs)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn list(program: &Path, scratch: &Path, limit: Duration) -> Result<Vec<Listed>, String> {
    let (outcome, output) = supervise(program, "--list", scratch, limit);
    if outcome != Outcome::Exited(0) {
        return Err(format!("listing its cases {outcome}"));
    }
    Ok(String::from_utf8_lossy(&output).lines().filter_map(parse_listed).collect())
}

fn parse_listed(line: &str) -> Option<Listed> {
    let mut words = line.split_whitespace();
    Some(Listed { name: words.next()?.to_owned(), needs_root: words.next() == Some("root") })
}

fn run_case(plan: &Plan, scratch: &Path, program: &Path, case: &Listed) -> (Outcome, Vec<u8>) {
    if case.needs_root && !getuid().is_root() {
        return (Outcome::Skipped, Vec::new());
    }
    supervise(program, &case.name, scratch, plan.limit)
}

/// Runs `program argument` in a fresh directory until it ends or its time is up.
fn supervise(program: &Path, argument: &str, scratch: &Path, limit: Duration) -> (Outcome, Vec<u8>) {
    let place = Place::new(scratch);
    let outcome = place.prepare().and_then(|output| {
        let mut child = start(program, argument, &place.directory, output)?;
        let outcome = watch(&mut child, limit);
        clean_up_group(&child);
        outcome
    });
    let outcome = outcome.unwrap_or_else(|error| Outcome::NotRun(error.to_string()));
    let output = place.finish();
    (outcome, output)
}

/// The directory in which a case runs, and the file that takes its output.
struct Place {
    directory: PathBuf,
    output: PathBuf,
}

impl Place {
    fn new(scratch: &Path) -> Self {
        Self { directory: scratch.join("case"), output: scratch.join("output") }
    }

    /// Makes both anew, and gives the open file.
    fn prepare(&self) -> io::Result<File> {
        // What an earlier case left; the error that there is nothing is no error.
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(&self.output);
        fs::create_dir(&self.directory)?;
        File::options().create_new(true).append(true).open(&self.output)
    }

    /// What the case wrote. Removes both.
    fn finish(&self) -> Vec<u8> {
        let mut output = fs::read(&self.output).unwrap_or_default();
        output.truncate(MOST_OUTPUT_BYTES);
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(&self.output);
        output
    }
}

fn start(program: &Path, argument: &str, directory: &Path, output: File) -> io::Result<Child> {
    Command::new(program)
        .arg(argument)
        .env_clear()
        .env("PATH", "/bin:/usr/bin")
        .env("LC_ALL", "C")
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

/// Waits for the end of the child, and kills it when its time is up.
fn watch(child: &mut Child, limit: Duration) -> io::Result<Outcome> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(outcome) = end_of(child)? {
            return Ok(outcome);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            while end_of(child)?.is_none() {
                std::thread::sleep(POLL_INTERVAL);
            }
            return Ok(Outcome::TimedOut);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// How the child ended, if it has. Where the runner is the first process of its system it inherits all orphans, so it
/// waits for whoever has ended.
fn end_of(child: &Child) -> io::Result<Option<Outcome>> {
    let next = || wait(WaitOptions::NOHANG).map_err(|errno| io::Error::from_raw_os_error(errno.raw_os_error()));
    while let Some((pid, status)) = next()? {
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(child.id()) {
            return Ok(Some(ExitStatus::from_raw(status.as_raw()).into()));
        }
    }
    Ok(None)
}

/// Kills what the case left behind. Nothing left, which is the rule, is an error of `kill` and none of ours.
fn clean_up_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Prints a line at once, so that a system that dies shows after which case it did.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // With its output gone the runner has nobody to tell; the reader notices the missing end.
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}
