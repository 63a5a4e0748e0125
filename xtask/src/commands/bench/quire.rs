//! Quire's side of the comparison.

use super::table::{self, Row};
use super::{Programs, READY, Run};
use crate::build::{self, Artifacts, ProgramSet};
use crate::commands::native;
use crate::guest::{Ending, Guest, Input, LogLevel, Program, Stream};
use crate::progress::note;
use anyhow::Result;
use std::time::Instant;

/// Boots it, runs the script, and gives what the benchmark measured.
pub(super) fn run(artifacts: &Artifacts, guest: &Guest, programs: &Programs, script: &str) -> Result<Run> {
    let guest = Guest { additions: programs.additions(), ..guest.clone() };
    let program = Program::of_guest(&["/bin/sh", "-c", script]);
    let (mut output, mut ready) = (Vec::new(), None);
    let mut sink = |stream, bytes: &[u8]| {
        if stream == Stream::Output {
            output.extend_from_slice(bytes);
            if ready.is_none() && output.windows(READY.len()).any(|window| window == READY.as_bytes()) {
                ready = Some(Instant::now());
            }
        }
        Ok(())
    };
    let finished = guest.exec(artifacts, &program, Input::Bytes(Vec::new()), &mut sink)?;
    match finished.ending {
        Ending::Program(_) => {}
        Ending::TimedOut => note("Quire ran into the time limit; what it measured until then follows"),
        Ending::Died(end) => note(&format!("{end}; what was measured until then follows\n{}", finished.log)),
    }
    let to_shell = ready.map(|ready| ready.saturating_duration_since(finished.started));
    Ok(Run { rows: table::parse("Quire", &String::from_utf8_lossy(&output)), to_shell })
}

/// The benchmarks of the object API: names and instructions.
pub(super) fn native_rows(guest: Guest) -> Result<Vec<Row>> {
    let artifacts = build::guest_programs(ProgramSet::NativeTests)?;
    let guest = Guest { log: LogLevel::Info, ..guest };
    let (_, text) = native::boot(&guest, &artifacts, "ipc-bench")?;
    Ok(text.lines().filter_map(native_row).collect())
}

/// The name and the number in a line such as `… bench: null call: 123 instructions (…)`.
fn native_row(line: &str) -> Option<Row> {
    let (before, _) = line.split_once(" instructions (")?;
    let (name, count) = before.rsplit_once(": ")?;
    let name = name.rsplit(": ").next().unwrap_or(name);
    Some(Row { name: name.trim().to_owned(), least: count.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_benchmarks_are_read_from_the_log() {
        let line = "[    0.1] object-tests: call and reply: 612 instructions (10000 rounds, 1000/1000 a tick)";
        assert_eq!(native_row(line), Some(Row { name: "call and reply".to_owned(), least: 612.0 }));
        assert_eq!(native_row("5 passed, 0 failed"), None);
    }
}
