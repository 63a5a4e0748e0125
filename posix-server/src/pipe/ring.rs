//! The bytes between the two ends of a pipe.

use super::SLOT_BYTES;
use super::buffers::{RUN_BYTES, give_back, take_buffer};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::Errno;
use crate::file::io::moved_or_fault;
use crate::file::{Destination, Source};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How many slots a new pipe has.
const DEFAULT_SLOTS: usize = 16;
/// So many slots at once are worth a buffer for a whole run of them.
const LONG_RUN_SLOTS: usize = 4;

/// How the bytes of a slot are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotKind {
    /// As a part of the stream.
    #[default]
    Stream,
    /// As one packet: by one read, which loses what it has no room for (`O_DIRECT`).
    Packet,
}

/// Slots that were filled together, so that their bytes can be moved together. Each but the last is full; packets have one each.
#[derive(Debug, Default)]
struct Run {
    /// What lies behind `end` is nobody's.
    bytes: Vec<u8>,
    /// How many bytes have been read, and written.
    start: usize,
    end: usize,
    kind: SlotKind,
}

impl Run {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Slots that are not yet read to their end.
    fn slots(&self) -> usize {
        self.end.div_ceil(SLOT_BYTES) - self.start / SLOT_BYTES
    }

    /// What it takes of the server's memory, in slots.
    fn slots_held(&self) -> usize {
        self.bytes.len().div_ceil(SLOT_BYTES).max(1)
    }

    /// How many bytes fit into its last slot.
    fn room(&self) -> usize {
        self.end.next_multiple_of(SLOT_BYTES) - self.end
    }

    /// Takes bytes in behind the last one; as many as the source could give.
    fn fill(&mut self, count: usize, from: &mut dyn Source) -> Result<usize, Errno> {
        let end = self.end + count;
        if end > self.bytes.len() {
            self.bytes.try_reserve(end - self.bytes.len()).map_err(|_| Errno::ENOMEM)?;
            self.bytes.resize(end, 0);
        }
        let got = from.get(self.bytes.get_mut(self.end..end).unwrap_or_default());
        self.end += got;
        Ok(got)
    }
}

/// The bytes between the two ends.
#[derive(Debug)]
pub(super) struct Ring {
    runs: VecDeque<Run>,
    /// Slots of all runs.
    slots: usize,
    max_slots: usize,
    /// Slots that take memory.
    held: usize,
    /// Pays for those, but for the first, which the pipe itself has paid for.
    charge: Charge,
}

impl Ring {
    pub(super) fn new() -> Self {
        let charge = Charge::none(Budget::Contents);
        Self { runs: VecDeque::new(), slots: 0, max_slots: DEFAULT_SLOTS, held: 0, charge }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots >= self.max_slots
    }

    pub(super) fn capacity(&self) -> usize {
        self.max_slots * SLOT_BYTES
    }

    /// Slots that are not in use.
    pub(super) fn free_slots(&self) -> usize {
        self.max_slots.saturating_sub(self.slots)
    }

    /// Changes for how many slots it pays. `ENOMEM`, and then nothing has changed.
    fn pay(&mut self, held: usize) -> Result<(), Errno> {
        self.charge.resize(held.saturating_sub(1) as u64 * SLOT_BYTES as u64)
    }

    fn push(&mut self, run: Run) {
        self.slots += run.slots();
        self.runs.push_back(run);
    }

