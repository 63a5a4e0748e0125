//! Threads.

use crate::account::Account;
use crate::channel::{ChannelEndpoint, Message};
use crate::handle::{argument, create, object};
use crate::raw::{numbers, syscall, syscall3};
use crate::space::AddressSpace;
use crate::table::HandleTable;
use core::fmt;
use quire_abi::thread::{
    EXCEPTION_LABEL, ExceptionKind, Reflection, RegisterClass, Registers, ThreadFlags, ThreadInfo,
};
use quire_abi::{Call, Error};

object! {
    /// An execution context.
    Thread
}

impl Thread {
    /// Makes a thread, not yet started. Needs `USE` on all three.
    pub fn create(
        account: &Account,
        space: &AddressSpace,
        table: &HandleTable,
        flags: ThreadFlags,
    ) -> Result<Self, Error> {
        let arguments = [argument(account), argument(space), argument(table), u64::from(flags.bits()), 0, 0];
        create(Call::ThreadCreate, arguments)
    }

    /// Starts a new thread with these registers. Needs `MANAGE`.
    pub fn start(&self, registers: &Registers) -> Result<(), Error> {
        let pointer = core::ptr::from_ref(registers) as u64;
        // SAFETY: the call reads one `Registers` there.
        unsafe { syscall3(Call::ThreadStart, [argument(self), pointer, 0]) }.unit()
    }

    /// Stops the thread before its next instruction in user mode. Nests. Needs `MANAGE`.
    pub fn suspend(&self) -> Result<(), Error> {
        numbers(Call::ThreadSuspend, [argument(self), 0, 0]).unit()
    }

    /// Takes one suspension back. Needs `MANAGE`.
    pub fn resume(&self) -> Result<(), Error> {
        numbers(Call::ThreadResume, [argument(self), 0, 0]).unit()
    }

    /// Ends the thread, whatever it is doing. Needs `MANAGE`.
    pub fn kill(&self) -> Result<(), Error> {
        numbers(Call::ThreadKill, [argument(self), 0, 0]).unit()
    }

    /// The general registers of a thread that is suspended, faulted, new, or waiting in a call. Needs `READ`.
    pub fn registers(&self) -> Result<Registers, Error> {
        let mut registers = Registers::default();
        let arguments = [
            argument(self),
            RegisterClass::General as u64,
            core::ptr::from_mut(&mut registers) as u64,
            size_of::<Registers>() as u64,
            0,
            0,
        ];
        // SAFETY: the call writes one `Registers` there.
        unsafe { syscall(Call::ThreadReadRegisters, arguments) }.unit()?;
        Ok(registers)
    }

    /// Sets the general registers. A call that the thread waits in never returns then. Needs `WRITE`.
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Error> {
        let arguments = [
            argument(self),
            RegisterClass::General as u64,
            core::ptr::from_ref(registers) as u64,
            size_of::<Registers>() as u64,
            0,
            0,
        ];
        // SAFETY: the call reads one `Registers` there.
        unsafe { syscall(Call::ThreadWriteRegisters, arguments) }.unit()
    }

    /// Reads the XSAVE image; `image` must have the size that [`SystemInfo`](quire_abi::system::SystemInfo) tells. Needs
    /// `READ`.
    pub fn read_vector_state(&self, image: &mut [u8]) -> Result<(), Error> {
        let length = image.len() as u64;
        let arguments = [argument(self), RegisterClass::Vector as u64, image.as_mut_ptr() as u64, length, 0, 0];
        // SAFETY: the call writes at most `length` bytes there.
        unsafe { syscall(Call::ThreadReadRegisters, arguments) }.unit()
    }

    /// Sets the XSAVE image. Needs `WRITE`.
    pub fn write_vector_state(&self, image: &[u8]) -> Result<(), Error> {
        let length = image.len() as u64;
        let arguments = [argument(self), RegisterClass::Vector as u64, image.as_ptr() as u64, length, 0, 0];
        // SAFETY: the call reads at most `length` bytes there.
        unsafe { syscall(Call::ThreadWriteRegisters, arguments) }.unit()
    }

    /// Moves the thread to another space. Needs `MANAGE`, and `USE` on the space.
    pub fn set_space(&self, space: &AddressSpace) -> Result<(), Error> {
        numbers(Call::ThreadSetSpace, [argument(self), argument(space), 0]).unit()
    }

    /// Routes the thread's exceptions to the peer of `channel`, or to nobody. Needs `MANAGE`, and `SEND` on the channel.
    pub fn set_exceptions(&self, channel: Option<&ChannelEndpoint>) -> Result<(), Error> {
        let channel = channel.map_or(0, argument);
        numbers(Call::ThreadSetExceptions, [argument(self), channel, 0]).unit()
    }

    /// Routes the thread's foreign `syscall` instructions. Needs `MANAGE`.
    pub fn set_reflection(&self, reflection: &Reflection) -> Result<(), Error> {
        let pointer = core::ptr::from_ref(reflection) as u64;
        // SAFETY: the call reads one `Reflection` there.
        unsafe { syscall3(Call::ThreadSetReflection, [argument(self), pointer, 0]) }.unit()
    }

    /// Sets the priority, 0 (lowest) to 31. Needs `MANAGE`.
    pub fn set_priority(&self, priority: u8) -> Result<(), Error> {
        numbers(Call::ThreadSetPriority, [argument(self), u64::from(priority), 0]).unit()
    }

    /// Sets the processors that it may run on, as bits. Needs `MANAGE`.
    pub fn set_affinity(&self, processors: u64) -> Result<(), Error> {
        numbers(Call::ThreadSetAffinity, [argument(self), processors, 0]).unit()
    }

    /// State and usage. Needs `READ`.
    pub fn info(&self) -> Result<ThreadInfo, Error> {
        let mut info = ThreadInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `ThreadInfo` there.
        unsafe { syscall3(Call::ThreadInfo, [argument(self), pointer, 0]) }.unit()?;
        Ok(info)
    }

    /// Gives the thread a name, of which the first 32 bytes are kept and shown in dumps. Needs `MANAGE`.
    pub fn set_name(&self, name: &str) -> Result<(), Error> {
        let length = name.len().min(32) as u64;
        // SAFETY: the call reads at most `length` bytes there.
        unsafe { syscall3(Call::ThreadSetName, [argument(self), name.as_ptr() as u64, length]) }.unit()
    }
}

/// What an exception message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What happened.
    pub kind: ExceptionKind,
    /// The address concerned, if the kind has one.
    pub address: u64,
    /// The processor's error code.
    pub error_code: u64,
    /// The address of the instruction.
    pub instruction: u64,
}

impl Exception {
    /// Reads an exception message; `None` if it is another message.
    pub fn from_message(message: &Message) -> Option<Self> {
        let [kind, address, error_code, instruction, ..] = message.words;
        let kind = ExceptionKind::from_number(kind).filter(|_| message.label == EXCEPTION_LABEL)?;
        Some(Self { kind, address, error_code, instruction })
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, address, error_code, instruction } = self;
        write!(formatter, "{kind:?} at {address:#x}, code {error_code:#x}, instruction {instruction:#x}")
    }
}

/// Ends the calling thread.
pub fn exit() -> ! {
    loop {
        let _ = numbers(Call::ThreadExit, [0; 3]);
    }
}

/// Lets other threads of the same priority run first.
pub fn yield_now() {
    let _ = numbers(Call::ThreadYield, [0; 3]);
}
