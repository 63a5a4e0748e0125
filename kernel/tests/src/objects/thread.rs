//! Threads.

use crate::child::{CODE, Child, DATA, Piece, RW, call, number, pause, space_with_code, until};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use quire_api::abi::Call;
use quire_api::abi::message::WORDS;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::{ExceptionKind, ExceptionVerdict, Reflection, Registers, ThreadFlags, ThreadState};
use quire_api::time::clock_ns;
use quire_api::{
    ChannelEndpoint, Error, Event, FOREVER, HandleTable, IMMEDIATELY, Object, Protection, Queue, Rights, Thread, rt,
    system,
};

tests!("thread":
    it_starts_with_the_registers_it_is_given,
    it_starts_only_once,
    registers_that_no_user_may_have_are_refused_or_cleaned,
    registers_of_a_running_thread_are_not_read,
    exceptions_say_what_happened,
    a_resumed_thread_executes_the_instruction_again,
    an_exception_that_nobody_hears_ends_the_thread,
    a_verdict_can_end_the_thread,
    a_dropped_exception_ends_the_thread,
    single_steps_are_reported,
    vector_registers_need_vector_state,
    vector_state_is_the_threads_own,
    a_suspended_thread_stands_still_and_suspensions_nest,
    a_suspended_thread_does_not_return_from_its_call,
    a_thread_is_killed_in_every_state,
    a_killed_caller_leaves_a_stale_reply,
    setting_registers_ends_a_wait,
    it_moves_to_another_space,
    foreign_calls_are_reflected_and_native_ones_are_not,
    reflections_outside_of_the_user_half_are_refused,
    nobody_raises_a_thread_above_its_own_priority,
    a_higher_priority_runs_first,
    run_time_is_counted,
    rights_are_checked,
);

fn it_starts_with_the_registers_it_is_given(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    let given = Registers {
        rax: 1,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: DATA,
        rbp: 7,
        rsp: 8,
        r8: 9,
        r9: 10,
        r10: 11,
        r11: 12,
        r12: 13,
        r13: 14,
        r14: 15,
        r15: 16,
        fs_base: 0x1234_5000,
        gs_base: 0x5432_1000,
        ..Piece::Store.registers()
    };
    same(child.state()?, ThreadState::New)?;
    let stop = child.run(&given)?;
    same(stop.exception.kind, ExceptionKind::Breakpoint)?;
    same(child.state()?, ThreadState::Faulted)?;
    let expected = Registers { rip: stop.registers.rip, rflags: stop.registers.rflags, ..given };
    same(stop.registers, expected)?;
    same(stop.registers.rip, CODE + Piece::Store as u64 + 4)?;
    let mut bytes = [0; 8];
    child.space.read_exact(DATA, &mut bytes)?;
    same(u64::from_le_bytes(bytes), 5)
}

fn it_starts_only_once(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.begin(&Piece::Spin.registers())?;
    refused(child.thread.start(&Piece::Spin.registers()), Error::BadState)?;
    child.thread.kill()?;
    refused(child.thread.start(&Piece::Spin.registers()), Error::BadState)
}

fn registers_that_no_user_may_have_are_refused_or_cleaned(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    for bad in [
        Registers { rip: 0xffff_8000_0000_0000, ..Registers::default() },
        Registers { rip: 0x0000_8000_0000_0000, ..Registers::default() },
        Registers { fs_base: 0x8000_0000_0000_0000, ..Piece::Spin.registers() },
        Registers { gs_base: 0x0001_0000_0000_0000, ..Piece::Spin.registers() },
    ] {
        refused(child.thread.start(&bad), Error::BadArgument)?;
    }
    // Interrupts off, I/O privilege, nested task, virtual-8086 mode: none of it reaches the processor.
    let stop = child.run(&Registers { rflags: !(1 << 8), ..Piece::Syscall.registers() })?;
    same(stop.registers.rflags & (1 << 9), 1 << 9)?;
    same(stop.registers.rflags & (3 << 12 | 1 << 14 | 1 << 17), 0)
}

fn registers_of_a_running_thread_are_not_read(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    same(child.thread.registers()?, Registers::default())?;
    child.begin(&Piece::Spin.registers())?;
    refused(child.thread.registers(), Error::BadState)?;
    refused(child.thread.set_registers(&Piece::Spin.registers()), Error::BadState)?;
    child.thread.kill()?;
    refused(child.thread.registers(), Error::PeerClosed)
}

