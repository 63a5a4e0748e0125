//! Channels, messages and replies.

use crate::child::{Child, DATA, Piece, RW, call};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use quire_api::abi::message::{CallFrame, KERNEL_LABEL, Message as RawMessage, WORDS};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::ExceptionKind;
use quire_api::abi::{Call, Handle};
use quire_api::time::clock_ns;
use quire_api::{ChannelEndpoint, Error, Event, IMMEDIATELY, Message, Object, OwnedHandle, Request, Rights};
use zerocopy::{FromBytes, IntoBytes};

tests!("channel":
    a_call_in_registers_carries_its_words_both_ways,
    a_call_with_a_frame_carries_words_and_handles_both_ways,
    buffers_stay_with_the_caller_and_are_read_and_written_from_there,
    a_buffer_that_is_not_there_is_a_remote_fault,
    a_reply_answers_once,
    a_dropped_reply_tells_the_caller,
    a_reply_that_is_closed_with_its_table_tells_the_caller,
    a_call_to_a_closed_peer_is_refused,
    closing_the_receivers_end_tells_those_who_wait,
    closing_the_callers_end_tells_the_receiver,
    sent_messages_arrive_in_order,
    too_many_messages_are_refused_and_given_back,
    receiving_obeys_its_deadline,
    labels_of_the_kernel_are_refused,
    handles_without_the_right_to_transfer_stay,
    handles_move_with_their_rights,
    a_senders_bad_handle_changes_nothing,
    a_message_that_nobody_receives_gives_its_handles_back,
    an_endpoint_is_not_sent_through_itself_for_ever,
    reply_receive_serves_one_after_the_other,
    callers_are_served_in_order,
    rights_are_checked,
);

/// A child in the middle of a call on a channel whose other end we hold.
struct CallInProgress {
    child: Child,
    ours: ChannelEndpoint,
    request: Request,
}

/// What the child's frame says, besides the message.
fn frame(label: u64) -> CallFrame {
    CallFrame {
        message: RawMessage { label, words: [1, 2, 3, 4, 5, 6, 7, 8], ..RawMessage::default() },
        ..CallFrame::default()
    }
}

fn begin_call(
    bench: &Bench,
    make: impl FnOnce(&Child, &mut CallFrame) -> TestResult,
) -> Result<CallInProgress, Failure> {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, 4 * PAGE_SIZE, RW)?;
    let mut frame = frame(7);
    make(&child, &mut frame)?;
    child.space.write_all(DATA, frame.as_bytes())?;
    let channel = child.give(&theirs)?;
    child.begin(&call(Call::ChannelCallFrame, [channel, DATA, 0, 0, 0, 0]))?;
    let request = ours.receive(in_ms(1_000))?;
    Ok(CallInProgress { child, ours, request })
}

impl CallInProgress {
    /// Waits for the end of the child's call: its status, and its frame.
    fn end(mut self) -> Result<(u64, CallFrame, Child, ChannelEndpoint), Failure> {
        let stop = self.child.wait()?;
        same(stop.exception.kind, ExceptionKind::Breakpoint)?;
        let mut bytes = [0; size_of::<CallFrame>()];
        self.child.space.read_exact(DATA, &mut bytes)?;
        let frame = CallFrame::read_from_bytes(&bytes).map_err(|_| Error::BadArgument)?;
        Ok((stop.registers.rax, frame, self.child, self.ours))
    }
}

fn a_call_in_registers_carries_its_words_both_ways(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(bench.account)?;
    let mut registers = call(Call::ChannelCall, [child.give(&theirs)?, 77, 1, 2, 3, 4]);
    (registers.r12, registers.r13, registers.r14, registers.r15) = (5, 6, 7, u64::MAX);
    child.begin(&registers)?;
    let request = ours.receive(in_ms(1_000))?;
    same((request.message.label, request.message.words), (77, [1, 2, 3, 4, 5, 6, 7, u64::MAX]))?;
    same((request.send_len, request.receive_len), (0, 0))?;
    let reply = request.reply.ok_or(Error::NotFound)?;
    reply.answer_words(88, [8, 7, 6, 5, 4, 3, 2, 1])?;
    let r = child.wait()?.registers;
    same((r.rax, r.rsi), (0, 88))?;
    same([r.rdx, r.r10, r.r8, r.r9, r.r12, r.r13, r.r14, r.r15], [8, 7, 6, 5, 4, 3, 2, 1])
}

