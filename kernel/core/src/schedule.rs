//! Who runs: 32 strict priorities, round robin within each, one set of run queues per processor.
//!
//! A thread is in a run queue exactly while it is [`State::Ready`]. The thread that a processor runs is in none. A call may hand
//! the processor to another thread directly ([`Scheduler::wake`]); the receiver then goes on in the caller's time
//! slice, so that two threads that call each other can't keep a third one from running. A thread that is preempted goes on
//! with what was left of its slice, so that neither can somebody who wakes often.
//!
//! # Several processors
//! A thread that wakes goes to the processor that it ran on last if that idles, else to another that idles, else to one that
//! runs something less urgent, else it waits where it was. Whoever looks for a thread to run takes one from another processor's
//! queues if his own have none as urgent; and whoever's time slice ends, if his own have none of that priority: so those who
//! wait take turns on all processors. No thread runs where it may not ([`Thread::affinity`]).
//!
//! All of this happens under the kernel lock. A processor that is to look again is noted, and interrupted when the one that is
//! in the kernel leaves it ([`Scheduler::take_interrupts`]).

mod processor;
mod spread;

use crate::devices::Devices;
use crate::list::{Arena, Links};
use crate::pool::{Id, Pool};
use crate::thread::{State, Thread};
use alloc::vec::Vec;
pub(crate) use processor::Processor;
use processor::{End, Ran};
use quire_abi::error::OK;

/// Number of priorities; the highest is `PRIORITIES - 1`.
pub const PRIORITIES: usize = 32;
/// How long a thread runs before another of its priority gets its turn, in ns.
pub const SLICE_NS: u64 = 10_000_000;

/// What a processor does when it leaves the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this thread.
    Run(Id<Thread>),
    /// Wait for an interrupt.
    Idle,
    /// Let another processor into the kernel and ask again.
    Later,
}

/// Whether the timer interrupts in time for the end of a time slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SliceEnd {
    /// It does.
    Known,
    /// It has to be told.
    News,
}

impl Arena<Id<Thread>> for Pool<Thread> {
    #[inline]
    fn links(&mut self, node: Id<Thread>) -> &mut Links<Id<Thread>> {
        &mut self[node].run_links
    }
}

impl Thread {
    /// Whether it may run on this processor.
    #[inline(always)]
    pub(crate) fn may_run_on(&self, cpu: usize) -> bool {
        self.affinity >> cpu & 1 != 0
    }

    /// How long it runs now: what a preemption left of its slice, or a new one.
    fn take_slice_ns(&mut self) -> u64 {
        match core::mem::take(&mut self.slice_left_ns) {
            0 => SLICE_NS,
            left => left,
        }
    }
}

/// The run queues of all processors.
#[derive(Debug)]
pub struct Scheduler {
    processors: Vec<Processor>,
    /// Processors that idle and were not given anything since.
    idle: u64,
    /// Processors that are to be interrupted.
    interrupts: u64,
}

impl Scheduler {
    /// For this many processors; `None` without memory.
    pub fn new(processors: usize) -> Option<Self> {
        let mut list = Vec::new();
        list.try_reserve_exact(processors).ok()?;
        list.resize_with(processors, || Processor::new(processors > 1));
        Some(Self { processors: list, idle: 0, interrupts: 0 })
    }

    /// The thread that the processor runs.
    #[inline]
    pub fn current(&self, cpu: usize) -> Option<Id<Thread>> {
        self.processors[cpu].current
    }

    /// Makes a thread that can run ready, unless it is suspended: then it is stopped.
    ///
    /// `cpu` is the processor that is in the kernel. If its own thread has just parked and no ready thread comes before
    /// the new one, it switches to the new one directly, without a detour through the run queue.
    #[inline]
    pub fn wake(&mut self, threads: &mut Pool<Thread>, cpu: usize, id: Id<Thread>) {
        let thread = &mut threads[id];
        if thread.suspensions != 0 {
            thread.state = State::Stopped;
            return;
        }
        let here = &mut self.processors[cpu];
        let comes_first = here.highest().is_none_or(|highest| highest <= thread.priority);
        if here.current.is_none() && comes_first && thread.may_run_on(cpu) {
            thread.state = State::Running;
            thread.cpu = cpu;
            here.current = Some(id);
            here.reschedule = true;
            self.idle &= !(1 << cpu);
            return;
        }
        self.enqueue(threads, id);
    }

