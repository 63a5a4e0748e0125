//! The tests of the crate `nix`: one program, linked statically, in which each test is run by its name.

use super::MUSL;
use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, copy_tree};
use crate::build;
use crate::options::Addition;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite { name: "nix", jobs: 4, held: Held::InTests(QUICK), prepare, cases };

const VERSION: &str = "0.29.0";
const GUEST_DIRECTORY: &str = "/suite/nix";
/// The test programs of the crate that run everywhere.
const PROGRAMS: [&str; 3] = ["test", "test-clearenv", "test-prctl"];
/// How long a task may take to be held by the tests.
const QUICK: Duration = Duration::from_secs(1);
const LIMIT_S: u64 = 60;
const OUTPUT_BYTES: usize = 8 << 10;

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let directory = workshop.directory(SUITE.name)?;
    let programs = directory.join("programs");
    if !programs.exists() {
        let source = source(&directory)?;
        compile(&source, &programs)?;
    }
    let (mut additions, mut tasks) = (Vec::new(), Vec::new());
    for name in PROGRAMS {
        let (host, guest) = (programs.join(name), format!("{GUEST_DIRECTORY}/{name}"));
        let listed = process::output_of(Command::new(&host).args(["--list", "--format", "terse"]))?;
        for test in listed.lines().filter_map(|line| line.strip_suffix(": test")) {
            let command = [guest.as_str(), "--exact", test, "--test-threads", "1", "--nocapture"];
            let command = command.map(str::to_owned).to_vec();
            tasks.push(Task { name: test.to_owned(), limit_s: LIMIT_S, output_bytes: OUTPUT_BYTES, command });
        }
        additions.push(Addition { host, guest });
    }
    Ok(Prepared { version: VERSION.to_owned(), additions, tasks })
}

/// A copy of the crate's source, which cargo fetches for a package that depends on it.
fn source(directory: &Path) -> Result<PathBuf> {
    let copy = directory.join("source");
    if copy.exists() {
        return Ok(copy);
    }
    let user = directory.join("user");
    fs::create_dir_all(user.join("src"))?;
    fs::write(user.join("src/lib.rs"), "")?;
    let manifest =
        format!("[package]\nname = \"user\"\nversion = \"0.0.0\"\n[dependencies]\nnix = \"={VERSION}\"\n[workspace]\n");
    fs::write(user.join("Cargo.toml"), manifest)?;
    let text = process::output_of(build::cargo().current_dir(&user).args(["metadata", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("the output of `cargo metadata`")?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let found = packages.filter(|package| package.get("name").and_then(Value::as_str) == Some("nix"));
    let manifest = found.filter_map(|package| package.get("manifest_path").and_then(Value::as_str)).next();
    let original =
        Path::new(manifest.context("cargo did not fetch the crate nix")?).parent().context("no directory")?;
    copy_tree(original, &copy)?;
    // Not a part of our workspace, in whose target directory it lies.
    let manifest = fs::read_to_string(copy.join("Cargo.toml"))?;
    fs::write(copy.join("Cargo.toml"), manifest + "\n[workspace]\n")?;
    Ok(copy)
}

/// Builds the test programs, with the warnings of a compiler newer than the crate as warnings.
fn compile(source: &Path, programs: &Path) -> Result<()> {
    let step = Step::begin("building the tests of nix");
    let mut cargo = build::cargo();
    cargo.current_dir(source).env("RUSTFLAGS", "--cap-lints warn").env("CARGO_TARGET_DIR", source.join("target"));
    cargo.args(["test", "--quiet", "--no-run", "--all-features", "--target", MUSL, "--message-format", "json"]);
    PROGRAMS.iter().for_each(|name| {
        cargo.args(["--test", name]);
    });
    let messages = process::output_of(&mut cargo)?;
    let partial = programs.with_extension("partial");
    fs::create_dir_all(&partial)?;
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let name = message.pointer("/target/name").and_then(Value::as_str);
        let executable = message.get("executable").and_then(Value::as_str);
        if let (Some(name), Some(executable)) = (name, executable) {
            fs::copy(executable, partial.join(name))?;
            process::run(Command::new("strip").arg("--strip-debug").arg(partial.join(name)))?;
        }
    }
    fs::rename(&partial, programs)?;
    step.done();
    Ok(())
}

fn cases(record: &Record) -> Vec<Case> {
    let text = String::from_utf8_lossy(&record.output);
    let verdict = match record.outcome {
        Outcome::Exited(0) if text.contains(" 1 ignored;") => CaseVerdict::Skipped,
        // The crate's own way to skip a test is to say so and return.
        Outcome::Exited(0) => CaseVerdict::Passed,
        Outcome::Exited(_) | Outcome::Killed(_) | Outcome::TimedOut | Outcome::NotRun(_) | Outcome::Skipped => {
            CaseVerdict::Failed
        }
    };
    let path: Vec<&str> = record.case.split("::").collect();
    let area = match path.as_slice() {
        ["sys", module, ..] => format!("sys::{}", module.trim_start_matches("test_")),
        [module, _, ..] => module.trim_start_matches("test_").to_owned(),
        _ => "others".to_owned(),
    };
    vec![Case { name: record.case.clone(), area, verdict, detail: explanation(record) }]
}

/// What the test said: the harness adds only lines that are the same for all.
fn explanation(record: &Record) -> String {
    let text = String::from_utf8_lossy(&record.output);
    let own = text.lines().take_while(|line| *line != "failures:").filter(|line| !line.is_empty());
    let own: Vec<_> = own.filter(|line| !line.starts_with("running ") && !line.starts_with("note: ")).collect();
    format!("[{}]\n{}", record.outcome, own.get(own.len().saturating_sub(6)..).unwrap_or_default().join("\n"))
}
