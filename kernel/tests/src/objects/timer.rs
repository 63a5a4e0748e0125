//! Timers and the clock.

use crate::harness::{Bench, TestResult, holds, in_ms, refused, same, tests};
use quire_api::queue::{MappedQueue, unbind};
use quire_api::time::clock_ns;
use quire_api::{Clock, Error, FOREVER, Object, Rights, Timer, system};

tests!("timer":
    the_clock_goes_forward_and_agrees_with_the_counter,
    a_timer_completes_at_its_deadline_and_not_before,
    a_past_deadline_completes_at_once,
    a_cancelled_timer_does_not_complete,
    a_new_deadline_replaces_the_old,
    deadlines_complete_in_order,
    a_timer_without_a_queue_is_not_armed,
    rights_are_checked,
);

fn the_clock_goes_forward_and_agrees_with_the_counter(_: &Bench) -> TestResult {
    let clock = Clock::new()?;
    for _ in 0..100 {
        let (before, between, after) = (clock_ns(), clock.now_ns(), clock_ns());
        holds(before <= between && between <= after, "both ways of reading the clock agree")?;
    }
    holds(system::system_info()?.boot_unix_ns > 1_600_000_000_000_000_000, "the time of day is set")
}

/// A queue with a bound timer.
fn queue_with_timer(bench: &Bench) -> Result<(MappedQueue, Timer), Error> {
    let queue = MappedQueue::create(bench.account, 8, 8)?;
    let timer = Timer::create(bench.account)?;
    queue.queue().bind(&timer, 1)?;
    Ok((queue, timer))
}

fn a_timer_completes_at_its_deadline_and_not_before(bench: &Bench) -> TestResult {
    let (mut queue, timer) = queue_with_timer(bench)?;
    let deadline_ns = in_ms(5);
    timer.arm(deadline_ns)?;
    queue.wait(FOREVER)?;
    let late_ns = clock_ns().checked_sub(deadline_ns).ok_or(Error::TimedOut)?;
    same(queue.take().map(|completion| (completion.key, completion.kind)), Some((1, 4)))?;
    holds(late_ns < 100_000_000, "and not long after")
}

fn a_past_deadline_completes_at_once(bench: &Bench) -> TestResult {
    let (mut queue, timer) = queue_with_timer(bench)?;
    timer.arm(1)?;
    queue.wait(in_ms(1_000))?;
    holds(queue.take().is_some(), "it completes")
}

fn a_cancelled_timer_does_not_complete(bench: &Bench) -> TestResult {
    let (mut queue, timer) = queue_with_timer(bench)?;
    timer.arm(in_ms(3))?;
    timer.cancel()?;
    refused(queue.wait(in_ms(6)), Error::TimedOut)?;
    timer.arm(in_ms(3))?;
    unbind(&timer)?;
    refused(queue.wait(in_ms(6)), Error::TimedOut)?;
    holds(queue.take().is_none(), "nothing completes")
}

fn a_new_deadline_replaces_the_old(bench: &Bench) -> TestResult {
    let (mut queue, timer) = queue_with_timer(bench)?;
    timer.arm(in_ms(500))?;
    let sooner_ns = in_ms(3);
    timer.arm(sooner_ns)?;
    queue.wait(in_ms(200))?;
    holds(clock_ns() >= sooner_ns && queue.take().is_some(), "the newer deadline counts")?;
    refused(queue.wait(in_ms(5)), Error::TimedOut)
}

fn deadlines_complete_in_order(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 16)?;
    let mut timers = alloc::vec::Vec::new();
    let start_ns = in_ms(2);
    for (key, delay_us) in [(3, 900), (1, 300), (4, 1_200), (2, 600)] {
        let timer = Timer::create(bench.account)?;
        queue.queue().bind(&timer, key)?;
        timer.arm(start_ns + delay_us * 1_000)?;
        timers.push(timer);
    }
    for expected in 1..5 {
        let completion = loop {
            match queue.take() {
                Some(completion) => break completion,
                None => queue.wait(in_ms(1_000))?,
            }
        };
        same(completion.key, expected)?;
    }
    Ok(())
}

fn a_timer_without_a_queue_is_not_armed(bench: &Bench) -> TestResult {
    let timer = Timer::create(bench.account)?;
    refused(timer.arm(in_ms(1)), Error::BadState)?;
    refused(unbind(&timer), Error::NotFound)
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let (queue, timer) = queue_with_timer(bench)?;
    let waiting = timer.duplicate(Rights::WAIT)?;
    refused(waiting.arm(0), Error::MissingRights)?;
    refused(waiting.cancel(), Error::MissingRights)?;
    refused(queue.queue().bind(&timer.duplicate(Rights::WRITE)?, 1), Error::MissingRights)
}
