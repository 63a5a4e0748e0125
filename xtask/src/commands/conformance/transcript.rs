//! What the runner in a guest has said so far.

use crate::progress::note;
use posix_tests::plan;
use posix_tests::record::{Record, parse_run};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After how many records the progress is told.
const PROGRESS_EVERY: usize = 200;

/// The output of a runner, read line by line as it comes.
#[derive(Default)]
pub(super) struct Transcript {
    unfinished: Vec<u8>,
    /// Since when tasks run whose records have not come.
    running: BTreeMap<String, Instant>,
    pub(super) records: Vec<Record>,
    /// How long they took, in the same order.
    pub(super) durations: Vec<Duration>,
    is_complete: bool,
}

impl Transcript {
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
            if self.records.len().is_multiple_of(PROGRESS_EVERY) {
                note(&format!("{} done", self.records.len()));
            }
        } else if !matches!(parse_run(line).1, Err(posix_tests::record::Incomplete::NoEnd { .. })) {
            self.is_complete = true;
        }
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
        let mut transcript = Transcript::default();
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
