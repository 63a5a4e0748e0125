//! The driver on its objects.

use alloc::vec::Vec;
use console::state::DEVICE_AREA;
use console::{Line, State};
use driver_protocol::purpose;
use driver_runtime::service;
use log::error;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor, Interrupt, IoPorts, Memory, SharedMapping};
use serial::uart::Uart;

/// Serves the device until its last client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let ports: IoPorts = startup.take(purpose::PORTS)?;
    let interrupts = Vec::from([executor.interrupts(startup.take::<Interrupt>(purpose::INTERRUPT)?)?]);
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    let kept = SharedMapping::new(&startup.take::<Memory>(purpose::KEPT)?, DEVICE_AREA)?;
    let uart = Uart::new(ports);
    let line = State::open(kept).and_then(|(mut state, beginning)| {
        state.take_back(uart.begin(beginning)?)?;
        Ok(Line::new(uart, state))
    });
    match line {
        Ok(line) => executor.block_on(service::serve(&executor, line, interrupts, messages)),
        Err(reason) => {
            error!("{reason}");
            Ok(())
        }
    }
}
