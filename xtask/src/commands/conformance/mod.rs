//! `cargo xtask conformance`: suites that nobody here wrote, on Linux and on Quire.
//!
//! Each suite is fetched from a package registry and built once; the same files go into a guest of Linux and one of Quire,
//! and the same runner (`posix-server/tests/src/conformance_runner.rs`) runs its tasks there. What passes on Linux counts,
//! and what of it does not pass on Quire is a difference. `posix-server/tests/conformance/` keeps the reasons of those that
//! are known, and the lists of what passes, which the tests hold against regressions.

mod bash;
mod busybox;
mod cpython;
mod golang;
mod linux;
mod nix;
mod packages;
mod page;
mod posixtestsuite;
mod programs;
mod reasons;
mod report;
mod runs;
mod suite;
mod transcript;

use super::SUCCESS;
use crate::FAILURE;
use crate::build::{self, Artifacts, ProgramSet};
use crate::options::ConformanceOptions;
use crate::process;
use crate::progress::{Step, note};
use crate::{linux_kernel, setup};
use anyhow::{Context as _, Result, bail};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use reasons::Reasons;
use report::{Details, Report};
use runs::{Laboratory, Results, System, Timed};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop};

const MUSL: &str = "x86_64-unknown-linux-musl";
const RUNNER: &str = "conformance-runner";

/// All suites.
const SUITES: [Suite; 7] =
    [posixtestsuite::SUITE, busybox::SUITE, bash::SUITE, nix::SUITE, golang::SUITE, programs::SUITE, cpython::SUITE];

/// Runs suites on both systems, prints the rates, and saves them.
pub(crate) fn run(options: &ConformanceOptions) -> Result<u8> {
    let suites = chosen(&options.suites)?;
    setup::for_conformance()?;
    let artifacts = build::guest_programs(ProgramSet::Posix)?;
    let bench = Bench::new(&artifacts, options)?;
    let mut reports = Vec::new();
    for suite in suites {
        let report = bench.run(suite)?;
        println!("{}{}", report.table(), report.list(Details::Unexplained));
        reports.push(report);
    }
    if let Some(path) = &options.json {
        let all: Vec<_> = reports.iter().map(Report::to_json).collect();
        fs::write(path, format!("{:#}\n", serde_json::Value::from(all)))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(if reports.iter().all(|report| report.unexplained() == 0) { SUCCESS } else { FAILURE })
}

/// Runs what is recorded to pass, on Quire alone. Gives how much of it did, and the names and ends of the rest.
pub(crate) fn run_recorded(artifacts: &Artifacts) -> Result<(u32, Vec<(String, String)>)> {
    setup::for_conformance()?;
    let options = ConformanceOptions { quick: true, ..ConformanceOptions::default() };
    let bench = Bench::new(artifacts, &options)?;
    let (mut passed, mut failed) = (0, Vec::new());
    for suite in SUITES.iter().filter(|suite| !reasons::recorded(suite.name).is_empty()) {
        let prepared = bench.prepare(suite)?;
        let results = bench.on_quire(suite, &prepared, prepared.tasks.clone(), |_| true)?;
        for case in cases(suite, &results) {
            match case.verdict {
                CaseVerdict::Passed => passed += 1,
                CaseVerdict::Failed => failed.push((format!("{}: {}", suite.name, case.name), case.detail)),
                CaseVerdict::Skipped => {}
            }
        }
    }
    Ok((passed, failed))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Suite>> {
    if names.is_empty() {
        return Ok(SUITES.iter().collect());
    }
    let find = |name: &String| SUITES.iter().find(|suite| suite.name == name);
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {unknown:?}; there are {}", known.join(", "));
    }
    Ok(names.iter().filter_map(find).collect())
}

/// Where suites are run.
struct Bench<'a> {
    artifacts: &'a Artifacts,
    options: &'a ConformanceOptions,
    workshop: Workshop,
    runner: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(artifacts: &'a Artifacts, options: &'a ConformanceOptions) -> Result<Self> {
        let mut cargo = build::cargo();
        process::run(cargo.args([
            "build",
            "--quiet",
            "--release",
            "--target",
            MUSL,
            "--package",
            "posix-tests",
            "--bin",
            RUNNER,
        ]))?;
        let runner = artifacts.target_directory().join(MUSL).join("release").join(RUNNER);
        Ok(Self { artifacts, options, workshop: Workshop::of(artifacts)?, runner })
    }

    fn run(&self, suite: &Suite) -> Result<Report> {
        let prepared = self.prepare(suite)?;
        let linux = self.on_linux(suite, &prepared)?;
        let passing: BTreeSet<String> = cases(suite, &linux)
            .into_iter()
            .filter(|case| case.verdict == CaseVerdict::Passed)
            .map(|case| case.name)
            .collect();
        let counts = |case: &Case| passing.contains(&case.name);
        let has_counting = |record: &Record| (suite.cases)(record).iter().any(counts);
        let tasks =
            prepared.tasks.iter().filter(|task| linux.get(&task.name).is_some_and(|it| has_counting(&it.record)));
        let quire = self.on_quire(suite, &prepared, tasks.cloned().collect(), counts)?;
        let report =
            Report::new(suite.name, &cases(suite, &linux), &cases(suite, &quire), &Reasons::of_suite(suite.name)?);
        let path = self.workshop.directory(suite.name)?.join("report.txt");
        fs::write(&path, report.table() + &report.list(Details::All))?;
        note(&format!("all differences are in {}", path.display()));
        if self.options.record {
            if let Held::InTests(limit) = suite.held {
                reasons::record(suite.name, &quick_passes(suite, limit, &linux, &quire))?;
            }
            page::record(&report)?;
        }
        Ok(report)
    }

    fn prepare(&self, suite: &Suite) -> Result<Prepared> {
        let names = self.options.quick.then(|| reasons::recorded(suite.name));
        let selection = Selection { words: self.options.filters.clone(), names };
        let mut prepared = (suite.prepare)(&self.workshop, &selection)?;
        prepared.tasks.retain(|task| selection.takes(&task.name));
        Ok(prepared)
    }

    /// Linux's results: those kept from an earlier run, and new ones for the rest.
    fn on_linux(&self, suite: &Suite, prepared: &Prepared) -> Result<Results> {
        let path = self.workshop.directory(suite.name)?.join("linux-results");
        let kernel = linux_kernel::provide(self.artifacts)?;
        let version = format!("{} {}", kernel.file_name().unwrap_or_default().display(), prepared.version);
        let mut kept = kept_results(&path, &version);
        let missing: Vec<Task> = prepared.tasks.iter().filter(|task| !kept.contains_key(&task.name)).cloned().collect();
        if !missing.is_empty() {
            let step = Step::begin(format!("running {} task(s) of {} on Linux", missing.len(), suite.name));
            let laboratory = self.laboratory(System::Linux);
            let mut results = laboratory.run(prepared, missing, self.jobs(suite))?;
            // Whoever loses patience now has these next time.
            kept.extend(results.clone());
            keep_results(&path, &version, &kept)?;
            // What takes too long here is not worth another try.
            let mut again = with_failures(suite, &results, |_| true);
            again.retain(|name| results.get(name).is_some_and(|it| it.record.outcome != Outcome::TimedOut));
            self.run_alone(&laboratory, prepared, &again, &mut results)?;
            kept.extend(results);
            keep_results(&path, &version, &kept)?;
            step.done();
        }
        kept.retain(|name, _| prepared.tasks.iter().any(|task| task.name == *name));
        Ok(kept)
    }

    /// Quire's results for these tasks. One with a failed case that counts gets a second chance, alone.
    fn on_quire(
        &self,
        suite: &Suite,
        prepared: &Prepared,
        tasks: Vec<Task>,
        counts: impl Fn(&Case) -> bool,
    ) -> Result<Results> {
        let step = Step::begin(format!("running {} task(s) of {} on Quire", tasks.len(), suite.name));
        let laboratory = self.laboratory(System::Quire);
        let mut results = laboratory.run(prepared, tasks, self.jobs(suite))?;
        let again = with_failures(suite, &results, counts);
        self.run_alone(&laboratory, prepared, &again, &mut results)?;
        step.done();
        Ok(results)
    }

    fn run_alone(
        &self,
        laboratory: &Laboratory<'_>,
        prepared: &Prepared,
        names: &BTreeSet<String>,
        results: &mut Results,
    ) -> Result<()> {
        let tasks: Vec<Task> = prepared.tasks.iter().filter(|task| names.contains(&task.name)).cloned().collect();
        if !tasks.is_empty() {
            note(&format!("{} failed, and are run again, one at a time", tasks.len()));
            results.extend(laboratory.run(prepared, tasks, 1)?);
        }
        Ok(())
    }

    fn laboratory(&self, system: System) -> Laboratory<'_> {
        Laboratory { artifacts: self.artifacts, runner: &self.runner, system }
    }

    fn jobs(&self, suite: &Suite) -> usize {
        self.options.jobs.unwrap_or(suite.jobs)
    }
}

