//! The commands, one module each.

mod bench;
mod conformance;
mod debug;
mod exec;
mod image;
mod native;
mod new_driver;
mod replace;
mod run;
mod test;

use crate::build::{self, ProgramSet};
use crate::options::{Command, HELP};
use crate::setup;
use anyhow::Result;

/// Status of xtask when all is well.
const SUCCESS: u8 = 0;
/// Status of xtask when a guest ran into its time limit, as that of timeout(1).
const TIMED_OUT: u8 = 124;

/// Does what the user wants, and gives the status to end with.
pub(crate) fn run(command: Command) -> Result<u8> {
    match command {
        Command::Help => {
            print!("{HELP}");
            Ok(SUCCESS)
        }
        Command::Build => {
            setup::for_guests()?;
            build::guest_programs(ProgramSet::Posix)?;
            build::guest_programs(ProgramSet::NativeTests)?;
            build::loader()?;
            Ok(SUCCESS)
        }
        Command::Image(options) => image::run(options),
        Command::Run(options) => run::run(options),
        Command::Exec(options) => exec::run(options),
        Command::NewDriver(name) => new_driver::run(&name),
        Command::Replace(options) => replace::run(&options),
        Command::Native(options) => native::run(&options.name, options.guest),
        Command::Debug(options) => debug::run(options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Conformance(options) => conformance::run(&options),
    }
}
