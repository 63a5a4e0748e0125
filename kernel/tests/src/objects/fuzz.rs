//! Random calls with random handles: errors, never a panic, and nothing is lost.
//!
//! The call table says what an argument should be, and most of the time it is that. How often each call of the table was made, and how
//! often it succeeded, is counted. A run fails if one was never made; a long one also if one has never succeeded, but for
//! those that need an authority that fuzzed threads don't get.

#![expect(clippy::wildcard_enum_match_arm, reason = "of most calls there is nothing to say here")]

use crate::child::{CODE, Child, DATA, Piece, RW, number};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, same, tests};
use alloc::format;
use alloc::vec::Vec;
use log::info;
use quire_api::abi::call::{Argument, ArgumentKind, CallInfo, TABLE};
use quire_api::abi::error::OK;
use quire_api::abi::message::{CallFrame, HANDLES, Message, WORDS};
use quire_api::abi::pager::PagerFlags;
use quire_api::abi::space::{PAGE_SIZE, SpaceOp};
use quire_api::abi::system::AccountLimits;
use quire_api::abi::thread::{ExceptionKind, Registers, ThreadFlags};
use quire_api::abi::{Call, ObjectKind};
use quire_api::time::clock_ns;
use quire_api::{
    Account, AddressSpace, ChannelEndpoint, Error, Event, Handle, HandleTable, Memory, Object, Pager, Rights, Thread,
    Timer, system,
};
use zerocopy::IntoBytes;

tests!("fuzz":
    random_calls_give_errors_and_lose_nothing,
);

/// A run with so many calls has made each of them, and succeeded.
const MANY_CALLS: u64 = 200_000;
/// What the fuzzed threads may use, in frames and bytes.
const LIMITS: AccountLimits = AccountLimits { frames: 2_000, kernel_bytes: 2 << 20 };
/// How long a page of calls may take before the thread is taken to wait in one of them, in ms.
const PATIENCE_MS: u64 = 20;
/// How often a thread is replaced at least, so that what it has broken of itself does not spoil the rest.
const PAGES_PER_CHILD: u32 = 50;

/// A xorshift generator (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// One of these.
    fn choose<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).copied().unwrap_or(otherwise)
    }
}

/// Handles of a fuzzed thread, as far as they are known.
#[derive(Default)]
struct Known(Vec<(ObjectKind, u64)>);

/// How many handles are remembered.
const MAX_KNOWN: usize = 200;

impl Known {
    fn add(&mut self, kind: ObjectKind, handle: u64) {
        if self.0.len() < MAX_KNOWN {
            self.0.push((kind, handle));
        }
    }

    fn any(&self, random: &mut Random) -> u64 {
        random.choose(&self.0, (ObjectKind::Log, 0)).1
    }

    /// One to an object of this kind, if there is one; what was made last is the most promising.
    fn of(&self, random: &mut Random, kind: ObjectKind) -> u64 {
        let mut fitting = self.0.iter().rev().filter(|(known, _)| *known == kind);
        let skipped = random.below(4) as usize;
        let found = fitting.nth(skipped).or_else(|| self.0.iter().find(|(known, _)| *known == kind));
        found.map_or(0, |(_, handle)| *handle)
    }

    /// Learns what a call has made.
    fn learn(&mut self, info: &CallInfo, value: u64) {
        let kind = match info.returns.first().copied() {
            Some("account") => ObjectKind::Account,
            Some("address space") => ObjectKind::AddressSpace,
            Some("endpoint") => ObjectKind::Channel,
            Some("event") => ObjectKind::Event,
            Some("handle table") => ObjectKind::HandleTable,
            Some("memory") => ObjectKind::Memory,
            Some("queue") => ObjectKind::Queue,
            Some("thread") => ObjectKind::Thread,
            Some("timer") => ObjectKind::Timer,
            Some(_) | None => return,
        };
        self.add(kind, value);
    }
}

/// How often a call was made, and how often it succeeded.
#[derive(Clone, Copy, Default)]
struct Made {
    times: u64,
    successes: u64,
}

/// The same for each line of the call table.
struct Coverage(Vec<Made>);

