//! The tests of bash: scripts whose output is compared with what is written down.

use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, copy_tree, detail, in_own_copy};
use crate::options::Addition;
use crate::process;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite { name: "bash", jobs: 2, held: Held::InTests(QUICK), prepare, cases };

const GUEST_DIRECTORY: &str = "/suite/bash";
/// How long a task may take to be held by the tests.
const QUICK: Duration = Duration::from_secs(4);
const LIMIT_S: u64 = 240;
const OUTPUT_BYTES: usize = 16 << 10;
/// Programs that the tests use, in its directory `support`.
const SUPPORT: [&str; 4] = ["recho", "zecho", "printenv", "xcase"];
/// Scripts that run others, or need a bash that was built for it.
const NOT_TESTS: [&str; 3] = ["all", "minimal", "gprof"];

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let source = workshop.packages.source("bash")?;
    let staged = workshop.directory(SUITE.name)?.join("files");
    if !staged.exists() {
        let partial = staged.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        copy_tree(&source.join("tests"), &partial)?;
        for name in SUPPORT {
            compile(&source, name, &partial.join(name))?;
        }
        fs::rename(&partial, &staged)?;
    }
    let mut tasks = Vec::new();
    for entry in fs::read_dir(&staged)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(test) = name.strip_prefix("run-").filter(|test| !NOT_TESTS.contains(test)) else { continue };
        let script = format!(
            "export THIS_SH=/bin/bash BUILD_DIR=$PWD BASH_TSTOUT=$PWD/output PATH=.:$PATH; unset ENV; sh ./{name}"
        );
        let command = in_own_copy(GUEST_DIRECTORY, &script);
        tasks.push(Task { name: test.to_owned(), limit_s: LIMIT_S, output_bytes: OUTPUT_BYTES, command });
    }
    tasks.sort_by(|one, other| one.name.cmp(&other.name));
    let additions = vec![Addition { host: staged, guest: GUEST_DIRECTORY.to_owned() }];
    Ok(Prepared { version: "1".to_owned(), additions, tasks })
}

/// Builds one of the programs; they need nothing that the suite's `configure` would find out.
fn compile(source: &Path, name: &str, program: &Path) -> Result<()> {
    let mut compiler = Command::new("musl-gcc");
    compiler.current_dir(source).args(["-static", "-w", "-I.", "-Iinclude", "-Ilib", "-o"]).arg(program);
    process::run(compiler.arg(format!("support/{name}.c"))).with_context(|| format!("building bash's {name}"))
}

/// The last command of a script is the comparison.
fn cases(record: &Record) -> Vec<Case> {
    let verdict = if record.outcome == Outcome::Exited(0) { CaseVerdict::Passed } else { CaseVerdict::Failed };
    vec![Case { name: record.case.clone(), area: "scripts".to_owned(), verdict, detail: detail(record) }]
}
