//! The vocabulary of the cases that are written in Rust: what `c/case.h` is for those in C.

use crate::record::SET_UP_FAILED;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// What a case gives back: an error means that its preparations failed.
pub type CaseResult = io::Result<()>;

/// A case: its name, and the function that runs it.
pub struct Case {
    /// A name that says the behaviour.
    pub name: String,
    /// Does something to the system and prints the answers.
    pub run: Box<dyn Fn() -> CaseResult>,
}

impl Case {
    /// A case by its name and function.
    pub fn new(name: impl Into<String>, run: impl Fn() -> CaseResult + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// The whole of a program of cases: lists them or runs the one that the arguments name. Gives the exit status.
#[must_use]
pub fn run_program(cases: &[Case]) -> i32 {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if wanted == "--list" {
        for case in cases {
            say(&case.name);
        }
        return 0;
    }
    match cases.iter().find(|case| case.name == wanted) {
        None => set_up_failed(&format!("no case is called {wanted}")),
        Some(case) => match (case.run)() {
            Ok(()) => 0,
            Err(error) => set_up_failed(&describe_error(&error)),
        },
    }
}

fn set_up_failed(why: &str) -> i32 {
    say(format!("set-up failed: {why}"));
    SET_UP_FAILED
}

/// Prints one line, by one write.
pub fn say(line: impl Display) {
    let text = format!("{line}\n");
    // A case whose output cannot be written shows as a difference; there is nobody else to tell.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// Prints a result: the value, or the kind of the error and its number.
pub fn show<T: Display>(what: &str, result: io::Result<T>) {
    match result {
        Ok(value) => say(format!("{what}: {value}")),
        Err(error) => say(format!("{what}: {}", describe_error(&error))),
    }
}

/// Prints whether a call succeeded, or its error.
pub fn show_ok<T>(what: &str, result: io::Result<T>) {
    show(what, result.map(|_| "ok"));
}

/// The kind of an error and its number.
#[must_use]
pub fn describe_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("error {number} ({:?})", error.kind()),
        None => format!("error without a number ({:?})", error.kind()),
    }
}

/// An exit status in words.
#[must_use]
pub fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "neither exited nor killed".to_owned(),
    }
}

/// The names in a directory, sorted.
pub fn sorted_names(directory: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
