//! Queues: messages, calls, timers, events, interrupts, thread ends; full rings and hostile ones.

use super::{FOREVER, Program, SCRATCH, World, plain};
use crate::object::ObjectRef;
use crate::pool::Id;
use crate::queue::Queue;
use core::mem::offset_of;
use quire_abi::message::{CallFrame, Message, Received};
use quire_abi::queue::{Completion, CompletionKind, Header, SUBMISSIONS_OFFSET, Submission, SubmissionKind};
use quire_abi::space::{PAGE_SIZE, SpaceOp, SpaceOpKind};
use quire_abi::{Call, Error, Handle};

const FRAME: u64 = SCRATCH + 0x1000;
const RECORD: u64 = SCRATCH + 0x2000;
/// Where the test programs map their rings.
const RINGS: u64 = 0x20_0000;

/// A queue as a program sees it.
struct Rings {
    program: Program,
    queue: u64,
    id: Id<Queue>,
    submissions: u32,
    completions: u32,
}

impl Rings {
    fn new(w: &mut World, program: &Program, submissions: u32, completions: u32) -> Self {
        let arguments = [program.account_handle, submissions.into(), completions.into()];
        let (queue, memory) = w.call(program, Call::QueueCreate, &arguments).pair();
        let len = SUBMISSIONS_OFFSET + u64::from(submissions + completions) * 128;
        let map = SpaceOp {
            kind: SpaceOpKind::Map as u32,
            protection: 3,
            object: Handle(memory as u32),
            address: RINGS,
            length: len.next_multiple_of(PAGE_SIZE),
            ..SpaceOp::default()
        };
        w.poke(program, RECORD, &map);
        w.call(program, Call::SpaceCommit, &[program.space_handle, RECORD, 1]).ok();
        let capability = w.kernel.tables[program.table].lookup(Handle(queue as u32)).unwrap();
        let ObjectRef::Queue(id) = capability.object else { panic!("a queue") };
        let header: Header = w.peek(program, RINGS);
        assert_eq!((header.submission_entries, header.completion_entries), (submissions, completions));
        Self { program: *program, queue, id, submissions, completions }
    }

    fn submit(&self, w: &mut World, submission: &Submission) {
        let header: Header = w.peek(&self.program, RINGS);
        let slot = u64::from(header.submission_tail % self.submissions);
        w.poke(&self.program, RINGS + SUBMISSIONS_OFFSET + slot * 128, submission);
        let tail = RINGS + offset_of!(Header, submission_tail) as u64;
        w.poke(&self.program, tail, &(header.submission_tail + 1));
    }

    fn take(&self, w: &mut World) -> Option<Completion> {
        let header: Header = w.peek(&self.program, RINGS);
        if header.completion_head == header.completion_tail {
            return None;
        }
        let slot = u64::from(header.completion_head % self.completions);
        let at = RINGS + u64::from(header.completions_offset) + slot * 128;
        let completion = w.peek(&self.program, at);
        let head = RINGS + offset_of!(Header, completion_head) as u64;
        w.poke(&self.program, head, &(header.completion_head + 1));
        Some(completion)
    }

    #[track_caller]
    fn expect(&self, w: &mut World, kind: CompletionKind) -> Completion {
        let completion = self.take(w).expect("a completion");
        assert_eq!(completion.kind, kind as u32, "{completion:?}");
        completion
    }

    fn wait(&self, w: &mut World, deadline: u64) -> super::Answer {
        w.call(&self.program, Call::QueueWait, &[self.queue, deadline])
    }

    fn bind(&self, w: &mut World, object: u64, key: u64) {
        w.call(&self.program, Call::ObjectBind, &[object, self.queue, key]).ok();
    }
}

