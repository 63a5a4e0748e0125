//! The Linux side of the comparison: Debian's cloud kernel with busybox, booted in the same QEMU.

use super::{Programs, READY, Run, TIMEOUT, table};
use crate::build::Artifacts;
use crate::guest::{Guest, Machine, Media, Ports};
use crate::linux_kernel;
use crate::progress::note;
use anyhow::{Context as _, Result, bail};
use std::time::Instant;

/// Boots it, runs the script, and gives what the benchmark measured.
pub(super) fn run(artifacts: &Artifacts, guest: &Guest, programs: &Programs, script: &str) -> Result<Run> {
    let kernel = linux_kernel::provide(artifacts)?;
    let initrd =
        linux_kernel::initial_file_system(&programs.additions(), script).context("making Linux's first file system")?;
    let media = Media::with_kernel(kernel, &initrd, linux_kernel::COMMAND_LINE.to_owned())?;
    let mut machine = Machine::start(guest, &media, Ports::Console)?;
    let limit = machine.deadline().unwrap_or_else(|| Instant::now() + TIMEOUT);
    let to_shell = machine.log().wait_for(READY.as_bytes(), 0, limit).map(|_| machine.started().elapsed());
    if machine.wait()?.is_none() {
        note("Linux ran into the time limit; what it measured until then follows");
    }
    let rows = table::parse("Linux", &machine.log().text());
    if rows.is_empty() {
        bail!("Linux measured nothing; its console:\n{}", machine.log().text());
    }
    Ok(Run { rows, to_shell })
}
