//! Consoles, by their drivers; and the end of the machine, by the supervisor.

use crate::errno::{Errno, Result};
use crate::platform::{Ending, LocalFuture};
use crate::tty::serial::ByteStream;
use crate::tty::settings::WindowSize;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use driver_protocol::console::{self, ReadAnswer, ReadWords, Request, write_words};
use driver_protocol::{Refusal, Words, supervisor};
use quire_api::abi::system::Shutdown;
use quire_api::executor::{Answer, Buffers};
use quire_api::{ChannelEndpoint, Error, Message};

/// How often a request is made again whose driver dies with it, one after the other, and how long it takes until then, in ns.
const ATTEMPTS: usize = 100;
const PAUSE_NS: u64 = 1_000_000;

/// A serial line or another console, by its driver. What it has read and written is counted, so that a driver that takes another's place
/// goes on where that was.
#[derive(Clone)]
pub struct Line(Rc<Inner>);

struct Inner {
    executor: quire_api::Executor,
    channel: ChannelEndpoint,
    read: Cell<u64>,
    written: Cell<u64>,
    window: Cell<console::WindowSize>,
    has_new_window: Cell<bool>,
}

impl Line {
    /// A line whose driver serves the other end of `channel`.
    pub fn new(executor: &quire_api::Executor, channel: ChannelEndpoint) -> Self {
        Self(Rc::new(Inner {
            executor: executor.clone(),
            channel,
            read: Cell::new(0),
            written: Cell::new(0),
            window: Cell::default(),
            has_new_window: Cell::new(false),
        }))
    }

    /// Waits until everything written is sent.
    pub async fn drain(&self) {
        // If the driver is gone for good, nothing is left to wait for.
        let _ = self.0.ask(Request::Drain, [0; 8], Buffers::default).await;
    }
}

impl Inner {
    /// Makes a request, again if its driver dies meanwhile.
    async fn ask(&self, request: Request, words: Words, buffers: impl Fn() -> Buffers) -> Result<Answer> {
        for _ in 0..ATTEMPTS {
            match self.executor.call(&self.channel, Message::new(request.label(), words), buffers()).await {
                Ok(answer) => return Refusal::check(answer.message.label).map(|()| answer).map_err(|_| Errno::EIO),
                Err(Error::PeerClosed) => self.executor.sleep_ns(PAUSE_NS).await,
                Err(_) => break,
            }
        }
        Err(Errno::EIO)
    }

    async fn read(&self) -> Result<Vec<u8>> {
        loop {
            let words = ReadWords { position: self.read.get(), window: self.window.get() };
            let room = || Buffers { send: Vec::new(), receive: vec![0; console::MAX_READ_BYTES] };
            let answer = self.ask(Request::Read, words.encode(), room).await?;
            let read = ReadAnswer::decode(&answer.message.words);
            if read.lost_bytes > 0 {
                log::warn!("{} bytes from a console were lost", read.lost_bytes);
            }
            let mut bytes = answer.buffers.receive;
            bytes.truncate(usize::try_from(read.len_bytes).unwrap_or(usize::MAX));
            self.read.set(read.position.saturating_add(bytes.len() as u64));
            if self.window.replace(read.window) != read.window {
                self.has_new_window.set(true);
            }
            if !bytes.is_empty() || self.has_new_window.get() {
                return Ok(bytes);
            }
        }
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<()> {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let words = write_words(self.written.get());
            let buffers = || Buffers { send: rest.to_vec(), receive: Vec::new() };
            let answer = self.ask(Request::Write, words, buffers).await?;
            let [taken, ..] = answer.message.words;
            let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(rest.len());
            if taken == 0 {
                return Err(Errno::EIO);
            }
            self.written.set(self.written.get() + taken as u64);
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }
}

impl ByteStream for Line {
    fn read(&self) -> LocalFuture<Result<Vec<u8>>> {
        let line = self.0.clone();
        Box::pin(async move { line.read().await })
    }

    fn write(&self, bytes: Vec<u8>) -> LocalFuture<Result<()>> {
        let line = self.0.clone();
        Box::pin(async move { line.write(bytes).await })
    }

    fn take_new_window(&self) -> Option<WindowSize> {
        let console::WindowSize { rows, columns } = self.0.window.get();
        let is_known = rows > 0 && columns > 0;
        (self.0.has_new_window.take() && is_known).then(|| WindowSize { rows, columns, ..WindowSize::default() })
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
