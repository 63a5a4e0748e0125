//! What programs read of devices and the kernel (`sysfs(5)`), as far as they do: processors, memory nodes, huge pages, and
//! empty directories where they look for devices that there are none of.

use super::filesystem::{Instances, Made};
use super::procfs::{Shared, StaticEntry, add, directory, entries, processors, text};
use super::{Dentry, FileSystem, FileSystemType, Storage};
use crate::platform::{self, PAGE_SIZE};
use crate::process::Server;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// Devices and the kernel.
pub static SYSFS: FileSystemType = FileSystemType {
    name: "sysfs",
    magic: linux_raw_sys::general::SYSFS_MAGIC as u64,
    storage: Storage::Generated,
    instances: Instances::Each(|request| Ok(new(request.server))),
};

/// A new file system.
pub fn new(server: &Rc<Server>) -> Made {
    let filesystem = FileSystem::new(&SYSFS);
    let shared = Shared::new(&filesystem, server);
    let root = Dentry::root(entries(&shared, &ROOT));
    (filesystem, root)
}

/// A directory in which nothing is.
const fn empty(name: &'static str) -> StaticEntry {
    directory(name, &[])
}

static ROOT: [StaticEntry; 10] = [
    empty("block"),
    directory("bus", &BUS),
    directory("class", &CLASS),
    directory("dev", &DEV),
    directory("devices", &DEVICES),
    empty("firmware"),
    directory("fs", &FS),
    directory("kernel", &KERNEL),
    empty("module"),
    empty("power"),
];

static BUS: [StaticEntry; 2] = [empty("cpu"), empty("platform")];

static CLASS: [StaticEntry; 5] =
    [empty("block"), empty("net"), empty("power_supply"), empty("thermal"), directory("tty", &CLASS_TTY)];

static CLASS_TTY: [StaticEntry; 1] = [directory("console", &CLASS_TTY_CONSOLE)];

static CLASS_TTY_CONSOLE: [StaticEntry; 1] = [text("active", |_| b"ttyS0\n".to_vec())];

static DEV: [StaticEntry; 2] = [empty("block"), empty("char")];

static FS: [StaticEntry; 1] = [empty("cgroup")];

static KERNEL: [StaticEntry; 2] = [directory("mm", &MM), empty("security")];

static MM: [StaticEntry; 2] = [empty("hugepages"), directory("transparent_hugepage", &HUGE_PAGES)];

static HUGE_PAGES: [StaticEntry; 4] = [
    text("defrag", |_| b"always defer defer+madvise madvise [never]\n".to_vec()),
    text("enabled", |_| b"always madvise [never]\n".to_vec()),
    text("hpage_pmd_size", |_| b"2097152\n".to_vec()),
    text("shmem_enabled", |_| b"always within_size advise [never] deny force\n".to_vec()),
];

static DEVICES: [StaticEntry; 3] = [empty("platform"), directory("system", &SYSTEM), directory("virtual", &VIRTUAL)];

static VIRTUAL: [StaticEntry; 2] = [empty("net"), empty("tty")];

static SYSTEM: [StaticEntry; 3] =
    [directory("clocksource", &CLOCK_SOURCES), directory("cpu", &PROCESSORS), directory("node", &NODES)];

static CLOCK_SOURCES: [StaticEntry; 1] = [directory("clocksource0", &CLOCK_SOURCE)];

static CLOCK_SOURCE: [StaticEntry; 2] =
    [text("available_clocksource", |_| b"tsc \n".to_vec()), text("current_clocksource", |_| b"tsc\n".to_vec())];

static PROCESSORS: [StaticEntry; 7] = [
    directory("cpu0", &PROCESSOR),
    text("isolated", |_| b"\n".to_vec()),
    text("kernel_max", |_| format!("{}\n", processors::count() - 1).into_bytes()),
    text("offline", |_| b"\n".to_vec()),
    text("online", all_processors),
    text("possible", all_processors),
    text("present", all_processors),
];

static PROCESSOR: [StaticEntry; 1] = [directory("topology", &TOPOLOGY)];

static TOPOLOGY: [StaticEntry; 10] = [
    text("core_cpus", processor_mask),
    text("core_cpus_list", all_processors),
    text("core_id", |_| b"0\n".to_vec()),
    text("core_siblings", processor_mask),
    text("core_siblings_list", all_processors),
    text("die_id", |_| b"0\n".to_vec()),
    text("package_cpus", processor_mask),
    text("physical_package_id", |_| b"0\n".to_vec()),
    text("thread_siblings", processor_mask),
    text("thread_siblings_list", all_processors),
];

static NODES: [StaticEntry; 5] = [
    text("has_cpu", |_| b"0\n".to_vec()),
    text("has_memory", |_| b"0\n".to_vec()),
    directory("node0", &NODE),
    text("online", |_| b"0\n".to_vec()),
    text("possible", |_| b"0\n".to_vec()),
];

static NODE: [StaticEntry; 4] = [
    text("cpulist", all_processors),
    text("cpumap", processor_mask),
    text("distance", |_| b"10\n".to_vec()),
    text("meminfo", node_memory),
];

/// The processors as bits.
fn all_bits() -> u64 {
    crate::process::schedule::all_processors()
}

/// The processors as a list of ranges.
fn all_processors(_server: &Server) -> Vec<u8> {
    format!("{}\n", processors::list(all_bits())).into_bytes()
}

/// The processors as a hexadecimal number.
fn processor_mask(_server: &Server) -> Vec<u8> {
    format!("{:x}\n", all_bits()).into_bytes()
}

/// The memory of the only node.
fn node_memory(_server: &Server) -> Vec<u8> {
    let (total, free) = platform::frames();
    let mut text = String::new();
    for (name, pages) in [("MemTotal", total), ("MemFree", free), ("MemUsed", total - free.min(total))] {
        let label = format!("{name}:");
        add!(text, "Node 0 {label:<15}{:>9} kB\n", pages * (PAGE_SIZE / 1024));
    }
    text.into_bytes()
}
