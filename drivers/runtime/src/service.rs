//! What many drivers' programs run: a service, written as a state machine that never waits, on its objects.
//!
//! The service is told of every request as it comes, and asked to work whenever something has happened: a request, an interrupt, or the
//! time that it named. So a test drives exactly the code that ships, with clients of its own.

use crate::{DeviceError, InterruptSource};
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll};
use driver_protocol::{Refusal, Words};
use futures_util::future::{Either, select};
use log::error;
use quire_api::executor::{Interrupts, Messages};
use quire_api::{Executor, FOREVER, Message, Reply, Request};

/// The client is gone, or its buffer can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientError;

/// A client that waits for the answer to its request.
pub trait Client: Sized {
    /// Reads from the request's send buffer; returns how many bytes.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError>;

    /// Writes to the request's receive buffer; returns how many bytes.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, ClientError>;

    /// Answers the request.
    fn answer(self, label: u64, words: Words);

    /// Says that the request is not served.
    fn refuse(self, refusal: Refusal) {
        self.answer(refusal as u64, Words::default());
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The request's label.
    pub label: u64,
    /// Its words.
    pub words: Words,
    /// How long its send buffer is, in bytes.
    pub send_bytes: u64,
    /// How long its receive buffer is, in bytes.
    pub receive_bytes: u64,
}

/// When a [`Service`] wants to work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Now: there is more to do.
    Now,
    /// At the next interrupt or request, but after so many ns at the latest.
    Within(u64),
    /// At the next interrupt or request.
    AtEvent,
}

/// The work of a driver.
pub trait Service<C: Client> {
    /// Why it can't go on: a sentence for people.
    type Error: fmt::Display;

    /// Takes a request in. It works afterwards.
    fn request(&mut self, asked: &Asked, client: C);

    /// Does what can be done now, at the time `now_ns`. Interrupts have been acknowledged before.
    fn work(&mut self, now_ns: u64) -> Result<Next, Self::Error>;
}

/// A caller that waits.
#[derive(Debug)]
pub struct Caller {
    reply: Reply,
    executor: Executor,
}

impl Client for Caller {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError> {
        self.reply.read_buffer(offset, buffer).map_err(|_| ClientError)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, ClientError> {
        self.reply.write_buffer(offset, bytes).map_err(|_| ClientError)
    }

    fn answer(self, label: u64, words: Words) {
        if let Err(error) = self.executor.answer(self.reply, Message::new(label, words)) {
            error!("an answer was refused: {}", error.describe());
        }
    }
}

/// Runs a service until its last client is gone, or it can't go on, which is said.
pub async fn serve(
    executor: &Executor,
    mut service: impl Service<Caller>,
    mut interrupts: Vec<Interrupts>,
    mut messages: Messages,
) {
    loop {
        let next = match service.work(executor.now_ns()) {
            Ok(next) => next,
            Err(reason) => return error!("{reason}"),
        };
        let wake_ns = match next {
            Next::Now => executor.now_ns(),
            Next::Within(ns) => executor.now_ns().saturating_add(ns),
            Next::AtEvent => FOREVER,
        };
        let device = pin!(async {
            select(pin!(any(&mut interrupts)), executor.sleep_until(wake_ns)).await;
        });
        match select(pin!(messages.receive()), device).await {
            Either::Left((None, _)) => return,
            Either::Left((Some(request), _)) => take_in(executor, &mut service, request),
            Either::Right(_) => {}
        }
    }
}

fn take_in(executor: &Executor, service: &mut impl Service<Caller>, request: Request) {
    // Nobody waits for what is sent without a reply.
    let Some(reply) = request.reply else { return };
    let asked = Asked {
        label: request.message.label,
        words: request.message.words,
        send_bytes: request.send_len,
        receive_bytes: request.receive_len,
    };
    service.request(&asked, Caller { reply, executor: executor.clone() });
}

/// Waits for any of the interrupts, and acknowledges all that came.
async fn any(interrupts: &mut [Interrupts]) {
    poll_fn(|context| if take_all(interrupts, context) { Poll::Ready(()) } else { Poll::Pending }).await;
}

fn take_all(interrupts: &mut [Interrupts], context: &mut Context<'_>) -> bool {
    let mut has_come = false;
    for interrupt in interrupts {
        if pin!(InterruptSource::wait(interrupt)).poll(context).is_ready() {
            if let Err(DeviceError) = InterruptSource::acknowledge(interrupt) {
                error!("an interrupt can't be acknowledged");
            }
            has_come = true;
        }
    }
    has_come
}
