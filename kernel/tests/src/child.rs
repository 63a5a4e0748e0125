//! Threads in spaces of their own that execute a few instructions and stop.
//!
//! A child's code is one page of small pieces of machine code, each ended by `int3`. The test sets the child's registers to begin
//! at a piece, lets it run, and waits for its exception: either what the test is about, or the breakpoint at the end. So a
//! test sees what the processor sees, and needs no code of its own that could go wrong.

use crate::harness::{Failure, in_ms};
use quire_api::abi::Call;
use quire_api::abi::message::WORDS;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::{ExceptionKind, ExceptionVerdict, Registers, ThreadFlags, ThreadState};
use quire_api::thread::Exception;
use quire_api::time::clock_ns;
use quire_api::{
    Account, AddressSpace, ChannelEndpoint, Commit, Error, Event, Handle, HandleTable, MapFlags, Memory, Object,
    Protection, Reply, Rights, Thread, rt,
};

/// Where a child's code is mapped.
pub(crate) const CODE: u64 = 0x10_0000;
/// Where tests map what a child works on.
pub(crate) const DATA: u64 = 0x20_0000;
/// Read and write.
pub(crate) const RW: Protection = Protection::READ.union(Protection::WRITE);
/// How long a child may take, in ms. Only a broken kernel lets it run out.
const PATIENCE_MS: u64 = 5_000;

/// Where each piece of code begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Piece {
    /// `mov rax, [rdi]`.
    Load = 0x00,
    /// `mov [rdi], rsi`.
    Store = 0x08,
    /// `jmp rdi`.
    Jump = 0x10,
    /// `syscall`.
    Syscall = 0x18,
    /// `jmp .`.
    Spin = 0x20,
    /// `inc rax; jmp` back.
    Count = 0x28,
    /// `xor edx, edx; xor ecx, ecx; div ecx`.
    Divide = 0x30,
    /// `ud2`.
    Illegal = 0x38,
    /// `hlt`: privileged.
    Privileged = 0x40,
    /// `movaps xmm0, xmm0`.
    Vector = 0x48,
    /// `in al, dx`.
    PortIn = 0x50,
    /// `mov eax, 87; syscall; jmp` back: answers every call with its own words.
    Echo = 0x58,
    /// Makes the calls in the records at `rbp` (eight words each: number, six arguments, unused) up to the next page. The first
    /// argument becomes the first value that the call returns, the unused word its status.
    Records = 0x70,
    /// `mov eax, 81; syscall; jmp` back: calls for ever.
    CallForEver = 0xf0,
    /// `inc qword ptr [rdi]; jmp` back.
    StoreCount = 0xb0,
    /// Stores to every page from `rdi` to before `rsi`.
    TouchAll = 0xb8,
    /// Makes the call `rbp` without arguments `rbx` times.
    CallTimes = 0xd0,
    /// Counts `rsi` down.
    CountDown = 0xe0,
}

/// The page of code.
const PIECES: &[(Piece, &[u8])] = &[
    (Piece::Load, &[0x48, 0x8b, 0x07, 0xcc]),
    (Piece::Store, &[0x48, 0x89, 0x37, 0xcc]),
    (Piece::Jump, &[0xff, 0xe7]),
    (Piece::Syscall, &[0x0f, 0x05, 0xcc]),
    (Piece::Spin, &[0xeb, 0xfe]),
    (Piece::Count, &[0x48, 0xff, 0xc0, 0xeb, 0xfb]),
    (Piece::Divide, &[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1, 0xcc]),
    (Piece::Illegal, &[0x0f, 0x0b]),
    (Piece::Privileged, &[0xf4, 0xcc]),
    (Piece::Vector, &[0x0f, 0x28, 0xc0, 0xcc]),
    (Piece::PortIn, &[0xec, 0xcc]),
    (Piece::Echo, &[0xb8, 0x57, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xeb, 0xf7]),
    (
        Piece::Records,
        &[
            0x48, 0x8b, 0x45, 0x00, // mov rax, [rbp]
            0x48, 0x8b, 0x7d, 0x08, // mov rdi, [rbp + 8]
            0x48, 0x8b, 0x75, 0x10, // mov rsi, [rbp + 16]
            0x48, 0x8b, 0x55, 0x18, // mov rdx, [rbp + 24]
            0x4c, 0x8b, 0x55, 0x20, // mov r10, [rbp + 32]
            0x4c, 0x8b, 0x45, 0x28, // mov r8, [rbp + 40]
            0x4c, 0x8b, 0x4d, 0x30, // mov r9, [rbp + 48]
            0x0f, 0x05, // syscall
            0x48, 0x89, 0x55, 0x08, // mov [rbp + 8], rdx
            0x48, 0x89, 0x45, 0x38, // mov [rbp + 56], rax
            0x48, 0x83, 0xc5, 0x40, // add rbp, 64
            0x66, 0xf7, 0xc5, 0xff, 0x0f, // test bp, 0xfff
            0x75, 0xcf, // jnz back to the start
            0xcc, // int3
        ],
    ),
    (Piece::CallForEver, &[0xb8, 0x51, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xeb, 0xf7]),
    (Piece::StoreCount, &[0x48, 0xff, 0x07, 0xeb, 0xfb]),
    (
        Piece::TouchAll,
        &[
            0x48, 0x89, 0x3f, // mov [rdi], rdi
            0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, // add rdi, 4096
            0x48, 0x39, 0xf7, // cmp rdi, rsi
            0x72, 0xf1, // jb back to the start
            0xcc, // int3
        ],
    ),
    (
        Piece::CallTimes,
        &[
            0x48, 0x89, 0xe8, // mov rax, rbp
            0x0f, 0x05, // syscall
            0x48, 0xff, 0xcb, // dec rbx
            0x75, 0xf6, // jnz back to the start
            0xcc, // int3
        ],
    ),
    (Piece::CountDown, &[0x48, 0xff, 0xce, 0x75, 0xfb, 0xcc]),
];