impl Coverage {
    fn new() -> Self {
        Self(TABLE.iter().map(|_| Made::default()).collect())
    }

    fn count(&mut self, number: u64, is_success: bool) {
        let found = self.0.iter_mut().zip(TABLE).find(|(_, info)| info.call as u64 == number);
        if let Some((made, _)) = found {
            made.times += 1;
            made.successes += u64::from(is_success);
        }
    }

    fn calls(&self) -> u64 {
        self.0.iter().map(|made| made.times).sum()
    }

    fn print(&self) {
        for (made, info) in self.0.iter().zip(TABLE) {
            info!("fuzz: {:<24} made {:>8}, succeeded {:>8}", info.name, made.times, made.successes);
        }
    }

    /// Fails if a call that it should be so for is not.
    fn check(&self, what: &str, is_well: impl Fn(&CallInfo, &Made) -> bool) -> TestResult {
        for (made, info) in self.0.iter().zip(TABLE) {
            holds(is_well(info, made), &format!("{} {what}", info.name))?;
        }
        Ok(())
    }
}

/// Calls that can't succeed for a fuzzed thread: they need authority over hardware or the log, or do not return.
fn is_out_of_reach(call: Call) -> bool {
    matches!(
        call,
        Call::AccountKill
            | Call::AccountSetLimits
            | Call::DmaCreate
            | Call::HardwareInfo
            | Call::InterruptAcknowledge
            | Call::InterruptCreate
            | Call::InterruptCreateMessage
            | Call::IoPortsCreate
            | Call::IoPortsRead
            | Call::IoPortsReadBytes
            | Call::IoPortsWrite
            | Call::IoPortsWriteBytes
            | Call::LogWrite
            | Call::MemoryCreatePhysical
            | Call::SwapSet
            | Call::SystemDump
            | Call::SystemShutdown
            | Call::ThreadExit
    )
}

/// Calls that end the thread or let it wait for ever: now and then.
fn is_rare(call: Call) -> bool {
    matches!(
        call,
        Call::AccountKill
            | Call::ChannelCall
            | Call::ChannelCallFrame
            | Call::ChannelReplyReceive
            | Call::ThreadExit
            | Call::ThreadKill
            | Call::ThreadSetSpace
            | Call::ThreadSuspend
    )
}

/// A thread to be fuzzed, which holds objects of each kind that it could do no harm outside with.
fn victim(bench: &Bench, account: &Account) -> Result<(Child, Known), Failure> {
    let child = Child::new(account)?;
    child.map_zero(DATA, 16 * PAGE_SIZE, RW)?;
    let mut known = Known::default();
    let (near, far) = ChannelEndpoint::pair(account)?;
    let memory = Memory::create(account, 16 * PAGE_SIZE)?;
    let (space, table) = (AddressSpace::create(account)?, HandleTable::create(account)?);
    known.add(ObjectKind::Memory, child.give(&memory.window(account, 0, PAGE_SIZE)?)?);
    known.add(ObjectKind::Channel, child.give(&near)?);
    known.add(ObjectKind::Channel, child.give(&far)?);
    // Queues it makes itself: what completes in ours would bring us its handles.
    known.add(ObjectKind::Memory, child.give(&memory)?);
    known.add(ObjectKind::Event, child.give(&Event::create(account)?)?);
    known.add(ObjectKind::Timer, child.give(&Timer::create(account)?)?);
    // Its own space, table and thread, which it may well ruin; and an account that it can't raise.
    known.add(ObjectKind::AddressSpace, child.give(&child.space)?);
    known.add(ObjectKind::HandleTable, child.give(&child.table)?);
    known.add(ObjectKind::Thread, child.give(&child.thread)?);
    known.add(ObjectKind::Thread, child.give(&Thread::create(account, &space, &table, ThreadFlags::VECTOR)?)?);
    known.add(ObjectKind::AddressSpace, child.give(&space)?);
    known.add(ObjectKind::HandleTable, child.give(&table)?);
    let (managed, pager) = Pager::create(account, 16 * PAGE_SIZE, 1_000_000, PagerFlags::empty())?;
    known.add(ObjectKind::Memory, child.give(&managed)?);
    known.add(ObjectKind::Pager, child.give(&pager)?);
    // No device uses what is mapped in it. Earlier victims' may still be there, if their tables keep themselves alive.
    let space = (0..=u16::MAX).rev().find_map(|requester| bench.hardware.dma_space(account, requester).ok());
    known.add(ObjectKind::DmaSpace, child.give(&space.ok_or(Error::Full)?)?);
    // Nothing raises it either. There are only so many.
    if let Ok(interrupt) = bench.hardware.message_interrupt(account, u16::MAX) {
        known.add(ObjectKind::Interrupt, child.give(&interrupt)?);
    }
    let account = account.duplicate(Rights::USE | Rights::READ | Rights::DUPLICATE | Rights::TRANSFER)?;
    known.add(ObjectKind::Account, child.give(&account)?);
    Ok((child, known))
}

