//! `cargo xtask image`: the disk image, as a file.

use super::SUCCESS;
use super::run::build_for;
use crate::guest::{BootPath, Guest};
use crate::options::GuestOptions;
use crate::payload::{self, Init};
use crate::{image, setup};
use anyhow::{Context as _, Result};

/// Makes the disk image, and says where it lies.
pub(crate) fn run(options: GuestOptions) -> Result<u8> {
    setup::for_guests()?;
    let guest = Guest::default().with(GuestOptions { boot: Some(BootPath::Firmware), ..options });
    let artifacts = build_for(&guest)?;
    let archive = payload::archive(&artifacts, &Init::shell(), &guest.additions)?;
    let bytes = image::bytes(&artifacts, &archive, &payload::command_line(guest.log, &guest.words))?;
    let path = artifacts.work_directory()?.join("quire.img");
    std::fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
    println!("{}", path.display());
    Ok(SUCCESS)
}
