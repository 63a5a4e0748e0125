//! The Linux that Quire is compared with: the distribution's kernel for virtual machines.

use crate::build::Artifacts;
use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package that depends on the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel of the distribution, downloaded as a package and unpacked once.
pub(crate) fn provide(artifacts: &Artifacts) -> Result<PathBuf> {
    let cache = &artifacts.work_directory()?.join("linux");
    if let Some(kernel) = find_kernel(cache) {
        return Ok(kernel);
    }
    fs::create_dir_all(cache).with_context(|| format!("can't make {}", cache.display()))?;
    let depends = process::output_of(Command::new("apt-cache").args(["depends", META_PACKAGE]))?;
    let package = depends.split_whitespace().find(|word| word.starts_with("linux-image-") && *word != META_PACKAGE);
    let package = package.with_context(|| format!("no package {META_PACKAGE} is known (apt-get update?)"))?;
    let step = Step::begin(format!("downloading {package}"));
    process::run(Command::new("apt-get").current_dir(cache).args(["download", "-q", package]).stdout(Stdio::null()))?;
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("dpkg").arg("-x").arg(&path).arg(cache))?;
            fs::remove_file(&path)?;
        }
    }
    step.done();
    find_kernel(cache).with_context(|| format!("the package {package} has no kernel"))
}

fn find_kernel(cache: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(cache.join("boot")).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("vmlinuz-")))
}
