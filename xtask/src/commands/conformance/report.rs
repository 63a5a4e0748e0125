//! Rates: how much of what passes on Linux passes on Quire, and why the rest does not.

use super::reasons::Reasons;
use super::suite::{Case, CaseVerdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A test that passes on Linux and not on Quire.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) name: String,
    area: String,
    reason: Option<String>,
    detail: String,
}

impl Difference {
    /// Why it differs, if somebody has found out.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// The result of a suite.
pub(super) struct Report {
    suite: String,
    /// By area: tests that pass on Linux, and how many of these do on Quire.
    areas: BTreeMap<String, (usize, usize)>,
    pub(super) differences: Vec<Difference>,
    /// Tests with a reason to differ that do not differ.
    closed: Vec<String>,
}

impl Report {
    /// Compares the cases of both systems; the order of the cases does not matter, their names do.
    pub(super) fn new(suite: &str, linux: &[Case], quire: &[Case], reasons: &Reasons) -> Self {
        let by_name: BTreeMap<&str, &Case> = quire.iter().map(|case| (case.name.as_str(), case)).collect();
        let mut report =
            Self { suite: suite.to_owned(), areas: BTreeMap::new(), differences: Vec::new(), closed: Vec::new() };
        for expected in linux.iter().filter(|case| case.verdict == CaseVerdict::Passed) {
            let found = by_name.get(expected.name.as_str());
            let reason = reasons.of(&expected.name).map(str::to_owned);
            let (of_linux, of_quire) = report.areas.entry(expected.area.clone()).or_default();
            *of_linux += 1;
            if found.is_some_and(|case| case.verdict == CaseVerdict::Passed) {
                *of_quire += 1;
                report.closed.extend(reason.map(|_| expected.name.clone()));
                continue;
            }
            let detail = found.map_or_else(|| "[no result]".to_owned(), |case| case.detail.clone());
            let (name, area) = (expected.name.clone(), expected.area.clone());
            report.differences.push(Difference { name, area, reason, detail });
        }
        report
    }

    /// What the suite is called.
    pub(super) fn suite(&self) -> &str {
        &self.suite
    }

    /// The areas, each with its tests that pass on Linux, and how many of these do on Quire.
    pub(super) fn areas(&self) -> impl Iterator<Item = (String, (usize, usize))> {
        self.areas.clone().into_iter()
    }

    /// Tests that pass on Linux, and how many of these do on Quire.
    pub(super) fn totals(&self) -> (usize, usize) {
        self.areas.values().fold((0, 0), |sum, area| (sum.0 + area.0, sum.1 + area.1))
    }

    /// How many differ without a reason.
    pub(super) fn unexplained(&self) -> usize {
        self.differences.iter().filter(|difference| difference.reason.is_none()).count()
    }

    /// The table of areas.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<40} {:>7} {:>7} {:>8}\n", self.suite, "linux", "quire", "rate");
        let total = ("total".to_owned(), self.totals());
        for (area, (linux, quire)) in self.areas().chain([total]) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "  {area:<38} {linux:>7} {quire:>7} {:>7.1}%", percent(linux, quire));
        }
        text
    }

    /// The differences, each with its reason, and with how it ended if `details` are wanted.
    pub(super) fn list(&self, details: Details) -> String {
        let mut text = String::new();
        for difference in &self.differences {
            let reason = difference.reason.as_deref().unwrap_or("unexplained");
            let _ = writeln!(text, "  {} ({}): {reason}", difference.name, difference.area);
            let wanted = match details {
                Details::Unexplained => difference.reason.is_none(),
                Details::All => true,
            };
            for line in difference.detail.lines().filter(|_| wanted) {
                let _ = writeln!(text, "      {line}");
            }
        }
        for name in &self.closed {
            let _ = writeln!(text, "  {name}: passes, though there is a reason why it should not");
        }
        text
    }

    /// All of it for other programs.
    pub(super) fn to_json(&self) -> Value {
        let (linux, quire) = self.totals();
        let areas: Vec<Value> = self
            .areas
            .iter()
            .map(|(area, (linux, quire))| json!({ "area": area, "linux": linux, "quire": quire, "percent": percent(*linux, *quire) }))
            .collect();
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|it| json!({ "name": it.name, "area": it.area, "reason": it.reason, "detail": it.detail }))
            .collect();
        json!({
            "suite": self.suite, "linux": linux, "quire": quire, "percent": percent(linux, quire),
            "areas": areas, "differences": differences,
        })
    }
}

/// Which differences are shown with how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Details {
    Unexplained,
    All,
}

/// How much of what passes on Linux passes on Quire.
pub(super) fn percent(linux: usize, quire: usize) -> f64 {
    if linux == 0 { 100.0 } else { quire as f64 * 100.0 / linux as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, verdict: CaseVerdict) -> Case {
        Case { name: name.into(), area: "signals".into(), verdict, detail: "[exited 1]".into() }
    }

    #[test]
    fn what_fails_on_linux_does_not_count() {
        let linux = [case("a", CaseVerdict::Passed), case("b", CaseVerdict::Failed), case("c", CaseVerdict::Passed)];
        let quire = [case("a", CaseVerdict::Passed), case("b", CaseVerdict::Failed), case("c", CaseVerdict::Skipped)];
        let report = Report::new("s", &linux, &quire, &Reasons::default());
        assert_eq!(report.totals(), (2, 1));
        assert_eq!((report.unexplained(), report.differences[0].name.as_str()), (1, "c"));
    }

    #[test]
    fn a_missing_result_is_a_difference() {
        let report = Report::new("s", &[case("a", CaseVerdict::Passed)], &[], &Reasons::default());
        assert_eq!(report.totals(), (1, 0));
    }
}
