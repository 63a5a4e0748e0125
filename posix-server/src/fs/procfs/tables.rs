//! The names in `/proc` that are always there.

use super::sysctl::{LAST_CAPABILITY, Setting, random_bytes};
use super::{StaticEntry, cpu, directory, ipc, link, memory_info, network, private_text, setting, system, text};
use crate::errno::{Errno, Result};
use crate::fs::{FsContext, protection};
use crate::process::Server;
use crate::process::tree::PID_MAX;
use crate::tty::pty::MAX_PTYS;
use crate::vm::{MAX_AREAS, USER_START};
use alloc::format;
use alloc::vec::Vec;

/// What the root shows besides processes.
pub(super) static ROOT: [StaticEntry; 28] = [
    text("cmdline", system::command_line),
    text("consoles", system::consoles),
    text("cpuinfo", cpu::information),
    text("devices", system::devices),
    text("diskstats", system::nothing),
    text("filesystems", system::filesystems),
    text("interrupts", system::interrupts),
    text("loadavg", system::load),
    text("locks", system::nothing),
    text("meminfo", memory_info::information),
    text("misc", system::nothing),
    text("modules", system::nothing),
    text("partitions", system::partitions),
    private_text("slabinfo", |_| b"slabinfo - version: 2.1\n".to_vec()),
    text("softirqs", system::interrupts),
    text("stat", system::statistics),
    text("swaps", memory_info::swaps),
    text("uptime", system::uptime),
    text("version", system::version),
    text("vmstat", memory_info::statistics),
    directory("quire", &QUIRE),
    directory("sys", &SYS),
    directory("sysvipc", &SYSVIPC),
    directory("tty", &TTY),
    link("mounts", |_| b"self/mounts".to_vec()),
    link("net", |_| b"self/net".to_vec()),
    link("self", |context| format!("{}", context.pid).into_bytes()),
    link("thread-self", own_thread),
];

fn own_thread(context: &FsContext) -> Vec<u8> {
    format!("{0}/task/{0}", context.pid).into_bytes()
}

static QUIRE: [StaticEntry; 2] = [text("account", system::account), text("objects", system::objects)];

static SYSVIPC: [StaticEntry; 3] =
    [text("msg", ipc::message_queues), text("sem", ipc::semaphore_sets), text("shm", ipc::segments)];

static TTY: [StaticEntry; 1] = [text("drivers", system::terminal_drivers)];

/// `/proc/PID/net`.
pub(super) static NET: [StaticEntry; 9] = [
    text("dev", network::devices),
    text("if_inet6", system::nothing),
    text("raw", network::sockets),
    text("route", network::routes),
    text("tcp", network::sockets),
    text("tcp6", network::long_sockets),
    text("udp", network::sockets),
    text("udp6", network::long_sockets),
    text("unix", network::local_sockets),
];

macro_rules! fixed {
    ($name:literal, $text:expr) => {
        setting($name, &Setting::Fixed($text))
    };
}

macro_rules! shown {
    ($name:literal, $show:expr) => {
        setting($name, &Setting::Shown($show))
    };
}

/// A number that is kept; its file's name comes last in the name under which it is kept.
macro_rules! number {
    ($directory:literal, $name:literal, $default:expr, $min:expr, $max:expr) => {{
        const NAME: &str = concat!($directory, "/", $name);
        setting($name, &Setting::Number { name: NAME, default: $default, min: $min, max: $max })
    }};
}

macro_rules! line {
    ($directory:literal, $name:literal, $default:expr, $max:expr) => {{
        const NAME: &str = concat!($directory, "/", $name);
        setting($name, &Setting::Line { name: NAME, default: $default, max_bytes: $max })
    }};
}

const INT_MAX: i64 = i32::MAX as i64;

static SYS: [StaticEntry; 5] = [
    directory("dev", &SYS_DEV),
    directory("fs", &SYS_FS),
    directory("kernel", &SYS_KERNEL),
    directory("net", &SYS_NET),
    directory("vm", &SYS_VM),
];

static SYS_DEV: [StaticEntry; 1] = [directory("tty", &SYS_DEV_TTY)];

static SYS_DEV_TTY: [StaticEntry; 1] = [fixed!("legacy_tiocsti", "1")];