fn exceptions_say_what_happened(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let at = |piece: Piece, offset: u64| CODE + piece as u64 + offset;
    for (piece, kind, instruction) in [
        (Piece::Divide, ExceptionKind::Divide, at(Piece::Divide, 4)),
        (Piece::Illegal, ExceptionKind::Illegal, at(Piece::Illegal, 0)),
        (Piece::Privileged, ExceptionKind::Protection, at(Piece::Privileged, 0)),
        (Piece::PortIn, ExceptionKind::Protection, at(Piece::PortIn, 0)),
    ] {
        let stop = child.run(&piece.registers())?;
        same((stop.exception.kind, stop.exception.instruction), (kind, instruction))?;
        same(stop.registers.rip, instruction)?;
    }
    let stop = child.run(&Piece::Store.at(DATA + 3, 0))?;
    same((stop.fault(), stop.registers.rip), ((ExceptionKind::NotMapped, DATA + 3), at(Piece::Store, 0)))
}

fn a_resumed_thread_executes_the_instruction_again(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let stop = child.run(&Piece::Store.at(DATA, 77))?;
    same(stop.exception.kind, ExceptionKind::NotMapped)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    // The registers as they are: the store is repeated, now with success.
    let stop = child.run(&stop.registers)?;
    same(stop.exception.kind, ExceptionKind::Breakpoint)?;
    same(child.load(DATA)?, Ok(77))
}

fn an_exception_that_nobody_hears_ends_the_thread(bench: &Bench) -> TestResult {
    let space = space_with_code(bench.account)?;
    let table = HandleTable::create(bench.account)?;
    let deaf = Thread::create(bench.account, &space, &table, ThreadFlags::empty())?;
    deaf.start(&Piece::Illegal.registers())?;
    until(&deaf, ThreadState::Dead)?;
    let mut child = Child::new(bench.account)?;
    child.thread.set_exceptions(None)?;
    child.begin(&Piece::Illegal.registers())?;
    until(&child.thread, ThreadState::Dead)
}

fn a_verdict_can_end_the_thread(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.run(&Piece::Illegal.registers())?;
    let reply = child.take_stopped().ok_or(Error::NotFound)?;
    reply.answer_words(ExceptionVerdict::Kill as u64, [0; WORDS])?;
    until(&child.thread, ThreadState::Dead)
}

fn a_dropped_exception_ends_the_thread(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.run(&Piece::Illegal.registers())?;
    drop(child.take_stopped());
    until(&child.thread, ThreadState::Dead)
}

fn single_steps_are_reported(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let trap_flag = 1 << 8;
    let stop = child.run(&Registers { rflags: trap_flag, ..Piece::Divide.registers() })?;
    same((stop.exception.kind, stop.registers.rip), (ExceptionKind::Debug, CODE + Piece::Divide as u64 + 2))?;
    let stop = child.run(&stop.registers)?;
    same(stop.registers.rip, CODE + Piece::Divide as u64 + 4)
}

fn vector_registers_need_vector_state(bench: &Bench) -> TestResult {
    let mut without = Child::new(bench.account)?;
    same(without.run(&Piece::Vector.registers())?.exception.kind, ExceptionKind::NoVectorState)?;
    refused(without.thread.read_vector_state(&mut [0; 8]), Error::BadState)?;
    let mut with = Child::in_space(bench.account, space_with_code(bench.account)?, ThreadFlags::VECTOR)?;
    same(with.run(&Piece::Vector.registers())?.exception.kind, ExceptionKind::Breakpoint)
}

