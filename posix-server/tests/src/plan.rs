//! What `conformance-runner` is to run: a file with a line for each task.

use crate::record::{escape, unescape};

/// One program to run, as somebody else's test suite means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What its record is called.
    pub name: String,
    /// How long it may take, in seconds.
    pub limit_s: u64,
    /// How much of the end of its output its record has, in bytes.
    pub output_bytes: usize,
    /// The program's absolute path, and its arguments.
    pub command: Vec<String>,
}

/// The first word of a line that says which task begins.
const START_MARK: &str = "start";

impl Task {
    /// The line for this task, without its line feed.
    #[must_use]
    pub fn to_line(&self) -> String {
        let numbers = [self.limit_s.to_string(), self.output_bytes.to_string()];
        let texts = std::iter::once(&self.name).chain(&numbers).chain(&self.command);
        texts.map(|text| escape(text.as_bytes())).collect::<Vec<_>>().join("\t")
    }

    /// The task of a line, or `None` if it is none.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(|field| String::from_utf8_lossy(&unescape(field)).into_owned());
        let (name, limit_s, output_bytes) =
            (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let command: Vec<String> = fields.collect();
        (!command.is_empty()).then_some(Self { name, limit_s, output_bytes, command })
    }

    /// What the runner says when it starts this task.
    #[must_use]
    pub fn start_line(&self) -> String {
        format!("{START_MARK}\t{}", self.name)
    }
}

/// The name of the task whose start a line tells.
#[must_use]
pub fn started(line: &str) -> Option<&str> {
    line.trim_end_matches('\r').strip_prefix(START_MARK)?.strip_prefix('\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_survives_its_line() {
        let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), "a\tb\n\\c".to_owned(), String::new()];
        let task = Task { name: "sh/odd".to_owned(), limit_s: 10, output_bytes: 4096, command };
        assert_eq!(Task::from_line(&task.to_line()), Some(task.clone()));
        assert_eq!(started(&task.start_line()), Some("sh/odd"));
    }

    #[test]
    fn a_line_without_a_command_is_no_task() {
        for line in ["", "name", "name\t1\t2", "name\tx\t2\t/bin/true"] {
            assert_eq!(Task::from_line(line), None, "{line:?}");
        }
    }
}
