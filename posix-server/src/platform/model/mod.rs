//! The model of the machine that host tests run on: same types and methods as `native`, no kernel.

mod account;
mod executor;
mod memory;
mod paging;
mod reserve;
mod shared;
mod space;
mod thread;

pub use account::Account;
pub use executor::{Executor, Sleep};
pub use memory::Memory;
pub use paging::{Absence, Needs, Pager, Postponed, has_needs, note_ticket, take_needs};
pub use reserve::{memory_is_used_up, settle_loans, take_has_lent};
pub use shared::SharedPages;
pub use space::Space;
pub use thread::{Reply, Table, ThreadEvents, UserThread};

use super::{Ending, MachineMemory};
use core::cell::Cell;

std::thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(1) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    static BOOT_UNIX_NS: Cell<u64> = const { Cell::new(1_700_000_000_000_000_000) };
    static ENDED: Cell<Option<Ending>> = const { Cell::new(None) };
}

/// Time since the machine's start, in ns.
pub fn now_ns() -> u64 {
    NOW_NS.get()
}

/// A counter for measuring how long something takes.
pub fn ticks() -> u64 {
    now_ns()
}

/// How long so many ticks are, in ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks
}

/// Unix time in ns.
pub fn realtime_ns() -> u64 {
    BOOT_UNIX_NS.get() + now_ns()
}

/// Sets the Unix time of the machine's start, in ns, from which Unix time counts.
pub fn set_boot_unix_ns(boot_unix_ns: u64) {
    BOOT_UNIX_NS.set(boot_unix_ns);
}

/// Moves the model's clock on (tests only; each thread has its own clock).
pub fn advance_ns(by_ns: u64) {
    NOW_NS.set(now_ns() + by_ns);
}

/// Fills `buffer` with unpredictable bytes (here: a fixed sequence).
pub fn random(buffer: &mut [u8]) {
    for byte in buffer {
        let mut state = RANDOM.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        RANDOM.set(state);
        *byte = state as u8;
    }
}

/// Frames of the machine: total and free.
pub fn frames() -> (u64, u64) {
    (65536, 32768)
}

/// What the machine's memory is used for.
pub fn machine_memory() -> MachineMemory {
    let (total, free) = frames();
    MachineMemory {
        total,
        free,
        cached: 4096,
        unwritten: 256,
        writing: 64,
        swap_total: 8192,
        swap_used: 1024,
        swap_kept: 16,
        swapped_out: 2048,
        swapped_in: 1000,
    }
}

/// Frames of the machine, free or not.
pub fn total_frames() -> u64 {
    frames().0
}

/// What the server's account has used.
pub fn server_usage() -> super::Usage {
    super::Usage { frames_used: 32768, frames_limit: 65536, ..super::Usage::default() }
}

/// Gives memory back that is no longer in use (here: the host does so).
pub fn tidy() {}

/// The clock's parameters for the shim: counter base, multiplier, shift, Unix time of the start in ns.
pub fn clock_parameters() -> (u64, u64, u64, u64) {
    (0, 1, 0, BOOT_UNIX_NS.get())
}

/// How many processors run programs.
pub fn processors() -> u32 {
    1
}

/// The size of a thread's vector state in bytes.
pub fn vector_state_bytes() -> usize {
    576
}

/// Writes a line for the machine's operator (here: to nobody).
pub fn log(_line: &str) {}

/// Ends the machine (here: notes it).
pub fn shut_down(ending: Ending) {
    ENDED.set(Some(ending));
}

/// How the machine was ended, if it was.
pub fn ended() -> Option<Ending> {
    ENDED.get()
}

fn next_id() -> u64 {
    let id = NEXT_ID.get();
    NEXT_ID.set(id + 1);
    id
}