impl Piece {
    /// Registers that begin here, all others 0.
    pub(crate) fn registers(self) -> Registers {
        Registers { rip: CODE + self as u64, ..Registers::default() }
    }

    /// Registers to access `address` (and store `value`, if it is the piece that stores).
    pub(crate) fn at(self, address: u64, value: u64) -> Registers {
        Registers { rdi: address, rsi: value, ..self.registers() }
    }
}

/// Registers that make a call.
pub(crate) fn call(call: Call, arguments: [u64; 6]) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    Registers { rax: call as u64, rdi, rsi, rdx, r10, r8, r9, ..Piece::Syscall.registers() }
}

/// A handle as a call's argument.
pub(crate) fn number(handle: Handle) -> u64 {
    u64::from(handle.0)
}

/// How a child stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// The exception.
    pub(crate) exception: Exception,
    /// The registers at that moment.
    pub(crate) registers: Registers,
}

impl Stop {
    /// Kind and address of the exception.
    pub(crate) fn fault(&self) -> (ExceptionKind, u64) {
        (self.exception.kind, self.exception.address)
    }
}

/// A thread in a space of its own.
pub(crate) struct Child {
    /// Its space, with the code mapped.
    pub(crate) space: AddressSpace,
    /// Its handle table, empty at first.
    pub(crate) table: HandleTable,
    /// The thread.
    pub(crate) thread: Thread,
    faults: ChannelEndpoint,
    stopped: Option<Reply>,
    started: bool,
}

/// An empty space with the children's code.
pub(crate) fn space_with_code(account: &Account) -> Result<AddressSpace, Failure> {
    let space = AddressSpace::create(account)?;
    let code = Memory::create(account, PAGE_SIZE)?;
    for (piece, bytes) in PIECES {
        code.write_all(*piece as u64, bytes)?;
    }
    let mut commit = Commit::new();
    commit.map(&code, 0, CODE, PAGE_SIZE, Protection::READ | Protection::EXECUTE, MapFlags::empty());
    space.commit(&commit)?;
    Ok(space)
}

impl Child {
    /// A child in a new space with nothing but the code.
    pub(crate) fn new(account: &Account) -> Result<Self, Failure> {
        Self::in_space(account, space_with_code(account)?, ThreadFlags::empty())
    }

    /// A child in this space, which must have the code.
    pub(crate) fn in_space(account: &Account, space: AddressSpace, flags: ThreadFlags) -> Result<Self, Failure> {
        let table = HandleTable::create(account)?;
        let thread = Thread::create(account, &space, &table, flags)?;
        let (faults, theirs) = ChannelEndpoint::pair(account)?;
        thread.set_exceptions(Some(&theirs))?;
        Ok(Self { space, table, thread, faults, stopped: None, started: false })
    }

    /// Gives the child a handle with all rights that we have; its number there, as an argument.
    pub(crate) fn give(&self, object: &impl Object) -> Result<u64, Failure> {
        Ok(number(self.table.install(object, Rights::all())?))
    }

    /// Maps private zero pages for the child.
    pub(crate) fn map_zero(&self, address: u64, len_bytes: u64, protection: Protection) -> Result<(), Failure> {
        let mut commit = Commit::new();
        commit.map_zero(address, len_bytes, protection, MapFlags::empty());
        self.space.commit(&commit)?;
        Ok(())
    }

