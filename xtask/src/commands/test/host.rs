//! The stages that need no guest.

use super::{Context, Counts};
use crate::build;
use crate::process;
use crate::setup;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// What runs without an operating system of the host.
const BARE_METAL_PACKAGES: &[&str] = &[
    "quire-kernel",
    "supervisor",
    "posix-server",
    "serial",
    "pager",
    "swap",
    "files",
    "mlibc-shim",
    "object-tests",
    "virtio-blk",
    "virtio-console",
    "virtio-rng",
    "nvme",
    "edu",
];
/// Crates that have `unsafe` code, or simulate what others have, and whose tests run on the host.
const MIRI_PACKAGES: [&str; 3] = ["quire-api", "quire-kernel", "driver-runtime"];

/// All sources are formatted.
pub(super) fn formatting(_: &Context) -> Result<Counts> {
    process::run(build::cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Counts::PASSED)
}

/// No lint has anything to say about what compiles for the host.
pub(super) fn lints(_: &Context) -> Result<Counts> {
    process::run(build::cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    Ok(Counts::PASSED)
}

/// Nor about what compiles for guests.
pub(super) fn bare_metal_lints(_: &Context) -> Result<Counts> {
    let packages = BARE_METAL_PACKAGES.iter().flat_map(|name| ["--package", name]);
    clippy_for("x86_64-unknown-none", packages)?;
    clippy_for("x86_64-unknown-uefi", ["--package", "quire-loader"])?;
    Ok(Counts { passed: 2, ..Counts::default() })
}

fn clippy_for<'a>(target: &str, packages: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut cargo = build::cargo();
    cargo.args(["clippy", "--release", "--target", target]).args(packages).args(["--", "--deny", "warnings"]);
    process::run(&mut cargo)
}

/// The unit and property tests of all crates.
pub(super) fn unit_tests(_: &Context) -> Result<Counts> {
    run_cargo_tests(build::cargo().args(["test", "--workspace", "--no-fail-fast"]))
}

/// Ten million random calls to the kernel's core on a model of the machine, or as many as fit into four minutes; how often each was
/// made is printed.
pub(super) fn core_fuzz(_: &Context) -> Result<Counts> {
    let arguments = ["--lib", "--", "--ignored", "--nocapture", "ten_million"];
    run_cargo_tests(build::cargo().args(["test", "--release", "--package", "quire-core"]).args(arguments))
}

/// The tests of the crates with `unsafe` code, under Miri, which finds undefined behaviour.
pub(super) fn miri(_: &Context) -> Result<Counts> {
    if let Err(error) = setup::for_miri() {
        println!("SKIPPED miri: no nightly toolchain with it can be had: {error:#}");
        return Ok(Counts::SKIPPED);
    }
    let mut cargo = build::nightly_cargo();
    cargo.args(["miri", "test", "--no-fail-fast"]).args(MIRI_PACKAGES.iter().flat_map(|name| ["--package", name]));
    run_cargo_tests(&mut cargo)
}

/// Runs a `cargo test`, shows what it prints, and adds up the results of its test programs.
fn run_cargo_tests(command: &mut Command) -> Result<Counts> {
    let description = process::describe(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't start `{description}`"))?;
    let output = child.stdout.take().context("the standard output of cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.with_context(|| format!("the output of `{description}`"))?;
        match counts_in(&line) {
            Some(more) => counts += more,
            None if is_interesting(&line) => println!("{line}"),
            None => {}
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("`{description}` failed ({status})");
    }
    Ok(counts)
}

/// Whether a line of a test program's output is to be shown: not the names of tests that pass.
fn is_interesting(line: &str) -> bool {
    let is_success = line.ends_with("... ok") || line.starts_with("running ") || line.ends_with("... ignored");
    !line.is_empty() && !is_success
}

/// The numbers in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts_in(line: &str) -> Option<Counts> {
    let (_, results) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let part = results.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse::<u32>().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_test_programs_are_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(counts_in(line), Some(Counts { passed: 12, failed: 1, skipped: 2 }));
        assert_eq!(counts_in("test names ... ok"), None);
    }
}
