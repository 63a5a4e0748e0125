//! Running tools of the host.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command line of `command`, for messages.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a tool with our standard streams and waits for its success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a tool and gives its standard output, which must be UTF-8.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't start `{}`", describe(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", describe(command), output.status, errors.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{}`", describe(command)))
}

/// Whether a program of this name is in a directory of `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A tool of the administrator, which may lie where others don't look.
pub(crate) fn system_tool(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/sbin"].iter().map(|directory| Path::new(directory).join(name));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| name.into())
}
