//! The run queues of one processor, and whose its time is.

use super::PRIORITIES;
use crate::list::List;
use crate::pool::{Id, Pool};
use crate::thread::Thread;

/// Who used a processor's time since it was last counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// Whoever is the current thread.
    Current,
    /// A thread that is not the current one any more.
    Thread(Id<Thread>),
    /// It idled.
    Nobody,
}

/// Where in a run queue a thread goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// The run queues of one processor.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(super) current: Option<Id<Thread>>,
    /// Whose the time since `counted_ns` is.
    pub(super) ran: Ran,
    pub(super) ready: [List<Id<Thread>>; PRIORITIES],
    /// How many threads are in each.
    pub(super) counts: [u32; PRIORITIES],
    /// Bit n is set while `ready[n]` is not empty.
    pub(super) occupied: u32,
    /// [`Scheduler::choose`] has something to do: another thread came first, the current one must give way or stopped, or
    /// it is not the one that the processor was told to run.
    pub(super) reschedule: bool,
    /// There are others: somebody may become ready there at any time.
    pub(super) has_peers: bool,
    pub(super) slice_end_ns: u64,
    /// When the timer interrupts for the end of a slice, at the latest.
    pub(super) timer_ns: u64,
    /// The time slice ends before that.
    pub(super) slice_is_news: bool,
    /// When the current thread's time was last counted.
    pub(super) counted_ns: u64,
    /// The current thread does not go on before this one, which was suspended, has stopped on another processor.
    pub(super) awaited: Option<Id<Thread>>,
}

impl Processor {
    pub(super) const fn new(has_peers: bool) -> Self {
        Self {
            current: None,
            ran: Ran::Nobody,
            ready: [const { List::new() }; PRIORITIES],
            counts: [0; PRIORITIES],
            occupied: 0,
            reschedule: false,
            has_peers,
            slice_end_ns: 0,
            timer_ns: u64::MAX,
            slice_is_news: false,
            counted_ns: 0,
            awaited: None,
        }
    }

    /// Whether a thread of this priority runs before all that are ready.
    #[inline(always)]
    pub(crate) fn comes_first(&self, priority: u8) -> bool {
        u64::from(self.occupied) >> (u32::from(priority & (PRIORITIES as u8 - 1)) + 1) == 0
    }

    /// Hands the processor from one thread to another, who comes first; both have their new states. The time until now is
    /// that of the first.
    #[inline(always)]
    pub(crate) fn hand_over(&mut self, from: &mut Thread, to: Id<Thread>, now_ns: u64) {
        self.count_time(from, now_ns);
        self.current = Some(to);
    }

    /// The time until now is that of the thread that ran.
    #[inline(always)]
    pub(super) fn count_time(&mut self, thread: &mut Thread, now_ns: u64) {
        thread.run_time_ns = thread.run_time_ns.wrapping_add(now_ns.wrapping_sub(self.counted_ns));
        self.counted_ns = now_ns;
    }

    /// The current thread does not run any more.
    #[inline(always)]
    pub(super) fn stop_current(&mut self) {
        if let (Ran::Current, Some(current)) = (self.ran, self.current.take()) {
            self.ran = Ran::Thread(current);
        }
        self.reschedule = true;
    }

    /// Whether the end of the time slice matters.
    #[inline(always)]
    pub(super) fn slice_matters(&self) -> bool {
        self.occupied != 0 || self.has_peers
    }

    /// Notes if the timer would interrupt too late for the end of the time slice.
    #[inline(always)]
    pub(super) fn note_slice(&mut self) {
        self.slice_is_news |= self.slice_matters() && self.slice_end_ns < self.timer_ns;
    }

    /// Begins the time slice of a thread that comes from a queue.
    #[inline(always)]
    pub(super) fn begin_slice(&mut self, thread: &mut Thread, now_ns: u64) {
        self.slice_end_ns = now_ns.saturating_add(thread.take_slice_ns());
        self.note_slice();
    }

    /// Takes the first of the highest priority out of its queue.
    #[inline]
    pub(super) fn take_first(&mut self, threads: &mut Pool<Thread>) -> Option<Id<Thread>> {
        let priority = usize::from(self.highest()?);
        let first = self.ready[priority].pop_front(threads)?;
        self.counts[priority] -= 1;
        if self.ready[priority].is_empty() {
            self.occupied &= !(1 << priority);
        }
        Some(first)
    }

    /// The highest priority that has a ready thread.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        self.occupied.checked_ilog2().map(|bit| bit as u8)
    }

    /// Puts a thread of this priority, which is marked as ready, into its queue.
    #[inline]
    pub(super) fn insert(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>, priority: usize, end: End) {
        match end {
            End::Front => self.ready[priority].push_front(threads, id),
            End::Back => self.ready[priority].push_back(threads, id),
        }
        self.occupied |= 1 << priority;
        self.counts[priority] += 1;
        self.note_slice();
    }

    #[inline]
    pub(super) fn remove(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>) {
        let priority = usize::from(threads[id].priority);
        self.ready[priority].remove(threads, id);
        self.counts[priority] -= 1;
        if self.ready[priority].is_empty() {
            self.occupied &= !(1 << priority);
        }
    }
}
