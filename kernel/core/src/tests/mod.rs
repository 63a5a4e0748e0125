//! Programs that call the kernel, on the host: every test goes through [`Kernel::dispatch`], like a program would.

mod channels;
mod dma;
mod fuzz;
mod objects;
mod own_pager;
mod pagers;
mod queues;
mod threads;

use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::machine::Frame;
use crate::memory::{FrameTable, Inherit, MapSource, MemorySystem, Replace, Sharing, Space, SpaceOp};
use crate::mock::MockMachine;
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use crate::schedule::Next;
use crate::thread::{State, Thread};
use quire_abi::message::Message;
use quire_abi::space::Protection;
use quire_abi::thread::{Registers, ThreadFlags};
use quire_abi::{Call, Error, Handle};
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where every program has memory.
pub(crate) const SCRATCH: u64 = 0x10_0000;
/// How much.
pub(crate) const SCRATCH_LEN: u64 = 0x1_0000;
/// Where no program has any.
pub(crate) const NOWHERE: u64 = 0x7000_0000;
/// Waits without end.
pub(crate) const FOREVER: u64 = u64::MAX;

/// A kernel on a mock machine.
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) m: MockMachine,
}

/// A program: a space, a table, a thread, and handles to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) thread: Id<Thread>,
    pub(crate) space: Id<Space>,
    pub(crate) table: Id<HandleTable>,
    pub(crate) account_handle: u64,
    pub(crate) space_handle: u64,
    pub(crate) table_handle: u64,
    pub(crate) thread_handle: u64,
    pub(crate) log: u64,
    pub(crate) hardware: u64,
}

