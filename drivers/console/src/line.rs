//! The service: a stream of bytes both ways, for clients that are not trusted.
//!
//! The life of a write: the request is queued; its bytes are fetched from the client's buffer in parts (the client
//! waits, so the buffer stays), but for those that were sent already; whenever the device takes some, as many go there as it takes; after the
//! last, the client is answered. A read waits until there is a byte. Nothing here waits: [`Line::work`](Service::work) does what can be
//! done now, and says when to come again.

use crate::state::State;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use driver_protocol::console::{
    ANYWHERE, MAX_READ_BYTES, MAX_WRITE_BYTES, MAX_WRITES, ReadAnswer, ReadWords, Request, WINDOW_BYTES,
};
use driver_protocol::{ANSWERED, Refusal, Words};
use driver_runtime::{Asked, Client, ClientError, DeviceError, Kept, Next, Service};

pub use driver_protocol::console::WindowSize as Window;

/// How many drains may wait.
const MAX_DRAINS: usize = 16;
/// How many bytes are fetched from a client at once.
const FETCH_BYTES: usize = 4096;
/// How many bytes one turn sends or receives at most, so that requests and interrupts get their turn.
const TURN_BYTES: usize = 16 << 10;
/// When to look again at a device that has not said that it takes more, in case its interrupt got lost.
const LOST_INTERRUPT_NS: u64 = 20_000_000;
/// How long bytes of a stream are held back at most, so that they reach the reader in larger pieces.
const GATHER_NS: u64 = 1_000_000;
/// How many bytes are not held back any more.
const GATHER_BYTES: usize = 1024;
/// When to look again at whether the last byte has left the device; no interrupt tells that.
const DRAIN_NS: u64 = 1_000_000;

/// What [`Device::receive`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes that were put into the buffer.
    pub len_bytes: usize,
    /// Bytes that the device has lost, or garbled.
    pub lost_bytes: u64,
}

/// Notes how many bytes were sent, and the device's mark then; see [`crate::state`].
pub type Note<'a> = dyn FnMut(usize, u16) -> Result<(), DeviceError> + 'a;

/// The device at the end of the line.
pub trait Device {
    /// Why it can't be used any more: a sentence for people.
    type Error: fmt::Display + From<DeviceError>;

    /// How many bytes come at once at least if more are on their way. Those that somebody types come one by one.
    const STREAM_BYTES: usize;

    /// Moves what came in into the buffer, as far as there is something and it fits.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, Self::Error>;

    /// Sends bytes, the first of which is at this position in all that was ever sent, and notes how many, with its mark for a successor,
    /// once: when they can't be taken back any more, or just before. Until it has noted some it is offered the same again.
    fn send(&mut self, position: u64, bytes: &[u8], note: &mut Note<'_>) -> Result<(), Self::Error>;

    /// Whether all that it was given has left it.
    fn has_sent_all(&mut self) -> Result<bool, Self::Error>;

    /// Whether it has no reason for an interrupt, so that its next one will be a new one.
    fn is_quiet(&mut self) -> Result<bool, Self::Error>;

    /// What it says of itself for a successor, when what was received last has been noted; see [`crate::state`].
    fn received_mark(&self) -> u16 {
        0
    }

    /// The size of its window, if it has one and knows.
    fn window(&self) -> Option<Window> {
        None
    }

    /// Does what is due at a time; in how many ns it wants to be asked again.
    fn work(&mut self, now_ns: u64) -> Result<Option<u64>, Self::Error> {
        let _ = now_ns;
        Ok(None)
    }
}

/// A write that is being served.
struct Write<C> {
    client: C,
    position: u64,
    /// At most [`MAX_WRITE_BYTES`].
    len_bytes: usize,
    fetched: usize,
    has_begun: bool,
}

/// A read that waits for bytes.
struct Read<C> {
    client: C,
    room_bytes: usize,
    words: ReadWords,
}

/// Counts of what is queued before something, ever growing.
type Position = u64;

/// The service of one line.
pub struct Line<D, K, C> {
    device: D,
    state: State<K>,
    /// Until when bytes are held back, because more are likely to follow at once.
    gather_until_ns: Option<u64>,
    reader: Option<Read<C>>,
    writes: VecDeque<Write<C>>,
    /// Bytes of the first write, fetched but not sent from `staged_at` on.
    staged: Vec<u8>,
    staged_at: usize,
    /// How many writes were accepted, and how many of them are finished.
    accepted: Position,
    finished: Position,
    /// Clients that wait until the writes accepted before them are sent.
    drains: VecDeque<(C, Position)>,
}

impl<D: Device, K: Kept, C: Client> Line<D, K, C> {
    /// Serves a device that was set up, from what is known of it.
    pub fn new(device: D, state: State<K>) -> Self {
        Self {
            device,
            state,
            gather_until_ns: None,
            reader: None,
            writes: VecDeque::new(),
            staged: Vec::new(),
            staged_at: 0,
            accepted: 0,
            finished: 0,
            drains: VecDeque::new(),
        }
    }

