//! The Linux side of the comparison: Debian's cloud kernel with busybox, booted in the same QEMU.

use super::{GUEST_DIRECTORY, Programs, READY, Run, TIMEOUT, table};
use crate::build::Artifacts;
use crate::guest::{Guest, Machine, Media, Ports};
use crate::linux_kernel;
use crate::process;
use crate::progress::note;
use crate::root_files::BUSYBOX;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Instant;

/// No mitigations: the emulated CPU has nothing to mitigate, and Quire has none either.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

/// Boots it, runs the script, and gives what the benchmark measured.
pub(super) fn run(artifacts: &Artifacts, guest: &Guest, programs: &Programs, script: &str) -> Result<Run> {
    let kernel = linux_kernel::provide(artifacts)?;
    let initrd = initial_file_system(programs, script).context("making Linux's first file system")?;
    let media = Media::with_kernel(kernel, &initrd, COMMAND_LINE.to_owned())?;
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

/// A cpio archive with busybox, the benchmark, and an `init` that runs the script and switches the machine off.
fn initial_file_system(programs: &Programs, script: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    let bench = root.join(GUEST_DIRECTORY.trim_start_matches('/'));
    for path in ["bin", "proc", "dev", "tmp"].map(|name| root.join(name)).iter().chain([&bench]) {
        fs::create_dir(path)?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh"))?;
    for name in ["ub", "true"] {
        fs::copy(programs.path(name), bench.join(name))?;
    }
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t devtmpfs dev /dev\n\
         /bin/busybox mount -t tmpfs tmp /tmp\n{script}\n/bin/busybox poweroff -f\n"
    );
    let path = root.join("init");
    fs::write(&path, init)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut pack = Command::new("/bin/sh");
    pack.current_dir(root).args(["-c", &format!("{BUSYBOX} find . | {BUSYBOX} cpio -o -H newc 2>/dev/null")]);
    let output = pack.output().context("can't start the shell")?;
    if !output.status.success() {
        bail!("`{}` failed ({})", process::describe(&pack), output.status);
    }
    Ok(output.stdout)
}
