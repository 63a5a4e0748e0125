//! Counters that can be waited for (`eventfd(2)`).

use super::EventFile;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::shared::{Habit, SharedPosition, Sharing};
use crate::wait::WaitQueue;
use core::cell::{Cell, RefCell};
use posix_protocol::rings::{MAX_COUNT, add_count, take_count};

/// What a read takes from the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// All of it.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// A counter.
pub struct EventCounter {
    count: Cell<u64>,
    taking: Taking,
    /// Where the count is instead, while a process counts itself (ADR 13).
    lent: RefCell<Option<SharedPosition>>,
    habit: Habit,
    changed: WaitQueue,
}

impl EventCounter {
    /// A counter with this value.
    pub fn new(count: u64, taking: Taking) -> Self {
        Self {
            count: Cell::new(count),
            taking,
            lent: RefCell::new(None),
            habit: Habit::default(),
            changed: WaitQueue::new(),
        }
    }

    fn count(&self) -> u64 {
        self.end_lending();
        self.count.get()
    }

    /// Whether each read takes one.
    pub fn taking(&self) -> Taking {
        self.taking
    }

    /// The value, for `/proc/PID/fdinfo`.
    pub fn value(&self) -> u64 {
        self.count()
    }

    /// How a process could count itself, if nobody has to be told now.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        (self.changed.waiters() == 0).then_some(match self.taking {
            Taking::All => Sharing::Counter,
            Taking::One => Sharing::Semaphore,
        })
    }

    /// Lets a process count itself: `share` puts the count where the process can change it.
    pub(crate) fn lend(&self, share: impl FnOnce(u64) -> Option<SharedPosition>) -> bool {
        let count = self.count();
        let lent = if self.changed.waiters() == 0 { share(count) } else { None };
        let is_lent = lent.is_some();
        self.lent.replace(lent);
        is_lent
    }

    /// Takes the count back, if a process has it. What it says is cut to what a count can be.
    fn end_lending(&self) {
        if let Some(lent) = self.lent.take() {
            self.count.set(lent.take_word().min(MAX_COUNT));
            self.habit.note_taken();
        }
    }
}

impl FileOps for EventCounter {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() < size_of::<u64>() {
            return Err(Errno::EINVAL);
        }
        let (taken, left) = take_count(self.count(), self.taking == Taking::One).ok_or(Errno::EAGAIN)?;
        if to.put(&taken.to_le_bytes()) < size_of::<u64>() {
            return Err(Errno::EFAULT);
        }
        self.count.set(left);
        self.changed.wake_for(PollEvents::OUT);
        Ok(size_of::<u64>())
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        if from.remaining() != size_of::<u64>() {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; size_of::<u64>()];
        // Taken only if it fits, so that a call that waits finds its bytes again.
        if from.peek(&mut bytes) < bytes.len() {
            return Err(Errno::EFAULT);
        }
        let added = u64::from_le_bytes(bytes);
        if added > MAX_COUNT {
            return Err(Errno::EINVAL);
        }
        self.count.set(add_count(self.count(), added).ok_or(Errno::EAGAIN)?);
        from.discard();
        self.changed.wake_for(PollEvents::IN);
        Ok(size_of::<u64>())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let count = self.count();
        events.set(PollEvents::IN, count > 0);
        events.set(PollEvents::OUT, count < MAX_COUNT);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        // Who waits there is to hear of every change.
        self.end_lending();
        Some(&self.changed)
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Counter(self))
    }

    fn habit(&self) -> Option<&Habit> {
        Some(&self.habit)
    }

    fn take_back(&self) {
        self.end_lending();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};

    fn read(counter: &EventCounter) -> Result<u64> {
        let mut bytes = [0; 8];
        counter.read(0, &mut SliceDestination::new(&mut bytes))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn add(counter: &EventCounter, count: u64) -> Result<usize> {
        counter.write(0, &mut SliceSource::new(&count.to_le_bytes()))
    }

    #[test]
    fn a_read_takes_all_or_one() {
        let counter = EventCounter::new(0, Taking::All);
        assert_eq!(read(&counter), Err(Errno::EAGAIN));
        add(&counter, 3).unwrap();
        add(&counter, 4).unwrap();
        assert_eq!((read(&counter), read(&counter)), (Ok(7), Err(Errno::EAGAIN)));
        let semaphore = EventCounter::new(2, Taking::One);
        assert_eq!((read(&semaphore), read(&semaphore), read(&semaphore)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    }

    #[test]
    fn the_count_does_not_overflow() {
        let counter = EventCounter::new(1, Taking::All);
        assert_eq!(add(&counter, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(add(&counter, MAX_COUNT), Err(Errno::EAGAIN));
        assert_eq!(counter.write(0, &mut SliceSource::new(b"short")), Err(Errno::EINVAL));
        add(&counter, MAX_COUNT - 1).unwrap();
        assert_eq!(counter.readiness(), PollEvents::IN);
    }
}