#[test]
fn a_call_to_a_bound_endpoint_completes_and_runs_the_waiting_server_at_once() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &server, 8, 8);
    rings.bind(&mut w, far, 42);
    for round in 0..40 {
        rings.wait(&mut w, FOREVER);
        assert!(w.waits(&server));
        w.channel_call(&client, near, round, [round; 8]);
        assert_eq!(w.kernel.current(0), Some(server.thread));
        assert_eq!(w.answer(&server).status, 0);
        let message = rings.expect(&mut w, CompletionKind::Message);
        assert_eq!((message.key, message.label, message.words), (42, round, [round; 8]));
        let reply = Submission {
            kind: SubmissionKind::Reply as u32,
            target: message.reply,
            label: round + 1,
            words: [round; 8],
            ..Submission::default()
        };
        rings.submit(&mut w, &reply);
    }
    assert_eq!(rings.wait(&mut w, 0).error(), Some(Error::WouldBlock));
    assert_eq!(w.message(&client), (40, [39; 8]));
}

#[test]
fn callers_that_do_not_fit_the_ring_stay_in_line_and_none_is_lost() {
    let mut w = World::new();
    let server = w.program();
    let rings = Rings::new(&mut w, &server, 2, 2);
    let first = w.program();
    let (near, far) = w.channel(&first, &server);
    let mut clients = std::vec![(first, near)];
    for _ in 1..7 {
        let client = w.program();
        let near = w.share(&first, &client, near);
        clients.push((client, near));
    }
    rings.bind(&mut w, far, 1);
    for (label, (client, near)) in (0..).zip(&clients) {
        w.channel_call(client, *near, label, [0; 8]);
    }
    for label in 0..7 {
        rings.wait(&mut w, 0).ok();
        assert_eq!(rings.expect(&mut w, CompletionKind::Message).label, label);
    }
    assert_eq!(rings.wait(&mut w, 0).error(), Some(Error::WouldBlock));
}

#[test]
fn binding_brings_what_waits_already_and_the_end_of_the_peer() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &server, 2, 8);
    w.poke(&client, FRAME, &plain(5));
    w.call(&client, Call::ChannelSend, &[near, FRAME]).ok();
    w.call(&client, Call::HandleClose, &[near]).ok();
    rings.bind(&mut w, far, 9);
    let message = rings.expect(&mut w, CompletionKind::Message);
    assert_eq!((message.label, message.reply), (5, Handle::NONE));
    assert_eq!(rings.expect(&mut w, CompletionKind::PeerClosed).key, 9);
    assert_eq!(rings.take(&mut w), None);
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).error(), Some(Error::BadState));
    w.call(&server, Call::ObjectUnbind, &[far]).ok();
    assert_eq!(w.call(&server, Call::ObjectUnbind, &[far]).error(), Some(Error::NotFound));
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).error(), Some(Error::PeerClosed));
}

#[test]
fn a_call_through_a_queue_is_answered_in_it_with_buffers_and_handles() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &client, 4, 4);
    w.poke(&client, FRAME, b"bytes".as_slice());
    let event = w.call(&client, Call::EventCreate, &[client.account_handle]).ok();
    let mut call = Submission {
        key: 77,
        kind: SubmissionKind::Call as u32,
        target: Handle(near as u32),
        label: 3,
        send_buffer: FRAME,
        send_len: 5,
        receive_buffer: FRAME + 64,
        receive_len: 5,
        ..Submission::default()
    };
    call.handles[0] = Handle(event as u32);
    rings.submit(&mut w, &call);
    assert_eq!(rings.wait(&mut w, 0).error(), Some(Error::WouldBlock));
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
    let received: Received = w.peek(&server, RECORD);
    assert_eq!((received.message.label, received.send_len, received.receive_len), (3, 5, 5));
    let reply = u64::from(received.reply.0);
    assert_eq!(w.call(&server, Call::ReplyRead, &[reply, 0, FRAME, 5]).ok(), 5);
    assert_eq!(w.call(&server, Call::ReplyWrite, &[reply, 0, FRAME, 5]).ok(), 5);
    w.poke(&server, RECORD, &Message { handles: received.message.handles, ..plain(4) });
    w.call(&server, Call::ChannelReplyMessage, &[reply, RECORD]).ok();
    let answer = rings.expect(&mut w, CompletionKind::Answer);
    assert_eq!((answer.key, answer.status, answer.label), (77, 0, 4));
    w.call(&client, Call::EventUpdate, &[answer.handles[0].0.into(), 1, 0]).ok();
    assert_eq!(w.peek::<[u8; 5]>(&client, FRAME + 64), *b"bytes");
    // A server that drops the reply.
    call.handles[0] = Handle::NONE;
    rings.submit(&mut w, &call);
    rings.wait(&mut w, 0);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
    let reply = w.peek::<Received>(&server, RECORD).reply;
    w.call(&server, Call::HandleClose, &[reply.0.into()]).ok();
    assert_eq!(rings.expect(&mut w, CompletionKind::Answer).status, Error::PeerClosed as u64);
    assert!(w.kernel.letters.is_empty());
}

