//! The page `docs/conformance.md`: a section for each suite, which `--record` writes anew.

use super::report::{Difference, Report, percent};
use crate::build::workspace;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

const PAGE: &str = "docs/conformance.md";
/// How many names of tests with the same reason are told.
const MOST_NAMES: usize = 6;
const UNEXPLAINED: &str = "not explained yet";

/// Writes the section of a suite, in the place where it is or at the end.
///
/// # Errors
///
/// A page that can't be read or written.
pub(super) fn record(report: &Report) -> Result<()> {
    let path = workspace().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("can't read {PAGE}"))?;
    fs::write(&path, with_section(&page, report.suite(), &section(report)))
        .with_context(|| format!("can't write {PAGE}"))
}

/// The page with the section of this name replaced, or added.
fn with_section(page: &str, name: &str, section: &str) -> String {
    let heading = format!("## {name}\n");
    let Some(start) = page.find(&heading) else { return format!("{}\n\n{section}", page.trim_end()) };
    let (before, old) = page.split_at(start);
    let rest = old.get(heading.len()..).and_then(|rest| rest.split_once("\n## ")).map(|(_, rest)| rest);
    format!("{before}{section}{}", rest.map(|rest| format!("\n## {rest}")).unwrap_or_default())
}

fn section(report: &Report) -> String {
    let mut text = format!("## {}\n\n| area | Linux | Quire | |\n|---|--:|--:|--:|\n", report.suite());
    let total = ("**all**".to_owned(), report.totals());
    for (area, (linux, quire)) in report.areas().chain([total]) {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {area} | {linux} | {quire} | {:.1} % |", percent(linux, quire));
    }
    if !report.differences.is_empty() {
        text.push_str("\nWhat passes on Linux alone:\n\n");
    }
    for (reason, names) in by_reason(&report.differences) {
        let _ = writeln!(text, "- {reason}: {}", listed(&names));
    }
    text
}

/// The names of the differences, by their reasons.
fn by_reason(differences: &[Difference]) -> BTreeMap<&str, Vec<&str>> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for difference in differences {
        reasons.entry(difference.reason().unwrap_or(UNEXPLAINED)).or_default().push(&difference.name);
    }
    reasons
}

fn listed(names: &[&str]) -> String {
    let told: Vec<_> = names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    told.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_the_old_one_alone() {
        let page = "# Page\n\n## one\n\nold\n\n## two\n\nkept\n";
        assert_eq!(with_section(page, "one", "## one\n\nnew\n"), "# Page\n\n## one\n\nnew\n\n## two\n\nkept\n");
        assert_eq!(with_section(page, "two", "## two\n\nnew\n"), "# Page\n\n## one\n\nold\n\n## two\n\nnew\n");
        assert_eq!(with_section("# Page\n", "one", "## one\n"), "# Page\n\n## one\n");
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(listed(&["a", "b"]), "`a`, `b`");
        assert!(listed(&["a", "b", "c", "d", "e", "f", "g", "h"]).ends_with("`f` and 2 more"));
    }
}
