//! The driver on its objects.

use alloc::rc::Rc;
use console::state::DEVICE_AREA;
use console::{Line, State};
use driver_protocol::purpose;
use driver_runtime::{DeviceError, PciFunction, Pieces, service};
use log::error;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, DmaBuffer, Error, Executor, Memory, RegisterWindow, SharedMapping};
use virtio::Device;
use virtio_console::port::{DEVICE_BYTES, Port};

type MachineLine = Line<Port<RegisterWindow, driver_runtime::Piece<DmaBuffer>>, SharedMapping, service::Caller>;

/// Serves the device until its last client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let function = PciFunction::take(&executor, startup)?;
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    let kept: Memory = startup.take(purpose::KEPT)?;
    let shared = DmaBuffer::of(&kept, DEVICE_AREA as u64, DEVICE_BYTES, &function.space)?;
    let kept = SharedMapping::new(&kept, DEVICE_AREA)?;
    executor.block_on(async {
        match start(&executor, &function, shared, kept).await {
            Ok(line) => service::serve(&executor, line, function.interrupts, messages).await,
            Err(reason) => error!("{reason}"),
        }
    })
}

async fn start(
    executor: &Executor,
    function: &PciFunction,
    shared: DmaBuffer,
    kept: SharedMapping,
) -> Result<MachineLine, virtio::Error> {
    let (mut state, beginning) = State::open(kept).map_err(|DeviceError| virtio::Error::Unreachable)?;
    let pieces = Pieces::new(Rc::new(shared));
    let device = Device::of(function)?;
    let port = Port::start(device, &pieces, function.interrupts.len(), executor, (&mut state, beginning)).await?;
    Ok(Line::new(port, state))
}
