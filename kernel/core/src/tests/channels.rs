//! Calls, replies, messages with handles and buffers.

use super::{FOREVER, NOWHERE, SCRATCH, World, plain};
use crate::thread::Exception;
use quire_abi::message::{CallFrame, KERNEL_LABEL, Message, Received};
use quire_abi::thread::ExceptionKind;
use quire_abi::{Call, Error, Handle};

const RECORD: u64 = SCRATCH;
const FRAME: u64 = SCRATCH + 0x1000;
const BUFFER: u64 = SCRATCH + 0x2000;

/// A client with one end of a channel, a server with the other.
fn pair(w: &mut World) -> (super::Program, super::Program, u64, u64) {
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    (client, server, near, far)
}

#[test]
fn a_call_reaches_a_waiting_receiver_at_once_and_the_answer_comes_back() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]);
    assert!(w.waits(&server));
    w.channel_call(&client, near, 7, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(w.waits(&client));
    assert_eq!(w.kernel.current(0), Some(server.thread), "the processor goes straight to the receiver");
    let received: Received = w.peek(&server, RECORD);
    assert_eq!((received.message.label, received.message.words), (7, [1, 2, 3, 4, 5, 6, 7, 8]));
    w.enter(server.thread, Call::ChannelReply, |registers| {
        registers.rdi = received.reply.0.into();
        crate::channel::set_message(registers, 9, &[8, 7, 6, 5, 4, 3, 2, 1]);
    });
    assert_eq!(w.answer(&server).status, 0);
    assert_eq!(w.message(&client), (9, [8, 7, 6, 5, 4, 3, 2, 1]));
    assert_eq!(w.answer(&client).status, 0);
    let again = w.call(&server, Call::ChannelReply, &[received.reply.0.into(), 0]);
    assert_eq!(again.error(), Some(Error::BadHandle), "a reply is used up");
}

#[test]
fn callers_that_find_nobody_stand_in_line_in_order() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let second = w.program();
    let near2 = w.share(&client, &second, near);
    w.channel_call(&client, near, 1, [0; 8]);
    w.channel_call(&second, near2, 2, [0; 8]);
    for label in [1, 2] {
        w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
        assert_eq!(w.peek::<Received>(&server, RECORD).message.label, label);
    }
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).error(), Some(Error::WouldBlock));
}

#[test]
fn reply_receive_answers_and_waits_in_one_call_and_switches_directly() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    w.enter(server.thread, Call::ChannelReplyReceive, |registers| {
        registers.rdi = far;
        registers.rbx = 0;
    });
    for round in 0..5000 {
        w.channel_call(&client, near, round, [round; 8]);
        assert_eq!(w.kernel.current(0), Some(server.thread));
        assert_eq!(w.message(&server), (round, [round; 8]));
        let reply = w.registers(server.thread).rbx;
        assert_ne!(reply, 0);
        w.enter(server.thread, Call::ChannelReplyReceive, |registers| {
            registers.rdi = far;
            crate::channel::set_message(registers, round + 1, &[round + 2; 8]);
        });
        assert_eq!(w.kernel.current(0), Some(client.thread));
        assert_eq!(w.message(&client), (round + 1, [round + 2; 8]));
    }
}

#[test]
fn closing_the_reply_ends_the_call() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    w.channel_call(&client, near, 1, [0; 8]);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let reply = w.peek::<Received>(&server, RECORD).reply;
    w.call(&server, Call::HandleClose, &[reply.0.into()]).ok();
    assert_eq!(w.answer(&client).error(), Some(Error::PeerClosed));
    assert!(!w.waits(&client));
}

#[test]
fn the_death_of_the_server_ends_the_calls_it_has_received_and_those_in_line() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let second = w.program();
    let near2 = w.share(&client, &second, near);
    w.channel_call(&client, near, 1, [0; 8]);
    w.channel_call(&second, near2, 2, [0; 8]);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    // Somebody else still holds the server's table; what counts is that no thread runs with it.
    let third = w.program();
    w.share(&server, &third, server.table_handle);
    w.call(&server, Call::ThreadExit, &[]);
    assert_eq!(w.answer(&client).error(), Some(Error::PeerClosed));
    assert_eq!(w.answer(&second).error(), Some(Error::PeerClosed));
    w.channel_call(&client, near, 1, [0; 8]);
    assert_eq!(w.answer(&client).error(), Some(Error::PeerClosed));
}

#[test]
fn the_death_of_the_caller_makes_the_reply_stale() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let victim = w.share(&client, &server, client.thread_handle);
    w.channel_call(&client, near, 1, [0; 8]);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let reply = u64::from(w.peek::<Received>(&server, RECORD).reply.0);
    w.call(&server, Call::ThreadKill, &[victim]).ok();
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 0, BUFFER, 8]).error(), Some(Error::PeerClosed));
    assert_eq!(w.call(&server, Call::ChannelReply, &[reply, 0]).error(), Some(Error::PeerClosed));
    assert_eq!(w.call(&server, Call::HandleClose, &[reply]).error(), None);
}

