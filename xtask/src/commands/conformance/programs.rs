//! Programs that people have, unmodified, each driven by a script of ours that says whether it did what it should.

use super::MUSL;
use super::golang;
use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, copy_tree, detail};
use crate::build::{self, workspace};
use crate::options::Addition;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result};
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const SUITE: Suite = Suite { name: "programs", jobs: 1, held: Held::No, prepare, cases };

const GUEST_DIRECTORY: &str = "/suite/programs";
const LIMIT_S: u64 = 180;
const OUTPUT_BYTES: usize = 8 << 10;
/// The programs, and what they load.
#[rustfmt::skip]
const DEBIAN_PACKAGES: [&str; 25] = [
    "zsh-static", "sqlite3", "libsqlite3-0", "libreadline8", "libtinfo6", "libncurses6", "libc6", "libc-bin", "zlib1g",
    "vim-tiny", "vim-common", "libacl1", "libselinux1", "libpcre2-8-0", "libsodium23", "libgpm2",
    "tmux", "libevent-core-2.1-7", "libutempter0", "libsystemd0", "ncurses-base", "liblzma5", "libzstd1", "liblz4-1", "libcap2",
];

/// Where the scripts and our own programs are.
pub(super) fn sources() -> PathBuf {
    workspace().join("posix-server/tests/programs")
}

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let mut additions = vec![
        root(workshop.packages.programs("programs", &DEBIAN_PACKAGES)?),
        Addition { host: sources(), guest: GUEST_DIRECTORY.to_owned() },
    ];
    let directory = workshop.directory(SUITE.name)?;
    for (name, host) in [("tokio", tokio(&directory)?), ("goroutines", goroutines(workshop, &directory)?)] {
        additions.push(Addition { host, guest: format!("{GUEST_DIRECTORY}/bin/{name}") });
    }
    let mut tasks = Vec::new();
    for entry in fs::read_dir(sources())? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".sh") else { continue };
        let command = ["/bin/sh".to_owned(), "-x".to_owned(), format!("{GUEST_DIRECTORY}/{file}")].to_vec();
        tasks.push(Task { name: name.to_owned(), limit_s: LIMIT_S, output_bytes: OUTPUT_BYTES, command });
    }
    tasks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Prepared { version: "1".to_owned(), additions, tasks })
}

/// An unpacked package at the guest's root.
pub(super) fn root(unpacked: PathBuf) -> Addition {
    Addition { host: unpacked, guest: "/".to_owned() }
}

fn tokio(directory: &Path) -> Result<PathBuf> {
    let (copy, target) = (directory.join("tokio"), directory.join("tokio-target"));
    let _ = fs::remove_dir_all(&copy);
    copy_tree(&sources().join("tokio"), &copy)?;
    let step = Step::begin("building the tokio program");
    let mut cargo = build::cargo();
    cargo.current_dir(&copy).env("CARGO_TARGET_DIR", &target);
    process::run(cargo.args(["build", "--quiet", "--release", "--target", MUSL]))?;
    step.done();
    Ok(target.join(MUSL).join("release/tokio-program"))
}

fn goroutines(workshop: &Workshop, directory: &Path) -> Result<PathBuf> {
    let program = directory.join("goroutines");
    let source = sources().join("goroutines/main.go");
    let step = Step::begin("building the Go program");
    let mut go = golang::compiler(workshop)?;
    process::run(go.args(["build", "-o"]).arg(&program).arg(&source))
        .with_context(|| format!("{}", source.display()))?;
    step.done();
    Ok(program)
}

fn cases(record: &Record) -> Vec<Case> {
    let verdict = if record.outcome == Outcome::Exited(0) { CaseVerdict::Passed } else { CaseVerdict::Failed };
    vec![Case { name: record.case.clone(), area: "programs".to_owned(), verdict, detail: detail(record) }]
}
