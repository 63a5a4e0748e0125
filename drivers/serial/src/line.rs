//! The service: a stream of bytes both ways, for clients that are not trusted.
//!
//! The life of a write: the request is queued; its bytes are fetched from the client's buffer in parts (the client
//! waits, so the buffer stays); whenever the chip's FIFO is empty, sixteen of them go there with one access; after the last,
//! the client is answered. A read waits until there is a byte. Nothing here waits: [`Line::service`] does what can be done
//! now, and says when to come again.

use crate::uart::{LineStatus, RECEIVE_TRIGGER, Uart};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use driver_protocol::console::{MAX_READ_BYTES, MAX_WRITE_BYTES, MAX_WRITES, ReadAnswer, Request, WINDOW_BYTES};
use driver_protocol::{ANSWERED, Refusal, Words};
use driver_runtime::{DeviceError, Ports};

/// How many drains may wait.
const MAX_DRAINS: usize = 16;
/// How many bytes are fetched from a client at once.
const FETCH_BYTES: usize = 4096;
/// How many bytes one [`Line::service`] sends or receives at most, so that requests and interrupts get their turn.
const TURN_BYTES: usize = 16 << 10;
/// When to look again at a transmitter that has not said that it is empty, in case its interrupt got lost.
const LOST_INTERRUPT_NS: u64 = 20_000_000;
/// How long bytes of a stream are held back at most, so that they reach the reader in larger pieces.
const GATHER_NS: u64 = 1_000_000;
/// How many bytes are not held back any more.
const GATHER_BYTES: usize = 1024;
/// When to look again at whether the last byte has left the chip; no interrupt tells that.
const DRAIN_NS: u64 = 1_000_000;

/// The client is gone, or its buffer can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientError;

/// A client that waits for the answer to its request.
pub trait Client {
    /// Reads from the request's send buffer; returns how many bytes.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError>;

    /// Writes to the start of the request's receive buffer; returns how many bytes.
    fn write(&self, bytes: &[u8]) -> Result<usize, ClientError>;

    /// Answers the request.
    fn answer(self, label: u64, words: Words);
}

/// When [`Line::service`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Now: there is more to do.
    Now,
    /// At the next interrupt or request, but after so many ns at the latest.
    Within(u64),
    /// At the next interrupt or request.
    AtEvent,
}

/// A write that is being served. `len_bytes` is at most [`MAX_WRITE_BYTES`].
struct Write<C> {
    client: C,
    len_bytes: usize,
    fetched: usize,
}

/// A read that waits for bytes.
struct Read<C> {
    client: C,
    room_bytes: usize,
}

/// Counts of what is queued before something, ever growing.
type Position = u64;

/// The service of one serial line.
pub struct Line<P, C> {
    uart: Uart<P>,
    window: VecDeque<u8>,
    /// Until when bytes are held back, because more are likely to follow at once.
    gather_until_ns: Option<u64>,
    lost_bytes: u64,
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

impl<P: Ports, C: Client> Line<P, C> {
    /// Sets the device up.
    pub fn start(uart: Uart<P>) -> Result<Self, DeviceError> {
        uart.start()?;
        Ok(Self {
            uart,
            window: VecDeque::new(),
            gather_until_ns: None,
            lost_bytes: 0,
            reader: None,
            writes: VecDeque::new(),
            staged: Vec::new(),
            staged_at: 0,
            accepted: 0,
            finished: 0,
            drains: VecDeque::new(),
        })
    }

    /// Takes a request in. [`service`](Self::service) must be called afterwards.
    pub fn request(&mut self, label: u64, send_bytes: u64, receive_bytes: u64, client: C) {
        match Request::from_label(label) {
            Some(Request::Write) => self.accept_write(client, send_bytes),
            Some(Request::Read) => self.accept_read(client, receive_bytes),
            Some(Request::Drain) => self.accept_drain(client),
            None => refuse(client, Refusal::Unknown),
        }
    }

    fn accept_write(&mut self, client: C, send_bytes: u64) {
        if self.writes.len() >= MAX_WRITES {
            return refuse(client, Refusal::Busy);
        }
        let len_bytes = usize::try_from(send_bytes).unwrap_or(MAX_WRITE_BYTES).min(MAX_WRITE_BYTES);
        self.writes.push_back(Write { client, len_bytes, fetched: 0 });
        self.accepted += 1;
    }

    fn accept_read(&mut self, client: C, receive_bytes: u64) {
        let room_bytes = usize::try_from(receive_bytes).unwrap_or(MAX_READ_BYTES).min(MAX_READ_BYTES);
        if room_bytes == 0 {
            refuse(client, Refusal::BadBuffer);
        } else if self.reader.is_some() {
            refuse(client, Refusal::Busy);
        } else {
            self.reader = Some(Read { client, room_bytes });
        }
    }

    fn accept_drain(&mut self, client: C) {
        if self.drains.len() >= MAX_DRAINS {
            return refuse(client, Refusal::Busy);
        }
        self.drains.push_back((client, self.accepted));
    }