#[test]
fn killing_a_caller_in_line_takes_its_message_back() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let victim = w.share(&client, &server, client.thread_handle);
    w.channel_call(&client, near, 1, [0; 8]);
    w.call(&server, Call::ThreadKill, &[victim]).ok();
    let answer = w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]);
    assert_eq!(answer.error(), Some(Error::PeerClosed), "the client had the only handle to the other end");
}

#[test]
fn handles_move_with_the_message_and_with_the_answer() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let event = w.call(&client, Call::EventCreate, &[client.account_handle]).ok();
    let mut frame = CallFrame { message: plain(3), ..CallFrame::default() };
    frame.message.handles[2] = Handle(event as u32);
    w.poke(&client, FRAME, &frame);
    w.call(&client, Call::ChannelCallFrame, &[near, FRAME]);
    assert!(w.waits(&client));
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let received: Received = w.peek(&server, RECORD);
    let moved = received.message.handles[2];
    w.call(&server, Call::EventUpdate, &[moved.0.into(), 5, 0]).ok();
    let answer = Message { handles: [moved, Handle::NONE, Handle::NONE, Handle::NONE], ..plain(4) };
    w.poke(&server, RECORD, &answer);
    w.call(&server, Call::ChannelReplyMessage, &[received.reply.0.into(), RECORD]).ok();
    assert_eq!(w.call(&client, Call::EventUpdate, &[event, 0, 0]).error(), Some(Error::BadHandle));
    let back: CallFrame = w.peek(&client, FRAME);
    assert_eq!(back.message.label, 4);
    assert_eq!(w.call(&client, Call::EventUpdate, &[back.message.handles[0].0.into(), 0, 0]).ok(), 5);
}

#[test]
fn a_message_with_a_bad_handle_leaves_everything_where_it_was() {
    let mut w = World::new();
    let (client, _server, near, _far) = pair(&mut w);
    let event = w.call(&client, Call::EventCreate, &[client.account_handle]).ok();
    let reduced = w.call(&client, Call::HandleDuplicate, &[event, 1]).ok();
    let (event, reduced) = (Handle(event as u32), Handle(reduced as u32));
    let cases = [
        ([event, Handle(0x7777)], Error::BadHandle),
        ([event, event], Error::BadHandle),
        ([event, reduced], Error::MissingRights),
        ([event, Handle(near as u32)], Error::BadArgument),
    ];
    for (handles, error) in cases {
        let mut message = plain(1);
        message.handles[..2].copy_from_slice(&handles);
        w.poke(&client, FRAME, &CallFrame { message, ..CallFrame::default() });
        assert_eq!(w.call(&client, Call::ChannelCallFrame, &[near, FRAME]).error(), Some(error));
        w.poke(&client, FRAME, &message);
        assert_eq!(w.call(&client, Call::ChannelSend, &[near, FRAME]).error(), Some(error));
        w.call(&client, Call::EventUpdate, &[event.0.into(), 0, 0]).ok();
    }
}

#[test]
fn buffers_stay_with_the_caller_and_are_reached_through_the_reply() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    w.poke(&client, BUFFER, b"question".as_slice());
    let frame = CallFrame {
        message: plain(1),
        send_buffer: BUFFER,
        send_len: 8,
        receive_buffer: BUFFER + 0x100,
        receive_len: 6,
    };
    w.poke(&client, FRAME, &frame);
    w.call(&client, Call::ChannelCallFrame, &[near, FRAME]);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let received: Received = w.peek(&server, RECORD);
    assert_eq!((received.send_len, received.receive_len), (8, 6));
    let reply = u64::from(received.reply.0);
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 2, BUFFER, 100]).ok(), 6);
    assert_eq!(w.peek::<[u8; 6]>(&server, BUFFER), *b"estion");
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 9, BUFFER, 1]).error(), Some(Error::OutOfRange));
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 0, NOWHERE, 8]).error(), Some(Error::BadAddress));
    w.poke(&server, BUFFER, b"an answer".as_slice());
    assert_eq!(w.call(&server, Call::ReplyWrite, &[reply, 0, BUFFER, 9]).ok(), 6);
    w.call(&server, Call::ChannelReply, &[reply, 0]).ok();
    assert_eq!(w.peek::<[u8; 7]>(&client, BUFFER + 0x100), *b"an ans\0");
}