fn a_call_with_a_frame_carries_words_and_handles_both_ways(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let mut call = begin_call(bench, |child, frame| {
        frame.message.handles[2] = Handle(child.give(&event)? as u32);
        Ok(())
    })?;
    let message = &mut call.request.message;
    same((message.label, message.words), (7, [1, 2, 3, 4, 5, 6, 7, 8]))?;
    let received: Event = message.take_handle(2).ok_or(Error::NotFound)?;
    same(received.as_handle().info()?.object_number, event.as_handle().info()?.object_number)?;
    let answer = Message::new(9, [9; WORDS]).with_handle(0, received.into_handle());
    call.request.reply.take().ok_or(Error::NotFound)?.answer(answer)?;
    let (status, frame, child, _) = call.end()?;
    same((status, frame.message.label, frame.message.words), (0, 9, [9; WORDS]))?;
    let back: Event = child.table.extract(frame.message.handles[0], Rights::all())?;
    same(back.as_handle().info()?.object_number, event.as_handle().info()?.object_number)
}

fn buffers_stay_with_the_caller_and_are_read_and_written_from_there(bench: &Bench) -> TestResult {
    let (send, receive) = (DATA + PAGE_SIZE - 3, DATA + 3 * PAGE_SIZE);
    let mut call = begin_call(bench, |child, frame| {
        child.space.write_all(send, b"quire")?;
        (frame.send_buffer, frame.send_len) = (send, 5);
        (frame.receive_buffer, frame.receive_len) = (receive, 4);
        Ok(())
    })?;
    same((call.request.send_len, call.request.receive_len), (5, 4))?;
    let reply = call.request.reply.take().ok_or(Error::NotFound)?;
    let mut bytes = [0; 8];
    same(reply.read_buffer(0, &mut bytes)?, 5)?;
    same(bytes, *b"quire\0\0\0")?;
    same(reply.read_buffer(3, &mut bytes)?, 2)?;
    refused(reply.read_buffer(6, &mut bytes), Error::OutOfRange)?;
    refused(reply.read_buffer(u64::MAX, &mut bytes), Error::OutOfRange)?;
    same(reply.write_buffer(1, b"abcdef")?, 3)?;
    refused(reply.write_buffer(5, b"x"), Error::OutOfRange)?;
    reply.answer_words(0, [0; WORDS])?;
    let (status, _, child, _) = call.end()?;
    same(status, 0)?;
    child.space.read_exact(receive, &mut bytes)?;
    same(bytes, *b"\0abc\0\0\0\0")
}

fn a_buffer_that_is_not_there_is_a_remote_fault(bench: &Bench) -> TestResult {
    let mut call = begin_call(bench, |_, frame| {
        (frame.send_buffer, frame.send_len) = (DATA + 100 * PAGE_SIZE, 5);
        (frame.receive_buffer, frame.receive_len) = (0xffff_8000_0000_0000, 1 << 40);
        Ok(())
    })?;
    let reply = call.request.reply.take().ok_or(Error::NotFound)?;
    refused(reply.read_buffer(0, &mut [0; 5]), Error::RemoteFault)?;
    refused(reply.write_buffer(0, &[0; 5]), Error::RemoteFault)?;
    reply.answer_words(0, [0; WORDS])?;
    same(call.end()?.0, 0)
}

fn a_reply_answers_once(bench: &Bench) -> TestResult {
    let mut call = begin_call(bench, |_, _| Ok(()))?;
    let reply = call.request.reply.take().ok_or(Error::NotFound)?;
    refused(reply.as_handle().duplicate(Rights::all()), Error::MissingRights)?;
    let again = OwnedHandle::from_raw(reply.raw()).ok_or(Error::BadHandle)?;
    reply.answer_words(0, [0; WORDS])?;
    let again = quire_api::Reply::from_handle(again);
    refused(again.answer_words(0, [0; WORDS]), Error::BadHandle)?;
    same(call.end()?.0, 0)
}

fn a_dropped_reply_tells_the_caller(bench: &Bench) -> TestResult {
    let mut call = begin_call(bench, |_, _| Ok(()))?;
    drop(call.request.reply.take());
    same(call.end()?.0, Error::PeerClosed as u64)
}

fn a_reply_that_is_closed_with_its_table_tells_the_caller(bench: &Bench) -> TestResult {
    let mut call = begin_call(bench, |_, _| Ok(()))?;
    let reply = call.request.reply.take().ok_or(Error::NotFound)?;
    // Sent on to a channel that is then closed.
    let (near, far) = ChannelEndpoint::pair(bench.account)?;
    near.send(Message::new(0, [0; WORDS]).with_handle(0, reply.into_handle()))?;
    drop((near, far));
    same(call.end()?.0, Error::PeerClosed as u64)
}

