//! Calls on what files are: `stat` and its kin, permissions, owners, times, sizes.

mod found;
mod permissions;
mod size;
mod stat;
mod statfs;
mod times;

pub(super) use size::set_size;

use super::names::CURRENT_DIRECTORY;
use super::{Arguments, Outcome, SystemCall};
use crate::fs::walk::LastLink;
use found::{Found, find, find_descriptor};
use linux_raw_sys::general as linux;
use permissions::{access, chmod, chown, fchmod, fchown};
use size::{ftruncate, truncate};
use stat::{fstat, fstatat, stat_path, statx};
use statfs::{fstatfs, statfs};
use times::{utime, utimensat, utimes};

const NO_FOLLOW: u64 = linux::AT_SYMLINK_NOFOLLOW as u64;

/// The calls of this folder.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_stat, |t, a| Outcome::Return(stat_path(t, a, LastLink::Follow))),
    SystemCall::new(linux::__NR_lstat, |t, a| Outcome::Return(stat_path(t, a, LastLink::Keep))),
    SystemCall::new(linux::__NR_fstat, |t, a| Outcome::Return(fstat(t, a))),
    SystemCall::new(linux::__NR_newfstatat, |t, a| Outcome::Return(fstatat(t, a))),
    SystemCall::new(linux::__NR_statx, |t, a| Outcome::Return(statx(t, a))),
    SystemCall::new(linux::__NR_statfs, |t, a| Outcome::Return(statfs(t, a))),
    SystemCall::new(linux::__NR_fstatfs, |t, a| Outcome::Return(fstatfs(t, a))),
    SystemCall::new(linux::__NR_access, |t, a| Outcome::Return(access(t, CURRENT_DIRECTORY, a[0], a[1], 0))),
    SystemCall::new(linux::__NR_faccessat, |t, a| Outcome::Return(access(t, a[0], a[1], a[2], 0))),
    SystemCall::new(linux::__NR_faccessat2, |t, a| Outcome::Return(access(t, a[0], a[1], a[2], a[3] as u32))),
    SystemCall::new(linux::__NR_chmod, |t, a| Outcome::Return(chmod(t, CURRENT_DIRECTORY, a[0], a[1], 0))),
    SystemCall::new(linux::__NR_fchmodat, |t, a| Outcome::Return(chmod(t, a[0], a[1], a[2], 0))),
    SystemCall::new(linux::__NR_fchmodat2, |t, a| Outcome::Return(chmod(t, a[0], a[1], a[2], a[3] as u32))),
    SystemCall::new(linux::__NR_fchmod, |t, a| Outcome::Return(fchmod(t, a))),
    SystemCall::new(linux::__NR_chown, |t, a| Outcome::Return(chown(t, &[CURRENT_DIRECTORY, a[0], a[1], a[2], 0, 0]))),
    SystemCall::new(linux::__NR_lchown, |t, a| {
        Outcome::Return(chown(t, &[CURRENT_DIRECTORY, a[0], a[1], a[2], NO_FOLLOW, 0]))
    }),
    SystemCall::new(linux::__NR_fchownat, |t, a| Outcome::Return(chown(t, a))),
    SystemCall::new(linux::__NR_fchown, |t, a| Outcome::Return(fchown(t, a))),
    SystemCall::new(linux::__NR_utimensat, |t, a| Outcome::Return(utimensat(t, a))),
    SystemCall::new(linux::__NR_utimes, |t, a| Outcome::Return(utimes(t, CURRENT_DIRECTORY, a[0], a[1]))),
    SystemCall::new(linux::__NR_futimesat, |t, a| Outcome::Return(utimes(t, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_utime, |t, a| Outcome::Return(utime(t, a))),
    SystemCall::new(linux::__NR_truncate, |t, a| Outcome::Return(truncate(t, a))),
    SystemCall::new(linux::__NR_ftruncate, |t, a| Outcome::Return(ftruncate(t, a))),
];
