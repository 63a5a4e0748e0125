//! Who traces whom, and what a `wait` of a tracer finds.

use super::Tracee;
use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::process::tree::{ExitStatus, Take, WaitFor, WaitRequest, Want};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// All traced threads, by their ids, and those of each tracing process.
#[derive(Debug, Default)]
pub struct Tracees {
    all: BTreeMap<Pid, Tracee>,
    of: BTreeMap<Pid, BTreeSet<Pid>>,
}

/// What a tracer learns of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has stopped: the upper half of the status.
    Stopped(i32),
    /// It has ended.
    Ended(ExitStatus),
}

/// A thread with something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The thread.
    pub tid: Pid,
    /// Its process.
    pub process: Pid,
    /// What.
    pub news: News,
}

/// How many threads a tracer can have before those that end are forgotten: their ids are in use until it waits for them.
const MAX_KEPT: usize = 512;

impl Tracees {
    /// Whether a thread that ends is kept for its tracer to wait for.
    pub fn keeps_ended(&self, tracer: Pid) -> bool {
        self.of.get(&tracer).is_some_and(|threads| threads.len() <= MAX_KEPT)
    }

    /// Whether nobody is traced.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A traced thread.
    pub fn get(&self, tid: Pid) -> Option<&Tracee> {
        self.all.get(&tid)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, tid: Pid) -> Option<&mut Tracee> {
        self.all.get_mut(&tid)
    }

    /// Enters a thread.
    pub fn insert(&mut self, tid: Pid, tracee: Tracee) {
        self.of.entry(tracee.tracer.pid).or_default().insert(tid);
        self.all.insert(tid, tracee);
    }

    /// Takes a thread out.
    pub fn remove(&mut self, tid: Pid) -> Option<Tracee> {
        let tracee = self.all.remove(&tid)?;
        if let Some(threads) = self.of.get_mut(&tracee.tracer.pid) {
            threads.remove(&tid);
            if threads.is_empty() {
                self.of.remove(&tracee.tracer.pid);
            }
        }
        Some(tracee)
    }

    /// Those that a thread traces.
    pub fn of_thread(&self, tracer: Pid, process: Pid) -> Vec<Pid> {
        let Some(threads) = self.of.get(&process) else { return Vec::new() };
        let is_own = |tid: &&Pid| self.all.get(tid).is_some_and(|tracee| tracee.tracer.tid == tracer);
        threads.iter().filter(is_own).copied().collect()
    }

    /// A tracing thread has another id from now on (`execve`).
    pub fn rename_tracer(&mut self, old: Pid, new: Pid, process: Pid) {
        for tid in self.of_thread(old, process) {
            if let Some(tracee) = self.all.get_mut(&tid) {
                tracee.tracer.tid = new;
            }
        }
    }

    /// Looks for a thread that has something to tell a process that traces it. `None`: none has, yet. `ECHILD`: it traces none
    /// such. `group_of` tells the group of a process.
    pub fn wait(
        &mut self,
        tracer: Pid,
        request: &WaitRequest,
        group_of: impl Fn(Pid) -> Option<Pid>,
    ) -> Result<Option<Told>> {
        let threads = self.of.get(&tracer).ok_or(Errno::ECHILD)?;
        let take = request.take == Take::Yes;
        let mut is_hopeless = true;
        for tid in threads {
            let Some(tracee) = self.all.get_mut(tid) else { continue };
            if !is_wanted(*tid, tracee, request, &group_of) {
                continue;
            }
            let news = match tracee.ended() {
                // Nobody asks for ends: it tells nothing ever more.
                Some(_) if request.events.ended == Want::No => continue,
                Some(status) => Some(News::Ended(status)),
                None => tracee.news(take).map(News::Stopped),
            };
            is_hopeless = false;
            if let Some(news) = news {
                return Ok(Some(Told { tid: *tid, process: tracee.process, news }));
            }
        }
        if is_hopeless { Err(Errno::ECHILD) } else { Ok(None) }
    }
}

fn is_wanted(tid: Pid, tracee: &Tracee, request: &WaitRequest, group_of: impl Fn(Pid) -> Option<Pid>) -> bool {
    let is_named = match request.which {
        WaitFor::Any => true,
        WaitFor::Process(wanted) => tid == wanted,
        WaitFor::Group(group) => group_of(tracee.process) == Some(group),
    };
    is_named && request.creator.is_none_or(|waiter| tracee.tracer.tid == waiter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tree::{Kin, WaitEvents};
    use crate::ptrace::{Hold, Options, Stop, Tracer};

    fn table() -> Tracees {
        let mut table = Tracees::default();
        for (tid, process, tracer) in [(10, 10, 2), (11, 10, 3), (20, 20, 2)] {
            let tracer = Tracer { tid: tracer, pid: 2 };
            table.insert(tid, Tracee::new(tracer, process, Hold::Attached, Options::empty()));
        }
        table
    }

    fn request(which: WaitFor) -> WaitRequest {
        let events = WaitEvents { ended: Want::Yes, stopped: Want::No, continued: Want::No };
        WaitRequest { which, kin: Kin::Ordinary, creator: None, events, take: Take::Yes }
    }

    fn wait(table: &mut Tracees, request: &WaitRequest) -> Result<Option<(Pid, News)>> {
        let found = table.wait(2, request, |process| Some(process * 10));
        found.map(|told| told.map(|told| (told.tid, told.news)))
    }

    #[test]
    fn stops_are_told_by_thread_without_being_asked_for() {
        let mut table = table();
        assert_eq!(wait(&mut table, &request(WaitFor::Any)), Ok(None));
        table.get_mut(11).unwrap().stop(Stop::CallEntry, 11, 0);
        assert_eq!(wait(&mut table, &request(WaitFor::Process(10))), Ok(None));
        assert_eq!(wait(&mut table, &request(WaitFor::Group(200))), Ok(None));
        assert_eq!(wait(&mut table, &request(WaitFor::Process(12))), Err(Errno::ECHILD));
        let by_other_thread = WaitRequest { creator: Some(2), ..request(WaitFor::Any) };
        assert_eq!(wait(&mut table, &by_other_thread), Ok(None));
        let peek = WaitRequest { take: Take::Peek, ..request(WaitFor::Group(100)) };
        for request in [peek, request(WaitFor::Process(11))] {
            assert_eq!(wait(&mut table, &request), Ok(Some((11, News::Stopped(5)))));
        }
        assert_eq!(wait(&mut table, &request(WaitFor::Any)), Ok(None));
    }

    #[test]
    fn an_end_is_told_to_who_asks_for_ends() {
        let mut table = table();
        table.get_mut(20).unwrap().end(ExitStatus::Exited(3));
        let stops_only = WaitEvents { ended: Want::No, stopped: Want::Yes, continued: Want::No };
        let stops = WaitRequest { events: stops_only, ..request(WaitFor::Process(20)) };
        assert_eq!(wait(&mut table, &stops), Err(Errno::ECHILD));
        let ended = Ok(Some((20, News::Ended(ExitStatus::Exited(3)))));
        assert_eq!(wait(&mut table, &request(WaitFor::Any)), ended);
    }

    #[test]
    fn a_thread_and_what_it_traces_come_and_go_together() {
        let mut table = table();
        assert_eq!(table.of_thread(2, 2), [10, 20]);
        table.rename_tracer(3, 2, 2);
        assert_eq!(table.of_thread(2, 2), [10, 11, 20]);
        for tid in [10, 11, 20] {
            assert!(table.remove(tid).is_some());
        }
        assert!(table.is_empty() && table.of.is_empty());
    }
}
