//! Records for threads: registers, exceptions, reflection, state.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The general registers of a thread. The kernel's entry code saves into and restores from exactly this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "registers have their architectural names")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// RFLAGS bits that user space may set: CF PF AF ZF SF DF OF TF AC ID (Intel SDM vol. 1, 3.4.3). The rest is the kernel's.
pub const USER_RFLAGS: u64 = 0x0024_0dd5;

/// Which registers a read or write of a thread's state concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RegisterClass {
    /// [`Registers`].
    General = 1,
    /// The XSAVE image, in standard (not compacted) form; its size is in
    /// [`SystemInfo::vector_state_bytes`](crate::system::SystemInfo).
    Vector = 2,
}

impl RegisterClass {
    /// The class with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::General,
            2 => Self::Vector,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// How a thread is made.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ThreadFlags: u32 {
        /// It has vector and floating-point state. Without it, using those registers is an exception.
        const VECTOR = 1 << 0;
    }
}

/// Where foreign `syscall` instructions go; all 0 for a thread without reflection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reflection {
    /// Foreign calls continue here with `rcx` = return address, `r11` = flags, all else untouched.
    pub entry: u64,
    /// `syscall` instructions whose return address is at or above this …
    pub native_start: u64,
    /// … and below this are native calls.
    pub native_end: u64,
}

/// The label of an exception message. Words: 0 [`ExceptionKind`], 1 the address concerned, 2 the processor's error code,
/// 3 the instruction pointer. The answer's label is an [`ExceptionVerdict`].
pub const EXCEPTION_LABEL: u64 = crate::message::KERNEL_LABEL | 1;

/// What happened to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ExceptionKind {
    /// No region at the address.
    NotMapped = 1,
    /// The region does not allow the access.
    AccessDenied = 2,
    /// The region's memory ends before the address, or was revoked, or its pager failed.
    NoData = 3,
    /// There was no memory, or the account is at its limit.
    NoMemory = 4,
    /// #DE, division error.
    Divide = 5,
    /// #DB, single step or hardware breakpoint.
    Debug = 6,
    /// #BP, `int3`.
    Breakpoint = 7,
    /// #OF, `into`.
    Overflow = 8,
    /// #BR, `bound`.
    Bound = 9,
    /// #UD, illegal instruction.
    Illegal = 10,
    /// #GP, #SS, #NP, #TS: general protection, also non-canonical addresses.
    Protection = 11,
    /// #MF or #XM, floating-point error.
    FloatingPoint = 12,
    /// #AC, alignment check.
    Alignment = 13,
    /// #NM in a thread made without vector state.
    NoVectorState = 14,
}

impl ExceptionKind {
    /// The kind with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::NotMapped,
            2 => Self::AccessDenied,
            3 => Self::NoData,
            4 => Self::NoMemory,
            5 => Self::Divide,
            6 => Self::Debug,
            7 => Self::Breakpoint,
            8 => Self::Overflow,
            9 => Self::Bound,
            10 => Self::Illegal,
            11 => Self::Protection,
            12 => Self::FloatingPoint,
            13 => Self::Alignment,
            14 => Self::NoVectorState,
            _ => return None,
        })
    }
}

/// The label of the answer to an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ExceptionVerdict {
    /// Go on, with the registers as they are now.
    Resume = 0,
    /// End the thread.
    Kill = 1,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ThreadState {
    /// Made, never started.
    New = 1,
    /// Running or ready to.
    Runnable = 2,
    /// In a call that waits.
    Waiting = 3,
    /// Stopped by an exception that nobody has answered yet.
    Faulted = 4,
    /// Ended.
    Dead = 5,
}

/// What `thread_info` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadInfo {
    /// A [`ThreadState`].
    pub state: u32,
    /// How many suspensions are in force.
    pub suspended: u32,
    /// Time on a processor, in ns.
    pub run_time_ns: u64,
    /// The number of the call that it waits in, or 0.
    pub waiting_in: u64,
    /// The processors that it may run on, as bits.
    pub affinity: u64,
    /// The processor that it runs on or ran on last.
    pub processor: u32,
    /// Always 0.
    pub reserved: u32,
}