fn vector_state_is_the_threads_own(bench: &Bench) -> TestResult {
    let size = system::system_info()?.vector_state_bytes as usize;
    let new = || Child::in_space(bench.account, space_with_code(bench.account)?, ThreadFlags::VECTOR);
    let (mut first, mut second) = (new()?, new()?);
    first.run(&Piece::Vector.registers())?;
    second.run(&Piece::Vector.registers())?;
    let mut image = alloc::vec![0; size];
    first.thread.read_vector_state(&mut image)?;
    // XMM0, and the bit that says that SSE state is in the image (Intel SDM vol. 1, 13.4).
    let (xmm0, header) = (160, 512);
    image[xmm0..xmm0 + 16].fill(0xab);
    image[header] |= 0b11;
    first.thread.write_vector_state(&image)?;
    second.run(&Piece::Vector.registers())?;
    first.run(&Piece::Vector.registers())?;
    let mut after = alloc::vec![0; size];
    first.thread.read_vector_state(&mut after)?;
    holds(after[xmm0..xmm0 + 16] == [0xab; 16], "a register keeps its value while another thread runs")?;
    second.thread.read_vector_state(&mut after)?;
    holds(after[xmm0..xmm0 + 16] == [0; 16], "and is not seen there")?;
    refused(first.thread.read_vector_state(&mut after[..size - 1]), Error::BadArgument)?;
    // Reserved bits of MXCSR, which would fault in the kernel (13.7).
    image[27] = 0xff;
    refused(first.thread.write_vector_state(&image), Error::BadArgument)
}

/// How far a counting child has come.
fn count(child: &Child) -> Result<u64, Failure> {
    Ok(child.thread.registers()?.rax)
}

/// Lets a counting child run until it has come further than `past`, and suspends it. How far it came then.
fn count_past(child: &Child, past: u64) -> Result<u64, Failure> {
    let deadline_ns = in_ms(5_000);
    loop {
        pause()?;
        child.thread.suspend()?;
        let reached = count(child)?;
        if reached > past {
            return Ok(reached);
        }
        holds(clock_ns() < deadline_ns, "the thread runs")?;
        child.thread.resume()?;
    }
}

fn a_suspended_thread_stands_still_and_suspensions_nest(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.begin(&Piece::Count.registers())?;
    let before = count_past(&child, 0)?;
    child.thread.suspend()?;
    pause()?;
    same(count(&child)?, before)?;
    same(child.thread.info()?.suspended, 2)?;
    child.thread.resume()?;
    pause()?;
    same(count(&child)?, before)?;
    child.thread.resume()?;
    refused(child.thread.resume(), Error::BadState)?;
    count_past(&child, before).map(drop)
}

/// Calls that wait, each with what ends the wait.
struct Waits {
    channel: (ChannelEndpoint, ChannelEndpoint),
    receiving: (ChannelEndpoint, ChannelEndpoint),
    queue: Queue,
    event: Event,
}

impl Waits {
    fn new(bench: &Bench) -> Result<Self, Error> {
        Ok(Self {
            channel: ChannelEndpoint::pair(bench.account)?,
            receiving: ChannelEndpoint::pair(bench.account)?,
            queue: Queue::create(bench.account, 8, 8)?.0,
            event: Event::create(bench.account)?,
        })
    }

    /// How a child waits in each way.
    fn calls(&self, child: &Child) -> Result<[Registers; 4], Failure> {
        Ok([
            call(Call::ChannelCall, [child.give(&self.channel.0)?, 1, 0, 0, 0, 0]),
            call(Call::ChannelReceive, [child.give(&self.receiving.0)?, DATA, FOREVER, 0, 0, 0]),
            call(Call::QueueWait, [child.give(&self.queue)?, FOREVER, 0, 0, 0, 0]),
            call(Call::EventWait, [child.give(&self.event)?, 1, FOREVER, 0, 0, 0]),
        ])
    }

    /// Ends all waits.
    fn end(&self) -> Result<(), Failure> {
        if let Some(reply) = self.channel.1.receive(in_ms(100))?.reply {
            reply.answer_words(0, [0; WORDS])?;
        }
        self.receiving.1.send(quire_api::Message::new(1, [0; WORDS]))?;
        self.queue.post(1, 1)?;
        self.event.update(1, 0)?;
        Ok(())
    }
}

/// Four children, each waiting in its own way.
fn waiting_children(bench: &Bench, waits: &Waits) -> Result<alloc::vec::Vec<Child>, Failure> {
    let mut children = alloc::vec::Vec::new();
    for way in 0..4 {
        let mut child = Child::new(bench.account)?;
        child.map_zero(DATA, PAGE_SIZE, RW)?;
        let calls = waits.calls(&child)?;
        child.begin(&calls[way])?;
        child.until_waiting()?;
        same(child.thread.info()?.waiting_in, calls[way].rax)?;
        children.push(child);
    }
    Ok(children)
}

