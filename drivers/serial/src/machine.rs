//! The driver on its objects.

use core::pin::pin;
use driver_protocol::{Words, purpose};
use driver_runtime::{DeviceError, InterruptSource};
use futures_util::future::{Either, select};
use log::error;
use quire_api::executor::{Interrupts, Messages, Sleep};
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor, FOREVER, Interrupt, IoPorts, Message, Reply, Request};
use serial::line::{Client, ClientError, Line, Next};
use serial::uart::Uart;

/// A caller that waits.
struct Caller {
    reply: Reply,
    executor: Executor,
}

impl Client for Caller {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError> {
        self.reply.read_buffer(offset, buffer).map_err(|_| ClientError)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, ClientError> {
        self.reply.write_buffer(0, bytes).map_err(|_| ClientError)
    }

    fn answer(self, label: u64, words: Words) {
        if let Err(error) = self.executor.answer(self.reply, Message::new(label, words)) {
            error!("an answer was refused: {}", error.describe());
        }
    }
}

/// Serves the device until its last client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::new(rt::account()?)?;
    let ports: IoPorts = startup.take(purpose::PORTS)?;
    let interrupts = executor.interrupts(startup.take::<Interrupt>(purpose::INTERRUPT)?)?;
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    if let Err(DeviceError) = executor.block_on(serve(executor.clone(), Uart::new(ports), interrupts, messages))? {
        error!("the device does not answer any more");
    }
    Ok(())
}

async fn serve(
    executor: Executor,
    uart: Uart<IoPorts>,
    mut interrupts: Interrupts,
    mut messages: Messages,
) -> Result<(), DeviceError> {
    let mut line = Line::start(uart)?;
    loop {
        let wake_ns = match line.service(executor.now_ns())? {
            Next::Now => executor.now_ns(),
            Next::Within(ns) => executor.now_ns().saturating_add(ns),
            Next::AtEvent => FOREVER,
        };
        match next_event(&mut messages, &mut interrupts, executor.sleep_until(wake_ns)).await {
            Event::Request(request) => {
                let Some(reply) = request.reply else { continue };
                let caller = Caller { reply, executor: executor.clone() };
                line.request(request.message.label, request.send_len, request.receive_len, caller);
            }
            Event::LastClientGone => return Ok(()),
            Event::Interrupt => InterruptSource::acknowledge(&interrupts)?,
            Event::Time => {}
        }
    }
}

/// Why the driver runs again.
enum Event {
    Request(Request),
    LastClientGone,
    Interrupt,
    Time,
}

async fn next_event(messages: &mut Messages, interrupts: &mut Interrupts, time: Sleep) -> Event {
    let interrupt = pin!(InterruptSource::wait(interrupts));
    match select(pin!(messages.receive()), select(interrupt, time)).await {
        Either::Left((Some(request), _)) => Event::Request(request),
        Either::Left((None, _)) => Event::LastClientGone,
        Either::Right((Either::Left(((), _)), _)) => Event::Interrupt,
        Either::Right((Either::Right(_), _)) => Event::Time,
    }
}
