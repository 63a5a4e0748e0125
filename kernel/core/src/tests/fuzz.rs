//! Random calls through the dispatcher: errors are fine, anything else is not. All invariants hold all the while, every account pays
//! for what is there and nothing else, and when all is over the accounts are where they were.
//!
//! The call table says what an argument should be; most of the time it is that, so that the stories get somewhere. A run counts
//! how often each call of the table was made and how often it succeeded, and fails if one never did: a new call must
//! be taught here what it wants to find.

#![expect(clippy::wildcard_enum_match_arm, reason = "of most calls there is nothing to say here")]

use super::{Program, SCRATCH, SCRATCH_LEN, World};
use crate::machine::Machine as _;
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use crate::queue::Queue;
use crate::schedule::Next;
use crate::thread::Thread;
use crate::thread::{Exception, State};
use core::num::NonZero;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_abi::call::{Argument, ArgumentKind, CallInfo, TABLE};
use quire_abi::message::{CallFrame, Message};
use quire_abi::queue::{SUBMISSIONS_OFFSET, Submission};
use quire_abi::space::{PAGE_SIZE, SpaceOp};
use quire_abi::system::AccountLimits;
use quire_abi::thread::{ExceptionKind, Reflection, Registers};
use quire_abi::{Call, Handle, ObjectKind, Rights};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

/// Where some of the stories' mappings go.
const ELSEWHERE: u64 = 0x40_0000;

/// How many handles of a table are looked at to find one of a kind.
const LOOKED_AT: usize = 200;

/// Programs that take part in a story, one after the other.
const MAX_PROGRAMS: usize = 12;

/// A small generator; the tests need speed and repeatability, not quality (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of(&mut self, choices: &[u64]) -> u64 {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The first two arguments of a call, as far as they are known.
type Known = [Option<u64>; 2];

/// One run.
struct Story {
    w: World,
    random: Random,
    programs: Vec<Program>,
    /// What threads mean to do next with what they have just got: the first arguments are known.
    plans: VecDeque<(Id<Thread>, Call, Known)>,
    coverage: Coverage,
}

/// How often a call was made.
#[derive(Clone, Copy, Default)]
struct Made {
    times: u64,
    successes: u64,
}

