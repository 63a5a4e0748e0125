//! More than one processor: what is done to threads and spaces while they run elsewhere. On a machine with one there is nothing
//! to see, and the tests pass.

use crate::child::{Child, DATA, Piece, RW, pause, space_with_code};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use log::info;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::{ExceptionKind, ThreadFlags, ThreadState};
use quire_api::time::clock_ns;
use quire_api::{Commit, Error, MapFlags, Memory, Protection, rt, system};

tests!("processors":
    there_is_one_at_least,
    affinity_is_obeyed_also_by_a_thread_that_runs,
    impossible_affinities_are_refused,
    threads_run_at_the_same_time,
    a_thread_that_runs_elsewhere_is_suspended_when_the_call_returns,
    a_thread_that_runs_elsewhere_is_dead_when_the_call_returns,
    what_is_unmapped_is_gone_on_all_processors,
    what_is_protected_is_protected_on_all_processors,
    a_clone_does_not_see_what_its_source_writes_elsewhere,
    spaces_end_while_they_are_used_elsewhere,
);

/// Times that a race is run.
const ROUNDS: u64 = 30;

fn there_is_one_at_least(_: &Bench) -> TestResult {
    let count = system::system_info()?.processors;
    info!("{count} processors");
    holds(count > 0, "somebody runs this")
}

/// Keeps this thread on the first processor while it lives.
struct Pinned(());

impl Pinned {
    /// `None` on a machine with one processor.
    fn new() -> Result<Option<Self>, Failure> {
        if system::system_info()?.processors < 2 {
            return Ok(None);
        }
        rt::thread()?.set_affinity(1)?;
        Ok(Some(Self(())))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It ran there before.
        let _ = rt::thread().map(|thread| thread.set_affinity(u64::MAX));
    }
}

/// A child on the second processor that counts in a memory, which others see.
struct Counter {
    child: Child,
    memory: Memory,
}

impl Counter {
    fn start(bench: &Bench) -> Result<Self, Failure> {
        let mut child = Child::new(bench.account)?;
        let memory = Memory::create(bench.account, PAGE_SIZE)?;
        child.map(&memory, DATA, RW)?;
        child.thread.set_affinity(1 << 1)?;
        child.begin(&Piece::StoreCount.at(DATA, 0))?;
        let counter = Self { child, memory };
        counter.wait_beyond(0)?;
        Ok(counter)
    }

