//! The test suite of busybox: shell scripts of many cases, one or more for each applet, which print a line for each case.

use super::suite::{
    Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, copy_tree, detail, in_own_copy, line_cases,
};
use crate::options::Addition;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite { name: "busybox", jobs: 3, held: Held::InTests(QUICK), prepare, cases };

const GUEST_DIRECTORY: &str = "/suite/busybox";
/// How long a task may take to be held by the tests.
const QUICK: Duration = Duration::from_secs(4);
const LIMIT_S: u64 = 180;
const OUTPUT_BYTES: usize = 256 << 10;
/// What the distribution's static busybox was configured with, in its source package.
const CONFIGURATION: &str = "debian/config/pkg/static";

/// The areas: what applets are about.
#[rustfmt::skip]
const AREAS: [(&str, &[&str]); 4] = [
    ("shell", &["ash", "busybox", "test", "true", "false", "expr", "printf", "which", "parse"]),
    (
        "archives",
        &["ar", "bunzip2", "bzcat", "cpio", "gunzip", "gzip", "tar", "uncompress", "unlzma", "unzip", "uuencode"],
    ),
    ("calculators", &["bc", "dc", "factor", "cal", "date", "seq"]),
    (
        "text",
        &[
            "awk", "comm", "cut", "diff", "expand", "fold", "grep", "head", "hexdump", "nl", "od", "paste", "patch",
            "rev", "rx", "sed", "sort", "strings", "sum", "tail", "tr", "unexpand", "uniq", "wc", "xargs", "tee",
            "cat",
        ],
    ),
];

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let source = workshop.packages.source("busybox")?;
    let staged = workshop.directory(SUITE.name)?.join("files");
    if !staged.exists() {
        let partial = staged.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        copy_tree(&source.join("testsuite"), &partial.join("testsuite"))?;
        fs::copy(source.join(CONFIGURATION), partial.join(".config")).context(CONFIGURATION)?;
        symlink("/bin/busybox", partial.join("busybox"))?;
        fs::rename(&partial, &staged)?;
    }
    let tasks = applets(&staged.join("testsuite"))?.into_iter().map(|name| Task {
        command: in_own_copy(GUEST_DIRECTORY, &format!("cd testsuite && bindir=${{PWD%/*}} ./runtest -v {name}")),
        name,
        limit_s: LIMIT_S,
        output_bytes: OUTPUT_BYTES,
    });
    let additions = vec![Addition { host: staged, guest: GUEST_DIRECTORY.to_owned() }];
    Ok(Prepared { version: "1".to_owned(), additions, tasks: tasks.collect() })
}

/// The applets that have tests: `NAME.tests`, or a directory NAME of scripts.
fn applets(suite: &Path) -> Result<BTreeSet<String>> {
    let mut applets = BTreeSet::new();
    for entry in fs::read_dir(suite)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(applet) = name.strip_suffix(".tests").filter(|applet| !applet.starts_with("all_")) {
            applets.insert(applet.to_owned());
        } else if entry.file_type()?.is_dir() {
            applets.insert(name);
        }
    }
    Ok(applets)
}

/// A case for each line. A script that did not come to its end has one more, which failed.
fn cases(record: &Record) -> Vec<Case> {
    let area = area(&record.case);
    let mut cases = line_cases(record, area, |title| format!("{}: {title}", record.case));
    if !matches!(record.outcome, Outcome::Exited(_)) {
        let name = format!("{}: [its end]", record.case);
        cases.push(Case { name, area: area.to_owned(), verdict: CaseVerdict::Failed, detail: detail(record) });
    }
    cases
}

fn area(applet: &str) -> &'static str {
    AREAS.iter().find(|(_, applets)| applets.contains(&applet)).map_or("files and system", |(area, _)| area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_tells_of_many_cases() {
        let output = b"PASS: cut one\nnoise\nFAIL: cut two\n+got\nPASS: cut one\nSKIPPED: cut three\n".to_vec();
        let record = Record { program: String::new(), case: "cut".into(), outcome: Outcome::TimedOut, output };
        let cases = cases(&record);
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["cut: cut one", "cut: cut two", "cut: cut one (2)", "cut: cut three", "cut: [its end]"]);
        assert_eq!((cases[1].verdict, cases[1].detail.as_str()), (CaseVerdict::Failed, "+got"));
        assert_eq!((cases[3].verdict, cases[4].verdict), (CaseVerdict::Skipped, CaseVerdict::Failed));
    }
}
