//! The bytes of a connection.

use super::{Phase, TcpSocket};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, Source};
use crate::net::common::Shutdown;
use crate::net::unix::message::shrink;
use crate::net::unix::{Received, Request};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// The most bytes of one piece.
const PIECE_BYTES: usize = 32_768;
/// What a piece takes of the server's memory besides its bytes, about.
const PIECE_OVERHEAD: u64 = 64;
/// Small pieces are gathered up to this size.
const GATHERED_BYTES: usize = 2048;

/// Bytes that were received and not read.
#[derive(Debug)]
pub(super) struct Bytes {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have been read.
    start: usize,
    length: usize,
    /// What is kept, in bytes of the server's memory.
    kept: u64,
    charge: Charge,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), start: 0, length: 0, kept: 0, charge: Charge::none(Budget::Contents) }
    }
}

impl Bytes {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the next bytes of a source, up to a piece. `EFAULT`, `ENOBUFS`.
    fn push(&mut self, from: &mut dyn Source, most: usize) -> Result<usize> {
        let wanted = from.remaining().min(most).min(PIECE_BYTES);
        let gathers = self.pieces.back().is_some_and(|last| last.len() + wanted <= GATHERED_BYTES);
        let overhead = if gathers { 0 } else { PIECE_OVERHEAD };
        self.charge.resize(self.kept + wanted as u64 + overhead).map_err(|_| Errno::ENOBUFS)?;
        let mut piece = if gathers { self.pieces.pop_back().unwrap_or_default() } else { Vec::new() };
        let got = fill(&mut piece, wanted, from);
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
        if got == 0 {
            self.settle();
            return Err(Errno::EFAULT);
        }
        self.kept += got as u64 + overhead;
        self.length += got;
        self.settle();
        Ok(got)
    }

    /// Gives back what was paid for nothing.
    fn settle(&mut self) {
        // Giving back never fails.
        let _ = self.charge.resize(self.kept);
    }

    /// Hands over the bytes behind the first `skip`, as many as are taken; returns how many.
    fn copy(&self, skip: usize, to: &mut dyn Destination) -> usize {
        let (mut skip, mut total) = (skip + self.start, 0);
        for piece in &self.pieces {
            if to.remaining() == 0 {
                break;
            }
            let Some(rest) = piece.get(skip..).filter(|rest| !rest.is_empty()) else {
                skip -= piece.len();
                continue;
            };
            skip = 0;
            let part = rest.get(..rest.len().min(to.remaining())).unwrap_or_default();
            let taken = to.put(part);
            total += taken;
            if taken < part.len() {
                break;
            }
        }
        total
    }

    /// Removes the first bytes.
    fn consume(&mut self, count: usize) {
        self.length = self.length.saturating_sub(count);
        self.start += count;
        while let Some(length) = self.pieces.front().map(Vec::len).filter(|length| *length <= self.start) {
            self.pieces.pop_front();
            self.start -= length;
            self.kept = self.kept.saturating_sub(length as u64 + PIECE_OVERHEAD);
        }
        shrink(&mut self.pieces);
        self.settle();
    }
}

/// Adds bytes of a source to a piece; returns how many.
fn fill(piece: &mut Vec<u8>, count: usize, from: &mut dyn Source) -> usize {
    let before = piece.len();
    if piece.try_reserve(count).is_err() {
        return 0;
    }
    piece.resize(before + count, 0);
    let got = from.get(piece.get_mut(before..).unwrap_or_default());
    piece.truncate(before + got);
    got
}

/// Takes up to so many bytes for nobody; returns how many.
fn lose(from: &mut dyn Source, most: usize) -> usize {
    if from.remaining() <= most {
        return from.discard();
    }
    let mut scratch = [0; 4096];
    let mut lost = 0;
    while lost < most {
        let count = scratch.len().min(most - lost);
        let got = from.get(scratch.get_mut(..count).unwrap_or_default());
        lost += got;
        if got < count {
            break;
        }
    }
    lost
}

