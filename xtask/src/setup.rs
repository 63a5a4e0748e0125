//! Provides what the host lacks: targets and components of the toolchain, packages of the distribution.

use crate::build;
use crate::process;
use crate::progress::{Step, note};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A tool that a Debian package brings.
struct Tool {
    package: &'static str,
    is_there: fn() -> bool,
}

const QEMU: Tool = Tool { package: "qemu-system-x86", is_there: || process::is_installed("qemu-system-x86_64") };
const FIRMWARE: Tool = Tool { package: "ovmf", is_there: || firmware().is_some() };
const BUSYBOX: Tool = Tool { package: "busybox-static", is_there: || Path::new(crate::root_files::BUSYBOX).exists() };
const BASH: Tool = Tool { package: "bash-static", is_there: || Path::new(crate::root_files::BASH).exists() };
const E2FSPROGS: Tool = Tool {
    package: "e2fsprogs",
    is_there: || process::system_tool("mke2fs").is_absolute() || process::is_installed("mke2fs"),
};
const MUSL: Tool = Tool { package: "musl-tools", is_there: || process::is_installed("musl-gcc") };
const C_COMPILER: Tool = Tool { package: "gcc", is_there: || process::is_installed("gcc") };
const C_LIBRARY: Tool = Tool { package: "libc6-dev", is_there: || Path::new("/usr/include/stdio.h").exists() };

/// What running a guest needs.
const FOR_GUESTS: [Tool; 5] = [QEMU, FIRMWARE, BUSYBOX, BASH, E2FSPROGS];
/// What the tests need besides.
const FOR_TESTS: [Tool; 3] = [MUSL, C_COMPILER, C_LIBRARY];

const DPKG_SOURCE: Tool = Tool { package: "dpkg-dev", is_there: || process::is_installed("dpkg-source") };

/// What the suites of others need besides.
const FOR_CONFORMANCE: [Tool; 4] = [MUSL, C_COMPILER, C_LIBRARY, DPKG_SOURCE];

/// What the benchmarks need besides.
const FOR_BENCHMARKS: [Tool; 2] = [MUSL, C_LIBRARY];

/// Where distributions put the firmware for virtual machines.
const FIRMWARE_PLACES: [&str; 4] = [
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/qemu/OVMF.fd",
    "/usr/share/edk2/x64/OVMF.4m.fd",
    "/usr/share/edk2-ovmf/x64/OVMF.fd",
];

const TARGETS: [&str; 3] = ["x86_64-unknown-none", "x86_64-unknown-uefi", "x86_64-unknown-linux-musl"];
const COMPONENTS: [&str; 2] = ["clippy", "rustfmt"];

/// The UEFI firmware image for `-bios`.
pub(crate) fn firmware() -> Option<&'static Path> {
    FIRMWARE_PLACES.iter().map(Path::new).find(|path| path.exists())
}

/// Makes sure that everything is there for building and for starting guests.
pub(crate) fn for_guests() -> Result<()> {
    rust_targets()?;
    packages(&FOR_GUESTS)
}

/// Makes sure that everything is there for testing.
pub(crate) fn for_tests() -> Result<()> {
    for_guests()?;
    packages(&FOR_TESTS)
}

/// Makes sure that everything is there for benchmarks.
pub(crate) fn for_benchmarks() -> Result<()> {
    for_guests()?;
    packages(&FOR_BENCHMARKS)
}

/// Makes sure that everything is there for fetching and building the suites of others.
pub(crate) fn for_conformance() -> Result<()> {
    for_guests()?;
    packages(&FOR_CONFORMANCE)
}

/// Adds missing targets and components to the toolchain that runs us. Where rustup does not manage it, cargo will say
/// what is missing.
fn rust_targets() -> Result<()> {
    let Ok(toolchain) = std::env::var("RUSTUP_TOOLCHAIN") else { return Ok(()) };
    let listed =
        process::output_of(Command::new("rustup").args(["target", "list", "--installed", "--toolchain", &toolchain]))?;
    let missing: Vec<_> = TARGETS.into_iter().filter(|target| !listed.lines().any(|line| line == *target)).collect();
    if !missing.is_empty() {
        let step = Step::begin(format!("adding the Rust targets {}", missing.join(", ")));
        let mut rustup = Command::new("rustup");
        process::run(rustup.args(["target", "add", "--toolchain", &toolchain]).args(missing))?;
        step.done();
    }
    rust_components(&toolchain)
}

fn rust_components(toolchain: &str) -> Result<()> {
    let listed = process::output_of(Command::new("rustup").args([
        "component",
        "list",
        "--installed",
        "--toolchain",
        toolchain,
    ]))?;
    let has = |component: &str| listed.lines().any(|line| line.starts_with(component));
    let missing: Vec<_> = COMPONENTS.into_iter().filter(|component| !has(component)).collect();
    if !missing.is_empty() {
        let step = Step::begin(format!("adding the Rust components {}", missing.join(", ")));
        let mut rustup = Command::new("rustup");
        process::run(rustup.args(["component", "add", "--toolchain", toolchain]).args(missing))?;
        step.done();
    }
    Ok(())
}

/// Makes sure that there is a nightly toolchain with Miri; what is missing is added.
pub(crate) fn for_miri() -> Result<()> {
    let is_there = || process::output_of(build::nightly_cargo().args(["miri", "--version"])).map(drop);
    if is_there().is_ok() {
        return Ok(());
    }
    let step = Step::begin("adding the nightly Rust toolchain with Miri");
    let arguments = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"];
    process::output_of(Command::new("rustup").args(arguments))?;
    is_there()?;
    step.done();
    Ok(())
}

fn packages(tools: &[Tool]) -> Result<()> {
    let missing = || tools.iter().filter(|tool| !(tool.is_there)()).map(|tool| tool.package).collect::<Vec<_>>();
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !process::is_installed("apt-get") {
        bail!("this machine lacks what Debian's packages {list} bring; install it with your package manager");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("some packages are missing; install them with: sudo apt-get install --no-install-recommends {list}");
    }
    install(&packages).with_context(|| format!("installing the packages {list}"))?;
    let still_missing = missing();
    if !still_missing.is_empty() {
        bail!("the packages {} are installed, yet what they should bring is not there", still_missing.join(" "));
    }
    Ok(())
}

/// Installs packages, as root; refreshes the package lists if they don't know one of them.
fn install(packages: &[&str]) -> Result<()> {
    let step = Step::begin(format!("installing the packages {} (as root)", packages.join(" ")));
    if apt_get_install(packages).is_err() {
        note("refreshing the package lists and trying again");
        process::run(Command::new("apt-get").args(["update", "-q"]).stdout(Stdio::null()))?;
        apt_get_install(packages)?;
    }
    step.done();
    Ok(())
}

fn apt_get_install(packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    process::run(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}