fn cases(suite: &Suite, results: &Results) -> Vec<Case> {
    results.values().flat_map(|result| (suite.cases)(&result.record)).collect()
}

/// The names of the tasks with a failed case that counts.
fn with_failures(suite: &Suite, results: &Results, counts: impl Fn(&Case) -> bool) -> BTreeSet<String> {
    let has_failed = |timed: &Timed| {
        let cases = (suite.cases)(&timed.record);
        cases.is_empty() || cases.iter().any(|case| case.verdict == CaseVerdict::Failed && counts(case))
    };
    results.iter().filter(|(_, timed)| has_failed(timed)).map(|(name, _)| name.clone()).collect()
}

/// The names of the tasks of which nothing fails on either system, and that are quick.
fn quick_passes(suite: &Suite, limit: Duration, linux: &Results, quire: &Results) -> Vec<String> {
    let passes = |timed: &Timed| {
        let cases = (suite.cases)(&timed.record);
        let has = |verdict| cases.iter().any(|case| case.verdict == verdict);
        has(CaseVerdict::Passed) && !has(CaseVerdict::Failed)
    };
    let is_quick = |timed: &Timed| timed.duration < limit && passes(timed);
    quire
        .iter()
        .filter(|(name, timed)| is_quick(timed) && linux.get(*name).is_some_and(passes))
        .map(|(name, _)| name.clone())
        .collect()
}

/// The results in a file, if they are of this version.
fn kept_results(path: &std::path::Path, version: &str) -> Results {
    let text = fs::read_to_string(path).unwrap_or_default();
    let Some((first, rest)) = text.split_once('\n') else { return Results::new() };
    if first != version {
        return Results::new();
    }
    let records = rest.lines().filter_map(Record::from_line);
    records.map(|record| (record.case.clone(), Timed { record, duration: Duration::ZERO })).collect()
}

fn keep_results(path: &std::path::Path, version: &str, results: &Results) -> Result<()> {
    let lines: String = results.values().map(|result| result.record.to_line() + "\n").collect();
    fs::write(path, format!("{version}\n{lines}")).with_context(|| format!("can't write {}", path.display()))
}