    /// Takes the first run away.
    fn pop(&mut self) {
        let Some(run) = self.runs.pop_front() else { return };
        self.held = self.held.saturating_sub(run.slots_held());
        give_back(run.bytes);
        // Giving back never fails.
        let _ = self.pay(self.held);
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        *self = Self { max_slots: self.max_slots, ..Self::new() };
    }

    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.unread().len()).sum()
    }

    /// Its first bytes, at most `most`. `ENOMEM`.
    pub(super) fn peek(&self, most: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        for run in &self.runs {
            let part = run.unread();
            let part = part.get(..part.len().min(most - bytes.len())).unwrap_or_default();
            bytes.try_reserve(part.len()).map_err(|_| Errno::ENOMEM)?;
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    /// Notes that bytes of the first run have been read; a packet that was is read to its end.
    fn advance(&mut self, count: usize) {
        let Some(run) = self.runs.front_mut() else { return };
        let before = run.slots();
        run.start += count;
        let is_over = run.start >= run.end;
        self.slots -= before - if is_over { 0 } else { run.slots() };
        if is_over {
            self.pop();
        }
    }

    /// Takes the first bytes away.
    pub(super) fn consume(&mut self, count: usize) {
        let mut left = count;
        while let Some(run) = self.runs.front().filter(|_| left > 0) {
            let taken = left.min(run.unread().len());
            self.advance(taken);
            left -= taken;
        }
    }

    /// Moves as much as possible out. `EFAULT` if there was something to move and nothing moved.
    pub(super) fn read(&mut self, to: &mut dyn Destination) -> Result<usize, Errno> {
        let mut total = 0;
        while let Some(run) = self.runs.front() {
            let unread = run.unread();
            let is_packet = run.kind == SlotKind::Packet;
            let offered = unread.len().min(to.remaining());
            let part = unread.get(..offered).unwrap_or_default();
            let taken = if part.is_empty() { 0 } else { to.put(part) };
            let lost = if is_packet && taken == offered { unread.len() - taken } else { 0 };
            self.advance(taken + lost);
            total += taken;
            if taken < offered {
                return moved_or_fault(total);
            }
            if to.remaining() == 0 || is_packet {
                break;
            }
        }
        Ok(total)
    }

    /// Room for a new run, of up to `slots` slots, which is paid for. `ENOMEM`.
    fn new_run(&mut self, slots: usize, kind: SlotKind) -> Result<Run, Errno> {
        let long = RUN_BYTES / SLOT_BYTES;
        let is_long = slots >= LONG_RUN_SLOTS && kind == SlotKind::Stream;
        if is_long
            && self.pay(self.held + long).is_ok()
            && let Some(bytes) = take_buffer()
        {
            self.held += long;
            return Ok(Run { bytes, kind, ..Run::default() });
        }
        self.pay(self.held + 1)?;
        self.held += 1;
        Ok(Run { kind, ..Run::default() })
    }

    /// Moves as much as there is room for in. 0: it is full.
    pub(super) fn write(&mut self, from: &mut dyn Source, kind: SlotKind) -> Result<usize, Errno> {
        let mut total = 0;
        let odd = from.remaining() % SLOT_BYTES;
        if let Some(last) = self.runs.back_mut()
            && odd != 0
            && odd <= last.room()
            && (last.kind, kind) == (SlotKind::Stream, SlotKind::Stream)
        {
            let got = last.fill(odd, from)?;
            if got < odd {
                return moved_or_fault(got);
            }
            total += got;
        }
        while from.remaining() > 0 && !self.is_full() {
            let slots = from.remaining().div_ceil(SLOT_BYTES).min(self.free_slots());
            let Ok(mut run) = self.new_run(slots, kind) else {
                // Who reads what is there makes room: the first slot is paid for.
                break;
            };
            let most = run.bytes.len().max(SLOT_BYTES).min(slots * SLOT_BYTES);
            let wanted = from.remaining().min(most);
            let result = run.fill(wanted, from);
            let got = *result.as_ref().unwrap_or(&0);
            if got > 0 {
                self.push(run);
            } else {
                self.held -= run.slots_held();
                give_back(run.bytes);
                // Giving back never fails.
                let _ = self.pay(self.held);
            }
            total += got;
            match result {
                Err(errno) if total == 0 => return Err(errno),
                Ok(got) if got == wanted => {}
                Ok(_) | Err(_) => return moved_or_fault(total),
            }
        }
        Ok(total)
    }

    /// Changes the number of slots so that `bytes` fit; returns the new capacity.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<usize, Errno> {
        let slots = bytes.div_ceil(SLOT_BYTES).max(1).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if slots < self.slots {
            return Err(Errno::EBUSY);
        }
        self.max_slots = slots;
        Ok(slots * SLOT_BYTES)
    }

    /// The bytes of the only slot that is in use, and how many of them have been read; none if all are free. `None`: there are more, or
    /// it is a packet.
    pub(super) fn only_slot(&self) -> Option<(&[u8], usize)> {
        let Some(run) = self.runs.front() else { return Some((&[], 0)) };
        let begin = run.start / SLOT_BYTES * SLOT_BYTES;
        let bytes = run.bytes.get(begin..run.end)?;
        (self.slots == 1 && run.kind == SlotKind::Stream).then_some((bytes, run.start - begin))
    }

    /// Puts such a slot into an empty ring.
    pub(super) fn put_only_slot(&mut self, bytes: Vec<u8>, start: usize) {
        if start < bytes.len() {
            // The pipe has paid for the first.
            self.held = 1;
            self.push(Run { start, end: bytes.len(), bytes, kind: SlotKind::Stream });
        }
    }
}
