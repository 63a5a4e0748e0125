//! The `syscall` instruction, once per number of arguments.
//!
//! Nothing here knows what a call means: see [`quire_abi::call`]. On a host that is not Quire every call fails with
//! [`Error::NoSuchCall`], so that code above can be compiled and its pure parts tested there.

use quire_abi::error::OK;
use quire_abi::message::WORDS;
use quire_abi::{Call, Error, Handle};

/// What a call returned.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// `rax`: 0, or the number of an error.
    pub status: u64,
    /// `rdx`.
    pub first: u64,
    /// `r8`.
    pub second: u64,
}

impl Returned {
    /// The two values of a call that succeeded.
    pub fn values(self) -> Result<(u64, u64), Error> {
        check(self.status).map(|()| (self.first, self.second))
    }

    /// The first value of a call that succeeded.
    pub fn value(self) -> Result<u64, Error> {
        check(self.status).map(|()| self.first)
    }

    /// Nothing, of a call that succeeded.
    pub fn unit(self) -> Result<(), Error> {
        check(self.status)
    }

    /// The handle that a call which succeeded returned first.
    pub fn handle(self) -> Result<Handle, Error> {
        self.value().map(handle_of)
    }
}

/// The handle in a register.
pub(crate) fn handle_of(value: u64) -> Handle {
    Handle(value as u32)
}

/// Makes a `Result` of a status. A status that this version does not know is taken for [`Error::NoSuchCall`].
pub fn check(status: u64) -> Result<(), Error> {
    if status == OK { Ok(()) } else { Err(Error::from_status(status).unwrap_or(Error::NoSuchCall)) }
}

#[cfg(target_os = "none")]
mod machine {
    use super::{Call, Handle, Returned, WORDS};
    use core::arch::asm;

    /// Performs a call with six arguments; those that the call does not take are ignored.
    ///
    /// # Safety
    ///
    /// What the call does to the memory that its arguments name must be sound: a pointer that the call writes through
    /// must be to memory of the stated length that nobody else uses meanwhile.
    #[inline(always)]
    pub unsafe fn syscall(call: Call, arguments: [u64; 6]) -> Returned {
        let (status, first, second);
        // SAFETY: the convention in `quire_abi`: rax, rdx and r8 return values, rcx and r11 are clobbered, the rest is kept;
        // the effect on memory is the caller's obligation.
        unsafe {
            asm!("syscall",
                inlateout("rax") call as u64 => status,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                inlateout("rdx") arguments[2] => first,
                in("r10") arguments[3],
                inlateout("r8") arguments[4] => second,
                in("r9") arguments[5],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack));
        }
        Returned { status, first, second }
    }

    /// A call with up to three arguments.
    ///
    /// # Safety
    ///
    /// As for [`syscall`].
    #[inline(always)]
    pub unsafe fn syscall3(call: Call, arguments: [u64; 3]) -> Returned {
        let (status, first, second);
        // SAFETY: as in `syscall`.
        unsafe {
            asm!("syscall",
                inlateout("rax") call as u64 => status,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                inlateout("rdx") arguments[2] => first,
                lateout("r8") second,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack));
        }
        Returned { status, first, second }
    }

    /// `channel_call` and `channel_reply`: a message in registers, and the answer's.
    #[inline(always)]
    pub fn message_call(call: Call, target: Handle, label: &mut u64, words: &mut [u64; WORDS]) -> u64 {
        let status;
        // SAFETY: only registers are exchanged; all that can change are listed as outputs.
        unsafe {
            asm!("syscall",
                inlateout("rax") call as u64 => status,
                in("rdi") u64::from(target.0),
                inlateout("rsi") *label,
                inlateout("rdx") words[0],
                inlateout("r10") words[1],
                inlateout("r8") words[2],
                inlateout("r9") words[3],
                inlateout("r12") words[4],
                inlateout("r13") words[5],
                inlateout("r14") words[6],
                inlateout("r15") words[7],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack));
        }
        status
    }

    /// `channel_reply_receive`: answers `reply` and receives the next message and the right to answer that.
    #[inline(always)]
    pub fn reply_receive(channel: Handle, reply: &mut Handle, label: &mut u64, words: &mut [u64; WORDS]) -> u64 {
        let status;
        let mut reply_register = u64::from(reply.0);
        // SAFETY: only registers are exchanged; all that can change are listed as outputs. The compiler keeps rbx for
        // itself, so it is saved on the stack around the call, and the reply handle goes through rcx, which the
        // instruction clobbers anyway.
        unsafe {
            asm!("push rbx",
                "mov rbx, rcx",
                "syscall",
                "mov rcx, rbx",
                "pop rbx",
                inlateout("rax") Call::ChannelReplyReceive as u64 => status,
                inlateout("rcx") reply_register,
                in("rdi") u64::from(channel.0),
                inlateout("rsi") *label,
                inlateout("rdx") words[0],
                inlateout("r10") words[1],
                inlateout("r8") words[2],
                inlateout("r9") words[3],
                inlateout("r12") words[4],
                inlateout("r13") words[5],
                inlateout("r14") words[6],
                inlateout("r15") words[7],
                lateout("r11") _);
        }
        *reply = super::handle_of(reply_register);
        status
    }

    /// Executes `turns` times two instructions, to see how much time an instruction takes.
    pub fn counted_loop(turns: u64) {
        // SAFETY: counts a register down; `turns` of 0 is counted as 1.
        unsafe {
            asm!("2:", "dec {turns}", "jnz 2b", turns = inout(reg) turns.max(1) => _, options(nomem, nostack));
        }
    }

    /// Reads the time-stamp counter.
    #[inline(always)]
    pub fn time_stamp() -> u64 {
        // SAFETY: reads a counter, changes nothing.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
}

