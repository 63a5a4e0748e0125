//! Starting, suspending, killing, registers, exceptions.

use super::{FOREVER, Program, SCRATCH, World};
use crate::thread::{Exception, State, VectorBlock};
use quire_abi::message::Received;
use quire_abi::thread::{
    EXCEPTION_LABEL, ExceptionKind, Reflection, RegisterClass, Registers, ThreadInfo, ThreadState,
};
use quire_abi::{Call, Error};

const RECORD: u64 = SCRATCH;

/// A new thread in `program`.
fn new_thread(w: &mut World, program: &Program, flags: u64) -> u64 {
    let arguments = [program.account_handle, program.space_handle, program.table_handle, flags];
    w.call(program, Call::ThreadCreate, &arguments).ok()
}

fn info(w: &mut World, program: &Program, thread: u64) -> ThreadInfo {
    w.call(program, Call::ThreadInfo, &[thread, RECORD]).ok();
    w.peek(program, RECORD)
}

fn start(w: &mut World, program: &Program, thread: u64, registers: Registers) -> super::Answer {
    w.poke(program, RECORD, &registers);
    w.call(program, Call::ThreadStart, &[thread, RECORD])
}

#[test]
fn a_thread_lives_from_new_to_dead() {
    let mut w = World::new();
    let program = w.program();
    let thread = new_thread(&mut w, &program, 0);
    assert_eq!(info(&mut w, &program, thread).state, ThreadState::New as u32);
    start(&mut w, &program, thread, Registers { rip: 0x2000, rflags: u64::MAX, ..Registers::default() }).ok();
    assert_eq!(info(&mut w, &program, thread).state, ThreadState::Runnable as u32);
    let again = start(&mut w, &program, thread, Registers { rip: 0x2000, ..Registers::default() });
    assert_eq!(again.error(), Some(Error::BadState));
    w.call(&program, Call::ThreadKill, &[thread]).ok();
    assert_eq!(info(&mut w, &program, thread).state, ThreadState::Dead as u32);
    for call in [Call::ThreadSuspend, Call::ThreadResume] {
        assert_eq!(w.call(&program, call, &[thread]).error(), Some(Error::PeerClosed));
    }
    w.call(&program, Call::HandleClose, &[thread]).ok();
    assert_eq!(w.kernel.threads.len(), 1);
}

#[test]
fn registers_that_would_fault_in_the_kernel_are_refused() {
    let mut w = World::new();
    let program = w.program();
    let thread = new_thread(&mut w, &program, 0);
    let bad = [
        Registers { rip: 0x0000_8000_0000_0000, ..Registers::default() },
        Registers { fs_base: 0x0000_8000_0000_0000, ..Registers::default() },
        Registers { gs_base: u64::MAX, ..Registers::default() },
    ];
    for registers in bad {
        assert_eq!(start(&mut w, &program, thread, registers).error(), Some(Error::BadArgument));
    }
    start(&mut w, &program, thread, Registers { rflags: u64::MAX, ..Registers::default() }).ok();
    let id = w.kernel.threads.iter().map(|(id, _)| id).max().unwrap();
    assert_eq!(w.registers(id).rflags & 0x3000, 0, "no I/O privilege");
    assert_eq!(w.registers(id).rflags & 0x200, 0x200, "interrupts stay on");
}

#[test]
fn suspension_nests_and_outlasts_a_wait() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let held = w.share(&client, &server, client.thread_handle);
    w.channel_call(&client, near, 1, [0; 8]);
    w.call(&server, Call::ThreadSuspend, &[held]).ok();
    w.call(&server, Call::ThreadSuspend, &[held]).ok();
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let reply = w.peek::<Received>(&server, RECORD).reply;
    w.call(&server, Call::ChannelReply, &[reply.0.into(), 5]).ok();
    assert_eq!(w.state(client.thread), Some(State::Stopped));
    w.call(&server, Call::ThreadResume, &[held]).ok();
    assert_eq!(w.state(client.thread), Some(State::Stopped));
    w.call(&server, Call::ThreadResume, &[held]).ok();
    assert_eq!(w.call(&server, Call::ThreadResume, &[held]).error(), Some(Error::BadState));
    w.run(client.thread);
    assert_eq!(w.message(&client).0, 5);
}

