//! When memory is used up: who ends, and who waits for it.
//!
//! 1. All that programs have made is charged to accounts below one, whose limit is the programs' share of the machine. A process that
//!    has used up what *one* process may have ends, and nothing else happens.
//! 2. When the share itself is used up, a thread that needs a page for itself faults. The kernel makes a call to the server of that, and
//!    the thread waits in it like in any other: a signal that kills ends it. When the *server* needs memory for a program, in the
//!    midst of a call, it lends the share a part of its own reserve (`platform::native::reserve`), so that no call
//!    fails half done.
//! 3. In both cases the process that has most of the memory is chosen (`oom_score_adj` moves that, as on Linux), and ended with all that
//!    share its space. The console says who, how much it had, and for whom.
//! 4. When its memory has come back, what was lent is taken back, and all who wait try again. If it does not come back (others
//!    share it), the next one ends.
//!
//! The server ends programs without asking anything of them, and needs no memory for it but its own.

use super::end::end_process;
use super::tree::{ExitStatus, INIT};
use super::{Phase, Pid, Process, Server, Thread};
use crate::platform::{self, Account, Sharing, memory_is_used_up, now_ns, settle_loans, take_has_lent};
use crate::signal::Signal;
use crate::signal::leave::leave_retry;
use crate::vm::Content;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::pin::pin;
use futures_util::future::{Either, select};

/// Of a process with this adjustment, nothing is ever taken (`OOM_SCORE_ADJ_MIN`).
const NEVER: i16 = -1000;
/// The adjustments are parts of the memory: one in so many.
const PARTS: i64 = 1000;
/// How long the memory of one that has ended may take to come back, in ns, before somebody else has to end.
const PATIENCE_NS: u64 = 1_000_000_000;
/// How often that is looked at, in ns.
const LOOK_NS: u64 = 1_000_000;
/// How often a thread tries again for whose fault nobody is to blame.
const MAX_TRIES: u8 = 4;

/// What a process weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Which one.
    pub pid: Pid,
    /// Pages that it has: charged to it, or shared with those that it comes from.
    pub pages: u64,
    /// `oom_score_adj`.
    pub adjustment: i16,
}

impl Weight {
    /// That of a process.
    pub fn of(process: &Process) -> Self {
        let pages = process.account.used_frames().max(process.space().private_pages());
        Self { pid: process.pid, pages, adjustment: process.badness_adjustment.get() }
    }

    /// What is compared, in pages of a memory of `total`; `None` if nothing may be taken of it.
    fn badness(&self, total: u64) -> Option<i64> {
        let adjustment = i64::from(self.adjustment).saturating_mul(i64::try_from(total).unwrap_or(i64::MAX)) / PARTS;
        let pages = i64::try_from(self.pages).unwrap_or(i64::MAX);
        (self.adjustment > NEVER).then(|| pages.saturating_add(adjustment))
    }

    /// `oom_score`: the same in thousandths, squeezed as Linux does it (`proc(5)`): 0 for never, 666 for nothing.
    pub fn score(&self, total: u64) -> u64 {
        let Some(badness) = self.badness(total) else { return 0 };
        let total = i64::try_from(total).unwrap_or(i64::MAX).max(1);
        let score = (PARTS + badness.saturating_mul(PARTS) / total) * 2 / 3;
        u64::try_from(score).unwrap_or(0)
    }
}

/// The heaviest, of several the youngest; `None` if nothing may be taken of any.
pub fn heaviest(weights: impl Iterator<Item = Weight>, total: u64) -> Option<Weight> {
    let judged = weights.filter_map(|weight| weight.badness(total).map(|badness| (badness, weight.pid, weight)));
    judged.max_by_key(|(badness, pid, _)| (*badness, *pid)).map(|(_, _, weight)| weight)
}

/// What a fault for want of memory comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The thread tries again later, or has ended.
    Waits,
    /// What it faulted in can have no more: `SIGBUS`.
    IsRefused,
}

