//! Where two runs of the same cases disagree.

use crate::record::{Outcome, Record, SET_UP_FAILED};
use std::collections::BTreeMap;

/// What the comparison says about one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both systems said the same.
    Same,
    /// The oracle did not run it: it needs the superuser there.
    Skipped,
    /// The case is worth nothing, because it failed on the oracle itself: why.
    Broken(String),
    /// The two differ: the lines of the difference, `-` for the oracle, `+` for the system under test.
    Different(Vec<String>),
    /// The system under test has no record of the case.
    Missing,
}

/// Cases that are known to differ, because the system under test lacks something on purpose: by `program/case`, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownGaps {
    reasons: BTreeMap<String, String>,
}

impl KnownGaps {
    /// Reads lines of the form `program/case: reason`; lines that are empty or begin with `#` are for people.
    ///
    /// # Errors
    ///
    /// The first line that has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let reasons = lines.map(|line| match line.split_once(": ") {
            Some((case, reason)) if case.contains('/') => Ok((case.to_owned(), reason.to_owned())),
            Some(_) | None => Err(line.to_owned()),
        });
        Ok(Self { reasons: reasons.collect::<Result<_, _>>()? })
    }

    /// Why a case is known to differ, if it is.
    #[must_use]
    pub fn reason(&self, program: &str, case: &str) -> Option<&str> {
        self.reasons.get(&format!("{program}/{case}")).map(String::as_str)
    }
}

/// The verdict on one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The file name of the program.
    pub program: String,
    /// The name of the case.
    pub case: String,
    /// What the comparison says.
    pub verdict: Verdict,
}

/// Judges every case of the oracle's run.
#[must_use]
pub fn judge(oracle: &[Record], tested: &[Record]) -> Vec<Judged> {
    let by_name: BTreeMap<(&str, &str), &Record> =
        tested.iter().map(|record| ((record.program.as_str(), record.case.as_str()), record)).collect();
    oracle
        .iter()
        .map(|expected| {
            let found = by_name.get(&(expected.program.as_str(), expected.case.as_str()));
            Judged {
                program: expected.program.clone(),
                case: expected.case.clone(),
                verdict: verdict(expected, found.copied()),
            }
        })
        .collect()
}

fn verdict(expected: &Record, found: Option<&Record>) -> Verdict {
    if let Some(reason) = broken(expected) {
        return Verdict::Broken(reason);
    }
    if expected.outcome == Outcome::Skipped {
        return Verdict::Skipped;
    }
    match found {
        None => Verdict::Missing,
        Some(found) if found.outcome == expected.outcome && found.output == expected.output => Verdict::Same,
        Some(found) => Verdict::Different(difference(&lines(expected), &lines(found))),
    }
}

/// A case must end properly on the oracle; if not, its author has to mend it.
fn broken(record: &Record) -> Option<String> {
    let last_words = String::from_utf8_lossy(&record.output);
    let last_line = last_words.lines().last().unwrap_or_default();
    match &record.outcome {
        Outcome::Exited(SET_UP_FAILED) => Some(last_line.to_owned()),
        Outcome::TimedOut => Some(format!("time limit reached after: {last_line}")),
        Outcome::NotRun(reason) => Some(reason.clone()),
        Outcome::Exited(_) | Outcome::Killed(_) | Outcome::Skipped => None,
    }
}

/// The output as lines, with the outcome as the last.
fn lines(record: &Record) -> Vec<String> {
    let text = String::from_utf8_lossy(&record.output);
    text.lines().map(str::to_owned).chain([format!("[{}]", record.outcome)]).collect()
}

/// The shortest edit from `old` to `new`, as lines with `-`, `+` or two spaces in front.
fn difference(old: &[String], new: &[String]) -> Vec<String> {
    let common = common_lengths(old, new);
    let (mut at_old, mut at_new, mut result) = (0, 0, Vec::new());
    while at_old < old.len() || at_new < new.len() {
        let take_old =
            at_old < old.len() && (at_new == new.len() || common[at_old + 1][at_new] >= common[at_old][at_new + 1]);
        if at_old < old.len() && at_new < new.len() && old[at_old] == new[at_new] {
            result.push(format!("  {}", old[at_old]));
            at_old += 1;
            at_new += 1;
        } else if take_old {
            result.push(format!("- {}", old[at_old]));
            at_old += 1;
        } else {
            result.push(format!("+ {}", new[at_new]));
            at_new += 1;
        }
    }
    result
}

/// `[i][j]`: the length of the longest common subsequence of `old[i..]` and `new[j..]`.
fn common_lengths(old: &[String], new: &[String]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for at_old in (0..old.len()).rev() {
        for at_new in (0..new.len()).rev() {
            lengths[at_old][at_new] = if old[at_old] == new[at_new] {
                lengths[at_old + 1][at_new + 1] + 1
            } else {
                lengths[at_old + 1][at_new].max(lengths[at_old][at_new + 1])
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(case: &str, outcome: Outcome, output: &str) -> Record {
        Record { program: "p".into(), case: case.into(), outcome, output: output.as_bytes().to_vec() }
    }

    fn only_verdict(oracle: Record, tested: Record) -> Verdict {
        judge(&[oracle], &[tested]).remove(0).verdict
    }

    #[test]
    fn equal_records_are_the_same() {
        let one = record("a", Outcome::Exited(0), "x\n");
        assert_eq!(only_verdict(one.clone(), one), Verdict::Same);
    }

    #[test]
    fn a_difference_shows_both_sides_in_order() {
        let verdict = only_verdict(
            record("a", Outcome::Exited(0), "one\ntwo\nthree\n"),
            record("a", Outcome::Killed(11), "one\nTWO\nthree\n"),
        );
        let expected = ["  one", "- two", "+ TWO", "  three", "- [exited 0]", "+ [killed 11]"];
        assert_eq!(verdict, Verdict::Different(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_case_that_fails_on_the_oracle_is_broken_even_if_both_agree() {
        let failed = record("a", Outcome::Exited(SET_UP_FAILED), "set-up failed: mkdir\n");
        assert_eq!(only_verdict(failed.clone(), failed), Verdict::Broken("set-up failed: mkdir".into()));
    }

    #[test]
    fn known_gaps_have_a_reason() {
        let gaps = KnownGaps::parse("# a remark\n\nfiles/open: not before disks\n").unwrap();
        assert_eq!(gaps.reason("files", "open"), Some("not before disks"));
        assert_eq!(gaps.reason("files", "close"), None);
        assert_eq!(KnownGaps::parse("files/open"), Err("files/open".into()));
    }

    #[test]
    fn a_case_without_a_counterpart_is_missing() {
        let verdicts = judge(&[record("a", Outcome::Exited(0), "")], &[record("b", Outcome::Exited(0), "")]);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].verdict, Verdict::Missing);
    }
}
