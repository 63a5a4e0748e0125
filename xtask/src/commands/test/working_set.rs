//! More pages in use than fit into memory: files on a disk and private memory, with a swap partition.

use super::{Context, Counts};
use crate::build::workspace;
use crate::guest::{Ending, Guest, MemorySize, Program, Root};
use crate::image::{MEBIBYTE, Sizes};
use crate::options::TestLength;
use crate::process;
use anyhow::{Result, ensure};
use posix_protocol::host_link::ExitStatus;
use std::process::Command;
use std::time::Duration;

/// How much is in use, in MiB: six times the memory of the guest.
const FILE_MEBIBYTES: u64 = 1024;
const ANONYMOUS_MEBIBYTES: u64 = 512;
const WORKERS: u64 = 4;
const SIZES: Sizes = Sizes { root_bytes: 2048 * MEBIBYTE, swap_bytes: 768 * MEBIBYTE };
/// How long a run takes besides, at most: all pages are stored once before, and looked at once after.
const BESIDES: Duration = Duration::from_secs(900);

/// Every page has what was stored there last, under load all the time; in the end all memory is free again.
pub(super) fn run(context: &Context) -> Result<Counts> {
    let seconds = match context.length() {
        TestLength::Usual => 60,
        TestLength::Long => 600,
    };
    let program = context.posix()?.work_directory()?.join("working_set");
    let source = workspace().join("posix-server/tests/disk/working_set.c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    let arguments = [FILE_MEBIBYTES, ANONYMOUS_MEBIBYTES, seconds, WORKERS].map(|number| number.to_string());
    let arguments = [vec!["/var/tmp".to_owned()], arguments.to_vec()].concat();
    let timeout = Some(Duration::from_secs(seconds) + BESIDES);
    let guest = Guest { memory: MemorySize::SMALL, root: Root::Image(SIZES), timeout, ..context.guest() };
    let outcome = guest.exec_captured(context.posix()?, &Program::of_host(&program, &arguments)?, b"")?;
    let said = [&outcome.output[..], &outcome.errors].map(String::from_utf8_lossy).concat();
    println!("{said}");
    ensure!(
        outcome.ending == Ending::Program(ExitStatus::Code(0)),
        "{:?}; the guest's log:\n{}",
        outcome.ending,
        outcome.log
    );
    Ok(Counts::PASSED)
}