    fn accept_write(&mut self, client: C, asked: &Asked) {
        if self.writes.len() >= MAX_WRITES {
            return client.refuse(Refusal::Busy);
        }
        let len_bytes = usize::try_from(asked.send_bytes).unwrap_or(MAX_WRITE_BYTES).min(MAX_WRITE_BYTES);
        let [position, ..] = asked.words;
        self.writes.push_back(Write { client, position, len_bytes, fetched: 0, has_begun: false });
        self.accepted += 1;
    }

    fn accept_read(&mut self, client: C, asked: &Asked) {
        let room_bytes = usize::try_from(asked.receive_bytes).unwrap_or(MAX_READ_BYTES).min(MAX_READ_BYTES);
        if room_bytes == 0 {
            client.refuse(Refusal::BadBuffer);
        } else if self.reader.is_some() {
            client.refuse(Refusal::Busy);
        } else {
            self.reader = Some(Read { client, room_bytes, words: ReadWords::decode(&asked.words) });
        }
    }

    fn accept_drain(&mut self, client: C) {
        if self.drains.len() >= MAX_DRAINS {
            return client.refuse(Refusal::Busy);
        }
        self.drains.push_back((client, self.accepted));
    }

    /// Decides whether to hold bytes back. Those that somebody types come one by one and are not; where as many came at
    /// once as a stream brings, more are on their way.
    fn gather(&mut self, received: usize, now_ns: u64) {
        let is_stream = received >= D::STREAM_BYTES;
        self.gather_until_ns = match self.gather_until_ns {
            _ if self.state.waiting_bytes() >= GATHER_BYTES => None,
            None if is_stream => Some(now_ns.saturating_add(GATHER_NS)),
            None => None,
            Some(until_ns) => Some(until_ns).filter(|until_ns| now_ns < *until_ns),
        };
    }

    /// Moves what came in to the window; returns how many bytes.
    fn receive(&mut self) -> Result<usize, D::Error> {
        let mut total = 0;
        let mut buffer = [0; 256];
        while total < TURN_BYTES {
            let Received { len_bytes, lost_bytes } = self.device.receive(&mut buffer)?;
            if len_bytes == 0 && lost_bytes == 0 {
                break;
            }
            let bytes = buffer.get(..len_bytes).unwrap_or_default();
            self.state.receive(bytes, lost_bytes, self.device.received_mark())?;
            total += len_bytes;
        }
        Ok(total)
    }

    /// Answers the reader, if there are bytes for it, or its window is another. The bytes stay until the next reader says that they were
    /// taken.
    fn deliver(&mut self) -> Result<(), D::Error> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let is_counting = reader.words.position != ANYWHERE;
        if is_counting {
            self.state.take(reader.words.position)?;
        }
        let window = self.device.window().unwrap_or_default();
        let waiting = self.state.waiting_bytes();
        if waiting == 0 && (!is_counting || window == reader.words.window) {
            return Ok(());
        }
        let Some(Read { client, room_bytes, words: _ }) = self.reader.take() else { return Ok(()) };
        let Ok(written) = self.copy_out(&client, room_bytes.min(waiting))? else {
            client.refuse(Refusal::BadBuffer);
            return Ok(());
        };
        let (position, lost_bytes) = (self.state.taken(), self.state.take_lost()?);
        if !is_counting {
            self.state.take(position + written as u64)?;
        }
        client.answer(ANSWERED, ReadAnswer { len_bytes: written as u64, lost_bytes, position, window }.encode());
        Ok(())
    }

