//! Accounts.

use crate::child::{Child, DATA, Piece, RW, until};
use crate::harness::{Bench, TestResult, holds, refused, same, tests};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::system::AccountLimits;
use quire_api::abi::thread::{ExceptionKind, ThreadFlags, ThreadState};
use quire_api::{
    AddressSpace, ChannelEndpoint, Error, Event, HandleTable, Memory, Object, Queue, Rights, Thread, Timer,
};

tests!("account":
    frames_are_charged_when_they_are_touched_and_given_back,
    frames_beyond_the_limit_are_refused_by_the_call,
    frames_beyond_the_limit_are_a_fault_that_says_so,
    objects_beyond_the_limit_are_refused,
    an_ancestors_limit_counts,
    a_parent_counts_what_its_children_use,
    limits_can_be_changed_by_who_manages,
    every_object_gives_back_what_it_cost,
    killing_an_account_ends_its_threads_and_those_of_its_descendants,
);

fn frames_are_charged_when_they_are_touched_and_given_back(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let memory = Memory::create(&account, 64 * PAGE_SIZE)?;
    let empty = account.info()?.used.frames;
    for page in 0..10 {
        memory.write_all(page * PAGE_SIZE, b"x")?;
    }
    same(account.info()?.used.frames - empty, 10)?;
    memory.discard(0, 4 * PAGE_SIZE)?;
    same(account.info()?.used.frames - empty, 6)?;
    drop(memory);
    same(account.info()?.used, AccountLimits::default())
}

fn frames_beyond_the_limit_are_refused_by_the_call(bench: &Bench) -> TestResult {
    let account = bench.limited_account(4, u64::MAX)?;
    let memory = Memory::create(&account, 64 * PAGE_SIZE)?;
    let bytes = alloc::vec![7; 8 * PAGE_SIZE as usize];
    let written = memory.write(0, &bytes)?;
    holds(written <= 4 * PAGE_SIZE as usize && written > 0, "what fits is written")?;
    refused(memory.write(written as u64, b"x"), Error::AccountLimit)?;
    same(account.info()?.used.frames, 4)
}

fn frames_beyond_the_limit_are_a_fault_that_says_so(bench: &Bench) -> TestResult {
    let account = bench.limited_account(16, u64::MAX)?;
    let mut child = Child::new(&account)?;
    child.map_zero(DATA, 64 * PAGE_SIZE, RW)?;
    for page in 0..64 {
        if let Err((kind, address)) = child.store(DATA + page * PAGE_SIZE, 1)? {
            same(kind, ExceptionKind::NoMemory)?;
            same(address, DATA + page * PAGE_SIZE)?;
            return holds(page > 0, "some pages fit");
        }
    }
    holds(false, "the limit is felt")
}

fn objects_beyond_the_limit_are_refused(bench: &Bench) -> TestResult {
    let account = bench.limited_account(u64::MAX, 16 << 10)?;
    let mut events = alloc::vec::Vec::new();
    let error = loop {
        match Event::create(&account) {
            Ok(event) => events.push(event),
            Err(error) => break error,
        }
        holds(events.len() < 1_000, "the limit is felt")?;
    };
    same(error, Error::AccountLimit)?;
    holds(account.info()?.used.kernel_bytes <= 16 << 10, "no more is used than allowed")?;
    events.pop();
    events.push(Event::create(&account)?);
    drop(events);
    same(account.info()?.used.kernel_bytes, 0)
}

fn an_ancestors_limit_counts(bench: &Bench) -> TestResult {
    let parent = bench.limited_account(4, u64::MAX)?;
    let child = parent.create_child(&AccountLimits { frames: 100, kernel_bytes: u64::MAX })?;
    let memory = Memory::create(&child, 64 * PAGE_SIZE)?;
    for page in 0..4 {
        memory.write_all(page * PAGE_SIZE, b"x")?;
    }
    refused(memory.write(4 * PAGE_SIZE, b"x"), Error::AccountLimit)
}

fn a_parent_counts_what_its_children_use(bench: &Bench) -> TestResult {
    let parent = bench.new_account()?;
    let child = parent.create_child(&AccountLimits { frames: 100, kernel_bytes: u64::MAX })?;
    let before = parent.info()?.used.frames;
    let memory = Memory::create(&child, PAGE_SIZE)?;
    memory.write_all(0, b"x")?;
    same(parent.info()?.used.frames - before, 1)?;
    same(child.info()?.limit.frames, 100)?;
    drop(memory);
    same(parent.info()?.used.frames, before)
}

fn limits_can_be_changed_by_who_manages(bench: &Bench) -> TestResult {
    let account = bench.limited_account(1, u64::MAX)?;
    let memory = Memory::create(&account, 2 * PAGE_SIZE)?;
    memory.write_all(0, b"x")?;
    let user = account.duplicate(Rights::USE | Rights::READ)?;
    let more = AccountLimits { frames: 2, kernel_bytes: u64::MAX };
    refused(user.set_limits(&more), Error::MissingRights)?;
    refused(memory.write(PAGE_SIZE, b"x"), Error::AccountLimit)?;
    account.set_limits(&more)?;
    memory.write_all(PAGE_SIZE, b"x")?;
    account.set_limits(&AccountLimits { frames: 0, kernel_bytes: u64::MAX })?;
    memory.write_all(0, b"y")?;
    refused(Memory::create(&account, PAGE_SIZE)?.write(0, b"x"), Error::AccountLimit)
}

fn every_object_gives_back_what_it_cost(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let nothing = AccountLimits::default();
    let check = |name: &str| holds(account.info().map(|info| info.used) == Ok(nothing), name);
    drop(Event::create(&account)?);
    check("event")?;
    drop(Timer::create(&account)?);
    check("timer")?;
    drop(ChannelEndpoint::pair(&account)?);
    check("channel")?;
    drop(Queue::create(&account, 8, 8)?);
    check("queue")?;
    drop(HandleTable::create(&account)?);
    check("table")?;
    drop(AddressSpace::create(&account)?);
    check("space")?;
    let memory = Memory::create(&account, 1 << 30)?;
    memory.write_all(0, b"x")?;
    memory.write_all((1 << 30) - 1, b"x")?;
    drop((memory.snapshot(&account)?, memory.window(&account, 0, PAGE_SIZE)?, memory));
    check("memory, snapshot and window")?;
    let (space, table) = (AddressSpace::create(&account)?, HandleTable::create(&account)?);
    drop((Thread::create(&account, &space, &table, ThreadFlags::VECTOR)?, space, table));
    check("thread that never ran")?;
    let mut child = Child::new(&account)?;
    child.map_zero(DATA, 64 * PAGE_SIZE, RW)?;
    holds(child.store(DATA, 1)?.is_ok(), "the child stores")?;
    child.thread.kill()?;
    drop(child);
    check("thread that ran")
}

fn killing_an_account_ends_its_threads_and_those_of_its_descendants(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let descendant = account.create_child(&AccountLimits { frames: 100, kernel_bytes: u64::MAX })?;
    let mut children = [Child::new(&account)?, Child::new(&descendant)?];
    let mut bystander = Child::new(bench.account)?;
    for child in &mut children {
        child.begin(&Piece::Spin.registers())?;
    }
    bystander.begin(&Piece::Spin.registers())?;
    refused(account.duplicate(Rights::USE)?.kill(), Error::MissingRights)?;
    same(account.kill()?, 2)?;
    for child in &children {
        until(&child.thread, ThreadState::Dead)?;
    }
    same(bystander.state()?, ThreadState::Runnable)?;
    bystander.thread.kill()?;
    until(&bystander.thread, ThreadState::Dead)
}
