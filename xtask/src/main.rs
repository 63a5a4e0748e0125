//! `cargo xtask`: builds Quire, makes its disk image, runs and tests it.
//!
//! `cargo xtask help` prints what there is. Each command is a module of the same name; what they share:
//!
//! - [`build`] compiles, [`flatten`] turns the first program's ELF file into segments, [`root_files`] makes a [`tree`] of
//!   files, [`payload`] fills the boot archive, [`image`] makes a disk of both;
//! - [`guest`] starts QEMU on that and talks to the program in it;
//! - [`setup`] provides missing tools, [`progress`] tells what is going on.

#![forbid(unsafe_code)]

mod build;
mod commands;
mod flatten;
mod guest;
mod image;
mod libraries;
mod linux_kernel;
mod options;
mod payload;
mod posix_cases;
mod process;
mod progress;
mod root_files;
mod setup;
mod strip;
mod tree;

use std::process::ExitCode;

/// The status of xtask itself when something went wrong that is not the guest program's doing.
const FAILURE: u8 = 125;

fn main() -> ExitCode {
    match options::parse().and_then(commands::run) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(FAILURE)
        }
    }
}
