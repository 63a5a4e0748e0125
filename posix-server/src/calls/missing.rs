//! Calls that are not there: what they get, and why.

use crate::errno::Errno;
use linux_raw_sys::general as linux;

/// A call that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// Its number.
    pub number: u32,
    /// What it gets.
    pub error: Errno,
    /// Why.
    pub reason: &'static str,
}

const fn absent(number: u32, error: Errno, reason: &'static str) -> Absence {
    Absence { number, error, reason }
}

const UNBUILT: &str = "not built yet";
const OBSOLETE: &str = "Linux on x86_64 has no such call any more";
const MODULES: &str = "there are no kernel modules; drivers are programs";
const KEYS: &str = "no key rings, as in a Linux without `CONFIG_KEYS`";
const NUMA: &str = "one memory node, as in a Linux without `CONFIG_NUMA`";
const RINGS: &str = "as in a Linux without `CONFIG_IO_URING`";
const TRACING: &str = "no tracing of the kernel by programs";
const SECURITY: &str = "no security modules";
const YOUNGER: &str = "younger than the Linux that is told";

/// Those with an error of their own or a reason to tell. Any other number gets `ENOSYS`.
#[rustfmt::skip]
pub const ABSENT: &[Absence] = &[
    absent(linux::__NR__sysctl, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_create_module, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_get_kernel_syms, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_query_module, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_nfsservctl, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_getpmsg, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_putpmsg, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_afs_syscall, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_tuxcall, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_security, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_vserver, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_set_thread_area, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_get_thread_area, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_epoll_ctl_old, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_epoll_wait_old, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_lookup_dcookie, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_uselib, Errno::ENOSYS, OBSOLETE),
    absent(linux::__NR_kexec_load, Errno::ENOSYS, MODULES),
    absent(linux::__NR_kexec_file_load, Errno::ENOSYS, MODULES),
    absent(linux::__NR_add_key, Errno::ENOSYS, KEYS),
    absent(linux::__NR_request_key, Errno::ENOSYS, KEYS),
    absent(linux::__NR_keyctl, Errno::ENOSYS, KEYS),
    absent(linux::__NR_mbind, Errno::ENOSYS, NUMA),
    absent(linux::__NR_set_mempolicy, Errno::ENOSYS, NUMA),
    absent(linux::__NR_get_mempolicy, Errno::ENOSYS, NUMA),
    absent(linux::__NR_migrate_pages, Errno::ENOSYS, NUMA),
    absent(linux::__NR_move_pages, Errno::ENOSYS, NUMA),
    absent(linux::__NR_set_mempolicy_home_node, Errno::ENOSYS, NUMA),
    absent(linux::__NR_io_uring_setup, Errno::ENOSYS, RINGS),
    absent(linux::__NR_io_uring_enter, Errno::ENOSYS, RINGS),
    absent(linux::__NR_io_uring_register, Errno::ENOSYS, RINGS),
    absent(linux::__NR_rseq, Errno::ENOSYS, "no restartable sequences: C libraries do without"),
    absent(linux::__NR_modify_ldt, Errno::ENOSYS, "as in a Linux without `CONFIG_MODIFY_LDT_SYSCALL`"),
    absent(linux::__NR_userfaultfd, Errno::ENOSYS, "as in a Linux without `CONFIG_USERFAULTFD`"),
    absent(linux::__NR_futex_wake, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_futex_wait, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_futex_requeue, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_cachestat, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_map_shadow_stack, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_statmount, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_listmount, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_open_tree_attr, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_file_getattr, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_file_setattr, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_fanotify_init, Errno::ENOSYS, "as in a Linux without `CONFIG_FANOTIFY`; `inotify` is there"),
    absent(linux::__NR_fanotify_mark, Errno::ENOSYS, "as in a Linux without `CONFIG_FANOTIFY`; `inotify` is there"),
    absent(linux::__NR_memfd_secret, Errno::ENOSYS, "as in a Linux that was not started with `secretmem.enable`"),
    absent(linux::__NR_mseal, Errno::ENOSYS, YOUNGER),
    absent(linux::__NR_bpf, Errno::ENOSYS, TRACING),
    absent(linux::__NR_perf_event_open, Errno::ENOSYS, TRACING),
    absent(linux::__NR_uretprobe, Errno::ENOSYS, TRACING),
    absent(linux::__NR_landlock_create_ruleset, Errno::ENOSYS, SECURITY),
    absent(linux::__NR_landlock_add_rule, Errno::ENOSYS, SECURITY),
    absent(linux::__NR_landlock_restrict_self, Errno::ENOSYS, SECURITY),
    absent(linux::__NR_lsm_get_self_attr, Errno::ENOSYS, SECURITY),
    absent(linux::__NR_lsm_set_self_attr, Errno::ENOSYS, SECURITY),
    absent(linux::__NR_lsm_list_modules, Errno::ENOSYS, SECURITY),
];

/// What a call without a handler gets, and why.
pub fn of(number: u32) -> Absence {
    let known = ABSENT.iter().find(|absence| absence.number == number);
    known.copied().unwrap_or(absent(number, Errno::ENOSYS, UNBUILT))
}