    /// Maps all of a memory for the child, shared.
    pub(crate) fn map(&self, memory: &Memory, address: u64, protection: Protection) -> Result<(), Failure> {
        let mut commit = Commit::new();
        commit.map(memory, 0, address, memory.info()?.size, protection, MapFlags::empty());
        self.space.commit(&commit)?;
        Ok(())
    }

    /// Lets the child run from these registers, and does not wait.
    pub(crate) fn begin(&mut self, registers: &Registers) -> Result<(), Failure> {
        match self.stopped.take() {
            Some(reply) => {
                self.thread.set_registers(registers)?;
                reply.answer_words(ExceptionVerdict::Resume as u64, [0; WORDS])?;
            }
            None if !self.started => self.thread.start(registers)?,
            None => return Err(Error::BadState.into()),
        }
        self.started = true;
        Ok(())
    }

    /// Waits until the child stops.
    pub(crate) fn wait(&mut self) -> Result<Stop, Failure> {
        self.wait_until(in_ms(PATIENCE_MS))
    }

    /// Waits until the child stops, until a deadline.
    pub(crate) fn wait_until(&mut self, deadline_ns: u64) -> Result<Stop, Failure> {
        let request = self.faults.receive(deadline_ns)?;
        let exception = Exception::from_message(&request.message).ok_or(Error::BadArgument)?;
        self.stopped = request.reply;
        Ok(Stop { exception, registers: self.thread.registers()? })
    }

    /// Lets the child run from these registers until it stops.
    pub(crate) fn run(&mut self, registers: &Registers) -> Result<Stop, Failure> {
        self.begin(registers)?;
        self.wait()
    }

    /// Makes the child call, and returns status, first and second value.
    pub(crate) fn call(&mut self, number: Call, arguments: [u64; 6]) -> Result<(u64, u64, u64), Failure> {
        let Registers { rax, rdx, r8, .. } = self.run(&call(number, arguments))?.registers;
        Ok((rax, rdx, r8))
    }

    /// Lets the child load from `address`; the value, or the fault.
    pub(crate) fn load(&mut self, address: u64) -> Result<Result<u64, (ExceptionKind, u64)>, Failure> {
        let stop = self.run(&Piece::Load.at(address, 0))?;
        Ok(if stop.exception.kind == ExceptionKind::Breakpoint { Ok(stop.registers.rax) } else { Err(stop.fault()) })
    }

    /// Lets the child store to `address`.
    pub(crate) fn store(&mut self, address: u64, value: u64) -> Result<Result<(), (ExceptionKind, u64)>, Failure> {
        let stop = self.run(&Piece::Store.at(address, value))?;
        Ok(if stop.exception.kind == ExceptionKind::Breakpoint { Ok(()) } else { Err(stop.fault()) })
    }

    /// The right to end the child's present exception, if it is stopped by one.
    pub(crate) fn take_stopped(&mut self) -> Option<Reply> {
        self.stopped.take()
    }

    /// What the child is doing.
    pub(crate) fn state(&self) -> Result<ThreadState, Failure> {
        state(&self.thread)
    }

    /// Lets others run until the child waits in a call.
    pub(crate) fn until_waiting(&self) -> Result<(), Failure> {
        until(&self.thread, ThreadState::Waiting)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nobody is left who could want it to go on.
        let _ = self.thread.kill();
    }
}

/// What a thread is doing.
pub(crate) fn state(thread: &Thread) -> Result<ThreadState, Failure> {
    Ok(match thread.info()?.state {
        1 => ThreadState::New,
        2 => ThreadState::Runnable,
        3 => ThreadState::Waiting,
        4 => ThreadState::Faulted,
        5 => ThreadState::Dead,
        _ => return Err(Error::BadArgument.into()),
    })
}

/// Lets others run until the thread is in a state.
pub(crate) fn until(thread: &Thread, wanted: ThreadState) -> Result<(), Failure> {
    let deadline_ns = in_ms(PATIENCE_MS);
    while state(thread)? != wanted {
        if clock_ns() > deadline_ns {
            return Err(Error::TimedOut.into());
        }
        pause()?;
    }
    Ok(())
}

/// Lets others run for a moment, also those of lower priority.
pub(crate) fn pause() -> Result<(), Failure> {
    let never = Event::create(rt::account()?)?;
    match never.wait(1, clock_ns() + 100_000) {
        Err(Error::TimedOut) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Error::BadState.into()),
    }
}
