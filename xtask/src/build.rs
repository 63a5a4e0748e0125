//! Compiling what runs in the guest.

use crate::process;
use crate::progress::{self, Step};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const BARE_METAL: &str = "x86_64-unknown-none";
const UEFI: &str = "x86_64-unknown-uefi";

/// The kernel: package and binary of all these programs bear the same name.
pub(crate) const KERNEL: &str = "quire-kernel";
/// What the kernel starts.
pub(crate) const FIRST_PROGRAM: &str = "supervisor";

/// The programs that the first program finds under `boot/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramSet {
    /// Drivers and servers that make a POSIX system.
    Posix,
    /// Tests and benchmarks of the object API.
    NativeTests,
}

/// The packages of [`ProgramSet::Posix`].
const POSIX: &[&str] = &[
    "posix-server",
    "serial",
    "pager",
    "swap",
    "files",
    "virtio-blk",
    "virtio-console",
    "virtio-rng",
    "nvme",
    "mlibc-shim",
];

/// The program that one of them makes besides that of its own name.
const SECOND_PROGRAM: &str = "mlibc-vdso";

/// Those of [`ProgramSet::NativeTests`]. Drivers that nothing else needs yet are here, to be tested.
const NATIVE_TESTS: &[&str] = &[
    "object-tests",
    "serial",
    "virtio-blk",
    "nvme",
    "files",
    // One a line from here on: `new-driver` adds some.
    "edu",
];

impl ProgramSet {
    /// The packages that they come from.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Posix => POSIX,
            Self::NativeTests => NATIVE_TESTS,
        }
    }

    /// Their names.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let second = match self {
            Self::Posix => Some(SECOND_PROGRAM),
            Self::NativeTests => None,
        };
        self.packages().iter().copied().chain(second)
    }
}

const LOADER: &str = "quire-loader";

/// Where the compiled programs lie.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    target_directory: PathBuf,
}

impl Artifacts {
    /// The kernel's ELF file.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.bare_metal(KERNEL)
    }

    /// The ELF file of a program for the bare-metal target.
    pub(crate) fn bare_metal(&self, name: &str) -> PathBuf {
        self.target_directory.join(BARE_METAL).join("release").join(name)
    }

    /// The UEFI loader, a PE file.
    pub(crate) fn loader(&self) -> PathBuf {
        self.target_directory.join(UEFI).join("release").join(format!("{LOADER}.efi"))
    }

    /// A directory for what xtask makes, such as the disk image; it exists.
    pub(crate) fn work_directory(&self) -> Result<PathBuf> {
        let directory = self.target_directory.join("quire");
        std::fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        Ok(directory)
    }

    /// The directory that cargo builds in.
    pub(crate) fn target_directory(&self) -> &Path {
        &self.target_directory
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A cargo that works in the workspace: the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The nightly toolchain's cargo, working in the workspace.
pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("cargo");
    // These name the toolchain that runs us.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command.current_dir(workspace()).arg("+nightly");
    command
}

/// What cargo says about the workspace.
pub(crate) fn metadata() -> Result<Value> {
    let text = process::output_of(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("the output of `cargo metadata`")
}

/// Compiles the kernel, the first program and a set of others.
pub(crate) fn guest_programs(set: ProgramSet) -> Result<Artifacts> {
    let step = Step::begin("building the kernel and the servers");
    let mut command = build_for(BARE_METAL);
    for package in [KERNEL, FIRST_PROGRAM].iter().chain(set.packages()) {
        command.args(["--package", package]);
    }
    process::run(&mut command)?;
    step.done();
    artifacts()
}

/// Compiles one program that runs in guests.
pub(crate) fn guest_program(package: &str) -> Result<()> {
    guest_program_with(package, &[])
}

/// The same, with variables that its sources look at.
pub(crate) fn guest_program_with(package: &str, variables: &[(&str, &str)]) -> Result<()> {
    let variables = variables.iter().copied();
    process::run(build_for(BARE_METAL).args(["--package", package]).envs(variables))
}

/// Compiles the UEFI loader.
pub(crate) fn loader() -> Result<()> {
    let step = Step::begin("building the loader");
    process::run(build_for(UEFI).args(["--package", LOADER]))?;
    step.done();
    Ok(())
}

/// The beginning of a build for a target. Its errors are always shown, its progress only if ours is.
fn build_for(target: &str) -> Command {
    let mut command = cargo();
    command.args(["build", "--release", "--target", target]);
    if progress::is_silent() {
        command.arg("--quiet");
    }
    command
}

/// Where what was compiled is.
pub(crate) fn artifacts() -> Result<Artifacts> {
    let metadata = metadata()?;
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    let target_directory = directory.map(PathBuf::from).context("`cargo metadata` names no target directory")?;
    Ok(Artifacts { target_directory })
}
