//! Memory: `/proc/meminfo`, `vmstat`, `swaps`.

use super::add;
use crate::platform::{self, MachineMemory, PAGE_SIZE, Usage};
use crate::process::Server;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const KIB_PER_PAGE: u64 = PAGE_SIZE / 1024;

/// Pages that belong to processes.
fn process_pages(server: &Server) -> u64 {
    server.processes().iter().map(|process| process.account.used_frames()).sum()
}

/// `/proc/meminfo`. What the kernel does not count apart is 0.
pub(super) fn information(server: &Server) -> Vec<u8> {
    let MachineMemory { total, free, cached, unwritten, writing, swap_total, swap_used, swap_kept, .. } =
        platform::machine_memory();
    let anonymous = process_pages(server).min(total - free.min(total));
    let Usage { kernel_bytes_used, file_frames, .. } = platform::server_usage();
    let kernel = kernel_bytes_used / PAGE_SIZE;
    let committed: u64 = server.processes().iter().map(|process| process.vm().virtual_bytes() / PAGE_SIZE).sum();
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free + cached.saturating_sub(unwritten)),
        ("Buffers", 0),
        ("Cached", cached + file_frames),
        ("SwapCached", swap_kept),
        ("Active", anonymous),
        ("Inactive", 0),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", cached),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", swap_total),
        ("SwapFree", swap_total.saturating_sub(swap_used)),
        ("Dirty", unwritten.saturating_sub(writing)),
        ("Writeback", writing),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", file_frames),
        ("KReclaimable", 0),
        ("Slab", kernel),
        ("SReclaimable", 0),
        ("SUnreclaim", kernel),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", total),
        ("Committed_AS", committed),
    ];
    let mut text = String::new();
    for (name, pages) in lines {
        let label = format!("{name}:");
        add!(text, "{label:<15}{:>9} kB\n", pages * KIB_PER_PAGE);
    }
    add!(text, "VmallocTotal:   {:>8} kB\nVmallocUsed:    {:>8} kB\n", 0, 0);
    add!(text, "HugePages_Total:   {0:>5}\nHugePages_Free:    {0:>5}\nHugepagesize:       2048 kB\n", 0);
    text.into_bytes()
}

/// `/proc/vmstat`: what is known of it.
pub(super) fn statistics(server: &Server) -> Vec<u8> {
    let MachineMemory { free, cached, unwritten, writing, swapped_out, swapped_in, .. } = platform::machine_memory();
    let files = platform::server_usage().file_frames;
    let anonymous = process_pages(server);
    let mut text = String::new();
    let lines = [
        ("nr_free_pages", free),
        ("nr_zone_active_anon", anonymous),
        ("nr_anon_pages", anonymous),
        ("nr_mapped", 0),
        ("nr_file_pages", cached + files),
        ("nr_dirty", unwritten.saturating_sub(writing)),
        ("nr_writeback", writing),
        ("nr_shmem", files),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", swapped_in),
        ("pswpout", swapped_out),
        ("pgfault", 0),
        ("pgmajfault", 0),
        ("oom_kill", server.exhaustion.ended()),
    ];
    for (name, value) in lines {
        add!(text, "{name} {value}\n");
    }
    text.into_bytes()
}

/// `/proc/swaps`: a heading, and a line if there is a swap memory.
pub(super) fn swaps(_server: &Server) -> Vec<u8> {
    let mut text = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    let MachineMemory { swap_total, swap_used, .. } = platform::machine_memory();
    if swap_total != 0 {
        let (size, used) = (swap_total * KIB_PER_PAGE, swap_used * KIB_PER_PAGE);
        add!(text, "{:<40}partition\t{size}\t\t{used}\t\t-2\n", "/dev/swap");
    }
    text.into_bytes()
}
