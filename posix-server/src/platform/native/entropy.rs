//! A source of randomness, by its driver.

use crate::errno::{Errno, Result};
use crate::platform::LocalFuture;
use crate::random::Source;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::Refusal;
use driver_protocol::entropy::{MAX_READ_BYTES, Request};
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Message};

/// How often a driver is asked that dies meanwhile: its successor may have what it had not.
const ATTEMPTS: usize = 8;

/// A channel to the driver.
pub struct EntropyChannel {
    executor: quire_api::Executor,
    channel: Rc<ChannelEndpoint>,
}

impl EntropyChannel {
    /// A source whose driver serves the other end of `channel`.
    pub fn new(executor: &quire_api::Executor, channel: ChannelEndpoint) -> Self {
        Self { executor: executor.clone(), channel: Rc::new(channel) }
    }
}

impl Source for EntropyChannel {
    fn read(&self, most: usize) -> LocalFuture<Result<Vec<u8>>> {
        let (executor, channel) = (self.executor.clone(), self.channel.clone());
        Box::pin(async move {
            for _ in 0..ATTEMPTS {
                let buffers = Buffers { send: Vec::new(), receive: vec![0; most.min(MAX_READ_BYTES)] };
                let request = Message::new(Request::Read.label(), [0; 8]);
                let answer = match executor.call(&channel, request, buffers).await {
                    Ok(answer) => answer,
                    Err(Error::PeerClosed) => continue,
                    Err(_) => break,
                };
                Refusal::check(answer.message.label).map_err(|_| Errno::EIO)?;
                let [count, ..] = answer.message.words;
                let mut bytes = answer.buffers.receive;
                bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                return if bytes.is_empty() { Err(Errno::EIO) } else { Ok(bytes) };
            }
            Err(Errno::EIO)
        })
    }
}
