//! The calls of the object API: one file per object type, each call decoding first (handles, rights, ranges, memory to
//! be reserved) and changing things only then.
//!
//! [`Kernel::dispatch`] is the whole way from a `syscall` instruction: number and arguments are in the registers of the
//! current thread, results go there, and a call that waits parks the thread and leaves its registers for whoever ends
//! the wait. User memory is touched only through the [`MemorySystem`](crate::memory::MemorySystem), so nothing here can fault.

mod accounts;
mod channels;
mod dma;
mod handles;
mod hardware;
mod memories;
mod pagers;
mod queues;
mod spaces;
mod system;
mod threads;
mod time;

use crate::devices::Hardware;
use crate::fast_path::Fast;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::memory::{Absent, FaultError, Space};
use crate::object::{Capability, Object, ObjectRef};
use crate::pool::Id;
use crate::thread::Thread;
use quire_abi::error::OK;
use quire_abi::{Call, Error, Handle, Rights};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How a call ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to return.
    Done,
    /// A value for `rdx`.
    Value(u64),
    /// Values for `rdx` and `r8`.
    Values(u64, u64),
    /// It failed, and has something to say in `rdx`.
    Failed(Error, u64),
    /// The thread waits, or its registers are set already.
    Parked,
}

/// The numbers of the calls that have a fast path.
const CHANNEL_CALL: u64 = Call::ChannelCall as u64;
const CHANNEL_REPLY_RECEIVE: u64 = Call::ChannelReplyReceive as u64;
const QUEUE_WAIT: u64 = Call::QueueWait as u64;
const THREAD_YIELD: u64 = Call::ThreadYield as u64;

/// The length of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

type CallResult = Result<Outcome, Error>;

/// The thread that makes a call, and everything it acts on.
pub(crate) struct Caller<'a, M: Hardware> {
    kernel: &'a mut Kernel,
    m: &'a mut M,
    thread: Id<Thread>,
    table: Id<HandleTable>,
    space: Id<Space>,
    /// `rdi, rsi, rdx, r10, r8, r9`.
    arguments: [u64; 6],
    /// A page of the caller's own memory that the call needs and that is not there. If the call fails, it is for that.
    absent: Option<Absent>,
}

impl Kernel {
    /// Carries out the call in the registers of the thread that runs on `cpu`. Afterwards, ask
    /// [`Kernel::next_thread`] whom to run, unless this says that it need not be asked: the thread that the machine has loaded goes
    /// on, and no deadline has come nearer.
    #[inline(always)]
    pub fn dispatch(&mut self, m: &mut impl Hardware, cpu: usize) -> bool {
        self.cpu = cpu;
        let Some(id) = self.scheduler.current(cpu) else { return false };
        let number = self.threads[id].context.registers.rax;
        let fast = match number {
            CHANNEL_CALL => self.fast_call(m, id),
            CHANNEL_REPLY_RECEIVE => self.fast_reply_receive(m, id),
            QUEUE_WAIT => self.fast_queue_wait(m, id),
            THREAD_YIELD => self.fast_yield(m),
            _ => Fast::Declined,
        };
        match fast {
            Fast::Switched => true,
            Fast::Taken => false,
            Fast::Declined => {
                self.dispatch_any(m, id, number);
                false
            }
        }
    }

    #[inline(never)]
    fn dispatch_any(&mut self, m: &mut impl Hardware, id: Id<Thread>, number: u64) {
        let Thread { context, table, space, .. } = &self.threads[id];
        let r = &context.registers;
        let (table, space) = (*table, *space);
        let arguments = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
        let mut caller = Caller { kernel: self, m, thread: id, table, space, arguments, absent: None };
        let result = match Call::from_number(number) {
            Some(call) => caller.run(call).or_else(|error| caller.wait_or_fail(error)),
            None => Err(Error::NoSuchCall),
        };
        self.finish_call(id, result);
        self.reap(m);
        self.balance(m);
    }

    #[inline]
    fn finish_call(&mut self, id: Id<Thread>, result: CallResult) {
        if result == Ok(Outcome::Parked) {
            return;
        }
        // The call may have ended the thread itself.
        let Some(thread) = self.threads.get_mut(id) else { return };
        let registers = &mut thread.context.registers;
        registers.rax = OK;
        match result {
            Ok(Outcome::Done | Outcome::Parked) => {}
            Ok(Outcome::Value(value)) => registers.rdx = value,
            Ok(Outcome::Values(first, second)) => {
                registers.rdx = first;
                registers.r8 = second;
            }
            Ok(Outcome::Failed(error, value)) => {
                registers.rax = error as u64;
                registers.rdx = value;
            }
            Err(error) => registers.rax = error as u64,
        }
    }
}

