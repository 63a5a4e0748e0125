//! Random calls with random handles: errors, never a panic, and nothing is lost.

use crate::child::{CODE, Child, DATA, Piece, RW, number};
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, same, tests};
use alloc::vec::Vec;
use log::info;
use quire_api::abi::Call;
use quire_api::abi::call::TABLE;
use quire_api::abi::message::{CallFrame, HANDLES, Message, WORDS};
use quire_api::abi::space::{PAGE_SIZE, SpaceOp};
use quire_api::abi::system::AccountLimits;
use quire_api::abi::thread::{ExceptionKind, Registers, ThreadFlags};
use quire_api::time::clock_ns;
use quire_api::{
    Account, AddressSpace, ChannelEndpoint, Event, Handle, HandleTable, Memory, Object, Queue, Rights, Thread, Timer,
    system,
};
use zerocopy::IntoBytes;

tests!("fuzz":
    random_calls_give_errors_and_lose_nothing,
);

/// Calls in one page of records.
const CALLS: usize = PAGE_SIZE as usize / 64;
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

/// A thread to be fuzzed, which holds one object of each kind that it could do no harm outside with.
fn victim(account: &Account) -> Result<(Child, Vec<u64>), Failure> {
    let child = Child::new(account)?;
    child.map_zero(DATA, 16 * PAGE_SIZE, RW)?;
    let mut handles = Vec::new();
    let (near, far) = ChannelEndpoint::pair(account)?;
    let (queue, rings) = Queue::create(account, 8, 8)?;
    let memory = Memory::create(account, 16 * PAGE_SIZE)?;
    let (space, table) = (AddressSpace::create(account)?, HandleTable::create(account)?);
    handles.push(child.give(&Thread::create(account, &space, &table, ThreadFlags::VECTOR)?)?);
    handles.push(child.give(&memory.window(account, 0, PAGE_SIZE)?)?);
    handles.extend([child.give(&near)?, child.give(&far)?, child.give(&queue)?, child.give(&rings)?]);
    handles.extend([child.give(&memory)?, child.give(&space)?, child.give(&table)?]);
    handles.extend([child.give(&Event::create(account)?)?, child.give(&Timer::create(account)?)?]);
    // Its own space, table and thread, which it may well ruin; and an account that it can't raise.
    handles.extend([child.give(&child.space)?, child.give(&child.table)?, child.give(&child.thread)?]);
    let account = account.duplicate(Rights::USE | Rights::READ | Rights::DUPLICATE | Rights::TRANSFER)?;
    handles.push(child.give(&account)?);
    Ok((child, handles))
}

/// A random argument: handles, addresses, sizes, times and plain noise.
fn argument(random: &mut Random, handles: &[u64]) -> u64 {
    match random.below(8) {
        0 | 1 => random.choose(handles, 0),
        2 => DATA + random.below(18 * PAGE_SIZE),
        3 => random.choose(&[OPS_PAGE, FRAMES_PAGE, REGISTERS_PAGE, DATA + 8 * PAGE_SIZE], DATA),
        4 => random.below(64),
        5 => random.below(20) * PAGE_SIZE,
        6 => random.choose(&[0, 1, u64::MAX, 1 << 63, 0xffff_8000_0000_0000, 0x7fff_ffff_f000, u64::MAX - 4095], 0),
        _ => random.next(),
    }
}

/// A page of records for the piece of code that makes them.
fn page_of_calls(random: &mut Random, handles: &[u64]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_SIZE as usize);
    for _ in 0..CALLS {
        let call = random.choose(TABLE, Call::Nothing.info()).call;
        // The log would be flooded.
        let is_loud = matches!(call, Call::LogWrite | Call::SystemDump);
        let number = if is_loud { random.below(256) } else { call as u64 };
        let arguments = [0; 6].map(|_: u64| argument(random, handles));
        page.extend(number.to_le_bytes());
        arguments.iter().for_each(|argument| page.extend(argument.to_le_bytes()));
        page.extend([0; 8]);
    }
    page
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
    let (mut pages, mut children) = (0_u64, 0_u64);
    while clock_ns() < deadline_ns {
        pages += fuzz_one(&account, &mut random)?;
        children += 1;
    }
    info!("fuzz: {} calls by {children} threads", pages * CALLS as u64);
    holds(pages > 0, "there were calls")?;
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

/// A handle for a record.
fn handle(random: &mut Random, handles: &[u64]) -> Handle {
    if random.below(4) == 0 { Handle::NONE } else { Handle(random.choose(handles, 0) as u32) }
}

/// Operations that make sense more often than noise would.
fn page_of_ops(random: &mut Random, handles: &[u64]) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() + size_of::<SpaceOp>() <= PAGE_SIZE as usize {
        let op = SpaceOp {
            kind: random.below(8) as u32,
            protection: random.below(8) as u32,
            flags: random.below(16) as u32,
            object: handle(random, handles),
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
fn page_of_frames(random: &mut Random, handles: &[u64]) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() + size_of::<CallFrame>() <= PAGE_SIZE as usize {
        let handles = [0; HANDLES].map(|_: u64| handle(random, handles));
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

/// Fuzzes one thread until it is stuck or ruined; returns how many pages of calls it made.
fn fuzz_one(account: &Account, random: &mut Random) -> Result<u64, Failure> {
    let (mut child, handles) = victim(account)?;
    let mut pages = 0;
    for _ in 0..PAGES_PER_CHILD {
        let calls = page_of_calls(random, &handles);
        let records = [
            (DATA, calls),
            (OPS_PAGE, page_of_ops(random, &handles)),
            (FRAMES_PAGE, page_of_frames(random, &handles)),
            (REGISTERS_PAGE, page_of_registers(random)),
        ];
        // It may have unmapped a page, or died.
        if records.iter().any(|(address, bytes)| child.space.write_all(*address, bytes).is_err()) {
            break;
        }
        let mut registers = Piece::Records.registers();
        registers.rbp = DATA;
        registers.rsp = DATA + 8 * PAGE_SIZE;
        if child.begin(&registers).is_err() {
            break;
        }
        pages += 1;
        match child.wait_until(in_ms(PATIENCE_MS)) {
            Ok(stop) if stop.exception.kind == ExceptionKind::Breakpoint => {}
            Ok(_) | Err(_) => break,
        }
    }
    child.thread.kill()?;
    // Handles that it made may keep each other alive: its table refers to itself.
    for handle in handles {
        let _ = child.table.close(Handle(handle as u32));
    }
    let own = number(child.table.raw());
    holds(own != 0, "our handle to the table is still there")?;
    Ok(pages)
}
