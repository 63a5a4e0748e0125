//! Queues.

use crate::child::{Child, DATA, Piece, RW, call};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use quire_api::abi::Call;
use quire_api::abi::message::WORDS;
use quire_api::abi::queue::{Completion, CompletionKind, MAX_ENTRIES, Submission, SubmissionKind};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::executor::Buffers;
use quire_api::queue::{MappedQueue, unbind};
use quire_api::{
    ChannelEndpoint, Error, Event, Executor, FOREVER, IMMEDIATELY, Memory, Message, Object, Queue, Rights, Timer,
};

tests!("queue":
    sizes_that_are_no_powers_of_two_are_refused,
    posts_complete_in_order_with_their_keys,
    a_full_ring_refuses_posts_and_loses_nothing_else,
    messages_of_a_bound_endpoint_complete,
    messages_that_came_before_the_binding_complete_too,
    a_closed_peer_completes_once,
    the_end_of_a_thread_completes_also_when_it_is_long_past,
    an_event_completes_once_per_notify,
    an_unbound_object_does_not_complete,
    a_binding_moves_with_the_next,
    a_batch_of_submissions_is_carried_out,
    a_refused_submission_says_why,
    absurd_ring_positions_harm_nobody,
    waiting_obeys_its_deadline,
    a_queue_has_one_waiter,
    a_queue_that_is_closed_lets_its_waiter_go,
    what_can_not_complete_is_not_bound,
    the_executor_serves_and_calls_at_once,
    a_call_whose_future_is_dropped_is_forgotten,
    sleeping_tasks_wake_in_order,
);

/// The next completion, waiting a second at most.
fn next(queue: &mut MappedQueue) -> Result<Completion, Failure> {
    loop {
        match queue.take() {
            Some(completion) => return Ok(completion),
            None => queue.wait(in_ms(1_000))?,
        }
    }
}

/// Fails if something completes within 2 ms.
fn nothing_completes(queue: &mut MappedQueue) -> TestResult {
    refused(queue.wait(in_ms(2)), Error::TimedOut)
}

fn kind(completion: &Completion) -> Option<CompletionKind> {
    CompletionKind::from_number(completion.kind)
}

fn sizes_that_are_no_powers_of_two_are_refused(bench: &Bench) -> TestResult {
    for (submissions, completions) in [(0, 8), (8, 0), (3, 8), (8, 12), (MAX_ENTRIES * 2, 8), (8, MAX_ENTRIES * 2)] {
        refused(Queue::create(bench.account, submissions, completions), Error::BadArgument)?;
    }
    Queue::create(bench.account, 1, 1)?;
    Queue::create(bench.account, MAX_ENTRIES, MAX_ENTRIES)?;
    Ok(())
}

fn posts_complete_in_order_with_their_keys(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    for round in 0..10 {
        for value in 0..5 {
            queue.queue().post(round, value)?;
        }
        for value in 0..5 {
            let completion = next(&mut queue)?;
            same((kind(&completion), completion.key, completion.value), (Some(CompletionKind::Posted), round, value))?;
        }
    }
    Ok(())
}

fn a_full_ring_refuses_posts_and_loses_nothing_else(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 4)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    queue.queue().bind(&ours, 1)?;
    for label in 0..10 {
        theirs.send(Message::new(label, [0; WORDS]))?;
    }
    refused(queue.queue().post(2, 0), Error::Full)?;
    for label in 0..10 {
        let completion = next(&mut queue)?;
        same((completion.key, completion.label), (1, label))?;
    }
    queue.queue().post(2, 0)?;
    same(next(&mut queue)?.key, 2)
}