    /// Puts a thread that can run into the queue of the processor that is best for it.
    #[inline]
    pub(crate) fn enqueue(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>) {
        let cpu = if self.is_alone() { 0 } else { self.place(threads, id) };
        self.enqueue_on(threads, cpu, id, End::Back);
    }

    /// Puts a thread that can run into the queue of a processor that it may run on.
    #[inline(always)]
    fn enqueue_on(&mut self, threads: &mut Pool<Thread>, cpu: usize, id: Id<Thread>, end: End) {
        let thread = &mut threads[id];
        thread.cpu = cpu;
        thread.state = State::Ready;
        let priority = thread.priority;
        let processor = &mut self.processors[cpu];
        processor.insert(threads, id, usize::from(priority), end);
        if processor.current.is_some_and(|current| threads[current].priority < priority) {
            self.look_again(cpu);
        } else if self.idle >> cpu & 1 != 0 {
            self.idle &= !(1 << cpu);
            self.look_again(cpu);
        }
    }

    /// Puts a thread that can run before all others of its priority, on the processor that is in the kernel if it may run there.
    pub(crate) fn enqueue_first(&mut self, threads: &mut Pool<Thread>, cpu: usize, id: Id<Thread>) {
        if threads[id].may_run_on(cpu) {
            self.enqueue_on(threads, cpu, id, End::Front);
        } else {
            self.enqueue(threads, id);
        }
    }

    /// Lets another thread run in the place of the current one, which parks and has its new state: `first`, which is in no queue,
    /// if it comes before all that are ready, and otherwise whoever does.
    #[inline]
    pub(crate) fn replace(
        &mut self,
        m: &mut impl Devices,
        threads: &mut Pool<Thread>,
        cpu: usize,
        current: Id<Thread>,
        first: Option<Id<Thread>>,
    ) {
        let is_alone = self.is_alone();
        let Some(processor) = self.processors.get_mut(cpu) else { return };
        let is_free = !processor.reschedule;
        let next = match first {
            Some(first) => {
                let thread = &threads[first];
                let goes_first = is_free && processor.comes_first(thread.priority) && thread.may_run_on(cpu);
                if goes_first {
                    Some(first)
                } else {
                    self.enqueue_first(threads, cpu, first);
                    None
                }
            }
            // On several processors, somebody elsewhere may be more urgent.
            None if is_free && is_alone => {
                let now_ns = m.now_ns();
                processor.take_first(threads).inspect(|id| processor.begin_slice(&mut threads[*id], now_ns))
            }
            None => None,
        };
        let Some(next) = next else { return self.park(cpu) };
        let processor = &mut self.processors[cpu];
        processor.count_time(&mut threads[current], m.now_ns());
        let thread = &mut threads[next];
        thread.state = State::Running;
        thread.cpu = cpu;
        m.switch_to(next, thread);
        processor.current = Some(next);
    }

    #[inline(always)]
    fn is_alone(&self) -> bool {
        self.processors.len() == 1
    }

    /// The processors that there are.
    pub(crate) fn all(&self) -> u64 {
        u64::MAX >> (u64::BITS as usize - self.processors.len())
    }

    /// [`Scheduler::choose`] has something to do on this processor.
    #[inline(always)]
    fn look_again(&mut self, cpu: usize) {
        self.processors[cpu].reschedule = true;
        if !self.is_alone() {
            self.interrupts |= 1 << cpu;
        }
    }

    /// The processors that have to be interrupted, as seen from `cpu`. They are forgotten.
    #[inline]
    pub fn take_interrupts(&mut self, cpu: usize) -> u64 {
        core::mem::take(&mut self.interrupts) & !(1 << cpu)
    }

    /// The processor, if the fast path may hand it over: nobody has asked for a decision of the scheduler.
    #[inline(always)]
    pub(crate) fn free_hand(&mut self, cpu: usize) -> Option<&mut Processor> {
        self.processors.get_mut(cpu).filter(|processor| !processor.reschedule)
    }

