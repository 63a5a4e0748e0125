//! `cargo xtask debug`: a boot that waits for gdb.

use super::SUCCESS;
use super::run::build_for;
use crate::build::{Artifacts, FIRST_PROGRAM, ProgramSet};
use crate::guest::{Guest, MachineStart};
use crate::options::GuestOptions;
use crate::payload::Init;
use crate::setup;
use anyhow::Result;

/// Boots a guest that waits for gdb before its first instruction, with a shell on our terminal.
pub(crate) fn run(options: GuestOptions) -> Result<u8> {
    setup::for_guests()?;
    let guest = Guest { timeout: None, start: MachineStart::WaitForDebugger, ..Guest::default() }.with(options);
    let artifacts = build_for(&guest)?;
    explain(&artifacts);
    guest.run(&artifacts, &Init::shell())?;
    Ok(SUCCESS)
}

fn explain(artifacts: &Artifacts) {
    let port = MachineStart::DEBUGGER_PORT;
    eprintln!("The guest waits for gdb. In another terminal:");
    eprintln!();
    eprintln!("  rust-gdb {} -ex 'target remote :{port}'", artifacts.kernel().display());
    eprintln!();
    eprintln!("Use `hbreak` for the kernel (its memory is not there yet), then `continue`. Programs in user space:");
    for name in std::iter::once(FIRST_PROGRAM).chain(ProgramSet::Posix.names()) {
        eprintln!("  add-symbol-file {}", artifacts.bare_metal(name).display());
    }
    eprintln!("Ctrl-A X in this terminal ends the guest.");
}
