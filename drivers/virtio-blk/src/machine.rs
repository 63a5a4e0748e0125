//! The driver on its objects.

use alloc::rc::Rc;
use alloc::vec::Vec;
use block::driver::{self, PinnedFrames};
use block::service::{Disk, DiskFailed, Restart};
use driver_protocol::purpose::{self, MAX_MESSAGES, MAX_WINDOWS};
use driver_runtime::DmaPool;
use log::{error, info};
use quire_api::executor::Interrupts;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, DmaSpace, Error, Executor, Interrupt, Memory, RegisterWindow, system};
use virtio::Device;
use virtio::pci::Layout;
use virtio_blk::disk::VirtioDisk;

/// Bytes of a configuration space that are looked at.
const CONFIGURATION_BYTES: usize = 256;
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
    let account = rt::account()?;
    let executor = Executor::new(account)?;
    let space: Rc<DmaSpace> = Rc::new(startup.take(purpose::DMA)?);
    let interrupts = interrupts(&executor, startup)?;
    let Some(device) = device(startup)? else {
        error!("this is no virtio device of version 1");
        return Ok(());
    };
    let processors = system::system_info().map_or(1, |info| info.processors as u16);
    let disk = VirtioDisk::new(device, DmaPool::new(account, &space), interrupts.len() as u16, processors);
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

/// The device, by its windows; `None` if it is none of ours.
fn device(startup: &Startup) -> Result<Option<Device<RegisterWindow>>, Error> {
    let mut configuration = [0; CONFIGURATION_BYTES];
    startup.take::<Memory>(purpose::CONFIGURATION)?.read_exact(0, &mut configuration)?;
    let Some(layout) = Layout::parse(&configuration) else { return Ok(None) };
    let mut windows: [Option<Rc<RegisterWindow>>; MAX_WINDOWS as usize] = Default::default();
    for (bar, window) in (0..MAX_WINDOWS).zip(&mut windows) {
        if let Ok(memory) = startup.take::<Memory>(purpose::window(bar)) {
            let len_bytes = memory.info()?.size;
            *window = Some(Rc::new(RegisterWindow::map(&memory, 0, len_bytes)?));
        }
    }
    Ok(Device::new(&layout, |bar| windows.get(usize::from(bar)).cloned().flatten()).ok())
}

/// Brings the disk up.
async fn start(executor: &Executor, mut disk: MachineDisk) -> Result<MachineDisk, DiskFailed> {
    let mut progress = disk.restart()?;
    while let Restart::AgainIn(ns) = progress {
        executor.sleep_ns(ns).await;
        progress = disk.restart_step()?;
    }
    let patience_ns = executor.now_ns().saturating_add(IDENTITY_NS);
    disk.ask_identity()?;
    while !disk.identity()? {
        if executor.now_ns() > patience_ns {
            return Err(DiskFailed);
        }
        executor.sleep_ns(IDENTITY_LOOK_NS).await;
    }
    let limits = disk.limits();
    info!(
        "{VERSION}: {} sectors, {} requests of {} segments at once",
        disk.description().sectors,
        limits.in_flight,
        limits.segments
    );
    Ok(disk)
}