    fn value(&self) -> Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.memory.read_exact(0, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Waits, without giving up this processor, until the counter has gone beyond a number.
    fn wait_beyond(&self, past: u64) -> TestResult {
        let deadline_ns = in_ms(10_000);
        while self.value()? <= past {
            holds(clock_ns() < deadline_ns, "the other processor counts")?;
        }
        Ok(())
    }

    /// Two looks at the counter see the same.
    fn stands_still(&self) -> TestResult {
        let before = self.value()?;
        for _ in 0..1000 {
            same(self.value()?, before)?;
        }
        Ok(())
    }
}

fn affinity_is_obeyed_also_by_a_thread_that_runs(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    same(rt::thread()?.info()?.processor, 0)?;
    let counter = Counter::start(bench)?;
    let info = counter.child.thread.info()?;
    same((info.processor, info.affinity), (1, 2))?;
    // Now it has to share the first with this thread, which comes first.
    counter.child.thread.set_affinity(1)?;
    let deadline_ns = in_ms(10_000);
    while counter.child.thread.info()?.processor != 0 {
        holds(clock_ns() < deadline_ns, "the thread moves")?;
    }
    counter.stands_still()?;
    counter.child.thread.set_affinity(u64::MAX)?;
    counter.wait_beyond(counter.value()?)
}

fn impossible_affinities_are_refused(bench: &Bench) -> TestResult {
    let count = system::system_info()?.processors;
    let child = Child::new(bench.account)?;
    refused(child.thread.set_affinity(0), Error::BadArgument)?;
    if count < u64::BITS {
        refused(child.thread.set_affinity(u64::MAX << count), Error::BadArgument)?;
    }
    child.thread.kill()?;
    refused(child.thread.set_affinity(1), Error::PeerClosed)
}

fn threads_run_at_the_same_time(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    // This thread comes first and never waits: on its own processor the child could not run.
    let counter = Counter::start(bench)?;
    (0..3).try_for_each(|_| counter.wait_beyond(counter.value()?))
}

fn a_thread_that_runs_elsewhere_is_suspended_when_the_call_returns(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    let counter = Counter::start(bench)?;
    for _ in 0..ROUNDS {
        counter.child.thread.suspend()?;
        same(counter.child.thread.registers()?.rdi, DATA)?;
        counter.stands_still()?;
        counter.child.thread.resume()?;
        counter.wait_beyond(counter.value()?)?;
    }
    Ok(())
}

fn a_thread_that_runs_elsewhere_is_dead_when_the_call_returns(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    for _ in 0..ROUNDS {
        let counter = Counter::start(bench)?;
        counter.child.thread.kill()?;
        same(counter.child.state()?, ThreadState::Dead)?;
        counter.stands_still()?;
    }
    Ok(())
}

fn what_is_unmapped_is_gone_on_all_processors(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    for _ in 0..ROUNDS {
        let mut counter = Counter::start(bench)?;
        let mut commit = Commit::new();
        commit.unmap(DATA, PAGE_SIZE);
        counter.child.space.commit(&commit)?;
        counter.stands_still()?;
        same(counter.child.wait()?.fault(), (ExceptionKind::NotMapped, DATA))?;
    }
    Ok(())
}

fn what_is_protected_is_protected_on_all_processors(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    for _ in 0..ROUNDS {
        let mut counter = Counter::start(bench)?;
        let mut commit = Commit::new();
        commit.protect(DATA, PAGE_SIZE, Protection::READ);
        counter.child.space.commit(&commit)?;
        counter.stands_still()?;
        same(counter.child.wait()?.fault(), (ExceptionKind::AccessDenied, DATA))?;
    }
    Ok(())
}

fn a_clone_does_not_see_what_its_source_writes_elsewhere(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    child.thread.set_affinity(1 << 1)?;
    child.begin(&Piece::StoreCount.at(DATA, 0))?;
    let value = |space: &quire_api::AddressSpace| {
        let mut bytes = [0; 8];
        space.read_exact(DATA, &mut bytes).map(|()| u64::from_le_bytes(bytes))
    };
    let mut seen = 0;
    for _ in 0..ROUNDS {
        let deadline_ns = in_ms(10_000);
        while value(&child.space)? <= seen {
            holds(clock_ns() < deadline_ns, "the other processor counts")?;
        }
        let clone = quire_api::AddressSpace::create(bench.account)?;
        let mut commit = Commit::new();
        commit.clone_of(&child.space);
        clone.commit(&commit)?;
        let first = value(&clone)?;
        holds(first > seen, "the clone has what was written before")?;
        seen = value(&child.space)?.max(first);
        for _ in 0..100 {
            same(value(&clone)?, first)?;
        }
    }
    Ok(())
}

fn spaces_end_while_they_are_used_elsewhere(bench: &Bench) -> TestResult {
    let Some(_pinned) = Pinned::new()? else { return Ok(()) };
    let account = bench.new_account()?;
    for round in 0..ROUNDS {
        let space = space_with_code(&account)?;
        let mut child = Child::in_space(&account, space, ThreadFlags::empty())?;
        let mut commit = Commit::new();
        commit.map_zero(DATA, 64 * PAGE_SIZE, RW, MapFlags::empty());
        child.space.commit(&commit)?;
        child.thread.set_affinity(1 << 1)?;
        child.begin(&Piece::TouchAll.at(DATA, DATA + 64 * PAGE_SIZE))?;
        if round % 2 == 0 {
            pause()?;
        }
        // Everything of it goes: thread, table, space, page tables.
        drop(child);
    }
    Ok(())
}
