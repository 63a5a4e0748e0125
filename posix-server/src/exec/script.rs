//! Scripts: files that begin with `#!` (`execve(2)`, "Interpreter scripts"). Pure.

use crate::errno::{Errno, Result};
use alloc::vec::Vec;

/// How much of a file is looked at (`BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: usize = 256;
/// How many interpreters may interpret each other.
pub const MAX_DEPTH: usize = 5;

/// What the first line of a script says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The interpreter's path.
    pub interpreter: Vec<u8>,
    /// Its one argument: the rest of the line.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Reads the first line, of which `head` holds the first [`HEAD_BYTES`] bytes at most. `None`: it is no script. `ENOEXEC`: it is one
/// without an interpreter, or one whose interpreter's path is cut off.
pub fn parse(head: &[u8]) -> Result<Option<Script>> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let end = rest.iter().position(|byte| matches!(byte, b'\n' | 0));
    // Of a line that is too long the end of the argument may be missing, but not that of the path.
    let is_whole = end.is_some() || head.len() < HEAD_BYTES;
    // Linux leaves room for a terminating zero: of a line that is cut off, the last byte it has read does not count.
    let cut = if is_whole { rest.len() } else { rest.len().saturating_sub(1) };
    let line = rest.get(..end.unwrap_or(cut)).unwrap_or_default();
    let line = if is_whole { trimmed(line) } else { line.trim_ascii_start() };
    let path_end = line.iter().position(is_blank);
    if line.is_empty() || (!is_whole && path_end.is_none()) {
        return Err(Errno::ENOEXEC);
    }
    let (path, rest) = line.split_at(path_end.unwrap_or(line.len()));
    let argument = trimmed(rest);
    Ok(Some(Script { interpreter: path.to_vec(), argument: (!argument.is_empty()).then(|| argument.to_vec()) }))
}

/// The arguments of the interpreter: its path, its argument, the script's path, the script's arguments without the first.
pub fn arguments(script: &Script, path: &[u8], given: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let own = core::iter::once(script.interpreter.clone()).chain(script.argument.clone());
    own.chain(core::iter::once(path.to_vec())).chain(given.iter().skip(1).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn script(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        parse(head).unwrap().map(|script| (script.interpreter, script.argument))
    }

    #[test]
    fn the_first_line_names_an_interpreter_and_at_most_one_argument() {
        assert_eq!(script(b"#!/bin/sh\necho"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(script(b"#! \t/bin/sh -e -x \n"), Some((b"/bin/sh".to_vec(), Some(b"-e -x".to_vec()))));
        assert_eq!(script(b"#!/bin/sh"), Some((b"/bin/sh".to_vec(), None)), "a file without a line's end");
        assert_eq!(script(b"echo"), None);
        assert_eq!(parse(b"#!\n"), Err(Errno::ENOEXEC));
        assert_eq!(parse(b"#!  "), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_path_that_is_cut_off_is_refused_and_an_argument_is_not() {
        let mut head = b"#!/".to_vec();
        head.resize(HEAD_BYTES, b'x');
        assert_eq!(parse(&head), Err(Errno::ENOEXEC));
        head[10] = b' ';
        assert_eq!(script(&head).unwrap().0, b"/xxxxxxx");
    }

    #[test]
    fn the_scripts_path_takes_the_place_of_its_first_argument() {
        let script = Script { interpreter: b"/i".to_vec(), argument: Some(b"-a".to_vec()) };
        let given = [b"zero".to_vec(), b"one".to_vec()];
        assert_eq!(arguments(&script, b"/s", &given), [&b"/i"[..], b"-a", b"/s", b"one"]);
    }

    proptest! {
        #[test]
        fn no_first_line_makes_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..254)) {
            let mut head = b"#!".to_vec();
            head.extend(rest);
            let _ = parse(&head);
        }
    }
}
