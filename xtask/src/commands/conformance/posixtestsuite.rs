//! The Open POSIX Test Suite: programs of one test each, which say by their status whether it passed.

use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, detail};
use crate::libraries;
use crate::options::Addition;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite { name: "posixtestsuite", jobs: 6, held: Held::InTests(QUICK), prepare, cases };

const GUEST_DIRECTORY: &str = "/suite";
/// How long a task may take to be held by the tests.
const QUICK: Duration = Duration::from_secs(1);
const LIMIT_S: u64 = 60;
const OUTPUT_BYTES: usize = 2048;

/// What its own Makefile says, but for warnings, which a compiler newer than the suite has more of.
const FLAGS: [&str; 6] = ["-w", "-O1", "-std=gnu99", "-D_POSIX_C_SOURCE=200112L", "-D_GNU_SOURCE", "-Iinclude"];
const LIBRARIES: [&str; 2] = ["-lpthread", "-lrt"];

const COMPILER_LIBRARY: &str = "libgcc_s.so.1";

/// Statuses by which a test says that it can't tell: `posixtest.h` of the suite.
const UNSUPPORTED: i32 = 4;
const UNTESTED: i32 = 5;

/// The areas of the suite's own `run_tests`: name, and beginnings of the names of the interfaces that belong to it.
const AREAS: [(&str, &[&str]); 8] = [
    ("aio", &["aio_", "lio_"]),
    ("message queues", &["mq_"]),
    ("semaphores", &["sem_"]),
    ("signals", &["sig", "raise", "kill"]),
    ("scheduling", &["sched_"]),
    ("threads", &["pthread_"]),
    ("memory", &["mlock", "munlock", "mmap", "munmap", "shm_"]),
    (
        "timers",
        &["timer", "time", "clock", "nanosleep", "asctime", "ctime", "difftime", "gmtime", "localtime", "mktime"],
    ),
];

fn prepare(workshop: &Workshop, selection: &Selection) -> Result<Prepared> {
    let source = workshop.packages.source("posixtestsuite")?;
    let programs = workshop.directory(SUITE.name)?.join("programs");
    let step = Step::begin("building the Open POSIX Test Suite");
    let mut sources = sources(&source)?;
    sources.retain(|(name, _)| selection.takes(name));
    let built = build(&source, sources, &programs)?;
    step.done();
    let mut additions = match built.first() {
        Some(name) => libraries::needed_by(&programs.join(name))?,
        None => Vec::new(),
    };
    // The C library loads it when a thread ends.
    additions.push(Addition { host: compiler_library()?, guest: format!("/lib/{COMPILER_LIBRARY}") });
    let addition = |name: &String| Addition { host: programs.join(name), guest: format!("{GUEST_DIRECTORY}/{name}") };
    additions.extend(built.iter().map(addition));
    let tasks = built.into_iter().map(|name| Task {
        command: vec![format!("{GUEST_DIRECTORY}/{name}")],
        name,
        limit_s: LIMIT_S,
        output_bytes: OUTPUT_BYTES,
    });
    Ok(Prepared { version: FLAGS.join(" "), additions, tasks: tasks.collect() })
}

/// The compiler's library, which the C library finds beside itself.
fn compiler_library() -> Result<PathBuf> {
    let path = process::output_of(Command::new("gcc").arg(format!("-print-file-name={COMPILER_LIBRARY}")))?;
    fs::canonicalize(path.trim()).with_context(|| format!("finding {COMPILER_LIBRARY}"))
}

/// The sources of all tests: name (`mq_open/1-1`) and path, relative to the suite.
fn sources(suite: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for group in ["conformance/interfaces", "conformance/behavior"] {
        for interface in sorted_entries(&suite.join(group))? {
            for file in sorted_entries(&suite.join(group).join(&interface)).unwrap_or_default() {
                let Some(test) = file.strip_suffix(".c") else { continue };
                if test.starts_with(|first: char| first.is_ascii_digit()) && !test.contains("buildonly") {
                    found.push((format!("{interface}/{test}"), Path::new(group).join(&interface).join(&file)));
                }
            }
        }
    }
    Ok(found)
}

fn sorted_entries(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("can't list {}", directory.display()))?;
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Compiles what is not compiled yet, on all processors. Gives the names of those that could be, in order: some have no
/// `main`, and some no compiler of today takes.
fn build(suite: &Path, sources: Vec<(String, PathBuf)>, programs: &Path) -> Result<Vec<String>> {
    let (queue, built) = (Mutex::new(sources.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let work = || -> Result<()> {
        while let Some((name, source)) = next() {
            if compile(suite, &source, &programs.join(&name))? {
                built.lock().map(|mut built| built.push(name)).unwrap_or_default();
            }
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    let mut built = built.into_inner().unwrap_or_default();
    built.sort();
    Ok(built)
}

/// Whether the program could be built, now or before.
fn compile(suite: &Path, source: &Path, program: &Path) -> Result<bool> {
    let failed = program.with_extension("failed");
    if program.exists() || failed.exists() {
        return Ok(program.exists());
    }
    fs::create_dir_all(program.parent().unwrap_or(program))?;
    let mut compiler = Command::new("gcc");
    compiler.current_dir(suite).args(FLAGS).arg("-o").arg(program).arg(source).args(LIBRARIES);
    let status = compiler.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("can't start `{}`", process::describe(&compiler)))?;
    if !status.success() {
        fs::write(&failed, "")?;
    }
    Ok(status.success())
}

fn cases(record: &Record) -> Vec<Case> {
    let verdict = match record.outcome {
        Outcome::Exited(0) => CaseVerdict::Passed,
        Outcome::Exited(UNSUPPORTED | UNTESTED) => CaseVerdict::Skipped,
        Outcome::Exited(_) | Outcome::Killed(_) | Outcome::TimedOut | Outcome::NotRun(_) | Outcome::Skipped => {
            CaseVerdict::Failed
        }
    };
    vec![Case { name: record.case.clone(), area: area(&record.case).to_owned(), verdict, detail: detail(record) }]
}

fn area(name: &str) -> &'static str {
    let is_of = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    AREAS.iter().find(|(_, beginnings)| is_of(beginnings)).map_or("others", |(area, _)| area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_belong_to_areas() {
        assert_eq!(area("sigaction/1-1"), "signals");
        assert_eq!(area("mlockall/3-6"), "memory");
        assert_eq!(area("fork/1-1"), "others");
    }

    #[test]
    fn a_test_that_can_not_tell_does_not_fail() {
        let record =
            |outcome| Record { program: String::new(), case: "mq_open/1-1".into(), outcome, output: Vec::new() };
        let verdict = |outcome| cases(&record(outcome)).remove(0).verdict;
        assert_eq!(verdict(Outcome::Exited(0)), CaseVerdict::Passed);
        assert_eq!(verdict(Outcome::Exited(UNTESTED)), CaseVerdict::Skipped);
        assert_eq!(verdict(Outcome::Exited(2)), CaseVerdict::Failed);
        assert_eq!(verdict(Outcome::TimedOut), CaseVerdict::Failed);
    }
}
