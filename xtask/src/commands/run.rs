//! `cargo xtask run`: a shell in a guest, on our terminal.

use super::{SUCCESS, TIMED_OUT};
use crate::build::{self, Artifacts, ProgramSet};
use crate::guest::{BootPath, Guest, MachineEnd, Root, Service};
use crate::image::{Reuse, Sizes};
use crate::options::GuestOptions;
use crate::payload::Init;
use crate::progress::note;
use crate::{FAILURE, setup};
use anyhow::Result;

/// Boots a guest with a shell on our terminal.
pub(crate) fn run(options: GuestOptions) -> Result<u8> {
    setup::for_guests()?;
    let root = Root::LastingImage(Sizes::default(), Reuse::default());
    let guest = Guest { timeout: None, boot: BootPath::Firmware, root, service: Service::Line, ..Guest::default() };
    let guest = guest.with(options);
    let artifacts = build_for(&guest)?;
    note(&format!("starting {guest}; `exit` or Ctrl-A X ends it"));
    match guest.run(&artifacts, &Init::shell())? {
        None => {
            eprintln!("xtask: the guest ran into its time limit and was ended");
            Ok(TIMED_OUT)
        }
        Some(MachineEnd::Clean) => Ok(SUCCESS),
        // Ctrl-A X, too, ends QEMU with status 0.
        Some(MachineEnd::Reset) => Ok(SUCCESS),
        Some(end @ (MachineEnd::Failure | MachineEnd::Other(_))) => {
            eprintln!("xtask: {end}");
            Ok(FAILURE)
        }
    }
}

/// Builds what this guest needs.
pub(crate) fn build_for(guest: &Guest) -> Result<Artifacts> {
    let artifacts = build::guest_programs(ProgramSet::Posix)?;
    match guest.boot {
        BootPath::Direct => {}
        BootPath::Firmware => build::loader()?,
    }
    Ok(artifacts)
}