fn a_suspended_thread_does_not_return_from_its_call(bench: &Bench) -> TestResult {
    let waits = Waits::new(bench)?;
    let mut children = waiting_children(bench, &waits)?;
    for child in &children {
        child.thread.suspend()?;
    }
    waits.end()?;
    pause()?;
    for child in &mut children {
        refused(child.wait_until(IMMEDIATELY).map(drop).map_err(|_| Error::WouldBlock), Error::WouldBlock)?;
        child.thread.resume()?;
        let stop = child.wait()?;
        same((stop.exception.kind, stop.registers.rax), (ExceptionKind::Breakpoint, 0))?;
    }
    Ok(())
}

fn a_thread_is_killed_in_every_state(bench: &Bench) -> TestResult {
    let waits = Waits::new(bench)?;
    let mut children = waiting_children(bench, &waits)?;
    let mut running = Child::new(bench.account)?;
    running.begin(&Piece::Spin.registers())?;
    let mut suspended = Child::new(bench.account)?;
    suspended.begin(&Piece::Spin.registers())?;
    suspended.thread.suspend()?;
    let mut faulted = Child::new(bench.account)?;
    faulted.run(&Piece::Illegal.registers())?;
    children.extend([running, suspended, faulted, Child::new(bench.account)?]);
    for child in &children {
        child.thread.kill()?;
        same(child.state()?, ThreadState::Dead)?;
        child.thread.kill()?;
        refused(child.thread.suspend(), Error::PeerClosed)?;
        refused(child.thread.resume(), Error::PeerClosed)?;
    }
    // Nobody is left in any line.
    refused(waits.channel.1.receive(IMMEDIATELY).map(drop), Error::WouldBlock)?;
    waits.receiving.1.send(quire_api::Message::new(1, [0; WORDS]))?;
    same(waits.receiving.0.receive(IMMEDIATELY)?.message.label, 1)?;
    same(waits.event.update(1, 0)?, 1)
}

fn a_killed_caller_leaves_a_stale_reply(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut child = Child::new(bench.account)?;
    let channel = child.give(&theirs)?;
    child.begin(&call(Call::ChannelCall, [channel, 1, 0, 0, 0, 0]))?;
    let reply = ours.receive(in_ms(1_000))?.reply.ok_or(Error::NotFound)?;
    child.thread.kill()?;
    refused(reply.read_buffer(0, &mut [0]), Error::PeerClosed)?;
    refused(reply.answer_words(0, [0; WORDS]), Error::PeerClosed)
}

fn setting_registers_ends_a_wait(bench: &Bench) -> TestResult {
    let waits = Waits::new(bench)?;
    for child in &mut waiting_children(bench, &waits)? {
        child.thread.suspend()?;
        child.thread.set_registers(&Registers { rax: 4711, ..Piece::Illegal.registers() })?;
        child.thread.resume()?;
        let stop = child.wait()?;
        same((stop.exception.kind, stop.registers.rax), (ExceptionKind::Illegal, 4711))?;
    }
    refused(waits.channel.1.receive(IMMEDIATELY).map(drop), Error::WouldBlock)
}

fn it_moves_to_another_space(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.map_zero(DATA, PAGE_SIZE, RW)?;
    same(child.store(DATA, 1)?, Ok(()))?;
    let other = Child::new(bench.account)?;
    other.map_zero(DATA, PAGE_SIZE, RW)?;
    other.space.write_all(DATA, &[2])?;
    child.thread.set_space(&other.space)?;
    same(child.load(DATA)?, Ok(2))?;
    let mut running = Child::new(bench.account)?;
    running.begin(&Piece::Spin.registers())?;
    refused(running.thread.set_space(&other.space), Error::BadState)?;
    running.thread.kill()?;
    refused(running.thread.set_space(&other.space), Error::PeerClosed)
}