#[test]
fn a_thread_that_suspends_itself_stops_when_the_call_is_over() {
    let mut w = World::new();
    let (program, other) = (w.program(), w.program());
    let held = w.share(&program, &other, program.thread_handle);
    w.call(&program, Call::ThreadSuspend, &[program.thread_handle]).ok();
    w.run(other.thread);
    assert_eq!(w.state(program.thread), Some(State::Stopped));
    w.call(&other, Call::ThreadResume, &[held]).ok();
    w.run(program.thread);
}

#[test]
fn writing_registers_ends_the_wait_of_a_suspended_caller() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    let held = w.share(&client, &server, client.thread_handle);
    w.channel_call(&client, near, 1, [0; 8]);
    let write = [held, RegisterClass::General as u64, RECORD + 0x1000, size_of::<Registers>() as u64];
    w.poke(&server, RECORD + 0x1000, &Registers { rip: 0x4000, rax: 77, ..Registers::default() });
    assert_eq!(w.call(&server, Call::ThreadWriteRegisters, &write).error(), Some(Error::BadState));
    w.call(&server, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
    let reply = w.peek::<Received>(&server, RECORD).reply;
    w.call(&server, Call::ThreadReadRegisters, &write).ok();
    w.poke(&server, RECORD + 0x1000, &Registers { rip: 0x4000, rax: 77, ..Registers::default() });
    w.call(&server, Call::ThreadSuspend, &[held]).ok();
    w.call(&server, Call::ThreadWriteRegisters, &write).ok();
    assert_eq!(w.call(&server, Call::ChannelReply, &[reply.0.into(), 0]).error(), Some(Error::PeerClosed));
    w.call(&server, Call::ThreadResume, &[held]).ok();
    w.run(client.thread);
    assert_eq!((w.registers(client.thread).rip, w.registers(client.thread).rax), (0x4000, 77));
}

#[test]
fn an_exception_is_a_call_and_its_answer_resumes_or_kills() {
    let mut w = World::new();
    let (program, handler) = (w.program(), w.program());
    let (near, far) = w.channel(&program, &handler);
    w.call(&program, Call::ThreadSetExceptions, &[program.thread_handle, near]).ok();
    let exception = Exception { kind: ExceptionKind::NotMapped, address: 0xdead, code: 6 };
    for (verdict, alive) in [(0, true), (1, false)] {
        w.run(program.thread);
        w.registers(program.thread).rip = 0x1234;
        w.kernel.exception(&mut w.m, 0, program.thread, exception);
        w.kernel.check_invariants(&[]);
        w.call(&handler, Call::ChannelReceive, &[far, RECORD, FOREVER]).ok();
        let received: Received = w.peek(&handler, RECORD);
        assert_eq!(received.message.label, EXCEPTION_LABEL);
        assert_eq!(received.message.words[..4], [ExceptionKind::NotMapped as u64, 0xdead, 6, 0x1234]);
        let reply = u64::from(received.reply.0);
        assert_eq!(w.call(&handler, Call::ChannelReply, &[reply, 2]).error(), Some(Error::BadArgument));
        w.call(&handler, Call::ChannelReply, &[reply, verdict]).ok();
        let state = w.state(program.thread);
        assert_eq!(state.is_some_and(|state| state != State::Dead), alive);
    }
}

#[test]
fn an_exception_that_nobody_handles_ends_the_thread() {
    let mut w = World::new();
    let (program, handler) = (w.program(), w.program());
    let exception = Exception { kind: ExceptionKind::Illegal, address: 0, code: 0 };
    let (near, far) = w.channel(&program, &handler);
    w.call(&program, Call::ThreadSetExceptions, &[program.thread_handle, near]).ok();
    w.call(&handler, Call::HandleClose, &[far]).ok();
    w.run(program.thread);
    w.kernel.exception(&mut w.m, 0, program.thread, exception);
    w.kernel.check_invariants(&[]);
    assert_eq!(w.state(program.thread), None);
    assert!(w.log_text().iter().any(|line| line.contains("Illegal")));
}