static SYS_FS: [StaticEntry; 23] = [
    number!("fs", "aio-max-nr", 65_536, 0, i64::MAX),
    shown!("aio-nr", |_| format!("{}", crate::event::aio::total()).into_bytes()),
    fixed!("dentry-state", "0\t0\t45\t0\t0\t0"),
    directory("epoll", &SYS_FS_EPOLL),
    number!("fs", "file-max", i64::MAX, 0, i64::MAX),
    shown!("file-nr", open_files),
    directory("inotify", &SYS_FS_INOTIFY),
    fixed!("inode-nr", "0\t0"),
    fixed!("inode-state", "0\t0\t0\t0\t0\t0\t0"),
    number!("fs", "lease-break-time", 45, 0, INT_MAX),
    number!("fs", "leases-enable", 1, 0, INT_MAX),
    number!("fs", "mount-max", 100_000, 1, INT_MAX),
    directory("mqueue", &SYS_FS_MQUEUE),
    fixed!("nr_open", "1048576"),
    number!("fs", "overflowgid", 65_534, 0, 65_535),
    number!("fs", "overflowuid", 65_534, 0, 65_535),
    fixed!("pipe-max-size", "1048576"),
    number!("fs", "pipe-user-pages-hard", 0, 0, i64::MAX),
    number!("fs", "pipe-user-pages-soft", 16_384, 0, i64::MAX),
    setting("protected_fifos", &Setting::Protection(&protection::FIFOS, 2)),
    setting("protected_hardlinks", &Setting::Protection(&protection::NAMES, 1)),
    setting("protected_regular", &Setting::Protection(&protection::FILES, 2)),
    setting("protected_symlinks", &Setting::Protection(&protection::LINKS, 1)),
];

static SYS_FS_EPOLL: [StaticEntry; 1] = [number!("fs/epoll", "max_user_watches", 100_000, 0, i64::MAX)];

static SYS_FS_INOTIFY: [StaticEntry; 3] = [
    number!("fs/inotify", "max_queued_events", 16_384, 0, INT_MAX),
    number!("fs/inotify", "max_user_instances", 128, 0, INT_MAX),
    number!("fs/inotify", "max_user_watches", 65_536, 0, INT_MAX),
];

static SYS_FS_MQUEUE: [StaticEntry; 5] = [
    number!("fs/mqueue", "msg_default", 10, 1, 65_536),
    number!("fs/mqueue", "msg_max", 10, 1, 65_536),
    number!("fs/mqueue", "msgsize_default", 8192, 128, 16_777_216),
    number!("fs/mqueue", "msgsize_max", 8192, 128, 16_777_216),
    number!("fs/mqueue", "queues_max", 256, 0, INT_MAX),
];

static SYS_KERNEL: [StaticEntry; 37] = [
    shown!("cap_last_cap", |_| format!("{LAST_CAPABILITY}").into_bytes()),
    line!("kernel", "core_pattern", "core", 127),
    number!("kernel", "core_pipe_limit", 0, 0, INT_MAX),
    number!("kernel", "core_uses_pid", 0, 0, INT_MAX),
    number!("kernel", "ctrl-alt-del", 0, 0, INT_MAX),
    number!("kernel", "dmesg_restrict", 0, 0, 1),
    setting("domainname", &Setting::Elsewhere(|server| server.domain_name.borrow().clone(), set_domain_name)),
    setting("hostname", &Setting::Elsewhere(|server| server.host_name.borrow().clone(), set_host_name)),
    number!("kernel", "kptr_restrict", 0, 0, 2),
    line!("kernel", "modprobe", "/sbin/modprobe", 255),
    number!("kernel", "msgmax", 8192, 0, INT_MAX),
    number!("kernel", "msgmnb", 16_384, 0, INT_MAX),
    number!("kernel", "msgmni", 32_000, 0, INT_MAX),
    fixed!("ngroups_max", "65536"),
    shown!("osrelease", |_| super::RELEASE.as_bytes().to_vec()),
    fixed!("ostype", "Linux"),
    number!("kernel", "overflowgid", 65_534, 0, 65_535),
    number!("kernel", "overflowuid", 65_534, 0, 65_535),
    number!("kernel", "panic", 0, -INT_MAX, INT_MAX),
    number!("kernel", "panic_on_oops", 0, 0, 1),
    number!("kernel", "perf_event_paranoid", 2, -1, 3),
    shown!("pid_max", |_| format!("{PID_MAX}").into_bytes()),
    line!("kernel", "printk", "4\t4\t1\t7", 64),
    directory("pty", &SYS_KERNEL_PTY),
    directory("random", &SYS_KERNEL_RANDOM),
    number!("kernel", "randomize_va_space", 2, 0, 2),
    number!("kernel", "sched_child_runs_first", 0, 0, INT_MAX),
    number!("kernel", "sched_rr_timeslice_ms", 100, 0, INT_MAX),
    number!("kernel", "sched_rt_period_us", 1_000_000, 1, INT_MAX),
    number!("kernel", "sched_rt_runtime_us", 950_000, -1, INT_MAX),
    line!("kernel", "sem", "32000\t1024000000\t500\t32000", 64),
    line!("kernel", "shmall", "18446744073692774399", 20),
    line!("kernel", "shmmax", "18446744073692774399", 20),
    number!("kernel", "shmmni", 4096, 0, 32_768),
    fixed!("tainted", "0"),
    shown!("threads-max", |server| format!("{}", server.max_processes).into_bytes()),
    fixed!("version", system::BUILD),
];