/// A random argument: handles, addresses, sizes, times and plain noise.
fn noise(random: &mut Random, known: &Known) -> u64 {
    match random.below(8) {
        0 | 1 => known.any(random),
        2 => DATA + random.below(18 * PAGE_SIZE),
        3 => random.choose(&[OPS_PAGE, FRAMES_PAGE, REGISTERS_PAGE, SCRATCH_PAGE], DATA),
        4 => random.below(64),
        5 => random.below(20) * PAGE_SIZE,
        6 => random.choose(&[0, 1, u64::MAX, 1 << 63, 0xffff_8000_0000_0000, 0x7fff_ffff_f000, u64::MAX - 4095], 0),
        _ => random.next(),
    }
}

/// An argument as the call table has it; now and then noise.
fn argument(random: &mut Random, known: &Known, call: Call, argument: &Argument) -> u64 {
    if random.below(12) == 0 {
        return noise(random, known);
    }
    match argument.kind {
        ArgumentKind::Handle(Some(kind), _) => known.of(random, kind),
        ArgumentKind::Handle(None, _) => known.any(random),
        ArgumentKind::OptionalHandle(kind, _) => match random.below(2) {
            0 => 0,
            _ => known.of(random, kind),
        },
        ArgumentKind::Pointer => match call {
            Call::SpaceCommit => OPS_PAGE,
            Call::ChannelCallFrame | Call::ChannelSend | Call::ChannelReplyMessage => FRAMES_PAGE,
            Call::ThreadStart | Call::ThreadWriteRegisters | Call::AccountCreate => REGISTERS_PAGE,
            _ => SCRATCH_PAGE + random.below(4) * PAGE_SIZE,
        },
        ArgumentKind::Value => value(random, known, call, argument.name),
    }
}

/// A number as its name says.
fn value(random: &mut Random, known: &Known, call: Call, name: &str) -> u64 {
    match (call, name) {
        // Whoever waits here is not woken by anybody.
        (Call::MemoryCreateManaged, "deadline") => 100_000,
        (Call::TimerArm, _) => clock_ns() + random.below(1_000_000),
        (_, "deadline") => random.choose(&[0, 0, 0, 5], 0),
        (Call::SpaceChange, "operation") => (1 + random.below(6)) | random.below(8) << 8 | random.below(16) << 16,
        (Call::SpaceChange, "address") => DATA + random.below(24) * PAGE_SIZE,
        (Call::SpaceChange | Call::SpaceCommit, "object") => known.of(random, ObjectKind::Memory),
        (Call::ThreadReadRegisters | Call::ThreadWriteRegisters, "class") => 1,
        (Call::ThreadReadRegisters | Call::ThreadWriteRegisters, "length") => size_of::<Registers>() as u64,
        (Call::MemoryWindow | Call::MemoryDiscard | Call::MemoryResize, "length") => random.below(4) * PAGE_SIZE,
        (_, "rights") => random.choose(&[0x7ff, 0x7ff, 0x2a5, 0xffff], 0),
        (_, "length") => random.choose(&[0, 8, 32, 160, PAGE_SIZE, 3 * PAGE_SIZE], 0),
        (_, "offset" | "source_offset" | "from_offset" | "to_offset" | "address") => {
            random.choose(&[0, 0, PAGE_SIZE, 2 * PAGE_SIZE, 100, DATA, SCRATCH_PAGE], 0)
        }
        (_, "handle_there") => known.any(random),
        (_, "submissions" | "completions") => random.choose(&[1, 2, 8, 64, 3], 1),
        (_, "count") => random.below(6),
        (_, "mask" | "set" | "clear") => 1 << random.below(4),
        (_, "flags") => random.below(3),
        (_, "priority") => random.below(20),
        // What a space's latest mapping is called is not known; places of mappings are used again and again.
        (Call::DmaUnmap, "mapping") => random.below(40) << 32 | random.below(3),
        _ => random.below(100),
    }
}