/// Where the server is with it.
#[derive(Default)]
pub struct Exhaustion {
    /// Somebody's memory is being waited for.
    is_busy: Cell<bool>,
    /// Woken when that is over.
    over: WaitQueue,
    /// How many have ended for it since the start.
    ended: Cell<u64>,
}

impl Exhaustion {
    /// How many have ended for want of memory since the start (`oom_kill` in `/proc/vmstat`).
    pub fn ended(&self) -> u64 {
        self.ended.get()
    }

    /// Waits for the end of what is being done.
    async fn finished(server: Rc<Server>) {
        loop {
            let listener = server.exhaustion.over.listen();
            if !server.exhaustion.is_busy.get() {
                return;
            }
            listener.await;
        }
    }
}

/// A thread has faulted, and there was no memory for it.
pub fn faulted(thread: &Rc<Thread>, address: u64) -> Fault {
    let (process, server) = (&thread.process, thread.server());
    if process.account.is_full() {
        let weight = Weight::of(process);
        end(server, process, weight, "that is all that one process may have");
        return Fault::Waits;
    }
    let has_room = !memory_is_used_up();
    if has_room && (is_shared_file(thread, address) || thread.starved.get() >= MAX_TRIES) {
        thread.starved.set(0);
        return Fault::IsRefused;
    }
    thread.starved.set(if has_room { thread.starved.get() + 1 } else { 0 });
    if !has_room && !begin(server, Some(process)) {
        let weight = Weight::of(process);
        end(server, process, weight, "it needs one more, and nothing may be taken of the others");
        return Fault::Waits;
    }
    wait(thread);
    Fault::Waits
}

/// Whether a page that could not be had is a file's: its file system is full then, which is the program's business
/// (`SIGBUS`, as on Linux).
fn is_shared_file(thread: &Thread, address: u64) -> bool {
    let area = thread.process.vm().area_at(address);
    area.is_some_and(|area| area.sharing == Sharing::Shared && matches!(area.content, Content::File(..)))
}

/// Lets a thread try again when there is memory, unless it ends meanwhile.
fn wait(thread: &Rc<Thread>) {
    let waiting = thread.clone();
    thread.server().executor.spawn(async move {
        let server = waiting.server().clone();
        let relief = pin!(async {
            Exhaustion::finished(server.clone()).await;
            if waiting.starved.get() != 0 {
                server.executor.sleep_until(now_ns().saturating_add(LOOK_NS)).await;
            }
        });
        let gone = pin!(waiting.clone().gone());
        if let Either::Left(_) = select(relief, gone).await {
            leave_retry(&waiting);
        }
    });
}

/// Looks whether the server had to lend memory for the last call. To be called after each.
#[inline]
pub fn look(server: &Rc<Server>) {
    if take_has_lent() {
        // If nothing may be taken of anybody, calls fail.
        let _ = begin(server, None);
    }
}

/// Sees to it that memory comes back. False: nothing may be taken of anybody.
fn begin(server: &Rc<Server>, needy: Option<&Rc<Process>>) -> bool {
    if server.exhaustion.is_busy.get() {
        return true;
    }
    let why = match needy {
        Some(process) => alloc::format!("process {} ({}) needs one more", process.pid, name(process)),
        None => String::from("the server needs some for a call"),
    };
    let Some(victim) = end_heaviest(server, &why) else { return false };
    server.exhaustion.is_busy.set(true);
    let server = server.clone();
    server.executor.clone().spawn(async move {
        let mut victim = Some(victim);
        while let Some(account) = victim.take() {
            if !comes_back(&server, &account).await {
                victim = end_heaviest(&server, &why);
            }
        }
        server.exhaustion.is_busy.set(false);
        server.exhaustion.over.wake();
    });
    true
}