fn messages_of_a_bound_endpoint_complete(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    queue.queue().bind(&ours, 77)?;
    refused(ours.receive(IMMEDIATELY), Error::BadState)?;
    let mut child = Child::new(bench.account)?;
    let channel = child.give(&theirs)?;
    child.begin(&call(Call::ChannelCall, [channel, 5, 6, 0, 0, 0]))?;
    let completion = next(&mut queue)?;
    same((kind(&completion), completion.key), (Some(CompletionKind::Message), 77))?;
    same((completion.label, completion.words[0]), (5, 6))?;
    queue.submit(&Submission {
        kind: SubmissionKind::Reply as u32,
        target: completion.reply,
        label: 9,
        ..Submission::default()
    })?;
    refused(queue.wait(IMMEDIATELY), Error::WouldBlock)?;
    let r = child.wait()?.registers;
    same((r.rax, r.rsi), (0, 9))
}

fn messages_that_came_before_the_binding_complete_too(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    theirs.send(Message::new(1, [0; WORDS]))?;
    theirs.send(Message::new(2, [0; WORDS]))?;
    queue.queue().bind(&ours, 3)?;
    same(next(&mut queue)?.label, 1)?;
    same(next(&mut queue)?.label, 2)
}

fn a_closed_peer_completes_once(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    queue.queue().bind(&ours, 3)?;
    theirs.send(Message::new(1, [0; WORDS]))?;
    drop(theirs);
    same(kind(&next(&mut queue)?), Some(CompletionKind::Message))?;
    same(kind(&next(&mut queue)?), Some(CompletionKind::PeerClosed))?;
    nothing_completes(&mut queue)
}

fn the_end_of_a_thread_completes_also_when_it_is_long_past(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let mut child = Child::new(bench.account)?;
    queue.queue().bind(&child.thread, 1)?;
    child.begin(&Piece::Spin.registers())?;
    nothing_completes(&mut queue)?;
    child.thread.kill()?;
    let completion = next(&mut queue)?;
    same((kind(&completion), completion.key), (Some(CompletionKind::ThreadEnded), 1))?;
    queue.queue().bind(&child.thread, 2)?;
    same(next(&mut queue)?.key, 2)
}

fn an_event_completes_once_per_notify(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let event = Event::create(bench.account)?;
    queue.queue().notify(&event, 5, 0b110)?;
    event.update(0b001, 0)?;
    nothing_completes(&mut queue)?;
    event.update(0b010, 0)?;
    let completion = next(&mut queue)?;
    same((kind(&completion), completion.key, completion.value), (Some(CompletionKind::Event), 5, 0b010))?;
    event.update(0b100, 0)?;
    nothing_completes(&mut queue)?;
    queue.queue().notify(&event, 6, 0b110)?;
    same(next(&mut queue)?.value, 0b110)
}

fn an_unbound_object_does_not_complete(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    queue.queue().bind(&ours, 1)?;
    unbind(&ours)?;
    refused(unbind(&ours), Error::NotFound)?;
    theirs.send(Message::new(1, [0; WORDS]))?;
    nothing_completes(&mut queue)?;
    same(ours.receive(IMMEDIATELY)?.message.label, 1)
}

fn a_binding_moves_with_the_next(bench: &Bench) -> TestResult {
    let mut first = MappedQueue::create(bench.account, 8, 8)?;
    let mut second = MappedQueue::create(bench.account, 8, 8)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    first.queue().bind(&ours, 1)?;
    second.queue().bind(&ours, 2)?;
    theirs.send(Message::new(1, [0; WORDS]))?;
    same(next(&mut second)?.key, 2)?;
    nothing_completes(&mut first)
}

fn a_batch_of_submissions_is_carried_out(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 64, 64)?;
    let mut timers = alloc::vec::Vec::new();
    for key in 0..40 {
        let timer = Timer::create(bench.account)?;
        queue.queue().bind(&timer, key)?;
        queue.submit(&Submission {
            kind: SubmissionKind::ArmTimer as u32,
            target: timer.raw(),
            label: 1,
            ..Submission::default()
        })?;
        timers.push(timer);
    }
    let mut seen = 0_u64;
    for _ in 0..40 {
        seen |= 1 << next(&mut queue)?.key;
    }
    same(seen, (1 << 40) - 1)
}