/// The same for every call of the table.
#[derive(Default)]
struct Coverage(BTreeMap<&'static str, Made>);

impl Coverage {
    fn count(&mut self, info: &CallInfo, is_success: bool) {
        let made = self.0.entry(info.name).or_default();
        made.times += 1;
        made.successes += u64::from(is_success);
    }

    fn add(&mut self, other: Self) {
        for (name, more) in other.0 {
            let made = self.0.entry(name).or_default();
            made.times += more.times;
            made.successes += more.successes;
        }
    }

    fn calls(&self) -> u64 {
        self.0.values().map(|made| made.times).sum()
    }

    fn print(&self) {
        std::println!("{:<24} {:>9} {:>10}", "call", "made", "succeeded");
        for info in TABLE {
            let made = self.0.get(info.name).copied().unwrap_or_default();
            std::println!("{:<24} {:>9} {:>10}", info.name, made.times, made.successes);
        }
    }

    /// Fails unless every call of the table has succeeded.
    fn check_complete(&self) {
        let has_succeeded = |info: &CallInfo| self.0.get(info.name).is_some_and(|made| made.successes != 0);
        let never: Vec<&str> = TABLE.iter().filter(|info| !has_succeeded(info)).map(|info| info.name).collect();
        assert!(never.is_empty(), "never successful: {never:?}");
    }
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut story = Self {
            w: World::new(),
            random: Random(seed),
            programs: Vec::new(),
            plans: VecDeque::new(),
            coverage: Coverage::default(),
        };
        // Every fourth machine confines its devices.
        story.w.m.has_iommu = seed >> 1 & 3 == 0;
        (0..3).for_each(|_| story.enter_program());
        story
    }

    /// Lets a new program take part, which has channels to the others and power over them.
    fn enter_program(&mut self) {
        let new = self.w.program();
        let alive: Vec<Program> = self.programs.iter().copied().filter(|old| self.is_whole(old)).collect();
        for old in alive {
            for handle in [old.thread_handle, old.space_handle, old.table_handle] {
                self.w.share(&old, &new, handle);
            }
            let account = self.w.kernel.memory.root_account();
            let ends = self.w.kernel.create_channel(account).unwrap();
            for (end, program) in ends.into_iter().zip([old, new]) {
                let capability = Capability::full(ObjectRef::Channel(end));
                let _ = self.w.kernel.install(&mut self.w.m, program.table, capability);
            }
        }
        self.programs.push(new);
    }

    /// Whether the program still has all that it started with.
    fn is_whole(&self, program: &Program) -> bool {
        let Some(table) = self.w.kernel.tables.get(program.table) else { return false };
        let handles = [program.thread_handle, program.space_handle, program.table_handle];
        self.w.kernel.threads.get(program.thread).is_some()
            && handles.iter().all(|handle| table.lookup(Handle(*handle as u32)).is_ok())
    }

    /// A handle in the program's table, of the kind if there is one.
    fn handle(&mut self, program: &Program, kind: Option<ObjectKind>) -> u64 {
        let Some(table) = self.w.kernel.tables.get(program.table) else { return 0 };
        // What was made last is the most promising.
        let last = table.len() as u64;
        let from = if self.random.one_in(2) { self.random.below(last + 1) } else { last.saturating_sub(4) } as u32;
        let mut round = table.used_from(from).chain(table.used_from(0)).take(LOOKED_AT);
        let found = round.find(|(_, capability)| kind.is_none_or(|kind| kind == capability.object.kind()));
        found.map_or(0, |(handle, _)| handle.0.into())
    }

    fn small_handle(&mut self, program: &Program, kind: Option<ObjectKind>) -> Handle {
        Handle(self.handle(program, kind) as u32)
    }

    fn value(&mut self, name: &str, program: &Program) -> u64 {
        let now = self.w.m.now_ns;
        let random = &mut self.random;
        match name {
            "deadline" => random.of(&[0, u64::MAX, u64::MAX, now + 1000, now + 10_000_000, 5]),
            "rights" => random.of(&[0x7ff, 0x7ff, random_bits(0x7ff), 1 << 12]),
            "length" => random.of(&[0, 5, 64, 160, 0x1000, 0x3000, 1 << 40]),
            "offset" | "to_offset" | "from_offset" | "address" => {
                random.of(&[0, 1, 0x1000, SCRATCH, SCRATCH + 0x2fff, ELSEWHERE, 1 << 46])
            }
            "physical_address" => random.of(&[4050 * PAGE_SIZE, 0, PAGE_SIZE]),
            "flags" | "class" | "width" | "how" | "level" => random.below(5),
            "submissions" | "completions" => random.of(&[1, 2, 8, 64, 3]),
            "count" => random.below(6),
            "source_offset" => random.below(4) * PAGE_SIZE,
            "priority" => random.below(33),
            "gsi" => random.below(30),
            "requester" => random.below(6),
            // What the latest mappings are called, if their places were used once or twice.
            "mapping" => random.below(3) << 32 | random.below(4),
            "first" => random.below(64),
            "handle_there" => self.handle(program, None),
            "operation" => (1 + random.below(6)) | (random.below(8) << 8) | (random.below(16) << 16),
            "object" if random.one_in(3) => self.handle(program, Some(ObjectKind::Memory)),
            "object" => 0,
            "set" | "clear" | "mask" => 1 << random.below(4),
            _ => random.below(100),
        }
    }

    fn argument(&mut self, argument: &Argument, program: &Program) -> u64 {
        if self.random.one_in(25) {
            let any = self.random.next();
            return self.random.of(&[any, any >> 32, u64::MAX, 0]);
        }
        match argument.kind {
            ArgumentKind::Handle(kind, _) => self.handle(program, kind),
            ArgumentKind::OptionalHandle(kind, _) => {
                if self.random.one_in(2) {
                    0
                } else {
                    self.handle(program, Some(kind))
                }
            }
            ArgumentKind::Value => self.value(argument.name, program),
            ArgumentKind::Pointer => SCRATCH + self.random.below(14) * 0x1000,
        }
    }

    fn message(&mut self, program: &Program) -> Message {
        let mut message = super::plain(self.random.below(5));
        for slot in 0..self.random.below(3) {
            message.handles[slot as usize] = self.small_handle(program, None);
        }
        message
    }

    fn submission(&mut self, program: &Program) -> Submission {
        let kind = 1 + self.random.below(8) as u32;
        let wanted = match kind {
            1 => Some(ObjectKind::Reply),
            2 => Some(ObjectKind::Channel),
            3 => Some(ObjectKind::Timer),
            4 => Some(ObjectKind::Interrupt),
            5 => Some(ObjectKind::Thread),
            6 if self.random.one_in(3) => Some(ObjectKind::AddressSpace),
            6 | 7 => Some(ObjectKind::Memory),
            _ => None,
        };
        let mut message = self.message(program);
        if matches!(kind, 6 | 7) {
            message.label = self.value("offset", program);
            message.words[..2].copy_from_slice(&[self.value("length", program), self.random.below(2)]);
        }
        Submission {
            key: self.random.below(10),
            kind,
            target: self.small_handle(program, wanted),
            label: message.label,
            words: message.words,
            handles: message.handles,
            send_buffer: SCRATCH,
            receive_buffer: SCRATCH + 0x100,
            send_len: 16,
            receive_len: 16,
        }
    }

    /// Writes what the call could want to find behind its pointer.
    fn prepare(&mut self, info: &CallInfo, program: &Program, address: u64) {
        let mut bytes = [0u8; 1024];
        match info.call {
            Call::ChannelCallFrame => {
                let frame = CallFrame {
                    message: self.message(program),
                    send_buffer: SCRATCH,
                    send_len: 100,
                    receive_buffer: SCRATCH + self.random.below(2) * (1 << 40),
                    receive_len: 100,
                };
                bytes[..size_of::<CallFrame>()].copy_from_slice(frame.as_bytes());
            }
            Call::ChannelSend | Call::ChannelReplyMessage => {
                bytes[..size_of::<Message>()].copy_from_slice(self.message(program).as_bytes());
            }
            Call::ThreadStart | Call::ThreadWriteRegisters => {
                let registers = Registers { rip: 0x1000, ..Registers::new_zeroed() };
                bytes[..size_of::<Registers>()].copy_from_slice(registers.as_bytes());
            }
            Call::AccountCreate => {
                let limits = AccountLimits { frames: 200, kernel_bytes: 50_000 };
                bytes[..size_of::<AccountLimits>()].copy_from_slice(limits.as_bytes());
            }
            Call::ThreadSetReflection => {
                let reflection = Reflection { entry: 0x1000, native_start: 0x1000, native_end: 0x2000 };
                bytes[..size_of::<Reflection>()].copy_from_slice(reflection.as_bytes());
            }
            Call::SpaceCommit => {
                for slot in bytes[..6 * size_of::<SpaceOp>()].chunks_exact_mut(size_of::<SpaceOp>()) {
                    let kind = 1 + self.random.below(6) as u32;
                    let object = match kind {
                        1 => Some(ObjectKind::Memory),
                        6 => Some(ObjectKind::AddressSpace),
                        _ => None,
                    };
                    let op = SpaceOp {
                        kind,
                        protection: self.random.below(8) as u32,
                        flags: self.random.below(16) as u32,
                        object: self.small_handle(program, object),
                        address: ELSEWHERE + self.random.below(8) * PAGE_SIZE,
                        length: (1 + self.random.below(4)) * PAGE_SIZE,
                        offset: self.random.below(4) * PAGE_SIZE,
                        reserved: 0,
                    };
                    slot.copy_from_slice(op.as_bytes());
                }
            }
            _ => return,
        }
        let _ = self.w.kernel.memory.write_user(&mut self.w.m, program.space, address, &bytes);
    }

    /// Writes submissions into the rings of a queue, wherever user space would have mapped them.
    fn submit(&mut self, program: &Program) {
        let handle = self.small_handle(program, Some(ObjectKind::Queue));
        let queue = self.w.kernel.tables[program.table].get::<Queue>(handle, Rights::empty());
        let Ok(queue) = queue else { return };
        let memory = self.w.kernel.queues[queue].memory;
        let submissions = [self.submission(program), self.submission(program)];
        let mut write = |offset: u64, bytes: &[u8]| {
            if let Ok(frame) = self.w.kernel.memory.frame_for_kernel(&mut self.w.m, memory, offset / PAGE_SIZE) {
                self.w.m.write_frame(frame, (offset % PAGE_SIZE) as usize, bytes);
            }
        };
        write(SUBMISSIONS_OFFSET, submissions[0].as_bytes());
        write(SUBMISSIONS_OFFSET + 128, submissions[1].as_bytes());
        // The submission tail and the completion head, as if everything were new and taken, or nonsense.
        let tail = self.random.of(&[0, 1, 2, 3, 4, 1 << 31]) as u32;
        write(20, &tail.to_le_bytes());
        let head = self.random.of(&[0, 1, 2, 3, 8, 1 << 31]) as u32;
        write(24, &head.to_le_bytes());
    }

    fn step(&mut self) {
        let w = &mut self.w;
        match self.random.below(60) {
            0 => {
                w.m.now_ns += self.random.below(20_000_000);
                w.kernel.on_tick(&mut w.m, 0);
            }
            1 => w.kernel.on_interrupt(&mut w.m, 0, self.random.below(30) as u32),
            2 if w.m.has_iommu => {
                let requester = self.random.below(6) as u16;
                w.kernel.on_device_fault(&mut w.m, 0, requester, 0x1000);
            }
            _ => {}
        }
        let Next::Run(thread) = w.kernel.next_thread(&mut w.m, 0) else {
            // All wait: let time pass, or somebody new come.
            w.m.now_ns += 1_000_000_000;
            w.kernel.on_tick(&mut w.m, 0);
            if self.programs.len() < MAX_PROGRAMS {
                self.enter_program();
            }
            return;
        };
        if self.random.one_in(100) {
            let exception = Exception { kind: ExceptionKind::Illegal, address: 1, code: 2 };
            w.kernel.exception(&mut w.m, 0, thread, exception);
            return;
        }
        let record = &w.kernel.threads[thread];
        let program = Program { table: record.table, space: record.space, thread, ..self.programs[0] };
        let scratch = w.kernel.memory.query(program.space, SCRATCH);
        if scratch.is_some_and(|region| region.addr == SCRATCH && region.len == SCRATCH_LEN) && self.random.one_in(4) {
            self.submit(&program);
        }
        self.make_call(&program);
    }

    /// The next call of a thread: what it means to do, or any. With the arguments that are known.
    fn choose_call(&mut self, thread: Id<Thread>) -> (&'static CallInfo, Known) {
        if let Some(at) = self.plans.iter().position(|(planner, ..)| *planner == thread)
            && let Some((_, call, known)) = self.plans.remove(at)
        {
            return (call.info(), known);
        }
        (TABLE[self.random.below(TABLE.len() as u64) as usize], [None; 2])
    }

    /// Sometimes a thread goes on with what a call has given it: such calls hardly succeed by chance.
    fn plan(&mut self, program: &Program, call: Call) {
        if !self.random.one_in(2) || self.plans.len() > 50 {
            return;
        }
        let registers = self.w.registers(program.thread);
        let (asked, made, second) = (registers.rdi, registers.rdx, registers.r8);
        let next: &[Call] = match call {
            Call::MemoryWindow => &[Call::MemoryRevoke],
            Call::TimerCreate => &[Call::ObjectBind, Call::TimerArm, Call::TimerCancel, Call::ObjectUnbind],
            Call::InterruptCreate => &[Call::ObjectBind, Call::InterruptAcknowledge, Call::ObjectUnbind],
            Call::InterruptCreateMessage => {
                &[Call::InterruptMessage, Call::ObjectBind, Call::InterruptAcknowledge, Call::ObjectUnbind]
            }
            Call::DmaCreate => &[Call::DmaMap, Call::DmaMap, Call::DmaWatch],
            Call::DmaMap => &[Call::DmaUnmap],
            Call::ChannelReceive => &[Call::ReplyRead, Call::ReplyWrite],
            Call::MemoryCreateManaged => &[
                Call::ObjectBind,
                Call::PagerReceive,
                Call::PagerSupply,
                Call::PagerReceive,
                Call::PagerWritten,
                Call::PagerFail,
                Call::PagerInvalidate,
            ],
            _ => return,
        };
        let known = match call {
            Call::ChannelReceive => [Some(self.handle(program, Some(ObjectKind::Reply))), None],
            Call::MemoryCreateManaged => [Some(second), None],
            Call::DmaMap => [Some(asked), Some(made)],
            _ => [Some(made), None],
        };
        self.plans.extend(next.iter().map(|call| (program.thread, *call, known)));
    }

    fn make_call(&mut self, program: &Program) {
        let (info, known) = self.choose_call(program.thread);
        if info.call == Call::InterruptAcknowledge && known[0].is_some() {
            (0..30).for_each(|gsi| self.w.kernel.on_interrupt(&mut self.w.m, 0, gsi));
        }
        // Programs that end at once make short stories.
        let lethal =
            matches!(info.call, Call::ThreadExit | Call::ThreadKill | Call::AccountKill | Call::AccountSetLimits);
        if lethal && !self.random.one_in(20) {
            return;
        }
        let mut arguments = [0; 6];
        for (slot, argument) in arguments.iter_mut().zip(info.arguments) {
            *slot = self.argument(argument, program);
            if argument.kind == ArgumentKind::Pointer {
                self.prepare(info, program, *slot);
            }
        }
        for (slot, known) in arguments.iter_mut().zip(known) {
            *slot = known.unwrap_or(*slot);
        }
        if info.call == Call::DmaMap && !self.random.one_in(4) {
            // An anonymous memory, if the latest is one, and pages that it has.
            let (first, pages) = (self.random.below(3), 1 + self.random.below(2));
            arguments[2..].copy_from_slice(&[first * PAGE_SIZE, pages * PAGE_SIZE, SCRATCH, self.random.below(2)]);
        }
        if matches!(info.call, Call::ThreadReadRegisters | Call::ThreadWriteRegisters) && !self.random.one_in(4) {
            arguments[3] = if arguments[1] == 1 { size_of::<Registers>() as u64 } else { 128 };
        }
        let reply = self.handle(program, Some(ObjectKind::Reply));
        let registers = self.w.registers(program.thread);
        registers.rax = info.call as u64;
        registers.rbx = reply;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        self.w.kernel.dispatch(&mut self.w.m, 0);
        let running = self.w.kernel.threads.get(program.thread);
        let ended = running.is_none_or(|thread| thread.state == State::Dead) && info.call == Call::ThreadExit;
        let waits = running.is_some_and(|thread| matches!(thread.state, State::Waiting(_)));
        let has_returned = running.is_some_and(|thread| thread.context.registers.rax == 0);
        self.coverage.count(info, ended || waits || has_returned);
        if has_returned && !waits {
            self.plan(program, info.call);
        }
    }

    fn check(&mut self) {
        self.w.kernel.check_invariants(&[]);
        self.w.kernel.check_charges(&self.w.m);
    }

    /// Ends everything; the accounts must be where they were at the start.
    fn end(mut self, before: crate::account::Usage) -> Coverage {
        let root = self.w.kernel.memory.root_account();
        self.w.kernel.kill_account(&mut self.w.m, root);
        self.w.kernel.reap(&mut self.w.m);
        self.check();
        assert!(self.w.kernel.threads.is_empty() && self.w.kernel.tables.is_empty());
        self.w.kernel.memory.end_swap();
        let after = self.w.kernel.memory.accounts.get(root).unwrap().used();
        let kept = crate::account::Usage { frames: before.frames + self.w.m.buses.len() as u64, ..before };
        assert_eq!(after, kept, "everything was given back");
        self.coverage
    }
}