#[test]
fn a_queue_that_goes_takes_its_calls_along() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &client, 4, 4);
    let call = Submission { kind: SubmissionKind::Call as u32, target: Handle(near as u32), ..Submission::default() };
    rings.submit(&mut w, &call);
    rings.submit(&mut w, &call);
    rings.wait(&mut w, 0);
    w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).ok();
    let reply = w.peek::<Received>(&server, RECORD).reply;
    w.call(&client, Call::HandleClose, &[rings.queue]).ok();
    assert!(w.kernel.letters.is_empty() && w.kernel.queues.is_empty());
    let late = w.call(&server, Call::ChannelReply, &[reply.0.into(), 0]);
    assert_eq!(late.error(), Some(Error::PeerClosed));
    assert_eq!(w.call(&server, Call::ChannelReceive, &[far, RECORD, 0]).error(), Some(Error::WouldBlock));
}

#[test]
fn refused_submissions_say_why() {
    let mut w = World::new();
    let server = w.program();
    let rings = Rings::new(&mut w, &server, 16, 16);
    let timer = w.call(&server, Call::TimerCreate, &[server.account_handle]).ok();
    let cases = [
        (99, Handle::NONE, Error::BadArgument),
        (SubmissionKind::Reply as u32, Handle(0x123), Error::BadHandle),
        (SubmissionKind::Reply as u32, Handle(timer as u32), Error::WrongKind),
        (SubmissionKind::Call as u32, Handle(timer as u32), Error::WrongKind),
        (SubmissionKind::ArmTimer as u32, Handle(timer as u32), Error::BadState),
        (SubmissionKind::AcknowledgeInterrupt as u32, Handle::NONE, Error::BadHandle),
        (SubmissionKind::ResumeThread as u32, Handle(server.thread_handle as u32), Error::BadState),
    ];
    for (key, (kind, target, _)) in (0..).zip(cases) {
        rings.submit(&mut w, &Submission { key, kind, target, ..Submission::default() });
    }
    rings.wait(&mut w, FOREVER).ok();
    for (key, (_, _, error)) in (0..).zip(cases) {
        let refused = rings.expect(&mut w, CompletionKind::Refused);
        assert_eq!((refused.key, refused.status), (key, error as u64));
    }
}

#[test]
fn a_timer_completes_once_per_deadline_even_when_the_ring_is_full() {
    let mut w = World::new();
    let server = w.program();
    let rings = Rings::new(&mut w, &server, 2, 1);
    let timer = w.call(&server, Call::TimerCreate, &[server.account_handle]).ok();
    assert_eq!(w.call(&server, Call::TimerArm, &[timer, 5]).error(), Some(Error::BadState));
    rings.bind(&mut w, timer, 3);
    w.call(&server, Call::QueuePost, &[rings.queue, 1, 2]).ok();
    assert_eq!(w.call(&server, Call::QueuePost, &[rings.queue, 1, 2]).error(), Some(Error::Full));
    w.call(&server, Call::TimerArm, &[timer, 100]).ok();
    w.m.now_ns = 100;
    w.kernel.on_tick(&mut w.m, 0);
    w.kernel.check_invariants(&[]);
    assert_eq!(rings.expect(&mut w, CompletionKind::Posted).value, 2);
    rings.wait(&mut w, 0).ok();
    assert_eq!(rings.expect(&mut w, CompletionKind::Timer).key, 3);
    let arm = Submission {
        kind: SubmissionKind::ArmTimer as u32,
        target: Handle(timer as u32),
        label: 200,
        ..Submission::default()
    };
    rings.submit(&mut w, &arm);
    rings.wait(&mut w, FOREVER);
    assert_eq!(w.kernel.next_deadline(0), Some(200));
    w.m.now_ns = 200;
    w.kernel.on_tick(&mut w.m, 0);
    assert!(!w.waits(&server));
    rings.expect(&mut w, CompletionKind::Timer);
    w.call(&server, Call::TimerArm, &[timer, 300]).ok();
    w.call(&server, Call::TimerCancel, &[timer]).ok();
    assert_eq!(w.kernel.alarms.earliest(), None);
}