/// Waits until the memory of one that has ended is back, and there is room. False: not all of it came, and it is not enough.
async fn comes_back(server: &Server, account: &Account) -> bool {
    let before = account.used_frames();
    let deadline = now_ns().saturating_add(PATIENCE_NS);
    loop {
        let is_back = account.used_frames() <= before / 8;
        if is_back && settle_loans() {
            return true;
        }
        if now_ns() >= deadline {
            return settle_loans();
        }
        server.executor.sleep_until(now_ns().saturating_add(LOOK_NS)).await;
    }
}

/// Ends the heaviest of all, with those that share its space; what paid for it.
fn end_heaviest(server: &Rc<Server>, why: &str) -> Option<Account> {
    let processes = server.processes();
    let may_end = |process: &&Rc<Process>| {
        process.pid != INIT && process.phase.get() != Phase::Ended && !process.is_borrowing.get()
    };
    let total = platform::total_frames();
    let weight = heaviest(processes.iter().filter(may_end).map(|process| Weight::of(process)), total)?;
    let chosen = server.process(weight.pid)?;
    let account = chosen.account.clone();
    let vm = chosen.vm();
    end(server, &chosen, weight, why);
    let sharers = processes.iter().filter(|other| other.pid != INIT && Rc::ptr_eq(&other.vm(), &vm));
    for other in sharers.cloned().collect::<Vec<_>>() {
        end_process(&other, KILLED);
    }
    Some(account)
}

const KILLED: ExitStatus = ExitStatus::Killed { signal: Signal::KILL, dumped: false };

/// Ends a process, and says so on the console.
fn end(server: &Server, process: &Rc<Process>, weight: Weight, why: &str) {
    let total = platform::total_frames();
    let adjustment = match weight.adjustment {
        0 => String::new(),
        value => alloc::format!(", oom_score_adj {value}"),
    };
    platform::log(&alloc::format!(
        "out of memory: process {} ({}) of user {} ends: it has {} of {total} pages{adjustment}; {why}",
        process.pid,
        name(process),
        process.credentials().uid,
        weight.pages,
    ));
    server.exhaustion.ended.set(server.exhaustion.ended.get().saturating_add(1));
    end_process(process, KILLED);
}

fn name(process: &Process) -> String {
    String::from_utf8_lossy(&process.program.borrow().name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: u64 = 100_000;

    fn weight(pid: Pid, pages: u64, adjustment: i16) -> Weight {
        Weight { pid, pages, adjustment }
    }

    fn chosen(weights: &[Weight]) -> Option<Pid> {
        heaviest(weights.iter().copied(), TOTAL).map(|weight| weight.pid)
    }

    #[test]
    fn the_heaviest_is_chosen_and_of_equals_the_youngest() {
        assert_eq!(chosen(&[weight(2, 10, 0), weight(3, 500, 0), weight(4, 499, 0)]), Some(3));
        assert_eq!(chosen(&[weight(2, 10, 0), weight(3, 10, 0)]), Some(3));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn an_adjustment_counts_like_that_part_of_the_memory() {
        assert_eq!(chosen(&[weight(2, 40_000, 0), weight(3, 10, 500)]), Some(3));
        assert_eq!(chosen(&[weight(2, 60_000, 0), weight(3, 10, 500)]), Some(2));
        assert_eq!(chosen(&[weight(2, 60_000, -999), weight(3, 10, 0)]), Some(3));
    }

    #[test]
    fn nothing_is_taken_of_one_that_is_exempt() {
        assert_eq!(chosen(&[weight(2, 90_000, NEVER), weight(3, 1, 0)]), Some(3));
        assert_eq!(chosen(&[weight(2, 90_000, NEVER)]), None);
    }

    #[test]
    fn scores_are_those_of_linux() {
        assert_eq!(weight(2, 0, 0).score(TOTAL), 666);
        assert_eq!(weight(2, 0, 1000).score(TOTAL), 1333);
        assert_eq!(weight(2, TOTAL, 1000).score(TOTAL), 2000);
        assert_eq!(weight(2, TOTAL / 2, NEVER).score(TOTAL), 0);
        assert_eq!(weight(2, 0, -999).score(TOTAL), 0);
    }
}
