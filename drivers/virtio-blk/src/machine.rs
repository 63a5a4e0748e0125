//! The driver on its objects.

use block::driver::{self, PinnedFrames};
use block::service::DiskFailed;
use driver_protocol::purpose;
use driver_runtime::{DmaPool, PciFunction};
use log::error;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor, RegisterWindow, system};
use virtio::Device;
use virtio_blk::disk::VirtioDisk;

/// How long the disk may take to tell its serial number, in ns, and how often it is asked for that.
const IDENTITY_NS: u64 = 2_000_000_000;
const IDENTITY_LOOK_NS: u64 = 200_000;

/// What the driver says it is; a test builds one with another label.
const VERSION: &str = match option_env!("QUIRE_LABEL") {
    Some(label) => label,
    None => env!("CARGO_PKG_VERSION"),
};

type MachineDisk = VirtioDisk<RegisterWindow, DmaPool<'static>>;

/// Serves the device until the supervisor is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let function = PciFunction::take(&executor, startup)?;
    let device = match Device::of(&function) {
        Ok(device) => device,
        Err(reason) => {
            error!("{reason}");
            return Ok(());
        }
    };
    let processors = system::system_info().map_or(1, |info| info.processors as u16);
    let disk = VirtioDisk::new(device, function.memory()?, function.interrupts.len() as u16, processors);
    let control = startup.take::<ChannelEndpoint>(purpose::SERVE)?;
    executor.block_on(async {
        match start(&executor, disk).await {
            Ok(disk) => {
                driver::serve(&executor, control, disk, PinnedFrames::new(&function.space), function.interrupts).await
            }
            Err(DiskFailed) => {
                error!("the disk can't be started");
                Ok(())
            }
        }
    })?
}

/// Brings the disk up.
async fn start(executor: &Executor, mut disk: MachineDisk) -> Result<MachineDisk, DiskFailed> {
    driver::bring_up(executor, &mut disk).await?;
    let patience_ns = executor.now_ns().saturating_add(IDENTITY_NS);
    disk.ask_identity()?;
    while !disk.identity()? {
        if executor.now_ns() > patience_ns {
            return Err(DiskFailed);
        }
        executor.sleep_ns(IDENTITY_LOOK_NS).await;
    }
    driver::say(VERSION, &disk);
    Ok(disk)
}