static SYS_KERNEL_PTY: [StaticEntry; 3] = [
    shown!("max", |_| format!("{MAX_PTYS}").into_bytes()),
    shown!("nr", |_| format!("{}", crate::tty::pty::count()).into_bytes()),
    number!("kernel/pty", "reserve", 1024, 0, INT_MAX),
];

static SYS_KERNEL_RANDOM: [StaticEntry; 6] = [
    shown!("boot_id", |server| uuid(server.boot_id).into_bytes()),
    fixed!("entropy_avail", "256"),
    fixed!("poolsize", "256"),
    number!("kernel/random", "urandom_min_reseed_secs", 60, 0, INT_MAX),
    shown!("uuid", |_| uuid(random_bytes()).into_bytes()),
    number!("kernel/random", "write_wakeup_threshold", 256, 0, INT_MAX),
];

static SYS_NET: [StaticEntry; 3] =
    [directory("core", &SYS_NET_CORE), directory("ipv4", &SYS_NET_IPV4), directory("unix", &SYS_NET_UNIX)];

static SYS_NET_CORE: [StaticEntry; 6] = [
    number!("net/core", "netdev_max_backlog", 1000, 0, INT_MAX),
    number!("net/core", "rmem_default", 212_992, 2304, INT_MAX),
    number!("net/core", "rmem_max", 212_992, 2304, INT_MAX),
    number!("net/core", "somaxconn", 4096, 0, INT_MAX),
    number!("net/core", "wmem_default", 212_992, 4608, INT_MAX),
    number!("net/core", "wmem_max", 212_992, 4608, INT_MAX),
];

static SYS_NET_IPV4: [StaticEntry; 4] = [
    number!("net/ipv4", "ip_forward", 0, 0, 1),
    line!("net/ipv4", "ip_local_port_range", "32768\t60999", 64),
    number!("net/ipv4", "ip_unprivileged_port_start", 1024, 0, 65_535),
    line!("net/ipv4", "ping_group_range", "1\t0", 64),
];

static SYS_NET_UNIX: [StaticEntry; 1] = [number!("net/unix", "max_dgram_qlen", 10, 0, INT_MAX)];

static SYS_VM: [StaticEntry; 16] = [
    number!("vm", "admin_reserve_kbytes", 8192, 0, i64::MAX),
    number!("vm", "dirty_background_ratio", 10, 0, 100),
    number!("vm", "dirty_ratio", 20, 0, 100),
    setting("drop_caches", &Setting::Trigger(drop_caches)),
    shown!("max_map_count", |_| format!("{MAX_AREAS}").into_bytes()),
    number!("vm", "min_free_kbytes", 0, 0, INT_MAX),
    shown!("mmap_min_addr", |_| format!("{USER_START}").into_bytes()),
    fixed!("nr_hugepages", "0"),
    number!("vm", "oom_kill_allocating_task", 0, 0, INT_MAX),
    number!("vm", "overcommit_kbytes", 0, 0, i64::MAX),
    number!("vm", "overcommit_memory", 0, 0, 2),
    number!("vm", "overcommit_ratio", 50, 0, INT_MAX),
    number!("vm", "panic_on_oom", 0, 0, 2),
    number!("vm", "swappiness", 60, 0, 200),
    number!("vm", "user_reserve_kbytes", 131_072, 0, i64::MAX),
    number!("vm", "vfs_cache_pressure", 100, 0, INT_MAX),
];

/// Open files, those that are free, and how many there may be.
fn open_files(server: &Server) -> Vec<u8> {
    let open: usize =
        server.processes().iter().map(|process| process.files.borrow().slots().descriptors().count()).sum();
    format!("{open}\t0\t{}", server.settings.number("fs/file-max", i64::MAX)).into_bytes()
}

/// The longest name of a host or domain (`__NEW_UTS_LEN`).
const MAX_HOST_NAME: usize = 64;

fn set_host_name(server: &Server, bytes: &[u8]) -> Result<()> {
    server.host_name.replace(cut_name(bytes)?);
    Ok(())
}

fn set_domain_name(server: &Server, bytes: &[u8]) -> Result<()> {
    server.domain_name.replace(cut_name(bytes)?);
    Ok(())
}

fn cut_name(bytes: &[u8]) -> Result<Vec<u8>> {
    bytes.get(..bytes.len().min(MAX_HOST_NAME)).map(<[u8]>::to_vec).ok_or(Errno::EINVAL)
}

/// Random bytes as a UUID of version 4 (RFC 4122, section 4.4).
fn uuid(bytes: [u8; 16]) -> alloc::string::String {
    let number = u128::from_be_bytes(bytes);
    let version = number & !(0xf000 << 64) | 0x4000 << 64;
    let variant = version & !(0xc << 60) | 0x8 << 60;
    let digits = format!("{variant:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Of files that a pager has, all that is as the pager has it; there is nothing else to drop.
fn drop_caches(server: &Server) {
    if let Some(store) = server.page_store.get() {
        store.drop_clean();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_version_and_variant() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