#[test]
fn the_end_of_the_last_thread_empties_its_table() {
    let mut w = World::new();
    let before = w.kernel.memory.accounts.iter().count();
    let (program, other) = (w.program(), w.program());
    // A cycle: each has the other's table.
    w.share(&program, &other, program.table_handle);
    w.share(&other, &program, other.table_handle);
    w.call(&program, Call::ThreadExit, &[]);
    w.call(&other, Call::ThreadExit, &[]);
    assert!(w.kernel.tables.is_empty() && w.kernel.threads.is_empty());
    assert_eq!(w.kernel.memory.accounts.iter().count(), before);
}

#[test]
fn an_account_can_be_killed_whatever_its_threads_do() {
    let mut w = World::new();
    let before = w.kernel.memory.accounts.get(w.kernel.memory.root_account()).unwrap().used();
    let (victim, other) = (w.program(), w.program());
    let (near, _far) = w.channel(&victim, &other);
    let account = w.share(&victim, &other, victim.account_handle);
    new_thread(&mut w, &victim, 1);
    let started = new_thread(&mut w, &victim, 0);
    start(&mut w, &victim, started, Registers { rip: 0x2000, ..Registers::default() }).ok();
    // A table that has itself, through another one, and no thread.
    let first = w.call(&victim, Call::TableCreate, &[victim.account_handle]).ok();
    let second = w.call(&victim, Call::TableCreate, &[victim.account_handle]).ok();
    w.call(&victim, Call::TableInstall, &[first, second, u64::from(u32::MAX >> 21)]).ok();
    w.call(&victim, Call::TableInstall, &[second, first, u64::from(u32::MAX >> 21)]).ok();
    w.channel_call(&victim, near, 1, [0; 8]);
    assert_eq!(w.call(&other, Call::AccountKill, &[account]).ok(), 3);
    w.call(&other, Call::HandleClose, &[account]).ok();
    w.call(&other, Call::ThreadExit, &[]);
    assert_eq!(w.kernel.memory.accounts.get(w.kernel.memory.root_account()).unwrap().used(), before);
}

#[test]
fn a_slice_ends_and_the_next_of_the_priority_runs() {
    let mut w = World::new();
    let (a, b) = (w.program(), w.program());
    w.run(a.thread);
    let end = w.kernel.next_deadline(0).unwrap();
    w.m.now_ns = end;
    w.kernel.on_tick(&mut w.m, 0);
    assert_eq!(w.kernel.next_thread(&mut w.m, 0), crate::schedule::Next::Run(b.thread));
    w.call(&b, Call::ThreadSetPriority, &[b.thread_handle, 3]).ok();
    assert_eq!(w.kernel.next_thread(&mut w.m, 0), crate::schedule::Next::Run(a.thread));
    let refused = w.call(&a, Call::ThreadSetPriority, &[a.thread_handle, 31]);
    assert_eq!(refused.error(), Some(Error::MissingRights));
}

#[test]
fn a_thread_that_is_preempted_again_and_again_still_uses_up_its_slice() {
    let mut w = World::new();
    let (busy, waiting, often) = (w.program(), w.program(), w.program());
    for program in [&busy, &waiting] {
        w.call(program, Call::ThreadSetPriority, &[program.thread_handle, 3]).ok();
    }
    let event = w.call(&often, Call::EventCreate, &[often.account_handle]).ok();
    let period = crate::schedule::SLICE_NS / 4;
    let mut ran = std::vec::Vec::new();
    for _ in 0..16 {
        let deadline = w.m.now_ns + period;
        w.call(&often, Call::EventWait, &[event, 1, deadline]);
        ran.push(w.kernel.next_thread(&mut w.m, 0));
        w.m.now_ns = deadline;
        w.kernel.on_tick(&mut w.m, 0);
    }
    for program in [&busy, &waiting] {
        assert!(ran.contains(&crate::schedule::Next::Run(program.thread)));
    }
}

