//! The driver on its objects.

use driver_protocol::purpose;
use driver_runtime::{PciFunction, service};
use log::error;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor};
use virtio::Device;
use virtio_rng::entropy::Entropy;

/// Serves the device until its last client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let function = PciFunction::take(&executor, startup)?;
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    let memory = function.memory()?;
    executor.block_on(async {
        let started = match Device::of(&function) {
            Ok(device) => Entropy::start(device, &memory, function.interrupts.len(), &executor).await,
            Err(reason) => Err(reason),
        };
        match started {
            Ok(entropy) => service::serve(&executor, entropy, function.interrupts, messages).await,
            Err(reason) => error!("{reason}"),
        }
    })
}
