//! Keeps `docs/posix.md` equal to the tables of system calls. To write it anew: `UPDATE_DOCS=1 cargo test -p posix-server`.

use super::missing::{self, Absence};
use super::{ALL, State, SystemCall};
use crate::trace::linux_calls::{LINUX_CALLS, LinuxCall};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const PAGE: &str = "../docs/posix.md";
/// Where the programs are that must say the same on Linux and on Quire.
const CASES: &str = "tests";
/// How many tests are named for one call.
const NAMED_TESTS: usize = 3;

const INTRODUCTION: &str = "\
# Linux system calls

Generated from the tables in `posix-server/src/calls/`; change it there. `UPDATE_DOCS=1 cargo test -p posix-server` writes this page
anew, and the tests fail while it is out of date, or while a call that is called done or partly done has no test.

*done*: all that Linux documents, flags included. *partly*: what is missing, and what it gets. *not*: what the call gets, and why.
*flags*: those that are looked at. *tests*: programs under `posix-server/tests/` that make the call; they must print the same on Linux
and on Quire (at most three are named).

";

/// A program under `tests/` and its text.
struct Case {
    name: String,
    text: String,
}

fn cases() -> Vec<Case> {
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(CASES), &mut found);
    found.sort();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(CASES);
    let name = |path: &Path| String::from(path.strip_prefix(&root).unwrap().to_str().unwrap());
    found.iter().map(|path| Case { name: name(path), text: fs::read_to_string(path).unwrap() }).collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "c" || extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a program makes a call: by its number, or by the function of that name.
fn makes(case: &Case, name: &str) -> bool {
    let wrapper = wrapper_of(name);
    let by_number = [format!("SYS_{name}"), format!("__NR_{name}")];
    has_word(&case.text, &format!("{wrapper}("), false) || by_number.iter().any(|word| has_word(&case.text, word, true))
}

/// The C library's function for a call, where the names differ.
fn wrapper_of(name: &str) -> &str {
    match name {
        "exit_group" => "exit",
        "newfstatat" => "fstatat",
        "pread64" => "pread",
        "pwrite64" => "pwrite",
        "prlimit64" => "prlimit",
        "pselect6" => "pselect",
        "getdents64" => "readdir",
        "umount2" => "umount2",
        "signalfd4" => "signalfd",
        "fadvise64" => "posix_fadvise",
        "sendfile" => "sendfile",
        "wait4" => "waitpid",
        other => match other.strip_prefix("rt_") {
            Some("sigreturn") => "raise",
            Some("sigtimedwait") => "sigtimedwait",
            Some("sigqueueinfo") => "sigqueue",
            Some(rest) => rest,
            None => other,
        },
    }
}

/// Whether `word` is there with no letter before it, nor, if `whole`, after it.
fn has_word(text: &str, word: &str, whole: bool) -> bool {
    let is_letter = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|index| text.as_bytes().get(index));
        !(is_letter(before) || whole && is_letter(text.as_bytes().get(start + word.len())))
    })
}

fn tests_of(name: &str, cases: &[Case]) -> Vec<String> {
    cases.iter().filter(|case| makes(case, name)).take(NAMED_TESTS).map(|case| format!("`{}`", case.name)).collect()
}

fn row(call: &LinuxCall, ours: Option<&SystemCall>, cases: &[Case]) -> String {
    let LinuxCall { number, name, .. } = call;
    let Some(ours) = ours else {
        let Absence { error, reason, .. } = missing::of(*number);
        return format!("| {number} | `{name}` | not: `{error}` | {reason} | | |\n");
    };
    let tests = tests_of(name, cases).join(", ");
    let (state, text) = match ours.state {
        State::Done => ("done", ""),
        State::Partly(missing) => ("partly", missing),
    };
    format!("| {number} | `{name}` | {state} | {text} | {} | {tests} |\n", ours.flags)
}

fn page() -> String {
    let ours: BTreeMap<u32, &SystemCall> = ALL.iter().copied().flatten().map(|call| (call.number, call)).collect();
    let partly = ours.values().filter(|call| call.state != State::Done).count();
    let mut page = String::from(INTRODUCTION);
    let (all, there) = (LINUX_CALLS.len(), ours.len());
    writeln!(page, "{all} calls: {} done, {partly} partly, {} not.\n", there - partly, all - there).unwrap();
    page.push_str("| number | call | state | what is missing | flags | tests |\n|---|---|---|---|---|---|\n");
    let cases = cases();
    for call in LINUX_CALLS {
        page.push_str(&row(call, ours.get(&call.number).copied(), &cases));
    }
    page
}

#[test]
fn the_page_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "docs/posix.md is out of date: run UPDATE_DOCS=1 cargo test -p posix-server");
}

#[test]
fn every_call_that_is_there_has_a_test() {
    let cases = cases();
    let name = |call: &SystemCall| crate::trace::linux_calls::find(call.number).map_or("?", |known| known.name);
    let untested: Vec<_> =
        ALL.iter().copied().flatten().map(name).filter(|name| tests_of(name, &cases).is_empty()).collect();
    assert!(untested.is_empty(), "no program in posix-server/tests makes these calls: {untested:?}");
}

#[test]
fn what_is_missing_is_not_there_as_well() {
    for absence in missing::ABSENT {
        let there = ALL.iter().copied().flatten().any(|call| call.number == absence.number);
        assert!(!there, "call {} is in a table and in `missing`", absence.number);
    }
}
