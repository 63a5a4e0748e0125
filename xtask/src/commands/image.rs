//! `cargo xtask image`: the disk image, as a file.

use super::SUCCESS;
use super::run::build_for;
use crate::guest::{BootPath, Guest};
use crate::options::GuestOptions;
use crate::payload::Init;
use crate::setup;
use anyhow::Result;

/// Makes the disk image, and says where it lies.
pub(crate) fn run(options: GuestOptions) -> Result<u8> {
    setup::for_guests()?;
    let (sizes, reuse) = (options.sizes, options.reuse);
    let guest = Guest::default().with(GuestOptions { boot: Some(BootPath::Firmware), ..options });
    let artifacts = build_for(&guest)?;
    let path = guest.lasting_image(&artifacts, &Init::shell(), sizes, reuse)?;
    println!("{}", path.display());
    Ok(SUCCESS)
}
