//! Which processor runs what: where a thread becomes ready, and who takes work from whom.

use super::{End, PRIORITIES, Processor, Scheduler};
use crate::pool::{Id, Pool};
use crate::thread::Thread;

/// How many threads of one queue are looked at to find one that may run on another processor.
const STEAL_DEPTH: usize = 8;

impl Processor {
    /// The first ready thread of at least this priority that may run on `cpu`.
    fn find_for(&self, threads: &mut Pool<Thread>, cpu: usize, least: u8) -> Option<Id<Thread>> {
        let mut left = self.occupied & u32::MAX << least;
        while let Some(priority) = left.checked_ilog2() {
            let found = self.find_in_line(threads, cpu, priority as usize);
            if found.is_some() {
                return found;
            }
            left &= !(1 << priority);
        }
        None
    }

    /// The first of the ready threads of this priority that may run on `cpu`.
    fn find_in_line(&self, threads: &mut Pool<Thread>, cpu: usize, priority: usize) -> Option<Id<Thread>> {
        let list = &self.ready[priority];
        let mut cursor = list.front();
        for _ in 0..STEAL_DEPTH {
            let id = cursor?;
            if threads[id].may_run_on(cpu) {
                return Some(id);
            }
            cursor = list.after(threads, id);
        }
        None
    }

    /// How urgent the most urgent thread is that it runs or has ready; `None` without any.
    fn level(&self, threads: &Pool<Thread>) -> Option<u8> {
        self.current.map(|id| threads[id].priority).max(self.highest())
    }
}

impl Scheduler {
    /// The processor on which a thread should be ready.
    #[inline(never)]
    pub(super) fn place(&self, threads: &Pool<Thread>, id: Id<Thread>) -> usize {
        let thread = &threads[id];
        let (last, allowed) = (thread.cpu, thread.affinity & self.all());
        let idle = self.idle & allowed;
        if idle != 0 {
            return if idle >> last & 1 != 0 { last } else { idle.trailing_zeros() as usize };
        }
        let level = |cpu: &usize| self.processors[*cpu].level(threads);
        let gives_way = |cpu: &usize| level(cpu).is_none_or(|level| level < thread.priority);
        let may_stay = thread.may_run_on(last);
        if may_stay && gives_way(&last) {
            return last;
        }
        let calmest = (0..self.processors.len()).filter(|cpu| thread.may_run_on(*cpu)).min_by_key(level);
        match calmest {
            Some(cpu) if !may_stay || gives_way(&cpu) => cpu,
            Some(_) | None => last,
        }
    }

    /// Hands on what is ready here and more urgent than what others run: urgency may have changed since it was put here.
    #[inline(never)]
    pub(super) fn spread(&mut self, threads: &mut Pool<Thread>, cpu: usize) {
        for _ in 1..self.processors.len() {
            let Some((id, place)) = self.find_misplaced(threads, cpu) else { return };
            self.processors[cpu].remove(threads, id);
            self.enqueue_on(threads, place, id, End::Back);
        }
    }

    /// A thread that is ready on `cpu` and would run at once elsewhere, and where.
    fn find_misplaced(&self, threads: &mut Pool<Thread>, cpu: usize) -> Option<(Id<Thread>, usize)> {
        let others = self.processors.iter().enumerate().filter(|(other, _)| *other != cpu);
        let calmest = others.map(|(_, other)| other.level(threads)).min()?;
        let processor = &self.processors[cpu];
        let mut left = u64::from(processor.occupied) & calmest.map_or(u64::MAX, |level| u64::MAX << (level + 1));
        while let Some(priority) = left.checked_ilog2() {
            let list = &processor.ready[priority as usize];
            let mut cursor = list.front();
            for _ in 0..STEAL_DEPTH {
                let Some(id) = cursor else { break };
                let place = self.place(threads, id);
                if place != cpu {
                    return Some((id, place));
                }
                cursor = list.after(threads, id);
            }
            left &= !(1 << priority);
        }
        None
    }

    /// The first ready thread of another processor that may run on `cpu` and has at least this priority; of several
    /// processors' the most urgent.
    fn find_better(&self, threads: &mut Pool<Thread>, cpu: usize, least: u8) -> Option<Id<Thread>> {
        let mut best = None;
        let mut least = u32::from(least);
        for other in (0..self.processors.len()).filter(|other| *other != cpu) {
            if least >= PRIORITIES as u32 {
                break;
            }
            if let Some(id) = self.processors[other].find_for(threads, cpu, least as u8) {
                least = u32::from(threads[id].priority) + 1;
                best = Some(id);
            }
        }
        best
    }

    /// Whom the current thread of `cpu`, of this priority, gives way to although he is ready elsewhere: somebody more urgent; or,
    /// if its time slice is over, somebody of a longer line.
    #[inline(never)]
    pub(super) fn find_rival(
        &self,
        threads: &mut Pool<Thread>,
        cpu: usize,
        priority: u8,
        over: bool,
    ) -> Option<Id<Thread>> {
        let own = &self.processors[cpu];
        let least = own.highest().map_or(priority, |highest| highest.max(priority)) + 1;
        let urgent = if usize::from(least) < PRIORITIES { self.find_better(threads, cpu, least) } else { None };
        if urgent.is_some() || !over || least != priority + 1 {
            return urgent;
        }
        let line = usize::from(priority);
        let others = self.processors.iter().enumerate().filter(|(other, _)| *other != cpu);
        let (_, longest) = others.max_by_key(|(_, other)| other.counts[line])?;
        if longest.counts[line] <= own.counts[line] {
            return None;
        }
        longest.find_in_line(threads, cpu, line)
    }

    /// What another processor has ready that is more urgent than the first thread of this one's own.
    #[inline(never)]
    pub(super) fn find_elsewhere(
        &self,
        threads: &mut Pool<Thread>,
        cpu: usize,
        own: Option<Id<Thread>>,
    ) -> Option<Id<Thread>> {
        let least = own.map_or(0, |id| threads[id].priority + 1);
        if usize::from(least) < PRIORITIES { self.find_better(threads, cpu, least) } else { None }
    }
}
