//! `cargo xtask bench`: the same programs on Linux and on Quire, in the same QEMU, counted in instructions of the guest.
//!
//! With `-icount shift=0` a nanosecond of the guest's clock is one instruction, so the programs measure instructions by
//! asking for the time. Cache and TLB misses cost nothing there: this compares the length of paths, not speed.

mod linux;
mod table;

use super::{SUCCESS, native};
use crate::build::{self, Artifacts, ProgramSet, workspace};
use crate::guest::{CpuClock, Ending, Guest, LogLevel, Program};
use crate::options::{Addition, BenchOptions};
use crate::process;
use crate::progress::{Step, note};
use crate::setup;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use table::Row;

/// How long all benchmarks of one system may take.
const TIMEOUT: Duration = Duration::from_secs(1200);
/// Where the benchmark and the program that it starts lie in both guests.
const GUEST_DIRECTORY: &str = "/bench";
/// How often each benchmark is repeated, and by how much its loops are shorter than usual.
const ROUNDS: u32 = 3;
const SCALE: u32 = 4;

/// The benchmark programs, for static linking.
struct Programs {
    directory: PathBuf,
}

/// Measures, prints the table, and writes it to a file if the user wants.
pub(crate) fn run(options: &BenchOptions) -> Result<u8> {
    setup::for_benchmarks()?;
    let artifacts = build::guest_programs(ProgramSet::Posix)?;
    let programs = compile(&artifacts)?;
    let script = script(&options.names);
    let on_linux = linux::run(&artifacts, &measuring_guest(), &programs, &script)?;
    let on_quire = on_quire(&artifacts, &programs, &script)?;
    let rows = table::join(&on_linux, &on_quire);
    table::print(&rows);
    let native = native_rows()?;
    for (name, instructions) in &native {
        println!("{name}: {instructions} instructions");
    }
    if let Some(path) = &options.json {
        fs::write(path, table::to_json(&rows, &native)).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(SUCCESS)
}

fn measuring_guest() -> Guest {
    Guest {
        memory: crate::guest::MemorySize::GIBIBYTE,
        clock: CpuClock::Instructions,
        timeout: Some(TIMEOUT),
        log: LogLevel::Warn,
        ..Guest::default()
    }
}

fn compile(artifacts: &Artifacts) -> Result<Programs> {
    // Kernel headers are missing from the C library's own directory; the distribution's serve, after it.
    const HEADERS: [&str; 4] = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"];
    let step = Step::begin("building the benchmarks");
    let programs = Programs { directory: artifacts.work_directory()?.join("bench") };
    fs::create_dir_all(&programs.directory)?;
    for name in ["ub", "true"] {
        let source = workspace().join("posix-server/tests/bench").join(name).with_extension("c");
        let mut compiler = Command::new("musl-gcc");
        compiler.args(["-static", "-O2"]).args(HEADERS).arg("-o").arg(programs.path(name)).arg(source);
        process::run(compiler.arg("-lpthread"))?;
    }
    step.done();
    Ok(programs)
}

impl Programs {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn additions(&self) -> Vec<Addition> {
        let addition = |name: &str| Addition { host: self.path(name), guest: format!("{GUEST_DIRECTORY}/{name}") };
        vec![addition("ub"), addition("true")]
    }
}

/// A shell script for both systems: each benchmark in a process of its own, so that one which fails stops no other.
fn script(names: &[String]) -> String {
    let list = format!("{GUEST_DIRECTORY}/ub -l | while read -r name rest; do echo $name; done");
    let names = if names.is_empty() { format!("$({list})") } else { names.join(" ") };
    format!(
        "for name in {names}; do {GUEST_DIRECTORY}/ub -r {ROUNDS} -s {SCALE} -d /tmp -t {GUEST_DIRECTORY}/true $name || \
         echo \"UBERR $name: status $?\"; done"
    )
}

fn on_quire(artifacts: &Artifacts, programs: &Programs, script: &str) -> Result<Vec<Row>> {
    let step = Step::begin("measuring on Quire");
    let guest = Guest { additions: programs.additions(), ..measuring_guest() };
    let outcome = guest.exec_captured(artifacts, &Program::of_guest(&["/bin/sh", "-c", script]), b"")?;
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    match outcome.ending {
        Ending::Program(_) => {}
        Ending::TimedOut => note("Quire ran into the time limit; what it measured until then follows"),
        Ending::Died(end) => note(&format!("{end}; what was measured until then follows\n{}", outcome.log)),
    }
    step.done();
    Ok(table::parse("Quire", &text))
}

/// The benchmarks of the object API: names and instructions.
fn native_rows() -> Result<Vec<(String, u64)>> {
    let step = Step::begin("measuring the object API");
    let artifacts = build::guest_programs(ProgramSet::NativeTests)?;
    let guest = Guest { log: LogLevel::Info, ..measuring_guest() };
    let (_, text) = native::boot(&guest, &artifacts, "ipc-bench")?;
    step.done();
    Ok(text.lines().filter_map(native_row).collect())
}

/// The name and the number in a line such as `… bench: null call: 123 instructions (…)`.
fn native_row(line: &str) -> Option<(String, u64)> {
    let (before, _) = line.split_once(" instructions (")?;
    let (name, count) = before.rsplit_once(": ")?;
    let name = name.rsplit(": ").next().unwrap_or(name);
    Some((name.trim().to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_benchmarks_are_read_from_the_log() {
        let line = "[    0.1] object-tests: call and reply: 612 instructions (10000 rounds, 1000/1000 a tick)";
        assert_eq!(native_row(line), Some(("call and reply".to_owned(), 612)));
        assert_eq!(native_row("5 passed, 0 failed"), None);
    }
}
