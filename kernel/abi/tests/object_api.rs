//! Keeps `docs/object-api.md` equal to the call table. To write it anew: `UPDATE_DOCS=1 cargo test -p quire-abi`.

#![expect(clippy::unwrap_used, reason = "a test; writing to a string does not fail")]

use quire_abi::call::{Argument, ArgumentKind, CallInfo, TABLE};
use quire_abi::{Error, Rights};
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = "../../docs/object-api.md";

const INTRODUCTION: &str = "\
# The object API

Generated from the call table in `kernel/abi/src/call.rs`; change it there. `UPDATE_DOCS=1 cargo test -p quire-abi` writes this
page anew, and the tests fail while it is out of date.

A call is the `syscall` instruction with the call's number in `rax` and up to six arguments in `rdi, rsi, rdx, r10, r8, r9`.
The kernel returns 0 or the number of an error in `rax` and, on success, up to two values in `rdx` and `r8`. `rcx` and `r11`
are clobbered. Every other register is preserved, except where a call says otherwise.

A handle argument must name an object of the kind given and carry at least the rights given; otherwise the call fails with
`BadHandle`, `WrongKind` or `MissingRights`. A pointer that can't be read or written gives `BadAddress`. These are not repeated
below.
";

/// The parts of the page, by the first number in each.
const PARTS: &[(u64, &str)] = &[
    (1, "Handles"),
    (16, "Accounts"),
    (32, "Memories"),
    (48, "Address spaces"),
    (64, "Threads"),
    (80, "Channels"),
    (96, "Queues"),
    (112, "Time and events"),
    (128, "Hardware"),
    (144, "The system"),
];

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut parts = PARTS.iter().peekable();
    for info in TABLE {
        while let Some((_, title)) = parts.next_if(|(first, _)| *first <= info.call as u64) {
            write!(page, "\n## {title}\n").unwrap();
        }
        page.push_str(&entry(info));
    }
    page.push_str("\n## Errors\n\n| number | name | meaning |\n|---|---|---|\n");
    for error in Error::ALL {
        writeln!(page, "| {} | `{error:?}` | {} |", *error as u64, error.describe().trim()).unwrap();
    }
    page
}

fn entry(info: &CallInfo) -> String {
    let arguments: Vec<&str> = info.arguments.iter().map(|argument| argument.name).collect();
    let doc: Vec<&str> = info.doc.lines().map(str::trim).collect();
    let mut text =
        format!("\n### {}({}) — {}\n\n{}\n", info.name, arguments.join(", "), info.call as u64, doc.join("\n"));
    if !info.arguments.is_empty() {
        text.push('\n');
    }
    for argument in info.arguments {
        writeln!(text, "- `{}`: {}", argument.name, describe(argument)).unwrap();
    }
    if !info.returns.is_empty() {
        writeln!(text, "\nReturns: {}.", info.returns.join("; ")).unwrap();
    }
    if !info.errors.is_empty() {
        let errors: Vec<String> = info.errors.iter().map(|error| format!("`{error:?}`")).collect();
        writeln!(text, "\nErrors: {}.", errors.join(", ")).unwrap();
    }
    text
}

fn describe(argument: &Argument) -> String {
    match argument.kind {
        ArgumentKind::Handle(Some(kind), rights) => format!("handle, `{kind:?}`{}", with(rights)),
        ArgumentKind::Handle(None, rights) => format!("handle of any kind{}", with(rights)),
        ArgumentKind::OptionalHandle(kind, rights) => format!("handle, `{kind:?}`{}, or 0", with(rights)),
        ArgumentKind::Value => "number".into(),
        ArgumentKind::Pointer => "address".into(),
    }
}

fn with(rights: Rights) -> String {
    let names: Vec<&str> = rights.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { String::new() } else { format!(" with {}", names.join(", ")) }
}

#[test]
fn the_page_on_the_object_api_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "docs/object-api.md is out of date: run UPDATE_DOCS=1 cargo test -p quire-abi");
}