fn a_refused_submission_says_why(bench: &Bench) -> TestResult {
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    let event = Event::create(bench.account)?;
    let submissions = [
        (99, event.raw(), Error::BadArgument),
        (SubmissionKind::ArmTimer as u32, event.raw(), Error::WrongKind),
        (SubmissionKind::Reply as u32, quire_api::Handle(0xabcd), Error::BadHandle),
        (SubmissionKind::Call as u32, event.raw(), Error::WrongKind),
    ];
    for (key, (kind, target, _)) in (1..).zip(submissions) {
        queue.submit(&Submission { key, kind, target, ..Submission::default() })?;
    }
    for (key, (_, _, expected)) in (1..).zip(submissions) {
        let completion = next(&mut queue)?;
        same(kind(&completion), Some(CompletionKind::Refused))?;
        same((completion.key, completion.status), (key, expected as u64))?;
    }
    Ok(())
}

fn absurd_ring_positions_harm_nobody(bench: &Bench) -> TestResult {
    let (queue, rings) = Queue::create(bench.account, 8, 8)?;
    // Offsets of the counters in the header: submission head and tail, completion head and tail.
    for (offset, value) in [(20, 9_u32), (20, u32::MAX), (24, 5), (24, u32::MAX), (28, 77), (16, 3), (0, u32::MAX)] {
        rings.write_all(offset, &value.to_le_bytes())?;
        let _ = queue.wait(IMMEDIATELY);
        let _ = queue.post(1, 1);
        let _ = queue.wait(in_ms(1));
    }
    for _ in 0..20 {
        let _ = queue.post(1, 1);
    }
    drop(rings);
    drop(queue);
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    queue.queue().post(1, 1)?;
    same(next(&mut queue)?.key, 1)
}

fn waiting_obeys_its_deadline(bench: &Bench) -> TestResult {
    let queue = MappedQueue::create(bench.account, 8, 8)?;
    refused(queue.wait(IMMEDIATELY), Error::WouldBlock)?;
    let deadline_ns = in_ms(4);
    refused(queue.wait(deadline_ns), Error::TimedOut)?;
    holds(quire_api::time::clock_ns() >= deadline_ns, "it does not return early")
}

fn a_queue_has_one_waiter(bench: &Bench) -> TestResult {
    let (queue, _rings) = Queue::create(bench.account, 8, 8)?;
    let mut child = Child::new(bench.account)?;
    let handle = child.give(&queue)?;
    child.begin(&call(Call::QueueWait, [handle, FOREVER, 0, 0, 0, 0]))?;
    child.until_waiting()?;
    refused(queue.wait(IMMEDIATELY), Error::BadState)?;
    queue.post(1, 1)?;
    same(child.wait()?.registers.rax, 0)
}

fn a_queue_that_is_closed_lets_its_waiter_go(bench: &Bench) -> TestResult {
    let (queue, rings) = Queue::create(bench.account, 8, 8)?;
    let mut child = Child::new(bench.account)?;
    let handle = child.give(&queue)?;
    drop((queue, rings));
    child.begin(&call(Call::QueueWait, [handle, FOREVER, 0, 0, 0, 0]))?;
    child.until_waiting()?;
    child.table.close(quire_api::Handle(handle as u32))?;
    let status = child.wait()?.registers.rax;
    holds(status == Error::PeerClosed as u64 || status == Error::Interrupted as u64, "it is told")
}

fn what_can_not_complete_is_not_bound(bench: &Bench) -> TestResult {
    let (queue, _rings) = Queue::create(bench.account, 8, 8)?;
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    holds(queue.bind(&memory, 1).is_err(), "a memory is not bound")?;
    refused(queue.bind(&queue, 1), Error::WrongKind)?;
    let (ours, _theirs) = ChannelEndpoint::pair(bench.account)?;
    refused(queue.bind(&ours.duplicate(Rights::SEND)?, 1), Error::MissingRights)?;
    refused(queue.duplicate(Rights::WAIT)?.bind(&ours, 1), Error::MissingRights)
}