impl<M: Hardware> Caller<'_, M> {
    fn run(&mut self, call: Call) -> CallResult {
        match call {
            // The hot ones first, for readers; the compiler makes one table of all.
            Call::ChannelCall => self.channel_call(),
            Call::ChannelReplyReceive => self.channel_reply_receive(),
            Call::ChannelCallFrame => self.channel_call_frame(),
            Call::ChannelReceive => self.channel_receive(),
            Call::ChannelReply => self.channel_reply(),
            Call::ChannelReplyMessage => self.channel_reply_message(),
            Call::ChannelSend => self.channel_send(),
            Call::ChannelCreate => self.channel_create(),
            Call::ReplyRead => self.reply_read(),
            Call::ReplyWrite => self.reply_write(),
            Call::QueueWait => self.queue_wait(),
            Call::QueueCreate => self.queue_create(),
            Call::QueuePost => self.queue_post(),
            Call::ObjectBind => self.object_bind(),
            Call::ObjectUnbind => self.object_unbind(),
            Call::HandleClose => self.handle_close(),
            Call::HandleDuplicate => self.handle_duplicate(),
            Call::HandleInfo => self.handle_info(),
            Call::TableCreate => self.table_create(),
            Call::TableInstall => self.table_install(),
            Call::TableExtract => self.table_extract(),
            Call::TableClose => self.table_close(),
            Call::AccountCreate => self.account_create(),
            Call::AccountInfo => self.account_info(),
            Call::AccountSetLimits => self.account_set_limits(),
            Call::AccountKill => self.account_kill(),
            Call::MemoryCreate => self.memory_create(),
            Call::MemoryCreatePhysical => self.memory_create_physical(),
            Call::MemorySnapshot => self.memory_snapshot(),
            Call::MemoryWindow => self.memory_window(),
            Call::MemoryRevoke => self.memory_revoke(),
            Call::MemoryResize => self.memory_resize(),
            Call::MemoryRead => self.memory_read(),
            Call::MemoryWrite => self.memory_write(),
            Call::MemoryDiscard => self.memory_discard(),
            Call::MemoryInfo => self.memory_info(),
            Call::Copy => self.copy(),
            Call::SpaceCreate => self.space_create(),
            Call::SpaceCommit => self.space_commit(),
            Call::SpaceChange => self.space_change(),
            Call::SpaceQuery => self.space_query(),
            Call::SpaceInfo => self.space_info(),
            Call::SpaceRead => self.space_read(),
            Call::SpaceWrite => self.space_write(),
            Call::SpaceExchange => self.space_exchange(),
            Call::MemoryCreateManaged => self.memory_create_managed(),
            Call::PagerReceive => self.pager_receive(),
            Call::PagerSupply => self.pager_supply(),
            Call::PagerFail => self.pager_fail(),
            Call::PagerWritten => self.pager_written(),
            Call::PagerInvalidate => self.pager_invalidate(),
            Call::SwapSet => self.swap_set(),
            Call::ThreadCreate => self.thread_create(),
            Call::ThreadStart => self.thread_start(),
            Call::ThreadSuspend => self.thread_suspend(),
            Call::ThreadResume => self.thread_resume(),
            Call::ThreadKill => self.thread_kill(),
            Call::ThreadReadRegisters => self.thread_read_registers(),
            Call::ThreadWriteRegisters => self.thread_write_registers(),
            Call::ThreadSetSpace => self.thread_set_space(),
            Call::ThreadSetExceptions => self.thread_set_exceptions(),
            Call::ThreadSetReflection => self.thread_set_reflection(),
            Call::ThreadSetPriority => self.thread_set_priority(),
            Call::ThreadInfo => self.thread_info(),
            Call::ThreadExit => self.thread_exit(),
            Call::ThreadYield => self.thread_yield(),
            Call::ThreadSetAffinity => self.thread_set_affinity(),
            Call::ThreadSetName => self.thread_set_name(),
            Call::ClockRead => self.clock_read(),
            Call::TimerCreate => self.timer_create(),
            Call::TimerArm => self.timer_arm(),
            Call::TimerCancel => self.timer_cancel(),
            Call::EventCreate => self.event_create(),
            Call::EventUpdate => self.event_update(),
            Call::EventWait => self.event_wait(),
            Call::EventNotify => self.event_notify(),
            Call::InterruptCreate => self.interrupt_create(),
            Call::InterruptAcknowledge => self.interrupt_acknowledge(),
            Call::IoPortsCreate => self.io_ports_create(),
            Call::IoPortsRead => self.io_ports_read(),
            Call::IoPortsWrite => self.io_ports_write(),
            Call::IoPortsWriteBytes => self.io_ports_write_bytes(),
            Call::IoPortsReadBytes => self.io_ports_read_bytes(),
            Call::InterruptCreateMessage => self.interrupt_create_message(),
            Call::InterruptMessage => self.interrupt_message(),
            Call::DmaCreate => self.dma_create(),
            Call::DmaMap => self.dma_map(),
            Call::DmaUnmap => self.dma_unmap(),
            Call::DmaWatch => self.dma_watch(),
            Call::DmaRefused => self.dma_refused(),
            Call::HardwareInfo => self.hardware_info(),
            Call::SystemInfo => self.system_info(),
            Call::EntropyRead => self.entropy_read(),
            Call::LogWrite => self.log_write(),
            Call::SystemDump => self.system_dump(),
            Call::SystemShutdown => self.system_shutdown(),
            Call::Nothing => Ok(Outcome::Done),
        }
    }

    /// Argument `index` as a number.
    #[inline]
    fn value(&self, index: usize) -> u64 {
        self.arguments[index]
    }

    /// Argument `index` as a handle. The upper half of the register must be 0.
    #[inline]
    fn handle(&self, index: usize) -> Result<Handle, Error> {
        handle(self.arguments[index])
    }

    /// The object of type `T` that argument `index` names, if the handle carries all of `rights`.
    #[inline]
    fn object<T: Object>(&self, index: usize, rights: Rights) -> Result<Id<T>, Error> {
        let handle = self.handle(index)?;
        self.kernel.tables[self.table].get(handle, rights)
    }

    /// What argument `index` names, if the handle carries all of `rights`.
    fn capability(&self, index: usize, rights: Rights) -> Result<Capability, Error> {
        let capability = self.kernel.tables[self.table].lookup(self.handle(index)?)?;
        if capability.rights.contains(rights) { Ok(capability) } else { Err(Error::MissingRights) }
    }

    /// That argument `index` names something of this kind, which is not an object, with these rights.
    fn authority(&self, index: usize, object: ObjectRef, rights: Rights) -> Result<(), Error> {
        let capability = self.kernel.tables[self.table].lookup(self.handle(index)?)?;
        if capability.object != object {
            return Err(Error::WrongKind);
        }
        if capability.rights.contains(rights) { Ok(()) } else { Err(Error::MissingRights) }
    }

    /// The record at address `index`.
    fn read<T: FromBytes + IntoBytes>(&mut self, index: usize) -> Result<T, Error> {
        self.read_at(self.arguments[index])
    }

    fn read_at<T: FromBytes + IntoBytes>(&mut self, address: u64) -> Result<T, Error> {
        let mut record = T::new_zeroed();
        self.read_bytes(address, record.as_mut_bytes())?;
        Ok(record)
    }

    fn read_bytes(&mut self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let read = self.kernel.memory.read_user(self.m, self.space, address, into);
        read.map_err(|error| self.own_address(error))
    }

    /// Writes a record to the address in argument `index`.
    fn write<T: IntoBytes + Immutable>(&mut self, index: usize, record: &T) -> CallResult {
        self.write_bytes(self.arguments[index], record.as_bytes())?;
        Ok(Outcome::Done)
    }

    fn write_at<T: IntoBytes + Immutable>(&mut self, address: u64, record: &T) -> Result<(), Error> {
        self.write_bytes(address, record.as_bytes())
    }

    fn write_bytes(&mut self, address: u64, from: &[u8]) -> Result<(), Error> {
        let written = self.kernel.memory.write_user(self.m, self.space, address, from);
        written.map_err(|error| self.own_address(error))
    }

    /// An address of the caller can't be reached; if only for now, it is noted for what.
    fn own_address(&mut self, error: FaultError) -> Error {
        if let FaultError::NotPresent(absent) = error {
            self.absent = Some(absent);
        }
        Error::BadAddress
    }

    /// A call that failed for want of a page of the caller's own memory is made again when the page is there. That is sound
    /// because calls change nothing before they have read what they need.
    fn wait_or_fail(&mut self, error: Error) -> CallResult {
        let Some(absent) = self.absent.take() else { return Err(error) };
        if self.kernel.wait_for_page(self.m, self.thread, absent).is_err() {
            return Err(error);
        }
        let registers = &mut self.kernel.threads[self.thread].context.registers;
        registers.rip -= SYSCALL_BYTES;
        Ok(Outcome::Parked)
    }

    /// Makes sure that the caller's table takes `count` more handles, before anything is made.
    fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.kernel.reserve_handles(self.table, count)
    }

    /// Gives the caller a handle to something new, with all rights. There is room: see `reserve`.
    fn give(&mut self, object: ObjectRef) -> CallResult {
        self.give_capability(Capability::full(object))
    }

    fn give_capability(&mut self, capability: Capability) -> CallResult {
        let handle = self.kernel.put(self.m, self.table, capability);
        Ok(Outcome::Value(handle.0.into()))
    }
}

/// A handle in a register.
#[inline]
fn handle(value: u64) -> Result<Handle, Error> {
    u32::try_from(value).map(Handle).map_err(|_| Error::BadHandle)
}

/// Rights in a register; bits that mean nothing are refused.
fn rights(value: u64) -> Result<Rights, Error> {
    u32::try_from(value).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)
}