impl TcpSocket {
    /// How many bytes may be under way to the peer.
    fn capacity(&self) -> usize {
        self.common.send_buffer.get() as usize + self.common.receive_buffer.get() as usize
    }

    fn room(&self) -> usize {
        let under_way = self.live_peer().map_or(0, |peer| peer.inbox.borrow().len());
        self.capacity().saturating_sub(under_way)
    }

    /// Whether `poll` says that it can be written: when a third of the room is free.
    pub(super) fn is_writable(&self) -> bool {
        self.room() * 3 >= self.capacity()
    }

    /// Sends as much as there is room for: at least something, else `EAGAIN`. `EPIPE`, `ECONNRESET`.
    pub fn send(self: &Rc<Self>, from: &mut dyn Source) -> Result<usize> {
        match self.phase.get() {
            Phase::Connecting => return Err(Errno::EAGAIN),
            Phase::Connected => {}
            Phase::Idle | Phase::Listening | Phase::Over => {
                self.common.check_error()?;
                return Err(Errno::EPIPE);
            }
        }
        self.common.check_error()?;
        if self.common.is_shut(Shutdown::SEND) {
            return Err(Errno::EPIPE);
        }
        let Some(peer) = self.live_peer() else { return Ok(self.send_to_nobody(from)) };
        let mut sent = 0;
        while from.remaining() > 0 {
            let room = self.room();
            if room == 0 {
                break;
            }
            let pushed = peer.inbox.borrow_mut().push(from, room);
            match pushed {
                Ok(count) => sent += count,
                Err(_) if sent > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        if sent == 0 && from.remaining() > 0 {
            return Err(Errno::EAGAIN);
        }
        peer.common.changed.wake();
        Ok(sent)
    }

    /// The peer has closed: what can be under way is lost, and the answer is a reset.
    fn send_to_nobody(&self, from: &mut dyn Source) -> usize {
        let lost = lose(from, self.capacity());
        if lost > 0 {
            let ended = self.common.is_shut(Shutdown::RECEIVE);
            self.reset(if ended { Errno::EPIPE } else { Errno::ECONNRESET });
        }
        lost
    }

    /// Receives, adding to what there is already. `EAGAIN`: that is not enough yet. `ENOTCONN`.
    pub fn receive(self: &Rc<Self>, to: &mut dyn Destination, request: Request, got: &mut Received) -> Result<()> {
        if request.wants_error {
            return Err(Errno::EAGAIN);
        }
        if matches!(self.phase.get(), Phase::Idle | Phase::Listening) && !self.common.has_error() {
            return Err(Errno::ENOTCONN);
        }
        let target = self.common.low_water(got.count + to.remaining(), request.waits_for_all);
        let wanted = to.remaining();
        let count = self.take(to, request, got.count)?;
        got.count += count;
        got.result = got.count;
        let is_full = wanted > 0 && to.remaining() == 0;
        if is_full || got.count >= target {
            return Ok(());
        }
        if got.count > 0 && (request.peeks && !request.waits_for_all) {
            return Ok(());
        }
        if got.count == 0 {
            self.common.check_error()?;
        }
        let is_over = self.common.is_shut(Shutdown::RECEIVE) || self.phase.get() == Phase::Over;
        if is_over { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn take(self: &Rc<Self>, to: &mut dyn Destination, request: Request, before: usize) -> Result<usize> {
        let was_unwritable = self.live_peer().is_some_and(|peer| !peer.is_writable());
        let available = self.inbox.borrow().len();
        let wanted = to.remaining();
        let count = if request.peeks {
            self.inbox.borrow().copy(before, to)
        } else if request.tells_full_length {
            // `MSG_TRUNC` of TCP: the bytes are thrown away.
            available.min(wanted)
        } else {
            self.inbox.borrow().copy(0, to)
        };
        if count == 0 && available > before && wanted > 0 {
            return moved_or_fault(before).map(|_| 0);
        }
        if !request.peeks {
            self.inbox.borrow_mut().consume(count);
        }
        if was_unwritable
            && let Some(peer) = self.live_peer()
            && peer.room() > 0
        {
            peer.common.changed.wake();
        }
        Ok(count)
    }
}