fn foreign_calls_are_reflected_and_native_ones_are_not(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    // Foreign code at DATA: `syscall; int3`. The entry is the illegal instruction of the native code.
    child.map_zero(DATA, PAGE_SIZE, Protection::READ | Protection::EXECUTE | Protection::WRITE)?;
    child.space.write_all(DATA, &[0x0f, 0x05, 0xcc])?;
    let entry = CODE + Piece::Illegal as u64;
    child.thread.set_reflection(&Reflection { entry, native_start: CODE, native_end: CODE + PAGE_SIZE })?;
    let foreign = Registers { rip: DATA, rax: 999, rdx: 3, rsp: 0x1230, r8: 8, r9: 9, ..Registers::default() };
    let stop = child.run(&foreign)?;
    same((stop.exception.kind, stop.registers.rip), (ExceptionKind::Illegal, entry))?;
    same((stop.registers.rcx, stop.registers.r11), (DATA + 2, stop.registers.rflags))?;
    let Registers { rip: _, rcx: _, r11: _, rflags: _, .. } = foreign;
    let untouched = Registers {
        rip: entry,
        rcx: stop.registers.rcx,
        r11: stop.registers.r11,
        rflags: stop.registers.rflags,
        ..foreign
    };
    same(stop.registers, untouched)?;
    same(child.call(Call::Nothing, [0; 6])?.0, 0)?;
    child.thread.set_reflection(&Reflection::default())?;
    let stop = child.run(&Registers { rax: Call::Nothing as u64, ..foreign })?;
    same((stop.exception.kind, stop.registers.rax), (ExceptionKind::Breakpoint, 0))
}

fn reflections_outside_of_the_user_half_are_refused(bench: &Bench) -> TestResult {
    let child = Child::new(bench.account)?;
    for bad in [
        Reflection { entry: 0xffff_8000_0000_0000, native_start: 0, native_end: 0 },
        Reflection { entry: 0x0000_8000_0000_0000, native_start: 0, native_end: 0 },
        Reflection { entry: CODE, native_start: CODE + 1, native_end: CODE },
        Reflection { entry: CODE, native_start: 0, native_end: u64::MAX },
    ] {
        refused(child.thread.set_reflection(&bad), Error::BadArgument)?;
    }
    Ok(())
}

fn nobody_raises_a_thread_above_its_own_priority(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    let thread = child.give(&child.thread)?;
    let missing = Error::MissingRights as u64;
    same(child.call(Call::ThreadSetPriority, [thread, 31, 0, 0, 0, 0])?.0, missing)?;
    same(child.call(Call::ThreadSetPriority, [thread, 32, 0, 0, 0, 0])?.0, Error::BadArgument as u64)?;
    same(child.call(Call::ThreadSetPriority, [thread, 3, 0, 0, 0, 0])?.0, 0)?;
    same(child.call(Call::ThreadSetPriority, [thread, 16, 0, 0, 0, 0])?.0, missing)
}

fn a_higher_priority_runs_first(bench: &Bench) -> TestResult {
    let mut low = Child::new(bench.account)?;
    let mut high = Child::new(bench.account)?;
    low.thread.set_priority(2)?;
    high.thread.set_priority(3)?;
    // On two processors both would run.
    low.thread.set_affinity(1)?;
    high.thread.set_affinity(1)?;
    high.begin(&Piece::Count.registers())?;
    low.begin(&Piece::Count.registers())?;
    // Nobody looks at the higher one meanwhile: to look is to suspend it, and then the lower one runs.
    for _ in 0..20 {
        pause()?;
    }
    low.thread.suspend()?;
    high.thread.suspend()?;
    holds(count(&high)? > count(&low)?, "the higher one ran first")
}

fn run_time_is_counted(bench: &Bench) -> TestResult {
    let mut child = Child::new(bench.account)?;
    child.begin(&Piece::Spin.registers())?;
    let deadline_ns = in_ms(5_000);
    while child.thread.info()?.run_time_ns == 0 {
        holds(clock_ns() < deadline_ns, "a thread that runs has a run time")?;
        pause()?;
    }
    child.thread.kill()?;
    holds(rt::thread()?.info()?.run_time_ns > 0, "so has the test itself")
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let child = Child::new(bench.account)?;
    let nothing = child.thread.duplicate(Rights::DUPLICATE)?;
    holds(number(nothing.raw()) != 0, "there is a handle")?;
    refused(nothing.start(&Piece::Spin.registers()), Error::MissingRights)?;
    refused(nothing.suspend(), Error::MissingRights)?;
    refused(nothing.resume(), Error::MissingRights)?;
    refused(nothing.kill(), Error::MissingRights)?;
    refused(nothing.registers(), Error::MissingRights)?;
    refused(nothing.set_registers(&Registers::default()), Error::MissingRights)?;
    refused(nothing.set_exceptions(None), Error::MissingRights)?;
    refused(nothing.info(), Error::MissingRights)
}