#[test]
fn a_wait_for_a_queue_times_out_and_there_is_one_waiter() {
    let mut w = World::new();
    let (server, other) = (w.program(), w.program());
    let rings = Rings::new(&mut w, &server, 2, 2);
    let shared = w.share(&server, &other, rings.queue);
    rings.wait(&mut w, 50);
    assert_eq!(w.call(&other, Call::QueueWait, &[shared, FOREVER]).error(), Some(Error::BadState));
    w.m.now_ns = 50;
    w.kernel.on_tick(&mut w.m, 0);
    w.kernel.check_invariants(&[]);
    assert_eq!(w.answer(&server).error(), Some(Error::TimedOut));
    rings.wait(&mut w, FOREVER);
    w.call(&other, Call::QueuePost, &[shared, 4, 5]).ok();
    assert_eq!(w.answer(&server).ok(), w.answer(&server).first);
    assert_eq!(rings.expect(&mut w, CompletionKind::Posted).key, 4);
}

#[test]
fn events_complete_once_with_the_bits() {
    let mut w = World::new();
    let server = w.program();
    let rings = Rings::new(&mut w, &server, 2, 4);
    let event = w.call(&server, Call::EventCreate, &[server.account_handle]).ok();
    let notify = |w: &mut World, mask| w.call(&server, Call::EventNotify, &[event, rings.queue, 8, mask]);
    assert_eq!(notify(&mut w, 0).error(), Some(Error::BadArgument));
    notify(&mut w, 6).ok();
    w.call(&server, Call::EventUpdate, &[event, 1, 0]).ok();
    assert_eq!(rings.take(&mut w), None);
    w.call(&server, Call::EventUpdate, &[event, 4, 0]).ok();
    w.call(&server, Call::EventUpdate, &[event, 2, 0]).ok();
    assert_eq!(rings.expect(&mut w, CompletionKind::Event).value, 4);
    assert_eq!(rings.take(&mut w), None);
    notify(&mut w, 3).ok();
    assert_eq!(rings.expect(&mut w, CompletionKind::Event).value, 3);
    assert!(w.kernel.notices.is_empty());
}

#[test]
fn an_interrupt_is_masked_until_it_is_acknowledged() {
    let mut w = World::new();
    let driver = w.program();
    let rings = Rings::new(&mut w, &driver, 2, 2);
    let create = [driver.hardware, driver.account_handle, 4];
    let interrupt = w.call(&driver, Call::InterruptCreate, &create).ok();
    assert_eq!(w.call(&driver, Call::InterruptCreate, &create).error(), Some(Error::Overlap));
    let none = w.call(&driver, Call::InterruptCreate, &[driver.hardware, driver.account_handle, 200]);
    assert_eq!(none.error(), Some(Error::OutOfRange));
    assert!(!w.m.unmasked.contains(&4));
    rings.bind(&mut w, interrupt, 11);
    assert!(w.m.unmasked.contains(&4));
    rings.wait(&mut w, FOREVER);
    w.kernel.on_interrupt(&mut w.m, 0, 4);
    assert!(!w.m.unmasked.contains(&4) && !w.waits(&driver));
    let completion = rings.expect(&mut w, CompletionKind::Interrupt);
    assert_eq!((completion.key, completion.value), (11, 1));
    let acknowledge = Submission {
        kind: SubmissionKind::AcknowledgeInterrupt as u32,
        target: Handle(interrupt as u32),
        ..Submission::default()
    };
    rings.submit(&mut w, &acknowledge);
    assert_eq!(rings.wait(&mut w, 0).error(), Some(Error::WouldBlock));
    assert!(w.m.unmasked.contains(&4));
    assert_eq!(w.call(&driver, Call::InterruptAcknowledge, &[interrupt]).error(), Some(Error::BadState));
    w.call(&driver, Call::HandleClose, &[interrupt]).ok();
    assert!(!w.m.unmasked.contains(&4));
    w.kernel.on_interrupt(&mut w.m, 0, 4);
    w.call(&driver, Call::InterruptCreate, &create).ok();
}

