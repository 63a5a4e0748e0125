//! Serial lines, by their drivers; and the end of the machine, by the supervisor.

use crate::errno::{Errno, Result};
use crate::platform::{Ending, LocalFuture};
use crate::tty::serial::ByteStream;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::{Refusal, console, supervisor};
use quire_api::abi::system::Shutdown;
use quire_api::executor::{Answer, Buffers};
use quire_api::{ChannelEndpoint, Error, Message};

/// How long it takes until a line's driver that ended is asked again, in ns.
const PAUSE_NS: u64 = 1_000_000;

/// A serial line, by its driver.
pub struct Line {
    executor: quire_api::Executor,
    channel: Rc<ChannelEndpoint>,
}

impl Line {
    /// A line whose driver serves the other end of `channel`.
    pub fn new(executor: &quire_api::Executor, channel: ChannelEndpoint) -> Self {
        Self { executor: executor.clone(), channel: Rc::new(channel) }
    }

    /// Waits until everything written is sent.
    pub async fn drain(&self) {
        // If the line fails, nothing is left to wait for.
        while let Ok(None) = call(&self.executor, &self.channel, drain(), Buffers::default()).await {}
    }
}

impl ByteStream for Line {
    fn read(&self) -> LocalFuture<Result<Vec<u8>>> {
        let (executor, channel) = (self.executor.clone(), self.channel.clone());
        Box::pin(async move {
            loop {
                let receive = vec![0; console::MAX_READ_BYTES];
                let request = Message::new(console::Request::Read.label(), [0; 8]);
                let buffers = Buffers { send: Vec::new(), receive };
                let Some(answer) = call(&executor, &channel, request, buffers).await? else { continue };
                Refusal::check(answer.message.label).map_err(|_| Errno::EIO)?;
                let read = console::ReadAnswer::decode(&answer.message.words);
                if read.lost_bytes > 0 {
                    log::warn!("{} bytes from a serial line were lost", read.lost_bytes);
                }
                let mut bytes = answer.buffers.receive;
                bytes.truncate(usize::try_from(read.len_bytes).unwrap_or(usize::MAX));
                if !bytes.is_empty() {
                    return Ok(bytes);
                }
            }
        })
    }

    fn write(&self, bytes: Vec<u8>) -> LocalFuture<Result<()>> {
        let (executor, channel) = (self.executor.clone(), self.channel.clone());
        Box::pin(async move {
            let mut rest = bytes;
            while !rest.is_empty() {
                let request = Message::new(console::Request::Write.label(), [0; 8]);
                let buffers = Buffers { send: rest.clone(), receive: Vec::new() };
                let Some(answer) = call(&executor, &channel, request, buffers).await? else { continue };
                Refusal::check(answer.message.label).map_err(|_| Errno::EIO)?;
                let [taken, ..] = answer.message.words;
                let mut sent = answer.buffers.send;
                let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(sent.len());
                if taken == 0 {
                    return Err(Errno::EIO);
                }
                rest = sent.split_off(taken);
            }
            Ok(())
        })
    }
}

fn drain() -> Message {
    Message::new(console::Request::Drain.label(), [0; 8])
}

/// Calls a line's driver. `None` if it did not live to answer: then its successor is to be asked.
async fn call(
    executor: &quire_api::Executor,
    channel: &ChannelEndpoint,
    request: Message,
    buffers: Buffers,
) -> Result<Option<Answer>> {
    match executor.call(channel, request, buffers).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::PeerClosed) => {
            executor.sleep_ns(PAUSE_NS).await;
            Ok(None)
        }
        Err(_) => Err(Errno::EIO),
    }
}

/// Asks the supervisor to end the machine.
pub async fn shut_down(executor: &quire_api::Executor, supervisor: &ChannelEndpoint, ending: Ending) {
    let how = match ending {
        Ending::Success => Shutdown::PowerOff,
        Ending::Failure => Shutdown::Failure,
    };
    let (label, words) = supervisor::Request::ShutDown(how).encode();
    let answer = executor.call(supervisor, Message::new(label, words), Buffers::default()).await;
    if let Err(error) = answer {
        log::error!("the supervisor does not end the machine: {}", error.describe());
    }
}