    /// Does what can be done now, at the time `now_ns`. To be called after every interrupt (which must have been
    /// acknowledged before) and request.
    pub fn service(&mut self, now_ns: u64) -> Result<Next, DeviceError> {
        let received = self.receive()?;
        self.gather(received, now_ns);
        if self.gather_until_ns.is_none() {
            self.deliver();
        }
        let sent = self.transmit()?;
        let drained = self.finish_drains()?;
        if received >= TURN_BYTES || sent >= TURN_BYTES || !self.uart.is_quiet()? {
            Ok(Next::Now)
        } else {
            let sending = (!self.writes.is_empty()).then_some(LOST_INTERRUPT_NS);
            let draining = (!drained).then_some(DRAIN_NS);
            let gathering = self.gather_until_ns.map(|until_ns| until_ns.saturating_sub(now_ns));
            let soonest = [sending, draining, gathering].into_iter().flatten().min();
            Ok(soonest.map_or(Next::AtEvent, Next::Within))
        }
    }

    /// Decides whether to hold bytes back. Those that somebody types come one by one and are not; where as many came at
    /// once as make the chip raise its interrupt, more are on their way.
    fn gather(&mut self, received: usize, now_ns: u64) {
        let is_stream = received >= RECEIVE_TRIGGER;
        self.gather_until_ns = match self.gather_until_ns {
            _ if self.window.len() >= GATHER_BYTES => None,
            None if is_stream => Some(now_ns.saturating_add(GATHER_NS)),
            None => None,
            Some(until_ns) => Some(until_ns).filter(|until_ns| now_ns < *until_ns),
        };
    }

    /// Moves what came in to the window; returns how many bytes.
    fn receive(&mut self) -> Result<usize, DeviceError> {
        let mut total = 0;
        let mut buffer = [0; 256];
        while total < TURN_BYTES {
            let received = self.uart.receive(&mut buffer)?;
            self.lost_bytes = self.lost_bytes.saturating_add(received.lost_bytes);
            let bytes = buffer.get(..received.len_bytes).unwrap_or_default();
            let fitting = bytes.len().min(WINDOW_BYTES.saturating_sub(self.window.len()));
            self.window.extend(bytes.iter().take(fitting));
            self.lost_bytes = self.lost_bytes.saturating_add((bytes.len() - fitting) as u64);
            total += received.len_bytes;
            if received.len_bytes < buffer.len() {
                break;
            }
        }
        Ok(total)
    }

    /// Answers the reader, if there are bytes for it. Bytes that it could not take stay for the next one.
    fn deliver(&mut self) {
        if self.window.is_empty() {
            return;
        }
        let Some(Read { client, room_bytes }) = self.reader.take() else { return };
        let waiting = self.window.make_contiguous();
        let bytes = waiting.get(..room_bytes.min(waiting.len())).unwrap_or_default();
        match client.write(bytes) {
            Ok(written) => {
                let written = written.min(bytes.len());
                self.window.drain(..written);
                let lost_bytes = core::mem::take(&mut self.lost_bytes);
                client.answer(ANSWERED, ReadAnswer { len_bytes: written as u64, lost_bytes }.encode());
            }
            Err(ClientError) => refuse(client, Refusal::BadBuffer),
        }
    }

    /// Sends as long as the chip takes bytes at once; returns how many.
    fn transmit(&mut self) -> Result<usize, DeviceError> {
        let mut sent = 0;
        while sent < TURN_BYTES && self.stage() {
            if !self.uart.status()?.contains(LineStatus::TRANSMITTER_EMPTY) {
                break;
            }
            let count = self.uart.transmit(self.staged.get(self.staged_at..).unwrap_or_default())?;
            self.staged_at += count;
            sent += count;
            self.finish_write();
        }
        Ok(sent)
    }

    /// Makes sure that there are staged bytes to send; `false` if no write has any.
    fn stage(&mut self) -> bool {
        while self.staged_at >= self.staged.len() {
            self.finish_write();
            let Some(write) = self.writes.front_mut() else { return false };
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
                        refuse(write.client, Refusal::BadBuffer);
                    }
                }
            }
        }
        true
    }

    /// Answers the first write if all of it is with the chip.
    fn finish_write(&mut self) {
        let all_staged_sent = self.staged_at >= self.staged.len();
        while all_staged_sent && self.writes.front().is_some_and(|write| write.fetched == write.len_bytes) {
            self.finished += 1;
            let Some(write) = self.writes.pop_front() else { return };
            write.client.answer(ANSWERED, [write.len_bytes as u64, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Answers the drains whose writes have left the chip; `false` if one waits only for the chip.
    fn finish_drains(&mut self) -> Result<bool, DeviceError> {
        while self.drains.front().is_some_and(|(_, position)| *position <= self.finished) {
            if !self.uart.status()?.contains(LineStatus::ALL_SENT) {
                return Ok(false);
            }
            if let Some((client, _)) = self.drains.pop_front() {
                client.answer(ANSWERED, Words::default());
            }
        }
        Ok(true)
    }
}

fn refuse(client: impl Client, refusal: Refusal) {
    client.answer(refusal as u64, Words::default());
}

#[cfg(test)]
mod tests;
