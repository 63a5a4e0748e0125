//! Running the tasks of a suite in a guest, and in the next one if the first does not survive them.

use super::linux;
use super::suite::Prepared;
use super::transcript::Transcript;
use crate::build::Artifacts;
use crate::guest::{Ending, Guest, Input, LogLevel, MemorySize, Program, Stream};
use crate::options::Addition;
use crate::payload;
use crate::progress::note;
use crate::root_files;
use anyhow::{Result, bail};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

const GUEST_RUNNER: &str = "/conformance/runner";
const GUEST_PLAN: &str = "/conformance/plan";
const GUEST_SCRATCH: &str = "/tmp/c";
/// How much longer than a task may take a guest may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// More guests than this do not get a chance.
const MOST_BOOTS: usize = 40;

/// On what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    Quire,
}

/// A record, and how long its task took.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub(super) record: Record,
    pub(super) duration: Duration,
}

/// By the names of the tasks.
pub(super) type Results = BTreeMap<String, Timed>;

/// What runs tasks.
pub(super) struct Laboratory<'a> {
    pub(super) artifacts: &'a Artifacts,
    pub(super) runner: &'a Path,
    pub(super) system: System,
}

impl Laboratory<'_> {
    /// Runs these tasks, so many at a time.
    ///
    /// # Errors
    ///
    /// What went wrong on the host, or a system on which nothing runs at all.
    pub(super) fn run(&self, prepared: &Prepared, mut tasks: Vec<Task>, jobs: usize) -> Result<Results> {
        let mut results = Results::new();
        for _ in 0..MOST_BOOTS {
            if tasks.is_empty() {
                break;
            }
            let (transcript, death) = self.boot(prepared, &tasks, jobs)?;
            let death = death.unwrap_or_else(|| "the runner skipped it".to_owned());
            let blamed: Vec<Record> = transcript.running().map(|name| not_run(name, &death)).collect();
            if blamed.is_empty() && transcript.records.is_empty() {
                bail!("nothing ran on {:?}: {death}", self.system);
            }
            if !blamed.is_empty() {
                note(&format!("the guest died or fell silent during {} task(s): {death}", blamed.len()));
            }
            let times = transcript.durations.iter().copied().chain(std::iter::repeat(Duration::ZERO));
            for (record, duration) in transcript.records.iter().cloned().chain(blamed).zip(times) {
                results.insert(record.case.clone(), Timed { record, duration });
            }
            tasks.retain(|task| !results.contains_key(&task.name));
        }
        Ok(results)
    }

    /// One guest. Gives what its runner said, and why it did not get to its end.
    fn boot(&self, prepared: &Prepared, tasks: &[Task], jobs: usize) -> Result<(Transcript, Option<String>)> {
        let directory = tempfile::tempdir()?;
        let plan = directory.path().join("plan");
        fs::write(&plan, tasks.iter().map(|task| task.to_line() + "\n").collect::<String>())?;
        let mut additions = prepared.additions.clone();
        additions.push(Addition { host: self.runner.to_owned(), guest: GUEST_RUNNER.to_owned() });
        additions.push(Addition { host: plan, guest: GUEST_PLAN.to_owned() });
        let longest = tasks.iter().map(|task| task.limit_s).max().unwrap_or_default();
        let silence = Duration::from_secs(longest) + SILENCE;
        let guest = Guest {
            memory: MemorySize::GIBIBYTE,
            timeout: None,
            silence: Some(silence),
            log: LogLevel::Warn,
            additions,
            ..Guest::default()
        };
        let jobs = jobs.to_string();
        let command = [GUEST_RUNNER, "--jobs", &jobs, GUEST_PLAN, GUEST_SCRATCH];
        let mut transcript = Transcript::of(tasks.len());
        let death = match self.system {
            System::Linux => {
                let [runner, rest @ ..] = &command;
                let program = Program::of_guest(&[&[*runner, "--linger"], rest.as_slice()].concat());
                let archive = payload::archive(self.artifacts, &program.init(), root_files::tree(&guest.additions)?)?;
                linux::run(self.artifacts, &guest, &archive, &program.command, silence, &mut transcript)?
            }
            System::Quire => self.on_quire(&guest, &Program::of_guest(&command), &mut transcript)?,
        };
        Ok((transcript, death))
    }

    fn on_quire(&self, guest: &Guest, program: &Program, transcript: &mut Transcript) -> Result<Option<String>> {
        let mut sink = |stream, bytes: &[u8]| {
            match stream {
                Stream::Output => transcript.push(bytes),
                Stream::Error => eprint!("{}", String::from_utf8_lossy(bytes)),
                Stream::Trace => {}
            }
            Ok(())
        };
        let finished = guest.exec(self.artifacts, program, Input::Bytes(Vec::new()), &mut sink)?;
        let why = match finished.ending {
            Ending::Program(_) if transcript.is_complete() => return Ok(None),
            Ending::Program(status) => format!("the runner ended with {status:?}"),
            Ending::TimedOut => "it fell silent".to_owned(),
            Ending::Died(end) => end.to_string(),
        };
        Ok(Some(format!("{why}; its log:\n{}", finished.tail)))
    }
}

fn not_run(name: &str, why: &str) -> Record {
    let outcome = Outcome::NotRun("the guest died or fell silent".to_owned());
    Record { program: String::new(), case: name.to_owned(), outcome, output: why.as_bytes().to_vec() }
}