    /// Copies bytes that wait into a reader's buffer; returns how many.
    fn copy_out(&self, client: &C, count: usize) -> Result<Result<usize, ClientError>, D::Error> {
        let mut buffer = [0; MAX_READ_BYTES];
        let mut copied = 0;
        while copied < count {
            let found = self.state.peek(copied, buffer.get_mut(..count - copied).unwrap_or_default())?;
            let bytes = buffer.get(..found).unwrap_or_default();
            match client.write(copied as u64, bytes) {
                Ok(written) if written > 0 => copied += written.min(bytes.len()),
                Ok(_) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(copied))
    }

    /// Sends as long as the device takes bytes at once; returns how many.
    fn transmit(&mut self) -> Result<usize, D::Error> {
        let mut sent = 0;
        while sent < TURN_BYTES && self.stage()? {
            let bytes = self.staged.get(self.staged_at..).unwrap_or_default();
            let position = self.state.sent();
            let (state, mut count) = (&mut self.state, 0);
            self.device.send(position, bytes, &mut |sent, mark| {
                count = sent.min(bytes.len());
                state.set_sent(position + count as u64, mark)
            })?;
            if count == 0 {
                break;
            }
            self.staged_at += count;
            sent += count;
            self.finish_write();
        }
        Ok(sent)
    }

    /// Makes sure that there are staged bytes to send; `false` if no write has any.
    fn stage(&mut self) -> Result<bool, D::Error> {
        while self.staged_at >= self.staged.len() {
            self.begin_write()?;
            self.finish_write();
            let Some(write) = self.writes.front_mut() else { return Ok(false) };
            if !write.has_begun {
                continue;
            }
            self.staged_at = 0;
            self.staged.resize(FETCH_BYTES.min(write.len_bytes - write.fetched), 0);
            match write.client.read(write.fetched as u64, &mut self.staged) {
                Ok(count) if count > 0 => {
                    self.staged.truncate(count);
                    write.fetched += self.staged.len();
                }
                Ok(_) | Err(ClientError) => {
                    self.staged.clear();
                    self.finished += 1;
                    if let Some(write) = self.writes.pop_front() {
                        write.client.refuse(Refusal::BadBuffer);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Begins the first write where it was left off.
    fn begin_write(&mut self) -> Result<(), D::Error> {
        let sent = self.state.sent();
        let Some(write) = self.writes.front_mut().filter(|write| !write.has_begun) else { return Ok(()) };
        write.has_begun = true;
        let position = if write.position == ANYWHERE { sent } else { write.position };
        write.fetched = usize::try_from(sent.saturating_sub(position)).unwrap_or(usize::MAX).min(write.len_bytes);
        if position > sent {
            // What is between, its client does not want any more.
            self.state.skip_to(position)?;
        }
        Ok(())
    }

    /// Answers the first write if all of it is with the device.
    fn finish_write(&mut self) {
        let all_staged_sent = self.staged_at >= self.staged.len();
        let is_done = |write: &Write<C>| write.has_begun && write.fetched == write.len_bytes;
        if all_staged_sent && self.writes.front().is_some_and(is_done) {
            self.finished += 1;
            let Some(write) = self.writes.pop_front() else { return };
            write.client.answer(ANSWERED, [write.len_bytes as u64, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Answers the drains whose writes have left the device; `false` if one waits only for the device.
    fn finish_drains(&mut self) -> Result<bool, D::Error> {
        while self.drains.front().is_some_and(|(_, position)| *position <= self.finished) {
            if !self.device.has_sent_all()? {
                return Ok(false);
            }
            if let Some((client, _)) = self.drains.pop_front() {
                client.answer(ANSWERED, Words::default());
            }
        }
        Ok(true)
    }
}

impl<D: Device, K: Kept, C: Client> Service<C> for Line<D, K, C> {
    type Error = D::Error;

    fn request(&mut self, asked: &Asked, client: C) {
        match Request::from_label(asked.label) {
            Some(Request::Write) => self.accept_write(client, asked),
            Some(Request::Read) => self.accept_read(client, asked),
            Some(Request::Drain) => self.accept_drain(client),
            None => client.refuse(Refusal::Unknown),
        }
    }

    fn work(&mut self, now_ns: u64) -> Result<Next, D::Error> {
        let received = self.receive()?;
        self.gather(received, now_ns);
        if self.gather_until_ns.is_none() {
            self.deliver()?;
        }
        let sent = self.transmit()?;
        let drained = self.finish_drains()?;
        let due = self.device.work(now_ns)?;
        if received >= TURN_BYTES || sent >= TURN_BYTES || !self.device.is_quiet()? {
            return Ok(Next::Now);
        }
        let sending = (!self.writes.is_empty()).then_some(LOST_INTERRUPT_NS);
        let draining = (!drained).then_some(DRAIN_NS);
        let gathering = self.gather_until_ns.map(|until_ns| until_ns.saturating_sub(now_ns));
        let soonest = [sending, draining, gathering, due].into_iter().flatten().min();
        Ok(soonest.map_or(Next::AtEvent, Next::Within))
    }
}

/// The window must hold what one read gives.
const _: () = assert!(WINDOW_BYTES >= MAX_READ_BYTES);
