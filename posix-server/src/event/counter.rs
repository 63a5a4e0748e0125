//! Counters that can be waited for (`eventfd(2)`).

use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::wait::WaitQueue;
use core::cell::Cell;

/// The largest value of a counter.
const MAX_COUNT: u64 = u64::MAX - 1;

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
    changed: WaitQueue,
}

impl EventCounter {
    /// A counter with this value.
    pub fn new(count: u64, taking: Taking) -> Self {
        Self { count: Cell::new(count), taking, changed: WaitQueue::new() }
    }
}

impl FileOps for EventCounter {
    fn read(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() < size_of::<u64>() {
            return Err(Errno::EINVAL);
        }
        let count = self.count.get();
        let taken = match self.taking {
            _ if count == 0 => return Err(Errno::EAGAIN),
            Taking::All => count,
            Taking::One => 1,
        };
        if to.put(&taken.to_le_bytes()) < size_of::<u64>() {
            return Err(Errno::EFAULT);
        }
        self.count.set(count - taken);
        self.changed.wake_for(PollEvents::OUT);
        Ok(size_of::<u64>())
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        if from.remaining() < size_of::<u64>() {
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
        let count = self.count.get().checked_add(added).filter(|count| *count <= MAX_COUNT).ok_or(Errno::EAGAIN)?;
        self.count.set(count);
        from.discard();
        self.changed.wake_for(PollEvents::IN);
        Ok(size_of::<u64>())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::IN, self.count.get() > 0);
        events.set(PollEvents::OUT, self.count.get() < MAX_COUNT);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.changed)
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