/// Some bits of a mask, always the same ones.
fn random_bits(mask: u64) -> u64 {
    mask & 0x2a5
}

/// Tells a story; everything is checked once in so many steps, or after each.
fn story(seed: u64, steps: u64, check_every: u64) -> Coverage {
    let empty = World::new();
    let before = empty.kernel.memory.accounts.get(empty.kernel.memory.root_account()).unwrap().used();
    let mut story = Story::new(seed);
    let mut next_check = 0;
    for step in 0..steps {
        story.step();
        if step >= next_check {
            story.check();
            // As often as was asked for, but at any point of what happens.
            next_check = step + 1 + story.random.below(2 * check_every - 1);
        }
    }
    story.end(before)
}

/// The seed of a story. Odd multiples of the golden ratio: they have little in common.
fn seed(number: u64) -> u64 {
    0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number) | 1
}

#[test]
fn random_calls_break_nothing_and_everything_is_given_back() {
    let mut coverage = Coverage::default();
    (1..=25).for_each(|number| coverage.add(story(seed(number), 800, 8)));
    assert!(TABLE.iter().all(|info| coverage.0.contains_key(info.name)), "every call was made");
}

/// A number from the environment.
fn wanted(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Runs a story; if it panics, its number is said, by which it can be told again.
fn told<T>(number: u64, tell: impl FnOnce() -> T) -> T {
    struct Teller(u64);
    impl Drop for Teller {
        fn drop(&mut self) {
            if std::thread::panicking() {
                std::eprintln!("this was story {}", self.0);
            }
        }
    }
    let _teller = Teller(number);
    tell()
}

/// `FUZZ_CALLS`: so many calls, as far as they fit into `FUZZ_SECONDS`; `FUZZ_FIRST`: the number of the first story, to go on where
/// an earlier run ended, or to see one again; `FUZZ_CHECK`: everything is checked once in so many steps, at random; 1: after
/// each.
#[test]
#[ignore = "long; a stage of its own"]
fn ten_million_random_calls_break_nothing() {
    let (calls, first) = (wanted("FUZZ_CALLS", 10_000_000), wanted("FUZZ_FIRST", 1));
    let check_every = wanted("FUZZ_CHECK", 500).max(1);
    let end = Instant::now() + Duration::from_secs(wanted("FUZZ_SECONDS", 240));
    let next = AtomicU64::new(first);
    let all = Mutex::new(Coverage::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while all.lock().unwrap().calls() < calls && Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let coverage = told(number, || story(seed(number), 2000, check_every));
                    all.lock().unwrap().add(coverage);
                }
            });
        }
    });
    let coverage = all.into_inner().unwrap();
    coverage.print();
    std::println!("{} calls in {} stories", coverage.calls(), next.into_inner() - first);
    coverage.check_complete();
}
