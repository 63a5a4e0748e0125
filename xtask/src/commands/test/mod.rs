//! `cargo xtask test`: everything that must hold, in stages, on the host and then in guests.

mod architecture;
mod guest;
mod host;
mod live;
mod mounts;
mod power_cuts;
mod sources;
mod working_set;

use super::SUCCESS;
use crate::FAILURE;
use crate::build::{self, Artifacts, ProgramSet};
use crate::guest::Guest;
use crate::options::{TestAction, TestLength, TestOptions};
use crate::progress::note;
use crate::setup;
use anyhow::Result;
use std::cell::OnceCell;
use std::fmt;
use std::ops::AddAssign;
use std::time::Instant;

/// Where a stage runs; also a filter on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host,
    Guest,
}

/// A part of the tests.
struct Stage {
    name: &'static str,
    place: Place,
    /// The least length of a run that has this stage.
    length: TestLength,
    run: fn(&Context) -> Result<Counts>,
}

/// How many tests passed, failed and could not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// What stages share: what was built is built once.
pub(crate) struct Context {
    posix: OnceCell<Artifacts>,
    native: OnceCell<Artifacts>,
    loader: OnceCell<()>,
    /// Which POSIX cases the user wants.
    cases: Vec<String>,
    /// How many CPUs guests have.
    cpus: u32,
    length: TestLength,
}

const STAGES: &[Stage] = &[
    Stage { name: "formatting", place: Place::Host, length: TestLength::Usual, run: host::formatting },
    Stage { name: "architecture", place: Place::Host, length: TestLength::Usual, run: architecture::check },
    Stage { name: "lints-host", place: Place::Host, length: TestLength::Usual, run: host::lints },
    Stage { name: "lints-bare-metal", place: Place::Host, length: TestLength::Usual, run: host::bare_metal_lints },
    Stage { name: "unit-tests", place: Place::Host, length: TestLength::Usual, run: host::unit_tests },
    Stage { name: "core-fuzz", place: Place::Host, length: TestLength::Usual, run: host::core_fuzz },
    Stage { name: "miri", place: Place::Host, length: TestLength::Usual, run: host::miri },
    Stage { name: "object-tests", place: Place::Guest, length: TestLength::Usual, run: guest::object_tests },
    Stage { name: "confined-devices", place: Place::Guest, length: TestLength::Usual, run: guest::confined_devices },
    Stage { name: "example-driver", place: Place::Guest, length: TestLength::Usual, run: guest::example_driver },
    Stage { name: "disk", place: Place::Guest, length: TestLength::Usual, run: guest::disk },
    Stage { name: "file-server", place: Place::Guest, length: TestLength::Usual, run: guest::file_server },
    Stage { name: "object-fuzz", place: Place::Guest, length: TestLength::Long, run: guest::object_fuzz },
    Stage { name: "firmware-boot", place: Place::Guest, length: TestLength::Usual, run: guest::firmware_boot },
    Stage { name: "image-boot", place: Place::Guest, length: TestLength::Usual, run: guest::image_boot },
    Stage { name: "broken-boot", place: Place::Guest, length: TestLength::Usual, run: guest::broken_boot },
    Stage { name: "exec", place: Place::Guest, length: TestLength::Usual, run: guest::exec },
    Stage { name: "console", place: Place::Guest, length: TestLength::Usual, run: guest::console },
    Stage { name: "consoles", place: Place::Guest, length: TestLength::Usual, run: guest::consoles },
    Stage { name: "posix-cases", place: Place::Guest, length: TestLength::Usual, run: guest::posix_cases },
    Stage { name: "cases-on-disk", place: Place::Guest, length: TestLength::Usual, run: guest::cases_on_disk },
    Stage { name: "two-cpus", place: Place::Guest, length: TestLength::Usual, run: guest::two_cpus },
    Stage { name: "many-cpus", place: Place::Guest, length: TestLength::Long, run: guest::many_cpus },
    Stage { name: "bombs", place: Place::Guest, length: TestLength::Usual, run: guest::bombs },
    Stage { name: "mounts", place: Place::Guest, length: TestLength::Usual, run: mounts::run },
    Stage { name: "power-cuts", place: Place::Guest, length: TestLength::Usual, run: power_cuts::run },
    Stage { name: "live", place: Place::Guest, length: TestLength::Usual, run: live::replacement },
    Stage { name: "watchdog", place: Place::Guest, length: TestLength::Usual, run: live::watchdog },
    Stage { name: "crash-storm", place: Place::Guest, length: TestLength::Usual, run: live::crash_storm },
    Stage { name: "file-cache", place: Place::Guest, length: TestLength::Usual, run: working_set::file_cache },
    Stage { name: "swap", place: Place::Guest, length: TestLength::Usual, run: working_set::swap },
    Stage { name: "working-set", place: Place::Guest, length: TestLength::Long, run: working_set::working_set },
    Stage { name: "conformance", place: Place::Guest, length: TestLength::Usual, run: guest::conformance },
];

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }
}