fn a_call_to_a_closed_peer_is_refused(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    drop(theirs);
    refused(ours.call_words(1, [0; WORDS]), Error::PeerClosed)?;
    refused(ours.call(Message::new(1, [0; WORDS])), Error::PeerClosed)?;
    refused(ours.send(Message::new(1, [0; WORDS])), Error::PeerClosed)?;
    refused(ours.receive(IMMEDIATELY), Error::PeerClosed)
}

fn closing_the_receivers_end_tells_those_who_wait(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(bench.account)?;
    let channel = child.give(&theirs)?;
    drop(theirs);
    child.begin(&call(Call::ChannelCall, [channel, 1, 0, 0, 0, 0]))?;
    child.until_waiting()?;
    drop(ours);
    same(child.wait()?.registers.rax, Error::PeerClosed as u64)
}

fn closing_the_callers_end_tells_the_receiver(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    let channel = child.give(&theirs)?;
    drop(theirs);
    child.begin(&call(Call::ChannelReceive, [channel, DATA, u64::MAX, 0, 0, 0]))?;
    child.until_waiting()?;
    drop(ours);
    same(child.wait()?.registers.rax, Error::PeerClosed as u64)
}

fn sent_messages_arrive_in_order(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    for label in 0..20 {
        theirs.send(Message::new(label, [label; WORDS]))?;
    }
    for label in 0..20 {
        let request = ours.receive(IMMEDIATELY)?;
        same((request.message.label, request.message.words), (label, [label; WORDS]))?;
        holds(request.reply.is_none(), "a message that was sent has no reply")?;
    }
    refused(ours.receive(IMMEDIATELY), Error::WouldBlock)
}

