//! Memory: `/proc/meminfo`, `vmstat`, `swaps`.

use super::add;
use crate::platform::{self, PAGE_SIZE};
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
    let (total, free) = platform::frames();
    let anonymous = process_pages(server).min(total - free.min(total));
    let kernel = platform::server_usage().kernel_bytes_used / PAGE_SIZE;
    let committed: u64 = server.processes().iter().map(|process| process.vm().virtual_bytes() / PAGE_SIZE).sum();
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", anonymous),
        ("Inactive", 0),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", 0),
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
    let (_, free) = platform::frames();
    let anonymous = process_pages(server);
    let mut text = String::new();
    let lines = [
        ("nr_free_pages", free),
        ("nr_zone_active_anon", anonymous),
        ("nr_anon_pages", anonymous),
        ("nr_mapped", 0),
        ("nr_file_pages", 0),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("nr_shmem", 0),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", 0),
        ("pgmajfault", 0),
    ];
    for (name, value) in lines {
        add!(text, "{name} {value}\n");
    }
    text.into_bytes()
}

/// `/proc/swaps`: a heading.
pub(super) fn swaps(_server: &Server) -> Vec<u8> {
    b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()
}
