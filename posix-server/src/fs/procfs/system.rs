//! The texts about the system as a whole.

use crate::fs::TYPES;
use crate::platform::{self, PAGE_SIZE};
use crate::process::Server;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// The unit of times in `/proc`, in ns: `USER_HZ` is 100.
pub(super) const NS_PER_TICK: u64 = NS_PER_SECOND / 100;
/// The release that the server says it is compatible with.
pub(super) const RELEASE: &str = "6.1.0-quire";

/// Adds to a text. A text that can't grow is cut; the global allocator decides about the rest.
macro_rules! add {
    ($text:expr, $($arguments:tt)*) => {
        // Writing to a string does not fail.
        let _ = write!($text, $($arguments)*);
    };
}
pub(super) use add;

pub(super) fn command_line(_server: &Server) -> Vec<u8> {
    b"quire\n".to_vec()
}

pub(super) fn processors(_server: &Server) -> Vec<u8> {
    let mut text = String::new();
    add!(text, "processor\t: 0\nvendor_id\t: Quire\nmodel name\t: x86_64\ncpu cores\t: 1\n");
    add!(text, "flags\t\t: fpu tsc msr cx8 cmov fxsr sse sse2\n\n");
    text.into_bytes()
}

pub(super) fn devices(_server: &Server) -> Vec<u8> {
    b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n\nBlock devices:\n".to_vec()
}

pub(super) fn filesystems(_server: &Server) -> Vec<u8> {
    let mut text = String::new();
    for kind in TYPES {
        add!(text, "nodev\t{}\n", kind.name);
    }
    text.into_bytes()
}

pub(super) fn load(server: &Server) -> Vec<u8> {
    let pids = server.pids();
    format!("0.00 0.00 0.00 1/{} {}\n", pids.len(), pids.last().copied().unwrap_or_default()).into_bytes()
}

pub(super) fn memory(_server: &Server) -> Vec<u8> {
    const KIB_PER_PAGE: u64 = PAGE_SIZE / 1024;
    let (total, free) = platform::frames();
    let mut text = String::new();
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
    ];
    for (name, pages) in lines {
        let label = format!("{name}:");
        add!(text, "{label:<15}{:>9} kB\n", pages * KIB_PER_PAGE);
    }
    text.into_bytes()
}

/// The time that all processes have run, in ticks.
fn busy_ticks(server: &Server) -> u64 {
    server.processes().iter().map(|process| process.run_time_ns() / NS_PER_TICK).sum()
}

pub(super) fn statistics(server: &Server) -> Vec<u8> {
    let up = platform::now_ns() / NS_PER_TICK;
    let busy = busy_ticks(server).min(up);
    let idle = up - busy;
    let booted = platform::realtime_ns().saturating_sub(platform::now_ns()) / NS_PER_SECOND;
    let mut text = String::new();
    add!(text, "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\n");
    add!(text, "intr 0\nctxt 0\nbtime {booted}\nprocesses {}\nprocs_running 1\nprocs_blocked 0\n", server.forks());
    text.into_bytes()
}

pub(super) fn uptime(server: &Server) -> Vec<u8> {
    /// Two digits after the point.
    const NS_PER_HUNDREDTH: u64 = NS_PER_SECOND / 100;
    let up = platform::now_ns() / NS_PER_HUNDREDTH;
    let idle = up.saturating_sub(busy_ticks(server));
    format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100).into_bytes()
}

pub(super) fn version(_server: &Server) -> Vec<u8> {
    format!("Linux version {RELEASE} (quire) #1\n").into_bytes()
}

pub(super) fn release(_server: &Server) -> Vec<u8> {
    format!("{RELEASE}\n").into_bytes()
}

pub(super) fn host_name(server: &Server) -> Vec<u8> {
    let mut text = server.host_name.borrow().clone();
    text.push(b'\n');
    text
}

/// What the server's own account, from which all processes are paid, has used and may use.
pub(super) fn account(_server: &Server) -> Vec<u8> {
    let usage = platform::server_usage();
    format!(
        "pages_used {}\npages_limit {}\nkernel_bytes_used {}\n",
        usage.frames_used, usage.frames_limit, usage.kernel_bytes_used
    )
    .into_bytes()
}
