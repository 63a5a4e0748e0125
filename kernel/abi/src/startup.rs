//! What a native program finds when it starts: a [`Startup`] record, whose address is in `rdi`.

use crate::handle::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Startup::magic`: "QUIRESTA".
pub const MAGIC: u64 = u64::from_le_bytes(*b"QUIRESTA");
/// How many handles a program can be given at its start.
pub const MAX_GRANTS: usize = 30;
/// How many bytes of arguments a program can be given at its start.
pub const MAX_ARGUMENTS: usize = 2048;

/// What a handle given at the start is for. Numbers below 100 are the kernel's and the supervisor's, known to all programs;
/// those from 100 on mean what supervisor and program agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Purpose(pub u32);

impl Purpose {
    /// No handle here.
    pub const NONE: Self = Self(0);
    /// The account that pays for what the program makes.
    pub const ACCOUNT: Self = Self(1);
    /// The program's own address space.
    pub const SPACE: Self = Self(2);
    /// The program's own handle table.
    pub const TABLE: Self = Self(3);
    /// The program's first thread.
    pub const THREAD: Self = Self(4);
    /// The kernel's log, to write to.
    pub const LOG: Self = Self(5);
    /// Authority over hardware (supervisor only).
    pub const HARDWARE: Self = Self(6);
    /// The boot archive, as a memory.
    pub const ARCHIVE: Self = Self(7);
    /// A channel to the supervisor.
    pub const SUPERVISOR: Self = Self(8);
    /// The end of a channel on which the supervisor asks whether the program still runs. The run-time answers.
    pub const PULSE: Self = Self(9);
}

/// One handle given at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// What it is for.
    pub purpose: Purpose,
    /// The handle, in the program's own table.
    pub handle: Handle,
}

/// The record at the address in `rdi`, on the program's first stack page or in a page of its own; less than a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Startup {
    /// [`MAGIC`].
    pub magic: u64,
    /// How many of `grants` are used.
    pub grant_count: u32,
    /// How many of `arguments` are used. For the first program, the kernel's command line.
    pub argument_bytes: u32,
    /// The handles.
    pub grants: [Grant; MAX_GRANTS],
    /// Text for the program.
    pub arguments: [u8; MAX_ARGUMENTS],
}
