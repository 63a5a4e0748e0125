//! Runs the tests, says how each went, and ends the machine by the result.

use crate::{bench, disk, driver, files, objects, scaling, serial};
use alloc::format;
use alloc::string::String;
use core::fmt::Debug;
use core::panic::Location;
use driver_protocol::supervisor::Request;
use log::{error, info};
use quire_api::abi::startup::Purpose;
use quire_api::abi::system::{AccountLimits, Shutdown};
use quire_api::account::UNLIMITED;
use quire_api::rt::{self, Startup};
use quire_api::time::clock_ns;
use quire_api::{Account, ChannelEndpoint, Error, Hardware};

/// Why a test failed, and where.
pub(crate) struct Failure(pub(crate) String);

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        failure(format!("{error:?}"))
    }
}

impl From<quire_api::CommitError> for Failure {
    #[track_caller]
    fn from(error: quire_api::CommitError) -> Self {
        failure(format!("{error:?}"))
    }
}

#[track_caller]
fn failure(text: String) -> Failure {
    let place = Location::caller();
    Failure(format!("{text} ({}:{})", place.file(), place.line()))
}

/// How a test ends.
pub(crate) type TestResult = Result<(), Failure>;

/// Fails unless both are the same.
#[track_caller]
pub(crate) fn same<T: Debug + PartialEq>(found: T, expected: T) -> TestResult {
    if found == expected { Ok(()) } else { Err(failure(format!("{found:?} instead of {expected:?}"))) }
}

/// Fails unless the condition holds.
#[track_caller]
pub(crate) fn holds(condition: bool, what: &str) -> TestResult {
    if condition { Ok(()) } else { Err(failure(format!("not true: {what}"))) }
}

/// Fails unless the call was refused with this error.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, impl Into<Error>>, expected: Error) -> TestResult {
    match result.map_err(Into::into) {
        Err(found) => same(found, expected),
        Ok(_) => Err(failure(format!("accepted instead of {expected:?}"))),
    }
}

/// What a test finds.
pub(crate) struct Bench {
    /// The account of the whole program.
    pub(crate) account: &'static Account,
    /// Authority over hardware.
    pub(crate) hardware: Hardware,
    /// How long the fuzzer runs, in ns.
    pub(crate) fuzz_ns: u64,
}

impl Bench {
    /// A new account without limits of its own, whose usage begins at zero.
    pub(crate) fn new_account(&self) -> Result<Account, Error> {
        self.account.create_child(&UNLIMITED)
    }

    /// A new account with limits.
    pub(crate) fn limited_account(&self, frames: u64, kernel_bytes: u64) -> Result<Account, Error> {
        self.account.create_child(&AccountLimits { frames, kernel_bytes })
    }
}

/// A named behaviour.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Bench) -> TestResult,
}

/// Makes the list of a module's tests from its functions.
macro_rules! tests {
    ($module:literal: $($name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub(crate) const TESTS: &[$crate::harness::Test] =
            &[$($crate::harness::Test { name: concat!($module, "::", stringify!($name)), run: $name }),+];
    };
}
pub(crate) use tests;

/// A point in time from now.
pub(crate) fn in_ms(milliseconds: u64) -> u64 {
    clock_ns().saturating_add(milliseconds * 1_000_000)
}

/// How long the fuzzer runs unless said otherwise.
const DEFAULT_FUZZ_SECONDS: u64 = 3;

/// Runs what the arguments ask for, and ends the machine.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let supervisor: ChannelEndpoint = startup.take(Purpose::SUPERVISOR)?;
    let fuzz_seconds =
        startup.argument("fuzz_seconds").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_FUZZ_SECONDS);
    let bench = Bench {
        account: rt::account()?,
        hardware: startup.take(Purpose::HARDWARE)?,
        fuzz_ns: fuzz_seconds * 1_000_000_000,
    };
    let filter = startup.argument("filter").unwrap_or("");
    let all_well = match startup.argument("test") {
        Some("ipc-bench") => bench::run(&bench, filter),
        Some("scaling") => scaling::run(&bench),
        Some("serial-bench") => serial::run(startup),
        Some("disk-check") => disk::check(&bench, startup),
        Some("disk-errors") => disk::errors(&bench, startup),
        Some("disk-storm") => disk::storm(&bench, startup),
        Some("files-check" | "files-storm" | "files-bench") => files::run(&bench, startup, &supervisor),
        Some("driver-check") => driver::check(startup),
        Some("disk-bench") => disk::measure(&bench, startup),
        Some(_) | None => run_tests(&bench, filter),
    };
    let how = if all_well { Shutdown::PowerOff } else { Shutdown::Failure };
    let (label, words) = Request::ShutDown(how).encode();
    supervisor.call_words(label, words)?;
    Ok(())
}

/// Runs the tests whose names contain `filter`, or one of the parts that commas separate; `true` if all passed.
fn run_tests(bench: &Bench, filter: &str) -> bool {
    let (mut passed, mut failed) = (0, 0);
    let is_wanted = |test: &&Test| filter.split(',').any(|part| test.name.contains(part));
    for test in objects::all().filter(is_wanted) {
        match (test.run)(bench) {
            Ok(()) => {
                info!("test {} ... ok", test.name);
                passed += 1;
            }
            Err(Failure(reason)) => {
                error!("test {} ... FAILED {reason}", test.name);
                failed += 1;
            }
        }
    }
    info!("{passed} passed, {failed} failed");
    failed == 0 && passed > 0
}