    /// The thread stops running or being ready; the caller sets its new state.
    #[inline]
    pub fn stop(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>) {
        let thread = &threads[id];
        let processor = &mut self.processors[thread.cpu];
        match thread.state {
            State::Running => processor.stop_current(),
            State::Ready => processor.remove(threads, id),
            State::New | State::Stopped | State::Waiting(_) | State::Dead => {}
        }
    }

    /// The current thread of `cpu` parks; the caller has set its new state.
    #[inline]
    pub fn park(&mut self, cpu: usize) {
        self.processors[cpu].stop_current();
    }

    /// Something about the current thread of `cpu` has changed: [`Scheduler::choose`] looks at it.
    pub fn reconsider(&mut self, cpu: usize) {
        self.look_again(cpu);
    }

    /// Lets the current thread of `cpu` go on only when another, which was suspended, does not run any more.
    pub(crate) fn await_stop(&mut self, cpu: usize, id: Id<Thread>) {
        let processor = &mut self.processors[cpu];
        processor.awaited = Some(id);
        processor.reschedule = true;
    }

    /// Whether the current thread of `cpu` has to wait for another to stop. One that has to stop itself does not wait.
    #[inline(never)]
    fn is_waiting(&mut self, threads: &Pool<Thread>, cpu: usize) -> bool {
        let processor = &mut self.processors[cpu];
        let Some(awaited) = processor.awaited else { return false };
        let runs = |thread: &Thread| thread.state == State::Running && thread.cpu != cpu && thread.suspensions != 0;
        let goes_on = processor.current.is_some_and(|current| threads[current].suspensions == 0);
        let waits = goes_on && threads.get(awaited).is_some_and(runs);
        if !waits {
            processor.awaited = None;
        }
        waits
    }

    /// Lets others of the current thread's priority run first.
    pub fn give_way(&mut self, cpu: usize) {
        let processor = &mut self.processors[cpu];
        processor.slice_end_ns = 0;
        processor.reschedule = true;
    }

    /// The current thread's call is over, and the first of those that are ready and of its priority runs in its place, which
    /// goes to the end of their line: what [`Scheduler::give_way`] and [`Scheduler::choose`] come to if nobody has asked for
    /// more. `None`: nothing has changed.
    #[inline(always)]
    pub(crate) fn rotate(&mut self, m: &mut impl Devices, threads: &mut Pool<Thread>, cpu: usize) -> Option<SliceEnd> {
        let current = self.free_hand(cpu)?.current?;
        if !self.is_alone() && self.place(threads, current) != cpu {
            // Another processor has something less urgent to do, or nothing.
            return None;
        }
        let processor = &mut self.processors[cpu];
        let thread = &mut threads[current];
        let priority = usize::from(thread.priority) % PRIORITIES;
        if processor.occupied >> priority != 1 || thread.suspensions != 0 {
            return None;
        }
        thread.context.registers.rax = OK;
        thread.state = State::Ready;
        thread.slice_left_ns = 0;
        let now_ns = m.now_ns();
        processor.count_time(thread, now_ns);
        let first = processor.ready[priority].exchange_first(threads, current)?;
        let next = &mut threads[first];
        next.state = State::Running;
        next.cpu = cpu;
        processor.begin_slice(next, now_ns);
        m.switch_to(first, next);
        processor.current = Some(first);
        Some(if processor.slice_is_news { SliceEnd::News } else { SliceEnd::Known })
    }

    /// Changes a thread's priority.
    pub fn set_priority(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>, priority: u8) {
        let ready = threads[id].state == State::Ready;
        let cpu = threads[id].cpu;
        if ready {
            self.processors[cpu].remove(threads, id);
        }
        threads[id].priority = priority.min(PRIORITIES as u8 - 1);
        if ready {
            self.enqueue(threads, id);
        } else if threads[id].state == State::Running {
            self.look_again(cpu);
        }
    }