#[test]
fn a_callers_bad_buffer_is_the_callers_fault() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    let frame = CallFrame {
        message: plain(1),
        send_buffer: NOWHERE,
        send_len: 8,
        receive_buffer: u64::MAX - 2,
        receive_len: 100,
    };
    w.poke(&client, FRAME, &frame);
    w.call(&client, Call::ChannelCallFrame, &[near, FRAME]);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let reply = u64::from(w.peek::<Received>(&server, RECORD).reply.0);
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 0, BUFFER, 8]).error(), Some(Error::RemoteFault));
    assert_eq!(w.call(&server, Call::ReplyWrite, &[reply, 0, BUFFER, 8]).error(), Some(Error::RemoteFault));
    assert_eq!(w.call(&server, Call::ReplyWrite, &[reply, 50, BUFFER, 8]).error(), Some(Error::RemoteFault));
}

#[test]
fn sent_messages_wait_up_to_a_bound_and_carry_no_reply() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    for label in 0..u64::from(crate::channel::MAX_SENT) {
        w.poke(&client, FRAME, &plain(label));
        w.call(&client, Call::ChannelSend, &[near, FRAME]).ok();
    }
    assert_eq!(w.call(&client, Call::ChannelSend, &[near, FRAME]).error(), Some(Error::Full));
    for label in 0..u64::from(crate::channel::MAX_SENT) {
        w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
        let received: Received = w.peek(&server, RECORD);
        assert_eq!((received.message.label, received.reply), (label, Handle::NONE));
    }
    assert!(w.kernel.letters.is_empty());
}

#[test]
fn a_receive_with_a_deadline_times_out() {
    let mut w = World::new();
    let (_client, server, _near, far) = pair(&mut w);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 500]);
    assert_eq!(w.kernel.next_deadline(0), Some(500));
    w.m.now_ns = 499;
    w.kernel.on_tick(&mut w.m, 0);
    assert!(w.waits(&server));
    w.m.now_ns = 500;
    w.kernel.on_tick(&mut w.m, 0);
    assert_eq!(w.answer(&server).error(), Some(Error::TimedOut));
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, RECORD, 500]).error(), Some(Error::TimedOut));
}

#[test]
fn a_receive_into_bad_memory_fails_and_leaves_the_message() {
    let mut w = World::new();
    let (client, server, near, far) = pair(&mut w);
    w.channel_call(&client, near, 1, [0; 8]);
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, NOWHERE, 0]).error(), Some(Error::BadAddress));
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
    // The other way round: the receiver waits with a bad address when the message comes.
    let second = w.program();
    let near2 = w.share(&client, &second, near);
    w.call(&server, Call::ChannelReceive, &[far, NOWHERE, FOREVER]);
    w.channel_call(&second, near2, 2, [0; 8]);
    assert_eq!(w.answer(&server).error(), Some(Error::BadAddress));
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
    assert_eq!(w.peek::<Received>(&server, RECORD).message.label, 2);
}

#[test]
fn labels_of_the_kernel_are_refused() {
    let mut w = World::new();
    let (client, _server, near, _far) = pair(&mut w);
    w.channel_call(&client, near, KERNEL_LABEL, [0; 8]);
    assert_eq!(w.answer(&client).error(), Some(Error::BadArgument));
}

#[test]
fn a_chain_of_channels_in_messages_is_torn_down_without_recursion() {
    let mut w = World::new();
    let owner = w.program();
    // Each channel's far end waits in the message queue of the next one.
    let (mut near, mut far) = w.call(&owner, Call::ChannelCreate, &[owner.account_handle]).pair();
    for _ in 0..300 {
        let (next_near, next_far) = w.call(&owner, Call::ChannelCreate, &[owner.account_handle]).pair();
        let mut message = plain(1);
        message.handles[0] = Handle(far as u32);
        message.handles[1] = Handle(near as u32);
        w.poke(&owner, FRAME, &message);
        w.call(&owner, Call::ChannelSend, &[next_near, FRAME]).ok();
        (near, far) = (next_near, next_far);
    }
    w.call(&owner, Call::HandleClose, &[far]).ok();
    w.call(&owner, Call::HandleClose, &[near]).ok();
    assert!(w.kernel.endpoints.is_empty() && w.kernel.letters.is_empty());
}

#[test]
fn a_faulted_thread_that_is_refused_leaves_alone_who_stands_behind_it() {
    let mut w = World::new();
    let (a, b, faulty) = (w.program(), w.program(), w.program());
    let (near, far) = w.channel(&a, &b);
    let thread = w.share(&faulty, &a, faulty.thread_handle);
    w.call(&a, Call::ThreadSetExceptions, &[thread, near]).ok();
    w.run(faulty.thread);
    let exception = Exception { kind: ExceptionKind::Illegal, address: 0, code: 0 };
    w.kernel.exception(&mut w.m, 0, faulty.thread, exception);
    let message = w.poke(&a, SCRATCH, &plain(1));
    w.call(&a, Call::ChannelSend, &[near, message]).ok();
    assert_eq!(w.kernel.letters.len(), 1);
    w.call(&b, Call::HandleClose, &[far]).ok();
    assert_eq!(w.kernel.letters.len(), 0, "the message goes with the channel");
    assert_eq!(w.state(faulty.thread), Some(crate::thread::State::Dead));
}