impl Stage {
    /// A stage runs if its name was asked for; otherwise if its place was, or nothing, and it is not too long.
    fn is_wanted(&self, options: &TestOptions) -> bool {
        let filters = &options.filters;
        let is_place = |filter: &String| [Place::Host, Place::Guest].iter().any(|place| place.name() == filter);
        let is_named = filters.iter().any(|filter| !is_place(filter) && self.name.contains(filter.as_str()));
        let is_placed = filters.is_empty() || filters.iter().any(|filter| filter == self.place.name());
        let is_short_enough = options.length == TestLength::Long || self.length == TestLength::Usual;
        is_named || (is_placed && is_short_enough)
    }

    /// Runs the stage; an error counts as one failure.
    fn run(&self, context: &Context) -> Counts {
        note(&format!("stage {} ({})", self.name, self.place.name()));
        let start = Instant::now();
        let counts = (self.run)(context).unwrap_or_else(|error| {
            println!("FAILED {}: {error:#}", self.name);
            Counts::FAILED
        });
        println!("{:<18} {counts} ({:.1} s)", self.name, start.elapsed().as_secs_f64());
        counts
    }
}

impl Counts {
    /// One test passed.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One test failed.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    /// One test could not run.
    pub(crate) const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Runs one test of a stage; an error is printed and counts as a failure.
    fn try_one(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        *self += match test() {
            Ok(()) => Self::PASSED,
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                Self::FAILED
            }
        };
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Context {
    fn new(options: &TestOptions) -> Self {
        let cases = options.cases.clone();
        let cpus = options.cpus.unwrap_or(1);
        Self {
            posix: OnceCell::new(),
            native: OnceCell::new(),
            loader: OnceCell::new(),
            cases,
            cpus,
            length: options.length,
        }
    }

    /// The guest that stages run in, unless they need another.
    pub(crate) fn guest(&self) -> Guest {
        Guest { cpus: self.cpus, ..Guest::default() }
    }

    /// How much to test.
    pub(crate) fn length(&self) -> TestLength {
        self.length
    }

    /// Parts of the names of the POSIX cases that the user wants; none for all.
    pub(crate) fn cases(&self) -> &[String] {
        &self.cases
    }

    /// The programs of a POSIX system.
    pub(crate) fn posix(&self) -> Result<&Artifacts> {
        get_or_try(&self.posix, || build::guest_programs(ProgramSet::Posix))
    }

    /// The native tests.
    pub(crate) fn native(&self) -> Result<&Artifacts> {
        get_or_try(&self.native, || build::guest_programs(ProgramSet::NativeTests))
    }

    /// Builds the loader.
    pub(crate) fn loader(&self) -> Result<()> {
        get_or_try(&self.loader, build::loader).copied()
    }
}

fn get_or_try<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// Runs the stages that the user wants, and gives the status.
pub(crate) fn run(options: &TestOptions) -> Result<u8> {
    let wanted: Vec<_> = STAGES.iter().filter(|stage| stage.is_wanted(options)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no stage has such a name; see `cargo xtask test --list`");
    match options.action {
        TestAction::List => {
            for stage in wanted {
                println!("{} ({})", stage.name, stage.place.name());
            }
            Ok(SUCCESS)
        }
        TestAction::Run => run_stages(&wanted, &Context::new(options)),
    }
}

fn run_stages(stages: &[&Stage], context: &Context) -> Result<u8> {
    setup::for_tests()?;
    let mut total = Counts::default();
    let mut failed = Vec::new();
    for stage in stages {
        let counts = stage.run(context);
        if counts.failed > 0 {
            failed.push(stage.name);
        }
        total += counts;
    }
    if !failed.is_empty() {
        println!("failed stages: {}", failed.join(", "));
    }
    println!("{total}");
    Ok(if total.failed == 0 { SUCCESS } else { FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_stages_run_when_asked_for() {
        let names = |filters: &[&str], length| -> Vec<_> {
            let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
            let options = TestOptions { filters, length, action: TestAction::List, ..TestOptions::default() };
            STAGES.iter().filter(|stage| stage.is_wanted(&options)).map(|stage| stage.name).collect()
        };
        assert!(!names(&[], TestLength::Usual).contains(&"object-fuzz"));
        assert!(names(&[], TestLength::Long).contains(&"object-fuzz"));
        assert!(!names(&["guest"], TestLength::Usual).contains(&"object-fuzz"));
        assert_eq!(names(&["fuzz"], TestLength::Usual), ["core-fuzz", "object-fuzz"]);
        assert!(names(&["host"], TestLength::Long).iter().all(|name| !name.contains("boot")));
    }
}
