//! The texts about the system as a whole.

use super::load::{FRACTION_BITS, running_threads};
use super::{add, processors};
use crate::fs::{Storage, TYPES};
use crate::process::Server;
use crate::process::usage::Usage;
use crate::{budget, census, platform};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// The unit of times in `/proc`, in ns: `USER_HZ` is 100.
pub(super) const NS_PER_TICK: u64 = NS_PER_SECOND / 100;
/// The release that the server says it is compatible with.
pub const RELEASE: &str = "6.1.0-quire";

/// The build, as `uname` tells it.
pub(super) const BUILD: &str = "#1 Quire";

pub(super) fn command_line(_server: &Server) -> Vec<u8> {
    b"quire\n".to_vec()
}

pub(super) fn devices(_server: &Server) -> Vec<u8> {
    let character = "  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n";
    format!("Character devices:\n{character}\nBlock devices:\n").into_bytes()
}

pub(super) fn terminal_drivers(_server: &Server) -> Vec<u8> {
    let mut text = String::new();
    let drivers = [
        ("/dev/tty", "/dev/tty", 5, "0", "system:/dev/tty"),
        ("/dev/console", "/dev/console", 5, "1", "system:console"),
        ("/dev/ptmx", "/dev/ptmx", 5, "2", "system"),
        ("serial", "/dev/ttyS", 4, "64-64", "serial"),
        ("pty_slave", "/dev/pts", 136, "0-1048575", "pty:slave"),
        ("pty_master", "/dev/ptm", 128, "0-1048575", "pty:master"),
    ];
    for (name, node, major, minors, kind) in drivers {
        add!(text, "{name:<20} {node:<12} {major:3} {minors:<9} {kind}\n");
    }
    text.into_bytes()
}

pub(super) fn filesystems(_server: &Server) -> Vec<u8> {
    let mut text = String::new();
    for kind in TYPES {
        match kind.storage {
            // None of them needs a device.
            Storage::Disk => {
                add!(text, "\t{}\n", kind.name);
            }
            Storage::Memory | Storage::Generated => {
                add!(text, "nodev\t{}\n", kind.name);
            }
        }
    }
    text.into_bytes()
}

pub(super) fn load(server: &Server) -> Vec<u8> {
    /// Rounds to the next hundredth, as Linux does.
    const ROUND: u64 = (1 << FRACTION_BITS) / 200;
    let mut text = String::new();
    for average in server.load.averages() {
        let average = average + ROUND;
        let fraction = ((average & ((1 << FRACTION_BITS) - 1)) * 100) >> FRACTION_BITS;
        add!(text, "{}.{fraction:02} ", average >> FRACTION_BITS);
    }
    let threads: usize = server.processes().iter().map(|process| process.threads().len()).sum();
    let last = server.tree.look(|tree, ()| tree.last_pid(), ());
    add!(text, "{}/{threads} {last}\n", running_threads(server).max(1));
    text.into_bytes()
}

/// What all processes have used, those that have ended included.
fn used(server: &Server) -> Usage {
    server.processes().iter().fold(server.ended(), |sum, process| sum.with(&process.usage()))
}

pub(super) fn statistics(server: &Server) -> Vec<u8> {
    let up = platform::now_ns() / NS_PER_TICK;
    let used = used(server);
    let (user, system) = (used.user_ns / NS_PER_TICK, used.system_ns / NS_PER_TICK);
    let count = u64::from(processors::count());
    let idle = (up * count).saturating_sub(user + system);
    let booted = platform::realtime_ns().saturating_sub(platform::now_ns()) / NS_PER_SECOND;
    let mut text = String::new();
    add!(text, "cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for processor in 0..processors::count() {
        // What threads used is not known by processor: each shows its share.
        let (user, system, idle) = (user / count, system / count, idle / count);
        add!(text, "cpu{processor} {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    }
    add!(text, "intr 0\nctxt {}\nbtime {booted}\nprocesses {}\n", used.waits, server.forks());
    add!(text, "procs_running {}\nprocs_blocked 0\n", running_threads(server).max(1));
    add!(text, "softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    text.into_bytes()
}

pub(super) fn uptime(server: &Server) -> Vec<u8> {
    /// Two digits after the point.
    const NS_PER_HUNDREDTH: u64 = NS_PER_SECOND / 100;
    let up = platform::now_ns() / NS_PER_HUNDREDTH;
    let idle = (up * u64::from(processors::count())).saturating_sub(used(server).total_ns() / NS_PER_HUNDREDTH);
    format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100).into_bytes()
}

pub(super) fn version(_server: &Server) -> Vec<u8> {
    format!("Linux version {RELEASE} (quire) {BUILD}\n").into_bytes()
}

pub(super) fn partitions(server: &Server) -> Vec<u8> {
    const SECTORS_PER_BLOCK: u64 = 2;
    let mut text = String::from("major minor  #blocks  name\n\n");
    for disk in server.disks.get().map(|disks| disks.list()).unwrap_or_default() {
        let (number, blocks) = (disk.number, disk.sectors / SECTORS_PER_BLOCK);
        let name = String::from_utf8_lossy(&disk.name);
        add!(text, "{:4}  {:7} {blocks:10} {name}\n", number.major, number.minor);
    }
    text.into_bytes()
}

pub(super) fn interrupts(_server: &Server) -> Vec<u8> {
    let mut text = String::from("           ");
    for processor in 0..processors::count() {
        add!(text, "CPU{processor:<8}");
    }
    text.push('\n');
    text.into_bytes()
}

pub(super) fn consoles(_server: &Server) -> Vec<u8> {
    b"ttyS0                -W- (EC   )    4:64\n".to_vec()
}

/// A file that has no lines here: nothing of its kind exists.
pub(super) fn nothing(_server: &Server) -> Vec<u8> {
    Vec::new()
}

/// What the server's own account, from which all programs are paid, has used and may use; and what programs have of it.
pub(super) fn account(_server: &Server) -> Vec<u8> {
    let usage = platform::server_usage();
    let rows = [
        ("pages_used", usage.frames_used),
        ("pages_limit", usage.frames_limit),
        ("kernel_bytes_used", usage.kernel_bytes_used),
        ("process_pages", usage.process_frames),
        ("process_kernel_bytes", usage.process_kernel_bytes),
        ("file_pages", usage.file_frames),
        ("file_kernel_bytes", usage.file_kernel_bytes),
        ("heap_mapped_bytes", usage.heap_mapped_bytes),
        ("heap_used_bytes", usage.heap_used_bytes),
        ("budget_names_bytes", budget::used_bytes(budget::Kind::Names)),
        ("budget_open_bytes", budget::used_bytes(budget::Kind::Open)),
        ("budget_contents_bytes", budget::used_bytes(budget::Kind::Contents)),
    ];
    table(&rows)
}

/// How many things of each kind the server has.
pub(super) fn objects(server: &Server) -> Vec<u8> {
    let mut rows = census::numbers();
    rows.extend([("numbers_of_processes", server.pids().len() as u64), ("graves", server.graves() as u64)]);
    table(&rows)
}

fn table(rows: &[(&str, u64)]) -> Vec<u8> {
    rows.iter().map(|(label, number)| format!("{label} {number}\n")).collect::<String>().into_bytes()
}