#[cfg(not(target_os = "none"))]
mod machine {
    use super::{Call, Error, Handle, Returned, WORDS};

    const ABSENT: u64 = Error::NoSuchCall as u64;

    /// There is no kernel of ours here: fails.
    ///
    /// # Safety
    ///
    /// None here; on Quire see the function of the same name.
    pub unsafe fn syscall(_call: Call, _arguments: [u64; 6]) -> Returned {
        Returned { status: ABSENT, first: 0, second: 0 }
    }

    /// There is no kernel of ours here: fails.
    ///
    /// # Safety
    ///
    /// None here; on Quire see the function of the same name.
    pub unsafe fn syscall3(_call: Call, _arguments: [u64; 3]) -> Returned {
        Returned { status: ABSENT, first: 0, second: 0 }
    }

    /// There is no kernel of ours here: fails.
    pub fn message_call(_call: Call, _target: Handle, _label: &mut u64, _words: &mut [u64; WORDS]) -> u64 {
        ABSENT
    }

    /// There is no kernel of ours here: fails.
    pub fn reply_receive(_channel: Handle, _reply: &mut Handle, _label: &mut u64, _words: &mut [u64; WORDS]) -> u64 {
        ABSENT
    }

    /// Does nothing.
    pub fn counted_loop(_turns: u64) {}

    /// Time stands still.
    pub fn time_stamp() -> u64 {
        0
    }
}

pub use machine::{counted_loop, message_call, reply_receive, syscall, syscall3, time_stamp};

/// A call whose arguments are only numbers and handles, and which therefore can't harm memory.
///
/// Calls that name addresses in the caller's *own* space through a handle (`space_commit` and its kin on the program's
/// own space) are outside of what Rust's types can promise, like writing to a process's memory through a file elsewhere.
#[inline(always)]
pub(crate) fn numbers(call: Call, arguments: [u64; 3]) -> Returned {
    // SAFETY: used only for calls without pointer arguments.
    unsafe { syscall3(call, arguments) }
}

/// Like [`numbers`], for calls with more arguments.
#[inline(always)]
pub(crate) fn many_numbers(call: Call, arguments: [u64; 6]) -> Returned {
    // SAFETY: used only for calls without pointer arguments.
    unsafe { syscall(call, arguments) }
}