    /// Changes the processors that a thread may run on; there is at least one.
    pub(crate) fn set_affinity(&mut self, threads: &mut Pool<Thread>, id: Id<Thread>, processors: u64) {
        let thread = &mut threads[id];
        thread.affinity = processors;
        let cpu = thread.cpu;
        match thread.state {
            State::Ready => {
                self.processors[cpu].remove(threads, id);
                self.enqueue(threads, id);
            }
            State::Running => self.look_again(cpu),
            State::New | State::Stopped | State::Waiting(_) | State::Dead => {}
        }
    }

    /// The time slice of the current thread may be over.
    pub fn tick(&mut self, cpu: usize, now_ns: u64) {
        let processor = &mut self.processors[cpu];
        processor.timer_ns = u64::MAX;
        if now_ns >= processor.slice_end_ns && processor.slice_matters() {
            processor.reschedule = true;
        }
    }

    /// When [`Scheduler::tick`] has something to do for the current thread; `None` if nobody else is ready. Where there are other
    /// processors, somebody may always become ready there.
    #[inline]
    pub fn slice_end(&self, cpu: usize) -> Option<u64> {
        let processor = &self.processors[cpu];
        (processor.slice_matters() && processor.current.is_some()).then_some(processor.slice_end_ns)
    }

    /// For how long the current thread of a processor has run since its time was last counted.
    pub(crate) fn uncounted_ns(&self, cpu: usize, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.processors[cpu].counted_ns)
    }

    /// The thread that `cpu` goes on with, if [`Scheduler::choose`] has nothing to do.
    #[inline]
    pub fn settled(&self, cpu: usize) -> Option<Id<Thread>> {
        let processor = &self.processors[cpu];
        if processor.reschedule { None } else { processor.current }
    }

    /// Whether `cpu` goes on with this thread, and nobody has to be told of anything.
    #[inline(always)]
    pub(crate) fn goes_on_with(&self, cpu: usize, thread: Option<Id<Thread>>) -> bool {
        let Some(processor) = self.processors.get(cpu) else { return false };
        let is_quiet = !processor.reschedule && !processor.slice_is_news && self.interrupts == 0;
        is_quiet && thread.is_some() && processor.current == thread
    }

    /// The timer is about to be told of the end of the time slice on `cpu`, whose current thread is known.
    #[inline(always)]
    pub(crate) fn note_seen(&mut self, cpu: usize) {
        let processor = &mut self.processors[cpu];
        processor.slice_is_news = false;
        if processor.slice_matters() && processor.current.is_some() {
            processor.timer_ns = processor.timer_ns.min(processor.slice_end_ns);
        }
    }

    /// Decides who runs next on `cpu`, and counts the time until now as that of the thread that ran.
    pub fn choose(&mut self, threads: &mut Pool<Thread>, cpu: usize, now_ns: u64) -> Next {
        let processor = &mut self.processors[cpu];
        let elapsed = now_ns.saturating_sub(processor.counted_ns);
        processor.counted_ns = now_ns;
        let ran = match processor.ran {
            Ran::Current => processor.current,
            Ran::Thread(id) => Some(id),
            Ran::Nobody => None,
        };
        if let Some(thread) = ran.and_then(|id| threads.get_mut(id)) {
            thread.run_time_ns = thread.run_time_ns.saturating_add(elapsed);
        }
        if self.processors[cpu].awaited.is_some() && self.is_waiting(threads, cpu) {
            self.processors[cpu].reschedule = true;
            return Next::Later;
        }
        self.reschedule(threads, cpu, now_ns);
        if !self.is_alone() {
            self.spread(threads, cpu);
        }
        let processor = &mut self.processors[cpu];
        processor.ran = if processor.current.is_some() { Ran::Current } else { Ran::Nobody };
        processor.current.map_or(Next::Idle, Next::Run)
    }

    /// Lets the current thread go on, or puts it back and takes the first of the highest priority.
    #[inline(always)]
    fn reschedule(&mut self, threads: &mut Pool<Thread>, cpu: usize, now_ns: u64) {
        self.processors[cpu].reschedule = false;
        if self.keeps_current(threads, cpu, now_ns) {
            self.idle &= !(1 << cpu);
            return;
        }
        let processor = &mut self.processors[cpu];
        processor.current = None;
        let own = processor.highest().and_then(|priority| processor.ready[usize::from(priority)].front());
        let elsewhere = if self.is_alone() { None } else { self.find_elsewhere(threads, cpu, own) };
        let Some(id) = elsewhere.or(own) else {
            // Whoever is woken next needs a new slice.
            self.processors[cpu].reschedule = true;
            self.idle |= 1 << cpu;
            return;
        };
        self.idle &= !(1 << cpu);
        self.processors[threads[id].cpu].remove(threads, id);
        let processor = &mut self.processors[cpu];
        let thread = &mut threads[id];
        thread.state = State::Running;
        thread.cpu = cpu;
        processor.current = Some(id);
        let slice_ns = thread.take_slice_ns();
        processor.slice_end_ns = now_ns.saturating_add(slice_ns);
    }

    /// Whether the current thread goes on. If it does not and still can run, it is put back.
    #[inline(always)]
    fn keeps_current(&mut self, threads: &mut Pool<Thread>, cpu: usize, now_ns: u64) -> bool {
        let processor = &mut self.processors[cpu];
        let Some(current) = processor.current else { return false };
        let thread = &mut threads[current];
        let (priority, may_stay) = (thread.priority, thread.may_run_on(cpu));
        if thread.suspensions != 0 {
            thread.state = State::Stopped;
            return false;
        }
        let over = now_ns >= processor.slice_end_ns;
        let gives_way = match processor.highest() {
            Some(highest) => highest > priority || over && highest == priority,
            None => false,
        };
        let rival = if self.is_alone() { None } else { self.find_rival(threads, cpu, priority, over) };
        let processor = &mut self.processors[cpu];
        if may_stay && !gives_way && rival.is_none() {
            if over {
                processor.slice_end_ns = now_ns.saturating_add(SLICE_NS);
            }
            return true;
        }
        // Whoever has used up the slice goes to the end; whoever is merely preempted continues first, with what
        // is left of it: a new slice after each preemption would keep the others of the priority waiting for ever.
        threads[current].slice_left_ns = processor.slice_end_ns.saturating_sub(now_ns);
        processor.current = None;
        if let Some(rival) = rival {
            self.processors[threads[rival].cpu].remove(threads, rival);
            self.enqueue_on(threads, cpu, rival, End::Front);
        }
        let place = if self.is_alone() { cpu } else { self.place(threads, current) };
        self.enqueue_on(threads, place, current, if over || place != cpu { End::Back } else { End::Front });
        false
    }

    /// Panics if the queues and the threads' states disagree. For tests.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self, threads: &mut Pool<Thread>) {
        let mut queued = 0u32;
        for (cpu, processor) in self.processors.iter().enumerate() {
            if let Some(current) = processor.current {
                assert_eq!(threads[current].state, State::Running, "the current thread runs");
                assert_eq!(threads[current].cpu, cpu, "nobody runs on two processors");
            }
            for (priority, list) in processor.ready.iter().enumerate() {
                let before = queued;
                assert_eq!(processor.occupied >> priority & 1 == 1, !list.is_empty());
                let mut cursor = list.front();
                while let Some(id) = cursor {
                    assert_eq!(threads[id].state, State::Ready, "who is queued is ready");
                    assert_eq!(usize::from(threads[id].priority), priority);
                    assert_eq!(threads[id].suspensions, 0, "nobody suspended is ready");
                    assert!(threads[id].cpu == cpu && threads[id].may_run_on(cpu), "who is queued may run there");
                    queued += 1;
                    cursor = list.after(threads, id);
                }
                assert_eq!(queued - before, processor.counts[priority], "the lines are counted");
            }
        }
        let ready = threads.iter().filter(|(_, thread)| thread.state == State::Ready).count();
        assert_eq!(ready, queued as usize, "who is ready is queued");
        let running = threads.iter().filter(|(_, thread)| thread.state == State::Running).count();
        assert_eq!(running, self.processors.iter().filter(|processor| processor.current.is_some()).count());
    }
}

#[cfg(test)]
mod tests;