/// What a record says before its call has returned.
const NOT_RETURNED: u64 = u64::MAX;

/// A page of records for the piece of code that makes them.
fn page_of_calls(random: &mut Random, known: &Known) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_SIZE as usize);
    while page.len() < PAGE_SIZE as usize {
        let info = random.choose(TABLE, Call::Nothing.info());
        if is_rare(info.call) && random.below(60) != 0 {
            continue;
        }
        let number = if random.below(200) == 0 { random.below(256) } else { info.call as u64 };
        let mut arguments = [0; 6].map(|_: u64| noise(random, known));
        for (slot, described) in arguments.iter_mut().zip(info.arguments) {
            *slot = argument(random, known, info.call, described);
        }
        page.extend(number.to_le_bytes());
        arguments.iter().for_each(|argument| page.extend(argument.to_le_bytes()));
        page.extend(NOT_RETURNED.to_le_bytes());
    }
    page
}

/// Counts what became of a page of calls, as far as it can still be read, and learns the handles that were made.
fn judge(child: &Child, calls: &[u8], known: &mut Known, coverage: &mut Coverage) {
    let page_len = PAGE_SIZE as usize;
    let mut page = alloc::vec![0; page_len];
    let has_page = child.space.read(DATA, &mut page) == Ok(page_len);
    for (made, after) in calls.chunks_exact(64).zip(page.chunks_exact(64)) {
        let word = |record: &[u8], index: usize| {
            let bytes = record.get(8 * index..8 * index + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let (number, status) = (word(made, 0), word(after, 7));
        if !has_page || status == NOT_RETURNED {
            // It waits there, or has ended in it; or it never came so far.
            coverage.count(number, false);
            return;
        }
        coverage.count(number, status == OK);
        if let (OK, Some(call)) = (status, Call::from_number(number)) {
            known.learn(call.info(), word(after, 1));
        }
    }
}

fn random_calls_give_errors_and_lose_nothing(bench: &Bench) -> TestResult {
    let account = bench.account.create_child(&LIMITS)?;
    let free_before = system::system_info()?.free_frames;
    let mut seed = [0; 8];
    system::entropy(&mut seed)?;
    let seed = u64::from_le_bytes(seed) | 1;
    info!("fuzz seed {seed:#x}");
    let mut random = Random(seed);
    let deadline_ns = clock_ns().saturating_add(bench.fuzz_ns);
    let (mut coverage, mut children) = (Coverage::new(), 0_u64);
    while clock_ns() < deadline_ns {
        fuzz_one(bench, &account, &mut random, &mut coverage)?;
        children += 1;
    }
    let calls = coverage.calls();
    info!("fuzz: {calls} calls by {children} threads in {} s", bench.fuzz_ns / 1_000_000_000);
    if calls >= MANY_CALLS {
        coverage.print();
        coverage.check("was made", |_, made| made.times != 0)?;
        coverage.check("has succeeded", |info, made| made.successes != 0 || is_out_of_reach(info.call))?;
    }
    // Tables that hold themselves keep themselves alive; that is what killing an account is for.
    account.kill()?;
    same(account.info()?.used, AccountLimits::default())?;
    drop(account);
    let free_after = system::system_info()?.free_frames;
    holds(free_after + 16 >= free_before, "all frames are free again")
}

/// Where the records are that pointers are likely to name.
const OPS_PAGE: u64 = DATA + PAGE_SIZE;
/// See [`OPS_PAGE`].
const FRAMES_PAGE: u64 = DATA + 2 * PAGE_SIZE;
/// See [`OPS_PAGE`].
const REGISTERS_PAGE: u64 = DATA + 3 * PAGE_SIZE;
/// Where calls write what they tell.
const SCRATCH_PAGE: u64 = DATA + 8 * PAGE_SIZE;

/// A handle for a record.
fn handle(random: &mut Random, known: &Known) -> Handle {
    if random.below(4) == 0 { Handle::NONE } else { Handle(known.any(random) as u32) }
}

/// Operations that make sense more often than noise would.
fn page_of_ops(random: &mut Random, known: &Known) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() + size_of::<SpaceOp>() <= PAGE_SIZE as usize {
        let op = SpaceOp {
            kind: random.below(8) as u32,
            protection: random.below(8) as u32,
            flags: random.below(16) as u32,
            object: handle(random, known),
            // Around the data, seldom around the code.
            address: random.choose(&[DATA, DATA, DATA, CODE], DATA) + random.below(24) * PAGE_SIZE,
            length: random.below(6) * PAGE_SIZE,
            offset: random.choose(&[0, DATA], 0) + random.below(24) * PAGE_SIZE,
            reserved: 0,
        };
        page.extend(op.as_bytes());
    }
    page
}

/// Calls with handles and buffers, which read as messages too.
fn page_of_frames(random: &mut Random, known: &Known) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() + size_of::<CallFrame>() <= PAGE_SIZE as usize {
        let handles =
            [0; HANDLES].map(|_: u64| if random.below(3) == 0 { handle(random, known) } else { Handle::NONE });
        let message = Message { label: random.below(9), words: [random.next(); WORDS], handles };
        let frame = CallFrame {
            message,
            send_buffer: DATA + random.below(20 * PAGE_SIZE),
            send_len: random.below(3 * PAGE_SIZE),
            receive_buffer: DATA + random.below(20 * PAGE_SIZE),
            receive_len: random.below(3 * PAGE_SIZE),
        };
        page.extend(frame.as_bytes());
    }
    page
}

