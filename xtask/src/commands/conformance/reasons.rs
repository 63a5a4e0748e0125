//! Why tests differ on the two systems, as far as somebody has found out; and which passed last time.

use crate::build::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;

/// The reasons of a suite, by the names of its tests.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    /// In the order of the file; a name may end in `*`.
    lines: Vec<(String, String)>,
}

impl Reasons {
    /// Those in the tree, in lines of the form `name: reason`.
    pub(super) fn of_suite(suite: &str) -> Result<Self> {
        let path = directory().join(format!("{suite}.reasons"));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("can't read {}", path.display()))?,
        };
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(": ") {
                Some((name, reason)) => lines.push((name.to_owned(), reason.to_owned())),
                None => bail!("this line is not `name: reason`: {line}"),
            }
        }
        Ok(Self { lines })
    }

    /// The reason of a test.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        self.lines.iter().find(|(pattern, _)| fits(pattern)).map(|(_, reason)| reason.as_str())
    }
}

/// The names of the tests of a suite that passed quickly when they were recorded; empty if none were.
pub(super) fn recorded(suite: &str) -> Vec<String> {
    let text = fs::read_to_string(record_path(suite)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Records them.
pub(super) fn record(suite: &str, names: &[String]) -> Result<()> {
    let path = record_path(suite);
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    fs::write(&path, format!("# Tasks that pass, and quickly. `cargo xtask conformance --record` writes this.\n{text}"))
        .with_context(|| format!("can't write {}", path.display()))
}

fn record_path(suite: &str) -> PathBuf {
    directory().join(format!("{suite}.passes"))
}

fn directory() -> PathBuf {
    workspace().join("posix-server/tests/conformance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_name_or_beginning() {
        let reasons = Reasons::parse("# remark\n\nmq_open/1-1: no queues\naio_*: no aio\n").unwrap();
        assert_eq!(reasons.of("mq_open/1-1"), Some("no queues"));
        assert_eq!(reasons.of("mq_open/1-10"), None);
        assert_eq!(reasons.of("aio_read/2-1"), Some("no aio"));
        assert!(Reasons::parse("nonsense").is_err());
    }
}
