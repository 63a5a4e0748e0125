//! What the runner in a guest has said so far.

use crate::progress::note;
use posix_tests::plan;
use posix_tests::record::{Record, parse_run};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// The output of a runner, read line by line as it comes.
pub(super) struct Transcript {
    /// How many tasks there are.
    total: usize,
    /// When the progress was told last.
    told: Instant,
    unfinished: Vec<u8>,
    /// Since when tasks run whose records have not come.
    running: BTreeMap<String, Instant>,
    pub(super) records: Vec<Record>,
    /// How long they took, in the same order.
    pub(super) durations: Vec<Duration>,
    is_complete: bool,
}

impl Transcript {
    /// An empty one of a run of so many tasks.
    pub(super) fn of(total: usize) -> Self {
        Self {
            total,
            told: Instant::now(),
            unfinished: Vec::new(),
            running: BTreeMap::new(),
            records: Vec::new(),
            durations: Vec::new(),
            is_complete: false,
        }
    }

    /// Takes more output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = plan::started(line) {
            self.running.insert(name.to_owned(), Instant::now());
        } else if let Some(record) = Record::from_line(line) {
            let started = self.running.remove(&record.case);
            self.durations.push(started.map(|started| started.elapsed()).unwrap_or_default());
            self.records.push(record);
            self.tell();
        } else if !matches!(parse_run(line).1, Err(posix_tests::record::Incomplete::NoEnd { .. })) {
            self.is_complete = true;
        }
    }

    fn tell(&mut self) {
        if self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        let running: Vec<_> = self.running.keys().map(String::as_str).collect();
        note(&format!("{} of {} done; now {}", self.records.len(), self.total, running.join(", ")));
    }

    /// Whether the runner has said that it is done.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The tasks that have begun and not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = &String> {
        self.running.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posix_tests::record::{Outcome, end_line};

    #[test]
    fn a_task_without_a_record_is_still_running() {
        let mut transcript = Transcript::of(2);
        let record = Record { program: String::new(), case: "a".into(), outcome: Outcome::Exited(0), output: vec![] };
        let text = format!("start\ta\nstart\tb\r\n{}\n", record.to_line());
        text.as_bytes().chunks(5).for_each(|piece| transcript.push(piece));
        assert_eq!(transcript.running().collect::<Vec<_>>(), ["b"]);
        assert_eq!(transcript.records, [record]);
        assert!(!transcript.is_complete());
        transcript.push(format!("{}\n", end_line(2)).as_bytes());
        assert!(transcript.is_complete());
    }
}
