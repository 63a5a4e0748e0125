//! The driver on its objects.

use block::driver::{self, PinnedFrames};
use block::service::DiskFailed;
use driver_protocol::purpose;
use driver_runtime::{Part, PciFunction};
use log::error;
use nvme::disk::NvmeDisk;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor};

/// Serves the device until the supervisor is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let function = PciFunction::take(&executor, startup)?;
    let window = function.window(0).and_then(|window| Part::new(&window, 0, window.len_bytes()).ok());
    let Some(registers) = window else {
        error!("there are no registers");
        return Ok(());
    };
    let mut disk = NvmeDisk::new(registers, function.memory()?, function.interrupts.len() as u16);
    let control = startup.take::<ChannelEndpoint>(purpose::SERVE)?;
    executor.block_on(async {
        if let Err(DiskFailed) = driver::bring_up(&executor, &mut disk).await {
            error!("the disk can't be started");
            return Ok(());
        }
        driver::say(env!("CARGO_PKG_VERSION"), &disk);
        driver::serve(&executor, control, disk, PinnedFrames::new(&function.space), function.interrupts).await
    })?
}