/// What a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) first: u64,
    pub(crate) second: u64,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> u64 {
        assert_eq!(Error::from_status(self.status), None, "the call succeeds");
        assert_eq!(self.status, 0);
        self.first
    }

    #[track_caller]
    pub(crate) fn pair(self) -> (u64, u64) {
        self.ok();
        (self.first, self.second)
    }

    pub(crate) fn error(self) -> Option<Error> {
        Error::from_status(self.status)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut m = MockMachine::default();
        let mut frames = FrameTable::new(Frame(4096)).unwrap();
        frames.add(Frame(1), 4000);
        let memory = MemorySystem::new(&mut m, frames).unwrap();
        Self { kernel: Kernel::new(memory, 1).unwrap(), m }
    }

    /// Starts a program that pays from an account of its own.
    pub(crate) fn program(&mut self) -> Program {
        let root = self.kernel.memory.root_account();
        let limit = crate::account::Usage::UNLIMITED;
        let account = self.kernel.create_account(Some(root), limit).unwrap();
        let space = self.kernel.memory.create_space(&mut self.m, account).unwrap();
        let access = Protection::READ | Protection::WRITE;
        let map = SpaceOp::Map {
            addr: SCRATCH,
            len: SCRATCH_LEN,
            source: MapSource::Anonymous,
            sharing: Sharing::Private,
            access,
            max_access: Protection::all(),
            inherit: Inherit::Clone,
            replace: Replace::Nothing,
        };
        self.kernel.memory.commit(&mut self.m, space, &[map]).unwrap();
        let table = self.kernel.create_table(account).unwrap();
        let thread = self.kernel.create_thread(&mut self.m, account, space, table, ThreadFlags::empty()).unwrap();
        self.kernel.start_thread(thread, &Registers { rip: 0x1000, ..Registers::default() }).unwrap();
        // The kernel-side references of space, thread and account move into the table; the table's own is dropped.
        let mut install = |object| {
            let handle = self.kernel.install(&mut self.m, table, Capability::full(object)).unwrap();
            u64::from(handle.0)
        };
        let account_handle = install(ObjectRef::Account(account));
        let space_handle = install(ObjectRef::Space(space));
        let thread_handle = install(ObjectRef::Thread(thread));
        let table_handle = install(ObjectRef::Table(table));
        let log = install(ObjectRef::Log);
        let hardware = install(ObjectRef::Hardware);
        Program { thread, space, table, account_handle, space_handle, table_handle, thread_handle, log, hardware }
    }

    /// Makes `thread` the one that runs, which it must be able to.
    #[track_caller]
    pub(crate) fn run(&mut self, thread: Id<Thread>) {
        for _ in 0..100 {
            if self.kernel.next_thread(&mut self.m, 0) == Next::Run(thread) {
                return;
            }
            self.kernel.scheduler.give_way(0);
        }
        panic!("{thread:?} does not run: {:?}", self.state(thread));
    }

    /// Lets the thread enter the kernel with these registers.
    #[track_caller]
    pub(crate) fn enter(&mut self, thread: Id<Thread>, call: Call, set: impl FnOnce(&mut Registers)) {
        self.run(thread);
        let registers = self.registers(thread);
        registers.rax = call as u64;
        set(registers);
        self.kernel.dispatch(&mut self.m, 0);
        self.kernel.check_invariants(&[]);
    }

    /// Makes a call.
    #[track_caller]
    pub(crate) fn call(&mut self, program: &Program, call: Call, arguments: &[u64]) -> Answer {
        self.enter(program.thread, call, |registers| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = all;
        });
        self.answer(program)
    }

    /// What the last call of a program returned.
    pub(crate) fn answer(&mut self, program: &Program) -> Answer {
        let Some(thread) = self.kernel.threads.get(program.thread) else {
            return Answer { status: u64::MAX, first: 0, second: 0 };
        };
        let r = &thread.context.registers;
        Answer { status: r.rax, first: r.rdx, second: r.r8 }
    }

    pub(crate) fn registers(&mut self, thread: Id<Thread>) -> &mut Registers {
        &mut self.kernel.threads[thread].context.registers
    }

    pub(crate) fn state(&self, thread: Id<Thread>) -> Option<State> {
        self.kernel.threads.get(thread).map(|thread| thread.state)
    }

    pub(crate) fn waits(&self, program: &Program) -> bool {
        matches!(self.state(program.thread), Some(State::Waiting(_)))
    }

    /// Writes a record into a program's memory.
    pub(crate) fn poke<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        program: &Program,
        address: u64,
        record: &T,
    ) -> u64 {
        self.kernel.memory.write_user(&mut self.m, program.space, address, record.as_bytes()).unwrap();
        address
    }

    /// Reads a record from a program's memory.
    pub(crate) fn peek<T: FromBytes + IntoBytes>(&mut self, program: &Program, address: u64) -> T {
        let mut record = T::new_zeroed();
        self.kernel.memory.read_user(&mut self.m, program.space, address, record.as_mut_bytes()).unwrap();
        record
    }

    /// Makes a channel whose ends two programs have.
    pub(crate) fn channel(&mut self, a: &Program, b: &Program) -> (u64, u64) {
        let (near, far) = self.call(a, Call::ChannelCreate, &[a.account_handle]).pair();
        (near, self.hand(a, b, far))
    }

    /// Moves a handle from one program's table to another's.
    pub(crate) fn hand(&mut self, from: &Program, to: &Program, handle: u64) -> u64 {
        let capability = self.kernel.take(from.table, Handle(handle as u32)).unwrap();
        u64::from(self.kernel.install(&mut self.m, to.table, capability).unwrap().0)
    }

    /// Gives another program a second handle to something.
    pub(crate) fn share(&mut self, from: &Program, to: &Program, handle: u64) -> u64 {
        let capability = self.kernel.tables[from.table].lookup(Handle(handle as u32)).unwrap();
        self.kernel.retain(capability.object);
        u64::from(self.kernel.install(&mut self.m, to.table, capability).unwrap().0)
    }

    /// Calls with a message in registers; the caller parks.
    #[track_caller]
    pub(crate) fn channel_call(&mut self, caller: &Program, channel: u64, label: u64, words: [u64; 8]) {
        self.enter(caller.thread, Call::ChannelCall, |registers| {
            registers.rdi = channel;
            crate::channel::set_message(registers, label, &words);
        });
    }

    /// Label and words in a program's registers.
    pub(crate) fn message(&mut self, program: &Program) -> (u64, [u64; 8]) {
        let registers = self.registers(program.thread);
        (registers.rsi, crate::channel::words_of(registers))
    }

    pub(crate) fn log_text(&self) -> Vec<&str> {
        self.m.log.iter().map(|line| line.as_str()).collect()
    }
}

/// A message without handles.
pub(crate) fn plain(label: u64) -> Message {
    Message { label, words: [label; 8], handles: [Handle::NONE; 4] }
}