#[test]
fn vector_state_is_read_and_written_whole_and_checked() {
    let mut w = World::new();
    let program = w.program();
    let thread = new_thread(&mut w, &program, 1);
    let len = u64::from(crate::mock::VECTOR_BYTES);
    let class = RegisterClass::Vector as u64;
    w.call(&program, Call::ThreadReadRegisters, &[thread, class, RECORD, len]).ok();
    assert_eq!(w.peek::<[u8; 128]>(&program, RECORD), [1; 128]);
    w.poke(&program, RECORD, &[9u8; 128]);
    w.call(&program, Call::ThreadWriteRegisters, &[thread, class, RECORD, len]).ok();
    w.poke(&program, RECORD, &[0xffu8; 128]);
    let write = w.call(&program, Call::ThreadWriteRegisters, &[thread, class, RECORD, len]);
    assert_eq!(write.error(), Some(Error::BadArgument));
    let short = w.call(&program, Call::ThreadWriteRegisters, &[thread, class, RECORD, len - 1]);
    assert_eq!(short.error(), Some(Error::BadArgument));
    w.call(&program, Call::ThreadReadRegisters, &[thread, class, RECORD, len]).ok();
    assert_eq!(w.peek::<[u8; 128]>(&program, RECORD), [9; 128]);
}

#[test]
fn vector_state_is_written_while_the_thread_waits_in_a_call() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, _far) = w.channel(&client, &server);
    let thread = w.share(&client, &server, client.thread_handle);
    w.channel_call(&client, near, 1, [0; 8]);
    let (class, len) = (RegisterClass::Vector as u64, u64::from(crate::mock::VECTOR_BYTES));
    w.kernel.threads[client.thread].vector = Some(std::vec![VectorBlock([1; 64]); 2]);
    w.poke(&server, RECORD, &[9u8; 128]);
    w.call(&server, Call::ThreadWriteRegisters, &[thread, class, RECORD, len]).ok();
    assert!(matches!(w.kernel.threads[client.thread].state, State::Waiting(_)));
    w.call(&server, Call::ThreadReadRegisters, &[thread, class, RECORD, len]).ok();
    assert_eq!(w.peek::<[u8; 128]>(&server, RECORD), [9; 128]);
}

#[test]
fn a_reflection_lies_in_the_user_half() {
    let mut w = World::new();
    let program = w.program();
    let bad = [
        Reflection { entry: u64::MAX, native_start: 0, native_end: 0 },
        Reflection { entry: 0x1000, native_start: 2, native_end: 1 },
        Reflection { entry: 0x1000, native_start: 2, native_end: u64::MAX },
    ];
    for reflection in bad {
        w.poke(&program, RECORD, &reflection);
        let answer = w.call(&program, Call::ThreadSetReflection, &[program.thread_handle, RECORD]);
        assert_eq!(answer.error(), Some(Error::BadArgument));
    }
    let good = Reflection { entry: 0x1000, native_start: 0x1000, native_end: 0x3000 };
    w.poke(&program, RECORD, &good);
    w.call(&program, Call::ThreadSetReflection, &[program.thread_handle, RECORD]).ok();
    assert_eq!(w.kernel.threads[program.thread].context.reflection, good);
}

#[test]
fn a_dump_names_every_thread_and_what_it_waits_for() {
    let mut w = World::new();
    let (client, server) = (w.program(), w.program());
    let (near, far) = w.channel(&client, &server);
    w.poke(&client, RECORD, b"client".as_slice());
    w.call(&client, Call::ThreadSetName, &[client.thread_handle, RECORD, 6]).ok();
    w.channel_call(&client, near, 1, [0; 8]);
    w.call(&server, Call::SystemDump, &[server.log]).ok();
    assert!(w.log_text().iter().any(|line| line.contains("\"client\"") && line.contains("in line at endpoint")));
    let _ = far;
}
