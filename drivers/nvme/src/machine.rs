//! The driver on its objects.

use alloc::rc::Rc;
use alloc::vec::Vec;
use block::driver::{self, PinnedFrames};
use block::service::{Disk, DiskFailed, Restart};
use driver_protocol::purpose::{self, MAX_MESSAGES};
use driver_runtime::DmaPool;
use log::{error, info};
use nvme::disk::NvmeDisk;
use quire_api::executor::Interrupts;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, DmaSpace, Error, Executor, Interrupt, Memory, RegisterWindow};

type MachineDisk = NvmeDisk<RegisterWindow, DmaPool<'static>>;

/// Serves the device until the supervisor is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let account = rt::account()?;
    let executor = Executor::new(account)?;
    let space: Rc<DmaSpace> = Rc::new(startup.take(purpose::DMA)?);
    let interrupts = interrupts(&executor, startup)?;
    let memory: Memory = startup.take(purpose::window(0))?;
    let registers = RegisterWindow::map(&memory, 0, memory.info()?.size)?;
    let disk = NvmeDisk::new(registers, DmaPool::new(account, &space), interrupts.len() as u16);
    let control = startup.take::<ChannelEndpoint>(purpose::SERVE)?;
    executor.block_on(async {
        match start(&executor, disk).await {
            Ok(disk) => driver::serve(&executor, control, disk, PinnedFrames::new(&space), interrupts).await,
            Err(DiskFailed) => {
                error!("the disk can't be started");
                Ok(())
            }
        }
    })?
}

/// The interrupts that the driver was given.
fn interrupts(executor: &Executor, startup: &Startup) -> Result<Vec<Interrupts>, Error> {
    let given = (0..MAX_MESSAGES).map_while(|number| startup.take::<Interrupt>(purpose::message(number)).ok());
    given.map(|interrupt| executor.interrupts(interrupt)).collect()
}

/// Brings the disk up.
async fn start(executor: &Executor, mut disk: MachineDisk) -> Result<MachineDisk, DiskFailed> {
    let mut progress = disk.restart()?;
    while let Restart::AgainIn(ns) = progress {
        executor.sleep_ns(ns).await;
        progress = disk.restart_step()?;
    }
    let limits = disk.limits();
    info!(
        "{} sectors, {} requests of {} segments at once",
        disk.description().sectors,
        limits.in_flight,
        limits.segments
    );
    Ok(disk)
}
