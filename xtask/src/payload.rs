//! What a guest boots from: the boot archive and the kernel's command line.

use crate::build::{Artifacts, FIRST_PROGRAM, ProgramSet};
use crate::flatten::flatten;
use crate::guest::LogLevel;
use crate::root_files;
use crate::strip::without_sections;
use crate::tree::Tree;
use anyhow::{Context as _, Result};
use boot_archive::init::{self, CONSOLE_SIZE, Stdio, Tracing};
use boot_archive::{Builder, Metadata};
use std::fs;
use std::process::{self, Command};

/// Mode of the programs under `boot/`.
const PROGRAM_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// What is to run first in the POSIX world.
#[derive(Clone, Debug)]
pub(crate) struct Init {
    pub(crate) stdio: Stdio,
    pub(crate) trace: Tracing,
    /// The directory it starts in.
    pub(crate) directory: String,
    /// The program's absolute path, and its arguments.
    pub(crate) command: Vec<String>,
    /// Variables besides the usual ones, as `NAME=value`.
    pub(crate) environment: Vec<String>,
}

impl Init {
    /// A login shell on the console.
    pub(crate) fn shell() -> Self {
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
        let mut environment = vec![format!("TERM={terminal}")];
        environment.extend(terminal_size().map(|size| format!("{CONSOLE_SIZE}={size}")));
        Self {
            stdio: Stdio::Console,
            trace: Tracing::Off,
            directory: "/root".to_owned(),
            command: vec!["/bin/sh".to_owned(), "-l".to_owned()],
            environment,
        }
    }
}

/// Lines and columns of the terminal that we run on, as `24x80`; `None` if we run on none.
fn terminal_size() -> Option<String> {
    let output = Command::new("stty").arg("size").stdin(process::Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let (rows, columns): (u16, u16) = (rows.parse().ok()?, columns.parse().ok()?);
    (rows > 0 && columns > 0).then(|| format!("{rows}x{columns}"))
}

/// The bytes of the boot archive of a POSIX system that runs `init` first, with a tree of files.
pub(crate) fn archive(artifacts: &Artifacts, init: &Init, tree: Tree) -> Result<Vec<u8>> {
    let mut archive = system(artifacts, ProgramSet::Posix)?;
    archive.file("boot/init", Metadata::of_root(FILE_MODE), encode_init(init)?)?;
    tree.move_to(&mut archive)?;
    archive.build().context("making the boot archive")
}

/// The bytes of the boot archive with the native tests.
pub(crate) fn native_archive(artifacts: &Artifacts) -> Result<Vec<u8>> {
    system(artifacts, ProgramSet::NativeTests)?.build().context("making the boot archive of the native tests")
}

/// An archive with the first program and a set of others.
fn system(artifacts: &Artifacts, set: ProgramSet) -> Result<Builder> {
    let mut archive = Builder::new();
    let first = artifacts.bare_metal(FIRST_PROGRAM);
    let file = fs::read(&first).with_context(|| format!("can't read {}", first.display()))?;
    let (entry, segments) = flatten(&file).with_context(|| format!("{}", first.display()))?;
    archive.first_program(entry, segments);
    for name in set.names() {
        let path = artifacts.bare_metal(name);
        let content = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        archive.file(&format!("boot/{name}"), Metadata::of_root(PROGRAM_MODE), without_sections(content))?;
    }
    Ok(archive)
}

fn encode_init(init: &Init) -> Result<Vec<u8>> {
    let bytes = |text: &String| text.clone().into_bytes();
    let command: Vec<_> = init.command.iter().map(bytes).collect();
    let usual = root_files::ENVIRONMENT.iter().map(|variable| variable.as_bytes().to_vec());
    let environment: Vec<_> = usual.chain(init.environment.iter().map(bytes)).collect();
    init::encode(init.stdio, init.trace, init.directory.as_bytes(), &command, &environment)
        .with_context(|| format!("the command {:?}", init.command))
}

/// The kernel's command line.
pub(crate) fn command_line(log: LogLevel, words: &[String]) -> String {
    let log = format!("log={}", log.name());
    std::iter::once(&log).chain(words).map(String::as_str).collect::<Vec<_>>().join(" ")
}
