//! Events.

use crate::child::{Child, call};
use crate::harness::{Bench, TestResult, holds, in_ms, refused, same, tests};
use quire_api::abi::Call;
use quire_api::time::clock_ns;
use quire_api::{Error, Event, FOREVER, IMMEDIATELY, Object, Rights};

tests!("event":
    bits_are_set_and_cleared,
    waiting_obeys_its_deadline,
    a_waiter_is_woken_by_its_bits_only,
    bits_that_are_set_and_cleared_at_once_wake_too,
    all_waiters_are_woken,
    rights_are_checked,
);

fn bits_are_set_and_cleared(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    same(event.update(0b101, 0)?, 0b101)?;
    same(event.update(0b010, 0b001)?, 0b110)?;
    same(event.wait(0b100, IMMEDIATELY)?, 0b100)?;
    refused(event.wait(0b001, IMMEDIATELY), Error::WouldBlock)?;
    same(event.update(u64::MAX, u64::MAX)?, 0)
}

fn waiting_obeys_its_deadline(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let deadline_ns = in_ms(5);
    refused(event.wait(1, deadline_ns), Error::TimedOut)?;
    holds(clock_ns() >= deadline_ns, "it does not return early")
}

fn a_waiter_is_woken_by_its_bits_only(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let mut child = Child::new(bench.account)?;
    let handle = child.give(&event)?;
    child.begin(&call(Call::EventWait, [handle, 0b110, FOREVER, 0, 0, 0]))?;
    child.until_waiting()?;
    event.update(0b001, 0)?;
    refused(child.wait_until(in_ms(2)).map(drop).map_err(|_| Error::TimedOut), Error::TimedOut)?;
    event.update(0b100, 0)?;
    let r = child.wait()?.registers;
    same((r.rax, r.rdx), (0, 0b100))
}

fn bits_that_are_set_and_cleared_at_once_wake_too(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let mut child = Child::new(bench.account)?;
    let handle = child.give(&event)?;
    child.begin(&call(Call::EventWait, [handle, 1, FOREVER, 0, 0, 0]))?;
    child.until_waiting()?;
    same(event.update(1, 1)?, 0)?;
    same(child.wait()?.registers.rax, 0)
}

fn all_waiters_are_woken(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let mut children = [Child::new(bench.account)?, Child::new(bench.account)?, Child::new(bench.account)?];
    for child in &mut children {
        let handle = child.give(&event)?;
        child.begin(&call(Call::EventWait, [handle, 1, FOREVER, 0, 0, 0]))?;
        child.until_waiting()?;
    }
    event.update(1, 0)?;
    for child in &mut children {
        same(child.wait()?.registers.rax, 0)?;
    }
    Ok(())
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    refused(event.duplicate(Rights::WAIT)?.update(1, 0), Error::MissingRights)?;
    refused(event.duplicate(Rights::SEND)?.wait(1, IMMEDIATELY), Error::MissingRights)
}
