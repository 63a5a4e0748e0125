//! `cargo xtask bench`: the same programs on Linux and on Quire, in the same QEMU, by instructions of the guest and by
//! the clock on the wall.
//!
//! With `-icount shift=0` a nanosecond of the guest's clock is one instruction, so the programs count instructions by
//! asking for the time. Misses of caches and of the TLB cost nothing there: this compares the length of paths, not speed.
//! Therefore everything also runs by the host's time, which depends on the machine, and on what else runs there.
//! Of all boots and rounds the least counts.

mod disk;
mod linux;
mod quire;
mod table;

use super::SUCCESS;
use crate::build::{self, Artifacts, ProgramSet, workspace};
use crate::guest::{CpuClock, Guest, LogLevel, MemorySize};
use crate::options::{Addition, BenchOptions, BenchSubject};
use crate::process;
use crate::progress::Step;
use crate::setup;
use anyhow::{Context as _, Result};
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use table::{Comparison, Row};

/// How long all benchmarks of one boot may take.
const TIMEOUT: Duration = Duration::from_secs(1200);
/// Where the benchmark and the program that it starts lie in both guests.
const GUEST_DIRECTORY: &str = "/bench";
/// How often each benchmark is repeated in a boot, and by how much its loops are shorter than usual.
const ROUNDS: u32 = 3;
const SCALE: u32 = 4;
/// How often each system boots for each way to measure, unless the user says.
const BOOTS: u32 = 3;
/// What the script says first.
const READY: &str = "the shell is ready";
/// The row for the time from QEMU's start to the shell.
const BOOT: &str = "boot";

/// What one boot of one system gave.
struct Run {
    rows: Vec<Row>,
    /// From QEMU's start until [`READY`] was read, by the host's clock.
    to_shell: Option<Duration>,
}

/// The benchmark programs, for static linking.
struct Programs {
    directory: PathBuf,
}

/// Measures, prints the table, and writes it to a file if the user wants.
pub(crate) fn run(options: &BenchOptions) -> Result<u8> {
    setup::for_benchmarks()?;
    let artifacts = build::guest_programs(ProgramSet::Posix)?;
    let boots = options.boots.map_or(BOOTS, NonZeroU32::get);
    let comparison = match options.subject {
        BenchSubject::System => compare_systems(&artifacts, &options.names, boots)?,
        BenchSubject::Disk => disk::compare(&artifacts, boots)?,
    };
    comparison.print();
    if let Some(path) = &options.json {
        fs::write(path, comparison.to_json()).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(SUCCESS)
}

fn compare_systems(artifacts: &Artifacts, names: &[String], boots: u32) -> Result<Comparison> {
    let programs = compile(artifacts)?;
    let script = script(names);
    Ok(Comparison {
        instructions: measure(artifacts, &programs, &script, CpuClock::Instructions, boots)?,
        wall: measure(artifacts, &programs, &script, CpuClock::Measured, boots)?,
        native: native(boots)?,
    })
}

/// Boots both systems in turn, so that what else the machine does meets both.
fn measure(
    artifacts: &Artifacts,
    programs: &Programs,
    script: &str,
    clock: CpuClock,
    boots: u32,
) -> Result<table::Sides> {
    let what = match clock {
        CpuClock::Instructions => "instructions",
        CpuClock::Host | CpuClock::Measured => "wall time",
    };
    let guest = measuring_guest(clock);
    let mut sides = table::Sides::default();
    for boot in 1..=boots {
        let step = Step::begin(format!("measuring {what} on Linux (boot {boot} of {boots})"));
        sides.linux.add(rows(linux::run(artifacts, &guest, programs, script)?, clock));
        step.done();
        let step = Step::begin(format!("measuring {what} on Quire (boot {boot} of {boots})"));
        sides.quire.add(rows(quire::run(artifacts, &guest, programs, script)?, clock));
        step.done();
    }
    Ok(sides)
}

/// What was measured in one boot, the boot itself among it where that says something.
fn rows(run: Run, clock: CpuClock) -> Vec<Row> {
    let mut rows = run.rows;
    match (clock, run.to_shell) {
        (CpuClock::Host | CpuClock::Measured, Some(time)) => {
            rows.push(Row { name: BOOT.to_owned(), least: time.as_secs_f64() * 1e9 });
        }
        (CpuClock::Instructions, _) | (_, None) => {}
    }
    rows
}

fn native(boots: u32) -> Result<table::Best> {
    let mut best = table::Best::default();
    let step = Step::begin("measuring the object API");
    for _ in 0..boots {
        best.add(quire::native_rows(measuring_guest(CpuClock::Instructions))?);
    }
    step.done();
    Ok(best)
}

fn measuring_guest(clock: CpuClock) -> Guest {
    Guest { memory: MemorySize::GIBIBYTE, clock, timeout: Some(TIMEOUT), log: LogLevel::Warn, ..Guest::default() }
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
        "echo {READY}; for name in {names}; do \
         {GUEST_DIRECTORY}/ub -r {ROUNDS} -s {SCALE} -d /tmp -t {GUEST_DIRECTORY}/true $name || \
         echo \"UBERR $name: status $?\"; done"
    )
}
