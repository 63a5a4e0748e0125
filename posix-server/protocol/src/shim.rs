//! Between the shim in a program and the POSIX server: the thread's block, the labels of answers, the image's header.
//!
//! The shim runs with the program's authority, so all that it writes is untrusted. The server reads from a block only what is the
//! program's own: its registers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Label of an answer: the result is word 0; word 1 says how many bytes the server has written to the carried result; the rest of
/// the program's registers is as it was.
pub const RETURN: u64 = 0;
/// Label of an answer: the server has written the program's registers in the block.
pub const RESTORE: u64 = 1;

/// Label of a request that is no system call: the shim found [`ThreadBlock::pending`] set. Above all system call numbers, which are
/// cut to 32 bits.
pub const SIGNAL_CHECK: u64 = 1 << 32;

/// `ImageHeader::magic`: "QUIRSHIM".
pub const MAGIC: u64 = u64::from_le_bytes(*b"QUIRSHIM");

/// The first bytes of the shim's only segment. Offsets are from the segment's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// Where reflected system calls enter.
    pub entry: u32,
    /// Where a thread starts that loads its registers from its block.
    pub restore: u32,
    /// The way out: from the check of [`ThreadBlock::pending`] …
    pub exit_start: u32,
    /// … to the end of the jump into the program. A thread stopped in between can be set back to `exit_start`.
    pub exit_end: u32,
    /// The instructions that store local answers through the program's pointers: from here …
    pub store_start: u32,
    /// … to here. A fault there continues at `store_failed`.
    pub store_end: u32,
    /// Makes the store function return failure; the shim then asks the server.
    pub store_failed: u32,
    /// The size of the image in bytes.
    pub length: u32,
}

/// The size of a [`ThreadBlock`]: one page.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of the block that hold its fields.
const FIELD_BYTES: usize = 512;
/// Bytes of the block that hold what a call carries along; the rest is the shim's stack.
pub const DATA_BYTES: usize = 2048;

/// A program's registers as the shim saves and loads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "registers have their architectural names")]
pub struct Context {
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
}

/// What the shim may tell without asking. The server keeps it true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LocalAnswers {
    /// `getpid`.
    pub pid: u32,
    /// `gettid`.
    pub tid: u32,
    /// `getppid`.
    pub ppid: u32,
    /// `getuid`.
    pub uid: u32,
    /// `geteuid`.
    pub euid: u32,
    /// `getgid`.
    pub gid: u32,
    /// `getegid`.
    pub egid: u32,
    /// Not 0: the server is to see every call, because they are traced; the shim answers none.
    pub traced: u32,
    /// Time since the machine's start in ns is `((rdtsc - tsc_base) * tsc_multiplier) >> tsc_shift`.
    pub tsc_base: u64,
    /// See `tsc_base`.
    pub tsc_multiplier: u64,
    /// See `tsc_base`.
    pub tsc_shift: u64,
    /// Unix time of the machine's start in ns.
    pub boot_unix_ns: u64,
    /// Where the process's [`FileTable`](crate::files::FileTable) is; 0 if it has none.
    pub files: u64,
    /// The end of the addresses that a program can name.
    pub user_end: u64,
}

/// The resolution of the coarse clocks in ns: what Linux with 250 ticks a second says.
pub const COARSE_CLOCK_NS: u32 = 4_000_000;

/// What the vDSO tells the time from: the page before its image, the same for all processes, which only the server writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClockPage {
    /// As [`LocalAnswers::tsc_base`].
    pub tsc_base: u64,
    /// As [`LocalAnswers::tsc_multiplier`].
    pub tsc_multiplier: u64,
    /// As [`LocalAnswers::tsc_shift`]; below 64.
    pub tsc_shift: u64,
    /// As [`LocalAnswers::boot_unix_ns`].
    pub boot_unix_ns: u64,
    /// How many processors programs run on.
    pub processors: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The page at a thread's `gs` base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadBlock {
    /// This block's own address.
    pub address: u64,
    /// The end of the shim's stack: the end of this page.
    pub stack_end: u64,
    /// The handle to call the server with.
    pub channel: u64,
    /// Not 0: a signal waits; the shim asks the server before it goes back to the program.
    pub pending: u64,
    /// The program's registers while it is in the shim.
    pub context: Context,
    /// The number of the system call that the thread is in, as the program gave it.
    pub call_number: u64,
    /// The signals that the thread blocks, while it is in the program or the shim. The server takes it over with each request, and writes
    /// it before it answers.
    pub mask: u64,
    /// Not 0: signals wait, perhaps because they are blocked. The server sets it before it looks at `mask`; the shim looks at it
    /// after it has changed `mask`, and asks the server if it has let something through.
    pub held: u64,
    /// Answers that need no server.
    pub local: LocalAnswers,
    /// The shim's note of what the call carries along ([`Carried`](crate::carried::Carried)).
    pub carried: u64,
    /// Always 0.
    pub reserved: [u8; FIELD_BYTES - 4 * 8 - size_of::<Context>() - 4 * 8 - size_of::<LocalAnswers>()],
    /// What the calls that are made carry along.
    pub data: [u8; DATA_BYTES],
    /// The shim's stack.
    pub stack: [u8; BLOCK_BYTES - FIELD_BYTES - DATA_BYTES],
}

const _: () = assert!(size_of::<ThreadBlock>() == BLOCK_BYTES);
