//! What the runner says about one case: a line of text that survives a serial console.

use std::fmt::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// The status with which a case ends when its preparations failed; the same number as in `c/case.h`.
pub const SET_UP_FAILED: i32 = 99;

/// The first word of a line that carries a record; the runner's other lines are remarks.
const RECORD_MARK: &str = "case";
/// The first word of the last line, followed by the number of records.
const END_MARK: &str = "end";

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this status.
    Exited(i32),
    /// A signal of this number killed it.
    Killed(i32),
    /// It was killed by the runner at its time limit.
    TimedOut,
    /// It needs the superuser, and the runner is not.
    Skipped,
    /// The runner could not run it, and why.
    NotRun(String),
}

/// One case of one program, how it ended, and what it printed on its standard output and error together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The file name of the program.
    pub program: String,
    /// The name of the case.
    pub case: String,
    /// How the case ended.
    pub outcome: Outcome,
    /// All bytes that the case wrote.
    pub output: Vec<u8>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(formatter, "exited {status}"),
            Self::Killed(signal) => write!(formatter, "killed {signal}"),
            Self::TimedOut => formatter.write_str("timed-out"),
            Self::Skipped => formatter.write_str("skipped"),
            Self::NotRun(reason) => write!(formatter, "not-run {reason}"),
        }
    }
}

impl From<ExitStatus> for Outcome {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed(signal),
            (None, None) => Self::NotRun(format!("strange wait status {status:?}")),
        }
    }
}

impl Outcome {
    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "exited" => rest.parse().ok().map(Self::Exited),
            "killed" => rest.parse().ok().map(Self::Killed),
            "timed-out" => Some(Self::TimedOut),
            "skipped" => Some(Self::Skipped),
            "not-run" => Some(Self::NotRun(rest.to_owned())),
            _ => None,
        }
    }
}

impl Record {
    /// The line for this record, without its line feed.
    #[must_use]
    pub fn to_line(&self) -> String {
        let outcome = escape(self.outcome.to_string().as_bytes());
        format!("{RECORD_MARK}\t{}\t{}\t{outcome}\t{}", self.program, self.case, escape(&self.output))
    }

    /// The record of a line, or `None` if the line carries none.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.trim_end_matches('\r').split('\t');
        if fields.next()? != RECORD_MARK {
            return None;
        }
        let (program, case) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let outcome = Outcome::parse(&String::from_utf8_lossy(&unescape(fields.next()?)))?;
        let output = unescape(fields.next()?);
        Some(Self { program, case, outcome, output })
    }
}

/// The line that ends a run of `count` records.
#[must_use]
pub fn end_line(count: usize) -> String {
    format!("{END_MARK}\t{count}")
}

/// Why the output of a runner is not that of a whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// The last line is missing: the runner or its system died after this many records.
    NoEnd {
        /// Records that arrived.
        received: usize,
    },
    /// The runner counted differently from what arrived.
    Lost {
        /// Records that arrived.
        received: usize,
        /// Records that the runner says it sent.
        sent: usize,
    },
}

impl fmt::Display for Incomplete {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEnd { received } => write!(formatter, "the run broke off after {received} cases"),
            Self::Lost { received, sent } => write!(formatter, "{sent} cases were sent and {received} arrived"),
        }
    }
}

/// The records in the output of a runner, and whether they are all.
pub fn parse_run(output: &str) -> (Vec<Record>, Result<(), Incomplete>) {
    let records: Vec<Record> = output.lines().filter_map(Record::from_line).collect();
    let received = records.len();
    let sent = output.lines().rev().find_map(|line| {
        let count = line.trim_end_matches('\r').strip_prefix(END_MARK)?.strip_prefix('\t')?;
        count.parse::<usize>().ok()
    });
    let whole = match sent {
        None => Err(Incomplete::NoEnd { received }),
        Some(sent) if sent != received => Err(Incomplete::Lost { received, sent }),
        Some(_) => Ok(()),
    };
    (records, whole)
}

/// Printable ASCII stays; the backslash and all else become `\xx` with two hexadecimal digits.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if (b' '..=b'~').contains(&byte) && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(text, "\\{byte:02x}");
        }
    }
    text
}

pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
        let value = digits.iter().fold(0, |value, &digit| value * 16 + hexadecimal(digit));
        bytes.push(value);
    }
    bytes
}

fn hexadecimal(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome, output: &[u8]) -> Record {
        Record { program: "files".into(), case: "open".into(), outcome, output: output.to_vec() }
    }

    #[test]
    fn a_record_survives_its_line() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let outcomes = [
            Outcome::Exited(3),
            Outcome::Killed(11),
            Outcome::TimedOut,
            Outcome::Skipped,
            Outcome::NotRun("no such\tprogram\n".into()),
        ];
        for outcome in outcomes {
            let before = record(outcome, &every_byte);
            let line = before.to_line();
            assert!(line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
            assert_eq!(Record::from_line(&line), Some(before));
        }
    }

    #[test]
    fn other_lines_carry_no_record() {
        for line in ["", "case", "case\ta\tb", "case\ta\tb\tdanced 3\t", "a remark", "end\t3"] {
            assert_eq!(Record::from_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_run_without_its_end_is_incomplete() {
        let line = record(Outcome::Exited(0), b"x\n").to_line();
        assert_eq!(parse_run(&line).1, Err(Incomplete::NoEnd { received: 1 }));
        assert_eq!(parse_run(&format!("{line}\nend\t2\n")).1, Err(Incomplete::Lost { received: 1, sent: 2 }));
        assert_eq!(parse_run(&format!("{line}\r\nend\t1\r\n")).1, Ok(()));
    }

    #[test]
    fn a_hostile_line_is_read_without_panic() {
        assert_eq!(unescape("\\"), vec![0]);
        assert_eq!(unescape("\\zz\\f"), vec![0, 0xf0]);
    }
}
