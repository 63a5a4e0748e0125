//! The bytes between the two ends of a pipe.

use super::SLOT_BYTES;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::Errno;
use crate::file::io::moved_or_fault;
use crate::file::{Destination, Source};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How many slots a new pipe has.
const DEFAULT_SLOTS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) bytes: Vec<u8>,
    /// How many of them have been read.
    pub(super) start: usize,
    pub(super) kind: SlotKind,
}

/// How the bytes of a slot are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotKind {
    /// As a part of the stream.
    #[default]
    Stream,
    /// As one packet: by one read, which loses what it has no room for (`O_DIRECT`).
    Packet,
}

impl Slot {
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// The bytes between the two ends.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) slots: VecDeque<Slot>,
    pub(super) max_slots: usize,
    /// Pays for the slots.
    charge: Charge,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { slots: VecDeque::new(), max_slots: DEFAULT_SLOTS, charge: Charge::none(Budget::Contents) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.max_slots
    }

    /// Pays for as many slots as there are, and `more`, but for the first, which the pipe itself has paid for. `ENOMEM`.
    pub(super) fn pay(&mut self, more: usize) -> Result<(), Errno> {
        self.charge.resize((self.slots.len() + more).saturating_sub(1) as u64 * SLOT_BYTES as u64)
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        self.slots = VecDeque::new();
        self.charge = Charge::none(Budget::Contents);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(|slot| slot.unread().len()).sum()
    }

    /// Moves as much as possible out. `EFAULT` if there was something to move and nothing moved.
    pub(super) fn read(&mut self, to: &mut dyn Destination) -> Result<usize, Errno> {
        let result = self.read_slots(to);
        // Giving back never fails.
        let _ = self.pay(0);
        result
    }

    fn read_slots(&mut self, to: &mut dyn Destination) -> Result<usize, Errno> {
        let mut total = 0;
        while let Some(slot) = self.slots.front_mut() {
            let offered = slot.unread().len().min(to.remaining());
            let part = slot.unread().get(..offered).unwrap_or_default();
            let taken = if part.is_empty() { 0 } else { to.put(part) };
            slot.start += taken;
            total += taken;
            let is_packet = slot.kind == SlotKind::Packet;
            if slot.start == slot.bytes.len() || is_packet && taken == offered {
                self.slots.pop_front();
            }
            if taken < offered {
                return moved_or_fault(total);
            }
            if to.remaining() == 0 || is_packet {
                break;
            }
        }
        Ok(total)
    }

    /// Takes a page, or less, from the source into a buffer's end.
    fn fill(bytes: &mut Vec<u8>, count: usize, from: &mut dyn Source) -> Result<usize, Errno> {
        let before = bytes.len();
        bytes.try_reserve(count).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(before + count, 0);
        let got = from.get(bytes.get_mut(before..).unwrap_or_default());
        bytes.truncate(before + got);
        Ok(got)
    }

    /// Moves as much as there is room for in. 0: it is full.
    pub(super) fn write(&mut self, from: &mut dyn Source, kind: SlotKind) -> Result<usize, Errno> {
        let mut total = 0;
        let odd = from.remaining() % SLOT_BYTES;
        if let Some(last) = self.slots.back_mut()
            && odd != 0
            && last.bytes.len() + odd <= SLOT_BYTES
            && (last.kind, kind) == (SlotKind::Stream, SlotKind::Stream)
        {
            let got = Self::fill(&mut last.bytes, odd, from)?;
            if got < odd {
                return moved_or_fault(got);
            }
            total += got;
        }
        while from.remaining() > 0 && !self.is_full() {
            if self.pay(1).is_err() {
                // Who reads what is there makes room: the first slot is paid for.
                break;
            }
            let mut bytes = Vec::new();
            let wanted = from.remaining().min(SLOT_BYTES);
            let got = Self::fill(&mut bytes, wanted, from).or(if total > 0 { Ok(0) } else { Err(Errno::ENOMEM) })?;
            if got > 0 {
                self.slots.push_back(Slot { bytes, start: 0, kind });
            }
            total += got;
            if got < wanted {
                return moved_or_fault(total);
            }
        }
        Ok(total)
    }

    /// Changes the number of slots so that `bytes` fit; returns the new capacity.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<usize, Errno> {
        let slots = bytes.div_ceil(SLOT_BYTES).max(1).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if slots < self.slots.len() {
            return Err(Errno::EBUSY);
        }
        self.max_slots = slots;
        Ok(slots * SLOT_BYTES)
    }
}
