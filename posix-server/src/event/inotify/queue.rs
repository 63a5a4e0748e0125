//! Events that wait to be read. Pure.

use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::fs::Name;
use alloc::collections::VecDeque;
use linux_raw_sys::general as linux;

/// How many events wait at most (`/proc/sys/fs/inotify/max_queued_events`).
pub const MAX_EVENTS: usize = 16384;

/// The bytes of `struct inotify_event` before the name, and what names are rounded to.
const HEADER_BYTES: usize = 16;
/// What an event takes of the server's memory besides its name, about, in bytes.
const EVENT_BYTES: u64 = 64;

/// Something that happened to what is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The watch; -1 for none.
    pub watch: i32,
    /// `IN_*`.
    pub mask: u32,
    /// Joins the two events of a rename.
    pub cookie: u32,
    /// In a directory: to what.
    pub name: Option<Name>,
}

impl Event {
    /// An event of a watch itself.
    pub fn of_watch(watch: i32, mask: u32) -> Self {
        Self { watch, mask, cookie: 0, name: None }
    }

    /// The length of the name in the record: with at least one zero after it.
    fn name_bytes(&self) -> usize {
        self.name.as_ref().map_or(0, |name| (name.len() + 1).next_multiple_of(HEADER_BYTES))
    }

    /// The length of the record.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.name_bytes()
    }

    /// `struct inotify_event`.
    pub fn to_record(&self) -> alloc::vec::Vec<u8> {
        let mut record = alloc::vec::Vec::with_capacity(self.len_bytes());
        record.extend_from_slice(&self.watch.to_le_bytes());
        for field in [self.mask, self.cookie, self.name_bytes() as u32] {
            record.extend_from_slice(&field.to_le_bytes());
        }
        if let Some(name) = &self.name {
            record.extend_from_slice(name);
        }
        record.resize(self.len_bytes(), 0);
        record
    }

    /// Whether it says the same as the one before it.
    fn repeats(&self, before: &Self) -> bool {
        let is_last_word = before.mask & linux::IN_IGNORED != 0;
        !is_last_word && (self.watch, self.mask, &self.name) == (before.watch, before.mask, &before.name)
    }

    fn cost_bytes(&self) -> u64 {
        EVENT_BYTES + self.name.as_ref().map_or(0, |name| name.len() as u64)
    }
}

/// The events of an instance, in order.
pub(super) struct Queue {
    events: VecDeque<Event>,
    /// Whether the last thing that it tells is that there was more.
    has_overflowed: bool,
    bytes: usize,
    /// Pays for the events.
    charge: Charge,
    cost_bytes: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            has_overflowed: false,
            bytes: 0,
            charge: Charge::none(Budget::Contents),
            cost_bytes: 0,
        }
    }
}

impl Queue {
    /// Adds an event, unless it repeats the last one. If there is no room, that is the last event.
    pub(super) fn push(&mut self, event: Event) {
        if self.has_overflowed || self.events.back().is_some_and(|last| event.repeats(last)) {
            return;
        }
        let cost_bytes = self.cost_bytes + event.cost_bytes();
        let fits = self.events.len() < MAX_EVENTS && self.charge.resize(cost_bytes).is_ok();
        if fits {
            self.cost_bytes = cost_bytes;
            self.append(event);
        } else {
            self.has_overflowed = true;
            self.append(Event::of_watch(-1, linux::IN_Q_OVERFLOW));
        }
    }

    fn append(&mut self, event: Event) {
        self.bytes += event.len_bytes();
        self.events.push_back(event);
    }

    /// Takes the first event, if its record is no longer than `room`. `EAGAIN` if there is none, `EINVAL` if it is too long.
    pub(super) fn take(&mut self, room: usize) -> Result<Event> {
        let first = self.events.front().ok_or(Errno::EAGAIN)?;
        if first.len_bytes() > room {
            return Err(Errno::EINVAL);
        }
        let event = self.events.pop_front().ok_or(Errno::EAGAIN)?;
        self.bytes -= event.len_bytes();
        if event.mask & linux::IN_Q_OVERFLOW != 0 {
            self.has_overflowed = false;
        } else {
            self.cost_bytes = self.cost_bytes.saturating_sub(event.cost_bytes());
            // Giving back never fails.
            let _ = self.charge.resize(self.cost_bytes);
        }
        Ok(event)
    }

    /// How many bytes all records have.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(mask: u32, name: &[u8]) -> Event {
        Event { watch: 1, mask, cookie: 0, name: Some(Name::from(name)) }
    }

    #[test]
    fn what_repeats_the_last_event_is_left_out() {
        let mut queue = Queue::default();
        for event in [named(2, b"a"), named(2, b"a"), named(2, b"b"), named(2, b"a")] {
            queue.push(event);
        }
        queue.push(Event::of_watch(1, linux::IN_IGNORED));
        queue.push(Event::of_watch(1, linux::IN_IGNORED));
        assert_eq!(queue.len_bytes(), 3 * 32 + 2 * 16);
        assert_eq!(queue.take(100), Ok(named(2, b"a")));
        assert_eq!(queue.take(31), Err(Errno::EINVAL));
        assert_eq!(queue.take(32), Ok(named(2, b"b")));
    }

    #[test]
    fn a_full_queue_says_so_once() {
        let mut queue = Queue::default();
        for number in 0..MAX_EVENTS as i32 + 10 {
            queue.push(Event::of_watch(number, 2));
        }
        for number in 0..MAX_EVENTS as i32 {
            assert_eq!(queue.take(16), Ok(Event::of_watch(number, 2)));
        }
        assert_eq!(queue.take(16), Ok(Event::of_watch(-1, linux::IN_Q_OVERFLOW)));
        assert_eq!((queue.take(16), queue.len_bytes()), (Err(Errno::EAGAIN), 0));
        queue.push(Event::of_watch(1, 2));
        assert_eq!(queue.take(16), Ok(Event::of_watch(1, 2)));
    }

    #[test]
    fn records_are_padded_with_zeroes() {
        let record = named(0x100, b"fifteen letters").to_record();
        assert_eq!(record.len(), 32);
        assert_eq!(record[12..16], [16, 0, 0, 0]);
        assert_eq!(record[31], 0);
        assert_eq!(named(0x100, b"sixteen letters!").to_record().len(), 48);
    }
}
