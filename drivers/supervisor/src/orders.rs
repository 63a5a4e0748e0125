//! The service line: what the machine's owner, at its other end, wants of the supervisor ([`driver_protocol::orders`]).

use crate::programs::room_for;
use crate::watch::Watcher;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::console::{ANYWHERE, MAX_READ_BYTES, ReadAnswer, ReadWords, Request, write_words};
use driver_protocol::orders::{Decoder, Frame, MAX_NAME_BYTES};
use driver_protocol::{Refusal, Words};
use log::{error, info};
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Memory, Message};

/// How long it takes until a driver that did not answer is asked again, in ns.
const PAUSE_NS: u64 = 1_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// What there is to be done.
enum Order {
    Begin { len_bytes: u64, name: Vec<u8> },
    Part { offset: u64, bytes: Vec<u8> },
    List,
}

impl Order {
    /// What a frame asks for; `None` if it asks for nothing.
    fn of(frame: Frame<'_>) -> Option<Self> {
        match frame {
            Frame::Begin { len_bytes, name } => Some(Self::Begin { len_bytes, name: name.to_vec() }),
            Frame::Part { offset, bytes } => Some(Self::Part { offset, bytes: bytes.to_vec() }),
            Frame::List => Some(Self::List),
            Frame::Room(_) | Frame::Done(_) | Frame::Refused(_) => None,
        }
    }
}

/// An image that is on its way.
struct Incoming {
    name: String,
    memory: Memory,
    len_bytes: u64,
    /// How much of it is there.
    done: u64,
}

/// Serves the line, by the client's end of its driver's channel.
pub(crate) fn begin(watcher: &Watcher, line: ChannelEndpoint) {
    let orders = Orders { watcher: watcher.clone(), line, incoming: None, last: Vec::new() };
    watcher.executor.spawn(orders.serve());
}

struct Orders {
    watcher: Watcher,
    line: ChannelEndpoint,
    incoming: Option<Incoming>,
    /// The last answer, for an owner that did not hear it.
    last: Vec<u8>,
}

impl Orders {
    async fn serve(mut self) {
        let mut decoder = Decoder::default();
        loop {
            let bytes = match self.read().await {
                Ok(bytes) => bytes,
                Err(error) => return error!("the service line can't be read any more: {}", error.describe()),
            };
            let mut orders = Vec::new();
            decoder.push(&bytes, |frame| orders.extend(Order::of(frame)));
            for order in orders {
                let is_repeated =
                    matches!(order, Order::Part { .. }) && self.incoming.is_none() && !self.last.is_empty();
                if !is_repeated {
                    self.last.clear();
                    match self.obey(order).await {
                        Ok(Some(offset)) => Frame::Room(offset).encode(&mut self.last),
                        Ok(None) => {}
                        Err(reason) => Frame::Refused(reason.as_bytes()).encode(&mut self.last),
                    }
                }
                self.write().await;
            }
        }
    }

    /// Does what is to be done; gives from where on bytes are missing, or nothing if the answer is there already. An error is a sentence
    /// for people.
    async fn obey(&mut self, order: Order) -> Result<Option<u64>, String> {
        match order {
            Order::List => {
                Frame::Done(self.watcher.programs.list().as_bytes()).encode(&mut self.last);
                Ok(None)
            }
            Order::Begin { len_bytes, name } => {
                let name = String::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME_BYTES);
                let name = name.ok_or_else(|| String::from("no program has such a name"))?;
                self.incoming = Some(Incoming { name, memory: room_for(len_bytes)?, len_bytes, done: 0 });
                Ok(Some(0))
            }
            Order::Part { offset, bytes } => {
                let missing = String::from("the beginning is missing");
                let mut incoming = self.incoming.take().ok_or(missing)?;
                incoming.add(offset, &bytes)?;
                if incoming.done < incoming.len_bytes {
                    let done = incoming.done;
                    self.incoming = Some(incoming);
                    return Ok(Some(done));
                }
                let Incoming { name, memory, len_bytes, .. } = incoming;
                let ns = self.watcher.programs.replace(&self.watcher.executor, &name, memory, len_bytes).await?;
                let text = format!("{name} is replaced; its clients waited for {} ms", ns.div_ceil(NS_PER_MS));
                info!("{text}");
                Frame::Done(text.as_bytes()).encode(&mut self.last);
                Ok(None)
            }
        }
    }

    async fn read(&self) -> Result<Vec<u8>, Error> {
        loop {
            let buffers = Buffers { send: Vec::new(), receive: vec![0; MAX_READ_BYTES] };
            let words = ReadWords::ANYWHERE.encode();
            let Some((words, buffers)) = self.call(Request::Read, words, buffers).await? else { continue };
            let len_bytes = usize::try_from(ReadAnswer::decode(&words).len_bytes).unwrap_or(usize::MAX);
            let mut bytes = buffers.receive;
            bytes.truncate(len_bytes);
            return Ok(bytes);
        }
    }

    /// Sends the answer. What a driver that died has sent of it is sent again: the owner skips what makes no sense.
    async fn write(&self) {
        loop {
            let buffers = Buffers { send: self.last.clone(), receive: Vec::new() };
            match self.call(Request::Write, write_words(ANYWHERE), buffers).await {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(error) => return error!("the service line can't be written any more: {}", error.describe()),
            }
        }
    }

    /// Calls the line's driver; `None` if it did not live to answer.
    async fn call(&self, request: Request, words: Words, buffers: Buffers) -> Result<Option<(Words, Buffers)>, Error> {
        match self.watcher.executor.call(&self.line, Message::new(request.label(), words), buffers).await {
            Ok(answer) => match Refusal::check(answer.message.label) {
                Ok(()) => Ok(Some((answer.message.words, answer.buffers))),
                Err(_) => Err(Error::BadState),
            },
            Err(Error::PeerClosed) => {
                self.watcher.executor.sleep_ns(PAUSE_NS).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Incoming {
    fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        // What is there already, or not to be there yet, is not taken: the answer says from where on bytes are missing.
        if offset == self.done {
            let room = self.len_bytes - self.done;
            let bytes = bytes.get(..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))).unwrap_or_default();
            self.memory
                .write_all(offset, bytes)
                .map_err(|error| format!("no room for the image: {}", error.describe()))?;
            self.done += bytes.len() as u64;
        }
        Ok(())
    }
}
