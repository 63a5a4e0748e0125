//! The tests of Go's standard library, as far as they are about the system: a static program for each package, in which
//! each test is run by its name.

use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, detail};
use crate::options::Addition;
use crate::process;
use crate::progress::{Step, note};
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const SUITE: Suite = Suite { name: "go", jobs: 3, held: Held::No, prepare, cases };

/// The distribution's packages of the compiler and of the library's source.
const DEBIAN_PACKAGES: [&str; 3] = ["golang-1.19", "golang-1.19-go", "golang-1.19-src"];
/// Where Go lies in them.
const ROOT: &str = "usr/lib/go-1.19";
const PACKAGES: [&str; 7] = ["os", "os/exec", "os/signal", "syscall", "time", "runtime", "net"];
const GUEST_DIRECTORY: &str = "/suite/go";
/// The time zones that some tests expect beside Go's own files are a part of the programs.
const BUILD_TAGS: &str = "timetzdata";
/// A test that would build a program leaves that, as it does on a machine without the command `go`: its own way to know is
/// a compiler flag that it can't hand on.
const NO_COMPILER: &str = "GO_GCFLAGS=none";
const LIMIT_S: u64 = 60;
const OUTPUT_BYTES: usize = 8 << 10;

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let directory = workshop.directory(SUITE.name)?;
    let (mut additions, mut tasks) = (Vec::new(), Vec::new());
    for package in PACKAGES {
        let staged = staged(workshop, &directory, package)?;
        let guest = format!("{GUEST_DIRECTORY}/{package}");
        let mut list = Command::new(staged.join("tests"));
        // Some do not start without what this machine may lack, such as time zones.
        let listed = match process::output_of(list.current_dir(&staged).args(["-test.list", "."])) {
            Ok(listed) => listed,
            Err(error) => {
                note(&format!("the tests of Go's package {package} are left out: {error:#}"));
                continue;
            }
        };
        for test in listed.lines().filter(|line| line.starts_with("Test")) {
            let script = format!("cd {guest} && {NO_COMPILER} exec ./tests -test.short -test.v -test.run '^{test}$'");
            let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
            let name = format!("{package}.{test}");
            tasks.push(Task { name, limit_s: LIMIT_S, output_bytes: OUTPUT_BYTES, command });
        }
        additions.push(Addition { host: staged, guest });
    }
    additions
        .push(Addition { host: root(workshop)?.join("src/testdata"), guest: format!("{GUEST_DIRECTORY}/testdata") });
    Ok(Prepared { version: format!("{} {BUILD_TAGS}", DEBIAN_PACKAGES.join(" ")), additions, tasks })
}

fn root(workshop: &Workshop) -> Result<PathBuf> {
    Ok(workshop.packages.programs("go", &DEBIAN_PACKAGES)?.join(ROOT))
}

/// The command `go`, for static programs.
pub(super) fn compiler(workshop: &Workshop) -> Result<Command> {
    let (root, directory) = (root(workshop)?, workshop.directory(SUITE.name)?);
    let mut go = Command::new(root.join("bin/go"));
    go.env("GOROOT", root).env("GOCACHE", directory.join("cache")).env("GOPATH", directory.join("path"));
    go.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOFLAGS", "");
    Ok(go)
}

/// The test program of a package, in a copy of the directory that it expects to start in.
fn staged(workshop: &Workshop, directory: &Path, package: &str) -> Result<PathBuf> {
    let staged = directory.join("packages").join(package.replace('/', "-"));
    if staged.exists() {
        return Ok(staged);
    }
    let step = Step::begin(format!("building the tests of Go's package {package}"));
    let partial = staged.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    process::run(
        compiler(workshop)?
            .args(["test", "-c", "-tags", BUILD_TAGS, "-ldflags=-s -w", "-o"])
            .arg(partial.join("tests"))
            .arg(package),
    )?;
    for entry in
        fs::read_dir(root(workshop)?.join("src").join(package)).with_context(|| format!("the source of {package}"))?
    {
        let entry = entry?;
        if entry.file_type()?.is_file() || entry.file_name() == "testdata" {
            process::run(Command::new("cp").arg("-a").arg(entry.path()).arg(&partial))?;
        }
    }
    fs::rename(&partial, &staged)?;
    step.done();
    Ok(staged)
}

fn cases(record: &Record) -> Vec<Case> {
    let text = String::from_utf8_lossy(&record.output);
    let (package, test) = record.case.rsplit_once('.').unwrap_or((&record.case, ""));
    let is_skipped = text.lines().any(|line| line.starts_with(&format!("--- SKIP: {test} ")));
    let verdict = match record.outcome {
        Outcome::Exited(0) if is_skipped => CaseVerdict::Skipped,
        Outcome::Exited(0) => CaseVerdict::Passed,
        Outcome::Exited(_) | Outcome::Killed(_) | Outcome::TimedOut | Outcome::NotRun(_) | Outcome::Skipped => {
            CaseVerdict::Failed
        }
    };
    vec![Case { name: record.case.clone(), area: package.to_owned(), verdict, detail: detail(record) }]
}