fn too_many_messages_are_refused_and_given_back(bench: &Bench) -> TestResult {
    let account = bench.limited_account(u64::MAX, 256 << 10)?;
    let before = account.info()?.used.kernel_bytes;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(&account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    let channel = child.give(&theirs)?;
    let mut sent = 0;
    let error = loop {
        let (status, ..) = child.call(Call::ChannelSend, [channel, DATA, 0, 0, 0, 0])?;
        if status != 0 {
            break status;
        }
        sent += 1;
        holds(sent < 10_000, "there is a limit")?;
    };
    let refusals = [Error::AccountLimit, Error::Full, Error::WouldBlock].map(|error| error as u64);
    holds(refusals.contains(&error), "the sender is told that there is no room")?;
    drop((ours, theirs));
    child.thread.kill()?;
    drop(child);
    same(account.info()?.used.kernel_bytes, before)
}

fn receiving_obeys_its_deadline(bench: &Bench) -> TestResult {
    let (ours, _theirs) = ChannelEndpoint::pair(bench.account)?;
    refused(ours.receive(IMMEDIATELY), Error::WouldBlock)?;
    let deadline_ns = in_ms(5);
    refused(ours.receive(deadline_ns), Error::TimedOut)?;
    holds(clock_ns() >= deadline_ns, "it does not return early")?;
    refused(ours.receive(deadline_ns), Error::TimedOut)
}

fn labels_of_the_kernel_are_refused(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let label = KERNEL_LABEL | 1;
    refused(ours.call_words(label, [0; WORDS]), Error::BadArgument)?;
    refused(ours.call(Message::new(label, [0; WORDS])), Error::BadArgument)?;
    refused(ours.send(Message::new(label, [0; WORDS])), Error::BadArgument)?;
    refused(theirs.receive(IMMEDIATELY), Error::WouldBlock)
}

fn handles_without_the_right_to_transfer_stay(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let stays = Event::create(bench.account)?.duplicate(Rights::all().difference(Rights::TRANSFER))?;
    let handle = stays.raw();
    let mut child = Child::new(bench.account)?;
    holds(child.give(&stays).is_err(), "it can't be installed either")?;
    let message = Message::new(0, [0; WORDS]).with_handle(0, stays.into_handle());
    refused(ours.send(message), Error::MissingRights)?;
    refused(theirs.receive(IMMEDIATELY), Error::WouldBlock)?;
    // The message was dropped, and its handle closed by that.
    let gone = OwnedHandle::from_raw(handle).ok_or(Error::BadHandle)?;
    refused(gone.info(), Error::BadHandle)?;
    child.thread.kill()?;
    same(child.thread.info()?.suspended, 0)?;
    holds(child.take_stopped().is_none(), "it never ran")
}

fn handles_move_with_their_rights(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let event = Event::create(bench.account)?;
    let weak = event.duplicate(Rights::SEND | Rights::TRANSFER)?;
    let number = weak.raw();
    ours.send(Message::new(0, [0; WORDS]).with_handle(3, weak.into_handle()))?;
    let moved = OwnedHandle::from_raw(number).ok_or(Error::BadHandle)?;
    refused(moved.info(), Error::BadHandle)?;
    let received: Event = theirs.receive(IMMEDIATELY)?.message.take_handle(3).ok_or(Error::NotFound)?;
    same(received.as_handle().info()?.rights, Rights::SEND | Rights::TRANSFER)?;
    same(received.update(6, 0)?, 6)?;
    same(event.wait(2, IMMEDIATELY)?, 2)
}

fn a_senders_bad_handle_changes_nothing(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let event = Event::create(bench.account)?;
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    let channel = child.give(&theirs)?;
    let good = child.give(&event)?;
    for bad in [0xdead, good as u32] {
        // A handle that is not there, and one named twice.
        let handles = [Handle(good as u32), Handle(bad), Handle::NONE, Handle::NONE];
        let message = RawMessage { handles, ..RawMessage::default() };
        child.space.write_all(DATA, message.as_bytes())?;
        let (status, ..) = child.call(Call::ChannelSend, [channel, DATA, 0, 0, 0, 0])?;
        same(status, Error::BadHandle as u64)?;
        child.table.extract::<Event>(Handle(good as u32), Rights::all())?;
    }
    refused(ours.receive(IMMEDIATELY), Error::WouldBlock)
}

fn a_message_that_nobody_receives_gives_its_handles_back(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let event = Event::create(&account)?;
    ours.send(Message::new(0, [0; WORDS]).with_handle(0, event.into_handle()))?;
    holds(account.info()?.used.kernel_bytes > 0, "the message keeps the event")?;
    drop((ours, theirs));
    same(account.info()?.used.kernel_bytes, 0)
}

fn an_endpoint_is_not_sent_through_itself_for_ever(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let (ours, theirs) = ChannelEndpoint::pair(&account)?;
    let copy = ours.duplicate(Rights::all())?;
    // Both ends in messages on their own channel: nothing outside refers to them any more.
    let first = copy.send(Message::new(0, [0; WORDS]).with_handle(0, theirs.into_handle()));
    let second = copy.send(Message::new(0, [0; WORDS]).with_handle(0, ours.into_handle()));
    holds(first.is_err() || second.is_err() || account.kill().is_ok(), "the account can be emptied")?;
    drop(copy);
    account.kill()?;
    same(account.info()?.used.kernel_bytes, 0)
}

fn reply_receive_serves_one_after_the_other(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut server = Child::new(bench.account)?;
    let mut registers = Piece::Echo.registers();
    registers.rdi = server.give(&theirs)?;
    server.begin(&registers)?;
    for round in 0..50 {
        let words = [round, 1, 2, 3, 4, 5, 6, u64::MAX - round];
        same(ours.call_words(round, words)?, (round, words))?;
    }
    let answer = ours.call(Message::new(5, [5; WORDS]))?;
    same((answer.label, answer.words), (5, [5; WORDS]))?;
    server.thread.kill()?;
    // Our handle to the server's end is still open, so the call would wait; the thread's was closed with it.
    drop(theirs);
    refused(ours.call_words(0, [0; WORDS]), Error::PeerClosed)
}

fn callers_are_served_in_order(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut children = alloc::vec::Vec::new();
    for label in 0..5 {
        let mut child = Child::new(bench.account)?;
        let channel = child.give(&theirs)?;
        child.begin(&call(Call::ChannelCall, [channel, label, 0, 0, 0, 0]))?;
        child.until_waiting()?;
        children.push(child);
    }
    let mut replies = alloc::vec::Vec::new();
    for label in 0..5 {
        let request = ours.receive(IMMEDIATELY)?;
        same(request.message.label, label)?;
        replies.extend(request.reply);
    }
    // Answered in another order.
    for (label, reply) in replies.into_iter().enumerate().rev() {
        reply.answer_words(label as u64 + 10, [0; WORDS])?;
        same(children[label].wait()?.registers.rsi, label as u64 + 10)?;
    }
    Ok(())
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let (ours, _theirs) = ChannelEndpoint::pair(bench.account)?;
    let sender = ours.duplicate(Rights::SEND)?;
    refused(sender.receive(IMMEDIATELY), Error::MissingRights)?;
    let receiver = ours.duplicate(Rights::RECEIVE)?;
    refused(receiver.send(Message::default()), Error::MissingRights)?;
    refused(receiver.call_words(0, [0; WORDS]), Error::MissingRights)?;
    refused(receiver.call(Message::default()), Error::MissingRights)
}