fn the_executor_serves_and_calls_at_once(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let (client_end, server_end) = ChannelEndpoint::pair(bench.account)?;
    let mut requests = executor.bind(server_end)?;
    let server = executor.clone();
    executor.spawn(async move {
        while let Some(request) = requests.receive().await {
            let Some(reply) = request.reply else { continue };
            let mut bytes = [0; 16];
            let len = reply.read_buffer(0, &mut bytes).unwrap_or(0);
            bytes.reverse();
            let _ = reply.write_buffer(0, &bytes[16 - len..]);
            let _ = server.answer(reply, Message::new(0, [len as u64; WORDS]));
        }
    });
    let result = executor.block_on(async {
        for len in [0, 1, 16] {
            let buffers = Buffers { send: (0..len).collect(), receive: alloc::vec![0; 16] };
            let answer = executor.call(&client_end, Message::new(1, [0; WORDS]), buffers).await?;
            same(answer.message.words[0], u64::from(len))?;
            let expected: alloc::vec::Vec<u8> = (0..len).rev().collect();
            same(&answer.buffers.receive[..usize::from(len)], &expected[..])?;
        }
        Ok(())
    })?;
    executor.cancel_all();
    result
}

fn a_call_whose_future_is_dropped_is_forgotten(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let account = bench.new_account()?;
    let (client_end, server_end) = ChannelEndpoint::pair(bench.account)?;
    let abandoned = executor.call(&client_end, Message::new(1, [0; WORDS]), Buffers::default());
    executor.flush()?;
    let request = server_end.receive(in_ms(1_000))?;
    drop(abandoned);
    let event = Event::create(&account)?;
    let answer = Message::new(0, [0; WORDS]).with_handle(0, event.into_handle());
    request.reply.ok_or(Error::NotFound)?.answer(answer)?;
    // A sleep that is over before it begins, on a slow machine, hands nothing out: then another one does.
    for _ in 0..100 {
        executor.block_on(executor.sleep_ns(1_000_000))?;
        if account.info()?.used.kernel_bytes == 0 {
            break;
        }
    }
    same(account.info()?.used.kernel_bytes, 0)
}

/// Whether tasks that sleep for multiples of a time wake in the order of their deadlines.
fn wakes_in_order(executor: &Executor, delay_ns: u64) -> Result<bool, Failure> {
    let order = Rc::new(RefCell::new(Vec::new()));
    for factor in [3, 1, 2] {
        let (order, sleep) = (Rc::clone(&order), executor.sleep_ns(factor * delay_ns));
        executor.spawn(async move {
            sleep.await;
            order.borrow_mut().push(factor);
        });
    }
    executor.block_on(executor.sleep_ns(6 * delay_ns))?;
    let woken = order.borrow().clone();
    same(woken.len(), 3)?;
    Ok(woken.is_sorted())
}

fn sleeping_tasks_wake_in_order(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    // On a machine so busy that a deadline passes before its task first runs, there is no order to wake in.
    let mut delay_ns = 1_000_000;
    while !wakes_in_order(&executor, delay_ns)? {
        delay_ns *= 4;
        holds(delay_ns < 1_000_000_000, "the tasks woke in another order than their deadlines'")?;
    }
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    let end = executor.thread_end(&child.thread)?;
    child.begin(&Piece::Spin.registers())?;
    let thread = child.thread.duplicate(Rights::all())?;
    let sleep = executor.sleep_ns(1_000_000);
    executor.spawn(async move {
        sleep.await;
        let _ = thread.kill();
    });
    Ok(executor.block_on(end)?)
}