/// Registers of threads that run the pieces of code.
fn page_of_registers(random: &mut Random) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() + size_of::<Registers>() <= PAGE_SIZE as usize {
        let piece =
            random.choose(&[Piece::Load, Piece::Store, Piece::Count, Piece::Illegal, Piece::Vector], Piece::Spin);
        let registers = Registers { rflags: random.next(), ..piece.at(DATA + random.below(20 * PAGE_SIZE), 1) };
        page.extend(registers.as_bytes());
    }
    page
}

/// Fuzzes one thread until it is stuck or ruined.
fn fuzz_one(bench: &Bench, account: &Account, random: &mut Random, coverage: &mut Coverage) -> TestResult {
    let (mut child, mut known) = victim(bench, account)?;
    for _ in 0..PAGES_PER_CHILD {
        let calls = page_of_calls(random, &known);
        let records = [
            (DATA, calls.clone()),
            (OPS_PAGE, page_of_ops(random, &known)),
            (FRAMES_PAGE, page_of_frames(random, &known)),
            (REGISTERS_PAGE, page_of_registers(random)),
        ];
        // It may have unmapped a page, or died.
        if records.iter().any(|(address, bytes)| child.space.write_all(*address, bytes).is_err()) {
            break;
        }
        let mut registers = Piece::Records.registers();
        registers.rbp = DATA;
        registers.rsp = SCRATCH_PAGE;
        if child.begin(&registers).is_err() {
            break;
        }
        let stop = child.wait_until(in_ms(PATIENCE_MS));
        judge(&child, &calls, &mut known, coverage);
        match stop {
            Ok(stop) if stop.exception.kind == ExceptionKind::Breakpoint => {}
            Ok(_) | Err(_) => break,
        }
    }
    child.thread.kill()?;
    // Handles that it made may keep each other alive: its table refers to itself.
    for (_, handle) in known.0 {
        let _ = child.table.close(Handle(handle as u32));
    }
    holds(number(child.table.raw()) != 0, "our handle to the table is still there")
}