#[test]
fn the_end_of_a_thread_is_told() {
    let mut w = World::new();
    let (parent, child) = (w.program(), w.program());
    let rings = Rings::new(&mut w, &parent, 2, 2);
    let held = w.share(&child, &parent, child.thread_handle);
    rings.bind(&mut w, held, 6);
    rings.wait(&mut w, FOREVER);
    w.call(&child, Call::ThreadExit, &[]);
    assert_eq!(rings.expect(&mut w, CompletionKind::ThreadEnded).key, 6);
    rings.bind(&mut w, held, 7);
    assert_eq!(rings.expect(&mut w, CompletionKind::ThreadEnded).key, 7);
}

#[test]
fn nonsense_in_the_ring_hurts_only_its_owner() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &server, 4, 4);
    rings.bind(&mut w, far, 0);
    for value in [5u32, u32::MAX, 1 << 31] {
        w.poke(&server, RINGS + offset_of!(Header, submission_tail) as u64, &value);
        assert_eq!(rings.wait(&mut w, 0).error(), Some(Error::BadArgument));
    }
    w.poke(&server, RINGS + offset_of!(Header, submission_tail) as u64, &0u32);
    // A head that is ahead of the tail: the ring counts as full, and the caller stays in line.
    w.poke(&server, RINGS + offset_of!(Header, completion_head) as u64, &7u32);
    w.channel_call(&client, near, 1, [0; 8]);
    assert!(w.waits(&client));
    rings.wait(&mut w, FOREVER).ok();
    w.poke(&server, RINGS + offset_of!(Header, completion_head) as u64, &0u32);
    w.poke(&server, RINGS, &[0xffu8; 16]);
    rings.wait(&mut w, FOREVER).ok();
    assert_eq!(w.peek::<Header>(&server, RINGS).completion_tail, 1);
    let bad_sizes = [(0, 4), (3, 4), (4, 8192), (u64::MAX, 4)];
    for (submissions, completions) in bad_sizes {
        let answer = w.call(&server, Call::QueueCreate, &[server.account_handle, submissions, completions]);
        assert_eq!(answer.error(), Some(Error::BadArgument));
    }
}

#[test]
fn a_receiver_without_room_for_handles_refuses_the_caller_and_goes_on() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let rings = Rings::new(&mut w, &server, 4, 4);
    rings.bind(&mut w, far, 0);
    let account = w.kernel.tables[server.table].header.account;
    let used = w.kernel.memory.accounts.get(account).unwrap().used();
    w.kernel.memory.accounts.set_limit(account, used);
    let mut parked = std::vec::Vec::new();
    loop {
        let caller = w.program();
        let near = w.share(&client, &caller, near);
        w.poke(&caller, FRAME, &CallFrame { message: plain(1), ..CallFrame::default() });
        w.call(&caller, Call::ChannelCallFrame, &[near, FRAME]);
        if !w.waits(&caller) {
            assert_eq!(w.answer(&caller).error(), Some(Error::AccountLimit));
            break;
        }
        parked.push(caller);
        while rings.take(&mut w).is_some() {}
    }
    assert!(!parked.is_empty());
    assert_eq!(w.state(rings.program.thread).is_some(), w.kernel.queues.get(rings.id).is_some());
}
