//! What the shim answers itself: ids, clocks, yielding, and what needs only files or words that the process can see.

use crate::{files, futex, signals};
use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use futex::Look;
use linux_raw_sys::general as linux;
use posix_protocol::carried::WORD_SEEN;
use posix_protocol::shim::{Context, LocalAnswers, ThreadBlock};
use quire_abi::Call;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1000;

/// What is to be done about a call.
#[repr(C)]
pub(crate) struct Verdict {
    /// Not 0: it is answered. 0: ask the server.
    is_answered: u64,
    /// Word 6 of the request.
    carried: u64,
}

const ANSWERED: Verdict = Verdict { is_answered: 1, carried: 0 };
/// Ask the server, which sees to everything itself.
const ASK: Verdict = Verdict { is_answered: 0, carried: 0 };

/// Answers the call `number`, whose arguments are in the block, if that needs no server; else copies what the request carries along.
pub(crate) extern "C" fn local_answer(block: *mut ThreadBlock, number: u32) -> Verdict {
    // SAFETY: the entry passes the address of the thread's own block, which nothing else uses while the thread is in the shim. A
    // program that has put another address there harms itself only.
    let Some(block) = (unsafe { block.as_mut() }) else { return ASK };
    if block.local.traced != 0 {
        return ASK;
    }
    let answer = match number {
        linux::__NR_getpid => Some(u64::from(block.local.pid)),
        linux::__NR_gettid => Some(u64::from(block.local.tid)),
        linux::__NR_getppid => Some(u64::from(block.local.ppid)),
        linux::__NR_getuid => Some(u64::from(block.local.uid)),
        linux::__NR_geteuid => Some(u64::from(block.local.euid)),
        linux::__NR_getgid => Some(u64::from(block.local.gid)),
        linux::__NR_getegid => Some(u64::from(block.local.egid)),
        linux::__NR_sched_yield => Some(yield_now()),
        linux::__NR_clock_gettime => clock_gettime(&block.local, block.context.rdi as u32, block.context.rsi),
        linux::__NR_gettimeofday => gettimeofday(&block.local, block.context.rdi, block.context.rsi),
        linux::__NR_time => time(&block.local, block.context.rdi),
        linux::__NR_read => files::read(&block.local, arguments(&block.context)),
        linux::__NR_pread64 => files::pread(&block.local, arguments(&block.context)),
        linux::__NR_pwrite64 => files::pwrite(&block.local, arguments(&block.context)),
        linux::__NR_write => files::write(&block.local, arguments(&block.context)),
        linux::__NR_lseek => files::seek(&block.local, arguments(&block.context)),
        linux::__NR_rt_sigprocmask => {
            let arguments = arguments(&block.context);
            signals::set_mask(block, arguments)
        }
        linux::__NR_futex => match futex::look(&block.local, arguments(&block.context)) {
            Look::Changed => Some(futex::CHANGED),
            Look::Expected => return Verdict { carried: WORD_SEEN, ..ASK },
            Look::Nothing => None,
        },
        _ => None,
    };
    match answer {
        Some(value) => {
            block.context.rax = value;
            ANSWERED
        }
        None => {
            block.carried = crate::carry::carry(block, number).0;
            Verdict { carried: block.carried, ..ASK }
        }
    }
}

/// The first four arguments of the call.
fn arguments(context: &Context) -> [u64; 4] {
    [context.rdi, context.rsi, context.rdx, context.r10]
}

/// Lets others run: a native call, because it comes from the shim.
fn yield_now() -> u64 {
    // SAFETY: the call has no arguments and touches no memory; the registers that a call can change are named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") Call::ThreadYield as u64 => _,
            lateout("rcx") _,
            lateout("r11") _,
            lateout("rdx") _,
            lateout("r8") _,
            options(nostack),
        );
    }
    0
}

/// Time since the machine's start in ns.
fn monotonic_ns(local: &LocalAnswers) -> u64 {
    // SAFETY: the instruction only reads the counter, which programs may.
    let counter = unsafe { _rdtsc() };
    let ticks = u128::from(counter.saturating_sub(local.tsc_base));
    ((ticks.wrapping_mul(u128::from(local.tsc_multiplier))) >> (local.tsc_shift & 127)) as u64
}

pub(crate) fn realtime_ns(local: &LocalAnswers) -> u64 {
    monotonic_ns(local).wrapping_add(local.boot_unix_ns)
}

/// `None` for clocks that only the server knows, and for an address that can't be written.
fn clock_gettime(local: &LocalAnswers, clock: u32, address: u64) -> Option<u64> {
    let ns = match clock {
        linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_COARSE => realtime_ns(local),
        linux::CLOCK_MONOTONIC | linux::CLOCK_MONOTONIC_RAW | linux::CLOCK_MONOTONIC_COARSE | linux::CLOCK_BOOTTIME => {
            monotonic_ns(local)
        }
        _ => return None,
    };
    store_two(address, ns / NS_PER_SECOND, ns % NS_PER_SECOND)
}

fn gettimeofday(local: &LocalAnswers, address: u64, zone: u64) -> Option<u64> {
    if zone != 0 || address == 0 {
        return None;
    }
    let ns = realtime_ns(local);
    store_two(address, ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_MICROSECOND)
}

fn time(local: &LocalAnswers, address: u64) -> Option<u64> {
    let seconds = realtime_ns(local) / NS_PER_SECOND;
    if address == 0 {
        return Some(seconds);
    }
    store_one(address, seconds).then_some(seconds)
}

/// Stores a word for the program. False: it can't be written.
pub(crate) fn store_one(address: u64, word: u64) -> bool {
    let stored: u64;
    // SAFETY: the function uses these registers only. A fault of its store is caught; where it does not fault, the program could
    // have stored there itself.
    unsafe {
        asm!("call shim_store_one", in("rdi") address, in("rsi") word, lateout("rax") stored);
    }
    stored != 0
}

fn store_two(address: u64, first: u64, second: u64) -> Option<u64> {
    let stored: u64;
    // SAFETY: as above.
    unsafe {
        asm!("call shim_store_two", in("rdi") address, in("rsi") first, in("rdx") second, lateout("rax") stored);
    }
    (stored != 0).then_some(0)
}
