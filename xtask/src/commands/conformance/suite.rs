//! What a suite of tests is to us.

use super::packages::Packages;
use crate::build::Artifacts;
use crate::options::Addition;
use crate::process;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::Record;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A suite that somebody else wrote.
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// How many of its tasks may run at the same time.
    pub(super) jobs: usize,
    pub(super) held: Held,
    /// Fetches and builds it.
    pub(super) prepare: fn(&Workshop, &Selection) -> Result<Prepared>,
    /// The cases that a record tells of.
    pub(super) cases: fn(&Record) -> Vec<Case>,
}

/// Whether what passes quickly is recorded, and held by the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// What takes less than this.
    InTests(Duration),
    /// It takes too long to fetch or to build.
    No,
}

/// Which tasks of a suite are wanted; what is costly to build is built only for those.
pub(super) struct Selection {
    /// Parts of names; all if there is none.
    pub(super) words: Vec<String>,
    /// Names; all if `None`.
    pub(super) names: Option<Vec<String>>,
}

impl Selection {
    /// Whether a task of this name is to run.
    pub(super) fn takes(&self, name: &str) -> bool {
        let by_word = self.words.is_empty() || self.words.iter().any(|word| name.contains(word));
        by_word && self.names.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name))
    }
}

/// A suite ready to run.
pub(super) struct Prepared {
    /// What it is a build of; results of Linux are kept as long as this stays the same.
    pub(super) version: String,
    /// The files that both guests get.
    pub(super) additions: Vec<Addition>,
    pub(super) tasks: Vec<Task>,
}

/// One test, as the suite counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: String,
    /// The part of the system that it is about.
    pub(super) area: String,
    pub(super) verdict: CaseVerdict,
    /// What explains a failure: how it ended, and the end of what it printed.
    pub(super) detail: String,
}

/// What a test says about the system that it ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaseVerdict {
    Passed,
    Failed,
    /// It says itself that it can't tell.
    Skipped,
}

/// Where suites are built.
pub(super) struct Workshop {
    pub(super) packages: Packages,
    directory: PathBuf,
}

impl Workshop {
    /// The one for the builds of this target directory.
    pub(super) fn of(artifacts: &Artifacts) -> Result<Self> {
        let directory = artifacts.work_directory()?.join("conformance");
        Ok(Self { packages: Packages::in_directory(directory.join("packages")), directory })
    }

    /// A directory for a suite; it exists.
    pub(super) fn directory(&self, suite: &str) -> Result<PathBuf> {
        let directory = self.directory.join(suite);
        fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        Ok(directory)
    }
}

/// How a task ended and the last lines that it printed.
pub(super) fn detail(record: &Record) -> String {
    const LINES: usize = 6;
    let text = String::from_utf8_lossy(&record.output);
    let lines: Vec<_> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n");
    format!("[{}]\n{tail}", record.outcome)
}

/// A command that copies a directory of the guest to the one where it starts, and runs a script there.
pub(super) fn in_own_copy(directory: &str, script: &str) -> Vec<String> {
    let script = format!("cp -a {directory}/. . && {script}");
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// Copies a directory with all in it, to a place that does not exist.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    process::run(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// The cases of a task that prints a line such as `PASS: title` for each. `name` makes the case's name of the title.
pub(super) fn line_cases(record: &Record, area: &str, name: impl Fn(&str) -> String) -> Vec<Case> {
    let text = String::from_utf8_lossy(&record.output);
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    let mut cases = Vec::new();
    while let Some(line) = lines.next() {
        let Some((verdict, title)) = verdict_of(line) else { continue };
        // Several cases may bear the same title.
        let number = numbers.entry(title).or_default();
        *number += 1;
        let again = if *number > 1 { format!(" ({number})") } else { String::new() };
        // What follows a failure explains it.
        let explanation = std::iter::from_fn(|| lines.next_if(|line| verdict_of(line).is_none())).collect::<Vec<_>>();
        let detail = explanation.get(..explanation.len().min(DETAIL_LINES)).unwrap_or_default().join("\n");
        cases.push(Case { name: name(title) + &again, area: area.to_owned(), verdict, detail });
    }
    cases
}

/// How many lines explain a failure.
const DETAIL_LINES: usize = 12;

fn verdict_of(line: &str) -> Option<(CaseVerdict, &str)> {
    let (word, title) = line.split_once(": ")?;
    match word {
        "PASS" => Some((CaseVerdict::Passed, title)),
        "FAIL" => Some((CaseVerdict::Failed, title)),
        "SKIPPED" | "UNTESTED" => Some((CaseVerdict::Skipped, title)),
        _ => None,
    }
}
